"""First-dispatch accuracy, measured from rulings, and rulings written back into the dispatch catalogue.

A ruling (an approved return, or another lead in the first round) says that a rule sent a ticket wrongly. Somebody who
dispatches proposes words that tell the right unit; somebody else accepts: then a new version of the catalogue has a rule
for them. Tickets that are under way keep what they have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import to_json

from service.core.access import require
from service.core.catalogue import RULING, check_catalogue, parse_routing
from service.core.errors import Conflict, DefinitionError, Forbidden, Invalid, NotFound
from service.core.model import Actor
from service.core.routing import Request, Router
from service.db import audit, routing, tickets
from service.db import definitions as published
from service.db.session import Tx
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House
from service.usecases.reports import period_of

WEIGHT = 4
"""Points of each word of a rule from a ruling: ten of them in a title are less than a matter that the hotline named."""
SHOWN = (
    "id", "state", "routed_by", "routed_version", "was_lead", "lead", "matter", "words", "reason", "proposed_by",
    "proposed_at", "decided_by", "decided_at", "decision_reason", "published_version",
)  # fmt: skip


async def accuracy(
    house: House, actor: Actor, *, start: str | None = None, end: str | None = None, as_of: str | None = None
) -> dict[str, Any]:
    """Dispatches by rule, by unit and by week: how many there were, were returned, were wrong; None where nothing was.

    `start`, `end`, `as_of` as in the SLA report. Raises Invalid and Forbidden.
    """
    require(actor, "routing:report")
    async with house.db.transaction(actor, readonly=True) as tx:
        scope = period_of(tx, actor, house.zone, start, end, as_of)
        rows = await routing.accuracy(tx, scope.start, scope.end, scope.as_of, scope.zone)
    sent = [row for row in rows if row["lead"]]
    tickets_in_all = sum(row["tickets"] for row in rows)
    return {
        "from": views.local(scope.start, house.zone),
        "to": views.local(scope.end, house.zone),
        "as_of": views.local(scope.as_of, house.zone),
        "tickets": tickets_in_all,
        "routed_share": _share(sum(row["tickets"] for row in sent), tickets_in_all),
        "total": _counts(sent),
        "by_rule": _grouped(sent, "rule"),
        "by_unit": _grouped(sent, "lead"),
        "by_week": _grouped(sent, "week"),
        "groups": [
            {"week": row["week"].isoformat(), "rule": row["rule"], "unit": row["lead"], **_counts([row])}
            for row in rows
        ],
    }


def _grouped(rows: Iterable[Any], name: str) -> list[dict[str, Any]]:
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        groups.setdefault(row[name], []).append(row)
    label = {"lead": "unit"}.get(name, name)
    return [
        {label: value.isoformat() if name == "week" else value, **_counts(groups[value])}
        for value in sorted(groups, key=str)
    ]


def _counts(rows: Iterable[Any]) -> dict[str, Any]:
    told = list(rows)
    sent = sum(row["tickets"] for row in told if row["lead"])
    wrong = sum(row["wrong"] for row in told if row["lead"])
    return {
        "tickets": sum(row["tickets"] for row in told),
        "returned": sum(row["returned"] for row in told),
        "wrong": wrong,
        "accuracy": _share(sent - wrong, sent),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


async def propose(house: House, actor: Actor, asked: Mapping[str, Any], call: Call) -> Answer:
    """201 with the proposal. Raises NotFound, Invalid, and Conflict without a ruling or with an open proposal."""
    require(actor, "routing:propose")
    rules = house.rules
    for name, known in (("lead", rules.department_codes), ("matter", rules.matter_codes)):
        if asked[name] is not None and asked[name] not in known:
            raise Invalid.field(f"/{name}", "expected a code of the published list")

    async def work(tx: Tx) -> Answer:
        # the ticket's row is the lock: two proposals at once find each other
        ticket_id = await tickets.lock(tx, asked["ticket"])
        if ticket_id is None:
            raise NotFound("There is no such ticket.")
        found = await routing.ruling(tx, ticket_id)
        routed = found["routing"] or {}
        lead = asked["lead"] or found["lead"]
        if lead is None or not (found["returned"] or (found["lead"] and found["lead"] != routed.get("lead"))):
            raise Conflict("There is no ruling: the ticket stays where it was sent, or nobody leads it yet.")
        if lead == routed.get("lead"):
            raise Invalid.field("/lead", "expected another unit than the one the ticket was first sent to")
        if found["proposed"]:
            raise Conflict("A proposal from this ticket is open already; decide it first.")
        text = rules.router.fold(f"{found['title']}\n{found['description']}")
        for n, word in enumerate(asked["words"]):
            if rules.router.fold(word) not in text:
                raise Invalid.field(f"/words/{n}", "expected a word that stands in the ticket's title or description")
        row = {
            "id": house.new_id(),
            "ticket_id": ticket_id,
            "state": "open",
            "routed_by": routed.get("rule"),
            "routed_version": routed.get("version"),
            "was_lead": routed.get("lead"),
            "lead": lead,
            "matter": asked["matter"],
            "words": list(dict.fromkeys(rules.router.fold(word) for word in asked["words"])),
            "reason": asked["reason"],
            "proposed_by": tx.actor.subject,
        }
        await routing.insert(tx, row)
        told = {"proposal": row["id"], "lead": lead, "words": row["words"]}
        await audit.write(tx, house.new_id(), "routing.proposed", ticket_id, told)
        stored = await routing.locked(tx, row["id"])
        routes = _tried(house, found, _with_rule(house, stored))
        if (after := routes["after"])["lead"] != lead:
            by = f"{after['rule']!r} sends it to {after['lead'] or 'the dispatcher'}"
            expected = f"expected words by which this text goes to {lead}; with these {by}"
            raise Invalid.field("/words", expected)
        return Answer(201, to_json(_shown(house, stored) | {"routes": routes}))

    return await once(house, actor, call, work)


async def proposals(
    house: House, actor: Actor, state: str | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """Proposals, newest first, and the place to go on from."""
    require(actor, "routing:report")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await routing.listed(tx, state, after, limit + 1)
    return [_shown(house, row) for row in rows[:limit]], rows[limit - 1]["id"] if len(rows) > limit else None


async def decide(house: House, actor: Actor, proposal_id: str, asked: Mapping[str, Any], call: Call) -> Answer:
    """Accept (publishes a catalogue with the new rule) or refuse. Never by who proposed it. Raises Conflict, NotFound."""
    require(actor, "definitions:write")

    async def work(tx: Tx) -> Answer:
        await published.lock(tx)
        found = await routing.locked(tx, proposal_id)
        if found is None:
            raise NotFound("There is no such proposal.")
        if found["state"] != "open":
            raise Conflict(f"It was {found['state']} by {found['decided_by']}.")
        if found["proposed_by"] == tx.actor.subject:
            raise Forbidden("Somebody else decides on what you proposed.")
        version = None
        if asked["decision"] == "accept":
            body = await published.newest_body(tx, "routing", "city")
            version = await published.publish(
                tx, "routing", "city", _added(house, body, found), tx.actor.subject, asked["reason"]
            )
        state = "accepted" if version else "refused"
        await routing.decide(tx, proposal_id, state, tx.actor.subject, asked["reason"], version)
        told = {"proposal": proposal_id, "version": version}
        await audit.write(tx, house.new_id(), f"routing.{state}", found["ticket_id"], told)
        return Answer(200, to_json(_shown(house, await routing.locked(tx, proposal_id))))

    answer = await once(house, actor, call, work)
    await house.refresh()
    return answer


def rule_of(proposal: Mapping[str, Any]) -> dict[str, Any]:
    """The rule that a proposal adds: all its words are needed, and then it decides."""
    needed = WEIGHT * len(proposal["words"])
    rule = {
        "key": f"{RULING}{proposal['number']}",
        "title": {"zh": f"{proposal['number']} 的裁定", "en": f"Ruling on {proposal['number']}"},
        "words": dict.fromkeys(proposal["words"], WEIGHT),
        "all_words": True,
        "min_score": needed,
        "decides": needed,
        "lead": proposal["lead"],
    }
    return rule | ({"matter": proposal["matter"]} if proposal["matter"] else {})


def _added(house: House, body: Mapping[str, Any], proposal: Mapping[str, Any]) -> dict[str, Any]:
    """The catalogue with the proposal's rule first; raises Conflict if it would not be a right one any more."""
    rule = rule_of(proposal)
    others = [r for r in body["rules"] if r["key"] != rule["key"]]
    changed = {**body, "rules": [rule, *others]}
    try:
        check_catalogue(parse_routing(changed), [*house.rules.department_codes], [*house.rules.matter_codes])
    except DefinitionError as error:
        raise Conflict(f"The catalogue refuses the rule: {error.detail}") from None
    return changed


def _with_rule(house: House, proposal: Mapping[str, Any]) -> Router:
    body = _added(house, house.rules.bodies["routing", "city"][1], proposal)
    return house.rules.router.with_catalogue(parse_routing(body))


def _tried(house: House, ticket: Mapping[str, Any], after: Router) -> dict[str, Any]:
    """Where the ticket's text would go before and after, without the matter, as most requests come."""
    request = Request(
        title=ticket["title"],
        description=ticket["description"],
        domain=ticket["domain"],
        district=ticket["district"],
        urgency=ticket["urgency"],
    )
    routes = {"before": house.rules.router.route(request), "after": after.route(request)}
    return {name: {"lead": route.lead, "rule": route.rule} for name, route in routes.items()}


def _shown(house: House, row: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: row[name] for name in SHOWN}
    told["ticket"] = {"id": row["ticket_id"], "number": row["number"]}
    told["rule"] = rule_of(row)
    localised: dict[str, Any] = views.localised(told, house.zone)
    return localised
