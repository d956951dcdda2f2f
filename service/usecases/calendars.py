"""Calendars as versioned data: look ahead, publish, re-project the open clocks, retire (time rules T2, T9).

A version that moves due times is published only by somebody who has seen which: the preview's `preview` is asked back. The
re-projection runs in the background, ticket by ticket under its lock; who reads meanwhile sees each clock by the version
that it names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from pydantic_core import to_json

from service.core import clocks, recounting
from service.core.access import require
from service.core.calendar import FIRST, LAST, WEEKDAYS, Calendar, CalendarError
from service.core.calendar_data import overlay
from service.core.errors import Conflict, Invalid, NotFound, PreviewRequired
from service.core.history import canonical
from service.core.model import SYSTEM, Actor
from service.db import audit, batches, saving, tickets
from service.db import calendars as stored
from service.db import clocks as timers
from service.db import definitions as published
from service.db.calendars import Scope
from service.db.session import Tx, Unavailable
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House

log = structlog.get_logger()
NIL = "00000000-0000-0000-0000-000000000000"
SHOWN_MOVES = 50
BATCH = 200
SETTLE_SECONDS = 10
"""A process that has not heard of a version yet may start clocks by the one before; every process has after this time."""


# --- looking ---------------------------------------------------------------------------------------------------------


async def listed(house: House) -> list[dict[str, Any]]:
    """Every calendar in force: its version, horizon, and the alarm when the next year is missing."""
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        missing = house.missing_years(tx.now)
    return [_summary(c, missing.get(c.key)) for c in house.rules.newest_calendars.values()]


def _summary(c: Calendar, missing: int | None) -> dict[str, Any]:
    alarm = None
    if missing is not None:
        alarm = {
            "year": missing,
            "zh": f"{missing}年放假安排尚未发布到日历，{missing}年内的到期时间均为暂定",
            "en": f"The calendar of {missing} is not published: due times in it are provisional.",
        }
    return {
        "key": c.key,
        "version": c.version,
        "title": c.title,
        "zone": str(c.zone),
        "day_end": c.day_end,
        "extends": c.extends,
        "districts": sorted(c.districts),
        "published_until": c.horizon.isoformat() if c.horizon else None,
        "alarm": alarm,
    }


async def shown(house: House, key: str, version: int | None) -> dict[str, Any]:
    """One calendar with the data of a version (default: the newest), all its versions, and its re-projection."""
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        versions = await published.versions(tx, "calendar", key)
        wanted = version if version is not None else (versions[0]["version"] if versions else 0)
        body = await published.get(tx, "calendar", key, wanted)
        if body is None:
            raise NotFound("There is no such calendar or version; GET /v1/calendars lists them.")
        progress = await stored.projection(tx, key, wanted)
    return {
        "key": key,
        "version": wanted,
        "calendar": body,
        "versions": [views.localised(dict(v), house.zone) for v in versions],
        "projection": _progress(house, progress),
    }


def _progress(house: House, row: Any) -> dict[str, Any] | None:
    return None if row is None else dict(views.localised(dict(row), house.zone))


async def year(house: House, key: str, number: int, version: int | None) -> dict[str, Any]:
    """Every day of a year: whether it works, when, by which rule and notice."""
    if not FIRST.year <= number <= LAST.year:
        raise Invalid.field("/year", f"expected a year from {FIRST.year} to {LAST.year}")
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        newest = house.rules.newest_calendars.get(key)
        wanted = version if version is not None else (newest.version if newest else 0)
        calendar = await house.calendar_version(tx, key, wanted)
        body = await published.get(tx, "calendar", key, wanted)
    return _year_of(calendar, number, (body.get("years") or {}).get(str(number)))


def _year_of(calendar: Calendar, number: int, told: Mapping[str, Any] | None) -> dict[str, Any]:
    start = date(number, 1, 1)
    length = (date(number, 12, 31) - start).days + 1
    days = [start + timedelta(days=n) for n in range(length)]
    rows = [{"date": d.isoformat(), "weekday": WEEKDAYS[d.weekday()], **_day(calendar, d)} for d in days]
    provisional = calendar.horizon is None or number > calendar.horizon.year
    return {
        "calendar": {"key": calendar.key, "version": calendar.version},
        "year": number,
        "status": (told or {}).get("status"),
        "notice": (told or {}).get("notice"),
        "provisional": provisional,
        "working_days": sum(calendar.is_working_day(d) for d in days),
        "days": rows,
    }


async def provisional(
    house: House, actor: Actor, calendar: str | None, after: tuple[datetime, str] | None, limit: int
) -> tuple[list[dict[str, Any]], tuple[datetime, str] | None]:
    """Open clocks with a provisional due time, nearest first, with the place to go on from."""
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await stored.provisional(tx, calendar, after, limit + 1)
    items = [
        {"id": r["id"], "name": r["name"], "state": r["state"], "measure": r["measure"], "department": r["department"],
         "due_at": views.local(r["due_at"], house.zone), "ticket": {"id": r["ticket_id"], "number": r["number"]},
         "calendar": {"key": r["calendar_key"], "version": r["calendar_version"]}}
        for r in rows[:limit]
    ]  # fmt: skip
    return items, (rows[limit - 1]["due_at"], rows[limit - 1]["id"]) if len(rows) > limit else None


# --- publishing -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Moves:
    """What a version would do to open clocks. `least` and `most` are seconds, negative where a due time comes earlier."""

    clocks: int = 0
    moved: int = 0
    earlier: int = 0
    already_past: int = 0
    least: float = 0.0
    most: float = 0.0
    first: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self, ticket: Mapping[str, Any], clock: str, before: datetime, after: datetime, now: datetime, zone: ZoneInfo
    ) -> None:
        """One clock that was looked at. `ticket`: its id and number."""
        self.clocks += 1
        by = (after - before).total_seconds()
        if not by:
            return
        self.moved += 1
        self.earlier += by < 0
        self.already_past += after < now <= before
        self.least, self.most = min(self.least, by), max(self.most, by)
        if len(self.first) < SHOWN_MOVES:
            self.first.append(
                {"ticket": ticket, "clock": clock, "before": views.local(before, zone), "after": views.local(after, zone),
                 "seconds": by}
            )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        return {
            "clocks": self.clocks,
            "moved": self.moved,
            "earlier": self.earlier,
            "already_past": self.already_past,
            "least_seconds": self.least,
            "most_seconds": self.most,
            "first": self.first,
        }


@dataclass(frozen=True, slots=True)
class Proposed:
    """A version that somebody wants. `preview`: the word of the preview that was looked at; `dry_run`: only tell."""

    calendar: Mapping[str, Any]
    reason: str
    preview: str | None = None
    dry_run: bool = False


async def publish(house: House, actor: Actor, wanted: Proposed, call: Call) -> Answer:
    """201 with the new version; 200 for `dry_run` (what it would move) and for what is in force already.

    Raises Invalid (the data), PreviewRequired (it moves due times and `preview` does not name this version).
    """
    require(actor, "definitions:write")
    body = _whole(house, wanted.calendar)

    async def work(tx: Tx) -> Answer:
        await published.lock(tx)
        version = await published.next_version(tx, "calendar", body["key"])
        if not wanted.dry_run and await published.is_newest(tx, "calendar", body["key"], body):
            return Answer(200, to_json({"key": body["key"], "version": version - 1, "changed": False}))
        overlays = _overlays(house, body)
        told = await _preview(house, tx, body, version)
        if wanted.dry_run:
            return Answer(200, to_json(told))
        if told["moved"] and wanted.preview != told["preview"]:
            moved = f"{told['moved']} of {told['clocks']} open clocks would be due at another time."
            raise PreviewRequired(moved, **told)
        await publish_version(tx, body, actor.subject, wanted.reason)
        for other in overlays:
            await publish_version(tx, other, actor.subject, f"{body['key']} has a new version: {wanted.reason}")
        what = {"key": body["key"], "version": version}
        await audit.write(tx, house.new_id(), "calendar.published", None, what)
        return Answer(201, to_json({**what, "changed": True, "moves": told}))

    answer = await once(house, actor, call, work)
    await house.refresh()
    return answer


async def _preview(house: House, tx: Tx, body: Mapping[str, Any], version: int) -> dict[str, Any]:
    calendar = Calendar.compile(body, version)
    moves = await _moves(house, tx, calendar)
    word = hashlib.sha256(canonical([body, version])).hexdigest()[:32]
    days = _changed_days(house.rules.newest_calendars.get(calendar.key), calendar, tx.now)
    return {**moves.as_dict(), "key": calendar.key, "version": version, "preview": word, "days": days}


async def publish_version(tx: Tx, body: Mapping[str, Any], by: str, reason: str) -> int | None:
    """Store a version and set its re-projection going; None when it is the newest already."""
    version = await published.publish(tx, "calendar", body["key"], body, by, reason)
    if version is not None:
        scope = _scope(Calendar.compile(body, version))
        total = await stored.count_affected(tx, scope)
        if total or version > 1:
            await stored.begin(tx, body["key"], version, total, by, reason)
    return version


def _whole(house: House, data: Mapping[str, Any]) -> dict[str, Any]:
    base = data.get("extends")
    if base is not None and base == data.get("key"):
        raise Invalid.field("/calendar/extends", "expected the key of another calendar")
    try:
        if base is None:
            body = dict(data)
        else:
            found = house.rules.bodies.get(("calendar", str(base)))
            body = overlay(found[1] if found else None, data)
        Calendar.compile(body)
    except CalendarError as error:
        raise _invalid(error) from None
    return body


def _invalid(error: CalendarError) -> Invalid:
    """The path of the data as a pointer into the request's body."""
    path, _, expected = str(error).partition(": ")
    pointer = "/calendar/" + path.replace("[", "/").replace("]", "").replace(".", "/")
    return Invalid.field(pointer.removesuffix("/calendar"), expected or str(error))


