"""The same enterprise says it again: proposed with a score and a reason, urged, explained, merged; each source answered."""

from __future__ import annotations

from typing import Any

from service.core.model import SYSTEM
from service.usecases import repeats
from tests.api.test_joining import sound
from tests.conftest import City, request_body

TAX, WATER = "handler:tax", "handler:water"
ROAD = {
    "title": "厂门口道路积水严重",
    "description": "厂门口经十路辅路积水严重，货车进出困难，已影响发货，请尽快疏通排水管道。",
}
ROAD_AGAIN = {
    "title": "道路积水还没解决",
    "description": "上次反映厂门口辅路积水，货车进出困难，影响发货，到现在没有疏通排水管道。",
}
LOAN = {"title": "贷款贴息政策咨询", "description": "想了解科技型企业贷款贴息怎么申请，需要哪些材料，去哪个窗口办理。"}


async def similar(city: City, ticket: str, who: str = "dispatcher") -> list[dict[str, Any]]:
    answer = await city.get(f"/v1/tickets/{ticket}/similar", who)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def closed(city: City, reply: str = "排水管道已疏通", **changes: Any) -> str:
    ticket = (await city.ticket(**changes))["id"]
    await city.act(ticket, "accept", TAX)
    await city.act(ticket, "submit_reply", TAX, public_reply=reply, outcome="solved")
    await city.act(ticket, "approve_reply", "dispatcher")
    await city.act(ticket, "record_callback", "hotline", solved="yes", satisfaction="satisfied")
    return ticket


async def test_a_repeat_while_the_first_is_open_is_proposed_as_an_urge(city: City) -> None:
    first = await city.ticket(**ROAD)
    assert first["related"] == [] and first["warnings"] == []
    again = await city.ticket(**ROAD_AGAIN)
    [related] = again["related"]
    assert (related["id"], related["relation"], related["same_matter"]) == (first["id"], "urge", True)
    assert 0.5 <= related["score"] <= 1 and "催办" in related["reason"] and "urge" in related["reason_en"]
    assert [w["code"] for w in again["warnings"]] == ["similar_request"] and first["number"] not in str(
        again["warnings"]
    )
    [found] = await similar(city, again["id"])
    urge, merge = found["proposals"]
    assert (urge["action"], merge["action"]) == ("urge", "merge")
    assert (await city.post(urge["path"], urge["body"], "hotline")).status_code == 200
    assert (await city.post(merge["path"], merge["body"])).json()["merged_into"] == first["id"]
    types = [e["type"] for e in (await city.get(f"/v1/tickets/{first['id']}/events")).json()["items"]]
    assert "ticket.urge" in types and "ticket.absorbed" in types
    await sound(city)


async def test_another_matter_of_the_same_enterprise_is_not_proposed(city: City) -> None:
    await city.ticket(**ROAD)
    other = await city.ticket(**LOAN)
    assert other["related"] == [] and await similar(city, other["id"]) == []


async def test_the_same_words_of_another_enterprise_are_not_proposed(city: City) -> None:
    await city.ticket(**ROAD)
    other = await city.ticket(**ROAD, enterprise={"name": "青岛另一家有限公司"})
    assert other["related"] == []


async def test_the_enterprises_own_name_makes_nothing_alike(city: City) -> None:
    name = {"name": "济南市历城区东部新城高端智能装备制造产业园开发建设集团有限公司"}
    await city.ticket(title="办证", description=f"{name['name']}咨询办证", enterprise=name, matter=None)
    other = await city.ticket(title="用电", description=f"{name['name']}反映停电", enterprise=name, matter=None)
    assert other["related"] == []


async def test_a_repeat_after_closing_without_a_new_fact_is_explained(city: City) -> None:
    first = await closed(city, **ROAD)
    again = await city.ticket(**{**ROAD, "title": "厂门口道路积水"})
    [found] = await similar(city, again["id"])
    assert found["relation"] == "explain" and found["new"] < 0.25
    [explain] = found["proposals"]
    assert explain["body"] == {"of": found["number"], "public_reply": "排水管道已疏通"}
    done = await city.post(explain["path"], explain["body"], "hotline")
    assert (done.json()["phase"], done.json()["outcome"]) == ("closed", "same_facts_closed")
    assert done.json()["public_reply"] == "排水管道已疏通"
    assert [c["state"] for c in done.json()["clocks"] if c["name"] == "resolve"] == ["met"]
    assert first != again["id"]
    await sound(city)


async def test_a_repeat_with_new_facts_is_taken_up_again(city: City) -> None:
    await closed(city, **ROAD)
    more = ROAD["description"] + "昨天夜里围墙被泡倒，砸坏两台设备，员工一人受伤送医，保险公司要求出具证明。"
    again = await city.ticket(**{**ROAD, "description": more})
    [found] = await similar(city, again["id"])
    assert found["relation"] == "reopen" and found["new"] >= 0.25
    [reopen] = found["proposals"]
    assert (await city.post(reopen["path"], reopen["body"])).json()["round"] == 2


