"""`check` on a city that has lived for weeks: nothing offends; each damage is named by its own rule and ticket."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.core.invariants import RULES
from service.db.session import connect_arguments
from service.integrations.identity_provider import BuiltinIssuer
from service.usecases import clocks, integrity
from service.usecases.integrity import Report
from tests.api.sittings import issued, sat
from tests.conftest import UNROUTED, City, cloned_database, opened_city, opened_house, request_body

ROOT = Path(__file__).resolve().parents[2]
TAX, WATER = "handler:tax", "handler:water"
REPLY = {"public_reply": "额度已增加，可以开票了。", "outcome": "solved"}
GLAD = {"reached": True, "solved": "yes", "satisfaction": "satisfied"}
SAD = {"reached": True, "solved": "no", "satisfaction": "dissatisfied", "reason": "result"}
PAUSE = {"kind": "waiting_enterprise", "reason": "等企业材料"}
RETURN = {"ground": "not_our_duty", "reason": "属水务事项"}
EXTENSION = {"ground": "needs_test_or_expert", "days": 5, "reason": "需检测"}


async def decide(city: City, ticket: str, kind: str, decision: str) -> None:
    items = (await city.get("/v1/approvals", params={"state": "pending", "kind": kind})).json()["items"]
    [pending] = [a for a in items if a["ticket"]["id"] == ticket]
    answer = await city.post(f"/v1/approvals/{pending['id']}/decision", {"decision": decision, "reason": "可以"})
    assert answer.status_code == 200, answer.text


async def accepted(city: City, **changes: Any) -> str:
    t: str = (await city.ticket(**changes))["id"]
    await city.act(t, "accept", TAX)
    return t


async def reply(city: City, t: str) -> None:
    await city.act(t, "submit_reply", TAX, **REPLY)
    await city.act(t, "approve_reply", "dispatcher")


async def in_review(city: City, t: str) -> str:
    """Proposed, screened, decided with one measure of the tax bureau; the measure's address."""
    raised = await city.act(t, "escalate", TAX, reason="涉及多部门")
    review = f"/v1/reviews/{raised['review']['id']}/actions"
    now = datetime.fromisoformat((await city.get("/v1/sandbox/clock")).json()["now"])
    due_on = (now + timedelta(days=20)).date().isoformat()
    for step, form in (
        ("screen", {"decision": "accept", "tier": 1}),
        ("request_opinions", {"departments": ["water"]}),
        *(("pass_gate", {"gate": gate}) for gate in ("competence", "confidentiality", "recusal")),
        ("give_opinion", {"position": "agree"}),
        ("decide", {"decision": "approve", "text": "由税务牵头",
                    "measures": [{"title": "调整额度", "department": "tax", "due_on": due_on}]}),
    ):  # fmt: skip
        done = await city.post(f"{review}/{step}", form, "handler:water" if step == "give_opinion" else "reviewer")
        assert done.status_code == 200, done.text
    return f"/v1/measures/{done.json()['measures'][0]['id']}/actions"


async def supervised(city: City, t: str) -> None:
    """A card, a slip, and an exemption that is approved and taken back."""
    now = datetime.fromisoformat((await city.get("/v1/sandbox/clock")).json()["now"])
    asked = {"code": "hotline_error", "reason": "派错", "expires_at": (now + timedelta(days=900)).isoformat()}
    slip = {"kind": "slip", "ground": "overdue", "reason": "r", "answer_by": (now + timedelta(days=3)).isoformat()}
    for path, form in (("cards", {"level": "yellow", "reason": "r"}), ("supervisions", slip), ("exemptions", asked)):
        done = await city.post(f"/v1/tickets/{t}/{path}", form, "supervisor")
        assert done.status_code == 201, done.text
    exemption = f"/v1/exemptions/{done.json()['id']}"
    for path, form in (("decision", {"decision": "approve", "reason": "r"}), ("revocation", {"reason": "r"})):
        done = await city.post(f"{exemption}/{path}", form, "second@supervisor")
        assert done.status_code == 200, done.text