def _overlays(house: House, base: Mapping[str, Any]) -> list[dict[str, Any]]:
    """District calendars of this one, laid over its new version; raises Invalid if one of them would not hold any more."""
    bodies = [body for (kind, _), (_, body) in house.rules.bodies.items() if kind == "calendar"]
    found = []
    for own in [b["own"] for b in bodies if b.get("extends") == base["key"] and "own" in b]:
        try:
            found.append(overlay(base, own))
            Calendar.compile(found[-1])
        except CalendarError as error:
            told = f"expected data over which {own['key']} can be laid: {error}"
            raise Invalid.field("/calendar", told) from None
    return found


def _scope(calendar: Calendar) -> Scope:
    return calendar.key, calendar.version, calendar.extends, sorted(calendar.districts)


async def _moves(house: House, tx: Tx, calendar: Calendar) -> Moves:
    moves = Moves()
    async for rows in stored.affected(tx, _scope(calendar)):
        plain = [r for r in rows if r["whole"] is None]
        due = recounting.due_times(calendar, [(r["anchor_us"], r["measure"], r["budget"]) for r in plain])
        found = list(zip(plain, due.tolist(), strict=True))
        found += [(r, _due_us(tickets.clock_of(r["whole"]), calendar)) for r in rows if r["whole"] is not None]
        _add_up(moves, found, tx.now, house)
    return moves


