"""Do every ticket's history and all minutes still hold together? Recomputes each hash and compares with the head."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.core import history
from service.core.model import SYSTEM
from service.db import audit
from service.usecases import minutes_check
from service.usecases.house import House

PAGE = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """`broken`: (ticket number, first bad sequence number) of each damaged history. `minutes`: what was altered of those."""

    tickets: int
    events: int
    broken: tuple[tuple[str, int], ...]
    minutes: minutes_check.Verdict


async def verify(house: House, progress: Callable[[int], None] = lambda _: None) -> Verdict:
    """Read every history in pages; safe on a live system (each page is one snapshot)."""
    after, tickets, events = "00000000-0000-0000-0000-000000000000", 0, 0
    broken: list[tuple[str, int]] = []
    while True:
        # one snapshot for heads and events: a ticket that changes meanwhile must not look damaged
        async with house.db.transaction(SYSTEM, readonly=True, snapshot=True) as tx:
            heads = await audit.heads(tx, after, PAGE)
            rows = await audit.chain(tx, [h["id"] for h in heads])
        if not heads:
            return Verdict(tickets, events, tuple(broken), await minutes_check.verify(house))
        chains: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            chains[row["ticket_id"]].append(hashed(row))
        for head in heads:
            bad = history.verify(chains[head["id"]], head["last_seq"], head["head_hash"])
            if bad is not None:
                broken.append((head["number"], bad))
        tickets, events, after = tickets + len(heads), events + len(rows), heads[-1]["id"]
        progress(tickets)


def hashed(row: Any) -> dict[str, Any]:
    """A stored event as it was hashed: instants as ISO text."""
    times = {k: row[k].isoformat() for k in ("occurred_at", "recorded_at")}
    return {**dict(row), **times}
