"""Reclassify, merge, split, reopen, answered at once: over HTTP, with their ledgers, their locks and their repeats."""

from __future__ import annotations

import asyncio
from typing import Any

from service.core.model import SYSTEM
from service.usecases import integrity
from tests.conftest import City, request_body

TAX, WATER = "handler:tax", "handler:water"


async def sound(city: City) -> None:
    """Everything stored agrees with itself."""
    report = await integrity.check(city.house)
    assert [f for f in report.findings if f.offending] == []


async def resolve(city: City, ticket: str) -> dict[str, Any]:
    return [c for c in (await city.show(ticket))["clocks"] if c["name"] == "resolve"][-1]


async def test_a_raised_urgency_binds_the_ticket_to_the_emergencys_promises(city: City) -> None:
    ticket = await city.ticket()
    raised = await city.act(ticket["id"], "reclassify", "dispatcher", urgency="emergency", reason="停产")
    assert (raised["urgency"], raised["workflow"]["key"]) == ("emergency", "emergency")
    clock = await resolve(city, ticket["id"])
    assert (clock["budget"], clock["started_at"], clock["changes"]) == (1, ticket["source"]["received_at"], 1)
    told = (await city.get(f"/v1/tickets/{ticket['id']}/clocks/{clock['id']}/explanation")).json()
    assert told["policy"]["rule"] == "urgency: emergency" and told["changes"][0]["kind"] == "policy"
    lowered = await city.act(ticket["id"], "reclassify", "supervisor", urgency="normal", reason="已恢复")
    assert lowered["workflow"]["key"] == "business_development"
    assert (await city.act(ticket["id"], "reclassify", "dispatcher", 422, reason="r"))["errors"]
    wrong = await city.act(ticket["id"], "reclassify", "dispatcher", 422, matter="none", reason="r")
    assert wrong["errors"][0]["pointer"] == "/matter"
    await city.act(ticket["id"], "reclassify", TAX, 403, urgency="urgent", reason="r")
    await sound(city)


async def test_merged_tickets_point_to_the_survivor_which_takes_the_stricter_promise(city: City) -> None:
    first = await city.ticket(domain="complaint_report", matter="invoice")
    second = await city.ticket()
    merged = await city.act(first["id"], "merge", "dispatcher", into=second["number"], reason="同一事项")
    assert (merged["phase"], merged["outcome"], merged["merged_into"]) == ("closed", "merged", second["id"])
    assert {c["end_reason"] for c in merged["clocks"]} == {"merged"}
    clock = await resolve(city, second["id"])
    assert (clock["budget"], clock["started_at"]) == (5, first["source"]["received_at"])
    types = [e["type"] for e in (await city.get(f"/v1/tickets/{second['id']}/events")).json()["items"]]
    assert types[-1] == "ticket.absorbed" and "clock.rebound" in types
    assert (await city.act(first["id"], "merge", "dispatcher", 409, into=second["id"], reason="r"))["stage"] == "closed"
    for into in ("QY202001010000001", "x", second["id"]):
        await city.act(second["id"], "merge", "dispatcher", 422, into=into, reason="r")
    await city.act(second["id"], "merge", TAX, 403, into=first["id"], reason="r")
    await sound(city)


async def test_two_dispatchers_who_merge_crosswise_at_once_leave_one_survivor(city: City) -> None:
    for _ in range(5):
        one, two = (await city.ticket())["id"], (await city.ticket())["id"]
        answers = await asyncio.gather(
            city.post(f"/v1/tickets/{one}/actions/merge", {"into": two, "reason": "r"}),
            city.post(f"/v1/tickets/{two}/actions/merge", {"into": one, "reason": "r"}),
        )
        assert sorted(a.status_code for a in answers) == [200, 409]
        assert sorted([(await city.show(t))["phase"] for t in (one, two)])[0] == "acceptance"


async def test_parts_split_off_are_tickets_of_their_own_with_the_wholes_anchor(city: City) -> None:
    whole = await city.ticket()
    form = {"reason": "两件事", "parts": [
        {"title": "供水中断", "description": "厂区停水两天", "department": "water"},
        {"title": "发票限额", "description": "增加发票额度", "matter": "invoice"},
    ]}  # fmt: skip
    key = {"Idempotency-Key": "split-once"}
    answers = [await city.post(f"/v1/tickets/{whole['id']}/actions/split", form, headers=key) for _ in range(2)]
    assert answers[0].content == answers[1].content and answers[1].headers["idempotent-replayed"] == "true"
    parts = answers[0].json()["parts"]
    assert [p["title"] for p in parts] == ["供水中断", "发票限额"]
    shown = [await city.show(p["id"]) for p in parts]
    assert [s["lead"]["department"] for s in shown] == ["water", "tax"]
    assert {s["split_from"] for s in shown} == {whole["id"]}
    assert [s["source"]["reference"] for s in shown] == [f"{whole['source']['reference']}#{n}" for n in (1, 2)]
    for part in shown:
        clock = next(c for c in part["clocks"] if c["name"] == "resolve")
        assert clock["started_at"] == whole["source"]["received_at"]
        opened = (await city.get(f"/v1/tickets/{part['id']}/events")).json()["items"]
        assert opened[0]["type"] == "ticket.opened"
        assert opened[0]["data"]["split"]["clocks"] == "inherit"
    assert (await city.get(f"/v1/tickets/{parts[0]['id']}", WATER)).status_code == 200
    revealed = await city.post(f"/v1/tickets/{parts[0]['id']}/contact/reveal", {"reason": "核实"}, WATER)
    assert revealed.json()["contact"]["phone"] == "13800001234", "the part's contact is sealed for the part"
    again = await city.act(whole["id"], "split", "dispatcher", reason="r", parts=[{"title": "t", "description": "d"}])
    assert len(again["parts"]) == 3
    for wrong in (
        {"parts": []},
        {"parts": [{"title": "t"}]},
        {"parts": [{"title": "t", "description": "d", "matter": "x"}]},
    ):
        await city.act(whole["id"], "split", "dispatcher", 422, reason="r", **wrong)
    await sound(city)


