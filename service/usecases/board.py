"""The docket as a board for who runs it, and its figures of a year. The two kinds of matters are never added up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from service.core import rates
from service.core.access import require
from service.core.errors import Invalid
from service.core.model import Actor
from service.db import board as stored
from service.usecases import views
from service.usecases.house import House

STAGES: Mapping[str, tuple[str, str]] = {
    "proposed": ("待初审", "To be screened"),
    "preparing": ("会前准备", "Being prepared"),
    "scheduled": ("已列入议程", "On an agenda"),
    "minutes": ("待印发纪要", "Decided, minutes to be issued"),
    "executing": ("议定事项落实", "Being carried out"),
}
KINDS = ("enterprise_problem", "investment_project")
FIGURES = ("proposed", "accepted", "refused", "withdrawn", "decided", "executed")
DAY = timedelta(days=1)


async def board(house: House, actor: Actor, tier: int | None, kind: str | None, limit: int) -> dict[str, Any]:
    """Stages in their order, each with its count, how many are late, and those that are due first; counts by tier."""
    require(actor, "reviews:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await stored.board(tx, tier, kind, limit)
        counts = await stored.tiers(tx, tier, kind)
    by_stage: dict[str, list[Any]] = {name: [] for name in STAGES}
    for row in rows:
        by_stage[row["stage"]].append(row)
    stages = [
        {
            "stage": name,
            "title": STAGES[name][0],
            "title_en": STAGES[name][1],
            "count": of_stage[0]["of_stage"] if of_stage else 0,
            "late": of_stage[0]["late_of_stage"] if of_stage else 0,
            "items": [_card(row, tx.now, house.zone) for row in of_stage],
        }
        for name, of_stage in by_stage.items()
    ]
    as_of = views.local(tx.now, house.zone)
    return {"as_of": as_of, "tier": tier, "kind": kind, "stages": stages, "tiers": _tiers(counts)}


def _card(row: Mapping[str, Any], now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    """One matter. `next`: what is due first, a limit or the meeting."""
    steps = [(row["due_at"], row["clock"])] if row["due_at"] else []
    if row["stage"] == "scheduled" and row["held_at"]:
        steps.append((row["held_at"], "meeting"))
    due = min(steps, default=None)
    return {
        "review": row["id"],
        "number": row["number"],
        "kind": row["kind"],
        "tier": row["tier"],
        "ticket": {"id": row["ticket_id"], "number": row["ticket_number"], "title": row["title"]},
        "enterprise": row["enterprise"],
        "lead": row["lead"],
        "matter": row["matter"],
        "since": views.local(row["since"], zone),
        "age_days": max((now - row["since"]) // DAY, 0),
        "docket_days": max((now - row["proposed_at"]) // DAY, 0),
        "next": {"what": due[1], "at": views.local(due[0], zone)} if due else None,
        "late": row["late"] > 0,
        "meeting": row["meeting_id"],
    }


def _tiers(counts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Open matters by tier and kind; tier None: not screened yet."""
    found: dict[int | None, dict[str, dict[str, int]]] = {}
    for row in counts:
        of_tier = found.setdefault(row["tier"], {kind: dict.fromkeys(STAGES, 0) for kind in KINDS})
        of_tier[row["kind"]][row["stage"]] += row["matters"]
    return [{"tier": tier, **found[tier]} for tier in sorted(found, key=lambda t: (t is None, t or 0))]


