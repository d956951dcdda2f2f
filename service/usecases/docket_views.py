"""What a review, its opinions and its measures look like outside, and what this caller may do with them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from service.core import measures as tasks
from service.core import review as rules
from service.core.docket import Docket
from service.core.draft import Env
from service.core.model import Clock, MeasureTask, Opinion, Review, Role, Ticket
from service.usecases.views import actions, local, localised

Forms = Mapping[str, Mapping[str, Any]]
ACTION_TITLES = {name: (zh, en) for name, (_, _, zh, en) in rules.ACTIONS.items()}
MEASURE_TITLES = {
    "report": ("报告进展", "Report progress"),
    "submit_evidence": ("提交完成佐证", "Submit evidence"),
    "strike_off": ("销号", "Strike off"),
    "reschedule": ("调整时限", "Set another date"),
}


def review(r: Review, t: Ticket, env: Env, docket: Docket, zone: ZoneInfo, forms: Forms) -> dict[str, Any]:
    actor = env.actor
    told = {
        "id": r.id,
        "number": r.number,
        "kind": r.kind,
        "state": r.state,
        "ticket": {"id": t.id, "number": t.number},
        "grounds": list(r.grounds),
        "criteria": [_criterion(code, docket) for code in r.grounds],
        "summary": r.summary,
        "asked": r.asked,
        "tried": r.tried,
        "options": list(r.options),
        "signed_by": r.signed_by,
        "history": r.history,
        "proposed_by": r.proposed_by,
        "proposed_at": r.proposed_at,
        "tier": r.tier,
        "major": r.major,
        "study": r.study_id,
        "meeting": r.meeting_id,
        "screened_by": r.screened_by,
        "screened_at": r.screened_at,
        "screen_reason": r.screen_reason,
        "returns": r.returns,
        "returned_at": r.returned_at,
        "supplemented_at": r.supplemented_at,
        "opinions": _opinions(r, t, env, zone),
        "gates": rules.gates(r, docket, t),
        "confidentiality": r.confidentiality,
        "recused": list(r.recused) if actor.role is not Role.HANDLER else [],
        "decision": r.decision,
        "decision_text": r.decision_text,
        "conditions": r.conditions,
        "votes": r.votes,
        "dissent": r.dissent,
        "dissents": list(r.dissents),
        "postponed_to": r.postponed_to,
        "referred_to": r.referred_to,
        "clock_effect": r.clock_effect,
        "enterprise_extract": r.enterprise_extract,
        "decided_by": r.decided_by,
        "decided_at": r.decided_at,
        "issued_at": r.issued_at,
        "reply": r.reply,
        "replied_at": r.replied_at,
        "replied_by": r.replied_by,
        "completed_at": r.completed_at,
        "clocks": _clocks(r, t),
        "version": t.version,
        "actions": actions(rules.possible(t, r, env), ACTION_TITLES, forms),
    }
    shown: dict[str, Any] = localised(told, zone)
    return shown | {"measures": [measure(m, t, env, docket, zone, {}) for m in t.measures if m.review_id == r.id]}


def _criterion(code: str, docket: Docket) -> dict[str, str]:
    known = docket.criteria.get(code)
    return {"code": code, "title": known.title.zh if known else code, "title_en": known.title.en if known else code}


def _clocks(r: Review, t: Ticket) -> list[dict[str, Any]]:
    """The docket's own clocks: screening, decision, reply."""
    own = [c for c in t.clocks if c.name in {"review_screen", "review_decision"} or c.subject_id == r.id]
    return [
        {"name": c.name, "cycle": c.cycle, "state": c.state, "due_at": c.due_at, "ended_at": c.ended_at}
        for c in own
        if c.anchor >= r.proposed_at
    ]


def _opinions(r: Review, t: Ticket, env: Env, zone: ZoneInfo) -> list[dict[str, Any]]:
    """A unit sees its own opinion; the others' stay with the convenor until the matter is decided."""
    clocks_of = {c.subject_id: c for c in t.clocks if c.subject_id}
    open_to_all = env.actor.role is not Role.HANDLER or r.state in {"decided", "completed"}
    return [
        opinion(o, clocks_of.get(o.id), env.now, zone)
        for o in t.opinions
        if o.review_id == r.id and (open_to_all or o.department in env.actor.departments)
    ]


def opinion(o: Opinion, c: Clock | None, now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    """`state`: given, waiting, or silent once the limit has passed: that is no opinion, and no consent."""
    waiting = c is not None and c.open and now <= c.due_at
    return {
        "department": o.department,
        "state": "given" if o.position else "waiting" if waiting else "silent",
        "asked_at": local(o.asked_at, zone),
        "due_at": local(c.due_at, zone) if c else None,
        "position": o.position,
        "text": o.text,
        "legal_basis": o.legal_basis,
        "given_at": local(o.given_at, zone),
        "given_by": o.given_by,
    }


def measure(m: MeasureTask, t: Ticket, env: Env, docket: Docket, zone: ZoneInfo, forms: Forms) -> dict[str, Any]:
    own = [c for c in t.clocks if c.subject_id == m.id]
    cards = [c for c in t.facts.get("cards", ()) if c.get("measure") == m.id]
    due = _progress_due(m, docket, zone)
    told = {
        "id": m.id,
        "review": m.review_id,
        "ticket": {"id": t.id, "number": t.number},
        "title": m.title,
        "department": m.department,
        "co_units": list(m.co_units),
        "deliverable": m.deliverable,
        "evidence_type": m.evidence_type,
        "resource": m.resource,
        "quantity": m.quantity,
        "favour": m.favour,
        "due_on": m.due_on,
        "due_at": own[-1].due_at if own else None,
        "clock_state": own[-1].state if own else None,
        "late": any(c.breached_at is not None for c in own),
        "cards": [{"level": c["level"], "at": datetime.fromisoformat(c["at"])} for c in cards],
        "mandatory": m.mandatory,
        "state": m.state,
        "progress": list(m.progress),
        "progress_due_on": due.isoformat() if due else None,
        "progress_late": due is not None and env.now.astimezone(zone).date() > due,
        "evidence": m.evidence,
        "enterprise_opinion": m.enterprise_opinion or None,
        "struck_off_at": m.struck_off_at,
        "struck_off_by": m.struck_off_by,
        "reason": m.reason,
        "created_at": m.created_at,
        "actions": actions(tasks.possible(m, env.actor), MEASURE_TITLES, forms),
    }
    shown: dict[str, Any] = localised(told, zone)
    return shown


def _progress_due(m: MeasureTask, docket: Docket, zone: ZoneInfo) -> date | None:
    """When the next monthly report is due; None once the work is proved, or where its making is not on record."""
    if not m.open or m.state == "evidence" or m.created_at is None:
        return None
    last = datetime.fromisoformat(m.progress[-1]["at"]) if m.progress else m.created_at
    return docket.progress_due_on(last.astimezone(zone).date())
