"""Tickets in and out of PostgreSQL: lock, load whole, save set-wise.

`save` writes any number of decided tickets with everything that hangs on them in one statement, from JSON arrays of rows
(`json_populate_recordset`): a request costs one round trip for its writes, a pump batch of hundreds too. The column lists
come from `db.tables`, so a renamed column fails at import, not at night.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy.dialects import postgresql

from service.core import history
from service.core.calendar import Measure
from service.core.errors import Stale
from service.core.model import (
    Approval,
    Assignment,
    Clock,
    ClockState,
    Decision,
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

_STATE = (
    "stage", "phase", "round", "lead", "outcome", "counters", "facts", "visible_to", "updated_at", "closed_at",
    "next_due_at", "version", "last_seq", "head_hash", "domain", "matter", "urgency", "workflow_key",
    "workflow_version", "merged_into",
)  # fmt: skip
_CONFLICT = {"rounds": "(ticket_id, number)"}
_INSERT_ONLY = frozenset({"clocks", "firings", "events", "outbox", "notices", "idempotency", "enterprises"})
_POSTGRES = postgresql.dialect()  # type: ignore[no-untyped-call]
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_NUMBER = re.compile(r"QY[0-9]{15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Stored:
    """A ticket as loaded: its changing state, and the row with what was said at intake (`row` by column name)."""

    ticket: Ticket
    row: Mapping[str, Any]


# --- finding and locking ---------------------------------------------------------------------------------------------


async def resolve(tx: Tx, ref: str) -> str | None:
    """The id of a ticket named by id or number, if the actor may see it."""
    if _UUID.fullmatch(ref):
        found = await tx.value("SELECT id FROM tickets WHERE id = $1", ref)
    elif _NUMBER.fullmatch(ref):
        found = await tx.value("SELECT id FROM tickets WHERE number = $1", ref)
    else:
        found = None
    return found  # type: ignore[no-any-return]


async def lock(tx: Tx, ref: str) -> str | None:
    """Take the ticket's row lock (waiting up to lock_timeout); the id, or None when absent or not visible."""
    column = "id" if _UUID.fullmatch(ref) else "number" if _NUMBER.fullmatch(ref) else None
    if column is None:
        return None
    return await tx.value(f"SELECT id FROM tickets WHERE {column} = $1 FOR NO KEY UPDATE", ref)  # type: ignore[no-any-return]  # noqa: S608


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


# --- saving ------------------------------------------------------------------------------------------------------------


async def save(
    tx: Tx,
    decisions: Iterable[Decision],
    new_id: Callable[[], str],
    *,
    recorded_at: datetime | None = None,
    extra: Mapping[str, list[dict[str, Any]]] | None = None,
    intake: Mapping[str, Any] | None = None,
) -> list[Ticket]:
    """Write what was decided: tickets, children, events (sealed), firings, outbox; one statement.

    `intake` is the full first row of a new ticket. `extra` holds rows of other insert-only tables (idempotency,
    enterprises). Raises Stale if a ticket changed since it was loaded (it cannot under its lock).
    """
    batch: dict[str, list[Any]] = {name: list(rows) for name, rows in (extra or {}).items()}
    out, changes = [], _Changes()
    for decision in decisions:
        ticket, events = history.seal(decision.after, decision.events, new_id, recorded_at or tx.now)
        row = _state_row(ticket)
        batch.setdefault("tickets", []).append({**intake, **row} if intake else row)
        changes.of_ticket(decision.before, ticket)
        for name in CHILDREN:
            if getattr(ticket, name) is getattr(decision.before, name):
                continue
            before = {id(c) for c in getattr(decision.before, name)}
            changed = [c for c in getattr(ticket, name) if id(c) not in before]
            if changed and name == "clocks":
                changed = changes.of_clocks(decision.before.clocks, changed)
            if changed:
                batch.setdefault(name, []).extend(changed)
        if events:
            batch.setdefault("events", []).extend(events)
        if decision.firings:
            batch.setdefault("firings", []).extend({**_plain(f), "ticket_id": ticket.id} for f in decision.firings)
        if events:
            batch.setdefault("outbox", []).append(_outbox(tx, ticket, events, new_id))
        if decision.notices:
            batch.setdefault("notices", []).extend(_notices(tx, ticket, decision, new_id))
        out.append(ticket)
    if not out:
        return out
    columns = (changes.ticket_columns(len(out)), changes.clock_columns(len(out)))
    if intake is None:
        batch["tickets"] = [{c: row[c] for c in ("id", *columns[0])} for row in batch["tickets"]]
    if changes.clocks:
        batch["changed_clocks"] = [{c: clock.__dict__[c] for c in ("id", *columns[1])} for clock in changes.clocks]
    names = tuple(sorted(batch, key=_ORDER.index))
    saved = await tx.value(_save_sql(names, intake is not None, *columns), *(to_json(batch[n]).decode() for n in names))
    if saved != len(out):
        raise Stale("The ticket changed while this was being decided; read it again.")
    return out


