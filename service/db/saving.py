"""Decided tickets into PostgreSQL, with everything that hangs on them, in one statement for any number of them.

Rows go as columns: one parameter for each column, an array in PostgreSQL's own text form, taken apart by `unnest`. A
request costs one round trip for its writes, a pump batch of hundreds too, and the server spends a fifth of what JSON rows
cost it. The column lists come from `db.tables`, so a renamed column fails at import, not at night.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic_core import to_json
from sqlalchemy.dialects import postgresql

from service.core import history, words
from service.core.errors import Stale
from service.core.history import Json
from service.core.model import Clock, ClockState, Decision, Event, Ticket
from service.db import tables
from service.db.session import Tx
from service.db.tickets import CHILDREN

_STATE = (
    "stage", "phase", "round", "lead", "outcome", "counters", "facts", "visible_to", "recused", "updated_at", "closed_at",
    "version", "last_seq", "head_hash", "domain", "matter", "urgency", "workflow_key", "workflow_version",
    "merged_into", "next_due_at",
)  # fmt: skip
_OWN_STATE = _STATE[:-1]
"""What of a ticket's state is its own; `next_due_at` is read off its clocks."""
_CONFLICT = {"rounds": "(ticket_id, number)", "open_tickets": "(ticket_id)"}
_INSERT_ONLY = frozenset(
    {"ticket_texts", "clocks", "firings", "events", "outbox", "notices", "idempotency", "enterprises"}
)
_POSTGRES = postgresql.dialect()  # type: ignore[no-untyped-call]
NARROW_FROM = 20
"""From so many tickets on only the columns that changed in any of them are written: a statement of its own for each set of
columns is worth preparing for a batch of timers, not for one act of a person."""
_ALWAYS = ("updated_at", "next_due_at", "version", "last_seq", "head_hash")
_ORDER = [
    "enterprises",
    "tickets",
    "ticket_texts",
    "open_tickets",
    "closed_tickets",
    *CHILDREN,
    "changed_clocks",
    "events",
    "firings",
    "outbox",
    "notices",
    "idempotency",
]
_SKIP = {
    "clocks": frozenset({"attempts", "crashes", "last_error", "dead_at"}),
    "outbox": frozenset({"state", "attempts", "lease_until", "last_error", "done_at", "position"}),
}
_TYPES: Mapping[str, Mapping[str, str]] = {
    name: {
        c.name: c.type.compile(dialect=_POSTGRES)
        for c in row.__table__.columns  # type: ignore[attr-defined]
        if c.name not in _SKIP.get(name, ())
    }
    for name, row in {
        "enterprises": tables.Enterprise,
        "tickets": tables.TicketRow,
        "ticket_texts": tables.TicketText,
        "open_tickets": tables.OpenTicket,
        "events": tables.EventRow,
        "firings": tables.FiringRow,
        "outbox": tables.OutboxRow,
        "notices": tables.NoticeRow,
        "idempotency": tables.IdempotencyRow,
        **{name: row for name, (_, row) in CHILDREN.items()},
    }.items()
}
"""Table -> column -> type, of the columns that are written here."""
_CLOCK_COLUMNS = tuple(f.name for f in fields(Clock) if f.name not in {"id", "ticket_id"})


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
        due = _next_due_at(ticket)
        row = {**ticket.__dict__, "next_due_at": due}
        batch.setdefault("tickets", []).append({**intake, **row} if intake else row)
        if intake:
            batch["ticket_texts"] = [text_of({**intake, **row})]
        if intake or not _queued_alike(decision.before, ticket, due):
            if ticket.open:
                batch.setdefault("open_tickets", []).append(_queued(ticket, due))
            elif not intake:
                batch.setdefault("closed_tickets", []).append({"ticket_id": ticket.id})
        changes.of_ticket(decision.before, ticket)
        for name, changed in _changed_children(decision.before, ticket):
            fresh = changes.of_clocks(decision.before.clocks, changed) if name == "clocks" else changed
            if fresh:
                batch.setdefault(name, []).extend(fresh)
        if events:
            batch.setdefault("events", []).extend(events)
            batch.setdefault("outbox", []).append(_outbox(tx, ticket, events, new_id))
        for f in decision.firings:
            batch.setdefault("firings", []).append(
                {"clock_id": f.clock_id, "rung": f.rung, "ticket_id": ticket.id, "due_at": f.due_at,
                 "fired_at": f.fired_at, "outcome": f.outcome}
            )  # fmt: skip
        if decision.notices:
            batch.setdefault("notices", []).extend(_notices(tx, ticket, decision, new_id))
        out.append(ticket)
    if not out:
        return out
    if changes.clocks:
        batch["changed_clocks"] = changes.clocks
    columns = {
        "tickets": tuple(_TYPES["tickets"]) if intake else changes.ticket_columns(len(out)),
        "changed_clocks": changes.clock_columns(len(out)),
        "closed_tickets": ("ticket_id",),
    }
    shape = tuple((name, columns.get(name) or tuple(_TYPES[name])) for name in sorted(batch, key=_ORDER.index))
    sql = _save_sql(shape, intake is not None)
    saved = await tx.value(sql, *(text for name, listed in shape for text in _literals(name, listed, batch[name])))
    if saved != len(out):
        raise Stale("The ticket changed while this was being decided; read it again.")
    return out


