"""Receivers of events: who they are, how far each has them, and whose turn it is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from service.db.session import Tx

SHOWN = "id, url, types, description, owner, state, reason, attempts, next_at, last_error, created_at, delivered_at"


async def add(tx: Tx, row: dict[str, Any]) -> None:
    names = ("id", "url", "secret", "types", "description", "owner", "position", "within", "next_at", "created_at")
    values = ", ".join(f"${n}" for n in range(1, len(names) + 1))
    await tx.execute(f"INSERT INTO receivers ({', '.join(names)}) VALUES ({values})", *(row[n] for n in names))  # noqa: S608


async def listed(tx: Tx, owner: str | None, after: str | None, limit: int) -> list[Any]:
    """Those that were not removed, oldest first; `owner` None: of everybody. `behind`: messages not yet delivered."""
    return await tx.rows(
        f"""SELECT {SHOWN}, (SELECT coalesce(max(position), 0) FROM outbox) - position AS behind FROM receivers
            WHERE state <> 'removed' AND ($1::text IS NULL OR owner = $1) AND ($2::uuid IS NULL OR id > $2)
            ORDER BY id LIMIT $3""",  # noqa: S608
        owner, after, limit,
    )  # fmt: skip


async def get(tx: Tx, receiver_id: str, owner: str | None) -> Any:
    return await tx.row(
        f"""SELECT {SHOWN}, (SELECT coalesce(max(position), 0) FROM outbox) - position AS behind FROM receivers
            WHERE state <> 'removed' AND id = $1 AND ($2::text IS NULL OR owner = $2)""",  # noqa: S608
        receiver_id, owner,
    )  # fmt: skip


async def count_of(tx: Tx, owner: str) -> int:
    return int(await tx.value("SELECT count(*) FROM receivers WHERE owner = $1 AND state <> 'removed'", owner))


async def remove(tx: Tx, receiver_id: str, owner: str | None) -> bool:
    """No message begins after this commits; the secret is forgotten. False when there is none."""
    return bool(
        await tx.value(
            """UPDATE receivers SET state = 'removed', secret = NULL, sending = NULL, lease_until = NULL
               WHERE id = $1 AND state <> 'removed' AND ($2::text IS NULL OR owner = $2) RETURNING true""",
            receiver_id, owner,
        )
    )  # fmt: skip


async def go_on(tx: Tx, receiver_id: str, owner: str | None, place: tuple[int, int] | None) -> bool:
    """Active again, from where it stopped or from `place`; what was being tried is put together anew."""
    at, within = place or (None, None)
    return bool(
        await tx.value(
            """UPDATE receivers SET state = 'active', reason = '', attempts = 0, next_at = $3, lease_until = NULL,
                 position = coalesce($4, position), within = coalesce($5, within),
                 sending = CASE WHEN $4::bigint IS NULL THEN sending END
               WHERE id = $1 AND state <> 'removed' AND ($2::text IS NULL OR owner = $2) RETURNING true""",
            receiver_id, owner, tx.now, at, within,
        )
    )  # fmt: skip


async def any_active(tx: Tx) -> bool:
    return bool(await tx.value("SELECT EXISTS (SELECT 1 FROM receivers WHERE state = 'active')"))


async def claim(tx: Tx, limit: int, lease: timedelta) -> list[Any]:
    """Receivers for whom there is something and whose time has come; ours until the lease ends."""
    return await tx.rows(
        """WITH ready AS MATERIALIZED (
             SELECT id FROM receivers
             WHERE state = 'active' AND next_at <= $1 AND (lease_until IS NULL OR lease_until < $1)
               AND (position, within) < (SELECT coalesce(max(position), 0), 1000000 FROM outbox)
             ORDER BY next_at, id LIMIT $2 FOR UPDATE SKIP LOCKED)
           UPDATE receivers r SET lease_until = $3 FROM ready WHERE r.id = ready.id
           RETURNING r.id, r.url, r.secret, r.types, r.position, r.within, r.sending, r.attempts, r.lease_until""",
        tx.now, limit, tx.now + lease,
    )  # fmt: skip


async def sending(tx: Tx, receiver_id: str, lease: datetime, upto: tuple[int, int]) -> None:
    """Write down up to where the message goes before it is tried for the first time: it stays the same message."""
    await tx.execute(
        "UPDATE receivers SET sending = $3 WHERE id = $1 AND lease_until = $2", receiver_id, lease, list(upto)
    )


async def advance(tx: Tx, receiver_id: str, lease: datetime, place: tuple[int, int], *, delivered: bool) -> bool:
    """Everything up to a place is delivered (or was not asked for). False: another has it by now."""
    return bool(
        await tx.value(
            """UPDATE receivers SET position = $3, within = $4, sending = NULL, attempts = 0, last_error = NULL,
                 delivered_at = CASE WHEN $5 THEN $6 ELSE delivered_at END
               WHERE id = $1 AND lease_until = $2 AND state = 'active' RETURNING true""",
            receiver_id, lease, place[0], place[1], delivered, tx.now,
        )
    )  # fmt: skip


async def release(tx: Tx, receiver_id: str, lease: datetime) -> None:
    await tx.execute("UPDATE receivers SET lease_until = NULL WHERE id = $1 AND lease_until = $2", receiver_id, lease)


async def failed(
    tx: Tx, receiver_id: str, lease: datetime, next_at: datetime | None, error: str, reason: str = ""
) -> None:
    """Try the same again at `next_at`; None: stop and say why, nothing is skipped."""
    await tx.execute(
        """UPDATE receivers SET state = CASE WHEN $3::timestamptz IS NULL THEN 'disabled' ELSE state END,
             reason = $5, next_at = coalesce($3, next_at), lease_until = NULL, last_error = left($4, 500),
             attempts = attempts + 1
           WHERE id = $1 AND lease_until = $2 AND state = 'active'""",
        receiver_id, lease, next_at, error, reason,
    )  # fmt: skip
