"""Routing over HTTP: the explanation, first-dispatch accuracy from rulings, and rulings written back as proposals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from service.core.model import SYSTEM
from service.usecases import publishing
from service.usecases.folders import Folder
from tests.conftest import City

TAX, WATER = "handler:tax", "handler:water"


async def ruled(city: City, lead: str = "water", **more: Any) -> dict[str, Any]:
    """A ticket that went to the tax bureau, was returned by a ruling and sent to another unit."""
    ticket: dict[str, Any] = await city.ticket(**more)
    assert ticket["lead"]["department"] == "tax"
    await city.act(ticket["id"], "request_return", TAX, ground="not_our_duty", reason="属水务事项")
    [pending] = (await city.get("/v1/approvals", params={"state": "pending", "kind": "return"})).json()["items"]
    decided = {"decision": "approve", "reason": "可以"}
    assert (await city.post(f"/v1/approvals/{pending['id']}/decision", decided, "dispatcher")).status_code == 200
    await city.act(ticket["id"], "dispatch", "dispatcher", department=lead)
    return ticket


async def propose(city: City, ticket: str, who: str = "dispatcher", **more: Any) -> Any:
    body = {"ticket": ticket, "words": ["发票额度", "不够"], "reason": "这类事归水务", **more}
    return await city.post("/v1/routing/proposals", body, who)


async def decide(city: City, proposal: str, decision: str = "accept", who: str = "admin") -> Any:
    body = {"decision": decision, "reason": "同意"}
    return await city.post(f"/v1/routing/proposals/{proposal}/decision", body, who)


async def test_a_try_names_every_rule_the_words_that_counted_and_the_version(city: City) -> None:
    body = {
        "title": "投诉市税务局刁难",
        "description": "投诉税务局工作人员刁难，发票领不到",
        "domain": "complaint_report",
    }
    told = (await city.post("/v1/routing/try", body, "dispatcher")).json()
    assert told["complained_of"] == ["tax"]
    assert told["lead"] != "tax"
    tax = next(t for t in told["tried"] if t["rule"] == "tax")
    assert "发票" in tax["words"]
    learned = [t for t in told["tried"] if t["rule"].startswith("learned:")]
    assert all(t["out"] for t in learned if t["rule"] != f"learned:{learned[0]['lead']}")
    assert told["catalogue_version"] == city.house.rules.routing_version


async def test_a_ticket_records_the_catalogue_that_routed_it(city: City) -> None:
    ticket = await city.ticket()
    async with city.house.db.transaction(SYSTEM, readonly=True) as tx:
        facts = await tx.value("SELECT facts FROM tickets WHERE id = $1", ticket["id"])
    assert facts["routing"] == {"rule": "matter:invoice", "version": city.house.rules.routing_version, "lead": "tax"}
    [first, *_] = (await city.get(f"/v1/tickets/{ticket['id']}/events")).json()["items"]
    assert first["data"]["catalogue"] == city.house.rules.routing_version


async def test_accuracy_counts_a_ruling_against_the_rule_and_the_unit(city: City) -> None:
    for _ in range(3):
        await city.ticket()
    await ruled(city)
    told = (await city.get("/v1/reports/routing", "supervisor")).json()
    wanted = {"tickets": 4, "returned": 1, "wrong": 1, "accuracy": 0.75}
    assert (told["tickets"], told["routed_share"], told["total"]) == (4, 1.0, wanted)
    assert told["by_rule"] == [{"rule": "matter:invoice", **wanted}]
    assert told["by_unit"] == [{"unit": "tax", **wanted}]
    assert [{k: v for k, v in week.items() if k != "week"} for week in told["by_week"]] == [wanted]
    later = (await city.get("/v1/reports/routing?from=2020-01-01&to=2020-02-01", "supervisor")).json()
    assert (later["tickets"], later["routed_share"], later["total"]["accuracy"]) == (0, None, None)


async def test_what_no_rule_routed_counts_against_the_share_and_not_against_accuracy(city: City) -> None:
    unrouted = await city.ticket(title="某某", description="某某", domain="consultation", matter=None)
    told = (await city.get("/v1/reports/routing", "supervisor")).json()
    assert unrouted["lead"] is None
    assert (told["tickets"], told["routed_share"], told["total"]["tickets"]) == (1, 0.0, 0)
    assert told["groups"][0]["unit"] is None


@pytest.mark.parametrize("who", [TAX, "hotline", "reviewer"])
async def test_the_report_and_the_proposals_are_for_those_who_dispatch_and_watch(city: City, who: str) -> None:
    assert (await city.get("/v1/reports/routing", who)).status_code == 403
    assert (await city.get("/v1/routing/proposals", who)).status_code == 403
    assert (await propose(city, "x", who)).status_code == 403


async def test_a_ruling_becomes_a_rule_of_a_new_version_and_routes_the_next_ticket(city: City) -> None:
    ticket = await ruled(city)
    before = city.house.rules.routing_version
    made = await propose(city, ticket["id"])
    assert made.status_code == 201, made.text
    proposal = made.json()
    assert proposal["routes"]["before"]["lead"] == "tax"
    assert proposal["routes"]["after"] == {"lead": "water", "rule": proposal["rule"]["key"]}
    assert (proposal["routed_by"], proposal["was_lead"], proposal["lead"]) == ("matter:invoice", "tax", "water")
    assert (await propose(city, ticket["id"])).status_code == 409
    assert (await decide(city, proposal["id"], who="dispatcher")).status_code == 403
    done = (await decide(city, proposal["id"])).json()
    assert (done["state"], done["published_version"], done["decided_by"]) == ("accepted", before + 1, "admin")
    assert city.house.rules.routing_version == before + 1
    assert (await decide(city, proposal["id"])).status_code == 409
    again = await city.ticket(matter=None)
    assert again["lead"]["department"] == "water"
    assert (await city.show(ticket["id"]))["lead"]["department"] == "water"
    [listed] = (await city.get("/v1/routing/proposals?state=accepted", "supervisor")).json()["items"]
    assert listed["id"] == proposal["id"]


async def test_a_ruling_of_one_word_decides_too_and_needs_it_whole(city: City) -> None:
    ticket = await ruled(city)
    proposal = (await propose(city, ticket["id"], words=["发票额度"])).json()
    assert proposal["routes"]["after"]["lead"] == "water"
    await decide(city, proposal["id"])
    assert (await city.ticket(matter=None))["lead"]["department"] == "water"
    assert (await city.ticket(matter=None, title="发票", description="发票领不到"))["lead"]["department"] == "tax"


async def test_words_by_which_the_text_would_not_go_there_are_no_ruling(city: City) -> None:
    text = {"title": "投诉市水务局刁难", "description": "投诉水务局工作人员刁难，发票额度不够"}
    ticket = await ruled(city, "finance", **text, domain="complaint_report")
    refused = await propose(city, ticket["id"], lead="water")
    assert refused.status_code == 422 and refused.json()["errors"][0]["pointer"] == "/words"


async def test_the_files_published_again_keep_accepted_rulings_until_they_withdraw_them(
    city: City, folder: Folder
) -> None:
    ticket = await ruled(city)
    proposal = (await propose(city, ticket["id"])).json()
    await decide(city, proposal["id"])
    key, version = proposal["rule"]["key"], city.house.rules.routing_version
    assert await publishing.publish_folder(city.house, folder, "admin", "restart") == []
    assert city.house.rules.routing_version == version
    withdrawn = {**folder.routing, "withdrawn": [key]}
    without = Folder(folder.workflows, folder.calendars, withdrawn, folder.matters, folder.departments, folder.docket)
    assert await publishing.publish_folder(city.house, without, "admin", "no") == [f"routing city {version + 1}"]
    assert key not in {r.key for r in city.house.rules.router.doc.rules}


async def test_a_ruling_that_names_a_matter_that_is_no_more_is_left_out_and_told(city: City, folder: Folder) -> None:
    ticket = await ruled(city)
    proposal = (await propose(city, ticket["id"], matter="water_supply")).json()
    await decide(city, proposal["id"])
    key, version = proposal["rule"]["key"], city.house.rules.routing_version
    matters = {"matters": [m for m in folder.matters["matters"] if m["code"] != "water_supply"]}
    rules = [
        r
        for r in folder.routing["rules"]
        if "water_supply" not in {r.get("matter"), *r.get("when", {}).get("matters", ())}
    ]
    less = replace(folder, matters=matters, routing={**folder.routing, "rules": rules, "learned": None})
    told = await publishing.publish_folder(city.house, less, "admin", "no more")
    assert f"routing city {version + 1}" in told and any(key in line and "no more" in line for line in told)
    assert key not in {r.key for r in city.house.rules.router.doc.rules}


async def test_a_refused_proposal_changes_nothing(city: City) -> None:
    ticket = await ruled(city)
    version = city.house.rules.routing_version
    proposal = (await propose(city, ticket["id"])).json()
    done = (await decide(city, proposal["id"], "refuse")).json()
    assert (done["state"], done["published_version"], done["decision_reason"]) == ("refused", None, "同意")
    assert city.house.rules.routing_version == version
    assert (await propose(city, ticket["id"])).status_code == 201


async def test_who_proposed_does_not_decide(city: City) -> None:
    proposal = (await propose(city, (await ruled(city))["id"], "admin")).json()
    assert (await decide(city, proposal["id"])).status_code == 403
    assert (await decide(city, proposal["id"], who="li@admin")).status_code == 200


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"words": ["不在文中"]}, "/words/0"),
        ({"words": []}, "/words"),
        ({"words": ["发"]}, "/words/0"),
        ({"lead": "nobody"}, "/lead"),
        ({"lead": "tax"}, "/lead"),
        ({"matter": "weather"}, "/matter"),
    ],
)
async def test_a_proposal_names_what_is_wrong(city: City, more: dict[str, Any], pointer: str) -> None:
    refused = await propose(city, (await ruled(city))["id"], **more)
    assert refused.status_code in {400, 422}
    assert refused.json()["errors"][0]["pointer"] == pointer


async def test_without_a_ruling_there_is_no_proposal(city: City) -> None:
    assert (await propose(city, (await city.ticket())["id"])).status_code == 409
    assert (await propose(city, "QY202601010000001")).status_code == 404
    absent = "00000000-0000-7000-8000-000000000000"
    assert (await decide(city, absent)).status_code == 404


async def test_the_same_proposal_posted_twice_is_one(city: City) -> None:
    ticket = (await ruled(city))["id"]
    body = {"ticket": ticket, "words": ["发票额度"], "reason": "x"}
    first = await city.post("/v1/routing/proposals", body, "dispatcher", headers={"Idempotency-Key": "p1"})
    second = await city.post("/v1/routing/proposals", body, "dispatcher", headers={"Idempotency-Key": "p1"})
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] == second.json()["id"]
