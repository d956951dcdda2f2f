"""A ticket's history as a chain: each event holds the hash of the one before, the ticket the hash of the last (P5)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from service.core.model import Actor, Event, Ticket, evolve

_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no white space: the same bytes before and after a journey through jsonb."""
    return _ENCODER.encode(value).encode()


class Json(str):
    """A text that is JSON already."""

    __slots__ = ()


def digest(row: Mapping[str, Any]) -> str:
    """SHA-256 over everything an event says, with the hash before it. `row`: as stored, instants as ISO text in UTC."""
    said = {k: row[k] for k in ("ticket_id", "seq", "type", "occurred_at", "recorded_at", "actor", "data", "prev")}
    return hashlib.sha256(canonical(said)).hexdigest()


def seal(
    ticket: Ticket, events: Iterable[Event], new_id: Callable[[], str], recorded_at: datetime
) -> tuple[Ticket, list[dict[str, Any]]]:
    """Number and chain `events` after the ticket's last one; gives the ticket with its new head, and the rows.

    `actor` and `data` of a row are JSON texts: what is hashed is what is stored.
    """
    rows = []
    seq, head, recorded = ticket.last_seq, ticket.head_hash, recorded_at.astimezone(UTC).isoformat()
    for event in events:
        seq += 1
        actor, data = _actor(event.actor), Json(_ENCODER.encode(event.data))
        occurred = event.occurred_at.astimezone(UTC).isoformat()
        # the canonical text of `digest`, put together from what is canonical already (a test holds the two together)
        said = (
            f'{{"actor":{actor},"data":{data},"occurred_at":"{occurred}","prev":"{head}","recorded_at":"{recorded}",'
            f'"seq":{seq},"ticket_id":"{ticket.id}","type":"{event.type}"}}'
        )
        row: dict[str, Any] = {
            "id": new_id(),
            "ticket_id": ticket.id,
            "seq": seq,
            "type": event.type,
            "occurred_at": occurred,
            "recorded_at": recorded,
            "actor": actor,
            "data": data,
            "prev": head,
        }
        head = row["hash"] = hashlib.sha256(said.encode()).hexdigest()
        rows.append(row)
    return evolve(ticket, last_seq=seq, head_hash=head), rows


@lru_cache(maxsize=1024)
def _actor(actor: Actor) -> Json:
    said = {"subject": actor.subject, "role": str(actor.role), "departments": list(actor.departments)}
    return Json(_ENCODER.encode(said))


def verify(rows: Iterable[Mapping[str, Any]], last_seq: int, head_hash: str) -> int | None:
    """The first sequence number at which the chain is broken, or None. A cut tail shows as the first one missing."""
    expected, head = 1, ""
    for row in rows:
        if row["seq"] != expected or row["prev"] != head or row["hash"] != digest(row):
            return expected
        expected, head = expected + 1, row["hash"]
    return None if (expected - 1, head) == (last_seq, head_hash) else expected
