"""What-if: recorded tickets replayed under a draft workflow, calendar or routing. Nothing is written.

Records are read by one cursor in one snapshot and replayed page by page in processes of their own (a few pages at a time:
memory is bounded by them), so neither the event loop nor the database waits for the other. Sums are added in the order of
the records: the same records give the same bytes.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from multiprocessing import get_context
from typing import Any

from service.core.access import require
from service.core.calendar import Calendar, CalendarError
from service.core.calendar_data import overlay
from service.core.catalogue import check_catalogue, parse_routing
from service.core.comparing import Tally
from service.core.definitions import compile_workflow
from service.core.errors import DefinitionError, Invalid, NotFound
from service.core.model import Actor
from service.core.recorded import TIMERS
from service.core.sources import laid_over
from service.db import recorded as stored
from service.db.session import Unavailable
from service.usecases import views
from service.usecases.house import House
from service.usecases.replaying import Plan, Replayer, prepare, replay
from service.usecases.reports import instant

PAGE = 250
CHECKED = 5_000
"""About so many tickets are also replayed by the rules that they were recorded under, spread over the whole, as a check."""
SMALL = 500
"""So few tickets are replayed in a thread of this process: starting others would take longer."""
USUAL = timedelta(days=90)
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is tried, on which tickets. `start` and `end` as the reports take them; default: the 90 days up to today.

    `workflow`: plain data of a draft; `version`: a published one instead; with neither, nor a calendar or routing, the
    newest. `check_all`: every ticket is also replayed by the rules it was recorded under, not only a sample.
    """

    key: str
    workflow: Mapping[str, Any] | None = None
    version: int | None = None
    calendar: Mapping[str, Any] | None = None
    routing: Mapping[str, Any] | None = None
    start: str | None = None
    end: str | None = None
    department: str | None = None
    check_all: bool = False


