"""Published versions of workflows, calendars, routing, matters and departments; each immutable."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from service.core.history import canonical
from service.db.session import Tx


async def lock(tx: Tx) -> None:
    """One publisher at a time, until the transaction ends."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtext('definitions'))")


async def next_version(tx: Tx, kind: str, key: str) -> int:
    """The number that a new version would get."""
    return 1 + int(
        await tx.value("SELECT coalesce(max(version), 0) FROM definitions WHERE kind = $1 AND key = $2", kind, key)
    )


async def is_newest(tx: Tx, kind: str, key: str, body: Mapping[str, Any]) -> bool:
    """Whether the newest version, in force, says exactly this."""
    newest = await _newest_of(tx, kind, key)
    return newest is not None and newest["retired_at"] is None and newest["sha256"] == _digest(body)


async def _newest_of(tx: Tx, kind: str, key: str) -> Any:
    return await tx.row(
        """SELECT version, sha256, retired_at FROM definitions WHERE kind = $1 AND key = $2
           ORDER BY version DESC LIMIT 1""",
        kind, key,
    )  # fmt: skip


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(body)).hexdigest()


async def publish(tx: Tx, kind: str, key: str, body: Mapping[str, Any], by: str, reason: str) -> int | None:
    """Store a new version if the body differs from the newest one; its number, or None when nothing changed."""
    await lock(tx)
    newest = await _newest_of(tx, kind, key)
    digest = _digest(body)
    if newest is not None and newest["sha256"] == digest and newest["retired_at"] is None:
        return None
    version = newest["version"] + 1 if newest is not None else 1
    await tx.execute(
        "INSERT INTO definitions (kind, key, version, body, sha256, published_at, published_by, reason)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        kind, key, version, body, digest, tx.now, by, reason,
    )  # fmt: skip
    return version


async def latest_by(tx: Tx, kind: str, key: str, by: str, body: Mapping[str, Any]) -> bool:
    """Whether the last version that this author published says exactly this, whatever others published since."""
    digest = await tx.value(
        """SELECT sha256 FROM definitions WHERE kind = $1 AND key = $2 AND published_by = $3
           ORDER BY version DESC LIMIT 1""",
        kind, key, by,
    )  # fmt: skip
    return bool(digest == _digest(body))


async def listed(tx: Tx, kind: str) -> list[Any]:
    """Every version of every definition of a kind, newest first, without the bodies."""
    return await tx.rows(
        """SELECT key, version, published_at, published_by, reason, sha256, retired_at FROM definitions
           WHERE kind = $1 ORDER BY key, version DESC""",
        kind,
    )


async def newest(tx: Tx) -> list[Any]:
    """The newest version of everything that is not retired: kind, key, version, body."""
    return await tx.rows(
        """SELECT kind, key, version, body FROM (
             SELECT DISTINCT ON (kind, key) * FROM definitions ORDER BY kind, key, version DESC) newest
           WHERE retired_at IS NULL ORDER BY kind, key"""
    )


async def in_force(tx: Tx, kind: str) -> dict[str, int]:
    """Key -> newest version of everything of a kind that is not retired."""
    rows = await tx.rows(
        """SELECT key, max(version) AS version FROM definitions WHERE kind = $1
           GROUP BY key HAVING bool_or(retired_at IS NULL) ORDER BY key""",
        kind,
    )
    return {row["key"]: row["version"] for row in rows}


async def stamp(tx: Tx) -> int:
    """Changes whenever anything is published or retired, a unit changes or a foreign code is given a meaning."""
    return int(
        await tx.value(
            """SELECT count(*) + count(retired_at) + (SELECT count(*) FROM department_changes)
                 + (SELECT count(*) * 1000 + coalesce(sum(extract(epoch FROM at) * 1000000)::bigint % 1000003, 0)
                    FROM code_mappings)
               FROM definitions"""
        )
    )


async def retire(tx: Tx, kind: str, key: str) -> bool:
    """Take a definition out of use; its versions stay, for what was bound to them. False when there is none."""
    return bool(
        await tx.value(
            """WITH gone AS (UPDATE definitions SET retired_at = $3
                             WHERE kind = $1 AND key = $2 AND retired_at IS NULL RETURNING 1)
               SELECT count(*) > 0 FROM gone""",
            kind, key, tx.now,
        )
    )  # fmt: skip


async def versions(tx: Tx, kind: str, key: str) -> list[Any]:
    """Every version of one definition, newest first, without its body."""
    return await tx.rows(
        """SELECT version, published_at, published_by, reason, sha256, retired_at FROM definitions
           WHERE kind = $1 AND key = $2 ORDER BY version DESC""",
        kind, key,
    )  # fmt: skip


async def get(tx: Tx, kind: str, key: str, version: int) -> Any:
    return await tx.value(
        "SELECT body FROM definitions WHERE kind = $1 AND key = $2 AND version = $3", kind, key, version
    )


async def newest_body(tx: Tx, kind: str, key: str) -> Any:
    return await tx.value(
        "SELECT body FROM definitions WHERE kind = $1 AND key = $2 ORDER BY version DESC LIMIT 1", kind, key
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
