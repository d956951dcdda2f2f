"""Tickets out of PostgreSQL: lock, load whole. (`saving` writes them.)"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from pydantic_core import from_json

from service.core.calendar import Measure
from service.core.model import (
    Approval,
    Assignment,
    Clock,
    ClockState,
    Extension,
    MeasureTask,
    Opinion,
    Phase,
    Review,
    Round,
    Segment,
    Ticket,
    evolve,
)
from service.db import tables
from service.db.session import Tx

CHILDREN: Mapping[str, tuple[type[Any], type[Any]]] = {
    "rounds": (Round, tables.RoundRow),
    "assignments": (Assignment, tables.AssignmentRow),
    "clocks": (Clock, tables.ClockRow),
    "approvals": (Approval, tables.ApprovalRow),
    "reviews": (Review, tables.ReviewRow),
    "opinions": (Opinion, tables.OpinionRow),
    "measures": (MeasureTask, tables.MeasureRow),
}
"""Attribute of `Ticket` (and name of the table) -> value class, row class."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_NUMBER = re.compile(r"QY[0-9]{15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Stored:
    """A ticket as loaded: its changing state, and the row with what was said at intake (`row` by column name)."""

    ticket: Ticket
    row: Mapping[str, Any]


def not_recused(tickets: str = "tickets") -> str:
    """SQL: a city-wide role is under no policy, but a person who is recused from a ticket is kept out all the same."""
    return f"NOT 'person:' || current_setting('jieban.client', true) = ANY({tickets}.recused)"


NOT_RECUSED = not_recused()


# --- finding and locking ---------------------------------------------------------------------------------------------


async def resolve(tx: Tx, ref: str) -> str | None:
    """The id of a ticket named by id or number, if the actor may see it."""
    if _UUID.fullmatch(ref):
        found = await tx.value(f"SELECT id FROM tickets WHERE id = $1 AND {NOT_RECUSED}", ref)  # noqa: S608
    elif _NUMBER.fullmatch(ref):
        found = await tx.value(f"SELECT id FROM tickets WHERE number = $1 AND {NOT_RECUSED}", ref)  # noqa: S608
    else:
        found = None
    return found  # type: ignore[no-any-return]


async def lock(tx: Tx, ref: str) -> str | None:
    """Take the ticket's row lock (waiting up to lock_timeout); the id, or None when absent or not visible."""
    column = "id" if _UUID.fullmatch(ref) else "number" if _NUMBER.fullmatch(ref) else None
    if column is None:
        return None
    return await tx.value(f"SELECT id FROM tickets WHERE {column} = $1 AND {NOT_RECUSED} FOR NO KEY UPDATE", ref)  # type: ignore[no-any-return]  # noqa: S608


async def next_numbers(tx: Tx, count: int) -> list[int]:
    """The running numbers of the next tickets."""
    rows = await tx.rows("SELECT nextval('ticket_number') AS n FROM generate_series(1, $1)", count)
    return [row["n"] for row in rows]


def _aggregate(table: str) -> str:
    # ids are time-ordered, so children come in the order in which they were made
    order = "number" if table == "rounds" else "id"
    return f"(SELECT json_agg(c ORDER BY c.{order}) FROM {table} c WHERE c.ticket_id = t.id) AS {table}"  # noqa: S608


LOAD = f"SELECT t.*, {', '.join(_aggregate(table) for table in CHILDREN)} FROM tickets t WHERE t.id = ANY($1::uuid[])"  # noqa: S608


async def load(tx: Tx, ids: Sequence[str]) -> dict[str, Stored]:
    """Whole tickets by id, one round trip for any number. Lock first: children are read as of this statement."""
    return {row["id"]: _stored(row) for row in await tx.rows(LOAD, list(ids))}


# --- from rows to values -----------------------------------------------------------------------------------------------


_HEADER = tuple(f.name for f in fields(Ticket) if f.name not in {*CHILDREN, "phase", "visible_to", "recused"})


def _stored(row: Any) -> Stored:
    children: dict[str, Any] = {name: _children(cls, row[name]) for name, (cls, _) in CHILDREN.items()}
    policy = {"workflow_key": row["workflow_key"], "workflow_version": row["workflow_version"]}
    # a clock that was started before clocks had a policy of their own has its ticket's
    children["clocks"] = tuple(c if c.workflow_key else evolve(c, **policy) for c in children["clocks"])
    ticket = Ticket(
        **{name: row[name] for name in _HEADER},
        phase=Phase(row["phase"]),
        visible_to=tuple(row["visible_to"]),
        recused=tuple(row["recused"]),
        **children,
    )
    return Stored(ticket, row)


_TIMES = {cls: tuple(f.name for f in fields(cls) if "datetime" in str(f.type)) for cls, _ in CHILDREN.values()}
_NAMES = {cls: tuple(f.name for f in fields(cls)) for cls, _ in CHILDREN.values()}
_TUPLES = {
    Clock: ("fired", "changes"),
    Approval: ("decisions",),
    Review: ("grounds", "options", "dissents", "recused"),
    MeasureTask: ("progress", "co_units"),
}


def _children(cls: type[Any], aggregated: str | None) -> tuple[Any, ...]:
    return tuple(_child(cls, row) for row in from_json(aggregated)) if aggregated else ()


def _child(cls: type[Any], row: dict[str, Any]) -> Any:
    values = {name: row[name] for name in _NAMES[cls]}
    for name in _TIMES[cls]:
        if values[name] is not None:
            values[name] = datetime.fromisoformat(values[name])
    for name in _TUPLES.get(cls, ()):
        values[name] = tuple(values[name])
    if cls is Clock:
        values["measure"], values["state"] = Measure(values["measure"]), ClockState(values["state"])
        values["segments"] = tuple(segment(s) for s in values["segments"])
        values["extensions"] = tuple(extension(e) for e in values["extensions"])
    return cls(**values)


def clock_of(text: str) -> Clock:
    """One clock from its row as JSON."""
    return _child(Clock, from_json(text))  # type: ignore[no-any-return]


def extension(e: Mapping[str, Any]) -> Extension:
    return Extension(e["amount"], _time(e["at"]), e["by"], e["ground"])


def segment(s: Mapping[str, Any]) -> Segment:
    return Segment(s["kind"], _time(s["start"]), _maybe(s["end"]), _maybe(s["until"]), s["reason"], s["by"])


def _time(value: str) -> datetime:
    return datetime.fromisoformat(value)


def _maybe(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
