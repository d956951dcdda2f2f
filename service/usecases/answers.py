"""Answers that can be given again: a write with an Idempotency-Key is carried out once, and its first answer kept.

The key's record commits with the work. A request that collides with one running at the same moment waits for it (the
unique index makes it wait) and is then carried out again, which finds the record. Keys are scoped by client and route.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.core.errors import Busy, JiebanError, KeyReused
from service.core.model import Actor
from service.db.session import Collision, Tx, Unavailable
from service.usecases.house import House

ATTEMPTS = 6


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body (JSON bytes) and headers, as they leave the house."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """What identifies a write: route template, key (None when the client sent none) and a digest of the parsed body."""

    route: str
    key: str | None
    digest: bytes


def digest_of(*parts: Any) -> bytes:
    """SHA-256 of parsed content; the order of keys and white space do not matter."""
    from service.core.history import canonical

    return hashlib.sha256(b"\x00".join(canonical(p) for p in parts)).digest()


async def once(house: House, actor: Actor, call: Call, work: Callable[[Tx], Awaitable[Answer]]) -> Answer:
    """Carry out `work` in one transaction, or give the kept answer. Raises KeyReused for another body."""
    for attempt in range(ATTEMPTS):
        try:
            async with house.db.transaction(actor) as tx:
                if call.key is not None:
                    kept = await find(house, tx, call)
                    if kept is not None:
                        return kept
                answer = await work(tx)
                await keep(house, tx, call, answer)
            house.ring()
            return answer
        except Collision:
            await asyncio.sleep(0.005 * attempt)
        except (KeyReused, Unavailable):
            raise
        except JiebanError:
            # the same request may have run while this one waited for the ticket: then that was no refusal
            kept = await _kept_meanwhile(house, actor, call)
            if kept is None:
                raise
            return kept
    raise Busy("The same request is being carried out again and again; try in a moment.")


async def _kept_meanwhile(house: House, actor: Actor, call: Call) -> Answer | None:
    if call.key is None:
        return None
    async with house.db.transaction(actor, readonly=True) as tx:
        return await find(house, tx, call)


KEPT = "SELECT request_sha256, status, answer, headers FROM idempotency WHERE client = $1 AND route = $2 AND key = $3"


async def find(house: House, tx: Tx, call: Call) -> Answer | None:
    row = await tx.row(KEPT, tx.actor.subject, call.route, call.key)
    return None if row is None else replay(house, tx.actor, call, row)


def replay(house: House, actor: Actor, call: Call, row: Mapping[str, Any]) -> Answer:
    """The first answer again, from its stored row."""
    if bytes(row["request_sha256"]) != call.digest:
        raise KeyReused("This Idempotency-Key came with another body before; use a new key for a new request.")
    body = house.vault.open_bytes(bytes(row["answer"]), _context(actor, call))
    return Answer(row["status"], body, {**row["headers"], "Idempotent-Replayed": "true"})


def record(house: House, tx: Tx, call: Call, answer: Answer) -> dict[str, Any]:
    """The row that keeps an answer, for a set-wise save (bytes as hex text)."""
    sealed = house.vault.seal_bytes(answer.body, _context(tx.actor, call))
    return {
        "client": tx.actor.subject,
        "route": call.route,
        "key": call.key,
        "request_sha256": "\\x" + call.digest.hex(),
        "status": answer.status,
        "answer": "\\x" + sealed.hex(),
        "headers": dict(answer.headers),
        "created_at": tx.now,
    }


async def keep(house: House, tx: Tx, call: Call, answer: Answer) -> None:
    """Nothing without a key. Raises Collision (at the end of the transaction's block) if it was kept meanwhile."""
    if call.key is None:
        return
    sealed = house.vault.seal_bytes(answer.body, _context(tx.actor, call))
    await tx.execute(
        "INSERT INTO idempotency (client, route, key, request_sha256, status, answer, headers, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        tx.actor.subject, call.route, call.key, call.digest, answer.status, sealed, dict(answer.headers), tx.now,
    )  # fmt: skip


def _context(actor: Actor, call: Call) -> str:
    return f"idempotency/{actor.subject}/{call.route}/{call.key}"