NARROW_FROM = 20
"""From so many tickets on only the columns that changed in any of them are written: a statement of its own for each set of
columns is worth preparing for a batch of timers, not for one act of a person."""


class _Changes:
    """Which columns of the tickets and of the clocks that are there already a batch changes."""

    def __init__(self) -> None:
        self.clocks: list[Clock] = []
        self._of_tickets, self._of_clocks = {*_ALWAYS}, set[str]()

    def of_ticket(self, before: Ticket, after: Ticket) -> None:
        self._of_tickets |= _differing(before, after).intersection(_STATE)

    def of_clocks(self, before: Iterable[Clock], changed: Iterable[Clock]) -> list[Clock]:
        """Take note of what is there already; gives the clocks that are new."""
        known, fresh = {c.id: c for c in before}, []
        for clock in changed:
            if clock.id in known:
                self.clocks.append(clock)
                self._of_clocks |= _differing(known[clock.id], clock)
            else:
                fresh.append(clock)
        return fresh

    def ticket_columns(self, tickets: int) -> tuple[str, ...]:
        return tuple(sorted(self._of_tickets)) if tickets >= NARROW_FROM else _STATE

    def clock_columns(self, tickets: int) -> tuple[str, ...]:
        if not self.clocks:
            return ()
        return tuple(sorted(self._of_clocks)) if tickets >= NARROW_FROM else _CLOCK_COLUMNS


def _differing(before: Any, after: Any) -> set[str]:
    old = before.__dict__
    return {name for name, value in after.__dict__.items() if value is not old[name] and value != old[name]}


_ALWAYS = ("updated_at", "next_due_at", "version", "last_seq", "head_hash")
_ORDER = [
    "enterprises",
    "tickets",
    *CHILDREN,
    "changed_clocks",
    "events",
    "firings",
    "outbox",
    "notices",
    "idempotency",
]
_ROWS: Mapping[str, type[Any]] = {
    "enterprises": tables.Enterprise,
    "tickets": tables.TicketRow,
    "events": tables.EventRow,
    "firings": tables.FiringRow,
    "outbox": tables.OutboxRow,
    "notices": tables.NoticeRow,
    "idempotency": tables.IdempotencyRow,
    **{name: row for name, (_, row) in CHILDREN.items()},
}
_SKIP = {
    "clocks": frozenset({"attempts", "crashes", "last_error", "dead_at"}),
    "outbox": frozenset({"state", "attempts", "lease_until", "last_error", "done_at"}),
}


_CLOCK_COLUMNS = tuple(f.name for f in fields(Clock) if f.name not in {"id", "ticket_id"})


def _typed(table: str, number: int, columns: Sequence[str]) -> str:
    """Parameter `number` as rows of the id and these columns: nothing else is parsed."""
    types = {c.name: c.type.compile(dialect=_POSTGRES) for c in _ROWS[table].__table__.columns}
    listed = ", ".join(f"{name} {types[name]}" for name in ("id", *columns))
    return f"json_to_recordset(${number}::text::json) AS r({listed})"


