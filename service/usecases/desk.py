"""Comfort at work: views of the queue under a name, texts to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from pydantic_core import to_json

from service.core import confidence
from service.core.desk import PLACES, filled, unknown_places
from service.core.errors import Conflict, Forbidden, Invalid, NotFound
from service.core.model import Actor, Role
from service.core.queue import Filter
from service.db import desk as stored
from service.db import tickets
from service.db.session import Tx
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House

MOST_VIEWS, MOST_TEMPLATES = 100, 500
NO_VIEW = "There is no such view, or it is not yours to use."
NO_TEMPLATE = "There is no such template, or it is not your unit's."


# --- saved views -----------------------------------------------------------------------------------------------------------


async def through(house: House, actor: Actor, view_id: str | None, given: Filter) -> Filter:
    """The filters that are given, over those of a saved view."""
    if view_id is None:
        return given
    async with house.db.transaction(actor, readonly=True) as tx:
        row = await stored.view(tx, view_id)
    if row is None:
        raise NotFound(NO_VIEW)
    kept = dict(row["filters"])
    if "due_before" in kept:
        kept["due_before"] = datetime.fromisoformat(kept["due_before"])
    return given.over(Filter(**{f.name: kept[f.name] for f in fields(Filter) if f.name in kept}))


async def saved_views(house: House, actor: Actor) -> list[dict[str, Any]]:
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await stored.views(tx, MOST_VIEWS * 10)
    return [_view(row, house, actor) for row in rows]


def _view(row: Any, house: House, actor: Actor) -> dict[str, Any]:
    told = {name: row[name] for name in ("id", "name", "department", "filters", "created_at", "updated_at")}
    shown: dict[str, Any] = views.localised({**told, "own": row["owner"] == actor.subject}, house.zone)
    return shown


async def save_view(
    house: House, actor: Actor, name: str, department: str | None, filters: Filter, call: Call
) -> Answer:
    """A view of one's own; with a department, its people may use it too. The same name again replaces it."""
    _own_unit(actor, department, "/department")
    _own_unit(actor, filters.department, "/filters/department")

    async def work(tx: Tx) -> Answer:
        if await stored.count_views(tx) >= MOST_VIEWS:
            raise Conflict(f"At most {MOST_VIEWS} views are kept for one person; delete one first.")
        row = await stored.save_view(tx, house.new_id(), name, department, filters.as_dict())
        return Answer(201, to_json(_view(row, house, actor)), {"Location": f"/v1/views/{row['id']}"})

    return await once(house, actor, call, work)


async def delete_view(house: House, actor: Actor, view_id: str) -> None:
    async with house.db.transaction(actor) as tx:
        if not await stored.delete_view(tx, view_id):
            raise NotFound(NO_VIEW)


def _own_unit(actor: Actor, department: str | None, pointer: str) -> None:
    if actor.role is Role.HANDLER and department is not None and department not in actor.departments:
        raise Invalid.field(pointer, "expected a department that you work for")


# --- templates -------------------------------------------------------------------------------------------------------------


async def templates(house: House, actor: Actor, action: str | None, ticket: str | None) -> list[dict[str, Any]]:
    """The city's texts, then the units' own; for a ticket: those that fit its matter, with what is known put in."""
    async with house.db.transaction(actor, readonly=True) as tx:
        values, matter = await _values(house, tx, ticket) if ticket is not None else ({}, None)
        rows = await stored.templates(tx, action, matter, MOST_TEMPLATES)
    items: list[dict[str, Any]] = [
        {"id": key, "scope": "city", "department": None, "title": t.title, "text": t.text, "action": t.action, "matter": t.matter}
        for key, t in house.rules.desk.templates.items()
        if action in {None, t.action} and (ticket is None or t.matter in {None, matter})
    ]  # fmt: skip
    items += [_template(row, house) for row in rows]
    if ticket is not None:
        for item in items:
            item["filled"] = filled(item["text"], values)
    return items


