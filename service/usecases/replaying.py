"""Recorded tickets replayed under a plan, in whichever process.

What starts for it imports this module: it knows no database and no web, or each start would take three times as long.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from multiprocessing import parent_process
from threading import Thread
from typing import Any
from zoneinfo import ZoneInfo

from opencc import OpenCC
from pydantic_core import from_json

from service.core.calendar import Calendar
from service.core.comparing import Tally
from service.core.definitions import Workflow, compile_workflow
from service.core.draft import RouteTo
from service.core.errors import NotFound
from service.core.policies import Policies
from service.core.recorded import Reader
from service.core.replay import Memory
from service.core.routing import Request, Router, make_router
from service.core.whatif import Kept, Leg, Record, Rules, Version, World, live


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a replaying process needs, as plain data that can be sent to it."""

    bodies: Mapping[tuple[str, str, int], Mapping[str, Any]]
    """Kind, key, version -> body."""
    published: Sequence[tuple[datetime, Version]]
    """Versions of calendars, oldest first."""
    newest: Mapping[str, Mapping[str, int]]
    """Kind -> key -> the version in force."""
    departments: frozenset[str]
    matters: Mapping[str, Mapping[str, Any]]
    organisation: Mapping[str, Any]
    zone: str
    as_of: datetime
    every: int
    """Each so many-th ticket is checked."""
    workflow: tuple[Mapping[str, Any], int] | None = None
    calendar: tuple[Mapping[str, Any], int] | None = None
    routing: Mapping[str, Any] | None = None


class Replayer:
    """A plan, compiled, and what is remembered from page to page."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        bodies = plan.bodies

        @cache
        def workflow(version: Version) -> Workflow:
            body = bodies.get(("workflow", *version))
            if body is None:
                raise NotFound(f"There is no workflow {version[0]} version {version[1]}.")
            return compile_workflow(body, version[1])

        calendars = {v: Calendar.compile(bodies["calendar", *v], v[1]) for _, v in plan.published}
        tried = plan.workflow and compile_workflow(*plan.workflow)
        newest = {key: workflow((key, version)) for key, version in plan.newest["workflow"].items()}
        rules = Rules(
            workflow=workflow,
            calendars=calendars,
            calendars_at=_spans(plan.published, calendars),
            newest=Policies(newest, {key: calendars[key, n] for key, n in plan.newest["calendar"].items()}),
            departments=plan.departments,
            matters=frozenset(plan.matters),
            draft_workflow=tried or None,
            draft_calendar=Calendar.compile(*plan.calendar) if plan.calendar else None,
        )
        self._as_recorded, self._as_tried = World(rules, draft=False), World(rules, draft=True)
        self._reader = Reader(plan.published)
        self._memory = Memory()
        self._router = _router(plan) if plan.routing is not None else None
        self._zone = ZoneInfo(plan.zone)

    def replay(self, number: int, page: Sequence[Mapping[str, Any]]) -> Tally:
        """`number`: how many tickets came before this page."""
        tally = Tally(self._zone)
        for n, row in enumerate(page, number):
            record = read(self._reader, row)
            self._compare(record, row, tally)
            if n % self.plan.every == 0:
                tally.checked(record, live(record, self._as_recorded, self._memory, self.plan.as_of))
        return tally

    def _compare(self, record: Record, row: Mapping[str, Any], tally: Tally) -> None:
        route = None
        if self._router is not None:
            found = self._router.route(_request(record, row, self.plan.matters))
            tally.routed(record, found.lead)
            if found.lead != record.route.lead and record.answered is None:
                route = RouteTo(found.lead, found.co_handlers, found.rule)
        life = None
        if route is not None or self._as_tried.touches(record, self.plan.as_of):
            life = live(record, self._as_tried, self._memory, self.plan.as_of, route)
        tally.compare(record, self.plan.as_of, life)


def _spans(
    published: Sequence[tuple[datetime, Version]], calendars: Mapping[Version, Calendar]
) -> list[tuple[datetime, Mapping[str, Calendar]]]:
    """From when on which calendars were the newest; what came in before the first counts by the first of each."""
    known: dict[str, Calendar] = {}
    for _, (key, version) in published:
        known.setdefault(key, calendars[key, version])
    spans: list[tuple[datetime, Mapping[str, Calendar]]] = [(datetime.min.replace(tzinfo=UTC), dict(known))]
    for at, (key, version) in published:
        known[key] = calendars[key, version]
        if version > 1:
            spans.append((at, dict(known)))
    return spans


def _router(plan: Plan) -> Router:
    assert plan.routing is not None
    return make_router(plan.routing, plan.matters, plan.organisation, OpenCC("t2s").convert)


def _request(record: Record, row: Mapping[str, Any], matters: Mapping[str, Any]) -> Request:
    enterprise = from_json(row["enterprise"]) if row["enterprise"] else {}
    asked = row["asked_matter"]
    return Request(
        title=row["title"],
        description=row["description"],
        domain=record.domain,
        matter=asked if asked in matters else None,
        district=record.district,
        industry=enterprise.get("industry"),
        tier=enterprise.get("tier"),
        urgency=record.urgency,
    )


def read(reader: Reader, row: Mapping[str, Any]) -> Record:
    """A row of `db.recorded` as a record."""
    at = datetime.fromisoformat
    entries = [(type_, at(when), who, data) for type_, when, who, data in from_json(row["events"] or "[]")]
    clocks = [
        Kept(name, cycle, state, at(due_at), at(breached) if breached else None, tuple(fired), family, department)
        for name, cycle, state, due_at, breached, fired, family, department in from_json(row["clocks"] or "[]")
    ]
    legs = [Leg(code, at(start), at(end) if end else None) for code, start, end in from_json(row["legs"] or "[]")]
    cards = [(c["level"], at(c["at"])) for c in from_json(row["cards"] or "[]")]
    proposed = [at(text) for text in from_json(row["proposed"] or "[]")]
    measures = from_json(row["measures"] or "[]")
    return reader.read(row, entries, measures, clocks=clocks, legs=legs, cards=cards, proposed=proposed)


# --- a process that replays --------------------------------------------------------------------------------------------

_own: list[Replayer] = []
"""In a replaying process: its replayer."""


def _leave_with_the_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def prepare(plan: Plan) -> None:
    # who was killed cannot tell its helpers to stop: they would wait for pages for ever
    Thread(target=_leave_with_the_parent, daemon=True).start()
    _own[:] = [Replayer(plan)]
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def replay(number: int, page: Sequence[Mapping[str, Any]]) -> Tally:
    return _own[0].replay(number, page)