async def test_who_wanted_no_reply_is_not_contacted_about_the_parts_either(city: City) -> None:
    whole = await city.ticket(reply_required=False)
    parts = [{"title": "供水中断", "description": "厂区停水两天", "department": "water"}]
    split = await city.act(whole["id"], "split", "dispatcher", reason="r", parts=parts)
    part = await city.show(split["parts"][0]["id"])
    assert part["reply_required"] is False
    assert {c["name"] for c in part["clocks"]} == {c["name"] for c in whole["clocks"]}
    assert "contact" not in {c["name"] for c in part["clocks"]}
    await sound(city)


async def test_merge_and_split_are_not_done_in_bulk(city: City) -> None:
    ids = [(await city.ticket())["id"] for _ in range(2)]
    answer = await city.post("/v1/queue/actions/merge", {"ids": ids, "form": {"into": ids[0], "reason": "r"}})
    assert [r["problem"]["type"] for r in answer.json()["results"]] == ["/problems/conflict"] * 2
    assert [(await city.show(t))["phase"] for t in ids] == ["acceptance"] * 2


async def test_a_closed_ticket_is_taken_up_again_and_its_clock_goes_on(city: City) -> None:
    ticket = (await city.ticket())["id"]
    await city.act(ticket, "accept", TAX)
    await city.act(ticket, "submit_reply", TAX, public_reply="r", outcome="solved")
    await city.act(ticket, "approve_reply", "dispatcher")
    await city.act(ticket, "record_callback", "hotline", solved="yes", satisfaction="satisfied")
    first = await resolve(city, ticket)
    await city.advance(advance_by="P5D")
    again = await city.act(ticket, "reopen", "hotline", reason="又出现同样问题")
    clock = await resolve(city, ticket)
    assert (again["round"], again["phase"], again["outcome"], again["closed_at"]) == (2, "acceptance", None, None)
    assert (clock["cycle"], clock["started_at"], clock["state"]) == (2, first["started_at"], "running")
    told = (await city.get(f"/v1/tickets/{ticket}/clocks/{clock['id']}/explanation")).json()
    assert [s["kind"] for s in told["segments"]][-1] == "closed" and told["due_at"] == clock["due_at"]
    await city.act(ticket, "accept", TAX)
    await city.advance(advance_by="P60D")
    await sound(city)


async def test_a_request_answered_at_the_first_call_is_born_closed(city: City) -> None:
    body = request_body(answered={"public_reply": "请登录电子税务局办理", "outcome": "solved"})
    made = await city.post("/v1/tickets", body, "hotline")
    assert made.status_code == 201
    ticket = made.json()
    assert (ticket["phase"], ticket["outcome"], ticket["public_reply"]) == ("closed", "solved", "请登录电子税务局办理")
    [clock] = ticket["clocks"]
    assert (clock["state"], clock["end_reason"]) == ("met", "answered when it was taken")
    again = await city.post("/v1/tickets", body, "hotline")
    assert (again.status_code, again.json()["id"]) == (200, ticket["id"])
    assert (await city.post("/v1/tickets", request_body(answered={"public_reply": ""}), "hotline")).status_code == 422
    await sound(city)
    async with city.house.db.transaction(SYSTEM, readonly=True) as tx:
        assert await tx.value("SELECT count(*) FROM clocks WHERE next_fire_at IS NOT NULL") == 0


async def test_a_review_that_replaces_the_promise_says_so(city: City) -> None:
    ticket = (await city.ticket())["id"]
    await city.act(ticket, "accept", TAX)
    raised = await city.act(ticket, "escalate", TAX, reason="三个部门")
    path = f"/v1/reviews/{raised['review']['id']}"
    await city.post(f"{path}/actions/screen", {"decision": "accept"}, "reviewer")
    for gate in ("competence", "confidentiality", "recusal"):
        await city.post(f"{path}/actions/pass_gate", {"gate": gate}, "reviewer")
    decision = {"decision": "approve", "text": "t", "clock_effect": "replaced"}
    refused = await city.post(f"{path}/actions/decide", decision, "reviewer")
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/clock_effect")
    now = (await city.get("/v1/sandbox/clock")).json()["now"]
    due = f"{int(now[:4]) + 1}{now[4:10]}"
    measures = [{"title": "修路", "department": "finance", "due_on": due}]
    decided = await city.post(f"{path}/actions/decide", {**decision, "measures": measures}, "reviewer")
    assert decided.json()["clock_effect"] == "replaced"
    clock = await resolve(city, ticket)
    assert (clock["state"], clock["end_reason"]) == ("cancelled", "replaced by the review's dates")
    await city.advance(advance_by="P3D")
    await sound(city)
