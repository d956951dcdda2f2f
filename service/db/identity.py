"""Machines with client credentials. Only hashes of their secrets are here."""

from __future__ import annotations

from typing import Any

from service.db.session import Tx


async def add_client(tx: Tx, client_id: str, role: str, secret_sha256: bytes) -> bool:
    """False when the id is taken, also by an inactive client: an id is never given twice."""
    return bool(
        await tx.value(
            """INSERT INTO clients (id, secret_sha256, role, active, created_at) VALUES ($1, $2, $3, true, $4)
               ON CONFLICT (id) DO NOTHING RETURNING true""",
            client_id, secret_sha256, role, tx.now,
        )
    )  # fmt: skip


async def find_client(tx: Tx, client_id: str) -> Any:
    """secret_sha256, role, active; None when there is no such client."""
    return await tx.row("SELECT secret_sha256, role, active FROM clients WHERE id = $1", client_id)


async def list_clients(tx: Tx) -> list[Any]:
    """All clients by id, without what could serve to guess a secret: id, role, active, created_at."""
    return await tx.rows("SELECT id, role, active, created_at FROM clients ORDER BY id")


async def deactivate_client(tx: Tx, client_id: str) -> bool:
    """False when there is no such active client."""
    return bool(await tx.value("UPDATE clients SET active = false WHERE id = $1 AND active RETURNING true", client_id))
