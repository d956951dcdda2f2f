"""Pictures of what is published, and of tickets."""

from __future__ import annotations

from service.core.definitions import Workflow
from service.core.diagrams import Language, draw, graph_of, mermaid, path_of
from service.core.errors import NotFound
from service.core.model import SYSTEM, Actor
from service.db import queries, tickets
from service.usecases.house import House
from service.usecases.tickets import ABSENT

MOST_EVENTS = 10_000


async def svg(house: House, key: str, version: int | None, language: Language) -> str:
    """Raises NotFound."""
    return draw(graph_of(await _flow(house, key, version), language)).svg()


async def mermaid_text(house: House, key: str, version: int | None, language: Language) -> str:
    """Raises NotFound."""
    return mermaid(graph_of(await _flow(house, key, version), language))


async def ticket_svg(house: House, actor: Actor, ref: str, language: Language) -> str:
    """Raises NotFound for a ticket that is absent or not the actor's to see."""
    async with house.db.transaction(actor, readonly=True, snapshot=True) as tx:
        ticket_id = await tickets.resolve(tx, ref)
        loaded = await tickets.load(tx, [ticket_id]) if ticket_id else {}
        if ticket_id is None or ticket_id not in loaded:
            raise NotFound(ABSENT)
        ticket = loaded[ticket_id].ticket
        flow = await house.rules_of(tx, ticket)
        events = await queries.events_of(tx, ticket_id, 0, MOST_EVENTS)
    path = path_of(flow, events, ticket.stage, language)
    return draw(graph_of(flow, language), path, ticket.clocks, house.zone, ticket.number).svg()


def clock_titles(house: House, language: Language) -> dict[str, str]:
    """Titles of all clocks in force, by name."""
    return {c.name: c.title[language] for flow in house.rules.newest.values() for c in flow.clocks.values()}


async def _flow(house: House, key: str, version: int | None) -> Workflow:
    newest = house.rules.newest.get(key)
    if version is None and newest is None:
        raise NotFound("There is no such workflow; GET /v1/workflows lists them.")
    if newest is not None and version in {None, newest.version}:
        return newest
    assert version is not None
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        return await house.workflow(tx, key, version)
