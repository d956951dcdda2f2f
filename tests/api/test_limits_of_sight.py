"""What a unit that is only asked, or only helps, may not see or do; and what a busy door answers."""

from __future__ import annotations

import pytest

from service.usecases import clocks, intake
from tests.conftest import City

TAX, WATER = "handler:tax", "handler:water"


async def _asked_for_an_opinion(city: City) -> tuple[str, str]:
    ticket = await city.ticket()
    await city.act(ticket["id"], "accept", TAX)
    proposed = await city.post("/v1/reviews", {"ticket": ticket["id"], "reason": "r"}, TAX)
    review = proposed.json()["id"]
    steps = f"/v1/reviews/{review}/actions"
    await city.post(f"{steps}/screen", {"decision": "accept"}, "reviewer")
    await city.post(f"{steps}/request_opinions", {"departments": ["water", "finance"]}, "reviewer")
    await city.post(f"{steps}/give_opinion", {"position": "disagree", "text": "t"}, "handler:finance")
    return ticket["id"], review


async def test_a_unit_that_is_only_asked_reveals_no_contact(city: City) -> None:
    ticket, _ = await _asked_for_an_opinion(city)
    assert (await city.get(f"/v1/tickets/{ticket}", WATER)).status_code == 200
    refused = await city.post(f"/v1/tickets/{ticket}/contact/reveal", {"reason": "curious"}, WATER)
    assert refused.status_code == 403
    assert "13800001234" not in refused.text
    given = await city.post(f"/v1/tickets/{ticket}/contact/reveal", {"reason": "to call back"}, TAX)
    assert given.json()["contact"]["phone"] == "13800001234"


async def test_the_history_does_not_tell_what_another_unit_thinks(city: City) -> None:
    ticket, review = await _asked_for_an_opinion(city)
    told = (await city.get(f"/v1/tickets/{ticket}/events", WATER)).text
    assert "review.opinion_given" in told
    assert "disagree" not in told
    assert "disagree" not in str((await city.get(f"/v1/reviews/{review}", WATER)).json()["opinions"])


async def test_a_co_handler_does_not_end_the_leads_pause(city: City) -> None:
    ticket = (await city.ticket())["id"]
    await city.act(ticket, "accept", TAX)
    await city.act(ticket, "add_co_handler", TAX, department="water")
    await city.act(ticket, "request_pause", TAX, kind="waiting_enterprise", reason="papers")
    pending = (await city.get("/v1/approvals?state=pending")).json()["items"]
    await city.post(f"/v1/approvals/{pending[0]['id']}/decision", {"decision": "approve", "reason": "ok"})
    assert (await city.show(ticket))["phase"] == "waiting"
    await city.act(ticket, "resume", WATER, status=409)
    assert (await city.act(ticket, "resume", TAX))["phase"] == "handling"


async def test_a_full_door_says_come_back_instead_of_hanging(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "LONGEST_TURN_SECONDS", 0.05)
    held = 0
    while not city.house.door.locked():
        await city.house.door.acquire()
        held += 1
    try:
        answer = await city.post("/v1/tickets", _body("busy"), "hotline")
    finally:
        for _ in range(held):
            city.house.door.release()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (await city.post("/v1/tickets", _body("busy"), "hotline")).status_code == 201


def _body(reference: str) -> dict[str, object]:
    source = {"system": "jn", "reference": reference}
    return {"source": source, "title": "t", "description": "d", "enterprise": {"name": "甲"}}


async def test_many_timers_of_few_tickets_all_fire_before_the_clock_passes_them(city: City) -> None:
    for _ in range(120):
        await city.ticket()
    moved = await city.advance(advance_by="P12D")
    assert moved["fired"] > clocks.BATCH, "more than one batch has room for"
    ready = (await city.get("/readyz", None)).json()
    assert ready["timers_due"] == 0