async def live(city: City) -> dict[str, str]:
    """Weeks of a city: every way a ticket goes. What it is -> its number."""
    made: dict[str, str] = {}
    meeting, review = await sat(city, "一家开过会的公司")
    await issued(city, meeting)
    made["decided at a meeting"] = (await city.get(f"/v1/reviews/{review}", "reviewer")).json()["ticket"]["id"]
    made["answered"] = t = await accepted(city)
    await city.act(t, "log_contact", TAX, reached=True)
    await city.post(f"/v1/tickets/{t}/contact/reveal", {"reason": "回拨"}, TAX)
    await reply(city, t)
    await city.act(t, "record_callback", "hotline", **GLAD)
    made["untouched"] = (await city.ticket(**UNROUTED))["id"]
    made["silent"] = (await city.ticket())["id"]
    await supervised(city, made["silent"])
    made["paused"] = t = await accepted(city)
    await city.act(t, "request_pause", TAX, **PAUSE)
    await decide(city, t, "pause", "approve")
    made["capped"] = t = await accepted(city)
    await city.act(t, "request_pause", TAX, **PAUSE, days=2)
    await decide(city, t, "pause", "approve")
    made["extended"] = t = await accepted(city)
    await city.act(t, "request_extension", TAX, **EXTENSION)
    made["denied a return"] = returned = (await city.ticket())["id"]
    await city.act(returned, "request_return", TAX, **RETURN)
    await city.advance(advance_by="P1DT3H")
    await decide(city, t, "extension", "approve")
    await decide(city, returned, "return", "deny")
    await city.act(made["paused"], "resume", TAX)
    made["in its second round"] = t = await accepted(city, enterprise={"name": "另一家公司"})
    await city.act(t, "add_co_handler", TAX, department="water")
    await city.act(t, "submit_reply", TAX, **REPLY)
    await city.advance(advance_by="P3DT1H")
    await city.act(t, "reject_reply", "supervisor", reason="没有回答问题")
    await reply(city, t)
    await city.act(t, "record_callback", "hotline", **SAD)
    made["withdrawn"] = t = await accepted(city)
    await city.act(t, "withdraw", "hotline", reason="企业撤诉")
    made["discussed"] = t = await accepted(city)
    measure = await in_review(city, t)
    made["under review"] = await accepted(city)
    await in_review(city, made["under review"])
    await city.advance(advance_by="P9D")
    for step, form, who in (
        ("report", {"text": "进行中"}, TAX),
        ("submit_evidence", {"evidence": "批复"}, TAX),
        ("strike_off", {"enterprise_opinion": "satisfied"}, "reviewer"),
    ):  # fmt: skip
        done = await city.post(f"{measure}/{step}", form, who)
        assert done.status_code == 200, done.text
    made["asked late"] = t = await accepted(city)
    await city.act(t, "request_extension", TAX, **EXTENSION)
    await city.advance(advance_by="P40D")
    made["an emergency now"] = t = await accepted(city)
    await city.act(t, "request_extension", TAX, **EXTENSION)
    await city.act(t, "reclassify", "dispatcher", urgency="emergency", reason="停产")
    made["an emergency too late"] = t = await accepted(city)
    await city.advance(advance_by="P4D")
    await city.act(t, "reclassify", "dispatcher", urgency="emergency", reason="停产")
    made["merged"], made["the survivor"] = t, other = await accepted(city), await accepted(city)
    await city.act(t, "merge", "dispatcher", into=other, reason="同一件事")
    made["split"] = t = await accepted(city)
    parts = [{"title": "其一", "description": "用水的事", "department": "water"}]
    await city.act(t, "split", "dispatcher", parts=parts, reason="两件事")
    made["taken up again"] = t = await accepted(city)
    await reply(city, t)
    await city.act(t, "record_callback", "hotline", **GLAD)
    await city.advance(advance_by="P3D")
    await city.act(t, "reopen", "hotline", reason="问题又出现")
    made["met after its warning"] = t = await accepted(city)
    resolve = next(c["id"] for c in (await city.show(t))["clocks"] if c["name"] == "resolve")
    told = (await city.get(f"/v1/tickets/{t}/clocks/{resolve}/explanation")).json()
    warning = datetime.fromisoformat(next(r["at"] for r in told["rungs"] if r["name"] == "warning"))
    await city.advance(advance_to=warning.astimezone(UTC).isoformat())
    await reply(city, t)
    made["fresh"] = (await city.ticket())["id"]
    made["waiting for its audit"] = t = await accepted(city)
    await city.act(t, "submit_reply", TAX, **REPLY)
    keyed = await city.post("/v1/tickets", request_body(), "hotline", headers={"Idempotency-Key": "once"})
    assert keyed.status_code == 201
    return {what: (await city.show(ticket))["number"] for what, ticket in made.items()}


