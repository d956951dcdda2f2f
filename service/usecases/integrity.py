"""Does everything that is stored agree with itself? Every ticket by every rule of `core.invariants`, and the whole.

Tickets are read in pages, each page in one read-only snapshot: nothing is locked, a ticket that changes meanwhile never
looks damaged, and memory is bounded by the page. The judging happens after the snapshot is given back and lets others
run between tickets, so the check can live in a worker beside the pump.

Asked of the database as a whole:
  I11     each kept 2xx answer of POST /v1/tickets names a ticket that is there (by its Location: the answers are
          encrypted). The reverse, one ticket for a source's reference, is a unique key: `schema`
  texts   each ticket has its text, seen by whoever sees the ticket: else a search would miss it, or tell of it
  queue   the queue holds each open ticket as it is, and no other
  beside  each act of supervision and each exemption is told by the history as it stands, and none is told that is not there
  M1      minutes: each version has the hash of what it says and follows the one before; numbers of a series have no gap;
          the hash in the tickets' histories is the one that is stored
  schema  unique keys, append-only triggers and forced row security are there and switched on: what makes two firings of
          a rung, two tickets of a reference, an altered event or an altered version impossible
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from service.core.errors import NotFound
from service.core.invariants import REBOUND_TICKET, RULES, Case, Rule, Verdicts
from service.core.model import SYSTEM
from service.db import integrity as stored
from service.db import tickets
from service.db.session import Tx
from service.db.tickets import Stored
from service.usecases import minutes_check
from service.usecases.house import House
from service.usecases.periodic import Between, at_once

PAGE = 100
FIRST = 20
"""How many offenders of a rule are named."""
INTAKE_ROUTE = "POST /v1/tickets"

UNIQUE_KEYS: tuple[tuple[str, ...], ...] = (
    ("tickets", "source_system", "source_reference"),
    ("tickets", "number"),
    ("clocks", "ticket_id", "name", "cycle"),
    ("firings", "clock_id", "rung"),
    ("events", "ticket_id", "seq"),
    ("idempotency", "client", "route", "key"),
    ("cron_slots", "name", "slot"),
    ("minutes", "series", "year", "serial"),
)
APPEND_ONLY = ("events", "firings", "audit", "minutes_versions")
FORCED = ("tickets", "assignments", "clocks", "firings", "events", "outbox", "notices", "idempotency", "audit",
          "workflow_migration_tickets", "exemptions", "supervisions", "delegations", "open_tickets",
          "ticket_texts", "attachments", "progress_links", "reviews", "opinions", "measures", "agenda_items", "meetings",
          "attendees", "studies", "minutes", "minutes_versions", "precedents", "source_versions", "ticket_enterprises",
          "quarantine")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule found. `first`: (ticket number or other place, reason) of the first offenders."""

    code: str
    zh: str
    en: str
    looked: int
    offending: int
    first: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the check found. `set_aside`, `dead`: clocks whose timer failed and is tried again, or was given up;
    they have no timer to compare and are a supervisor's work, not damage. `pump_at_work`: whether I1 was judged."""

    tickets: int
    clocks: int
    set_aside: int
    dead: int
    pump_at_work: bool
    findings: tuple[Finding, ...]
    calendars_missing: Mapping[str, int]
    """Calendar -> the year that it lacks and by now should have: an alarm, not damage."""

    @property
    def offending(self) -> int:
        return sum(f.offending for f in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, for `--json` and for whoever keeps the nightly result."""
        return {
            "tickets": self.tickets,
            "clocks": self.clocks,
            "set_aside": self.set_aside,
            "dead": self.dead,
            "pump_at_work": self.pump_at_work,
            "offending": self.offending,
            "calendars_missing": dict(self.calendars_missing),
            "rules": [
                {
                    "rule": f.code,
                    "title": {"zh": f.zh, "en": f.en},
                    "looked": f.looked,
                    "offending": f.offending,
                    "first": [{"where": where, "reason": reason} for where, reason in f.first],
                }
                for f in self.findings
            ],
        }


@dataclass(slots=True)
class _Tally:
    """One rule's counts while they grow."""

    looked: int = 0
    offending: int = 0
    first: list[tuple[str, str]] = field(default_factory=list)

    def add(self, where: str, verdicts: Iterable[str | None]) -> None:
        for reason in verdicts:
            self.looked += 1
            if reason is not None:
                self.offending += 1
                if len(self.first) < FIRST:
                    self.first.append((where, reason))


async def check(house: House, progress: Callable[[int], None] = lambda _: None, between: Between = at_once) -> Report:
    """Judge every ticket that is there at the start; `progress` is told how many have been looked at. Raises Unavailable.

    What comes in meanwhile is left to the next check: it would be chased for as long as it comes. `between` two pages is
    waited for.
    """
    tallies = {rule.code: _Tally() for rule in RULES}
    subjects: set[str] = set()
    seen, clocks, aside, dead, at_work = 0, 0, 0, 0, True
    after = "00000000-0000-0000-0000-000000000000"
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        last, missing = await stored.last_ticket(tx) or after, house.missing_years(tx.now)
    while True:
        await between()
        async with house.db.transaction(SYSTEM, readonly=True, snapshot=True) as tx:
            ids = await stored.page(tx, after, last, PAGE)
            page = await _read(house, tx, ids) if ids else None
        if page is None:
            break
        for case in page.cases:
            _judge(case, tallies)
            subjects.update(e["actor"]["subject"] for e in case.events)
            await asyncio.sleep(0)  # whoever shares this loop goes first
        seen, after, at_work = seen + len(ids), ids[-1], at_work and page.pump_at_work
        clocks += sum(len(c.ticket.clocks) for c in page.cases)
        aside, dead = aside + page.aside, dead + page.dead
        progress(seen)
    findings = [_finding(rule.code, rule.zh, rule.en, tallies[rule.code]) for rule in RULES]
    findings += [
        await _answers(house, subjects),
        await _texts(house, seen, last),
        await _queue(house, seen, last),
        await _beside(house),
        await _minutes(house),
        await _schema(house),
    ]
    return Report(seen, clocks, aside, dead, at_work, tuple(findings), missing)


@dataclass(frozen=True, slots=True)
class _Page:
    cases: tuple[Case, ...]
    aside: int
    dead: int
    pump_at_work: bool


async def _read(house: House, tx: Tx, ids: list[str]) -> _Page:
    at_work = await stored.pump_at_work(tx)
    loaded = await tickets.load(tx, ids)
    events = _by(await tx.rows(stored.EVENTS, ids), "ticket_id")
    firings = _by(await tx.rows(stored.FIRINGS, ids), "owner")
    told = _by(await tx.rows(stored.TOLD, ids), "ticket_id")
    reveals = _by(await tx.rows(stored.REVEALS, ids), "ticket_id")
    agenda = _by(await tx.rows(stored.AGENDA, ids), "owner")
    aside = await tx.rows(stored.ASIDE, ids)
    failed = frozenset(r["id"] for r in aside)
    await _load_versions(house, tx, [e for of in events.values() for e in of if e["type"] in REBOUND_TICKET])
    cases = [
        Case(
            ticket=found.ticket,
            env=house.env(tx, await house.rules_of(tx, found.ticket), found.ticket.district),
            next_due_at=found.row["next_due_at"],
            events=events[ticket_id],
            firings=firings[ticket_id],
            aside=failed,
            told=[event_id for row in told[ticket_id] for event_id in row["events"]],
            reveals=[(r["subject"], r["reason"]) for r in reveals[ticket_id]],
            pump_at_work=at_work,
            agenda=agenda[ticket_id],
            flows=house.workflows,
        )
        for ticket_id, found in _in_order(loaded, ids)
    ]
    gone = sum(r["dead"] for r in aside)
    return _Page(tuple(cases), len(aside) - gone, gone, at_work)


async def _load_versions(house: House, tx: Tx, events: list[Any]) -> None:
    """The workflow versions that these events name; what a damaged one names is found by the rule that misses it."""
    for event in events:
        with suppress(NotFound, KeyError, TypeError):
            for named in (event["data"]["before"], event["data"]["after"]):
                await house.workflow(tx, named["key"], named["version"])


def _in_order(loaded: Mapping[str, Stored], ids: list[str]) -> Iterable[tuple[str, Stored]]:
    return ((ticket_id, loaded[ticket_id]) for ticket_id in ids)


def _by(rows: list[Any], key: str) -> defaultdict[str, list[Any]]:
    grouped: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        grouped[row[key]].append(row)
    return grouped


def _judge(case: Case, tallies: Mapping[str, _Tally]) -> None:
    for rule in RULES:
        tallies[rule.code].add(case.ticket.number, _told(rule, case))


def _told(rule: Rule, case: Case) -> Verdicts:
    try:
        yield from rule.look(case)
    except Exception as error:  # a row too damaged to be judged is a finding, not the end of the check
        yield f"cannot be judged: {error!r}"


def _finding(code: str, zh: str, en: str, tally: _Tally) -> Finding:
    return Finding(code, zh, en, tally.looked, tally.offending, tuple(tally.first))


async def _answers(house: House, subjects: set[str]) -> Finding:
    """I11, client by client: those who are registered, and whoever stands in any history."""
    looked, offending, first = 0, 0, list[tuple[str, str]]()
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        subjects = subjects | set(await stored.known_subjects(tx))
    for subject in sorted(subjects):
        async with house.db.transaction(SYSTEM, readonly=True, snapshot=True) as tx:
            kept, lost, named = await stored.answers(tx, subject, INTAKE_ROUTE, FIRST)
        looked, offending = looked + kept, offending + lost
        first += [
            (str(r["location"]), f"the answer kept for key {r['key']} names no ticket that is there") for r in named
        ]
    return Finding(
        "I11", "已答复的请求必有工单", "kept answers have their tickets", looked, offending, tuple(first[:FIRST])
    )


async def _texts(house: House, looked: int, last: str) -> Finding:
    async with house.db.transaction(SYSTEM, readonly=True, snapshot=True) as tx:
        wrong = await tx.rows(stored.TEXTS, last)
    told = tuple(
        (r["number"], "it has no text to be found by" if r["missing"] else "its text is seen by others than the ticket")
        for r in wrong[:FIRST]
    )
    return Finding("texts", "工单均可检索", "every ticket can be found by who may see it", looked, len(wrong), told)


async def _queue(house: House, looked: int, last: str) -> Finding:
    async with house.db.transaction(SYSTEM, readonly=True, snapshot=True) as tx:
        wrong = await tx.rows(stored.QUEUED, last)
    told = tuple((r["number"], "the queue shows it otherwise than it is") for r in wrong[:FIRST])
    return Finding("queue", "待办与工单一致", "the queue shows each open ticket as it is", looked, len(wrong), told)


async def _beside(house: House) -> Finding:
    async with house.db.transaction(SYSTEM, readonly=True, snapshot=True) as tx:
        looked, wrong = await tx.value(stored.HOW_MANY_BESIDE), await tx.rows(stored.BESIDE)
    told = tuple(
        (r["number"], f"no event {r['type']}" if r["untold"] else f"{r['type']} of nothing") for r in wrong[:FIRST]
    )
    return Finding("beside", "督查与免考均有记录", "supervision and exemptions are told", looked, len(wrong), told)


async def _minutes(house: House) -> Finding:
    found = await minutes_check.verify(house)
    looked = found.documents + found.series
    zh, en = "会议纪要未被改动、编号连续", "minutes are as they were written, their numbers without gaps"
    return Finding("M1", zh, en, looked, len(found.broken), found.broken[:FIRST])


async def _schema(house: House) -> Finding:
    async with house.db.transaction(SYSTEM, readonly=True, snapshot=True) as tx:
        unique, triggers, forced = await stored.constraints(tx)
    tally = _Tally()
    for key in UNIQUE_KEYS:
        tally.add(key[0], [None if key in unique else f"no unique key ({', '.join(key[1:])})"])
    for table in APPEND_ONLY:
        for name in ("append_only", "append_only_truncate"):
            tally.add(table, [None if (table, name) in triggers else f"the trigger {name} is missing or switched off"])
    for table in ("definitions", "minutes"):
        for name in ("immutable", "immutable_truncate"):
            found = (table, name) in triggers
            tally.add(table, [None if found else f"the trigger {name} is missing or switched off"])
    for table in FORCED:
        tally.add(table, [None if table in forced else "row-level security is not forced"])
    return _finding("schema", "约束齐备", "the constraints that promises rest on are there", tally)
