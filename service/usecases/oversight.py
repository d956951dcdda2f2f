"""Supervisors' boards beside the SLA report: breaches, ages, loads, trends, scorecards, and the daily and weekly lists.

Each number comes with the link that lists what it counts. What is open is told as of now; what happened, of a period. A
handler sees the figures of his or her own departments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

from service.core import rates, scoring
from service.core.access import require, scope_of
from service.core.calendar import Calendar, Measure
from service.core.errors import Forbidden, Invalid, NotFound
from service.core.model import Actor
from service.db import oversight, reports
from service.db.reports import PARTS, Scope
from service.usecases import views
from service.usecases.house import House
from service.usecases.reports import LISTED_AT, period_of, sla

AGE_EDGES = (1, 3, 5, 10, 15, 30, 60)
"""Days at which a bucket of ages ends and the next begins."""
DAILY = ("due_today", "due_next_working_day", "red", "unsigned", "return_loops", "unreachable")
WEEKLY = ("reworked_twice", "returns_denied", "planned_past_date")
TREND = ("on_time_completion_rate", "response_rate", "resolution_rate", "satisfaction_rate", "new", "closed")
Place = tuple[datetime, str] | None


# --- what happened in a period ---------------------------------------------------------------------------------------


async def breaches(
    house: House,
    actor: Actor,
    period: tuple[str | None, str | None, str | None],
    *,
    department: str | None,
    clock: str | None,
    domain: str | None,
    running: bool | None,
    after: Place,
    limit: int,
) -> tuple[dict[str, Any], Place]:
    """Broken promises of a period, newest first, with counts by unit and clock; and the place to go on from."""
    require(actor, "reports:read")
    filters = (department, clock, domain, running)
    async with house.db.transaction(actor, readonly=True) as tx:
        scope = period_of(tx, actor, house.zone, *period)
        rows = await oversight.breaches(tx, scope, filters, after, limit + 1)
        counts = await oversight.breach_counts(tx, scope, filters)
        now = tx.now
    items = [_breach(house, row, now) for row in rows[:limit]]
    groups = [{"key": {"department": r["department"], "clock": r["name"]}, **_numbers(r)} for r in counts]
    total = {name: sum(r[name] for r in counts) for name in ("breaches", "running", "excluded")}
    last = (rows[limit - 1]["breached_at"], rows[limit - 1]["id"]) if len(rows) > limit else None
    return {**_period(scope, house), "groups": groups, "total": total, "items": items}, last


def _numbers(row: Mapping[str, Any]) -> dict[str, int]:
    return {name: row[name] for name in ("breaches", "running", "excluded")}


def _breach(house: House, row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    overdue = (row["ended_at"] or now) - row["due_at"]
    return {
        "ticket": {"id": row["ticket_id"], "number": row["number"], "title": row["title"], "domain": row["domain"]},
        "clock": row["name"],
        "cycle": row["cycle"],
        "charged_to": row["department"] or "centre",
        "state": row["state"],
        "due_at": views.local(row["due_at"], house.zone),
        "breached_at": views.local(row["breached_at"], house.zone),
        "ended_at": views.local(row["ended_at"], house.zone),
        "overdue_hours": round(max(overdue, timedelta()) / timedelta(hours=1), 2),
        "exempt": row["exempt"],
    }


async def trend(
    house: House, actor: Actor, period: tuple[str | None, str | None, str | None], *, figures: str | None, by: str,
    department: str | None,
) -> dict[str, Any]:  # fmt: skip
    """Figures month by month or week by week; a period without anything to count is there, with null."""
    require(actor, "reports:read")
    names = tuple(name.strip() for name in figures.split(",")) if figures else TREND
    if not set(names) <= set(rates.NAMES) or len(set(names)) < len(names):
        raise Invalid.field("/figures", f"expected some of {', '.join(rates.NAMES)}, each once, with commas between")
    parts = [part for part, listed in PARTS.items() if set(listed) & set(names)]
    async with house.db.transaction(actor, readonly=True) as tx:
        scope = _narrowed(period_of(tx, actor, house.zone, *period), actor, department)
        await reports.prepare(tx)
        counts = await reports.sla_counts(tx, scope, [by], parts)
    told = _period(scope, house)
    series = []
    for label in _labels(scope, house, by):
        where = {**told, by: label, **({"department": department} if department else {})}
        found = rates.figures(counts.get((label,), {}), lambda n, w=where: _link(LISTED_AT, figure=n, **w))  # type: ignore[misc]
        series.append({by: label, "figures": {name: found[name] for name in names}})
    return {**told, "by": by, "department": department, "series": series}


def _labels(scope: Scope, house: House, by: str) -> list[str]:
    """Every month or ISO week that the period touches."""
    day = scope.start.astimezone(house.zone).date()
    last = (min(scope.end, scope.as_of) - timedelta(microseconds=1)).astimezone(house.zone).date()
    out: list[str] = []
    while day <= last:
        year, week, _ = day.isocalendar()
        label = f"{year}-W{week:02}" if by == "week" else f"{day:%Y-%m}"
        if not out or out[-1] != label:
            out.append(label)
        day += timedelta(days=1)
    return out


async def scorecards(
    house: House, actor: Actor, key: str, *, start: str | None, end: str | None, as_of: str | None
) -> dict[str, Any]:
    """Points of each unit by the published scorecard, class by class; every deduction opens into its tickets."""
    require(actor, "reports:read")
    stored = house.rules.bodies.get(("scorecard", key))
    if stored is None:
        known = ", ".join(k for kind, k in house.rules.bodies if kind == "scorecard") or "none"
        raise NotFound(f"There is no scorecard {key!r}; there are: {known}.")
    version, body = stored
    card = scoring.parse_scorecard(body)
    report = await sla(house, actor, start=start, end=end, as_of=as_of, group_by="department")
    class_of = {kind: name for name, kinds in card.classes.items() for kind in kinds}
    units: dict[str, list[dict[str, Any]]] = {name: [] for name in card.classes}
    for group in report["groups"]:
        unit = house.rules.departments.get(group["key"]["department"] or "")
        if unit is not None and unit["kind"] in class_of:
            units[class_of[unit["kind"]]].append(_card(card, unit, group["figures"]))
    for listed in units.values():
        listed.sort(key=lambda u: (u["share"] is None, -(u["share"] or 0) if card.ranked else 0, u["department"]))
        for place, unit_card in enumerate(listed, 1):
            if card.ranked and unit_card["share"] is not None:
                unit_card["rank"] = place
    return {
        **{name: report[name] for name in ("from", "to", "as_of")},
        "scorecard": {"key": card.key, "version": version, "title": card.title.zh, "title_en": card.title.en},
        "ranked": card.ranked,
        "classes": [{"class": name, "units": listed} for name, listed in units.items()],
        "restated": report["restated"],
    }


def _card(card: scoring.ScorecardDoc, unit: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, Any]:
    scored = scoring.score(card, figures)
    counted = [s for s in scored if s.points is not None]
    points, most = (
        sum((s.points or Decimal(0) for s in counted), Decimal(0)),
        sum((s.most for s in counted), Decimal(0)),
    )
    return {
        "department": unit["code"],
        "title": unit["title"]["zh"],
        "points": float(points) if counted else None,
        "of": float(most) if counted else None,
        "share": rates.value(int(points * 100), int(most * 100)) if counted else None,
        "metrics": [
            {
                "figure": s.figure,
                "points": None if s.points is None else float(s.points),
                "of": float(s.most),
                "deducted": None if s.points is None else float(s.most - s.points),
                "not_scored_because": s.because or None,
                **{k: figures[s.figure][k] for k in ("numerator", "denominator", "value", "excluded", "tickets")},
            }
            for s in scored
        ],
    }


# --- what is open now --------------------------------------------------------------------------------------------------


async def aging(house: House, actor: Actor, group_by: str) -> dict[str, Any]:
    """Open tickets by age in days since they were received."""
    require(actor, "reports:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await oversight.aging(tx, scope_of(actor), group_by, AGE_EDGES)
        now = tx.now
    groups: dict[str | None, dict[str, Any]] = {}
    for row in rows:
        group = groups.setdefault(row["key"], {"key": {group_by: row["key"]}, "tickets": 0, "overdue": 0, "paused": 0,
                                               "oldest_days": 0.0, "buckets": _buckets(group_by, row["key"])})  # fmt: skip
        for name in ("tickets", "overdue", "paused"):
            group[name] += row[name]
        group["oldest_days"] = max(group["oldest_days"], round(row["oldest_days"], 2))
        group["buckets"][row["bucket"]] |= {name: row[name] for name in ("tickets", "overdue", "paused")}
    listed = list(groups.values())
    total = {name: sum(g[name] for g in listed) for name in ("tickets", "overdue", "paused")}
    return {"as_of": views.local(now, house.zone), "group_by": group_by, "groups": listed, "total": total}


def _buckets(group_by: str, key: str | None) -> list[dict[str, Any]]:
    edges = [None, *AGE_EDGES, None]
    return [
        {
            "from_days": low or 0,
            "to_days": high,
            "tickets": 0,
            "overdue": 0,
            "paused": 0,
            "listed": _link("/v1/reports/aging/tickets", **{group_by: key or "", "from_days": low, "to_days": high}),
        }
        for low, high in pairwise(edges)
    ]


async def aged(
    house: House,
    actor: Actor,
    filters: Mapping[str, str],
    ages: tuple[int | None, int | None],
    after: Place,
    limit: int,
) -> tuple[list[dict[str, Any]], Place]:
    """The open tickets that a bucket counts, oldest first."""
    require(actor, "reports:read")
    wanted = {name: value or None for name, value in filters.items()}
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await oversight.aged(tx, scope_of(actor), wanted, ages, after, limit + 1)
    kept = ("id", "number", "title", "department", "domain", "phase", "round", "overdue", "received_at", "next_due_at")
    items = [views.localised({k: r[k] for k in kept} | {"age_days": round(float(r["age_days"]), 2)}, house.zone)
             for r in rows[:limit]]  # fmt: skip
    return items, (rows[limit - 1]["received_at"], rows[limit - 1]["id"]) if len(rows) > limit else None


async def workload(house: House, actor: Actor, start: str | None, end: str | None) -> dict[str, Any]:
    """What each unit has in hand now and who of it, and what came and went in the period."""
    require(actor, "reports:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        scope = period_of(tx, actor, house.zone, start, end, None)
        units, people = await oversight.workload(tx, scope, *_days(house, tx.now))
        now = tx.now
    named: dict[str, list[dict[str, Any]]] = {}
    for row in people:
        named.setdefault(row["department"], []).append({"assignee": row["assignee"], "tickets": row["tickets"]})
    groups = [
        {
            "key": {"department": row["department"]},
            **{name: row[name] for name in row.keys() if name != "department"},  # noqa: SIM118  # a row, not a mapping
            "people": named.get(row["department"], []),
        }
        for row in units
    ]
    return {**_period(scope, house), "as_of": views.local(now, house.zone), "groups": groups}


async def lists(house: House, actor: Actor, names: Sequence[str], at: str) -> dict[str, Any]:
    """How many tickets stand on each list, with the link that shows them."""
    require(actor, "reports:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        today, tomorrow = _days(house, tx.now)
        counts = await oversight.list_counts(tx, scope_of(actor), today, tomorrow)
        told = {"as_of": views.local(tx.now, house.zone), "next_working_day": _local_day(house, tomorrow)}
    return {**told, "lists": {n: {"tickets": counts[n], "listed": _link(at, list=n)} for n in names}}


async def listed(
    house: House, actor: Actor, name: str, after: Place, limit: int
) -> tuple[list[dict[str, Any]], tuple[str, str] | None]:
    """The tickets of one list, nearest due first."""
    require(actor, "reports:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await oversight.listed(tx, name, scope_of(actor), *_days(house, tx.now), after, limit + 1)
    kept = ("id", "number", "title", "domain", "phase", "department", "round", "received_at", "next_due_at")
    items = [views.localised({k: r[k] for k in kept}, house.zone) for r in rows[:limit]]
    if len(rows) <= limit:
        return items, None
    at = rows[limit - 1]["next_due_at"]
    return items, (at.isoformat() if at else "infinity", rows[limit - 1]["id"])


# --- days, periods, links ----------------------------------------------------------------------------------------------


def city_calendar(house: House) -> Calendar:
    """The calendar by which the city's own lists tell days."""
    calendars = house.rules.newest_calendars
    return calendars.get("cn-jinan") or next(iter(calendars.values()))


def _days(house: House, now: datetime) -> tuple[datetime, datetime]:
    """The ends of today and of the next working day."""
    calendar = city_calendar(house)
    today = calendar.local_date(now)
    return calendar.end_of(today), calendar.end_of(calendar.nth_day(today, 1, Measure.working_days))


def _local_day(house: House, end: datetime) -> str:
    day: date = (end - timedelta(microseconds=1)).astimezone(house.zone).date()
    return day.isoformat()


def _narrowed(scope: Scope, actor: Actor, department: str | None) -> Scope:
    if department is None:
        return scope
    own = scope_of(actor)
    if own is not None and department not in own:
        raise Forbidden("These are the figures of another department.")
    return replace(scope, departments=(department,))


def _period(scope: Scope, house: House) -> dict[str, Any]:
    told = {"from": scope.start, "to": scope.end, "as_of": scope.as_of}
    return {name: views.local(at, house.zone) for name, at in told.items()}


def _link(path: str, **query: Any) -> str:
    return f"{path}?{urlencode({name: value for name, value in query.items() if value is not None})}"