class Town:
    """A database that a city has lived in, and what is in it."""

    def __init__(self, dsn: str, numbers: dict[str, str]) -> None:
        self.dsn, self.numbers = dsn, numbers

    async def run(self, *statements: str) -> None:
        """As the owner, with no trigger in the way."""
        connection = await asyncpg.connect(**connect_arguments(self.dsn))
        try:
            for table in ("events", "firings", "audit"):
                await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            for sql in statements:
                assert (await connection.execute(sql)).split()[-1] != "0", f"damages nothing: {sql}"
            for table in ("events", "firings", "audit"):
                await connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        finally:
            await connection.close()

    async def check(self) -> Report:
        async with opened_house(self.dsn, sandbox=True) as house:
            return await integrity.check(house)

    def __repr__(self) -> str:
        return "Town()"


@pytest.fixture(scope="module")
async def lived_in(server_dsn: str, template: str, issuer: BuiltinIssuer) -> AsyncIterator[Town]:
    """Lived in once for all tests of this module; nobody is connected to it afterwards, so that it can be cloned."""
    async with cloned_database(server_dsn, template) as dsn:
        async with opened_city(dsn, issuer) as city:
            numbers = await live(city)
        yield Town(dsn, numbers)


@pytest.fixture
async def town(server_dsn: str, lived_in: Town) -> AsyncIterator[Town]:
    name = lived_in.dsn.rpartition("@/")[2].partition("?")[0]
    async with cloned_database(server_dsn, name) as dsn:
        yield Town(dsn, lived_in.numbers)


def offenders(report: Report) -> dict[str, set[str]]:
    return {f.code: {where for where, _ in f.first} for f in report.findings if f.offending}


async def test_a_city_that_has_lived_for_weeks_offends_nothing_and_every_rule_has_looked(town: Town) -> None:
    report = await town.check()
    assert offenders(report) == {}, [f for f in report.findings if f.offending]
    assert report.tickets == len(town.numbers) + 2, "one with a key and one that was split off besides"
    assert (report.set_aside, report.dead, report.pump_at_work) == (0, 0, True)
    looked = {f.code: f.looked for f in report.findings}
    assert set(looked) == {*(rule.code for rule in RULES), "I11", "M1", "schema", "texts", "queue", "beside"}
    assert {f"I{n}" for n in range(1, 15)} <= set(looked)
    assert [code for code, n in looked.items() if n == 0] == []
    assert json.loads(json.dumps(report.as_dict()))["offending"] == 0