def _due_us(clock: Any, calendar: Calendar) -> int:
    return round(clocks.due(clock, calendar).timestamp() * 1_000_000)


def _changed_days(before: Calendar | None, after: Calendar, now: datetime) -> list[dict[str, Any]]:
    """The days of last year to three years ahead on which the two do not work alike, as they were and as they will be."""
    if before is None:
        return []
    start = date(max(FIRST.year, after.local_date(now).year - 1), 1, 1)
    days = [start + timedelta(days=n) for n in range(5 * 365)]
    return [
        {"date": d.isoformat(), "before": _day(before, d), "after": _day(after, d)}
        for d in days
        if d <= LAST and before.day(d).intervals != after.day(d).intervals
    ]


def _day(calendar: Calendar, day: date) -> dict[str, Any]:
    told = calendar.day(day)
    intervals = [list(pair) for pair in told.intervals]
    return {"works": told.works, "intervals": intervals, "rule": told.rule, "name": told.name, "notice": told.notice}


def _add_up(moves: Moves, found: list[tuple[Any, int]], now: datetime, house: House) -> None:
    for row, due_us in found:
        after = row["due_at"] + timedelta(microseconds=due_us - row["due_us"])
        ticket = {"id": row["ticket_id"], "number": row["number"]}
        moves.add(ticket, row["name"], row["due_at"], after, now, house.zone)


