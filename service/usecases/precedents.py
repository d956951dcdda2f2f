"""Precedents: search, validity, and the changes of rules or catalogue that they suggest. None decides anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from service.core.access import require
from service.core.errors import Conflict, Forbidden, Invalid, NotFound
from service.core.model import Actor, Role
from service.core.precedents import MAX_QUERY_GRAMS, grams
from service.db import audit, precedents
from service.db.session import Tx
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House

ABSENT = "There is no such precedent, or it is not yours to see."
SHOWN = (
    "id", "number", "kind", "matter", "subject", "asked", "decision", "text", "conditions", "legal_grounds", "issued_on",
    "valid_until", "state", "reason", "changed_by", "changed_at",
)  # fmt: skip
PROPOSAL = (
    "id", "kind", "target", "text", "state", "proposed_by", "proposed_at", "decided_by", "decided_at", "decision_reason",
)  # fmt: skip


async def search(
    house: House,
    actor: Actor,
    *,
    text: str | None,
    matter: str | None,
    ground: str | None,
    decision: str | None,
    valid_only: bool,
    limit: int,
    offset: int,
) -> tuple[list[dict[str, Any]], int | None]:
    """The most alike first (`likeness` 0 to 1), without a text the newest; and where the next page begins."""
    require(actor, "reviews:read")
    asked = grams(text)[:MAX_QUERY_GRAMS] if text else []
    if text and not asked:
        raise Invalid.field("/q", "expected Chinese characters, letters or digits")
    async with house.db.transaction(actor, readonly=True) as tx:
        today = tx.now.astimezone(house.zone).date()
        rows = await precedents.search(
            tx,
            asked,
            matter=matter,
            ground=ground,
            valid_on=today if valid_only else None,
            decision=decision,
            limit=limit + 1,
            offset=offset,
        )
    items = [_shown(house, actor, row, today.isoformat()) for row in rows[:limit]]
    return items, offset + limit if len(rows) > limit else None


async def get(house: House, actor: Actor, precedent_id: str) -> dict[str, Any]:
    require(actor, "reviews:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        row = await precedents.get(tx, precedent_id)
        if row is None:
            raise NotFound(ABSENT)
        return _shown(house, actor, row, tx.now.astimezone(house.zone).date().isoformat())


async def change(house: House, actor: Actor, precedent_id: str, asked: Mapping[str, Any], call: Call) -> Answer:
    """Limit its validity, or withdraw it, with a reason. Raises NotFound, and Conflict once it is not valid any more."""
    require(actor, "minutes:write")

    async def work(tx: Tx) -> Answer:
        row = await precedents.get(tx, precedent_id, lock=True)
        if row is None:
            raise NotFound(ABSENT)
        if row["state"] != "valid":
            raise Conflict(f"This precedent is {row['state']} already.")
        today = tx.now.astimezone(house.zone).date().isoformat()
        state = "withdrawn" if asked["action"] == "withdraw" else "valid"
        until = row["valid_until"] if state == "withdrawn" else asked["valid_until"].isoformat()
        if state == "valid" and until < row["issued_on"]:
            raise Invalid.field("/valid_until", "expected a date from its issue on")
        await precedents.change(tx, precedent_id, state, until, asked["reason"])
        told = {"precedent": precedent_id, "valid_until": until, "reason": asked["reason"]}
        await audit.write(tx, house.new_id(), f"precedent.{asked['action']}", row["ticket_id"], told)
        return Answer(200, to_json(_shown(house, actor, await precedents.get(tx, precedent_id), today)))

    return await once(house, actor, call, work)


def _shown(house: House, actor: Actor, row: Mapping[str, Any], today: str) -> dict[str, Any]:
    told = {name: row[name] for name in SHOWN}
    until = row["valid_until"]
    told["valid"] = row["state"] == "valid" and (until is None or until >= today)
    told["likeness"] = round(row["likeness"], 4) if row["likeness"] is not None else None
    told["binding"] = False
    if actor.role is not Role.HANDLER:
        told |= {"review": row["review_id"], "ticket": row["ticket_id"], "minutes": row["minutes_id"]}
    localised: dict[str, Any] = views.localised(told, house.zone)
    return localised


# --- what a precedent suggests -----------------------------------------------------------------------------------------


async def propose(house: House, actor: Actor, precedent_id: str, asked: Mapping[str, Any], call: Call) -> Answer:
    """201 with the proposal. `target`: a workflow's key for a rule, a matter's code for the catalogue."""
    require(actor, "precedents:propose")
    known = house.rules.newest if asked["kind"] == "rule" else house.rules.matter_codes
    if asked["target"] not in known:
        raise Invalid.field(
            "/target",
            "expected the key of a published workflow" if asked["kind"] == "rule" else "expected a matter's code",
        )

    async def work(tx: Tx) -> Answer:
        row = await precedents.get(tx, precedent_id)
        if row is None:
            raise NotFound(ABSENT)
        made = {"id": house.new_id(), "precedent_id": precedent_id, **{k: asked[k] for k in ("kind", "target", "text")}}
        await precedents.propose(tx, made)
        told = {"proposal": made["id"], "precedent": precedent_id, "kind": asked["kind"], "target": asked["target"]}
        await audit.write(tx, house.new_id(), "precedent.proposed", row["ticket_id"], told)
        return Answer(201, to_json(_proposal(house, await precedents.proposal(tx, made["id"]))))

    return await once(house, actor, call, work)


async def proposals(
    house: House, actor: Actor, state: str | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """Newest first, and the place to go on from."""
    require(actor, "precedents:propose")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await precedents.proposals(tx, state, after, limit + 1)
    return [_proposal(house, row) for row in rows[:limit]], rows[limit - 1]["id"] if len(rows) > limit else None


async def decide(house: House, actor: Actor, proposal_id: str, asked: Mapping[str, Any], call: Call) -> Answer:
    """Accepted or refused by somebody else. Accepting changes no rule: a version is published as any other is."""
    require(actor, "precedents:decide")

    async def work(tx: Tx) -> Answer:
        row = await precedents.proposal(tx, proposal_id)
        if row is None:
            raise NotFound("There is no such proposal.")
        if row["state"] != "open":
            raise Conflict(f"It was {row['state']} by {row['decided_by']}.")
        if row["proposed_by"] == tx.actor.subject:
            raise Forbidden("Somebody else decides on what you proposed.")
        state = "accepted" if asked["decision"] == "accept" else "refused"
        await precedents.decide(tx, proposal_id, state, asked["reason"])
        await audit.write(tx, house.new_id(), f"precedent.proposal_{state}", None, {"proposal": proposal_id})
        return Answer(200, to_json(_proposal(house, await precedents.proposal(tx, proposal_id))))

    return await once(house, actor, call, work)


def _proposal(house: House, row: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: row[name] for name in PROPOSAL}
    told["precedent"] = {"id": row["precedent_id"], "number": row["precedent_number"], "subject": row["subject"]}
    localised: dict[str, Any] = views.localised(told, house.zone)
    return localised