CLOCK = "UPDATE clocks SET {} WHERE ticket_id = (SELECT id FROM tickets WHERE number = '{}') AND {}"
DAMAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "a due time that its ledger does not give": (
        "projection", "fresh", (CLOCK.format("due_at = due_at + interval '1 second'", "{n}", "name = 'contact'"),),
    ),
    "a timer at another time": (
        "projection", "fresh",
        (CLOCK.format("next_fire_at = next_fire_at - interval '1 second'", "{n}", "name = 'contact'"),),
    ),
    "a due time that is called provisional": (
        "projection", "fresh", (CLOCK.format("provisional = NOT provisional", "{n}", "name = 'resolve'"),),
    ),
    "a ticket with another clock's due time": (
        "projection", "fresh", ("UPDATE tickets SET next_due_at = next_due_at + interval '1 hour' WHERE number = '{n}'",),
    ),
    "an ended clock whose due time cannot be explained": (
        "explanation", "answered", (CLOCK.format("due_at = due_at + interval '1 day'", "{n}", "name = 'resolve'"),),
    ),
    "a pause without an end and nothing else": (
        "P3", "fresh",
        (CLOCK.format("state = 'held', next_fire_at = NULL, segments = '[{{\"kind\": \"held\", \"start\":"
                      " \"2030-01-01T00:00:00Z\", \"end\": null, \"until\": null, \"reason\": \"\", \"by\": \"x\"}}]'",
                      "{n}", "next_fire_at IS NOT NULL"),
         "UPDATE tickets SET next_due_at = NULL WHERE number = '{n}'"),
    ),
    "a paused clock that does not say since when": (
        "P3", "fresh",
        (CLOCK.format("state = 'paused', next_fire_at = NULL", "{n}", "name = 'contact'"),
         "UPDATE tickets t SET next_due_at = (SELECT min(due_at) FROM clocks c WHERE c.ticket_id = t.id"
         " AND state = 'running') WHERE number = '{n}'"),
    ),
    "a rung that its clock names and that never fired": (
        "I2", "answered", (CLOCK.format("fired = fired || '{{red}}'", "{n}", "name = 'resolve'"),),
    ),
    "a rung that its clock has forgotten": (
        "I2", "met after its warning", (CLOCK.format("fired = '{{}}'", "{n}", "name = 'resolve'"),),
    ),
    "a firing that is gone": (
        "I3", "met after its warning",
        ("DELETE FROM firings f USING clocks c, tickets t WHERE f.clock_id = c.id AND c.ticket_id = t.id"
         " AND t.number = '{n}' AND c.name = 'resolve'",
         CLOCK.format("fired = '{{}}'", "{n}", "name = 'resolve'")),
    ),
    "a firing that no event tells of": (
        "I3", "answered",
        ("INSERT INTO firings SELECT c.id, 'red', c.ticket_id, c.anchor, c.anchor, 'fired' FROM clocks c"
         " JOIN tickets t ON t.id = c.ticket_id WHERE t.number = '{n}' AND c.name = 'resolve'",
         CLOCK.format("fired = fired || '{{red}}'", "{n}", "name = 'resolve'")),
    ),
    "an effect at another instant than the due one": (
        "I4", "silent",
        ("UPDATE firings f SET due_at = f.due_at - interval '1 second' FROM clocks c, tickets t WHERE f.clock_id = c.id"
         " AND c.ticket_id = t.id AND t.number = '{n}' AND f.rung = 'red'",),
    ),
    "a timer that fired too early": (
        "I5", "silent",
        ("UPDATE firings f SET fired_at = f.due_at - interval '1 second' FROM clocks c, tickets t WHERE f.clock_id = c.id"
         " AND c.ticket_id = t.id AND t.number = '{n}' AND f.rung = 'red'",),
    ),
    "a timer that fired at another time than its event tells": (
        "I5", "silent",
        ("UPDATE firings f SET fired_at = f.due_at + interval '1 hour' FROM clocks c, tickets t WHERE f.clock_id = c.id"
         " AND c.ticket_id = t.id AND t.number = '{n}' AND f.rung = 'red'",),
    ),
    "a running clock without a timer": (
        "I6", "fresh", (CLOCK.format("next_fire_at = NULL", "{n}", "name = 'contact'"),),
    ),
    "an ended clock with a timer": (
        "I6", "answered", (CLOCK.format("next_fire_at = '2999-01-01Z'", "{n}", "name = 'resolve'"),),
    ),
    "a breach taken back": (
        "I7", "silent", (CLOCK.format("state = 'met', breached_at = NULL", "{n}", "name = 'accept'"),),
    ),
    "a breach at another time": (
        "I7", "silent", (CLOCK.format("breached_at = breached_at - interval '1 hour'", "{n}", "name = 'resolve'"),),
    ),
    "met, but late": (
        "I7", "answered", (CLOCK.format("ended_at = due_at + interval '1 second'", "{n}", "name = 'resolve'"),),
    ),
    "an event with other words": (
        "I8", "answered",
        ("UPDATE events e SET actor = jsonb_set(actor, '{{subject}}', '\"x\"') FROM tickets t"
         " WHERE t.id = e.ticket_id AND t.number = '{n}' AND e.type = 'ticket.accept'",),
    ),
    "an event less than the ticket says": (
        "I8", "answered", ("UPDATE tickets SET last_seq = last_seq + 1 WHERE number = '{n}'",),
    ),
    "a stage no event leads to": (
        "I9", "fresh", ("UPDATE tickets SET stage = 'handling', phase = 'handling' WHERE number = '{n}'",),
    ),
    "a phase that is not its stage's": ("I9", "fresh", ("UPDATE tickets SET phase = 'handling' WHERE number = '{n}'",)),
    "a round that never began": ("I9", "fresh", ("UPDATE tickets SET round = 2 WHERE number = '{n}'",)),
    "a request that nobody approved": (
        "I9", "denied a return",
        ("UPDATE approvals a SET state = 'approved' FROM tickets t WHERE t.id = a.ticket_id AND t.number = '{n}'",),
    ),
    "a review that nobody refused": (
        "I9", "under review",
        ("UPDATE reviews r SET state = 'refused' FROM tickets t WHERE t.id = r.ticket_id AND t.number = '{n}'",),
    ),
    "a measure that nobody struck off": (
        "I9", "under review",
        ("UPDATE measures m SET state = 'struck_off' FROM tickets t WHERE t.id = m.ticket_id AND t.number = '{n}'",),
    ),
    "a message that never went out": (
        "I10", "answered",
        ("DELETE FROM outbox o USING tickets t WHERE t.id = o.ticket_id AND t.number = '{n}'"
         " AND o.body -> 'events' -> 0 ->> 'type' = 'ticket.accept'",),
    ),
    "a message twice": (
        "I10", "fresh",
        ("INSERT INTO outbox (id, ticket_id, topic, body, next_at, created_at) SELECT gen_random_uuid(), o.ticket_id,"
         " o.topic, o.body, o.next_at, o.created_at FROM outbox o JOIN tickets t ON t.id = o.ticket_id"
         " WHERE t.number = '{n}' LIMIT 1",),
    ),
    "a reveal that the audit does not know": (
        "I12", "answered", ("DELETE FROM audit WHERE action = 'contact.revealed'",),
    ),
    "a reveal that the ticket does not know": (
        "I12", "fresh",
        ("INSERT INTO audit (id, at, actor, action, ticket_id, data) SELECT gen_random_uuid(), now(),"
         " '{{\"subject\": \"x\"}}', 'contact.revealed', id, '{{}}' FROM tickets WHERE number = '{n}'",),
    ),
    "a leg that is open after the end": (
        "I13", "answered",
        ("UPDATE assignments a SET state = 'accepted', ended_at = NULL FROM tickets t WHERE t.id = a.ticket_id"
         " AND t.number = '{n}'",),
    ),
    "a rung after its clock's end": (
        "I14", "met after its warning",
        ("UPDATE clocks c SET ended_at = f.due_at - interval '1 second' FROM firings f, tickets t WHERE f.clock_id = c.id"
         " AND c.ticket_id = t.id AND t.number = '{n}' AND c.name = 'resolve'",),
    ),
}  # fmt: skip
"""What is wrong -> the rule that says so, what ticket it is, statements with {n} for its number."""


