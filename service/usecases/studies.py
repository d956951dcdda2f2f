"""Thematic study (专题研究): one theme, many tickets. The engine proposes clusters; a person opens, joins and closes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from service.core.access import require
from service.core.errors import Conflict, Invalid, NotFound
from service.core.model import Actor
from service.db import studies
from service.db.session import Tx
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House

ABSENT = "There is no such study, or it is not yours to see."


async def clusters(house: House, actor: Actor) -> list[dict[str, Any]]:
    """Matters that several enterprises ask about: what the criterion `cluster` counts. Nothing is opened by itself."""
    require(actor, "studies:read")
    criterion = next((c for c in house.docket.criteria.values() if c.check == "cluster"), None)
    if criterion is None:
        return []
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await studies.clusters(tx, criterion.days, criterion.at_least)
    return [
        views.localised(
            {
                **dict(row),
                "numbers": list(row["numbers"]),
                "title": house.rules.matters.get(row["matter"], {}).get("title"),
            },
            house.zone,
        )
        for row in rows
    ]


async def listed(
    house: House, actor: Actor, state: str | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    require(actor, "reviews:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await studies.listed(tx, state, after, limit + 1)
        items = await _shown(house, tx, rows[:limit])
    return items, rows[limit - 1]["id"] if len(rows) > limit else None


async def get(house: House, actor: Actor, study_id: str) -> dict[str, Any]:
    require(actor, "reviews:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        return await _one(house, tx, study_id)


async def open_study(house: House, actor: Actor, form: Mapping[str, Any], call: Call) -> Answer:
    require(actor, "studies:write")

    async def work(tx: Tx) -> Answer:
        study_id = await _insert(house, tx, form)
        return Answer(201, to_json(await _one(house, tx, study_id)), {"Location": f"/v1/studies/{study_id}"})

    return await once(house, actor, call, work)


async def close(house: House, actor: Actor, study_id: str, closing: str, call: Call) -> Answer:
    """With what came of it; while one of its matters is undecided it stays open."""
    require(actor, "studies:write")

    async def work(tx: Tx) -> Answer:
        row = await studies.get(tx, study_id, lock=True)
        if row is None:
            raise NotFound(ABSENT)
        if row["state"] != "open":
            raise Conflict("This study is closed already.", state=row["state"])
        waiting = [m["number"] for m in await studies.members(tx, [study_id]) if m["state"] == "preparing"]
        if waiting:
            raise Conflict("Matters of this study are undecided.", reviews=waiting)
        await studies.close(tx, study_id, closing)
        return Answer(200, to_json(await _one(house, tx, study_id)))

    return await once(house, actor, call, work)


async def study_of(house: House, tx: Tx, form: Mapping[str, Any]) -> Mapping[str, Any]:
    """The screening's form with the study that the matter joins: an open one by id, or a new one by its theme."""
    if form.get("decision") != "study":
        return form
    require(tx.actor, "studies:write")
    known = form.get("study")
    if known is None:
        if not form.get("theme"):
            raise Invalid.field("/theme", "expected the theme of a new study, or `study`: the id of one that is open")
        return {**form, "study": await _insert(house, tx, form)}
    row = await studies.get(tx, known, lock=True)
    if row is None:
        raise Invalid.field("/study", "expected the id of a study; GET /v1/studies lists them")
    if row["state"] != "open":
        raise Conflict("This study is closed; open another.", study=known)
    return form


async def _insert(house: House, tx: Tx, form: Mapping[str, Any]) -> str:
    matter = form.get("matter")
    if matter is not None and matter not in house.rules.matter_codes:
        raise Invalid.field("/matter", "expected the code of a matter; GET /v1/matters lists them")
    study_id = house.new_id()
    await studies.insert(tx, study_id, str(form["theme"]), matter, str(form.get("reason") or ""))
    return study_id


async def _one(house: House, tx: Tx, study_id: str) -> dict[str, Any]:
    row = await studies.get(tx, study_id)
    if row is None:
        raise NotFound(ABSENT)
    return (await _shown(house, tx, [row]))[0]


async def _shown(house: House, tx: Tx, rows: list[Any]) -> list[dict[str, Any]]:
    joined: dict[str, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
    for m in await studies.members(tx, list(joined)):
        ticket = {"id": m["ticket_id"], "number": m["ticket_number"], "title": m["title"], "phase": m["phase"]}
        told = {name: m[name] for name in ("id", "number", "state", "decision")}
        joined[m["study_id"]].append({**told, "meeting": m["meeting_id"], "ticket": ticket})
    return [views.localised({**dict(row), "reviews": joined[row["id"]]}, house.zone) for row in rows]