@lru_cache(maxsize=256)
def _save_sql(
    names: tuple[str, ...], intake: bool, ticket_columns: tuple[str, ...], clock_columns: tuple[str, ...]
) -> str:
    parts = []
    for n, name in enumerate(names, 1):
        if name == "tickets" and not intake:
            changes = ", ".join(f"{c} = r.{c}" for c in ticket_columns)
            parts.append(
                f"s_tickets AS (UPDATE tickets t SET {changes} FROM {_typed(name, n, ticket_columns)}"  # noqa: S608
                " WHERE t.id = r.id AND t.version = r.version - 1 RETURNING t.id)"
            )
            continue
        if name == "changed_clocks":
            # whoever could be decided again has no failures any more
            well = "attempts = 0, crashes = 0, last_error = NULL, dead_at = NULL"
            changes = ", ".join([*(f"{c} = r.{c}" for c in clock_columns), well])
            source = _typed("clocks", n, clock_columns)
            parts.append(f"s_changed_clocks AS (UPDATE clocks c SET {changes} FROM {source} WHERE c.id = r.id)")  # noqa: S608
            continue
        source = f"json_populate_recordset(NULL::{name}, ${n}::text::json) r"
        columns = [c.name for c in _ROWS[name].__table__.columns if c.name not in _SKIP.get(name, ())]
        listed = ", ".join(columns)
        values = ", ".join(f"r.{c}" for c in columns)
        sql = f"INSERT INTO {name} ({listed}) SELECT {values} FROM {source}"  # noqa: S608
        if name not in _INSERT_ONLY and not intake:
            keys = _CONFLICT.get(name, "(id)")
            changes = ", ".join(f"{c} = excluded.{c}" for c in columns if c not in {"id", "ticket_id"})
            sql += f" ON CONFLICT {keys} DO UPDATE SET {changes}"
        parts.append(f"s_{name} AS ({sql}{' RETURNING 1' if name == 'tickets' else ''})")
    return f"WITH {', '.join(parts)} SELECT count(*) FROM s_tickets"  # noqa: S608


def _plain(value: Any) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in fields(value)}


def _state_row(ticket: Ticket) -> dict[str, Any]:
    row = {name: getattr(ticket, name, None) for name in _STATE}
    row["id"] = ticket.id
    row["next_due_at"] = min(
        (c.due_at for c in ticket.clocks if c.state in {ClockState.RUNNING, ClockState.BREACHED_RUNNING}), default=None
    )
    return row


def _outbox(tx: Tx, ticket: Ticket, events: list[dict[str, Any]], new_id: Callable[[], str]) -> dict[str, Any]:
    body = {
        "number": ticket.number,
        "events": [{k: e[k] for k in ("id", "seq", "type", "occurred_at")} for e in events],
    }
    return {
        "id": new_id(),
        "ticket_id": ticket.id,
        "topic": "ticket",
        "body": body,
        "next_at": tx.now,
        "created_at": tx.now,
    }


def _notices(tx: Tx, ticket: Ticket, decision: Decision, new_id: Callable[[], str]) -> Iterator[dict[str, Any]]:
    """One row for each that is to be told and why; the same said twice by one decision is said once."""
    for notice in dict.fromkeys(decision.notices):
        yield {
            "id": new_id(),
            "ticket_id": ticket.id,
            "recipient": notice.to,
            "kind": notice.kind,
            "about": notice.about,
            "due_at": notice.due_at,
            "created_at": tx.now,
        }


# --- from rows to values -----------------------------------------------------------------------------------------------


_HEADER = tuple(f.name for f in fields(Ticket) if f.name not in {*CHILDREN, "phase", "visible_to"})


def _stored(row: Any) -> Stored:
    children: dict[str, Any] = {name: _children(cls, row[name]) for name, (cls, _) in CHILDREN.items()}
    policy = {"workflow_key": row["workflow_key"], "workflow_version": row["workflow_version"]}
    # a clock that was started before clocks had a policy of their own has its ticket's
    children["clocks"] = tuple(c if c.workflow_key else evolve(c, **policy) for c in children["clocks"])
    ticket = Ticket(
        **{name: row[name] for name in _HEADER},
        phase=Phase(row["phase"]),
        visible_to=tuple(row["visible_to"]),
        **children,
    )
    return Stored(ticket, row)


_TIMES = {cls: tuple(f.name for f in fields(cls) if "datetime" in str(f.type)) for cls, _ in CHILDREN.values()}
_NAMES = {cls: tuple(f.name for f in fields(cls)) for cls, _ in CHILDREN.values()}
_TUPLES = {Clock: ("fired", "changes"), Approval: ("decisions",), Review: ("grounds",), MeasureTask: ("progress",)}


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
