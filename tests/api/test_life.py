"""The main job by HTTP: a request's life from the hotline's post to its close, with the sandbox's clock."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service.db.session import connect_arguments
from service.usecases import audit
from tests.conftest import UNROUTED, City

TAX, WATER = "handler:tax", "handler:water"
REPLY = {"public_reply": "额度已增加，可以开票了。", "outcome": "solved"}
GLAD = {"reached": True, "solved": "yes", "satisfaction": "satisfied"}
SAD = {"reached": True, "solved": "no", "satisfaction": "dissatisfied", "reason": "result"}


def clock_of(ticket: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = [c for c in ticket["clocks"] if c["name"] == name][-1]
    return found


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def history(city: City, ticket: str) -> list[dict[str, Any]]:
    """Every event, in small pages."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        params = {"limit": "7", **({"cursor": cursor} if cursor else {})}
        page = (await city.get(f"/v1/tickets/{ticket}/events", params=params)).json()
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def check_history(city: City, ticket: str) -> list[dict[str, Any]]:
    """Numbered without gaps, in order of time, each with the hash of the one before; the whole verified."""
    events = await history(city, ticket)
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert [e["prev"] for e in events] == ["", *[e["hash"] for e in events[:-1]]]
    verdict = await audit.verify(city.house)
    assert verdict.broken == ()
    return events


async def decide(city: City, kind: str, decision: str, who: str = "dispatcher") -> dict[str, Any]:
    """Decide the one pending request of this kind."""
    [pending] = (await city.get("/v1/approvals", params={"state": "pending", "kind": kind})).json()["items"]
    answer = await city.post(f"/v1/approvals/{pending['id']}/decision", {"decision": decision, "reason": "可以"}, who)
    assert answer.status_code == 200, answer.text
    decided: dict[str, Any] = answer.json()
    return decided


async def reply_and_audit(city: City, ticket: str) -> dict[str, Any]:
    await city.act(ticket, "submit_reply", TAX, **REPLY)
    return await city.act(ticket, "approve_reply", "dispatcher")


# --- the straight way ------------------------------------------------------------------------------------------------


async def test_a_request_is_accepted_handled_answered_audited_called_back_and_closed(city: City) -> None:
    made = await city.ticket()
    t = made["id"]
    accepted = await city.act(t, "accept", TAX)
    assert (accepted["stage"], accepted["phase"]) == ("handling", "handling")
    assert clock_of(accepted, "accept")["state"] == "met"
    contacted = await city.act(t, "log_contact", TAX, reached=True, channel="phone", note="已联系会计")
    assert clock_of(contacted, "contact")["state"] == "met"
    planned = await city.act(t, "submit_plan", TAX, plan="核查开票数据后调整额度")
    assert clock_of(planned, "opinion")["state"] == "met"
    replied = await city.act(t, "submit_reply", TAX, **REPLY)
    assert (replied["phase"], clock_of(replied, "resolve")["state"]) == ("audit", "held")
    audited = await city.act(t, "approve_reply", "dispatcher")
    resolve = clock_of(audited, "resolve")
    assert (audited["phase"], resolve["state"]) == ("callback", "met")
    assert resolve["ended_at"] == clock_of(replied, "resolve")["held_at"], "met when the reply was submitted"
    closed = await city.act(t, "record_callback", "hotline", **GLAD)
    assert (closed["phase"], closed["outcome"], closed["lead"]["department"]) == ("closed", "solved", "tax")
    assert closed["closed_at"] and not [c for c in closed["clocks"] if c["state"] in {"running", "held", "paused"}]
    assert closed["public_reply"] == REPLY["public_reply"]
    events = await check_history(city, t)
    assert [e["type"] for e in events] == [
        "ticket.opened", "ticket.accept", "ticket.log_contact", "ticket.submit_plan", "ticket.submit_reply",
        "ticket.approve_reply", "ticket.record_callback",
    ]  # fmt: skip
    assert closed["version"] == 7
    assert (await city.get("/v1/queue")).json()["items"] == []


