"""Sudden clusters are noticed within a minute and told at once; again when twice as many firms are in them."""

from __future__ import annotations

from typing import Any

from service.core.access import require
from service.core.errors import NotFound
from service.core.model import SYSTEM, Actor
from service.db import incidents, units
from service.usecases import views
from service.usecases.house import House

TOLD = ("supervisor", "dispatcher", "reviewer")
MOST_TICKETS = 200


async def notice(house: House) -> dict[str, Any]:
    """Look for clusters, tell of new ones and of those that doubled, end those that ceased. How many of each."""
    rules = house.rules.router.doc.incident
    told = {"begun": 0, "grown": 0, "ended": 0}
    async with house.db.transaction(SYSTEM) as tx:
        running = await incidents.open_ones(tx)
        found = {row["matter"]: row for row in await incidents.clusters(tx, rules.hours, rules.firms)}
        for matter, cluster in found.items():
            known = running.get(matter)
            begun = known is None and await incidents.begin(tx, house.new_id(), cluster)
            doubled = known is not None and cluster["firms"] >= 2 * known["firms"]
            if known is not None:
                await incidents.grow(tx, known["id"], cluster, doubled)
            if begun or doubled:
                await units.notify(tx, [house.new_id() for _ in TOLD], cluster["newest"], list(TOLD), "incident")
                told["begun" if begun else "grown"] += 1
        for matter, known in running.items():
            if matter not in found:
                await incidents.end(tx, known["id"])
                told["ended"] += 1
    return told


async def listed(
    house: House, actor: Actor, state: str | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    require(actor, "incidents:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await incidents.listed(tx, state, after, limit + 1)
    return [_shown(house, row) for row in rows[:limit]], rows[limit - 1]["id"] if len(rows) > limit else None


async def get(house: House, actor: Actor, incident_id: str) -> dict[str, Any]:
    require(actor, "incidents:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        row = await incidents.get(tx, incident_id)
        if row is None:
            raise NotFound("There is no such incident.")
        rows = await incidents.tickets_of(tx, row, MOST_TICKETS)
    return {**_shown(house, row), "items": [views.localised(dict(r), house.zone) for r in rows]}


def _shown(house: House, row: Any) -> dict[str, Any]:
    matter = house.rules.matters.get(row["matter"], {}).get("title") or {"zh": row["matter"], "en": row["matter"]}
    told: dict[str, Any] = views.localised(dict(row), house.zone)
    return {**told, "title": matter["zh"], "title_en": matter["en"]}
