"""Published versions of workflows, calendars, routing, matters and departments; each immutable."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from service.core.history import canonical
from service.db.session import Tx


async def publish(tx: Tx, kind: str, key: str, body: Mapping[str, Any], by: str, reason: str) -> int | None:
    """Store a new version if the body differs from the newest one; its number, or None when nothing changed."""
    digest = hashlib.sha256(canonical(body)).hexdigest()
    await tx.execute("SELECT pg_advisory_xact_lock(hashtext('definitions'))")
    newest = await tx.row(
        "SELECT version, sha256 FROM definitions WHERE kind = $1 AND key = $2 ORDER BY version DESC LIMIT 1", kind, key
    )
    if newest is not None and newest["sha256"] == digest:
        return None
    version = newest["version"] + 1 if newest is not None else 1
    await tx.execute(
        "INSERT INTO definitions (kind, key, version, body, sha256, published_at, published_by, reason)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        kind, key, version, body, digest, tx.now, by, reason,
    )  # fmt: skip
    return version


async def newest(tx: Tx) -> list[Any]:
    """The newest version of everything: kind, key, version, body."""
    return await tx.rows(
        "SELECT DISTINCT ON (kind, key) kind, key, version, body FROM definitions ORDER BY kind, key, version DESC"
    )


async def stamp(tx: Tx) -> int:
    """How many versions there are: changes whenever anything is published."""
    return int(await tx.value("SELECT count(*) FROM definitions"))


async def get(tx: Tx, kind: str, key: str, version: int) -> Any:
    return await tx.value(
        "SELECT body FROM definitions WHERE kind = $1 AND key = $2 AND version = $3", kind, key, version
    )


async def store_departments(tx: Tx, departments: Sequence[Mapping[str, Any]]) -> None:
    """Make the table of departments what the published list says; units no longer listed become inactive."""
    await tx.execute(
        """INSERT INTO departments (code, title, kind, district, source, active)
           SELECT r.code, r.title, r.kind, r.district, r.source, true
           FROM jsonb_populate_recordset(NULL::departments, $1) r
           ON CONFLICT (code) DO UPDATE SET title = excluded.title, kind = excluded.kind,
             district = excluded.district, source = excluded.source, active = true""",
        departments,
    )
    await tx.execute("UPDATE departments SET active = false WHERE code <> ALL($1)", [d["code"] for d in departments])