async def test_an_approved_return_goes_back_and_is_dispatched_to_another(city: City) -> None:
    t = (await city.ticket())["id"]
    asked = await city.act(t, "request_return", TAX, ground="not_our_duty", reason="属水务事项", legal_basis="职责清单")
    assert clock_of(asked, "accept")["state"] == "paused"
    assert clock_of(asked, "return_decision")["state"] == "running"
    refused = await city.post(f"/v1/tickets/{t}/actions/accept", {}, TAX)
    assert refused.status_code == 409
    await decide(city, "return", "approve")
    back = await city.show(t)
    assert (back["phase"], back["lead"]) == ("dispatch", None)
    assert clock_of(back, "resolve")["state"] == "running", "the enterprise's clock runs on"
    assert (await city.get(f"/v1/tickets/{t}", TAX)).status_code == 404
    sent = await city.act(t, "dispatch", "dispatcher", department="water", co_handlers=["housing_construction"])
    assert (sent["stage"], sent["lead"]["department"]) == ("accepting", "water")
    assert sent["co_handlers"] == ["housing_construction"]
    assert clock_of(sent, "resolve")["started_at"] == clock_of(back, "resolve")["started_at"]
    assert clock_of(sent, "accept")["state"] == "running"
    assert clock_of(sent, "co_reply")["state"] == "running"
    await city.act(t, "accept", "handler:housing_construction", 409)
    assert (await city.act(t, "accept", WATER))["stage"] == "handling"
    co = await city.act(t, "submit_reply", "handler:housing_construction", public_reply="协办意见")
    assert (co["stage"], clock_of(co, "co_reply")["state"]) == ("handling", "met")
    await check_history(city, t)


async def test_a_denied_return_leaves_the_unit_with_the_rest_of_its_time(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "request_return", TAX, ground="not_our_duty", reason="x")
    await decide(city, "return", "deny")
    again = await city.post(f"/v1/tickets/{t}/actions/request_return", {"ground": "duplicate", "reason": "x"}, TAX)
    assert again.status_code == 409
    assert clock_of(await city.show(t), "accept")["state"] == "running"
    assert (await city.act(t, "accept", TAX))["stage"] == "handling"


async def test_an_extension_moves_the_due_time_once(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "accept", TAX)
    before = clock_of(await city.show(t), "resolve")
    form = {"ground": "needs_test_or_expert", "days": 5, "reason": "需检测"}
    await city.act(t, "request_extension", TAX, **form)
    await decide(city, "extension", "approve", "supervisor")
    after = clock_of(await city.show(t), "resolve")
    assert (before["budget"], after["budget"]) == (15, 20)
    assert moment(after["due_at"]) > moment(before["due_at"])
    assert after["original_due_at"] == before["due_at"]
    refused = await city.post(f"/v1/tickets/{t}/actions/request_extension", form, TAX)
    assert refused.status_code == 409
    await check_history(city, t)


async def test_a_pause_stops_the_clock_from_the_asking_on_and_resuming_runs_it_again(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "accept", TAX)
    before = clock_of(await city.show(t), "resolve")
    await city.act(t, "request_pause", TAX, kind="waiting_enterprise", reason="等企业材料")
    await decide(city, "pause", "approve")
    paused = await city.show(t)
    assert (paused["phase"], clock_of(paused, "resolve")["state"]) == ("waiting", "paused")
    await city.advance(advance_by="P4D")
    resumed = await city.act(t, "resume", TAX)
    resolve = clock_of(resumed, "resolve")
    assert (resumed["phase"], resolve["state"]) == ("handling", "running")
    assert moment(resolve["due_at"]) > moment(before["due_at"])
    told = (await city.get(f"/v1/tickets/{t}/clocks/{resolve['id']}/explanation")).json()
    assert told["sum"] == told["budget"]
    assert told["due_at"] == resolve["due_at"]
    assert [s["kind"] for s in told["segments"]] == ["waiting_enterprise"]
    await check_history(city, t)


async def test_a_pause_ends_by_itself_at_its_cap(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "accept", TAX)
    await city.act(t, "request_pause", TAX, kind="force_majeure", reason="x", evidence="停电通知", days=2)
    await decide(city, "pause", "approve")
    cap = clock_of(await city.show(t), "pause_cap")["due_at"]
    await city.advance(advance_by="P10D")
    shown = await city.show(t)
    assert (shown["phase"], clock_of(shown, "resolve")["state"]) == ("handling", "running")
    [breach] = [e for e in await history(city, t) if e["data"].get("clock") == "pause_cap"]
    assert breach["occurred_at"] == cap


