"""The feed of events (CloudEvents 1.0): read by cursor, in order per ticket, nothing missed. Thin: ids, types, times.

Content is fetched with authorisation; so the feed and what is sent from it hold no personal data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from service.core.model import SYSTEM, Actor
from service.db import feed
from service.db.session import Tx
from service.usecases.house import House

Place = tuple[int, int]
"""A message's place, and how many of its events were read already."""
START: Place = (0, 0)
WHOLE = 10**6
"""More events than a message has: all of it was read."""


async def number(house: House, *, wait: bool = True) -> int:
    """Give every committed message its place in the order."""
    async with house.db.transaction(SYSTEM) as tx:
        return await feed.number(tx, wait=wait)


async def events(
    house: House, actor: Actor, after: Place | None, types: Sequence[str], limit: int
) -> tuple[list[dict[str, Any]], Place, bool]:
    """Events after a place that the actor may see: the events, the place to go on from, whether there may be more now.

    `after` None: only where the end is (to begin with what comes from now on).
    """
    await number(house, wait=False)
    async with house.db.transaction(actor, readonly=True, snapshot=True) as tx:
        if after is None:
            return [], await end(tx), False
        found, reached, more = await read(tx, after, types, limit)
    return [event for _, event in found], reached, more


async def end(tx: Tx) -> Place:
    """The place after everything that has one."""
    return await feed.last(tx), WHOLE


async def read(
    tx: Tx, after: Place, types: Sequence[str], limit: int
) -> tuple[list[tuple[Place, dict[str, Any]]], Place, bool]:
    """As `events`, in a transaction that is there already (a snapshot), and each event with its own place."""
    wanted, (start, read_before) = set(types), after
    rows = await feed.read(tx, start, [_pattern(t) for t in types] or None, limit + 1)
    out: list[tuple[Place, dict[str, Any]]] = []
    for row in rows:
        skipped = read_before if row["position"] == start else 0
        for n, event in enumerate(row["body"]["events"]):
            if n < skipped or not _wanted(event["type"], wanted):
                continue
            if len(out) == limit:
                return out, out[-1][0], True
            out.append(((row["position"], n + 1), cloud_event(row, event)))
    if len(rows) > limit:
        return out, out[-1][0], True
    end = await feed.last(tx)
    reached = max(start, min(end, start + feed.SCANNED))
    return out, (reached, WHOLE), reached < end


def _pattern(wanted: str) -> str:
    return wanted.replace("_", r"\_").replace("*", "%")


def _wanted(type_: str, wanted: Iterable[str]) -> bool:
    """A type is asked for by its name, or by its kind with a star: `ticket.*`."""
    return not wanted or any(w == type_ or (w.endswith("*") and type_.startswith(w[:-1])) for w in wanted)


def cloud_event(row: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """One event of a message as a CloudEvent 1.0. `sequence` sorts as text in the order of the ticket's history."""
    return {
        "specversion": "1.0",
        "id": event["id"],
        "source": f"/v1/tickets/{row['ticket_id']}",
        "type": event["type"],
        "subject": row["body"]["number"],
        "time": event["occurred_at"],
        "sequence": f"{event['seq']:010d}",
        "datacontenttype": "application/json",
        "data": {
            "ticket": {"id": row["ticket_id"], "number": row["body"]["number"]},
            "source": {"system": row["source_system"], "reference": row["source_reference"]},
            "seq": event["seq"],
        },
    }
