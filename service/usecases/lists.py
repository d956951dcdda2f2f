"""Lists: the queue with its filters, counts and saved views; tickets by creation, and by what is said in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any

from service.core.access import scope_of
from service.core.confidence import HIDDEN
from service.core.errors import Forbidden
from service.core.model import Actor
from service.core.queue import Filter
from service.core.words import Wanted, excerpt, wanted
from service.db import finding
from service.db.session import Tx
from service.usecases import views
from service.usecases.house import House

Place = tuple[str, str]


async def queue(
    house: House, actor: Actor, f: Filter, after: tuple[datetime, str] | None, limit: int
) -> tuple[list[dict[str, Any]], Place | None]:
    """Open tickets of the caller's departments, nearest due first; the last row's place when there are more."""
    scope, f, words = _asked(actor, f)
    async with house.db.transaction(actor, readonly=True) as tx:
        await finding.plan_afresh(tx)
        rows, place = await finding.queue(tx, scope, f, words, after, limit)
        legs = await finding.open_legs(tx, [row["id"] for row in rows])
        items = [await _row(house, tx, row, legs.get(row["id"], [])) for row in rows]
    return items, None if place is None else (_told(place[0]), place[1])


def _told(due: datetime) -> str:
    """The driver's own sign for infinity stands for no due time."""
    return "infinity" if due.year > 9000 else due.isoformat()


def _asked(actor: Actor, f: Filter) -> tuple[tuple[str, ...] | None, Filter, Wanted | None]:
    """The departments whose queue is asked for, the filters for this person, and the words that are looked for."""
    scope = scope_of(actor)
    if f.department is not None:
        if scope is not None and f.department not in scope:
            raise Forbidden("This is the queue of another department.")
        scope = (f.department,)
    me = actor.subject if f.assignee == "me" else f.assignee
    return scope, replace(f, assignee=me), wanted(f.q) if f.q is not None else None


async def _row(house: House, tx: Tx, row: Any, legs: list[Any]) -> dict[str, Any]:
    flow = await house.workflow(tx, row["workflow_key"], row["workflow_version"])
    lead = next((leg for leg in legs if leg["role"] == "lead"), None)
    title = flow.stages[row["stage"]][1]
    kept = (
        "id", "number", "title", "enterprise", "domain", "matter", "urgency", "district", "stage", "phase", "round",
        "version",
    )  # fmt: skip
    return {
        **_shown_in_lists({k: row[k] for k in kept}, row),
        "confidential": row["confidential"],
        "stage_title": title["zh"],
        "lead": {"department": row["lead"], "assignee": lead["assignee"] if lead else None} if row["lead"] else None,
        "co_handlers": [leg["department"] for leg in legs if leg["role"] == "co_handler"],
        "cards": [card["level"] for card in row["cards"] or ()],
        "due_at": views.local(row["next_due_at"], house.zone),
        "overdue": row["next_due_at"] is not None and row["next_due_at"] < tx.now,
        "received_at": views.local(row["received_at"], house.zone),
    }


COUNTED = (
    "tickets", "overdue", "due_today", "due_next_working_day", "yellow", "red", "urgent", "mine", "unassigned",
)  # fmt: skip


async def counts(house: House, actor: Actor, f: Filter) -> dict[str, Any]:
    """The same queue in numbers, in all and by phase. The next working day is the city's."""
    scope, f, words = _asked(actor, f)
    async with house.db.transaction(actor, readonly=True) as tx:
        await finding.plan_afresh(tx)
        rows = await finding.counts(tx, scope, f, words, actor.subject, _ends_of_days(house, tx.now))
    phases = {row["phase"]: {name: row[name] for name in COUNTED} for row in rows}
    return {
        "as_of": views.local(tx.now, house.zone),
        "filters": f.as_dict(),
        "total": {name: sum(phase[name] for phase in phases.values()) for name in COUNTED},
        "phases": phases,
    }


def _ends_of_days(house: House, now: datetime) -> tuple[datetime, datetime]:
    """The end of today, and that of the next working day."""
    today = now.astimezone(house.zone).date()
    tomorrow = today + timedelta(days=1)
    calendar = next(iter(house.rules.newest_calendars.values()), None)
    working = calendar.roll(tomorrow) if calendar is not None else tomorrow
    return _end_of(today, house), _end_of(working, house)


def _end_of(day: date, house: House) -> datetime:
    return datetime.combine(day + timedelta(days=1), time(), house.zone)


async def tickets(
    house: House, actor: Actor, filters: Mapping[str, str | None], q: str | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """Tickets, newest first; with `q` those that say every one of its words, each with the place where it stands."""
    words = wanted(q) if q is not None else None
    async with house.db.transaction(actor, readonly=True) as tx:
        await finding.plan_afresh(tx)
        rows, last = await finding.tickets(tx, dict(filters), words, after, limit)
    return [_found(row, words, house) for row in rows], last


def _found(row: Any, words: Wanted | None, house: House) -> dict[str, Any]:
    told: dict[str, Any] = views.localised({k: v for k, v in row.items() if k != "description"}, house.zone)
    told = _shown_in_lists(told, row)
    if words is None or row["confidential"]:
        return told
    places = (excerpt(row[field], words.words) for field in ("title", "description"))
    return {**told, "excerpt": next((place for place in places if place), None)}


def _shown_in_lists(told: dict[str, Any], row: Any) -> dict[str, Any]:
    """A row of a list: of a confidential ticket nobody sees there what it says; looking at it is an event of its own."""
    if not row["confidential"]:
        return told
    return {**told, **{name: HIDDEN for name in ("title", "enterprise") if name in told}}
