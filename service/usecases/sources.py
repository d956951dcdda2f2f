"""What the hotline says again: corrections of a ticket it posted, and a day to be reconciled.

A correction is the request as it should read, as a whole, with a sequence number. One that is overtaken by a later one
that came first, or that comes when the ticket is closed, is kept and not applied: the whole of it is in the later one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any

from pydantic_core import to_json

from service.core import correcting
from service.core.access import require
from service.core.errors import Conflict, NotFound
from service.core.model import Actor, Ticket
from service.db import enterprises, finding, quarantine, saving, sources, tickets
from service.db.session import Tx
from service.db.tickets import Stored
from service.db.vault import mask_contact
from service.usecases import views
from service.usecases.answers import Answer, Call, digest_of, once
from service.usecases.enterprises import belongs_to, row_of, settle
from service.usecases.house import House
from service.usecases.intake import Prepared, content_of, etag, prepare
from service.usecases.tickets import ABSENT

MOST_REFERENCES = 10_000
CHANGEABLE = ("title", "description", "contact", "location", "project", "enterprise", "request_type", "confidential",
              "reply_required", "extra", "domain", "matter", "urgency")  # fmt: skip


async def correct(house: House, actor: Actor, ref: str, body: Mapping[str, Any], call: Call) -> Answer:
    """200 with what became of this version and the ticket as it is now.

    Raises NotFound, and Conflict where the sequence number came with other content before.
    """
    require(actor, "tickets:write")

    async def work(tx: Tx) -> Answer:
        ticket_id = await tickets.lock(tx, ref)
        if ticket_id is None:
            raise NotFound(ABSENT)
        tx = replace(tx, now=await tx.value(f"SELECT {house.db.now_sql}"))
        stored = (await tickets.load(tx, [ticket_id]))[ticket_id]
        return await _correct(house, tx, stored, body)

    return await once(house, actor, call, work)


async def _correct(house: House, tx: Tx, stored: Stored, body: Mapping[str, Any]) -> Answer:
    ticket, sequence, digest = stored.ticket, body["sequence"], digest_of(body["request"])
    await house.rules_of(tx, ticket)
    known = await sources.versions(tx, ticket.id)
    same = next((v for v in known if v["sequence"] == sequence), None)
    if same is not None:
        if bytes(same["content_sha256"]) != digest:
            raise Conflict(f"Correction {sequence} of this ticket came with other content before.", sequence=sequence)
        return _answer(house, tx, ticket, stored.row, sequence, same["applied"], same["why_not"])
    prepared = _prepared(house, stored, body["request"], digest)
    env = house.env(tx, house.flow_of(ticket), ticket.district)
    newest = max((v["sequence"] for v in known if v["applied"]), default=0)
    why_not = "out_of_order" if sequence < newest else None if correcting.open_now(ticket, env) else "closed"
    row = stored.row
    columns, changed = (await _columns(house, tx, stored, prepared)) if why_not is None else ({}, [])
    told = {"sequence": sequence, "applied": why_not is None, "changed": changed, "reason": body["reason"]}
    decision = correcting.correct(ticket, _given(prepared, ticket), told, env)
    [after] = await saving.save(tx, [decision], house.new_id)
    if columns:
        await sources.rewrite(tx, ticket.id, columns)
        await quarantine.enter(tx, ticket.id, row["source_system"], prepared.unknown)
        row = (await tickets.load(tx, [ticket.id]))[ticket.id].row
        text = saving.text_of(row)
        await finding.replace_text(tx, ticket.id, text["folded"], text["terms"], row["enterprise_id"])
    await sources.add(
        tx,
        {
            "ticket_id": ticket.id,
            "sequence": sequence,
            "content_sha256": digest,
            # whatever was said is kept whole, sealed: it holds the contact
            "content": house.vault.seal(body["request"], f"source/{ticket.id}/{sequence}"),
            "applied": why_not is None,
            "why_not": why_not,
            "reason": body["reason"],
            "by": tx.actor.subject,
            "received_at": tx.now,
        },
    )
    return _answer(house, tx, after, row, sequence, why_not is None, why_not)


def _prepared(house: House, stored: Stored, request: Mapping[str, Any], digest: bytes) -> Prepared:
    """As at intake. Who asked anonymously stays so, whatever a correction says."""
    content = stored.row["content"]
    source = {**content["source"], "system": stored.row["source_system"], "reference": stored.row["source_reference"]}
    return prepare(house, {**request, "source": source, "anonymous": content.get("anonymous", False)}, digest)


def _given(prepared: Prepared, ticket: Ticket) -> dict[str, Any]:
    """What decides about promises. A code that says nothing to us changes nothing."""
    body, route = prepared.body, prepared.route
    return {
        "domain": body.get("domain") or ticket.domain,
        "matter": route.matter if body.get("matter") and "matter" not in prepared.unknown else ticket.matter,
        "urgency": body["urgency"],
        "no_reply": not body["reply_required"],
    }


async def _columns(house: House, tx: Tx, stored: Stored, prepared: Prepared) -> tuple[dict[str, Any], list[str]]:
    """What intake wrote, as it reads now, and the names of what changed (never the words)."""
    row, body, ticket = stored.row, prepared.body, stored.ticket
    warnings, enterprise_id = list(prepared.warnings), row["enterprise_id"]
    if not body.get("anonymous"):
        keys = prepared.keys
        found = await enterprises.find(tx, keys.match, keys.name, keys.former)
        settled = await settle(tx, keys, found, body["enterprise"], warnings)
        if settled is None:
            made = row_of(house, keys, body["enterprise"], tx.now)
            await enterprises.add(tx, made)
            settled = made["id"]
        enterprise_id = settled
        if body["enterprise"].get("parent") or body["enterprise"].get("kind"):
            await belongs_to(house, tx, enterprise_id, body["enterprise"], warnings)
    kept = {
        name: row["content"][name] for name in ("anonymous", "agent", "group", "handed_over") if name in row["content"]
    }
    content = {**content_of(body), **kept, "source": row["content"]["source"]}
    contact = body.get("contact")
    before = house.vault.open(bytes(row["contact"]), f"contact/{ticket.id}") if row["contact"] is not None else None
    location = (body.get("location") or {}).get("district")
    columns = {
        "title": body["title"],
        "description": body["description"],
        "content": content,
        "contact": house.vault.seal(contact, f"contact/{ticket.id}") if contact else None,
        "contact_masked": mask_contact(contact) if contact else None,
        "enterprise_id": enterprise_id,
        "warnings": warnings,
        "district": location or body["enterprise"].get("district"),
    }
    was = {**row["content"], "title": row["title"], "description": row["description"], "contact": before,
           "domain": ticket.domain, "matter": ticket.matter, "urgency": ticket.urgency}  # fmt: skip
    now = {**content, **_given(prepared, ticket), "title": body["title"], "description": body["description"],
           "contact": contact}  # fmt: skip
    return columns, [name for name in CHANGEABLE if was.get(name) != now.get(name)]


def _answer(
    house: House, tx: Tx, ticket: Ticket, row: Mapping[str, Any], sequence: int, applied: bool, why_not: str | None
) -> Answer:
    shown = house.show(ticket, row, tx.now, tx.actor)
    body = {"sequence": sequence, "applied": applied, "why_not": why_not, "ticket": shown}
    return Answer(200, to_json(body), {"ETag": etag(ticket)})


async def versions(house: House, actor: Actor, ref: str) -> list[dict[str, Any]]:
    """The corrections of a ticket by sequence: which were applied, and why others were not. Contents stay sealed."""
    require(actor, "tickets:write")
    async with house.db.transaction(actor, readonly=True) as tx:
        ticket_id = await tickets.resolve(tx, ref)
        if ticket_id is None:
            raise NotFound(ABSENT)
        rows = await sources.versions(tx, ticket_id)
    names = ("sequence", "applied", "why_not", "reason", "by", "received_at")
    return [views.localised({n: r[n] for n in names}, house.zone) for r in rows]


async def reconciliation(
    house: House, actor: Actor, system: str, day: date, after: str | None, limit: int
) -> tuple[dict[str, Any], str | None]:
    """A day of a source by its own time of receipt: how many references, their digest, and each with where it stands."""
    require(actor, "reconciliation:read")
    start = datetime.combine(day, time(), house.zone)
    end = datetime.combine(day + timedelta(days=1), time(), house.zone)
    async with house.db.transaction(actor, readonly=True, snapshot=True) as tx:
        told = await sources.digest(tx, system, start, end)
        rows = await sources.day(tx, system, start, end, after, limit + 1)
    items = [_reconciled(row) for row in rows[:limit]]
    body = {"system": system, "date": day.isoformat(), "count": told["count"], "digest": f"sha256:{told['digest']}",
            "items": items}  # fmt: skip
    shown: dict[str, Any] = views.localised(body, house.zone)
    return shown, rows[limit - 1]["source_reference"] if len(rows) > limit else None


def _reconciled(row: Any) -> dict[str, Any]:
    return {
        "reference": row["source_reference"],
        "id": row["id"],
        "number": row["number"],
        "stage": row["stage"],
        "phase": row["phase"],
        "outcome": row["outcome"],
        "merged_into": row["merged_into"],
        "received_at": row["received_at"],
        "last_event": {"type": row["last_type"], "seq": row["last_seq"], "at": row["last_at"]},
    }
