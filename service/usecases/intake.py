"""A request comes in: one transaction, three round trips besides begin and commit.

1. who acts, and what time it is    2. is it known (key, source reference), is the firm    3. everything, written at once
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic_core import to_json
from stdnum.cn import uscc
from stdnum.exceptions import ValidationError

from service.core import workflow
from service.core.definitions import Workflow
from service.core.draft import RouteTo
from service.core.errors import Busy, Duplicate
from service.core.model import Actor, Decision, Phase, Ticket, evolve
from service.core.routing import Request, Route
from service.db import saving, tickets
from service.db.session import Collision, Tx, Unavailable
from service.db.vault import mask_contact
from service.usecases import repeats
from service.usecases.answers import ATTEMPTS, Answer, Call, keep, record, replay
from service.usecases.house import House

LONGEST_TURN_SECONDS = 5.0
KNOWN = """
    -- one look: the next number, a kept answer, the firm, and whether this source reference is here already
    SELECT {now} AS now, nextval('ticket_number') AS seq,
           i.request_sha256, i.status, i.answer, i.headers,
           (SELECT e.id FROM enterprises e WHERE e.match_key = $4) AS enterprise_id,
           t.id AS ticket_id, t.number AS ticket_number, t.content_sha256
    FROM (SELECT 1) one
    LEFT JOIN idempotency i ON i.client = $1 AND i.route = $2 AND i.key = $3
    LEFT JOIN tickets t ON t.source_system = $5 AND t.source_reference = $6
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A posted body with what could be worked out before the transaction: route, warnings, keys."""

    body: Mapping[str, Any]
    digest: bytes
    route: Route
    warnings: tuple[dict[str, str], ...]
    match_key: str
    credit_code: str | None


async def accept(house: House, actor: Actor, body: Mapping[str, Any], call: Call) -> Answer:
    """201 with the new ticket; 200 for a known reference with the same content; the kept answer for a known key.

    `body` is checked for form already. Raises Duplicate (same reference, other content) and KeyReused.
    """
    prepared = prepare(house, body, call.digest)
    for attempt in range(ATTEMPTS):
        try:
            async with _in_turn(house), house.db.transaction(actor, timed=False) as tx:
                answer = await _accept(house, tx, prepared, call)
            house.ring()
            return answer
        except Collision:
            # somebody posted the same key, reference or firm at this very moment: look again
            await asyncio.sleep(0.005 * attempt)
    raise Busy("The same request is being posted many times at once; try in a moment.")


@asynccontextmanager
async def _in_turn(house: House) -> AsyncIterator[None]:
    """Wait for a turn at the door, but never longer than a caller would: then come back later (503)."""
    try:
        async with asyncio.timeout(LONGEST_TURN_SECONDS):
            await house.door.acquire()
    except TimeoutError:
        raise Unavailable("Too many requests are coming in at once; repeat this one as it was.") from None
    try:
        yield
    finally:
        house.door.release()


def prepare(house: House, body: Mapping[str, Any], digest: bytes) -> Prepared:
    """Route and collect warnings; nothing here refuses (a wrong code never blocks a caller)."""
    rules, enterprise = house.rules, body["enterprise"]
    warnings: list[dict[str, str]] = []
    code = _credit_code(enterprise.get("uscc"), warnings)
    matter = body.get("matter")
    if matter is not None and matter not in rules.matters:
        warnings.append(_warning("unknown_matter", "/matter", "not in the tree of matters; a dispatcher will look"))
        matter = None
    location = (body.get("location") or {}).get("district")
    district = location or enterprise.get("district")
    for pointer, given in (("/location/district", location), ("/enterprise/district", enterprise.get("district"))):
        if given is not None and given not in rules.district_units:
            warnings.append(_warning("unknown_district", pointer, "not a district of this city"))
    route = rules.router.route(
        Request(
            title=body["title"],
            description=body["description"],
            domain=body.get("domain"),
            matter=matter,
            district=district,
            industry=enterprise.get("industry"),
            tier=enterprise.get("tier"),
            urgency=body["urgency"],
        )
    )
    if route.domain_inferred:
        warnings.append(_warning("domain_inferred", "/domain", f"not given; taken as {route.domain} from the text"))
    if route.lead is None:
        warnings.append(_warning("not_routed", "/matter", "no rule found a lead; in the dispatcher's queue"))
    key = f"uscc:{code}" if code else f"name:{_fold(enterprise['name'])}"
    return Prepared(body, digest, route, tuple(warnings), key, code)


async def _accept(house: House, tx: Tx, prepared: Prepared, call: Call) -> Answer:
    source = prepared.body["source"]
    known = await tx.row(
        KNOWN.replace("{now}", house.db.now_sql),
        tx.actor.subject,
        call.route,
        call.key,
        prepared.match_key,
        source["system"],
        source["reference"],
    )
    tx = replace(tx, now=known["now"])
    if known["status"] is not None:
        return replay(house, tx.actor, call, known)
    if known["ticket_id"] is not None:
        if bytes(known["content_sha256"]) != prepared.digest:
            raise Duplicate(
                f"This reference is ticket {known['ticket_number']} with other content; a correction is sent to"
                f" POST /v1/tickets/{known['ticket_number']}/actions/comment.",
                ticket={"id": known["ticket_id"], "number": known["ticket_number"]},
            )
        answer = await _known_ticket(house, tx, known["ticket_id"])
        await keep(house, tx, call, answer)
        return answer
    return await _new_ticket(house, tx, prepared, call, known)


async def _known_ticket(house: House, tx: Tx, ticket_id: str) -> Answer:
    stored = (await tickets.load(tx, [ticket_id]))[ticket_id]
    t = stored.ticket
    await house.rules_of(tx, t)
    return Answer(200, to_json(house.show(t, stored.row, tx.now)), {"Location": f"/v1/tickets/{t.id}", "ETag": etag(t)})


async def _new_ticket(house: House, tx: Tx, prepared: Prepared, call: Call, known: Mapping[str, Any]) -> Answer:
    body, route = prepared.body, prepared.route
    choice = house.rules.policies.choose(route.domain, body["urgency"], route.lead)
    flow = choice.flow
    warnings = list(prepared.warnings)
    received_at = _received(body["source"].get("received_at"), tx.now, flow, warnings)
    local_day = tx.now.astimezone(house.zone).strftime("%Y%m%d")
    draft = _empty_ticket(house, tx, prepared, flow, received_at, f"QY{local_day}{known['seq']:07d}")
    routed = {"rule": route.rule, "version": house.rules.routing_version, "lead": route.lead}
    draft = evolve(draft, facts={"policy": choice.told(), "routing": routed})
    related = await _related(house, tx, body, draft, known["enterprise_id"], warnings)
    target = RouteTo(route.lead, route.co_handlers, route.rule)
    decision: Decision = workflow.open_ticket(
        draft,
        target,
        house.env(tx, flow, draft.district),
        {"workflow": flow.key, "version": flow.version, "catalogue": routed["version"]},
        body.get("answered"),
    )
    enterprise_id = known["enterprise_id"] or house.new_id()
    row = _row(house, prepared, draft, enterprise_id, warnings)
    shown = {**house.show(decision.after, row, tx.now), "related": related}
    answer = Answer(201, to_json(shown), {"Location": f"/v1/tickets/{draft.id}", "ETag": etag(decision.after)})
    extra: dict[str, list[dict[str, Any]]] = {}
    if known["enterprise_id"] is None:
        extra["enterprises"] = [_enterprise(prepared, enterprise_id, tx.now)]
    if call.key is not None:
        extra["idempotency"] = [record(house, tx, call, answer)]
    await saving.save(tx, [decision], house.new_id, extra=extra, intake=row)
    return answer


async def _related(
    house: House,
    tx: Tx,
    body: Mapping[str, Any],
    draft: Ticket,
    enterprise_id: str | None,
    warnings: list[dict[str, str]],
) -> list[dict[str, Any]]:
    """What this enterprise said before that is much like this; whoever handles the ticket is warned, and told no numbers."""
    if enterprise_id is None:
        return []
    text = f"{body['title']} {body['description']}"
    found = await repeats.look(house, tx, enterprise_id, body, text, draft.matter)
    if found:
        detail = f"much like an earlier request of this enterprise ({found[0].relation}); see GET …/similar"
        warnings.append(_warning("similar_request", "/description", detail))
    return [repeats.told(one, house) for one in found]


def etag(t: Ticket) -> str:
    return f'"{t.version}"'


def _empty_ticket(
    house: House, tx: Tx, prepared: Prepared, flow: Workflow, received_at: datetime, number: str
) -> Ticket:
    body, route = prepared.body, prepared.route
    location = (body.get("location") or {}).get("district")
    return Ticket(
        id=house.new_id(),
        number=number,
        workflow_key=flow.key,
        workflow_version=flow.version,
        stage="",
        phase=Phase.INTAKE,
        round=1,
        domain=route.domain,
        matter=route.matter,
        urgency=body["urgency"],
        district=location or body["enterprise"].get("district"),
        received_at=received_at,
        created_at=tx.now,
        updated_at=tx.now,
        version=0,
    )


def _row(
    house: House, prepared: Prepared, t: Ticket, enterprise_id: str, warnings: list[dict[str, str]]
) -> dict[str, Any]:
    """The columns that only intake writes."""
    body = prepared.body
    contact = body.get("contact")
    kept = ("request_type", "matter", "confidential", "reply_required", "enterprise", "location", "project", "extra")
    content = {name: body.get(name) for name in kept}
    content["source"] = {"channel": body["source"].get("channel"), "received_at": body["source"].get("received_at")}
    return {
        "id": t.id,
        "number": t.number,
        "source_system": body["source"]["system"],
        "source_reference": body["source"]["reference"],
        "content_sha256": "\\x" + prepared.digest.hex(),
        "enterprise_id": enterprise_id,
        "workflow_key": t.workflow_key,
        "workflow_version": t.workflow_version,
        "district": t.district,
        "title": body["title"],
        "description": body["description"],
        "content": content,
        "contact": "\\x" + house.vault.seal(contact, f"contact/{t.id}").hex() if contact else None,
        "contact_masked": mask_contact(contact) if contact else None,
        "warnings": warnings,
        "received_at": t.received_at,
        "created_at": t.created_at,
    }


def _enterprise(prepared: Prepared, enterprise_id: str, now: datetime) -> dict[str, Any]:
    given = prepared.body["enterprise"]
    return {
        "id": enterprise_id,
        "match_key": prepared.match_key,
        "name": given["name"],
        "uscc": prepared.credit_code,
        "district": given.get("district"),
        "industry": given.get("industry"),
        "tier": given.get("tier"),
        "created_at": now,
    }


def _credit_code(given: str | None, warnings: list[dict[str, str]]) -> str | None:
    """The unified social credit code (GB 32100-2015), folded; a failing check is a warning, never a refusal."""
    if not given:
        return None
    code = "".join(unicodedata.normalize("NFKC", given).split()).upper()
    try:
        return str(uscc.validate(code))
    except ValidationError:
        warnings.append(_warning("invalid_uscc", "/enterprise/uscc", "fails the check of GB 32100-2015; kept as given"))
        return None


def _received(given: datetime | None, now: datetime, flow: Workflow, warnings: list[dict[str, str]]) -> datetime:
    """T5: the hotline's own event time, clamped between a limit in the past and now."""
    if given is None:
        return now
    if given > now:
        warnings.append(_warning("received_in_future", "/source/received_at", "later than now; taken as now"))
        return now
    oldest = now - timedelta(days=flow.oldest_received_days)
    if given < oldest:
        text = f"older than {flow.oldest_received_days} days; clocks count from that limit"
        warnings.append(_warning("received_long_ago", "/source/received_at", text))
        return oldest
    return given


def _warning(code: str, pointer: str, detail: str) -> dict[str, str]:
    return {"code": code, "pointer": pointer, "detail": detail}


def _fold(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).lower().split())