async def test_what_was_closed_long_ago_is_for_information_and_later_forgotten(city: City) -> None:
    await closed(city, **ROAD)
    await city.advance(advance_by="P40D")
    again = await city.ticket(**ROAD)
    assert [r["relation"] for r in again["related"]] == ["related"]
    assert (await similar(city, again["id"]))[0]["proposals"] == []
    await city.act(again["id"], "withdraw", "hotline", reason="r")
    await city.advance(advance_by="P200D")
    assert (await city.ticket(**ROAD))["related"] == []


async def test_only_an_answered_ticket_of_the_same_enterprise_is_explained_again(city: City) -> None:
    open_one, again = await city.ticket(**ROAD), (await city.ticket(**ROAD_AGAIN))["id"]
    stranger = await closed(city, **LOAN, enterprise={"name": "另一家公司"})
    for of in (open_one["id"], stranger, again, "QY202001010000001", "x"):
        refused = await city.act(again, "explain_repeat", "dispatcher", 422, of=of, public_reply="r")
        assert refused["errors"][0]["pointer"] == "/of"
    refused = await city.act(again, "explain_repeat", "dispatcher", 422, public_reply="r")
    assert refused["errors"][0]["pointer"] == "/of"
    await city.act(again, "explain_repeat", TAX, 403, of=open_one["id"], public_reply="r")


async def test_a_department_is_shown_no_ticket_of_another(city: City) -> None:
    first = await city.ticket(**ROAD)
    again = await city.ticket(**ROAD_AGAIN)
    await city.act(again["id"], "dispatch", "dispatcher", department="water")
    assert await similar(city, again["id"], WATER) == []
    assert (await city.get(f"/v1/tickets/{first['id']}/similar", WATER)).status_code == 404
    shown = (await city.get(f"/v1/tickets/{again['id']}", WATER)).text
    assert first["number"] not in shown and first["id"] not in shown


async def test_parts_of_one_whole_are_not_proposed_to_each_other(city: City) -> None:
    whole = (await city.ticket(**ROAD))["id"]
    parts = [{"title": ROAD["title"], "description": ROAD["description"], "department": "water"}]
    part = (await city.act(whole, "split", "dispatcher", reason="r", parts=parts))["parts"][0]["id"]
    assert await similar(city, part) == [] and await similar(city, whole) == []


async def told(city: City, ticket: str) -> list[dict[str, Any]]:
    events = (await city.get(f"/v1/tickets/{ticket}/events")).json()["items"]
    return [e["data"] for e in events if e["type"] == "ticket.answered"]


async def test_each_merged_source_gets_the_answer_under_its_own_reference(city: City) -> None:
    one, two, survivor = [(await city.ticket(**ROAD))["id"] for _ in range(3)]
    await city.act(one, "merge", "dispatcher", into=two, reason="r")
    await city.act(two, "merge", "dispatcher", into=survivor, reason="r")
    assert await repeats.answer_sources(city.house) == 0, "nothing is answered yet"
    await city.act(survivor, "accept", TAX)
    await city.act(survivor, "submit_reply", TAX, public_reply="已疏通", outcome="solved")
    assert await repeats.answer_sources(city.house) == 0, "a reply that nobody approved is a draft"
    await city.act(survivor, "approve_reply", "dispatcher")
    assert await repeats.answer_sources(city.house, page=1) == 2
    assert await repeats.answer_sources(city.house) == 0, "each is told once"
    for ticket in (one, two):
        [answer] = await told(city, ticket)
        assert answer["public_reply"] == "已疏通" and answer["by"]["id"] == survivor
    async with city.house.db.transaction(SYSTEM) as tx:
        sent = await tx.value("SELECT count(*) FROM outbox o WHERE body::text LIKE '%ticket.answered%'")
    assert sent == 2, "it goes out as any event does"
    bad = {"solved": "no", "satisfaction": "dissatisfied"}
    await city.act(survivor, "record_callback", "hotline", **bad)
    await city.act(survivor, "submit_reply", TAX, public_reply="第二次疏通", outcome="solved")
    await city.act(survivor, "approve_reply", "dispatcher")
    assert await repeats.answer_sources(city.house) == 2
    assert [a["public_reply"] for a in await told(city, one)] == ["已疏通", "第二次疏通"]
    await sound(city)


async def test_the_first_answer_is_kept_with_what_it_said_of_repeats(city: City) -> None:
    await city.ticket(**ROAD)
    body, key = request_body(**ROAD_AGAIN), {"Idempotency-Key": "again"}
    answers = [await city.post("/v1/tickets", body, "hotline", headers=key) for _ in range(2)]
    assert answers[0].content == answers[1].content and answers[0].json()["related"]
