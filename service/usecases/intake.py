"""A request comes in: one transaction, three round trips besides begin and commit.

1. who acts, and what time it is    2. is it known (key, source reference), is the firm    3. everything, written at once
What few requests bring (further matters, a group, a parent, a code that is not ours) costs a round trip more each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic_core import to_json

from service.core import workflow
from service.core.definitions import Workflow
from service.core.draft import Env, RouteTo
from service.core.errors import Busy, Duplicate
from service.core.model import Actor, Decision, Notice, Phase, Ticket, evolve
from service.core.routing import Request, Route
from service.db import enterprises, quarantine, saving, tickets
from service.db.enterprises import BY_NAME
from service.db.session import Collision, Tx, Unavailable
from service.db.vault import mask_contact
from service.usecases import on_duty, repeats
from service.usecases.answers import ATTEMPTS, Answer, Call, digest_of, keep, record, replay
from service.usecases.enterprises import Keys, belongs_to, known_or_new, row_of, settle, warning
from service.usecases.house import House

LONGEST_TURN_SECONDS = 5.0
KNOWN = f"""
    -- one look: the next number, a kept answer, the firm, and whether this source reference is here already
    SELECT {{now}} AS now, nextval('ticket_number') AS seq,
           i.request_sha256, i.status, i.answer, i.headers,
           e.id, e.name, e.name_key, e.uscc,
           {BY_NAME.format(name="$7::text")} AS by_name, {BY_NAME.format(name="$8::text")} AS by_former,
           t.id AS ticket_id, t.number AS ticket_number, t.content_sha256
    FROM (SELECT 1) one
    LEFT JOIN enterprises e ON e.match_key = $4
    LEFT JOIN idempotency i ON i.client = $1 AND i.route = $2 AND i.key = $3
    LEFT JOIN tickets t ON t.source_system = $5 AND t.source_reference = $6
"""  # noqa: S608
ANONYMOUS = "匿名"
LARGE_GROUP = 5
"""From so many firms on a request is one of a group, and the supervisor is told."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A posted body with what could be worked out before the transaction: route, warnings, keys.

    `unknown`: codes that are not ours, by field (matter, district): the ticket goes to the dispatcher, whatever the rules
    would have made of its text. `emergency`: the emergency line that the text calls for.
    """

    body: Mapping[str, Any]
    digest: bytes
    route: Route
    warnings: tuple[dict[str, str], ...]
    keys: Keys
    unknown: Mapping[str, str]
    emergency: str | None

    @property
    def target(self) -> RouteTo:
        if "matter" in self.unknown:
            return RouteTo(None)
        return RouteTo(self.route.lead, self.route.co_handlers, self.route.rule)


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
    rules, warnings, unknown = house.rules, list[dict[str, str]](), dict[str, str]()
    if body.get("anonymous"):
        body = _without_a_name(body, warnings)
    enterprise, system = body["enterprise"], body["source"]["system"]
    keys = Keys.of(enterprise, warnings)
    matter = rules.meaning(system, "matter", body.get("matter"))
    if matter is not None and matter not in rules.matters:
        warnings.append(warning("unknown_matter", "/matter", "not in the tree of matters; a dispatcher will look"))
        unknown["matter"], matter = matter, None
    location = rules.meaning(system, "district", (body.get("location") or {}).get("district"))
    seat = rules.meaning(system, "district", enterprise.get("district"))
    for pointer, given in (("/location/district", location), ("/enterprise/district", seat)):
        if given is not None and given not in rules.district_units:
            warnings.append(warning("unknown_district", pointer, "not a district of this city"))
    district = location or seat
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
        warnings.append(warning("domain_inferred", "/domain", f"not given; taken as {route.domain} from the text"))
    if route.lead is None and district is not None and district not in rules.district_units:
        unknown["district"] = district
    if route.lead is None:
        warnings.append(not_routed(route))
    agent = body.get("agent")
    if agent and not agent["authorised"]:
        text = "without a paper that says so; replies go to the enterprise itself"
        warnings.append(warning("agent_without_authority", "/agent/authorised", text))
    emergency = rules.router.emergency(body["title"], body["description"])
    if emergency and not body.get("handed_over"):
        warnings.append(warning("emergency_line", "/description", f"the text calls for {emergency}: hand over at once"))
    return Prepared(body, digest, route, tuple(warnings), keys, unknown, emergency)


def routed_by(house: House, route: Route, target: RouteTo) -> dict[str, Any]:
    """For the ticket's facts: by what it was sent where, and what the catalogue would have said if that is another unit."""
    routed = {"rule": target.rule, "version": house.rules.routing_version, "lead": target.lead}
    return routed if target.lead == route.lead else {**routed, "suggested": route.lead}


def not_routed(route: Route) -> dict[str, str]:
    """Why a dispatcher reads it, with the units between which the catalogue could not decide."""
    why = "no unit that leads was found"
    if route.lead is not None:
        why = "the unit that would lead must not see it"
    elif route.nearest:
        why = f"not sure enough: {' or '.join(route.nearest)}"
    return warning("not_routed", "/matter", f"{why}; in the dispatcher's queue")