async def test_a_dissatisfied_enterprise_gets_a_second_round_with_a_clock_of_its_own(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "accept", TAX)
    await reply_and_audit(city, t)
    again = await city.act(t, "record_callback", "hotline", **SAD)
    assert (again["round"], again["phase"]) == (2, "handling")
    first, second = (c for c in again["clocks"] if c["name"] == "resolve")
    assert (first["state"], second["state"], second["budget"]) == ("met", "running", 8)
    await reply_and_audit(city, t)
    third = await city.act(t, "record_callback", "hotline", **SAD)
    assert third["round"] == 3
    await reply_and_audit(city, t)
    stuck = await city.act(t, "record_callback", "hotline", **SAD)
    assert (stuck["phase"], stuck["review"]["state"]) == ("review", "proposed"), "three rounds were not enough"
    await check_history(city, t)


async def test_a_rejected_reply_counts_as_never_held(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "accept", TAX)
    due = clock_of(await city.show(t), "resolve")["due_at"]
    await city.act(t, "submit_reply", TAX, **REPLY)
    back = await city.act(t, "reject_reply", "supervisor", reason="没有回答问题")
    resolve = clock_of(back, "resolve")
    assert (back["phase"], resolve["state"], resolve["due_at"]) == ("handling", "running", due)


# --- one matter, one discussion --------------------------------------------------------------------------------------


async def step(city: City, path: str, who: str, status: int = 200, **form: Any) -> dict[str, Any]:
    answer = await city.post(path, form, who)
    assert answer.status_code == status, answer.text
    done: dict[str, Any] = answer.json()
    return done


async def test_a_hard_case_is_escalated_discussed_decided_and_closed_when_its_measures_are_done(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "accept", TAX)
    raised = await city.act(t, "escalate", TAX, reason="涉及多部门", asked="请明确牵头单位", tried="两次协调")
    review = f"/v1/reviews/{raised['review']['id']}"
    assert [r["id"] for r in (await city.get("/v1/reviews", "reviewer")).json()["items"]] == [raised["review"]["id"]]
    await step(city, f"{review}/actions/screen", "dispatcher", 403, decision="accept")
    await step(city, f"{review}/actions/screen", "reviewer", decision="accept", reason="同意上会")
    assert (await city.show(t))["phase"] == "review"
    await step(city, f"{review}/actions/request_opinions", "reviewer", departments=["water", "finance"])
    given = await step(city, f"{review}/actions/give_opinion", WATER, position="condition", text="须先验收")
    assert [o["department"] for o in given["opinions"]] == ["water"], "others' opinions are not shown before the end"
    await step(city, f"{review}/actions/give_opinion", "handler:customs", 404, position="agree")
    due = (moment((await city.get("/v1/sandbox/clock")).json()["now"]) + timedelta(days=9)).date().isoformat()
    await step(city, f"{review}/actions/give_opinion", "handler:finance", position="agree")
    for gate in ("competence", "confidentiality", "recusal"):
        await step(city, f"{review}/actions/pass_gate", "reviewer", gate=gate)
    decided = await step(
        city, f"{review}/actions/decide", "reviewer", decision="approve_with_conditions", text="由税务牵头", dissent="无",
        conditions="须先验收",
        measures=[
            {"title": "调整额度", "department": "tax", "due_on": due},
            {"title": "回访", "department": "water", "due_on": due, "mandatory": False},
        ],
    )  # fmt: skip
    assert decided["state"] == "decided"
    mandatory, other = sorted(decided["measures"], key=lambda m: not m["mandatory"])
    measure = f"/v1/measures/{mandatory['id']}"

    refused = await city.post(f"/v1/tickets/{t}/actions/withdraw", {"reason": "企业撤诉"}, "hotline")
    assert refused.status_code == 409, "a mandatory measure is open"
    assert refused.json()["measures"] == ["调整额度"]
    assert (await city.show(t))["phase"] == "review"

    await step(city, f"{measure}/actions/strike_off", "reviewer", 409)
    await step(city, f"{measure}/actions/report", WATER, 403, text="不是我的")
    await step(city, f"{measure}/actions/report", TAX, text="进行中")
    await step(city, f"{measure}/actions/submit_evidence", TAX, evidence="批复文件")
    struck = await step(city, f"{measure}/actions/strike_off", "reviewer", enterprise_opinion="satisfied")
    assert (struck["state"], struck["clock_state"]) == ("struck_off", "met")
    waiting = await city.show(t)
    assert (waiting["phase"], waiting["review"]["state"]) == ("callback", "completed")
    assert clock_of(waiting, "resolve")["state"] == "met"
    closed = await city.act(t, "record_callback", "hotline", **GLAD)
    assert closed["phase"] == "closed"
    left = (await city.get("/v1/measures", "reviewer")).json()["items"]
    assert {m["id"]: m["state"] for m in left} == {mandatory["id"]: "struck_off", other["id"]: "waived"}
    events = await check_history(city, t)
    assert {"review.proposed", "review.accepted", "review.decided", "review.completed", "measure.struck_off"} <= {
        e["type"] for e in events
    }