async def year(house: House, actor: Actor, asked: int | None) -> dict[str, Any]:
    """The docket's year (by default this one). `value` of a rate is None where nothing was counted. Raises Invalid."""
    require(actor, "reports:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        today = tx.now.astimezone(house.zone).date()
        which = asked or today.year
        if not 2000 <= which <= today.year:
            raise Invalid.field("/year", f"expected a year from 2000 to {today.year}")
        first, last = date(which, 1, 1), date(which, 12, 31)
        start = datetime.combine(first, time(), house.zone)
        end = datetime.combine(last + DAY, time(), house.zone)
        rows = await stored.year(tx, start, end)
        measures = {r["kind"]: r for r in await stored.measures_of_year(tx, first, last, today, house.zone.key)}
        documents = await stored.minutes_of_year(tx, start, end)
        made = await stored.precedents_of_year(tx, first, last)
        now = tx.now
    answer = {
        "year": which,
        "as_of": now,
        "kinds": {
            kind: _of_kind([r for r in rows if r["kind"] == kind], measures.get(kind), which, kind) for kind in KINDS
        },
        "minutes": [dict(r) for r in documents],
        "precedents": made,
    }
    localised: dict[str, Any] = views.localised(answer, house.zone)
    return localised


def _of_kind(rows: list[Any], measures: Mapping[str, Any] | None, year: int, kind: str) -> dict[str, Any]:
    total, of_ground = Counter[str](), defaultdict[str, Counter[str]](Counter)
    for row in rows:
        found = [name for name in FIGURES if row[name]]
        total.update(found)
        for ground in row["grounds"]:
            of_ground[ground].update(found)

    def counted(counts: Counter[str], criterion: str | None = None) -> dict[str, Any]:
        told = {"year": str(year), "kind": kind, **({"criterion": criterion} if criterion else {})}
        where = "/v1/reports/reviews/matters"
        return {
            name: {"count": counts[name], "matters": f"{where}?{urlencode({**told, 'figure': name})}"}
            for name in FIGURES
        }

    decided = [r for r in rows if r["decided"]]
    counts = {name: int(measures[name]) for name in _MEASURES} if measures else dict.fromkeys(_MEASURES, 0)
    done = counts["on_time"] + counts["late"]
    return {
        **counted(total),
        "by_decision": {
            d: sum(r["decision"] == d for r in decided)
            for d in sorted({r["decision"] for r in decided if r["decision"]})
        },
        "by_criterion": [{"criterion": g, **counted(of_ground[g], g)} for g in sorted(of_ground)],
        "decided_on_time": _rate(sum(not r["decided_late"] for r in decided), len(decided)),
        "returned_for_more_work": sum(r["returns"] for r in rows if r["proposed"]),
        "days_to_decide": _spread([float(r["days_to_decide"]) for r in decided if r["days_to_decide"] is not None]),
        "days_to_minutes": _spread([float(r["days_to_minutes"]) for r in decided if r["days_to_minutes"] is not None]),
        "measures": counts | {"on_time_rate": _rate(counts["on_time"], done + counts["overdue"])},
    }


_MEASURES = ("due", "struck_off", "waived", "on_time", "late", "overdue", "satisfied", "dissatisfied")


def _rate(part: int, whole: int) -> dict[str, Any]:
    return {"numerator": part, "denominator": whole, "value": rates.value(part, whole)}


def _spread(values: list[float]) -> dict[str, float | None]:
    """Median and 90th percentile of natural days (nearest rank), None where there is nothing."""
    ordered = sorted(values)
    ranks = {name: -(-len(ordered) * p // 100) - 1 for name, p in (("p50", 50), ("p90", 90))}
    return {name: round(ordered[rank], 2) if ordered else None for name, rank in ranks.items()}


async def matters(
    house: House, actor: Actor, asked: int, kind: str, figure: str, criterion: str | None
) -> list[dict[str, Any]]:
    """Exactly the matters that a figure of the year counts. Raises Invalid."""
    require(actor, "reports:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        start = datetime.combine(date(asked, 1, 1), time(), house.zone)
        end = datetime.combine(date(asked + 1, 1, 1), time(), house.zone)
        rows = await stored.year(tx, start, end)
    wanted = [r for r in rows if r["kind"] == kind and r[figure] and (criterion is None or criterion in r["grounds"])]
    return [
        {
            "review": r["id"],
            "number": r["number"],
            "state": r["state"],
            "decision": r["decision"],
            "ticket": {"id": r["ticket_id"], "number": r["ticket_number"]},
        }
        for r in sorted(wanted, key=lambda r: str(r["id"]))
    ]