@pytest.mark.parametrize("what", DAMAGES)
async def test_a_damage_is_named_by_its_rule_and_its_ticket_and_by_no_other(town: Town, what: str) -> None:
    code, which, statements = DAMAGES[what]
    number = town.numbers[which]
    await town.run(*(sql.replace("{{", "{").replace("}}", "}").replace("{n}", number) for sql in statements))
    found = offenders(await town.check())
    # what the queue shows of a ticket is a copy: it tells of a damaged original too
    assert found.pop("queue", {number}) == {number}
    assert found == {code: {number}}


def test_every_rule_of_a_ticket_has_a_damage_that_only_it_finds() -> None:
    assert {rule.code for rule in RULES} - {code for code, _, _ in DAMAGES.values()} == {"I1"}


async def test_a_timer_ten_minutes_overdue_offends_unless_no_pump_is_at_work(town: Town) -> None:
    later = "UPDATE sandbox_clock SET offset_us = offset_us + 8 * 86400 * 1000000::bigint"
    await town.run(later)
    found = offenders(await town.check())
    assert set(found) == {"I1"}
    await town.run("INSERT INTO pump_runs (worker, started_at, heartbeat_at) SELECT 'w', t, t FROM"
                   " (SELECT now() - interval '1 hour' AS t) x")  # fmt: skip
    report = await town.check()
    assert (offenders(report), report.pump_at_work) == ({}, False), (
        "its pump is gone: everything waits, nothing is lost"
    )
    await town.run("UPDATE pump_runs SET heartbeat_at = now()")
    assert set(offenders(await town.check())) == {"I1"}
    await town.run("UPDATE pump_runs SET held = 'the clock jumped'")
    assert offenders(await town.check()) == {}


async def test_timers_that_were_set_aside_or_given_up_are_counted_apart(town: Town) -> None:
    fresh, silent = town.numbers["fresh"], town.numbers["silent"]
    await town.run(
        CLOCK.format("attempts = 2, next_fire_at = '2999-01-01Z'", fresh, "name = 'contact'"),
        CLOCK.format("attempts = 10, next_fire_at = NULL, dead_at = now()", silent, "name = 'resolve'"),
    )
    report = await town.check()
    assert (offenders(report), report.set_aside, report.dead) == ({}, 1, 1)


async def test_a_kept_answer_whose_ticket_is_gone_is_named_by_its_location(town: Town) -> None:
    gone = "/v1/tickets/01900000-0000-7000-8000-000000000000"
    await town.run(
        "INSERT INTO idempotency SELECT client, route, 'other', request_sha256, status, answer,"
        f" jsonb_set(headers, '{{Location}}', '\"{gone}\"'), created_at FROM idempotency WHERE key = 'once'"
    )
    assert offenders(await town.check()) == {"I11": {gone}}