# --- who comes late, and what is not possible ------------------------------------------------------------------------


async def test_a_stale_if_match_is_412_and_changes_nothing(city: City) -> None:
    t = (await city.ticket())["id"]
    seen = (await city.get(f"/v1/tickets/{t}")).headers["etag"]
    await city.act(t, "comment", "dispatcher", text="先到")
    path = f"/v1/tickets/{t}/actions/accept"
    late = await city.post(path, {}, TAX, headers={"If-Match": seen})
    assert late.status_code == 412
    assert late.json()["current"] == '"2"'
    assert (await city.show(t))["version"] == 2
    assert (await city.post(path, {}, TAX, headers={"If-Match": '"2"'})).status_code == 200
    again = await city.post(f"/v1/tickets/{t}/actions/comment", {"text": "x"}, TAX, headers={"If-Match": "*"})
    assert again.status_code == 200


async def test_an_action_that_is_not_possible_is_409_naming_stage_and_actions(city: City) -> None:
    t = (await city.ticket())["id"]
    refused = await city.post(f"/v1/tickets/{t}/actions/submit_reply", REPLY, TAX)
    assert refused.status_code == 409
    problem = refused.json()
    assert problem["type"] == "/problems/action-not-possible"
    assert (problem["stage"], problem["phase"]) == ("accepting", "acceptance")
    listed = (await city.get(f"/v1/tickets/{t}/actions", TAX)).json()
    assert sorted(problem["actions"]) == sorted(a["name"] for a in listed["items"])
    assert "accept" in problem["actions"] and "submit_reply" not in problem["actions"]
    for action in listed["items"]:
        assert action["form"]["type"] == "object" and action["title"]


async def test_two_posts_of_one_action_with_one_key_at_once_are_one_action(city: City) -> None:
    import asyncio

    t = (await city.ticket())["id"]
    path, headers = f"/v1/tickets/{t}/actions/accept", {"Idempotency-Key": "k"}
    answers = await asyncio.gather(*(city.post(path, {}, TAX, headers=headers) for _ in range(12)))
    assert {a.status_code for a in answers} == {200}, [a.text for a in answers if a.status_code != 200]
    assert len({a.content for a in answers}) == 1
    assert sum("idempotent-replayed" not in a.headers for a in answers) == 1
    assert (await city.show(t))["version"] == 2


async def test_an_action_repeated_with_its_key_is_answered_as_before_even_when_it_is_not_possible_any_more(
    city: City,
) -> None:
    t = (await city.ticket())["id"]
    path = f"/v1/tickets/{t}/actions/accept"
    first = await city.post(path, {}, TAX, headers={"Idempotency-Key": '"k"', "If-Match": '"1"'})
    again = await city.post(path, {}, TAX, headers={"Idempotency-Key": "k", "If-Match": '"1"'})
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    other = await city.post(path, {"note": "x"}, TAX, headers={"Idempotency-Key": "k"})
    assert other.status_code == 422


# --- lists -----------------------------------------------------------------------------------------------------------


async def test_one_action_on_many_gives_a_result_for_each(city: City) -> None:
    ids = [(await city.ticket())["id"] for _ in range(3)]
    foreign = (await city.ticket(**UNROUTED))["id"]
    await city.act(ids[1], "accept", TAX)
    body = {"ids": [*ids, foreign, "nothing", ids[0]], "form": {"note": "批量"}}
    answer = await city.post("/v1/queue/actions/accept", body, TAX)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [r["id"] for r in results] == body["ids"]
    assert [r.get("status") for r in results] == [200, None, 200, None, None, None]
    told = [r["problem"]["type"].rpartition("/")[2] for r in results if "problem" in r]
    assert told == ["action-not-possible", "not-found", "not-found", "action-not-possible"]
    assert results[3]["problem"] == results[4]["problem"], "another department's is as if it were not there"


