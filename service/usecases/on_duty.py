"""Danger does not keep office hours: who is on duty is told of an emergency at once."""

from __future__ import annotations

from collections.abc import Sequence

from service.db import units
from service.db.session import Tx
from service.usecases.house import House


async def tell(house: House, tx: Tx, ticket_id: str, departments: Sequence[str], kind: str) -> None:
    """A notice to each person who is on duty for these units now; for a unit that has nobody, to the city's."""
    found = await units.on_duty(tx, list(departments), tx.now)
    people = list(dict.fromkeys(f"person:{row['subject']}" for row in found))
    await units.notify(tx, [house.new_id() for _ in people], ticket_id, people, kind)
