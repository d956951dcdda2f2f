"""What a unit asks for and others decide: returns, extensions, pauses, plans, terminations; over HTTP, by all roles."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.api.test_life import check_history, clock_of, history, moment
from tests.api.test_procedure_supervision import handled, later, now_of, send
from tests.conftest import City

TAX, WATER, SUP, HEAD = "handler:tax", "handler:water", "supervisor", "head@handler:tax"
RETURN = {"ground": "not_our_duty", "reason": "属水务事项", "legal_basis": "职责清单"}
EXTENSION = {"ground": "needs_test_or_expert", "days": 5, "reason": "需检测"}


async def pending(city: City, kind: str) -> dict[str, Any]:
    params = {"state": "pending", "kind": kind}
    [found] = (await city.get("/v1/approvals", params=params)).json()["items"]
    request: dict[str, Any] = found
    return request


async def rule(city: City, kind: str, decision: str, who: str, status: int = 200) -> dict[str, Any]:
    found = await pending(city, kind)
    return await send(city, f"approvals/{found['id']}/decision", who, status, decision=decision, reason="可以")


async def day(city: City, days: int) -> str:
    return (await now_of(city) + timedelta(days=days)).date().isoformat()


# --- returns (G4) ------------------------------------------------------------------------------------------------------


async def test_g4_a_return_names_a_ground_of_the_closed_list(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "request_return", TAX, 422, reason="太忙")
    await city.act(t, "request_return", TAX, 422, ground="busy", reason="太忙")
    await city.act(t, "request_return", TAX, **RETURN)
    assert (await pending(city, "return"))["form"]["legal_basis"] == "职责清单"


async def test_g4_a_return_is_possible_after_acceptance_and_contact_and_takes_an_undecided_extension_with_it(
    city: City,
) -> None:
    t = await handled(city)
    await city.act(t, "log_contact", TAX, reached=True)
    await city.act(t, "request_extension", TAX, **EXTENSION)
    await city.act(t, "request_return", TAX, **RETURN)
    await rule(city, "return", "approve", "dispatcher")
    shown = await city.show(t)
    assert (shown["phase"], shown["lead"]) == ("dispatch", None)
    assert (await city.get("/v1/approvals", params={"state": "pending"})).json()["items"] == []
    await check_history(city, t)


async def test_g4_a_co_handler_does_not_send_the_ticket_back(city: City) -> None:
    t = await handled(city)
    await city.act(t, "add_co_handler", TAX, department="water")
    await city.act(t, "request_return", WATER, 409, **RETURN)


async def test_g4_the_third_return_is_forbidden_and_nobody_returns_after_a_ruling(city: City) -> None:
    t = (await city.ticket())["id"]
    for unit, following in ((TAX, "water"), (WATER, "finance")):
        await city.act(t, "request_return", unit, **RETURN)
        await rule(city, "return", "approve", "dispatcher")
        await city.act(t, "dispatch", "dispatcher", department=following)
    await city.act(t, "request_return", "handler:finance", 409, **RETURN)
    other = (await city.ticket())["id"]
    await city.act(other, "request_return", TAX, **RETURN)
    await rule(city, "return", "deny", "dispatcher")
    await city.act(other, "request_return", TAX, 409, **RETURN)


async def test_g4_a_designated_unit_may_not_return_what_was_arbitrated(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "request_return", TAX, **RETURN)
    form = {"department": "water", "legal_basis": "机构编制部门职责界定", "reason": "裁定"}
    await city.act(t, "designate", "dispatcher", 422, **{**form, "legal_basis": None})
    await city.act(t, "designate", TAX, 403, **form)
    sent = await city.act(t, "designate", "dispatcher", **form)
    assert (sent["lead"]["department"], sent["stage"]) == ("water", "accepting")
    await city.act(t, "request_return", WATER, 409, **RETURN)
    assert (await city.act(t, "accept", WATER))["stage"] == "handling"
    await check_history(city, t)


async def test_g4_the_time_of_ping_pong_is_charged_to_the_centre_or_to_the_unit_that_was_ruled_against(
    city: City,
) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "request_return", TAX, **RETURN)
    await city.advance(advance_by="PT5H")
    await rule(city, "return", "approve", "dispatcher")
    await city.advance(advance_by="PT1H")
    await city.act(t, "dispatch", "dispatcher", department="water")
    await city.act(t, "request_return", WATER, **RETURN)
    await city.advance(advance_by="PT3H")
    await rule(city, "return", "deny", "dispatcher")
    told = (await city.get(f"/v1/tickets/{t}/legs", SUP)).json()
    charged = {c["to"]: c["gross_us"] for c in told["charged"]}
    hour = 3_600_000_000
    assert set(charged) == {"centre", "water"}
    assert 6 * hour <= charged["centre"] < 6 * hour + hour / 2, "wrongly sent: not the first unit's time"
    assert 3 * hour <= charged["water"] < 3 * hour + hour / 2, "ruled against: its own time"
    assert sum(charged.values()) == told["whole"]["gross_us"]
    tax = next(leg for leg in told["legs"] if leg["department"] == "tax")
    assert tax["gross_us"] == 0


# --- extensions (G15, G18) -------------------------------------------------------------------------------------------------


async def test_an_extension_is_refused_after_the_due_time(city: City) -> None:
    t = await handled(city)
    due = moment(clock_of(await city.show(t), "resolve")["due_at"])
    await city.advance(advance_to=(due + timedelta(seconds=1)).isoformat())
    await city.act(t, "request_extension", TAX, 409, **EXTENSION)


async def test_an_exceptional_extension_needs_the_head_a_second_person_and_a_second_level(city: City) -> None:
    t = (await city.ticket(domain="business_development"))["id"]
    await city.act(t, "accept", TAX)
    form = {**EXTENSION, "days": 3, "head": "局长"}
    await city.act(t, "request_exceptional_extension", HEAD, 409, **form)
    await city.act(t, "request_extension", TAX, **EXTENSION)
    await rule(city, "extension", "approve", "dispatcher")
    await city.act(t, "request_extension", TAX, 409, **EXTENSION)
    await city.act(t, "request_exceptional_extension", TAX, 403, **form)
    await city.act(t, "request_exceptional_extension", HEAD, 422, **{**form, "head": None})
    await city.act(t, "request_exceptional_extension", HEAD, **form)
    passed = await rule(city, "extension", "approve", "dispatcher")
    assert (passed["state"], passed["level"]) == ("pending", 2)
    await rule(city, "extension", "approve", "dispatcher", 403)
    done = await rule(city, "extension", "approve", SUP)
    assert done["state"] == "approved"
    resolve = clock_of(await city.show(t), "resolve")
    assert resolve["budget"] == 15 + 5 + 3
    await city.act(t, "request_exceptional_extension", HEAD, 409, **form)
    notices = (await city.show(t))["enterprise_notices"]
    assert [n["about"] for n in notices] == ["extended", "extended"]
    assert notices[-1]["next_date"] == resolve["due_at"]
    await check_history(city, t)


# --- pauses (G16) ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["statutory_procedure", "force_majeure"])
async def test_g16_a_pause_for_a_procedure_or_a_force_majeure_is_shown_by_evidence(city: City, kind: str) -> None:
    t = await handled(city)
    await city.act(t, "request_pause", TAX, 422, kind=kind, reason="x")
    await city.act(t, "request_pause", TAX, 422, kind=kind, reason="x", evidence="")
    await city.act(t, "request_pause", TAX, kind=kind, reason="x", evidence="检测委托书")


async def test_g16_a_pause_is_told_to_the_enterprise_capped_and_told_apart_in_gross_and_net_time(city: City) -> None:
    t = await handled(city)
    await city.act(t, "request_pause", TAX, 422, kind="too_busy", reason="x")
    await city.act(t, "request_pause", TAX, kind="waiting_enterprise", reason="等企业材料", days=2)
    await rule(city, "pause", "approve", "dispatcher")
    shown = await city.show(t)
    [told] = shown["enterprise_notices"]
    assert (told["about"], told["reason"], told["kind"]) == ("paused", "等企业材料", "waiting_enterprise")
    assert [e["type"] for e in await history(city, t)].count("enterprise.told") == 1
    cap = moment(clock_of(shown, "pause_cap")["due_at"])
    await city.advance(advance_to=(cap + timedelta(hours=30)).isoformat())
    assert (await city.show(t))["phase"] == "handling", "it ends by itself"
    split = (await city.get(f"/v1/tickets/{t}/legs", SUP)).json()
    enterprise = next(c for c in split["charged"] if c["to"] == "enterprise")
    assert enterprise["gross_us"] > 0
    assert sum(c["gross_us"] for c in split["charged"]) == split["whole"]["gross_us"]
    assert sum(c["working_us"] for c in split["charged"]) == split["whole"]["working_us"]


# --- plans (G23) -------------------------------------------------------------------------------------------------------


async def test_g23_a_plan_has_measures_and_a_day_and_the_clock_stands_until_then(city: City) -> None:
    t = await handled(city)
    form = {"reason": "需列入年度预算", "measures": "分两期实施", "planned_on": await day(city, 40)}
    await city.act(t, "request_planned", TAX, 422, **{**form, "measures": ""})
    await city.act(t, "request_planned", TAX, 422, **{**form, "planned_on": await day(city, 0)})
    await city.act(t, "request_planned", TAX, 422, **{**form, "planned_on": await day(city, 181)})
    await city.act(t, "request_planned", TAX, 422, **{**form, "planned_on": "soon"})
    await city.act(t, "request_planned", TAX, **form)
    await rule(city, "planned", "approve", "dispatcher")
    shown = await city.show(t)
    assert (shown["stage"], clock_of(shown, "resolve")["state"]) == ("planned", "paused")
    assert (shown["planned"]["planned_on"], shown["planned"]["measures"]) == (form["planned_on"], "分两期实施")
    until = clock_of(shown, "planned_until")
    assert moment(until["due_at"]) >= datetime.fromisoformat(f"{form['planned_on']}T00:00:00+08:00")
    assert [n["about"] for n in shown["enterprise_notices"]] == ["planned"]
    await city.act(t, "log_contact", TAX, reached=True)
    back = await city.act(t, "resume", TAX)
    assert (back["stage"], clock_of(back, "resolve")["state"], clock_of(back, "planned_until")["state"]) == (
        "handling", "running", "met",
    )  # fmt: skip
    await check_history(city, t)


async def test_g23_a_plan_past_its_day_is_handled_again_and_goes_onto_the_docket_and_re_plans_are_bounded(
    city: City,
) -> None:
    t = await handled(city)
    for n in range(2):
        await city.act(t, "request_planned", TAX, reason="r", measures="m", planned_on=await day(city, 20))
        await rule(city, "planned", "approve", SUP)
        due = clock_of(await city.show(t), "planned_until")["due_at"]
        await city.advance(advance_to=(moment(due) + timedelta(minutes=1)).isoformat())
        shown = await city.show(t)
        assert (shown["stage"], clock_of(shown, "resolve")["state"]) == ("handling", "running"), n
        assert shown["review"]["state"] == "proposed"
        [breach] = [e for e in await history(city, t) if e["type"] == "clock.breached"
                    and e["data"]["clock"] == "planned_until" and e["occurred_at"] == due]  # fmt: skip
        assert breach
    await city.act(t, "request_planned", TAX, 409, reason="r", measures="m", planned_on=await day(city, 20))
    listed = (await city.get("/v1/reports/sweep", SUP, params={"list": "planned_past_date"})).json()["items"]
    assert [row["id"] for row in listed] == [t]
    await check_history(city, t)


async def test_a_plan_that_is_denied_leaves_the_clock_running_and_the_unit_unharmed(city: City) -> None:
    t = await handled(city)
    await city.act(t, "request_planned", TAX, reason="r", measures="m", planned_on=await day(city, 20))
    await rule(city, "planned", "deny", "dispatcher")
    shown = await city.show(t)
    assert (shown["stage"], clock_of(shown, "resolve")["state"], shown["planned"]) == ("handling", "running", None)


# --- termination, interim replies ----------------------------------------------------------------------------------------------


async def test_a_termination_is_asked_in_writing_decided_by_the_centre_and_told_to_the_enterprise(city: City) -> None:
    t = await handled(city)
    form = {"ground": "in_litigation", "reason": "已立案", "legal_route": "历下区人民法院"}
    await city.act(t, "request_terminate", TAX, 422, **{**form, "ground": "too_hard"})
    await city.act(t, "request_terminate", TAX, **form)
    await rule(city, "termination", "deny", "dispatcher")
    assert (await city.show(t))["stage"] == "handling"
    await city.act(t, "request_terminate", TAX, **form)
    await rule(city, "termination", "approve", TAX, 403)
    await rule(city, "termination", "approve", "dispatcher")
    shown = await city.show(t)
    assert (shown["phase"], shown["outcome"]) == ("closed", "terminated")
    [told] = shown["enterprise_notices"]
    assert (told["about"], told["legal_route"]) == ("terminated", "历下区人民法院")
    await check_history(city, t)


async def test_an_interim_reply_is_told_and_the_clock_runs_on(city: City) -> None:
    t = await handled(city)
    shown = await city.act(t, "submit_reply", TAX, public_reply="第一阶段已完成", partial=True)
    assert (shown["stage"], clock_of(shown, "resolve")["state"]) == ("handling", "running")
    assert (shown["interim_reply"], shown["public_reply"]) == ("第一阶段已完成", None)
    assert [n["about"] for n in shown["enterprise_notices"]] == ["interim_reply"]
    assert (await later(city)) > shown["updated_at"]