async def test_the_queue_is_in_order_of_due_times_and_its_pages_hold_still_while_tickets_change(city: City) -> None:
    made = []
    for n in range(23):
        urgency = "emergency" if n % 5 == 0 else "normal"
        made.append((await city.ticket(urgency=urgency, title=f"第{n}件"))["id"])
    seen: list[dict[str, Any]] = []
    path: str | None = "/v1/queue?limit=4"
    touched: set[str] = set()
    while path is not None:
        answer = await city.get(path, TAX)
        page = answer.json()
        seen += page["items"]
        if page["next_cursor"] is None:
            assert "link" not in answer.headers
            break
        path = answer.headers["link"].partition(">")[0].removeprefix("<http://test")
        # what comes later leaves the queue's head or enters it: nobody else is skipped or shown twice
        last = page["items"][-1]["id"]
        await city.act(last, "comment", "dispatcher", text="x")
        if len(touched) < 2 and page["items"][0]["stage"] == "accepting":
            await city.act(page["items"][0]["id"], "withdraw", "hotline", reason="x")
            touched.add(page["items"][0]["id"])
        await city.ticket(urgency="emergency", title="新来的", source={"received_at": "2026-01-01T00:00:00Z"})
    ids = [row["id"] for row in seen]
    assert len(set(ids)) == len(ids)
    assert set(made) <= set(ids)
    dues = [moment(row["due_at"]) for row in seen]
    assert dues == sorted(dues)