@pytest.mark.parametrize(
    ("sql", "table"),
    [
        ("ALTER TABLE firings DROP CONSTRAINT pk_firings", "firings"),
        ("ALTER TABLE clocks DROP CONSTRAINT uq_clocks_ticket_id_name_cycle", "clocks"),
        ("ALTER TABLE events NO FORCE ROW LEVEL SECURITY", "events"),
    ],
)
async def test_a_constraint_that_is_missing_is_named(town: Town, sql: str, table: str) -> None:
    await town.run(sql)
    assert offenders(await town.check()) == {"schema": {table}}


async def test_a_trigger_that_is_switched_off_is_named(town: Town) -> None:
    connection = await asyncpg.connect(**connect_arguments(town.dsn))
    await connection.execute("ALTER TABLE audit DISABLE TRIGGER append_only")
    await connection.close()
    assert offenders(await town.check()) == {"schema": {"audit"}}


async def test_a_row_that_cannot_be_judged_is_a_finding_and_not_the_end(town: Town) -> None:
    await town.run(CLOCK.format("name = 'unheard_of'", town.numbers["fresh"], "name = 'contact'"))
    found = offenders(await town.check())
    assert found["projection"] == found["I6"] == {town.numbers["fresh"]}


async def test_a_city_at_work_never_looks_damaged(city: City) -> None:
    """The API writes and the pump fires while the check reads, again and again."""
    done = asyncio.Event()
    reports: list[Report] = []

    async def people() -> None:
        for n in range(30):
            t = await accepted(city, title=f"第{n}件")
            await city.act(t, "request_extension", TAX, **EXTENSION)
            await decide(city, t, "extension", "approve")
            await reply(city, t)
            await city.act(t, "record_callback", "hotline", **(GLAD if n % 2 else SAD))
            await city.ticket()
            await city.advance(advance_by="PT5H")
        done.set()

    async def pump() -> None:
        while not done.is_set():
            await clocks.fire_due(city.house)
            await asyncio.sleep(0.01)

    async def checker() -> None:
        async with opened_house(city.dsn, sandbox=True) as house:
            while not done.is_set():
                reports.append(await integrity.check(house))

    await asyncio.gather(people(), pump(), checker())
    assert len(reports) >= 3
    assert [offenders(r) for r in reports if r.offending] == []
    assert reports[-1].tickets >= 40


# --- known damage ----------------------------------------------------------------------------------------------------


async def test_a_clock_that_ended_in_a_pause_is_explained_with_its_stored_due_time(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "request_return", TAX, **RETURN)
    await city.advance(advance_by="P1D")
    await decide(city, t, "return", "approve")
    assert offenders(await integrity.check(city.house)) == {}


async def test_a_test_clock_moved_to_an_instant_of_another_zone_breaks_no_chain(city: City) -> None:
    await city.ticket()
    now = datetime.fromisoformat((await city.get("/v1/sandbox/clock")).json()["now"])
    assert now.utcoffset()
    await city.advance(advance_to=(now + timedelta(days=3)).isoformat())
    assert offenders(await integrity.check(city.house)) == {}


# --- the command -----------------------------------------------------------------------------------------------------


def run_check(dsn: str, *words: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("JIEBAN_")}
    return subprocess.run(
        [sys.executable, "-m", "service.cli", "check", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={**env, "JIEBAN_DATABASE_URL": dsn, "JIEBAN_SANDBOX": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


async def test_the_command_says_what_offends_and_its_exit_code_whether_anything_does(town: Town) -> None:
    clean = run_check(town.dsn)
    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert "0 offending" in clean.stdout and "I14" in clean.stdout
    await town.run(CLOCK.format("next_fire_at = NULL", town.numbers["fresh"], "name = 'contact'"))
    broken = run_check(town.dsn)
    assert broken.returncode == 1
    assert f"I6: {town.numbers['fresh']}: clock contact/1 has no timer for its rung" in broken.stdout
    told = run_check(town.dsn, "--json")
    assert told.returncode == 1
    [offending] = [r for r in json.loads(told.stdout)["rules"] if r["offending"]]
    assert (offending["rule"], offending["first"][0]["where"]) == ("I6", town.numbers["fresh"])
    nowhere = run_check("postgresql://jieban@127.0.0.1:1/jieban")
    assert (nowhere.returncode, nowhere.stdout) == (2, "")
