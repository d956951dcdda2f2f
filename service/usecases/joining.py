"""Acts that concern more than one ticket: merge and split. All rows are locked in the order of their ids, once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic_core import to_json

from service.core import joining
from service.core.draft import Env, RouteTo
from service.core.errors import FieldError, Invalid, NotFound, Stale
from service.core.model import Actor, Phase, Ticket
from service.core.routing import CONFLICT, Request, Route
from service.db import clocks as timers
from service.db import saving, tickets
from service.db.session import Tx
from service.db.tickets import Stored
from service.db.vault import mask_contact
from service.usecases.answers import Answer, Call, digest_of, once
from service.usecases.house import House
from service.usecases.intake import etag, not_routed, routed_by
from service.usecases.tickets import ABSENT


async def act(
    house: House, actor: Actor, ref: str, action: str, form: Mapping[str, Any], call: Call, if_match: str | None
) -> Answer:
    """`merge` into another ticket, or `split` parts off; answers this ticket as it is then."""

    async def work(tx: Tx) -> Answer:
        if action == "merge":
            return await _merge(house, tx, ref, form, if_match)
        return await _split(house, tx, ref, form, if_match)

    return await once(house, actor, call, work)


async def _merge(house: House, tx: Tx, ref: str, form: Mapping[str, Any], if_match: str | None) -> Answer:
    wanted = form.get("into")
    ids = [await tickets.resolve(tx, ref), await tickets.resolve(tx, wanted) if isinstance(wanted, str) else None]
    if ids[0] is None:
        raise NotFound(ABSENT)
    if ids[1] is None:
        raise Invalid.field("/into", "expected the id or number of a ticket that you may see")
    tx, found = await _locked(house, tx, [i for i in ids if i is not None])
    merged, survivor = found[ids[0]], found[ids[1]]
    _check_version(merged, if_match)
    env, other = await _env(house, tx, merged), await _env(house, tx, survivor)
    decisions = joining.merge(merged.ticket, survivor.ticket, form, env, other)
    after, _ = await saving.save(tx, decisions, house.new_id)
    return Answer(200, to_json(house.show(after, merged.row, tx.now, tx.actor)), {"ETag": etag(after)})


async def _split(house: House, tx: Tx, ref: str, form: Mapping[str, Any], if_match: str | None) -> Answer:
    whole_id = await tickets.resolve(tx, ref)
    if whole_id is None:
        raise NotFound(ABSENT)
    tx, found = await _locked(house, tx, [whole_id])
    whole = found[whole_id]
    _check_version(whole, if_match)
    env = await _env(house, tx, whole)
    joining.check_split(whole.ticket, form, env)
    asked = form["parts"]
    numbers = await tickets.next_numbers(tx, len(asked))
    _check_codes(house, asked)
    parts = [_part(house, tx, whole, p, n) for p, n in zip(asked, numbers, strict=True)]
    first, *others = joining.split(whole.ticket, form, [part for part, _ in parts], env)
    [after] = await saving.save(tx, [first], house.new_id)
    made = len(whole.ticket.facts.get("parts", []))
    for n, (decision, given, (_, warnings)) in enumerate(zip(others, asked, parts, strict=True), made + 1):
        row = _row(house, whole, decision.before, given, n) | {"warnings": warnings}
        await saving.save(tx, [decision], house.new_id, intake=row)
    return Answer(200, to_json(house.show(after, whole.row, tx.now, tx.actor)), {"ETag": etag(after)})


async def _locked(house: House, tx: Tx, ids: list[str]) -> tuple[Tx, dict[str, Stored]]:
    """The rows' locks, then the time (what happens now happens after whatever the locks waited for), then the tickets."""
    if len(await timers.lock_free(tx, ids, wait=True)) < len(set(ids)):
        raise NotFound(ABSENT)
    tx = replace(tx, now=await tx.value(f"SELECT {house.db.now_sql}"))
    return tx, await tickets.load(tx, ids)


def _check_version(stored: Stored, if_match: str | None) -> None:
    current = etag(stored.ticket)
    if if_match is not None and if_match not in {"*", current}:
        raise Stale(f"If-Match names another version, the ticket is at {current}; read it again.", current=current)


async def _env(house: House, tx: Tx, stored: Stored) -> Env:
    return house.env(tx, await house.rules_of(tx, stored.ticket), stored.ticket.district)