def _without_a_name(body: Mapping[str, Any], warnings: list[dict[str, str]]) -> dict[str, Any]:
    """An anonymous request: whoever it came from is not kept, whatever was sent, and joins it to no other."""
    given = body["enterprise"]
    if body.get("contact") or given.get("uscc"):
        warnings.append(warning("anonymous_dropped", "/contact", "an anonymous request: name and contact are not kept"))
    kept = {k: given.get(k) for k in ("district", "industry", "tier")}
    return {
        **body,
        "enterprise": {"name": ANONYMOUS, "uscc": None, **kept},
        "contact": None,
        "agent": None,
        "group": None,
    }


async def _accept(house: House, tx: Tx, prepared: Prepared, call: Call) -> Answer:
    source, keys = prepared.body["source"], prepared.keys
    anonymous = bool(prepared.body.get("anonymous"))
    known = await tx.row(
        KNOWN.replace("{now}", house.db.now_sql),
        tx.actor.subject,
        call.route,
        call.key,
        None if anonymous else keys.match,
        source["system"],
        source["reference"],
        None if anonymous else keys.name,
        keys.former,
    )
    tx = replace(tx, now=known["now"])
    if known["status"] is not None:
        return replay(house, tx.actor, call, known)
    if known["ticket_id"] is not None:
        if bytes(known["content_sha256"]) != prepared.digest:
            raise Duplicate(
                f"This reference is ticket {known['ticket_number']} with other content; a correction is sent to"
                f" POST /v1/tickets/{known['ticket_number']}/corrections.",
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
    return Answer(
        200, to_json(house.show(t, stored.row, tx.now, tx.actor)), {"Location": f"/v1/tickets/{t.id}", "ETag": etag(t)}
    )


async def _new_ticket(house: House, tx: Tx, prepared: Prepared, call: Call, known: Mapping[str, Any]) -> Answer:
    body, warnings = prepared.body, list(prepared.warnings)
    enterprise_id = (
        None if body.get("anonymous") else await settle(tx, prepared.keys, known, body["enterprise"], warnings)
    )
    related = await _related(house, tx, prepared, enterprise_id, warnings)
    extra: dict[str, list[dict[str, Any]]] = {}
    if enterprise_id is None:
        row = row_of(house, _keys_of(prepared), body["enterprise"], tx.now)
        enterprise_id, extra["enterprises"] = row["id"], [row]
    main = _opening(house, tx, prepared, known["seq"], enterprise_id, warnings)
    parts = await _further(house, tx, prepared, main, enterprise_id)
    decision = main.decide(house, tx, parts)
    handed_over = body.get("handed_over")
    answer = _answer(house, tx, main, decision.after, related)
    if call.key is not None and handed_over is None:
        extra["idempotency"] = [record(house, tx, call, answer)]
    [saved] = await saving.save(tx, [decision], house.new_id, extra=extra, intake=main.row)
    if handed_over is not None:
        # it is with the emergency line already: logged, and closed in the same moment
        closing = workflow.act(saved, "hand_over", handed_over, main.env)
        [saved] = await saving.save(tx, [closing], house.new_id)
        answer = _answer(house, tx, main, saved, related)
        await keep(house, tx, call, answer)
    if saved.open and (saved.urgency == "emergency" or prepared.emergency):
        legs = [leg.department for leg in saved.assignments if leg.open]
        await on_duty.tell(house, tx, saved.id, legs, "emergency")
    for part in parts:
        await saving.save(tx, [part.decide(house, tx, ())], house.new_id, intake=part.row)
    for opened in (main, *parts):
        await quarantine.enter(tx, opened.draft.id, body["source"]["system"], opened.prepared.unknown)
    if body["enterprise"].get("parent") or body["enterprise"].get("kind"):
        await belongs_to(house, tx, enterprise_id, body["enterprise"], warnings)
    if body.get("group"):
        firms = [(await known_or_new(house, tx, firm, [], f"/group/{n}"), firm["name"])
                 for n, firm in enumerate(body["group"])]  # fmt: skip
        await enterprises.add_group(tx, main.draft.id, [f for f in firms if f[0] != enterprise_id])
    return answer


def _answer(house: House, tx: Tx, opened: Opening, ticket: Ticket, related: list[dict[str, Any]]) -> Answer:
    shown = {**house.show(ticket, opened.row, tx.now, tx.actor), "related": related}
    return Answer(201, to_json(shown), {"Location": f"/v1/tickets/{ticket.id}", "ETag": etag(ticket)})


def _keys_of(prepared: Prepared) -> Keys:
    """An anonymous request is a firm of its own in the register, which nothing leads to."""
    if not prepared.body.get("anonymous"):
        return prepared.keys
    source = prepared.body["source"]
    return Keys(f"anonymous:{source['system']}:{source['reference']}", "", None, None)


@dataclass(frozen=True, slots=True)
class Opening:
    """A ticket about to be opened: without children, with what intake writes of it and the rules it will live by."""

    draft: Ticket
    row: Mapping[str, Any]
    env: Env
    prepared: Prepared
    whole: Mapping[str, Any] | None = None

    def decide(self, house: House, tx: Tx, parts: Sequence[Opening]) -> Decision:
        told: dict[str, Any] = {
            "workflow": self.draft.workflow_key,
            "version": self.draft.workflow_version,
            "catalogue": house.rules.routing_version,
        }
        draft, group = self.draft, self.prepared.body.get("group") or ()
        if parts:
            named = [{"id": p.draft.id, "number": p.draft.number, "title": p.row["title"]} for p in parts]
            draft, told["parts"] = evolve(draft, facts={**draft.facts, "parts": named}), named
        if self.whole is not None:
            told["split"] = {"of": dict(self.whole), "clocks": "inherit"}
        if group:
            told["group"] = len(group)
        if draft.reply == "none":
            told["no_reply"] = True
        decision = workflow.open_ticket(
            draft, self.prepared.target, self.env, told, self.prepared.body.get("answered") if not self.whole else None
        )
        more = [Notice("supervisor", "group_request")] if len(group) + 1 >= LARGE_GROUP else []
        if self.prepared.emergency and self.whole is None:
            more += [Notice(to, "emergency") for to in ("dispatcher", "supervisor")]
        return replace(decision, notices=(*decision.notices, *more)) if more else decision


def _opening(
    house: House,
    tx: Tx,
    prepared: Prepared,
    seq: int,
    enterprise_id: str,
    warnings: list[dict[str, str]],
    whole: Ticket | None = None,
) -> Opening:
    body, route, target = prepared.body, prepared.route, prepared.target
    choice = house.rules.policies.choose(route.domain, body["urgency"], target.lead)
    flow = choice.flow
    received_at = _received(body["source"].get("received_at"), tx.now, flow, warnings)
    local_day = tx.now.astimezone(house.zone).strftime("%Y%m%d")
    draft = _empty_ticket(house, tx, prepared, flow, received_at, f"QY{local_day}{seq:07d}")
    facts: dict[str, Any] = {"policy": choice.told(), "routing": routed_by(house, route, target)}
    if not body["reply_required"]:
        facts["no_reply"] = True
    recused = tuple(f"unit:{code}" for code in route.complained_of)
    draft = evolve(draft, facts=facts, recused=recused, split_from=whole.id if whole else None)
    row = _row(house, prepared, draft, enterprise_id, warnings)
    told = {"id": whole.id, "number": whole.number} if whole else None
    return Opening(draft, row, house.env(tx, flow, draft.district), prepared, told)


async def _further(house: House, tx: Tx, prepared: Prepared, main: Opening, enterprise_id: str) -> list[Opening]:
    """The further matters of the call: tickets of their own, received when the whole was, each routed by its own text."""
    given = prepared.body.get("parts") or ()
    if not given:
        return []
    source, out = prepared.body["source"], []
    shared = {k: v for k, v in prepared.body.items() if k not in ("parts", "answered", "group", "handed_over")}
    for n, (part, seq) in enumerate(zip(given, await tickets.next_numbers(tx, len(given)), strict=True), 1):
        body = {**shared, **part, "source": {**source, "reference": f"{source['reference']}#{n}"}}
        ready = prepare(house, body, digest_of(body["source"]["reference"], dict(part)))
        out.append(_opening(house, tx, ready, seq, enterprise_id, list(ready.warnings), main.draft))
    return out


async def _related(
    house: House,
    tx: Tx,
    prepared: Prepared,
    enterprise_id: str | None,
    warnings: list[dict[str, str]],
) -> list[dict[str, Any]]:
    """What this enterprise said before that is much like this; whoever handles the ticket is warned, and told no numbers."""
    body = prepared.body
    if enterprise_id is None:
        return []
    text = f"{body['title']} {body['description']}"
    found = await repeats.look(house, tx, enterprise_id, body, text, prepared.route.matter)
    if found:
        detail = f"much like an earlier request of this enterprise ({found[0].relation}); see GET …/similar"
        warnings.append(warning("similar_request", "/description", detail))
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
    content = content_of(body)
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
        "split_from": t.split_from,
    }


def content_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept as it was said."""
    kept = ("request_type", "matter", "confidential", "reply_required", "enterprise", "location", "project", "extra")
    content = {name: body.get(name) for name in kept}
    for name in ("anonymous", "agent", "group", "handed_over"):
        if body.get(name):
            content[name] = body[name]
    return content


def _received(given: datetime | None, now: datetime, flow: Workflow, warnings: list[dict[str, str]]) -> datetime:
    """T5: the hotline's own event time, clamped between a limit in the past and now."""
    if given is None:
        return now
    if given > now:
        warnings.append(warning("received_in_future", "/source/received_at", "later than now; taken as now"))
        return now
    oldest = now - timedelta(days=flow.oldest_received_days)
    if given < oldest:
        text = f"older than {flow.oldest_received_days} days; clocks count from that limit"
        warnings.append(warning("received_long_ago", "/source/received_at", text))
        return oldest
    return given
