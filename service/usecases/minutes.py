"""Minutes of meetings: draft, check, sign, issue; correction by another document; both texts as JSON, DOCX and PDF.

The meeting's row is the lock of its documents. Issuing takes the number and tells every ticket in the same transaction:
its history then holds the hash of the document.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic_core import to_json

from service.core import minutes as rules
from service.core import papers
from service.core.access import require
from service.core.errors import ActionNotPossible, Conflict, Forbidden, Invalid, NotFound
from service.core.meetings import Meeting
from service.core.minutes import Minutes
from service.core.minutes_draft import Matter, assemble, concerned, distribution, late
from service.core.model import Actor, Role
from service.core.precedents import grams
from service.db import audit, meetings, precedents, tickets
from service.db import minutes as stored
from service.db.session import Tx
from service.integrations import documents
from service.usecases import reviews, views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House

ABSENT = "There is no such meeting, or it is not yours to see."
NONE_YET = "There are no minutes of this meeting yet, or they are not yours to see."
NEXT = {"draft": ["draft", "check"], "checked": ["draft", "check", "sign"], "signed": ["issue"], "issued": ["correct"]}
"""State of the newest document -> the steps that are possible."""


async def step(house: House, actor: Actor, meeting_id: str, asked: Mapping[str, Any], call: Call) -> Answer:
    """One step; 201 for a new document. Raises NotFound, Forbidden, Invalid, and Conflict with `findings` or `actions`."""
    require(actor, "minutes:write")

    async def work(tx: Tx) -> Answer:
        if not await meetings.lock(tx, meeting_id):
            raise NotFound(ABSENT)
        # the lock may have taken a while
        now = replace(tx, now=await tx.value(f"SELECT {house.db.now_sql}"))
        known = await stored.of_meeting(now, meeting_id)
        work_of = _STEPS[asked["step"]]
        made = await work_of(house, now, meeting_id, known, asked)
        shown = await _shown(house, now, meeting_id, None, made)
        return Answer(201 if len(await stored.of_meeting(now, meeting_id)) > len(known) else 200, to_json(shown))

    return await once(house, actor, call, work)


async def get(
    house: House, actor: Actor, meeting_id: str, text: str | None, review_id: str | None, document: str | None
) -> dict[str, Any]:
    """The newest document, or the one asked for; `text` internal or extract gives one of its two texts."""
    require(actor, "reviews:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        shown = await _shown(house, tx, meeting_id, document, None)
    if text is None:
        return shown
    paper = _paper(rules.of_body(shown["document"]), text, review_id)
    told = {k: shown[k] for k in ("id", "meeting", "state", "number", "issued_at", "late")}
    blocks = [{"kind": b.kind, "text": b.text} for b in paper.blocks]
    return told | {"text": text, "title": paper.title, "blocks": blocks, "plain": paper.plain}


@dataclass(frozen=True, slots=True)
class File:
    name: str
    media_type: str
    body: bytes


async def file(
    house: House, actor: Actor, meeting_id: str, form: str, text: str, review_id: str | None, document: str | None
) -> File:
    """A text as a file; `form`: docx or pdf. That it left the house is an entry of the audit."""
    require(actor, "reviews:read")
    async with house.db.transaction(actor) as tx:
        shown = await _shown(house, tx, meeting_id, document, None)
        paper = _paper(rules.of_body(shown["document"]), text, review_id)
        told = {"minutes": shown["id"], "number": shown["number"], "text": text, "form": form, "review": review_id}
        await audit.write(tx, house.new_id(), "minutes.exported", None, told)
    made = documents.pdf if form == "pdf" else documents.docx
    body = await asyncio.to_thread(made, paper, datetime.fromisoformat(shown["updated_at"]))
    kind = documents.PDF if form == "pdf" else documents.DOCX
    return File(f"minutes-{shown['meeting']['number']}-{text}.{form}", kind, body)


def _paper(document: Minutes, text: str, review_id: str | None) -> papers.Paper:
    if text == "internal":
        return papers.internal(document)
    if review_id is None:
        if len(document.items) != 1:
            raise Invalid.field(
                "/review", "expected which review: the meeting dealt with several, and each has its extract"
            )
        review_id = document.items[0].review_id
    return papers.extract(document, review_id)


# --- steps -----------------------------------------------------------------------------------------------------------

Row = Mapping[str, Any]


async def _draft(house: House, tx: Tx, meeting_id: str, known: list[Row], asked: Mapping[str, Any]) -> str:
    newest = known[-1] if known else None
    if newest is not None:
        _possible(newest, "draft")
    before = await _document(tx, newest) if newest else None
    return await _write_draft(house, tx, meeting_id, newest, before, asked)


async def _correct(house: House, tx: Tx, meeting_id: str, known: list[Row], asked: Mapping[str, Any]) -> str:
    """Another document that says what the issued one should have said, and names it."""
    newest = known[-1] if known else None
    if newest is None:
        raise NotFound(NONE_YET)
    _possible(newest, "correct")
    if not asked["reason"]:
        raise Invalid.field("/reason", "expected what was wrong: it stands in the correction")
    before = await _document(tx, newest)
    corrects = {"id": newest["id"], "number": newest["number"], "sha256": newest["sha256"], "reason": asked["reason"]}
    return await _write_draft(house, tx, meeting_id, None, before, asked, corrects)


async def _write_draft(
    house: House,
    tx: Tx,
    meeting_id: str,
    row: Row | None,
    before: Minutes | None,
    asked: Mapping[str, Any],
    corrects: Mapping[str, str] | None = None,
) -> str:
    meeting, matters = await _material(tx, meeting_id)
    if meeting.state == "cancelled" or not any(i.decision for i in meeting.agenda):
        raise ActionNotPossible(
            "Minutes are written of what a meeting decided; it has decided nothing yet.",
            stage=meeting.state,
            actions=[],
        )
    titles = {code: unit["title"]["zh"] for code, unit in house.rules.departments.items()}
    document = assemble(meeting, matters, house.docket, titles, asked, before, house.zone)
    document = replace(document, corrects=corrects or (before.corrects if before and row else None))
    departments = distribution(meeting, matters)
    if row is None:
        row = {"id": house.new_id(), "meeting_id": meeting_id, "state": "draft", "version": 0, "sha256": "",
               "corrects": (corrects or {}).get("id"), "series": document.series, "departments": list(departments)}  # fmt: skip
        await stored.insert(tx, row)
    return await _append(tx, row, "draft", document, departments=departments)


async def _check(house: House, tx: Tx, meeting_id: str, known: list[Row], asked: Mapping[str, Any]) -> str:
    row = _newest(known, "check")
    document = await _document(tx, row)
    found = rules.findings(document)
    if found:
        raise Conflict(
            f"{len(found)} thing(s) stand against signing: {found[0].zh} {found[0].en}",
            findings=[{"pointer": f.pointer, "detail": f.en, "detail_zh": f.zh} for f in found],
        )
    return await _append(tx, row, "check", document)


async def _sign(house: House, tx: Tx, meeting_id: str, known: list[Row], asked: Mapping[str, Any]) -> str:
    """By who presided; where nobody is known by account, by a reviewer."""
    row = _newest(known, "sign")
    document = await _document(tx, row)
    chair = document.attendance.chair
    if chair is not None and chair.subject and chair.subject != tx.actor.subject:
        raise Forbidden("Minutes are signed by who presided over the meeting.")
    name = chair.name if chair and chair.name else tx.actor.subject
    signature = {"by": tx.actor.subject, "name": name, "at": tx.now.isoformat(), "text_sha256": row["sha256"]}
    return await _append(tx, row, "sign", replace(document, signature=signature))


async def _issue(house: House, tx: Tx, meeting_id: str, known: list[Row], asked: Mapping[str, Any]) -> str:
    row = _newest(known, "issue")
    document = await _document(tx, row)
    today = tx.now.astimezone(house.zone).date()
    serial, follows = await stored.next_number(tx, row["series"], today.year)
    number = rules.number_of(today.year, serial)
    document = replace(document, number=number, issued_on=today.isoformat(), follows=follows)
    made = await _append(tx, row, "issue", document, year=today.year, serial=serial, number=number)
    issued = next(r for r in await stored.of_meeting(tx, meeting_id) if r["id"] == made)
    await stored.remember_number(tx, row["series"], today.year, issued["sha256"])
    sealed = {"document": issued["id"], "sha256": issued["sha256"]}
    await reviews.minutes_issued(house, tx, meeting_id, number, sealed)
    await _remember(house, tx, meeting_id, document, issued)
    return made


_STEPS = {"draft": _draft, "correct": _correct, "check": _check, "sign": _sign, "issue": _issue}


def _possible(row: Row, name: str) -> None:
    if name not in NEXT[row["state"]]:
        raise ActionNotPossible(
            f"{name!r} is not possible: the minutes are {row['state']}"
            + (" and do not change any more." if row["state"] in {"signed", "issued"} else "."),
            stage=row["state"],
            actions=NEXT[row["state"]],
        )


def _newest(known: list[Row], name: str) -> Row:
    if not known:
        raise NotFound(NONE_YET)
    _possible(known[-1], name)
    return known[-1]


async def _document(tx: Tx, row: Row) -> Minutes:
    return rules.of_body((await stored.versions(tx, row["id"]))[-1]["body"])


async def _append(
    tx: Tx,
    row: Row,
    name: str,
    document: Minutes,
    *,
    departments: tuple[str, ...] | None = None,
    year: int | None = None,
    serial: int | None = None,
    number: str | None = None,
) -> str:
    """One more version, chained to the one before; the id of its document."""
    actor = {"subject": tx.actor.subject, "role": str(tx.actor.role), "departments": list(tx.actor.departments)}
    version: dict[str, Any] = {
        "minutes_id": row["id"],
        "version": row["version"] + 1,
        "step": name,
        "body": rules.to_body(document),
        "by": actor,
        "at": tx.now,
        "prev": row["sha256"],
    }
    version["sha256"] = rules.digest(version)
    after = {
        "id": row["id"],
        "state": rules.STATES[name],
        "departments": list(row["departments"] if departments is None else departments),
        "version": version["version"],
        "sha256": version["sha256"],
        "year": year,
        "serial": serial,
        "number": number,
    }
    await stored.advance(tx, after)
    await stored.insert_version(tx, version)
    return str(row["id"])


async def _material(tx: Tx, meeting_id: str) -> tuple[Meeting, dict[str, Matter]]:
    meeting = (await meetings.load(tx, [meeting_id]))[meeting_id]
    loaded = await tickets.load(tx, [i.ticket_id for i in meeting.agenda])
    matters = {
        ticket_id: Matter(found.ticket, found.row["title"], found.row["content"]["enterprise"]["name"])
        for ticket_id, found in loaded.items()
    }
    return meeting, matters


async def _remember(house: House, tx: Tx, meeting_id: str, document: Minutes, issued: Row) -> None:
    """The decisions as precedents; those of a document that this one corrects are superseded."""
    binding = [i for i in document.items if i.state == "decided" and i.decision in rules.BINDING]
    _, matters = await _material(tx, meeting_id)
    of_review = {r.id: m for m in matters.values() for r in m.ticket.reviews}
    rows, own = [], {}
    for item in binding:
        matter = of_review[item.review_id]
        row = {
            "id": house.new_id(),
            "minutes_id": issued["id"],
            "review_id": item.review_id,
            "ticket_id": matter.ticket.id,
            "number": f"{document.mark}{issued['number']}",
            "kind": item.kind,
            "matter": item.matter,
            "subject": item.subject,
            "asked": item.asked,
            "decision": item.decision,
            "text": item.text,
            "conditions": item.conditions,
            "legal_grounds": list(item.legal_grounds),
            "departments": list(concerned(item, matter)),
            "issued_on": document.issued_on,
            "valid_until": item.valid_until,
        }
        rows.append(row)
        own[row["id"]] = grams("\n".join((item.subject, item.asked, item.text, item.conditions, *item.legal_grounds)))
    if rows:
        await precedents.insert(tx, rows, own)
    if document.corrects:
        reviews = [i.review_id for i in document.items]
        await precedents.supersede(tx, reviews, issued["id"], f"更正：{issued['number']}")


# --- what it looks like ----------------------------------------------------------------------------------------------


async def _shown(house: House, tx: Tx, meeting_id: str, document: str | None, made: str | None) -> dict[str, Any]:
    rows = await stored.of_meeting(tx, meeting_id)
    wanted = document or made
    row = next((r for r in rows if r["id"] == wanted), None) if wanted else rows[-1] if rows else None
    if row is None:
        seen = await meetings.load(tx, [meeting_id])
        raise NotFound(NONE_YET if seen else ABSENT)
    versions = await stored.versions(tx, row["id"])
    body = versions[-1]["body"]
    due = await stored.due_at(tx, meeting_id) if not row["corrects"] else None
    by_id = {r["id"]: r for r in rows}
    findings = () if row["state"] in {"signed", "issued"} else rules.findings(rules.of_body(body))
    shown = {
        "id": row["id"],
        "meeting": {"id": meeting_id, "number": body["meeting"], "tier": body["tier"]},
        "state": row["state"],
        "number": row["number"],
        "series": row["series"],
        "corrects": _named(by_id.get(row["corrects"])) if row["corrects"] else None,
        "corrected_by": next((_named(r) for r in rows if r["corrects"] == row["id"] and r["number"]), None),
        "issue_due_at": due,
        "issued_at": row["issued_at"],
        "late": late(row["issued_at"], due, tx.now) if due else False,
        "sha256": row["sha256"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "actions": NEXT[row["state"]] if tx.actor.role is Role.REVIEWER else [],
        "findings": [{"pointer": f.pointer, "detail": f.en, "detail_zh": f.zh} for f in findings],
        "document": body,
        "plain": papers.internal(rules.of_body(body)).plain,
        "versions": [
            {"version": v["version"], "step": v["step"], "at": v["at"], "by": v["by"]["subject"], "sha256": v["sha256"],
             "prev": v["prev"]} for v in versions
        ],
        "documents": [_named(r) for r in rows],
    }  # fmt: skip
    localised: dict[str, Any] = views.localised(shown, house.zone)
    return localised


def _named(row: Row | None) -> dict[str, Any] | None:
    return None if row is None else {"id": row["id"], "state": row["state"], "number": row["number"]}