class _Changes:
    """Which columns of the tickets and of the clocks that are there already a batch changes."""

    def __init__(self) -> None:
        self.clocks: list[Clock] = []
        self._of_tickets, self._of_clocks = {*_ALWAYS}, set[str]()

    def of_ticket(self, before: Ticket, after: Ticket) -> None:
        self._of_tickets.update(_differing(before, after, _OWN_STATE))

    def of_clocks(self, before: Iterable[Clock], changed: Iterable[Clock]) -> list[Clock]:
        """Take note of what is there already; gives the clocks that are new."""
        known, fresh = {c.id: c for c in before}, []
        for clock in changed:
            if clock.id in known:
                self.clocks.append(clock)
                self._of_clocks.update(_differing(known[clock.id], clock, _CLOCK_COLUMNS))
            else:
                fresh.append(clock)
        return fresh

    def ticket_columns(self, tickets: int) -> tuple[str, ...]:
        return ("id", *(sorted(self._of_tickets) if tickets >= NARROW_FROM else _STATE))

    def clock_columns(self, tickets: int) -> tuple[str, ...]:
        return ("id", *(sorted(self._of_clocks) if tickets >= NARROW_FROM else _CLOCK_COLUMNS))


def _differing(before: Any, after: Any, names: Iterable[str]) -> list[str]:
    old, new = before.__dict__, after.__dict__
    return [name for name in names if new[name] is not old[name] and new[name] != old[name]]


def _changed_children(before: Ticket, after: Ticket) -> Iterator[tuple[str, list[Any]]]:
    for name in CHILDREN:
        rows, old = getattr(after, name), getattr(before, name)
        if rows is not old:
            known = {id(row) for row in old}
            if changed := [row for row in rows if id(row) not in known]:
                yield name, changed


# --- rows as columns -----------------------------------------------------------------------------------------------


_ALIASES = {"changed_clocks": "clocks", "closed_tickets": "open_tickets"}


@lru_cache(maxsize=256)
def _save_sql(shape: tuple[tuple[str, tuple[str, ...]], ...], intake: bool) -> str:
    """The statement that writes tables and columns of this `shape`, one parameter for each column."""
    parts, first = [], 1
    for name, columns in shape:
        table = _ALIASES.get(name, name)
        types = _TYPES[table]
        given = ", ".join(f"${n}::text::{_element(types[c])}[]" for n, c in enumerate(columns, first))
        source = f"unnest({given}) AS r({', '.join(columns)})"
        value = {c: f"r.{c}::{types[c]}" if types[c].endswith("[]") else f"r.{c}" for c in columns}
        first += len(columns)
        if name == "closed_tickets":
            sql = f"DELETE FROM {table} t USING {source} WHERE t.ticket_id = r.ticket_id"  # noqa: S608
        elif name == "changed_clocks" or (name == "tickets" and not intake):
            changes = [f"{c} = {value[c]}" for c in columns if c != "id"]
            # whoever could be decided again has no failures any more
            well = ["attempts = 0", "crashes = 0", "last_error = NULL", "dead_at = NULL"] if table == "clocks" else []
            sql = f"UPDATE {table} t SET {', '.join([*changes, *well])} FROM {source} WHERE t.id = r.id"  # noqa: S608
            if name == "tickets":
                sql += " AND t.version = r.version - 1"
        else:
            sql = f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(value.values())} FROM {source}"  # noqa: S608
            if table not in _INSERT_ONLY and not intake:
                replaced = ", ".join(f"{c} = excluded.{c}" for c in columns if c not in {"id", "ticket_id"})
                sql += f" ON CONFLICT {_CONFLICT.get(table, '(id)')} DO UPDATE SET {replaced}"
        parts.append(f"s_{name} AS ({sql}{' RETURNING 1' if name == 'tickets' else ''})")
    return f"WITH {', '.join(parts)} SELECT count(*) FROM s_tickets"  # noqa: S608


def _element(kind: str) -> str:
    """What an array of a column's values is made of: lists of lists would have to be of one length, so they go as text."""
    return "text" if kind.endswith("[]") else kind


