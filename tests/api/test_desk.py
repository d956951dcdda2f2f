"""Comfort at work: texts to begin with, next steps, the cap of contacts, the enterprise's own view by a link."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from service.core.model import SYSTEM
from tests.api.test_joining import sound
from tests.conftest import City

TAX, WATER = "handler:tax", "handler:water"


# --- templates -------------------------------------------------------------------------------------------------------------


async def test_a_template_is_filled_with_what_is_known_of_the_ticket(city: City) -> None:
    ticket = await city.ticket()
    items = (await city.get(f"/v1/templates?ticket={ticket['number']}&action=submit_reply", TAX)).json()["items"]
    solved = next(t for t in items if t["id"] == "solved")
    assert solved["scope"] == "city" and ticket["number"] in solved["filled"] and "发票额度不够用" in solved["filled"]
    assert (
        "济南测试机械有限公司" in solved["filled"]
        and "{" not in solved["filled"]
        and "（办理结果）" in solved["filled"]
    )
    assert {t["action"] for t in items} == {"submit_reply"}
    everything = (await city.get("/v1/templates", TAX)).json()["items"]
    assert len(everything) > len(items) and all("filled" not in t for t in everything)
    assert (await city.get(f"/v1/templates?ticket={ticket['number']}", WATER)).status_code == 404


async def test_a_unit_keeps_texts_of_its_own_and_others_do_not_see_them(city: City) -> None:
    body = {"department": "tax", "title": "增额", "text": "{enterprise}：额度已增加。", "matter": "invoice"}
    key = {"Idempotency-Key": "t1"}
    made = [await city.post("/v1/templates", body, TAX, headers=key) for _ in range(2)]
    assert made[0].status_code == 201 and made[0].content == made[1].content
    path = f"/v1/templates/{made[0].json()['id']}"
    ticket, other = await city.ticket(), await city.ticket(matter="tax_registration")
    own = [
        t
        for t in (await city.get(f"/v1/templates?ticket={ticket['id']}", TAX)).json()["items"]
        if t["scope"] == "department"
    ]
    assert [t["filled"] for t in own] == ["济南测试机械有限公司：额度已增加。"]
    titles = [t["title"] for t in (await city.get(f"/v1/templates?ticket={other['id']}", TAX)).json()["items"]]
    assert "增额" not in titles, "a text of one matter is not offered for another"
    assert "增额" not in (await city.get("/v1/templates", WATER)).text
    assert (await city.request("PUT", path, WATER, json=body)).status_code == 422
    assert (await city.request("PUT", path, WATER, json={**body, "department": "water"})).status_code == 404
    assert (await city.request("DELETE", path, WATER)).status_code == 404
    changed = await city.request("PUT", path, "lisi@handler:tax", json={**body, "text": "已增加。"})
    assert changed.json()["text"] == "已增加。"
    assert (
        await city.request("PUT", path, "handler:tax,water", json={**body, "department": "water"})
    ).status_code == 403
    assert (await city.request("DELETE", path, TAX)).status_code == 204
    assert (await city.request("DELETE", path, TAX)).status_code == 404


@pytest.mark.parametrize(
    ("change", "pointer"),
    [({"department": "water"}, "/department"), ({"department": "nobody"}, "/department"), ({"text": ""}, "/text"),
     ({"text": "{phone}"}, "/text"), ({"matter": "none"}, "/matter"), ({"colour": 1}, "/colour"),
     ({"title": "x" * 201}, "/title")],
)  # fmt: skip
async def test_a_wrong_template_is_refused_by_its_field(
    shared_city: City, change: dict[str, Any], pointer: str
) -> None:
    body = {"department": "tax", "title": "t", "text": "t"} | change
    refused = await shared_city.post("/v1/templates", body, TAX)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer)
    assert (await shared_city.post("/v1/templates", body, "hotline")).status_code == 403


# --- next steps ------------------------------------------------------------------------------------------------------------


async def test_the_next_steps_are_what_keeps_a_promise_nearest_due_first(city: City) -> None:
    ticket = (await city.ticket())["id"]
    told = (await city.get(f"/v1/tickets/{ticket}/actions", TAX)).json()
    assert {s["action"] for s in told["next"]} == {"accept", "log_contact"}
    assert [s["due_at"] for s in told["next"]] == sorted(s["due_at"] for s in told["next"])
    await city.act(ticket, "accept", TAX)
    await city.act(ticket, "log_contact", TAX)
    steps = (await city.get(f"/v1/tickets/{ticket}/actions", TAX)).json()["next"]
    assert ("submit_plan", "opinion") in [(s["action"], s["clock"]) for s in steps]
    assert ("submit_reply", "resolve") in [(s["action"], s["clock"]) for s in steps]
    assert steps[0]["clock"] == "opinion" and not steps[0]["overdue"] and steps[0]["title"]
    await city.advance(advance_by="P5D")
    assert (await city.get(f"/v1/tickets/{ticket}/actions", TAX)).json()["next"][0]["overdue"]
    names = {i["name"] for i in (await city.get(f"/v1/tickets/{ticket}/actions", TAX)).json()["items"]}
    assert {s["action"] for s in steps} <= names


# --- the cap of contacts ---------------------------------------------------------------------------------------------------


async def contact(city: City, ticket: str, who: str = TAX, status: int = 200, **form: Any) -> dict[str, Any]:
    return await city.act(ticket, "log_contact", who, status, **form)


def refuse(city: City, monkeypatch: pytest.MonkeyPatch, **rules: Any) -> None:
    desk = city.house.rules.desk
    changed = desk.model_copy(update={"contacts": desk.contacts.model_copy(update={"over": "refuse", **rules})})
    monkeypatch.setattr(city.house, "catalog", replace(city.house.rules, desk=changed))


async def used(city: City, ticket: str, who: str = TAX) -> int:
    return int((await city.get(f"/v1/tickets/{ticket}/actions", who)).json()["enterprise_contacts"]["contacts"])


async def test_contacts_of_one_enterprise_are_counted_over_all_units_and_one_too_many_is_told(city: City) -> None:
    one = (await city.ticket())["id"]
    other = (await city.ticket())["id"]
    await city.act(other, "dispatch", "dispatcher", department="water")
    stranger = (await city.ticket(enterprise={"name": "另一家"}))["id"]
    for n, (ticket, who) in enumerate(((one, TAX), (other, WATER), (one, TAX)), 1):
        assert "notices" not in await contact(city, ticket, who)
        assert await used(city, ticket, who) == n
    assert "notices" not in await contact(city, one, reached=False), "nobody was disturbed"
    [notice] = (await contact(city, other, WATER))["notices"]
    assert (notice["code"], notice["contacts"], notice["per_week"]) == ("contact_cap", 4, 3) and "上限" in notice[
        "detail"
    ]
    assert "notices" not in await contact(city, stranger)
    await city.advance(advance_by="P7D")
    assert await used(city, one) == 0 and "notices" not in await contact(city, one)
    await sound(city)


async def test_beyond_the_cap_a_contact_is_refused_and_not_counted_where_the_city_says_so(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(city, monkeypatch)
    one = (await city.ticket())["id"]
    for _ in range(3):
        await contact(city, one)
    refused = await contact(city, one, status=409)
    assert refused["type"] == "/problems/conflict" and refused["per_week"] == 3 and "上限3次" in refused["detail"]
    assert await used(city, one) == 3, "nothing half done"
    types = [e["type"] for e in (await city.get(f"/v1/tickets/{one}/events")).json()["items"]]
    assert types.count("ticket.log_contact") == 3


async def test_the_first_contact_that_a_ticket_is_owed_is_never_refused(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(city, monkeypatch, per_week=1)
    one, other = (await city.ticket())["id"], (await city.ticket())["id"]
    await contact(city, one)
    [notice] = (await contact(city, other))["notices"]
    assert notice["contacts"] == 2
    await contact(city, other, status=409)


async def test_of_contacts_logged_at_once_no_more_than_the_cap_are_taken(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(city, monkeypatch, per_week=4)
    tickets = [(await city.ticket())["id"] for _ in range(3)]
    for ticket in tickets:
        await contact(city, ticket)
    answers = await asyncio.gather(*(city.post(f"/v1/tickets/{t}/actions/log_contact", {}, TAX) for t in tickets * 2))
    assert sorted(a.status_code for a in answers) == [200, *[409] * 5]
    assert await used(city, tickets[0]) == 4


# --- the enterprise's own view ---------------------------------------------------------------------------------------------


async def link(city: City, ticket: str, who: str = TAX, **body: Any) -> dict[str, Any]:
    answer = await city.post(f"/v1/tickets/{ticket}/progress-link", body, who)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def progress(city: City, made: dict[str, Any]) -> dict[str, Any]:
    answer = await city.get(made["path"], None)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def test_an_enterprise_sees_stage_contact_next_date_and_reply_and_nothing_else(city: City) -> None:
    ticket = await city.ticket()
    made = await link(city, ticket["id"])
    shown = await progress(city, made)
    assert (shown["number"], shown["stage"], shown["public_reply"]) == (ticket["number"], "已转交承办单位", None)
    assert (
        shown["contact"]["department"] and shown["contact"]["phone"] == "12345" and shown["next"]["what"] == "先行联系"
    )
    await city.act(ticket["id"], "accept", TAX)
    await city.act(ticket["id"], "log_contact", TAX, note="老板脾气不好")
    await city.act(ticket["id"], "submit_plan", TAX, plan="内部方案")
    shown = await progress(city, made)
    assert (shown["stage"], shown["next"]["what"]) == ("承办单位办理中", "办结")
    await city.act(
        ticket["id"], "submit_reply", TAX, public_reply="额度已增加", internal_note="先拖着", outcome="solved"
    )
    assert (await progress(city, made))["public_reply"] is None, "a reply that nobody approved is a draft"
    await city.act(ticket["id"], "approve_reply", "dispatcher")
    shown = await progress(city, made)
    assert (shown["stage"], shown["public_reply"], shown["outcome"]) == ("已答复，等待回访", "额度已增加", None)
    await city.act(ticket["id"], "record_callback", "hotline", solved="yes", satisfaction="satisfied")
    answer = await city.get(made["path"], None)
    shown = answer.json()
    assert (shown["closed"], shown["outcome"], shown["next"]) == (True, "solved", None)
    for inside in ("老板", "内部方案", "先拖着", "王小明", "1380000", "handler", "clocks", "satisf", "description"):
        assert inside not in answer.text, inside
    assert answer.headers["cache-control"] == "private, no-store" and answer.headers["referrer-policy"] == "no-referrer"
    await sound(city)


async def test_a_link_ends_and_can_be_taken_back_and_cannot_be_made_up(city: City) -> None:
    ticket = (await city.ticket())["id"]
    made, short = await link(city, ticket), await link(city, ticket, days=1)
    assert made["token"] != short["token"]
    await city.advance(advance_by="P2D")
    assert (await city.get(short["path"], None)).status_code == 404
    await progress(city, made)
    token = made["token"]
    forged = [
        token[:-2] + ("AA" if token[-2:] != "AA" else "BB"),
        token[::-1],
        token + "A",
        "A" * len(token),
        ticket,
        "x",
        "%00",
        "é",
    ]
    for wrong in forged:
        refused = await city.get(f"/v1/progress/{wrong}", None)
        assert (refused.status_code, refused.headers["content-type"]) == (404, "application/problem+json"), wrong
    assert ticket not in token
    assert (await city.request("DELETE", f"/v1/tickets/{ticket}/progress-link", TAX)).json() == {"revoked": 1}
    assert (await city.get(made["path"], None)).status_code == 404
    events = [e["type"] for e in (await city.get(f"/v1/tickets/{ticket}/events")).json()["items"]]
    assert events.count("progress.linked") == 2 and "progress.revoked" in events
    async with city.house.db.transaction(SYSTEM, readonly=True) as tx:
        rows = await tx.rows("SELECT row_to_json(l)::text AS line FROM progress_links l")
    assert not any(token in row["line"] for row in rows), "the token is kept nowhere"


async def test_a_link_is_made_by_who_handles_the_ticket(city: City) -> None:
    ticket = (await city.ticket())["id"]
    path = f"/v1/tickets/{ticket}/progress-link"
    for who, status in ((WATER, 404), ("auditor", 403), ("supervisor", 403), ("hotline", 201), ("dispatcher", 201)):
        assert (await city.post(path, {}, who)).status_code == status, who
    for body in ({"days": 0}, {"days": 91}, {"days": 400}, {"days": "3"}, {"for": "ever"}):
        assert (await city.post(path, body, TAX)).status_code == 422, body
    key = {"Idempotency-Key": "k"}
    same = [await city.post(path, {}, TAX, headers=key) for _ in range(2)]
    assert same[0].content == same[1].content


async def test_whose_request_was_merged_sees_the_answer_of_the_one_it_was_merged_into(city: City) -> None:
    one, two = (await city.ticket())["id"], (await city.ticket(title="另一个"))["id"]
    made = await link(city, one)
    await city.act(one, "merge", "dispatcher", into=two, reason="r")
    shown = await progress(city, made)
    assert (shown["stage"], shown["closed"], shown["handled_together"]) == ("已转交承办单位", False, True)
    await city.act(two, "accept", TAX)
    await city.act(two, "submit_reply", TAX, public_reply="一并答复", outcome="solved")
    await city.act(two, "approve_reply", "dispatcher")
    shown = await progress(city, made)
    assert shown["public_reply"] == "一并答复" and shown["title"] == "发票额度不够用"


async def test_a_confidential_request_shows_no_title(city: City) -> None:
    ticket = (await city.ticket(confidential=True))["id"]
    shown = await progress(city, await link(city, ticket, "hotline"))
    assert shown["title"] is None and shown["number"]


async def test_bulk_acts_give_a_result_for_each_with_its_cap(city: City) -> None:
    ids = [(await city.ticket())["id"] for _ in range(2)]
    answer = await city.post("/v1/queue/actions/log_contact", {"ids": [*ids, "x"], "form": {}}, TAX)
    assert [r.get("status", 404) for r in answer.json()["results"]] == [200, 200, 404]
    assert await used(city, ids[0]) == 2
