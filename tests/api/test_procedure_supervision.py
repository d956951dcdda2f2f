"""Cards by hand, the ladder of supervision, exemptions, appeals against ratings: over HTTP, by all roles."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service.core.periods import Weekly
from service.db.session import connect_arguments
from service.usecases import integrity, supervision
from tests.api.test_life import check_history, clock_of, decide
from tests.conftest import City

TAX, WATER, SUP, OTHER_SUP = "handler:tax", "handler:water", "supervisor", "second@supervisor"
SAD = {"reached": True, "solved": "no", "satisfaction": "dissatisfied", "reason": "result"}


async def now_of(city: City) -> datetime:
    return datetime.fromisoformat((await city.get("/v1/sandbox/clock")).json()["now"])


async def later(city: City, **span: int) -> str:
    return (await now_of(city) + timedelta(**span)).isoformat()


async def send(city: City, path: str, who: str, status: int = 201, **body: Any) -> dict[str, Any]:
    answer = await city.post(f"/v1/{path}", body, who)
    assert answer.status_code == status, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def handled(city: City, **changes: Any) -> str:
    t: str = (await city.ticket(**changes))["id"]
    await city.act(t, "accept", TAX)
    return t


async def called_back(city: City, t: str, **result: Any) -> dict[str, Any]:
    await city.act(t, "submit_reply", TAX, public_reply="已办理", outcome="solved")
    await city.act(t, "approve_reply", "dispatcher")
    return await city.act(t, "record_callback", "hotline", **result)


async def exempted(city: City, t: str, code: str = "outside_duty_confirmed") -> dict[str, Any]:
    asked = await send(
        city, f"tickets/{t}/exemptions", TAX, code=code, reason="不属本单位", expires_at=await later(city, days=200)
    )
    return await send(city, f"exemptions/{asked['id']}/decision", SUP, 200, decision="approve", reason="属实")


async def figure(city: City, name: str, **query: Any) -> dict[str, Any]:
    answer = await city.get("/v1/reports/sla", SUP, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return {**found["total"]["figures"][name], "restated": found["restated"]}


# --- cards and the ladder ----------------------------------------------------------------------------------------------


async def test_a_card_by_hand_is_told_to_the_unit_and_stands_on_the_ticket(city: City) -> None:
    t = await handled(city)
    carded = await send(city, f"tickets/{t}/cards", SUP, level="yellow", reason="久拖不决")
    assert [(c["level"], c["by"], c["reason"]) for c in carded["cards"]] == [("yellow", SUP, "久拖不决")]
    told = (await city.get("/v1/notices", TAX)).json()["items"]
    assert "yellow_card" in {n["kind"] for n in told}
    await send(city, f"tickets/{t}/cards", SUP, 409, level="yellow", reason="again")
    await send(city, f"tickets/{t}/cards", TAX, 403, level="red", reason="x")
    await send(city, f"tickets/{t}/cards", SUP, 422, level="green", reason="x")
    await check_history(city, t)


async def test_g18_no_extension_is_asked_for_after_a_red_card(city: City) -> None:
    t = await handled(city)
    await send(city, f"tickets/{t}/cards", SUP, level="yellow", reason="x")
    form = {"ground": "needs_test_or_expert", "days": 5, "reason": "需检测"}
    await city.act(t, "request_extension", TAX, **form)
    await decide(city, "extension", "deny")
    await send(city, f"tickets/{t}/cards", SUP, level="red", reason="x")
    await city.act(t, "request_extension", TAX, 409, **form)


async def test_g18_an_extension_that_was_asked_for_before_the_red_card_is_not_approved_after_it(city: City) -> None:
    t = await handled(city)
    await city.act(t, "request_extension", TAX, ground="needs_test_or_expert", days=5, reason="需检测")
    await send(city, f"tickets/{t}/cards", SUP, level="red", reason="x")
    [pending] = (await city.get("/v1/approvals", params={"state": "pending"})).json()["items"]
    path = f"/v1/approvals/{pending['id']}/decision"
    refused = await city.post(path, {"decision": "approve", "reason": "x"}, SUP)
    assert refused.status_code == 409 and "red card" in refused.json()["detail"]
    assert (await city.post(path, {"decision": "deny", "reason": "红牌"}, SUP)).status_code == 200
    assert clock_of(await city.show(t), "resolve")["budget"] == 15


async def test_g18_a_yellow_card_stays_a_fact_when_an_extension_moves_the_due_time(city: City) -> None:
    t = await handled(city)
    yellow = next(w for w in clock_of(await city.show(t), "resolve")["warnings"] if w["name"] == "yellow")
    await city.advance(advance_to=(datetime.fromisoformat(yellow["at"]) + timedelta(hours=1)).isoformat())
    await city.act(t, "request_extension", TAX, ground="needs_test_or_expert", days=5, reason="需检测")
    await decide(city, "extension", "approve", SUP)
    shown = await city.show(t)
    assert [c["level"] for c in shown["cards"]] == ["yellow"]
    assert clock_of(shown, "resolve")["budget"] == 20


@pytest.mark.parametrize(
    ("kind", "prefix", "more"),
    [
        ("urge", "CB", {}),
        ("slip", "DB", {"answer_by": 3}),
        ("listed", "GP", {"answer_by": 3}),
        ("summons", "YT", {"answer_by": 3, "addressee": "税务局分管负责人"}),
        ("report_upward", "SB", {"addressee": "市政府督查室"}),
    ],
)
async def test_each_rung_of_supervision_has_a_number_a_ground_and_an_answer(
    city: City, kind: str, prefix: str, more: dict[str, Any]
) -> None:
    t = await handled(city)
    body = {"kind": kind, "ground": "should_have_been_solved", "reason": "应解决未解决", **more}
    if "answer_by" in more:
        await send(city, f"tickets/{t}/supervisions", SUP, 422, **{**body, "answer_by": None})
        body["answer_by"] = await later(city, days=3)
    if "addressee" in more:
        await send(city, f"tickets/{t}/supervisions", SUP, 422, **{**body, "addressee": None})
    await send(city, f"tickets/{t}/supervisions", "dispatcher", 403, **body)
    made = await send(city, f"tickets/{t}/supervisions", SUP, **body)
    assert made["number"].startswith(prefix) and (made["state"], made["department"]) == ("open", "tax")
    await send(city, f"supervisions/{made['id']}/answer", WATER, 404, text="不是我")
    done = await send(city, f"supervisions/{made['id']}/answer", TAX, 200, text="已整改")
    assert (done["state"], done["answered_by"], done["overdue"]) == ("answered", TAX, False)
    await send(city, f"supervisions/{made['id']}/answer", TAX, 409, text="再答")
    lifted = await send(city, f"supervisions/{made['id']}/lift", SUP, 200, reason="整改到位")
    assert lifted["state"] == "lifted"
    [listed] = (await city.get("/v1/supervisions", SUP, params={"kind": kind})).json()["items"]
    assert listed == lifted
    assert (await city.get("/v1/supervisions", WATER)).json()["items"] == []
    await check_history(city, t)


async def test_a_supervision_that_is_not_answered_in_time_is_overdue(city: City) -> None:
    t = await handled(city)
    made = await send(
        city, f"tickets/{t}/supervisions", SUP, kind="slip", ground="overdue", reason="x",
        answer_by=await later(city, days=2),
    )  # fmt: skip
    await city.advance(advance_by="P3D")
    [open_] = (await city.get("/v1/supervisions", SUP, params={"state": "open"})).json()["items"]
    assert (open_["id"], open_["overdue"]) == (made["id"], True)
    await send(city, f"supervisions/{made['id']}/answer", TAX, 200, text="迟到的答复")
    last = (await check_history(city, t))[-1]
    assert (last["type"], last["data"]["late"]) == ("supervision.answered", True)


async def test_g25_an_order_from_outside_has_a_second_supervisor_and_goes_first(city: City) -> None:
    t = await handled(city)
    body = {"kind": "urge", "ground": "instruction", "reason": "市领导批示"}
    await send(city, f"tickets/{t}/supervisions", SUP, 422, **body)
    await send(city, f"tickets/{t}/supervisions", SUP, 422, **body, second_supervisor=SUP)
    await send(city, f"tickets/{t}/supervisions", SUP, **body, second_supervisor=OTHER_SUP)
    priority = (await city.show(t))["priority"]
    assert (priority["ground"], priority["supervisors"]) == ("instruction", [SUP, OTHER_SUP])


async def test_the_weekly_sweep_supervises_once_what_was_reworked_twice(city: City) -> None:
    t, calm = await handled(city), await handled(city)
    await called_back(city, t, **SAD)
    await called_back(city, t, **SAD)
    assert (await city.show(t))["round"] == 3
    listed = (await city.get("/v1/reports/sweep", SUP, params={"list": "reworked_twice"})).json()["items"]
    assert [row["id"] for row in listed] == [t]
    slot = Weekly(0, datetime.min.time().replace(hour=8), city.house.zone).latest(await now_of(city))
    assert await supervision.sweep(city.house, slot) == {"supervised": 1}
    assert await supervision.sweep(city.house, slot) == {"supervised": 0}, "once a week"
    assert await supervision.sweep(city.house, slot + timedelta(days=7)) == {"supervised": 1}, "and next week again"
    acts = (await city.get(f"/v1/tickets/{t}/supervisions", SUP)).json()["items"]
    assert {(a["kind"], a["ground"], a["department"]) for a in acts} == {("sweep", "reworked_twice", "tax")}
    assert (await city.get(f"/v1/tickets/{calm}/supervisions", SUP)).json()["items"] == []


# --- exemptions ----------------------------------------------------------------------------------------------------------


async def test_an_exemption_has_a_code_another_approver_and_an_end(city: City) -> None:
    t = await handled(city)
    body = {"code": "hotline_error", "reason": "派错", "expires_at": await later(city, days=30)}
    await send(city, f"tickets/{t}/exemptions", SUP, 422, **{**body, "code": "busy"})
    await send(city, f"tickets/{t}/exemptions", SUP, 422, **{**body, "expires_at": await later(city, days=-1)})
    await send(city, f"tickets/{t}/exemptions", WATER, 404, **body)
    asked = await send(city, f"tickets/{t}/exemptions", SUP, **body)
    await send(city, f"tickets/{t}/exemptions", TAX, 409, **body)
    decision = f"exemptions/{asked['id']}/decision"
    await send(city, decision, SUP, 403, decision="approve", reason="自己批")
    await send(city, decision, "dispatcher", 403, decision="approve", reason="x")
    done = await send(city, decision, OTHER_SUP, 200, decision="approve", reason="属实")
    assert (done["state"], done["decided_by"], done["in_force"]) == ("approved", OTHER_SUP, True)
    await send(city, decision, "third@supervisor", 409, decision="deny", reason="x")
    await city.advance(advance_by="P31D")
    [over] = (await city.get("/v1/exemptions", SUP)).json()["items"]
    assert over["in_force"] is False
    await check_history(city, t)


async def test_g24_an_exemption_after_the_bulletin_restates_it_and_never_silently(city: City) -> None:
    t = await handled(city)
    await city.advance(advance_by="P40D")
    end = await now_of(city)
    await city.advance(advance_by="PT1H")
    bulletin = {"to": end.isoformat()}
    before = await figure(city, "overdue_rate", **bulletin)
    assert (before["numerator"], before["denominator"], before["excluded"], before["restated"]) == (1, 1, 0, [])
    told_at = (await now_of(city)).isoformat()
    done = await exempted(city, t)
    await city.advance(advance_by="PT1M")
    after = await figure(city, "overdue_rate", **bulletin)
    assert (after["numerator"], after["denominator"], after["value"], after["excluded"]) == (0, 0, None, 1)
    [restated] = after["restated"]
    assert (restated["exemption"], restated["code"], restated["by"]) == (done["id"], "outside_duty_confirmed", SUP)
    assert await figure(city, "overdue_rate", as_of=told_at, **bulletin) | {"tickets": ""} == before | {"tickets": ""}
    await send(city, f"exemptions/{done['id']}/revocation", OTHER_SUP, 200, reason="理由不成立")
    await city.advance(advance_by="PT1M")
    back = await figure(city, "overdue_rate", **bulletin)
    assert (back["denominator"], [r["change"] for r in back["restated"]]) == (1, ["revoked", "approved"])


async def test_g22_an_appeal_against_a_rating_is_decided_by_a_third_party_and_the_rating_stays(city: City) -> None:
    t = await handled(city)
    await called_back(city, t, **SAD)
    await city.advance(advance_by="PT2H")
    body = {
        "reason": "企业对政策不满",
        "code": "policy_only",
        "contact_note": "已再次联系",
        "expires_at": await later(city, days=90),
    }
    path = f"tickets/{t}/rating_appeals"
    await send(city, path, TAX, 422, **body, contacted_at=await later(city, hours=5))
    await send(city, path, TAX, 422, **body, contacted_at=await later(city, days=-9))
    await send(city, path, TAX, 409, **body, contacted_at=await later(city, hours=-1), round=7)
    asked = await send(city, path, TAX, **body, contacted_at=await later(city, hours=-1))
    assert (asked["scope"], asked["round"], asked["department"]) == ("rating", 1, "tax")
    assert (await figure(city, "satisfaction_rate"))["denominator"] == 1
    await send(city, f"exemptions/{asked['id']}/decision", SUP, 200, decision="approve", reason="属政策问题")
    await city.advance(advance_by="PT1M")
    satisfied = await figure(city, "satisfaction_rate")
    assert (satisfied["denominator"], satisfied["excluded"], satisfied["value"]) == (0, 1, None)
    contacted = await figure(city, "rework_rate")
    assert contacted["excluded"] == 0, "only the rating is left out"
    events = await check_history(city, t)
    rated = next(e for e in events if e["type"] == "ticket.record_callback")
    assert rated["data"]["form"]["satisfaction"] == "dissatisfied", "the original rating is kept"


async def test_an_appeal_needs_a_rating_and_is_for_the_unit_that_was_rated(city: City) -> None:
    t = await handled(city)
    body = {
        "reason": "x", "contact_note": "x", "contacted_at": await later(city, hours=-1),
        "expires_at": await later(city, days=9),
    }  # fmt: skip
    await send(city, f"tickets/{t}/rating_appeals", TAX, 409, **body)
    await city.act(t, "add_co_handler", TAX, department="water")
    await called_back(city, t, **SAD)
    await send(city, f"tickets/{t}/rating_appeals", WATER, 403, **{**body, "contacted_at": await later(city)})


async def test_the_check_finds_supervision_and_exemptions_that_the_history_does_not_tell_of(city: City) -> None:
    t = await handled(city)
    await send(city, f"tickets/{t}/supervisions", SUP, kind="urge", ground="overdue", reason="x")
    await exempted(city, t)

    async def found() -> dict[str, tuple[tuple[str, str], ...]]:
        return {f.code: f.first for f in (await integrity.check(city.house)).findings if f.offending}

    assert await found() == {}
    connection = await asyncpg.connect(**connect_arguments(city.dsn))
    try:
        await connection.execute("UPDATE supervisions SET state = 'lifted', lifted_at = now()")
        await connection.execute("UPDATE exemptions SET state = 'denied'")
    finally:
        await connection.close()
    number = (await city.show(t))["number"]
    assert await found() == {
        "beside": (
            (number, "exemption.approved of nothing"), (number, "no event exemption.denied"),
            (number, "no event supervision.lifted"),
        )
    }  # fmt: skip