def _literals(name: str, columns: Sequence[str], rows: Sequence[Any]) -> Iterator[str]:
    """The columns of these rows (mappings, or values with the columns as attributes) as array literals."""
    types = _TYPES[_ALIASES.get(name, name)]
    if not isinstance(rows[0], dict):
        values: Any = ([getattr(row, column) for row in rows] for column in columns)
    else:
        values = ([row.get(column) for row in rows] for column in columns)
    for column, listed in zip(columns, values, strict=True):
        render = _RENDER.get(types[column], str)
        yield "{" + ",".join(["NULL" if v is None else render(v) for v in listed]) + "}"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _json(value: Any) -> str:
    return _quoted(value if isinstance(value, Json) else to_json(value).decode())


def _texts(value: Iterable[str]) -> str:
    return _quoted("{" + ",".join(map(_quoted, value)) + "}")


@lru_cache(maxsize=4096)
def _time(value: datetime | str) -> str:
    """A batch says the same few instants again and again."""
    return value if isinstance(value, str) else value.isoformat()


def _integers(value: Iterable[int]) -> str:
    return '"{' + ",".join(map(str, value)) + '}"'


_RENDER: Mapping[str, Callable[[Any], str]] = {
    "TEXT": _quoted,
    "BYTEA": _quoted,
    "JSONB": _json,
    "TEXT[]": _texts,
    "INTEGER[]": _integers,
    "TIMESTAMP WITH TIME ZONE": _time,
}
"""How a value of a type stands in an array; numbers, truth values and ids as they are."""


# --- what follows from a decision ------------------------------------------------------------------------------------


_QUEUED = ("phase", "matter", "urgency", "domain", "visible_to", "assignments")


def _queued_alike(before: Ticket, after: Ticket, due: datetime | None) -> bool:
    """Whether the queue shows a ticket as it did: most timers change nothing that it reads."""
    return (
        not _differing(before, after, _QUEUED)
        and before.facts.get("cards") == after.facts.get("cards")
        and _next_due_at(before) == due
    )


def _queued(ticket: Ticket, due: datetime | None) -> dict[str, Any]:
    """What the queue reads of an open ticket."""
    legs = [a for a in ticket.assignments if a.open]
    hands = [h for a in legs for h in (a.assignee or "", f"{a.department} {a.assignee or ''}")]
    return {
        "ticket_id": ticket.id,
        "due": due or "infinity",
        "visible_to": ticket.visible_to,
        "departments": [a.department for a in legs],
        "hands": hands,
        "phase": ticket.phase,
        "matter": ticket.matter,
        "urgency": ticket.urgency,
        "domain": ticket.domain,
        "cards": [card["level"] for card in ticket.facts.get("cards", ())],
    }


def text_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a ticket is found by, from its row. Later changes of who sees it follow by a trigger."""
    content = row["content"]
    firm, project, place = (content.get(name) or {} for name in ("enterprise", "project", "location"))
    # a confidential one is found by its numbers only: words that find it would tell what it says
    said = [row["title"], row["description"], firm.get("name"), firm.get("uscc"), project.get("name"),
            project.get("code"), place.get("address")]  # fmt: skip
    hidden = bool(content.get("confidential"))
    folded = words.searchable([row["number"], row["source_reference"], *([] if hidden else said)])
    return {
        "ticket_id": row["id"],
        "enterprise_id": row["enterprise_id"],
        "visible_to": list(row["visible_to"]),
        "folded": folded,
        "terms": words.terms(folded) | ({words.OPEN} if row["phase"] != "closed" else frozenset()),
    }


def _next_due_at(ticket: Ticket) -> datetime | None:
    running = (ClockState.RUNNING, ClockState.BREACHED_RUNNING)
    return min([c.due_at for c in ticket.clocks if c.state in running], default=None)


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


async def append(tx: Tx, ticket: Ticket, events: Iterable[Event], new_id: Callable[[], str]) -> Ticket:
    """Put events into the history of a locked ticket that change nothing else of it: its version stays what it was."""
    after, rows = history.seal(ticket, events, new_id, tx.now)
    batch = {"events": rows, "outbox": [_outbox(tx, after, rows, new_id)]}
    shape = tuple((name, tuple(_TYPES[name])) for name in batch)
    sql = _save_sql(shape, False).replace("SELECT count(*) FROM s_tickets", "SELECT 1")
    await tx.value(sql, *(text for name, listed in shape for text in _literals(name, listed, batch[name])))
    await tx.execute(
        "UPDATE tickets SET last_seq = $2, head_hash = $3 WHERE id = $1", ticket.id, after.last_seq, after.head_hash
    )
    return after