async def retire(house: House, actor: Actor, key: str) -> None:
    """Take a calendar out of use. Raises Conflict naming who depends on it; its versions stay for finished clocks."""
    require(actor, "definitions:write")
    async with house.db.transaction(actor) as tx:
        await published.lock(tx)
        flows = sorted(f.key for f in house.rules.newest.values() if f.calendar == key)
        others = sorted(c.key for c in house.rules.newest_calendars.values() if c.extends == key)
        running = await stored.open_clocks(tx, key)
        if flows or others or running:
            raise Conflict(
                f"The calendar {key!r} is in use; move its dependants to another first.",
                workflows=flows, calendars=others, open_clocks=running,
            )  # fmt: skip
        if not await published.retire(tx, "calendar", key):
            raise NotFound("There is no such calendar; GET /v1/calendars lists them.")
        await audit.write(tx, house.new_id(), "calendar.retired", None, {"key": key})
    await house.refresh()


# --- re-projection ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Walk:
    """Where a worker is in a re-projection. `unreadable`: tickets that could not be counted, passed over from then on."""

    unreadable: set[str] = field(default_factory=set)
    version: tuple[str, int] | None = None
    after: str = NIL


async def recount_some(house: House, walk: Walk, *, limit: int = BATCH) -> int:
    """One batch of one running re-projection; how many tickets were looked at (0: nothing is left to do now)."""
    async with house.db.transaction(SYSTEM) as tx:
        for row in await stored.running(tx):
            if walk.version != (row["key"], row["version"]):
                walk.version, walk.after = (row["key"], row["version"]), NIL
            calendar = await house.calendar_version(tx, row["key"], row["version"])
            ids = await _next(tx, calendar, walk, limit)
            if ids:
                walk.after = ids[-1]
                return await _recount(house, tx, calendar, row["reason"], ids, walk.unreadable)
            if tx.now - row["started_at"] > timedelta(seconds=SETTLE_SECONDS):
                await stored.finish(tx, row["key"], row["version"])
    return 0


async def _next(tx: Tx, calendar: Calendar, walk: Walk, limit: int) -> list[str]:
    """From where the walk is; at the end once more from the beginning, for what was begun behind it."""
    scope, passed = _scope(calendar), sorted(walk.unreadable)
    ids = await stored.tickets_to_recount(tx, scope, walk.after, limit, passed)
    if not ids and walk.after != NIL:
        walk.after = NIL
        ids = await stored.tickets_to_recount(tx, scope, NIL, limit, passed)
    return ids


async def _recount(house: House, tx: Tx, calendar: Calendar, reason: str, ids: list[str], skipped: set[str]) -> int:
    """Under the tickets' locks: who is held by somebody is waited for, as any writer would."""
    ids = await timers.lock_free(tx, ids, wait=True)
    tx = replace(tx, now=await tx.value(f"SELECT {house.db.now_sql}"))
    loaded = await batches.load(tx, ids)
    broken = dict(loaded.broken)
    decisions, same, moved = [], [], 0
    for ticket in loaded.tickets:
        try:
            env = house.env(tx, await house.rules_of(tx, ticket), ticket.district)
            decision, unmoved = recounting.recount(ticket, calendar, reason, env)
        except Unavailable:
            raise
        except Exception as error:  # its own fault: the others are counted
            broken[ticket.id] = error
            continue
        if decision.events or decision.firings:
            decisions.append(decision)
        before = {c.id: c.calendar_version for c in ticket.clocks}
        moved += sum(
            c.open and before.get(c.id, c.calendar_version) != c.calendar_version for c in decision.after.clocks
        )
        same += [(c.id, c.calendar_key, c.calendar_version, c.provisional, c.next_fire_at) for c in unmoved]
    for ticket_id, why in broken.items():
        log.error("a ticket cannot be counted by the new calendar", ticket=ticket_id, error=repr(why))
    skipped.update(broken)
    await saving.save(tx, decisions, house.new_id)
    await stored.repin(tx, same)
    await stored.advance(tx, calendar.key, calendar.version, len(same) + moved, moved)
    return len(ids)