async def simulate(
    house: House,
    actor: Actor,
    wanted: Wanted,
    *,
    most: int | None = None,
    workers: int = 0,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """The comparison, JSON-able. `most`: refuse more tickets than that; `workers`: processes, default one a core.

    Raises Invalid (dates, department, too many), NotFound (no such workflow or version), DefinitionError (the draft),
    Unavailable (a replaying process was killed).
    """
    require(actor, "definitions:simulate")
    rules = house.rules
    if wanted.department is not None and wanted.department not in rules.department_codes:
        raise Invalid.field("/department", "expected the code of a department; GET /v1/departments lists them")
    async with house.db.transaction(actor, readonly=True, snapshot=True) as tx:
        today = tx.now.astimezone(house.zone).date().isoformat()
        end = instant("/to", wanted.end or today, house.zone, closing=True)
        start = instant("/from", wanted.start, house.zone, closing=False) if wanted.start else end - USUAL
        if start >= end:
            raise Invalid.field("/from", "expected an instant before `to`")
        definitions = await stored.definitions(tx)
        tried = _tried(house, definitions, wanted)
        total, last_at = await stored.extent(tx, start, end, wanted.department)
        if most is not None and total > most:
            told = f"expected dates that hold at most {most} tickets, these hold {total}; the command takes any number"
            raise Invalid.field("/from", f"{told}: python3 -m service workflows simulate")
        as_of = last_at or tx.now
        plan = _plan(house, definitions, tried, as_of, 1 if wanted.check_all else max(1, -(-total // CHECKED)))
        tally = Tally(house.zone)
        texts = plan.routing is not None
        pages = stored.records(tx, start, end, wanted.department, sorted(TIMERS), texts=texts, page=PAGE)
        async with _replayers(plan, total, workers) as replayers:
            done = number = 0
            async for page in pages:
                await replayers.give(number, page)
                number += len(page)
                for part, count in await replayers.ready():
                    tally.add(part)
                    done += count
                    progress(done, total)
            for part, count in await replayers.rest():
                tally.add(part)
                done += count
                progress(done, total)
    answer = {
        **_named(tried),
        "from": views.local(start, house.zone),
        "to": views.local(end, house.zone),
        "as_of": views.local(as_of, house.zone),
        "department": wanted.department,
        **tally.told(),
    }
    return {**answer, "routing": tally.told_routing()} if texts else answer


# --- what is tried -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tried:
    workflow: tuple[Mapping[str, Any], int] | None
    draft: bool
    calendar: tuple[Mapping[str, Any], int] | None
    routing: Mapping[str, Any] | None


def _tried(house: House, definitions: Sequence[Any], wanted: Wanted) -> _Tried:
    """Read and check the drafts. A draft is numbered as the version that it would become."""
    versions = {r["version"]: r["body"] for r in definitions if (r["kind"], r["key"]) == ("workflow", wanted.key)}
    flow: tuple[Mapping[str, Any], int] | None = None
    if wanted.workflow is not None:
        flow = (laid_over(wanted.workflow, house.rules.newest_bodies), max(versions, default=0) + 1)
        _check_workflow(house, wanted.key, *flow)
    elif not versions:
        raise NotFound("There is no such workflow; GET /v1/workflows lists them.")
    elif wanted.version is not None:
        if wanted.version not in versions:
            raise NotFound(f"There is no workflow {wanted.key} version {wanted.version}.")
        flow = (versions[wanted.version], wanted.version)
    elif wanted.calendar is None and wanted.routing is None:
        newest = max(versions)
        flow = (versions[newest], newest)
    calendar = _calendar(house, definitions, wanted.calendar) if wanted.calendar is not None else None
    routing = None
    if wanted.routing is not None:
        # a draft of the hand-written rules goes with the vocabulary and the weights that are in force
        now = house.rules.bodies["routing", "city"][1]
        routing = {part: now[part] for part in ("vocabulary", "learned") if part in now} | dict(wanted.routing)
        check_catalogue(parse_routing(routing), list(house.rules.department_codes), list(house.rules.matter_codes))
    return _Tried(flow, wanted.workflow is not None, calendar, routing)


def _check_workflow(house: House, key: str, body: Mapping[str, Any], version: int) -> None:
    flow = compile_workflow(body, version)
    if flow.key != key:
        raise DefinitionError(f"expected {key!r}, the workflow that this draft is of", ("key",))
    if flow.calendar not in house.rules.newest_calendars:
        known = ", ".join(house.rules.newest_calendars)
        raise DefinitionError(f"there is no calendar {flow.calendar!r}; there are: {known}", ("calendar",))


def _calendar(house: House, definitions: Sequence[Any], data: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
    base = data.get("extends")
    found = house.rules.bodies.get(("calendar", str(base)))
    try:
        body = overlay(found[1] if found else None, data) if base is not None else dict(data)
        key = Calendar.compile(body).key
    except CalendarError as error:
        path, _, expected = str(error).partition(": ")
        raise DefinitionError(expected or path, ("calendar", path) if expected else ("calendar",)) from None
    known = [r["version"] for r in definitions if (r["kind"], r["key"]) == ("calendar", key)]
    return body, max(known, default=0) + 1


def _named(tried: _Tried) -> dict[str, Any]:
    def named(given: tuple[Mapping[str, Any], int] | None, draft: bool) -> dict[str, Any] | None:
        return None if given is None else {"key": given[0]["key"], "version": given[1], "draft": draft}

    return {"workflow": named(tried.workflow, tried.draft), "calendar": named(tried.calendar, True)}


def _plan(house: House, definitions: Sequence[Any], tried: _Tried, as_of: datetime, every: int) -> Plan:
    rules = house.rules
    newest: dict[str, dict[str, int]] = {"workflow": {}, "calendar": {}}
    for (kind, key), (version, _) in rules.bodies.items():
        if kind in newest:
            newest[kind][key] = version
    return Plan(
        bodies={(r["kind"], r["key"], r["version"]): r["body"] for r in definitions},
        published=[(r["published_at"], (r["key"], r["version"])) for r in definitions if r["kind"] == "calendar"],
        newest=newest,
        departments=rules.department_codes,
        matters=dict(rules.matters),
        organisation=rules.bodies["departments", "city"][1],
        zone=house.zone.key,
        as_of=as_of,
        every=every,
        workflow=tried.workflow,
        calendar=tried.calendar,
        routing=tried.routing,
    )


# --- several processes -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _replayers:  # used as a context manager, like a function
    """Pages go in, sums come out in the same order; a few pages are in hand at a time."""

    plan: Plan
    total: int
    workers: int
    _pool: ProcessPoolExecutor | None = None
    _near: Replayer | None = None
    _running: deque[tuple[asyncio.Future[Tally], int]] = field(default_factory=deque)

    async def __aenter__(self) -> _replayers:
        if self.total <= SMALL:
            self._near = await asyncio.to_thread(Replayer, self.plan)
        else:
            self.workers = self.workers or os.cpu_count() or 1
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=get_context("spawn"), initializer=prepare, initargs=(self.plan,)
            )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is not None and kind is None:
            await asyncio.to_thread(self._pool.shutdown)
        elif self._pool is not None and kind is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            if issubclass(kind, BrokenProcessPool):
                told = "A process that replays tickets was ended from outside (for want of memory?); try it again."
                raise Unavailable(f"{told} / 推演进程被外部终止，请重试。") from None

    async def give(self, number: int, page: Sequence[Mapping[str, Any]]) -> None:
        loop = asyncio.get_running_loop()
        if self._near is not None:
            work: asyncio.Future[Tally] = loop.create_future()
            work.set_result(await asyncio.to_thread(self._near.replay, number, page))
        else:
            work = loop.run_in_executor(self._pool, replay, number, page)
        self._running.append((work, len(page)))

    async def ready(self) -> list[tuple[Tally, int]]:
        """Sums of pages that have to be waited for, so that no more than a few are in hand."""
        return [await self._next() for _ in range(len(self._running) - 2 * max(1, self.workers))]

    async def rest(self) -> list[tuple[Tally, int]]:
        return [await self._next() for _ in range(len(self._running))]

    async def _next(self) -> tuple[Tally, int]:
        work, count = self._running.popleft()
        return await work, count