async def _values(house: House, tx: Tx, ref: str) -> tuple[Mapping[str, str | None], str | None]:
    """What is known of a ticket for the places of a text, and its matter."""
    ticket_id = await tickets.resolve(tx, ref)
    loaded = await tickets.load(tx, [ticket_id]) if ticket_id else {}
    if ticket_id is None or ticket_id not in loaded:
        raise NotFound("There is no such ticket, or it is not yours to see.")
    t, row = loaded[ticket_id].ticket, loaded[ticket_id].row
    unit = house.rules.departments.get(t.lead or "")
    due = next((c.due_at for c in reversed(t.clocks) if c.name == "resolve" and c.open), None)
    values = {
        "number": t.number,
        "title": row["title"],
        "enterprise": (row["content"].get("enterprise") or {}).get("name"),
        "department": unit["title"]["zh"] if unit else None,
        "received_on": _day(t.received_at, house),
        "today": _day(tx.now, house),
        "due_on": _day(due, house) if due else None,
    }
    if row["content"].get("confidential"):
        level = confidence.sees(tx.actor, t)
        values |= {} if level == confidence.WHOLE else {"enterprise": confidence.HIDDEN}
        values |= {"title": confidence.HIDDEN} if level == confidence.NOTHING else {}
    assert set(values) == set(PLACES)
    return values, t.matter


def _day(instant: datetime, house: House) -> str:
    day = instant.astimezone(house.zone).date()
    return f"{day.year}年{day.month}月{day.day}日"


def _template(row: Any, house: House) -> dict[str, Any]:
    kept = ("id", "department", "title", "text", "action", "matter", "created_by", "created_at", "updated_at")
    told: dict[str, Any] = views.localised({name: row[name] for name in kept}, house.zone)
    return {"scope": "department", **told}


def _checked(house: House, actor: Actor, given: Mapping[str, Any]) -> None:
    department = given["department"]
    if department not in house.rules.department_codes:
        raise Invalid.field("/department", "expected the code of a department; GET /v1/departments lists them")
    _own_unit(actor, department, "/department")
    if given["matter"] is not None and given["matter"] not in house.rules.matter_codes:
        raise Invalid.field("/matter", "expected the code of a matter; GET /v1/matters lists them")
    if unknown := unknown_places(given["text"]):
        name = unknown[0] if unknown[0].isidentifier() and len(unknown[0]) < 40 else "(unnamed)"
        raise Invalid.field("/text", f"expected only places that can be filled ({', '.join(PLACES)}), not {name}")


async def add_template(house: House, actor: Actor, given: Mapping[str, Any], call: Call) -> Answer:
    _checked(house, actor, given)

    async def work(tx: Tx) -> Answer:
        if await stored.count_templates(tx, given["department"]) >= MOST_TEMPLATES:
            raise Conflict(f"At most {MOST_TEMPLATES} templates are kept for one unit; delete one first.")
        row = await stored.add_template(tx, {**given, "id": house.new_id()})
        return Answer(201, to_json(_template(row, house)), {"Location": f"/v1/templates/{row['id']}"})

    return await once(house, actor, call, work)


async def change_template(house: House, actor: Actor, template_id: str, given: Mapping[str, Any]) -> Answer:
    _checked(house, actor, given)
    async with house.db.transaction(actor) as tx:
        row = await stored.template(tx, template_id)
        if row is None:
            raise NotFound(NO_TEMPLATE)
        if row["department"] != given["department"]:
            raise Forbidden("A template stays with its unit; add it to the other one.")
        row = await stored.change_template(tx, template_id, given)
    return Answer(200, to_json(_template(row, house)))


async def delete_template(house: House, actor: Actor, template_id: str) -> None:
    async with house.db.transaction(actor) as tx:
        if not await stored.delete_template(tx, template_id):
            raise NotFound(NO_TEMPLATE)
