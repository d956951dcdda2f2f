"""What people and units keep for themselves: saved views of the queue, texts for replies; and how often a firm was called."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from service.db.session import Tx

# --- saved views -----------------------------------------------------------------------------------------------------------


async def views(tx: Tx, most: int) -> list[Any]:
    """The actor's own and those of his or her units."""
    return await tx.rows(
        "SELECT id, owner, department, name, filters, created_at, updated_at FROM saved_views ORDER BY name, id LIMIT $1",
        most,
    )  # fmt: skip


async def view(tx: Tx, view_id: str) -> Any:
    return await tx.row("SELECT * FROM saved_views WHERE id = $1", view_id)


async def save_view(tx: Tx, view_id: str, name: str, department: str | None, filters: Mapping[str, Any]) -> Any:
    """A new view, or the same name of the same person with other filters."""
    return await tx.row(
        """INSERT INTO saved_views (id, owner, department, name, filters, created_at, updated_at)
           VALUES ($1, $2, $3, $4, $5, $6, $6)
           ON CONFLICT (owner, name) DO UPDATE SET department = $3, filters = $5, updated_at = $6 RETURNING *""",
        view_id, tx.actor.subject, department, name, dict(filters), tx.now,
    )  # fmt: skip


async def count_views(tx: Tx) -> int:
    return int(await tx.value("SELECT count(*) FROM saved_views WHERE owner = $1", tx.actor.subject))


async def delete_view(tx: Tx, view_id: str) -> bool:
    found = await tx.value(
        "DELETE FROM saved_views WHERE id = $1 AND owner = $2 RETURNING 1", view_id, tx.actor.subject
    )  # fmt: skip
    return found is not None


# --- templates -------------------------------------------------------------------------------------------------------------


async def templates(tx: Tx, action: str | None, matter: str | None, most: int) -> list[Any]:
    """Units' own texts that the actor may use; those for a matter only where it is asked for."""
    return await tx.rows(
        """SELECT * FROM templates WHERE ($1::text IS NULL OR action = $1)
             AND ($2::text IS NULL OR matter IS NULL OR matter = $2) ORDER BY title, id LIMIT $3""",
        action, matter, most,
    )  # fmt: skip


async def template(tx: Tx, template_id: str) -> Any:
    return await tx.row("SELECT * FROM templates WHERE id = $1", template_id)


async def count_templates(tx: Tx, department: str) -> int:
    return int(await tx.value("SELECT count(*) FROM templates WHERE department = $1", department))


async def add_template(tx: Tx, row: Mapping[str, Any]) -> Any:
    return await tx.row(
        """INSERT INTO templates (id, department, title, text, action, matter, created_by, created_at, updated_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) RETURNING *""",
        row["id"], row["department"], row["title"], row["text"], row["action"], row["matter"], tx.actor.subject, tx.now,
    )  # fmt: skip


async def change_template(tx: Tx, template_id: str, row: Mapping[str, Any]) -> Any:
    """The unit stays the same; None when it is not there, or not the actor's."""
    return await tx.row(
        "UPDATE templates SET title = $2, text = $3, action = $4, matter = $5, updated_at = $6 WHERE id = $1 RETURNING *",
        template_id, row["title"], row["text"], row["action"], row["matter"], tx.now,
    )  # fmt: skip


async def delete_template(tx: Tx, template_id: str) -> bool:
    return await tx.value("DELETE FROM templates WHERE id = $1 RETURNING 1", template_id) is not None


# --- contacts --------------------------------------------------------------------------------------------------------------


async def count_contact(tx: Tx, enterprise_id: str, week: date) -> int:
    """One more contact of this firm; how many it is this week. Whoever comes at the same time waits, and counts on."""
    return int(
        await tx.value(
            """INSERT INTO enterprise_contacts (enterprise_id, week, contacts) VALUES ($1, $2, 1)
               ON CONFLICT (enterprise_id, week) DO UPDATE SET contacts = enterprise_contacts.contacts + 1
               RETURNING contacts""",
            enterprise_id, week,
        )
    )  # fmt: skip


async def contacts(tx: Tx, enterprise_id: str, week: date) -> int:
    found = await tx.value(
        "SELECT contacts FROM enterprise_contacts WHERE enterprise_id = $1 AND week = $2", enterprise_id, week
    )
    return int(found or 0)
