"""Workflows of departments through the API: who is bound to which, levels of approval, co-handlers, slips, the check."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import City

UNITS = {
    "tax": ("consultation", "tax_consultation"),
    "market_supervision": ("complaint_report", "market_supervision_reports"),
    "natural_resources": ("project_landing", "natural_resources_landing"),
    "human_resources": ("business_development", "human_resources_development"),
    "finance": ("business_development", "finance_development"),
    "housing_construction": ("government_service", "housing_services"),
    "lixia": ("complaint_report", "lixia_complaints"),
    "startup_zone": ("project_landing", "startup_zone_landing"),
}
EXTENSION = {"ground": "funds_or_season", "reason": "the next payment round"}


async def at(city: City, unit: str, **more: Any) -> dict[str, Any]:
    """A ticket that this unit leads, accepted by it: routed to it, or dispatched to it by hand."""
    domain, _ = UNITS[unit]
    made = await city.ticket(domain=domain, **more)
    if (made["lead"] or {}).get("department") != unit:
        made = await city.act(made["id"], "dispatch", "dispatcher", department=unit)
    return await city.act(made["id"], "accept", f"handler:{unit}")


@pytest.mark.parametrize("unit", UNITS)
async def test_a_units_ticket_is_bound_to_its_own_workflow(unit: str, shared_city: City) -> None:
    ticket = await at(shared_city, unit)
    assert (ticket["lead"]["department"], ticket["workflow"]["key"]) == (unit, UNITS[unit][1])


async def test_an_extension_of_finance_is_decided_by_three_levels_of_three_persons(shared_city: City) -> None:
    city, ticket = shared_city, (await at(shared_city, "finance"))["id"]
    await city.act(ticket, "request_extension", "anna@handler:finance", days=8, **EXTENSION)
    asked = await pending(city, ticket)
    assert (asked["level"], asked["decisions"]) == (1, [])
    assert await decide(city, asked, "dispatcher") == 403  # the unit's own head first
    assert await decide(city, asked, "anna@handler:finance") == 403  # nobody decides his or her own request
    assert await decide(city, asked, "head@handler:finance") == 200
    assert (await pending(city, ticket))["level"] == 2
    assert await decide(city, asked, "sam@supervisor") == 200
    assert (await pending(city, ticket))["level"] == 3  # more than five days
    assert await decide(city, asked, "sam@supervisor") == 403  # each level another person
    before = resolve_of(await city.show(ticket))
    assert await decide(city, asked, "sue@supervisor") == 200
    shown = await city.show(ticket)
    assert resolve_of(shown) > before and await pending(city, ticket) is None
    events = (await city.get(f"/v1/tickets/{ticket}/events")).json()["items"]
    assert [e["type"] for e in events if e["type"].startswith("approval.")] == [
        "approval.passed", "approval.passed", "approval.approved",
    ]  # fmt: skip


async def test_a_short_extension_needs_two_levels_and_a_denial_at_the_first_denies(shared_city: City) -> None:
    city, ticket = shared_city, (await at(shared_city, "finance"))["id"]
    await city.act(ticket, "request_extension", "anna@handler:finance", days=3, **EXTENSION)
    asked = await pending(city, ticket)
    assert await decide(city, asked, "head@handler:finance", "deny") == 200
    assert await pending(city, ticket) is None
    await city.act(ticket, "request_extension", "anna@handler:finance", days=3, **EXTENSION)
    asked = await pending(city, ticket)
    assert await decide(city, asked, "head@handler:finance") == 200
    assert await decide(city, asked, "dispatcher") == 200
    answer = await city.get("/v1/approvals?state=approved&limit=200")
    [decided] = [a for a in answer.json()["items"] if a["id"] == asked["id"]]
    assert [(d["level"], d["by"]) for d in decided["decisions"]] == [(1, "head@handler:finance"), (2, "dispatcher")]


async def test_another_units_head_decides_nothing_here(shared_city: City) -> None:
    city, ticket = shared_city, (await at(shared_city, "finance"))["id"]
    await city.act(ticket, "request_extension", "anna@handler:finance", days=3, **EXTENSION)
    assert await decide(city, await pending(city, ticket), "head@handler:tax") == 404


def resolve_of(ticket: dict[str, Any]) -> str:
    return str(next(c["due_at"] for c in ticket["clocks"] if c["name"] == "resolve"))


async def pending(city: City, ticket: str) -> Any:
    items = (await city.get("/v1/approvals?state=pending&limit=200")).json()["items"]
    return next((a for a in items if a["ticket"]["id"] == ticket), None)


async def decide(city: City, approval: dict[str, Any], who: str, decision: str = "approve") -> int:
    answer = await city.post(f"/v1/approvals/{approval['id']}/decision", {"decision": decision, "reason": "r"}, who)
    return answer.status_code


async def test_the_lead_of_a_landing_replies_when_its_co_handlers_have_replied_or_are_late(city: City) -> None:
    reply = {"public_reply": "已办理。"}
    first = (await at(city, "natural_resources"))["id"]
    await city.act(first, "add_co_handler", "handler:natural_resources", department="water")
    await city.act(first, "submit_reply", "handler:natural_resources", 409, **reply)
    await city.act(first, "submit_reply", "handler:water", **reply)
    assert (await city.act(first, "submit_reply", "handler:natural_resources", **reply))["stage"] == "auditing"
    second = (await at(city, "natural_resources"))["id"]
    await city.act(second, "add_co_handler", "handler:natural_resources", department="water")
    await city.act(second, "submit_reply", "handler:natural_resources", 409, **reply)
    await city.advance(advance_by="P9D")
    assert (await city.act(second, "submit_reply", "handler:natural_resources", **reply))["stage"] == "auditing"


async def test_an_overdue_service_of_housing_gets_a_numbered_supervision_slip(city: City) -> None:
    ticket = await at(city, "housing_construction")
    await city.advance(advance_by="P30D")
    cards = (await city.show(ticket["id"]))["cards"]
    assert [c["level"] for c in cards] == ["yellow", "red", "slip"]
    assert cards[-1]["number"] == f"DB{ticket['number'][2:]}-1"


async def test_a_draft_of_human_resources_is_signed_by_another_person(shared_city: City) -> None:
    city, ticket = shared_city, (await at(shared_city, "human_resources"))["id"]
    who, head = "anna@handler:human_resources", "head@handler:human_resources"
    await city.act(ticket, "submit_reply", who, 409, public_reply="已办理。")
    assert (await city.act(ticket, "draft_reply", who, draft="已办理。"))["stage"] == "signing"
    await city.act(ticket, "submit_reply", who, 403, public_reply="已办理。")
    assert (await city.act(ticket, "submit_reply", head, public_reply="已办理。"))["stage"] == "auditing"


async def test_a_street_answers_its_district(shared_city: City) -> None:
    city, ticket = shared_city, (await at(shared_city, "lixia"))["id"]
    await city.act(ticket, "distribute", "handler:lixia", street="泉城路街道")
    shown = await city.act(ticket, "street_replied", "handler:lixia", text="已到现场")
    assert next(c for c in shown["clocks"] if c["name"] == "street")["state"] == "met"


# --- the check ---------------------------------------------------------------------------------------------------------

GOOD = """key: water_consultation
extends: consultation
title: {zh: 水务, en: Water}
departments: [water]
clocks:
  resolve: {budget: 1}
