"""Meetings with attendees and agenda, and thematic studies: lock, load, write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from service.core.meetings import AgendaItem, Attendee, Meeting
from service.db.session import Tx

_CHILDREN: Mapping[str, type[Any]] = {"attendees": Attendee, "agenda_items": AgendaItem}
_NAMES = {cls: tuple(f.name for f in fields(cls)) for cls in (Attendee, AgendaItem)}
_OWN = tuple(f.name for f in fields(Meeting) if f.name not in {"attendees", "agenda"})
_TUPLES = {Attendee: ("recused",), AgendaItem: ("papers", "dissents", "recused", "measures")}


async def lock(tx: Tx, meeting_id: str) -> bool:
    """Take the meeting's row lock, before that of any ticket on its agenda; False when absent or not visible."""
    return await tx.value("SELECT 1 FROM meetings WHERE id = $1 FOR NO KEY UPDATE", meeting_id) is not None


async def load(tx: Tx, ids: Sequence[str]) -> dict[str, Meeting]:
    """Whole meetings by id, as far as the actor sees their attendees and agenda."""
    rows = await tx.rows("SELECT * FROM meetings WHERE id = ANY($1::uuid[])", list(ids))
    found: dict[str, dict[str, list[Any]]] = {row["id"]: {table: [] for table in _CHILDREN} for row in rows}
    for table, cls in _CHILDREN.items():
        order = "position, id" if cls is AgendaItem else "id"
        sql = f"SELECT * FROM {table} WHERE meeting_id = ANY($1::uuid[]) ORDER BY {order}"  # noqa: S608
        for row in await tx.rows(sql, list(found)):
            found[row["meeting_id"]][table].append(_child(cls, row))
    return {row["id"]: _meeting(row, found[row["id"]]) for row in rows}


def _child(cls: type[Any], row: Mapping[str, Any]) -> Any:
    return cls(**{n: tuple(row[n]) if n in _TUPLES[cls] else row[n] for n in _NAMES[cls]})


def _meeting(row: Mapping[str, Any], children: Mapping[str, list[Any]]) -> Meeting:
    own = {name: row[name] for name in _OWN} | {n: tuple(row[n]) for n in ("departments", "adjournments")}
    return Meeting(**own, attendees=tuple(children["attendees"]), agenda=tuple(children["agenda_items"]))


async def save(tx: Tx, before: Meeting | None, after: Meeting) -> None:
    """Write what differs: the meeting's own row, attendees and agenda items. Lock it first."""
    if before is None or any(getattr(before, n) != getattr(after, n) for n in _OWN):
        await _write(tx, "meetings", _OWN, [after])
    for table, kept in (("attendees", "attendees"), ("agenda_items", "agenda")):
        old = {row.id: row for row in getattr(before, kept)} if before is not None else {}
        changed = [row for row in getattr(after, kept) if old.get(row.id) != row]
        await _write(tx, table, _NAMES[_CHILDREN[table]], changed)


async def _write(tx: Tx, table: str, names: Sequence[str], rows: Iterable[Any]) -> None:
    listed, slots = ", ".join(names), ", ".join(f"${n}" for n in range(1, 1 + len(names)))
    changes = ", ".join(f"{n} = excluded.{n}" for n in names if n != "id")
    sql = f"INSERT INTO {table} ({listed}) VALUES ({slots}) ON CONFLICT (id) DO UPDATE SET {changes}"  # noqa: S608
    for row in rows:
        await tx.execute(sql, *(_plain(getattr(row, n)) for n in names))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value


async def acknowledge(tx: Tx, attendee_id: str, by: str) -> None:
    """A unit signs for its notice; it may write nothing else of a meeting."""
    await tx.execute(
        "UPDATE attendees SET state = 'acknowledged', acknowledged_at = $2, acknowledged_by = $3 WHERE id = $1",
        attendee_id, tx.now, by,
    )  # fmt: skip


async def next_number(tx: Tx) -> int:
    return await tx.value("SELECT nextval('meeting_number')")  # type: ignore[no-any-return]


async def listed(
    tx: Tx, state: str | None, tier: int | None, since: datetime | None, after: tuple[datetime, str] | None, limit: int
) -> list[Any]:
    """Meetings by the time they are held, earliest first: (id, held_at)."""
    at, last = after or (None, None)
    return await tx.rows(
        """SELECT id, held_at FROM meetings
           WHERE ($1::text IS NULL OR state = $1) AND ($2::int IS NULL OR tier = $2)
             AND ($3::timestamptz IS NULL OR held_at >= $3)
             AND ($4::timestamptz IS NULL OR (held_at, id) > ($4, $5::uuid))
           ORDER BY held_at, id LIMIT $6""",
        state, tier, since, at, last, limit,
    )  # fmt: skip


async def next_open(tx: Tx, tier: int) -> str | None:
    """The next planned meeting of a tier whose agenda is still open."""
    return await tx.value(  # type: ignore[no-any-return]
        """SELECT id FROM meetings WHERE state = 'planned' AND tier = $1 AND agenda_closes_at >= $2
           ORDER BY held_at, id LIMIT 1""",
        tier, tx.now,
    )  # fmt: skip


async def matters_of(tx: Tx, review_ids: Sequence[str]) -> dict[str, Any]:
    """What an agenda shows of each matter: number, state, kind and the ticket's number and title, by review."""
    rows = await tx.rows(
        """SELECT r.id, r.number, r.state, r.kind, r.meeting_id, t.number AS ticket_number, t.title
           FROM reviews r JOIN tickets t ON t.id = r.ticket_id WHERE r.id = ANY($1::uuid[])""",
        list(review_ids),
    )  # fmt: skip
    return {row["id"]: row for row in rows}


async def of_review(tx: Tx, review_id: str) -> Any:
    """Ticket, meeting and study of a review (ticket_id, meeting_id, study_id, tier), if the actor may see it."""
    return await tx.row("SELECT ticket_id, meeting_id, study_id, tier FROM reviews WHERE id = $1", review_id)


async def tell(tx: Tx, meeting_id: str, recipients: Sequence[str], new_id: Callable[[], str]) -> None:
    """One notice to each for every matter on the agenda: notices belong to tickets."""
    for recipient in recipients:
        for ticket_id, _ in await tickets_of(tx, meeting_id):
            await tx.execute(
                "INSERT INTO notices (id, ticket_id, recipient, kind, created_at) VALUES ($1, $2, $3, 'meeting', $4)",
                new_id(), ticket_id, recipient, tx.now,
            )  # fmt: skip


async def tickets_of(tx: Tx, meeting_id: str) -> list[tuple[str, str]]:
    """Tickets and reviews on the agenda, by the ticket's id: the order in which they are locked."""
    rows = await tx.rows(
        "SELECT ticket_id, review_id FROM agenda_items WHERE meeting_id = $1 ORDER BY ticket_id, review_id", meeting_id
    )
    return [(row["ticket_id"], row["review_id"]) for row in rows]