async def test_a_paused_ticket_without_a_due_time_comes_last_and_can_be_paged_over(city: City) -> None:
    ids = [(await city.ticket())["id"] for _ in range(3)]
    async with city.house.db.pool.acquire() as connection, connection.transaction():
        await connection.execute("RESET ROLE")
        await connection.execute("UPDATE tickets SET next_due_at = NULL WHERE id = ANY($1::uuid[])", ids[:2])
        await connection.execute("UPDATE open_tickets SET due = 'infinity' WHERE ticket_id = ANY($1::uuid[])", ids[:2])
    seen, cursor = [], None
    for _ in range(3):
        params = {"limit": "1", **({"cursor": cursor} if cursor else {})}
        page = (await city.get("/v1/queue", params=params)).json()
        seen += [row["id"] for row in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [ids[2], *ids[:2]]
    assert cursor is None


async def test_filters_of_the_queue(city: City) -> None:
    t = (await city.ticket(title="独一无二的事"))["id"]
    other = (await city.ticket(**UNROUTED))["id"]
    await city.act(t, "accept", "zhang@handler:tax")

    async def ids(who: str = "dispatcher", **params: str) -> list[str]:
        return [row["id"] for row in (await city.get("/v1/queue", who, params=params)).json()["items"]]

    assert await ids(q="独一无二") == [t]
    assert await ids(phase="dispatch") == [other]
    assert await ids(department="tax") == [t]
    assert await ids("zhang@handler:tax", assignee="me") == [t]
    assert await ids("li@handler:tax", assignee="me") == []
    assert await ids(due_before="2026-01-01T00:00:00Z") == []
    assert (await city.get("/v1/queue", TAX, params={"department": "water"})).status_code == 403


# --- history ---------------------------------------------------------------------------------------------------------


TAMPERINGS = {
    "another word": "UPDATE events SET data = '{}' WHERE seq = 2",
    "another time": "UPDATE events SET occurred_at = occurred_at - interval '1 hour' WHERE seq = 2",
    "another person": "UPDATE events SET actor = jsonb_set(actor, '{subject}', '\"x\"') WHERE seq = 2",
    "one taken out": "DELETE FROM events WHERE seq = 2",
    "the tail cut": "DELETE FROM events WHERE seq >= 2",
    "two exchanged": "UPDATE events SET seq = CASE seq WHEN 2 THEN 30 WHEN 3 THEN 20 ELSE seq END",
    "the head forgotten": "UPDATE tickets SET last_seq = 1",
}


@pytest.mark.parametrize("how", TAMPERINGS)
async def test_a_changed_history_is_found_with_its_first_bad_event(city: City, how: str) -> None:
    good = await city.ticket(title="好的")
    t = await city.ticket()
    await city.act(t["id"], "accept", TAX)
    await city.act(t["id"], "comment", TAX, text="x")
    assert (await audit.verify(city.house)).broken == ()
    connection = await asyncpg.connect(**connect_arguments(city.dsn))
    try:
        sql = TAMPERINGS[how]
        column = "id" if " tickets " in sql else "ticket_id"
        glue = " AND" if "WHERE" in sql else " WHERE"
        await connection.execute("ALTER TABLE events DISABLE TRIGGER USER")
        await connection.execute(f"{sql}{glue} {column} = '{t['id']}'")
    finally:
        await connection.close()
    verdict = await audit.verify(city.house)
    first_bad = 4 if how == "the head forgotten" else 2  # there the events are whole: what is wrong follows them
    assert verdict.broken == ((t["number"], first_bad),), how
    assert verdict.tickets == 2 and good["number"] not in str(verdict.broken)


# --- F4: nobody touches it -------------------------------------------------------------------------------------------


async def explanations(city: City, ticket: dict[str, Any]) -> dict[str, dict[str, Any]]:
    told = {}
    for c in ticket["clocks"]:
        answer = await city.get(f"/v1/tickets/{ticket['id']}/clocks/{c['id']}/explanation")
        told[c["id"]] = answer.json()
        assert told[c["id"]]["sum"] == told[c["id"]]["budget"]
        assert told[c["id"]]["due_at"] == c["due_at"]
    return told


@pytest.mark.parametrize("domain", ["business_development", "consultation"])
@pytest.mark.parametrize("steps", [["P120D"], ["PT7H13M", "P1DT0.000001S", "P2DT19H", "P13DT5H", "P31D", "P73D"]])
async def test_an_untouched_ticket_goes_its_way_at_exactly_the_instants_told_before(
    city: City, domain: str, steps: list[str]
) -> None:
    made = await city.ticket(domain=domain)
    told = await explanations(city, made)
    for by in steps:
        await city.advance(advance_by=by)
    shown = await city.show(made["id"])
    events = await check_history(city, made["id"])
    fired = {
        (e["data"]["clock_id"], e["data"]["rung"]): e for e in events if e["type"] in {"clock.fired", "clock.breached"}
    }
    by_name = {c["name"]: c["id"] for c in made["clocks"]}
    for name, rung in [("resolve", r) for r in ("warning", "yellow", "breach", "red", "review")] + [
        ("contact", "warning"), ("contact", "breach"), ("opinion", "breach"), ("accept", "warning"),
        ("accept", "breach"),
    ]:  # fmt: skip
        assert (by_name[name], rung) in fired, (name, rung)
    compared = 0
    for clock_id, explanation in told.items():
        rungs = {r["name"]: r["at"] for r in explanation["rungs"]}
        for (owner, rung), event in fired.items():
            if owner == clock_id:
                assert event["occurred_at"] == rungs[rung], (explanation["clock"]["name"], rung)
                assert moment(event["data"]["fired_at"]) == moment(rungs[rung])
                compared += 1
        stored = await firings(city, clock_id)
        assert {r: at for r, (at, _) in stored.items()} == {r: moment(rungs[r]) for r in stored}
        assert all(due == fired_at for due, fired_at in stored.values())
    assert compared >= 12
    order = [moment(e["occurred_at"]) for e in events]
    assert order == sorted(order)
    assert shown["phase"] == "handling", "accepted by silence"
    resolve = {r["name"]: r["at"] for r in told[by_name["resolve"]]["rungs"]}
    assert [(c["level"], c["at"]) for c in shown["cards"]] == [("yellow", resolve["yellow"]), ("red", resolve["red"])]
    [proposal] = (await city.get("/v1/reviews", "reviewer")).json()["items"]
    assert proposal["proposed_at"] == resolve["review"]
    assert (proposal["state"], proposal["grounds"]) == ("proposed", ["overdue"])
    assert clock_of(shown, "resolve")["state"] == "breached_running"
    assert clock_of(shown, "resolve")["breached_at"] == resolve["breach"]


async def firings(city: City, clock_id: str) -> dict[str, tuple[datetime, datetime]]:
    connection = await asyncpg.connect(**connect_arguments(city.dsn))
    try:
        rows = await connection.fetch("SELECT rung, due_at, fired_at FROM firings WHERE clock_id = $1", clock_id)
        return {r["rung"]: (r["due_at"], r["fired_at"]) for r in rows}
    finally:
        await connection.close()


async def test_history_is_the_same_whether_the_clock_moves_in_one_step_or_in_many(city: City) -> None:
    one = await city.ticket(title="甲")
    start = moment((await city.get("/v1/sandbox/clock")).json()["now"])
    for hours in (1, 2, 3, 50, 51, 52, 700, 701, 1500):
        await city.advance(advance_to=(start + timedelta(hours=hours)).isoformat())
    events = await history(city, one["id"])
    keys = [(e["type"], e["data"].get("clock"), e["data"].get("rung"), e["occurred_at"]) for e in events]
    assert len(keys) == len({json.dumps(k) for k in keys}), "each rung once"