"""


async def check(city: City, workflow: Any, who: str = "admin") -> tuple[int, dict[str, Any]]:
    answer = await city.post("/v1/workflows/check", {"workflow": workflow}, who)
    return answer.status_code, answer.json()


async def test_a_good_workflow_is_proved_and_nothing_is_published(shared_city: City) -> None:
    status, told = await check(shared_city, GOOD)
    assert status == 200 and told["configurations"] > 100 and "working days" in told["longest_life"]["text"]
    keys = {w["key"] for w in (await shared_city.get("/v1/workflows")).json()["items"]}
    assert "water_consultation" not in keys and "tax_consultation" in keys


async def test_a_fault_is_told_with_line_path_and_the_way_to_it(shared_city: City) -> None:
    text = GOOD + 'actions:\n  request_pause:\n    guard: leg.role == "lead" && !pending.pause\n'
    status, problem = await check(shared_city, text)
    assert (status, problem["type"]) == (422, "/problems/definition-invalid")
    assert problem["path"] == "/actions/request_pause" and problem["line"] == 8
    assert problem["steps"][0].startswith("新工单 a new ticket") and "Ask for a pause" in " ".join(problem["steps"])
    assert {e["path"] for e in problem["errors"]} == {"/actions/request_pause", "/actions/request_pause/guard"}


@pytest.mark.parametrize(
    ("workflow", "line", "path"),
    [
        (GOOD.replace("budget: 1", "budget: 3"), 6, "/clocks/resolve/budget"),
        (GOOD.replace("[water]", "[moon]"), 4, "/departments"),
        (GOOD.replace("extends: consultation", "extends: nothing"), 2, "/extends"),
        (GOOD.replace("clocks:", "clockz:"), 5, "/clockz"),
        (GOOD + "x: &a [1]\n", 7, ""),
        (GOOD + "key: again\n", 7, ""),
        ("[1, 2]", 1, ""),
        ({"key": "water", "extends": "consultation", "title": {"zh": "水", "en": "W"}, "calendar": "cn-moon"}, None, "/calendar"),
        ({"key": "water"}, None, "/title"),
        ({}, None, "/key"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_a_problem_with_its_place(
    workflow: Any, line: int | None, path: str, shared_city: City
) -> None:
    status, problem = await check(shared_city, workflow)
    assert (status, problem["type"]) == (422, "/problems/definition-invalid"), problem
    assert (problem["line"], problem["path"]) == (line, path), problem


async def test_who_may_check_and_what_is_no_workflow(shared_city: City) -> None:
    assert (await check(shared_city, GOOD, "handler:tax"))[0] == 403
    assert (await check(shared_city, 7))[0] == 422
    assert (await check(shared_city, ""))[0] == 422
    assert (await shared_city.post("/v1/workflows/check", {"workflow": GOOD}, None)).status_code == 401
