"""The SLA report: figures and handling times by group, the tickets behind each figure, and a table for spreadsheets.

Figures, times and lists all come from one statement (db/reports), so a link lists exactly what its figure counts.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import numpy as np
from pydantic_core import from_json, to_json

from service.core import rates
from service.core.access import require, scope_of
from service.core.calendar import IntArray
from service.core.errors import Invalid
from service.core.model import Actor
from service.db import reports
from service.db.reports import Counts, Key, Scope, Spans
from service.db.session import Tx
from service.usecases.house import House
from service.usecases.sheets import Cell

DEFAULT_DAYS = 90
MAX_YEARS = 5
MAX_LIMIT = 200
MAX_RESTATED = 500
LISTED_AT = "/v1/reports/sla/tickets"
EARLIEST, LATEST = date(2000, 1, 2), date(2079, 12, 30)  # what a calendar can reckon with


async def sla(
    house: House,
    actor: Actor,
    *,
    start: str | None = None,
    end: str | None = None,
    group_by: str | None = None,
    as_of: str | None = None,
) -> dict[str, Any]:
    """The report of a period, as JSON-able data. Arguments are the query's own words; None is the default.

    `start`, `end`: dates (the last one included) or RFC 3339 instants (the last one excluded). `group_by`: names of
    db.reports.KEYS with commas. Raises Invalid naming the parameter, and Forbidden. A handler's report covers his or
    her own departments.
    """
    require(actor, "reports:read")
    keys = _keys(group_by)
    async with house.db.transaction(actor, readonly=True) as tx:
        scope = period_of(tx, actor, house.zone, start, end, as_of)
        changed = await reports.restated(tx, scope, MAX_RESTATED)
    # side by side, each in a transaction of its own: what they tell is fixed by `as of`, not by a common snapshot
    first, second = (_counted(house, actor, scope, keys, parts) for parts in reports.HALVES)
    one, other, (times, all_times) = await asyncio.gather(first, second, _timed(house, actor, scope, keys))
    counts = _joined((one, other))
    period = {
        "from": _text(scope.start, house.zone),
        "to": _text(scope.end, house.zone),
        "as_of": _text(scope.as_of, house.zone),
    }
    groups = []
    for values in sorted(counts, key=_nulls_last):
        key = dict(zip(keys, values, strict=True))
        found = _figures(
            counts[values], times.get(values, _NO_TIMES), {**period, **{k: v or "" for k, v in key.items()}}
        )
        groups.append({"key": key, **found})
    total = _figures(_sum(counts.values()), all_times, period)
    restated = [_restated(row, house.zone) for row in changed]
    return {**period, "group_by": list(keys), "groups": groups, "total": total, "restated": restated}


async def sla_tickets(
    house: House,
    actor: Actor,
    *,
    figure: str,
    start: str | None = None,
    end: str | None = None,
    as_of: str | None = None,
    filters: Mapping[str, str] | None = None,
    part: str = "denominator",
    cursor: str | None = None,
    limit: int = 50,
) -> dict[str, Any]:
    """What a figure counts: `{items: [{id, number, hit, department, at}], next_cursor}`, by ticket id.

    One item for each thing counted, so there are as many items as the denominator says (of a count: the numerator),
    and those with `hit` are the numerator; `part` "numerator" lists only these, "excluded" what an
    exemption keeps out. `filters`: a group's key, "" for null.
    """
    require(actor, "reports:read")
    if figure not in rates.NAMES:
        raise Invalid.field("/figure", f"expected one of: {', '.join(rates.NAMES)}")
    if part not in {"numerator", "denominator", "excluded"}:
        raise Invalid.field("/part", "expected numerator, denominator or excluded")
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid.field("/limit", f"expected 1 to {MAX_LIMIT}")
    wanted = _filters(filters or {})
    after = _place(cursor)
    async with house.db.transaction(actor, readonly=True) as tx:
        scope = period_of(tx, actor, house.zone, start, end, as_of)
        await reports.prepare(tx)
        rows = await reports.sla_tickets(tx, scope, figure, wanted, part=part, after=after, limit=limit + 1)
    items = [
        {
            "id": row["ticket_id"],
            "number": row["number"],
            "hit": row["hit"],
            "department": row["department"],
            "at": _text(row["at"], house.zone),
        }
        for row in rows[:limit]
    ]
    last = (rows[limit - 1]["ticket_id"], rows[limit - 1]["subject"]) if len(rows) > limit else None
    return {"items": items, "next_cursor": _cursor(last) if last else None}


def sla_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[Cell]]]:
    """One row a group; numerator, denominator, value and excluded of each figure, then the handling times."""
    keys: list[str] = report["group_by"]
    spans = [(kind, f"p{p}") for kind in ("gross", "net") for p in rates.PERCENTILES]
    header = [*keys, *(f"{name}.{column}" for name in rates.NAMES for column in _COLUMNS)]
    header += [f"{kind}_hours.{p}" for kind, p in spans]
    rows = []
    for group in report["groups"]:
        row: list[Cell] = [group["key"][name] or "" for name in keys]
        row += [group["figures"][name][column] for name in rates.NAMES for column in _COLUMNS]
        row += [group["times"][kind][p] for kind, p in spans]
        rows.append(row)
    return header, rows


_COLUMNS = ("numerator", "denominator", "value", "excluded")


def _restated(row: Mapping[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    kept = ("scope", "round", "code", "change", "by", "reason")
    told = {"exemption": row["id"], "ticket": {"id": row["ticket_id"], "number": row["number"]}}
    return {**told, **{k: row[k] for k in kept}, "at": _text(row["at"], zone)}


# --- what was asked ----------------------------------------------------------------------------------------------

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_INSTANT = re.compile(_DATE.pattern + r"[Tt][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?([Zz]|[+-][0-9]{2}:[0-9]{2})")


def _keys(group_by: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (group_by or "department").split(","))
    if not set(names) <= set(reports.KEYS) or len(set(names)) < len(names):
        raise Invalid.field("/group_by", f"expected some of {', '.join(reports.KEYS)}, each once, with commas between")
    return names


def _filters(filters: Mapping[str, str]) -> dict[str, str | None]:
    for name, value in filters.items():
        if name not in reports.KEYS:
            raise Invalid.field(f"/{name}", f"expected one of the keys {', '.join(reports.KEYS)}")
        if "\x00" in value:
            raise Invalid.field(f"/{name}", "expected text without NUL characters")
    return {name: value or None for name, value in filters.items()}


def period_of(tx: Tx, actor: Actor, zone: ZoneInfo, start: str | None, end: str | None, as_of: str | None) -> Scope:
    """The period asked for. Without dates the last 90 days; never more than five years."""
    at = instant("/as_of", as_of, zone, closing=True) if as_of else tx.now
    if at > tx.now:
        raise Invalid.field("/as_of", "expected an instant that is not in the future")
    until = instant("/to", end, zone, closing=True) if end else at
    since = instant("/from", start, zone, closing=False) if start else until - timedelta(days=DEFAULT_DAYS)
    if since >= at:
        raise Invalid.field("/from", "expected a period that has begun")
    if since >= until:
        raise Invalid.field("/to", "expected something later than `from`")
    local = since.astimezone(zone)
    day = 28 if (local.month, local.day) == (2, 29) else local.day
    if until > local.replace(year=local.year + MAX_YEARS, day=day):
        raise Invalid.field("/to", f"expected a period of at most {MAX_YEARS} years")
    return Scope(since, until, at, scope_of(actor), zone.key)


def instant(pointer: str, text: str, zone: ZoneInfo, *, closing: bool) -> datetime:
    """A date is the midnight at which it begins or, `closing`, the one at which it ends."""
    try:
        if _DATE.fullmatch(text):
            day = date.fromisoformat(text)
            found = datetime.combine(day + timedelta(days=closing), time(), zone)
        elif _INSTANT.fullmatch(text):
            found = datetime.fromisoformat(text.upper())
            day = found.astimezone(zone).date()
        else:
            raise ValueError(text)
    except (ValueError, OverflowError):
        hint = "expected a date such as 2026-11-01 or an instant such as 2026-11-01T00:00:00+08:00 (+ is %2B in a URL)"
        raise Invalid.field(pointer, hint) from None
    if not EARLIEST <= day <= LATEST:
        raise Invalid.field(pointer, f"expected a time from {EARLIEST} to {LATEST}")
    return found


def _cursor(place: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(to_json(place)).decode().rstrip("=")


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def _place(cursor: str | None) -> tuple[str, str] | None:
    if not cursor:
        return None
    try:
        ticket, subject = from_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not _UUID.fullmatch(ticket) or not isinstance(subject, str) or "\x00" in subject:
            raise ValueError("not a place")
    except (ValueError, TypeError, binascii.Error):
        raise Invalid.field("/cursor", "expected the next_cursor of an earlier answer") from None
    return ticket, subject


# --- what is answered ----------------------------------------------------------------------------------------------


def _text(instant: datetime, zone: ZoneInfo) -> str:
    return instant.astimezone(zone).isoformat()


def _nulls_last(key: Key) -> tuple[tuple[bool, str], ...]:
    return tuple((value is None, value or "") for value in key)


Counted = dict[str, tuple[int, int, int]]


def _sum(groups: Iterable[Mapping[str, tuple[int, int, int]]]) -> Counted:
    out: Counted = {}
    for group in groups:
        for figure, (numerator, denominator, excluded) in group.items():
            before = out.get(figure, (0, 0, 0))
            out[figure] = (before[0] + numerator, before[1] + denominator, before[2] + excluded)
    return out


def _figures(
    counts: Mapping[str, tuple[int, int, int]], times: Mapping[str, Any], where: Mapping[str, str]
) -> dict[str, Any]:
    def link(figure: str) -> str:
        return f"{LISTED_AT}?{urlencode({'figure': figure, **where})}"

    return {"figures": rates.figures(counts, link), "times": {**times, "tickets": link("completed")}}


_NO_SPANS: IntArray = np.zeros(0, dtype=np.int64)


def _shown(gross_us: IntArray, net_us: IntArray) -> dict[str, Any]:
    """Handling times in hours. Gross: received to closed. Net: office time of the resolve clocks, without pauses."""
    return {"count": len(gross_us), "gross": rates.hours(gross_us), "net": rates.hours(net_us)}


_NO_TIMES = _shown(_NO_SPANS, _NO_SPANS)


async def _counted(house: House, actor: Actor, scope: Scope, keys: Sequence[str], parts: Sequence[str]) -> Counts:
    async with house.db.transaction(actor, readonly=True) as tx:
        await reports.prepare(tx)
        return await reports.sla_counts(tx, scope, keys, parts)


Times = dict[str, Any]


async def _timed(house: House, actor: Actor, scope: Scope, keys: Sequence[str]) -> tuple[dict[Key, Times], Times]:
    async with house.db.transaction(actor, readonly=True) as tx:
        await reports.prepare(tx)
        return await _times(house, tx, await reports.sla_times(tx, scope, keys))


def _joined(halves: Iterable[Counts]) -> Counts:
    """The figures of several statements, group by group; each figure is counted by one of them only."""
    out: Counts = {}
    for half in halves:
        for key, figures in half.items():
            out.setdefault(key, {}).update(figures)
    return out


async def _times(house: House, tx: Tx, spans: Sequence[Spans]) -> tuple[dict[Key, Times], Times]:
    """Handling times by group, and of all. Each span is measured with the calendar its clock was counted by (T2)."""
    size = 1 + max((n for s in spans for n in s.tickets), default=0)
    gross, net = np.full(size, -1, dtype=np.int64), np.full(size, -1, dtype=np.int64)
    members: dict[Key, IntArray] = {}
    # -1 says that nothing was measured: a ticket without a resolve clock has no net time
    for span in sorted(spans, key=lambda s: -s.sign):
        tickets = np.array(span.tickets, dtype=np.int64)
        since, until = np.array(span.since_us, dtype=np.int64), np.array(span.until_us, dtype=np.int64)
        if span.calendar is None:
            gross[tickets] = until - since
            members[span.key] = tickets
            continue
        calendar = await house.calendar_version(tx, *span.calendar)
        net[tickets] = np.maximum(net[tickets], 0)
        np.add.at(net, tickets, span.sign * rates.office_time(calendar, since, until))
    by_group = {key: _shown(gross[n], net[n][net[n] >= 0]) for key, n in members.items()}
    return by_group, _shown(gross[gross >= 0], net[net >= 0])