def _part(
    house: House, tx: Tx, whole: Stored, given: Mapping[str, Any], number: int
) -> tuple[joining.Part, list[dict[str, str]]]:
    """Where a part goes: to the department named, else where the rules send its text; and a warning if that is nowhere."""
    rules, t = house.rules, whole.ticket
    enterprise = whole.row["content"].get("enterprise") or {}
    route = rules.router.route(
        Request(
            title=given["title"],
            description=given["description"],
            domain=given.get("domain") or t.domain,
            matter=given.get("matter"),
            district=t.district,
            industry=enterprise.get("industry"),
            tier=enterprise.get("tier"),
            urgency=t.urgency,
        )
    )
    named = given.get("department")
    # whom the whole was kept from the part is kept from too, but for a unit that is named to handle it and not accused in it
    recused = dict.fromkeys((*whole.ticket.recused, *(f"unit:{code}" for code in route.complained_of)))
    if named and named not in route.complained_of:
        recused.pop(f"unit:{named}", None)
    target = RouteTo(named, (), "split") if named else _without(recused, route)
    choice = rules.policies.choose(route.domain, t.urgency, target.lead)
    local_day = tx.now.astimezone(house.zone).strftime("%Y%m%d")
    ticket = Ticket(
        id=house.new_id(),
        number=f"QY{local_day}{number:07d}",
        workflow_key=choice.flow.key,
        workflow_version=choice.flow.version,
        stage="",
        phase=Phase.INTAKE,
        round=1,
        domain=route.domain,
        matter=route.matter,
        urgency=t.urgency,
        district=t.district,
        received_at=t.received_at,
        created_at=tx.now,
        updated_at=tx.now,
        version=0,
        facts={
            "policy": choice.told(),
            **({} if named else {"routing": routed_by(house, route, target)}),
            **_no_reply(t),
        },
        recused=tuple(recused),
        split_from=t.id,
    )
    warnings = [] if target.lead else [not_routed(route)]
    return joining.Part(ticket, target, house.env(tx, choice.flow, t.district)), warnings


def _no_reply(whole: Ticket) -> dict[str, bool]:
    """Whoever wanted no reply is not to be contacted about the parts either."""
    return {"no_reply": True} if whole.facts.get("no_reply") else {}


def _without(recused: Collection[str], route: Route) -> RouteTo:
    """Where the rules send it, unless that is a unit that must not see it: then a dispatcher reads it."""
    if f"unit:{route.lead}" in recused:
        return RouteTo(None, (), CONFLICT)
    return RouteTo(route.lead, tuple(c for c in route.co_handlers if f"unit:{c}" not in recused), route.rule)


def _check_codes(house: House, asked: Sequence[Mapping[str, Any]]) -> None:
    wrong = []
    for name, known in (("department", house.rules.active_codes), ("matter", house.rules.matter_codes)):
        told = f"expected the code of a {name}; GET /v1/{name}s lists them"
        codes = [(n, part.get(name)) for n, part in enumerate(asked)]
        wrong += [FieldError(f"/parts/{n}/{name}", told) for n, code in codes if code is not None and code not in known]
    if wrong:
        raise Invalid("A part is not as expected.", wrong)


def _row(house: House, whole: Stored, part: Ticket, given: Mapping[str, Any], n: int) -> dict[str, Any]:
    """What intake writes of a ticket, from the whole's row: the same firm, contact and source, told apart by `#n`."""
    row = whole.row
    sealed = row["contact"]
    contact = house.vault.open(bytes(sealed), f"contact/{whole.ticket.id}") if sealed is not None else None
    reference = f"{row['source_reference']}#{n}"
    return {
        "id": part.id,
        "number": part.number,
        "source_system": row["source_system"],
        "source_reference": reference,
        "content_sha256": "\\x" + digest_of(reference, dict(given)).hex(),
        "enterprise_id": row["enterprise_id"],
        "district": part.district,
        "title": given["title"],
        "description": given["description"],
        "content": {**row["content"], "matter": part.matter},
        "contact": "\\x" + house.vault.seal(contact, f"contact/{part.id}").hex() if contact else None,
        "contact_masked": mask_contact(contact) if contact else None,
        "received_at": part.received_at,
        "created_at": part.created_at,
        "split_from": whole.ticket.id,
    }
