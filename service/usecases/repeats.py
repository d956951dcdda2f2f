"""Repeats: what an enterprise said before, found at intake and for whoever handles its ticket; an answer for each source."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from service.core import repeats, words, workflow
from service.core.errors import Invalid, NotFound
from service.core.model import SYSTEM, Actor
from service.core.repeats import Before, Likeness
from service.db import clocks as timers
from service.db import finding, saving, tickets
from service.db import repeats as stored
from service.db.session import Tx
from service.usecases import views
from service.usecases.house import House

ABSENT = "There is no such ticket, or it is not yours to see."


async def look(
    house: House, tx: Tx, enterprise_id: str, content: Mapping[str, Any], text: str, matter: str | None,
    but: str | None = None,
) -> list[Likeness]:  # fmt: skip
    """What this enterprise said much like this before, of what the actor may see."""
    rules = house.rules.desk.similar
    rows = await finding.texts_of(tx, enterprise_id, tx.now - timedelta(days=rules.lookback_days), but, rules.most)
    if not rows:
        return []
    names = _names(content)
    earlier = [
        Before(
            row["id"], row["number"], row["matter"], row["phase"], row["outcome"], row["created_at"], row["closed_at"],
            row["public_reply"], words.told(row["terms"]) - names,
        )
        for row in rows
    ]  # fmt: skip
    terms = words.told(words.terms(words.fold(text))) - names
    return repeats.alike(terms, matter, earlier, rules, tx.now)


def _names(content: Mapping[str, Any]) -> frozenset[int]:
    """Terms of what stands in every ticket of an enterprise: its name, its project, where it is."""
    firm, project, place = (content.get(name) or {} for name in ("enterprise", "project", "location"))
    given = [firm.get("name"), project.get("name"), place.get("address")]
    return words.terms(words.searchable(given))


def told(one: Likeness, house: House) -> dict[str, Any]:
    zh, en = one.reason()
    before = one.before
    return {
        "id": before.id,
        "number": before.number,
        "relation": one.relation,
        "score": one.score,
        "new": one.new,
        "same_matter": one.same_matter,
        "phase": before.phase,
        "outcome": before.outcome,
        "created_at": views.local(before.created_at, house.zone),
        "closed_at": views.local(before.closed_at, house.zone),
        "reason": zh,
        "reason_en": en,
    }


async def similar(house: House, actor: Actor, ref: str) -> list[dict[str, Any]]:
    """Earlier and parallel tickets of the same enterprise that are much like this one, each with what is proposed."""
    async with house.db.transaction(actor, readonly=True) as tx:
        ticket_id = await tickets.resolve(tx, ref)
        loaded = await tickets.load(tx, [ticket_id]) if ticket_id else {}
        if ticket_id is None or ticket_id not in loaded:
            raise NotFound(ABSENT)
        t, row = loaded[ticket_id].ticket, loaded[ticket_id].row
        text = f"{row['title']} {row['description']}"
        kin = {t.split_from, t.merged_into} | {part["id"] for part in t.facts.get("parts", ())}
        found = await look(house, tx, row["enterprise_id"], row["content"], text, t.matter, ticket_id)
    return [
        {**told(one, house), "proposals": repeats.proposals(t.id, one) if t.open else []}
        for one in found
        if one.before.id not in kin
    ]


async def check_explained(tx: Tx, ticket_id: str, form: Mapping[str, Any]) -> None:
    """What is explained again was answered before, to the same enterprise. Raises Invalid."""
    earlier = await tickets.resolve(tx, form["of"])
    if earlier is None or not await stored.answered_before(tx, ticket_id, earlier):
        raise Invalid.field("/of", "expected a closed ticket of the same enterprise that you may see")


async def answer_sources(house: House, page: int = 200) -> int:
    """Each ticket that was merged into another gets the answer of that one, as an event of its own: the source that
    posted it is told under its own reference. How many were told."""
    made = 0
    while True:
        async with house.db.transaction(SYSTEM) as tx:
            ids = await timers.lock_free(tx, [row["id"] for row in await stored.unanswered(tx, page)])
            # under the locks: another worker may have been here meanwhile
            waiting = {row["id"]: row for row in await stored.unanswered(tx, page)}
            loaded = await tickets.load(tx, [i for i in ids if i in waiting])
            decisions = []
            for ticket_id, found in loaded.items():
                by = waiting[ticket_id]
                flow = await house.rules_of(tx, found.ticket)
                data = {"by": {"id": by["survivor"], "number": by["number"]}, "public_reply": by["public_reply"],
                        "outcome": by["outcome"], "round": by["round"]}  # fmt: skip
                env = house.env(tx, flow, found.ticket.district)
                decisions.append(workflow.note(found.ticket, "ticket.answered", data, env))
            await saving.save(tx, decisions, house.new_id)
        made += len(decisions)
        if not decisions:
            return made
        house.ring()
