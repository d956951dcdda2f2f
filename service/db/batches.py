"""Many whole tickets at once, for the pump.

`tickets.load` reads a ticket in one round trip, as JSON that PostgreSQL has to write and we to parse. For hundreds it is
cheaper to ask each table once and to take its columns as they are. The values are the same (a test compares them); the
texts that only people read are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pydantic_core import from_json

from service.core.calendar import Measure
from service.core.model import Clock, ClockState, Phase, Ticket
from service.db.session import Tx
from service.db.tickets import CHILDREN, extension, segment

_HEADER = tuple(f.name for f in fields(Ticket) if f.name not in CHILDREN)
_LISTED = tuple(name for name in _HEADER if str(Ticket.__annotations__[name]).startswith("tuple"))
_JSON = {
    name: tuple(c.name for c in row.__table__.columns if str(c.type) == "JSONB" and c.name in cls.__annotations__)
    for name, (cls, row) in CHILDREN.items()
}
_TUPLES = {
    name: tuple(f.name for f in fields(cls) if str(f.type).startswith("tuple")) for name, (cls, _) in CHILDREN.items()
}
_MEASURES, _STATES, _PHASES = ({str(m): m for m in kind} for kind in (Measure, ClockState, Phase))


def _select(name: str) -> str:
    cls, _ = CHILDREN[name]
    # JSON comes as text: nearly always it is [] and need not be parsed
    columns = ", ".join(f"{f.name}::text" if f.name in _JSON[name] else f.name for f in fields(cls))
    order = "number" if name == "rounds" else "id"
    return f"SELECT {columns} FROM {name} WHERE ticket_id = ANY($1::uuid[]) ORDER BY ticket_id, {order}"  # noqa: S608


_NAMES = {name: tuple(f.name for f in fields(cls)) for name, (cls, _) in CHILDREN.items()}
TICKETS = f"SELECT {', '.join(_HEADER)} FROM tickets WHERE id = ANY($1::uuid[])"  # noqa: S608
SELECTS = {name: _select(name) for name in CHILDREN}


@dataclass(frozen=True, slots=True)
class Loaded:
    """Tickets in the order asked for, and those whose rows make no ticket, with why."""

    tickets: list[Ticket]
    broken: dict[str, Exception]


async def load(tx: Tx, ids: Sequence[str]) -> Loaded:
    """Whole tickets by id. Lock first: everything is read as of after that."""
    asked = list(ids)
    headers = {row["id"]: row for row in await tx.rows(TICKETS, asked)}
    children: dict[str, defaultdict[str, list[Any]]] = {}
    for name, sql in SELECTS.items():
        children[name] = defaultdict(list)
        for row in await tx.rows(sql, asked):
            children[name][row["ticket_id"]].append(row)
    loaded = Loaded([], {})
    for ticket_id in asked:
        try:
            loaded.tickets.append(
                _ticket(headers[ticket_id], {n: rows.get(ticket_id, ()) for n, rows in children.items()})
            )
        except Exception as error:  # whatever one ticket's rows hold, the others are read
            loaded.broken[ticket_id] = error
    return loaded


def _ticket(row: Any, children: dict[str, Sequence[Any]]) -> Ticket:
    ticket = object.__new__(Ticket)
    values = ticket.__dict__
    values.update(zip(_HEADER, row, strict=True))
    values["phase"] = _PHASES[row["phase"]]
    for name in _LISTED:
        values[name] = tuple(values[name])
    for name, rows in children.items():
        if name == "clocks":
            values[name] = tuple([_clock(r, values) for r in rows])
        else:
            values[name] = tuple([_child(name, r) for r in rows])
    return ticket


def _child(name: str, row: Any) -> Any:
    cls, _ = CHILDREN[name]
    if not (_JSON[name] or _TUPLES[name]):
        return cls(*row)  # the columns stand in the order of the fields
    values = dict(zip(_NAMES[name], row, strict=True))
    for key in _JSON[name]:
        values[key] = from_json(values[key])
    for key in _TUPLES[name]:
        values[key] = tuple(values[key])
    return cls(**values)


def _clock(row: Any, ticket: dict[str, Any]) -> Clock:
    """As `evolve` does: `Clock` goes without slots so that a copy is one update of its dictionary."""
    clock = object.__new__(Clock)
    values = clock.__dict__
    values.update(zip(_NAMES["clocks"], row, strict=True))
    values["measure"], values["state"] = _MEASURES[values["measure"]], _STATES[values["state"]]
    values["fired"] = tuple(values["fired"])
    for name, parse in _LISTS:
        listed = values[name]
        values[name] = () if listed == "[]" else tuple([parse(item) for item in from_json(listed)])
    if not values["workflow_key"]:
        # a clock that was started before clocks had a policy of their own has its ticket's
        values["workflow_key"], values["workflow_version"] = ticket["workflow_key"], ticket["workflow_version"]
    return clock


_LISTS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("segments", segment),
    ("extensions", extension),
    ("changes", dict),
)
