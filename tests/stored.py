"""Lives made by the core alone, put into the database as the house would have stored them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from service.core.model import SYSTEM, Decision, Ticket, evolve
from service.db import saving
from service.usecases.house import House
from tests.builders import Case


async def store(house: House, cases: Sequence[Case], *, source: str = "lives", first: int = 0) -> list[Ticket]:
    """Each case as a ticket with everything that hangs on it, its history sealed; ids are made anew.

    `first`: the number of the first of them, where several lots are stored.
    """
    made = []
    async with house.db.transaction(SYSTEM) as tx:
        enterprise = house.new_id()
        row = {"id": enterprise, "match_key": f"name:{source}", "name": source, "created_at": tx.now}
        for n, case in enumerate(cases, first):
            decision = _renamed(house, case, n)
            extra = {"enterprises": [row]} if n == first else {}
            [ticket] = await saving.save(
                tx, [decision], house.new_id, extra=extra, intake=_intake(decision.after, enterprise, source, n)
            )
            made.append(ticket)
    return made


def _renamed(house: House, case: Case, n: int) -> Decision:
    """The whole life as one decision, with ids of the database instead of counted ones, in the same order."""
    names: dict[str, str] = {}

    def new(value: Any) -> Any:
        if isinstance(value, str):
            return names.get(value, value)
        if isinstance(value, dict):
            return {k: new(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(new(v) for v in value)
        return value

    ticket = case.ticket
    children = ("assignments", "clocks", "approvals", "reviews", "opinions", "measures")
    for id_ in sorted({ticket.id, *(c.id for kind in children for c in getattr(ticket, kind))}):
        names[id_] = house.new_id()

    def row(value: Any) -> Any:
        changed = {
            f.name: names.get(getattr(value, f.name), getattr(value, f.name))
            for f in fields(value)
            if f.name == "id" or f.name.endswith("_id")
        }
        return replace(value, **changed)

    changes: dict[str, Any] = {kind: tuple(row(c) for c in getattr(ticket, kind)) for kind in (*children, "rounds")}
    number = f"QY2026{n:011d}"
    reviews = tuple(replace(r, number=f"YS{number[2:]}-{k}") for k, r in enumerate(changes["reviews"]))
    after = evolve(ticket, id=names[ticket.id], number=number, **{**changes, "reviews": reviews})
    before = Ticket(**{f.name: getattr(after, f.name) for f in fields(after) if f.name not in changes})
    events = tuple(replace(e, data=new(dict(e.data))) for e in case.events)
    firings = tuple(replace(f, clock_id=names[f.clock_id]) for f in case.firings)
    return Decision(before, after, events, firings)


def _intake(ticket: Ticket, enterprise: str, source: str, n: int) -> dict[str, Any]:
    return {
        "id": ticket.id, "number": ticket.number, "source_system": source, "source_reference": str(n),
        "content_sha256": "\\x00", "enterprise_id": enterprise, "workflow_key": ticket.workflow_key,
        "workflow_version": ticket.workflow_version, "district": ticket.district, "title": "t", "description": "d",
        "content": {}, "contact": None, "contact_masked": None, "warnings": [], "received_at": ticket.received_at,
        "created_at": ticket.created_at,
    }  # fmt: skip
