"""Supervision (督查): cards by hand, and the ladder from the urge over slip, listing and summons to the report upward.

Timers issue cards and slips by the workflow's own ladders (`effects`); what a supervisor does beside them stands here. It
moves no stage and no clock: it is told in the ticket's history, the unit answers for it, and a red card closes the way to
an extension.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from service.core.draft import Draft, Env
from service.core.errors import ActionNotPossible, Conflict, Forbidden, Invalid
from service.core.model import Decision, Notice, Role, Ticket
from service.core.workflow import catch_up

LADDER = ("urge", "slip", "listed", "summons", "report_upward")
"""催办、督办单、挂牌督办、约谈、上报."""
SWEEP = "sweep"
"""周清: what the weekly sweep puts under supervision by itself."""
PREFIX: Mapping[str, str] = {
    "urge": "CB", "slip": "DB", "listed": "GP", "summons": "YT", "report_upward": "SB", "sweep": "ZQ",
}  # fmt: skip
GROUNDS = (
    "refused_duty", "overdue", "should_have_been_solved", "bad_effect", "many_unresolved", "stale_knowledge",
    "false_completion", "reworked_twice", "planned_past_date", "instruction", "media_exposure", "inspection_order",
)  # fmt: skip
"""Why a ticket is put under supervision: the grounds of the cities' regulations, and orders from outside."""
ORDERED = frozenset({"instruction", "media_exposure", "inspection_order"})
"""批示、媒体曝光、督查交办: they need a second supervisor, and go before everything else."""


@dataclass(frozen=True, slots=True)
class Supervision:
    """One act of supervision. `state`: open, answered, lifted. `department`: who must answer; None while nobody leads."""

    id: str
    ticket_id: str
    number: str
    kind: str
    ground: str
    reason: str
    department: str | None
    addressee: str
    state: str
    issued_by: str
    issued_at: datetime
    answer_by: datetime | None = None
    answer: str = ""
    answered_by: str | None = None
    answered_at: datetime | None = None
    lifted_by: str | None = None
    lifted_at: datetime | None = None
    lift_reason: str = ""


def give_card(ticket: Ticket, level: str, reason: str, env: Env) -> Decision:
    """A yellow or red card by hand. Raises ActionNotPossible on a closed ticket, Conflict for the same card again."""
    draft = _draft(ticket, env)
    if any(c["level"] == level and c.get("by") == env.actor.subject for c in draft.ticket.facts.get("cards", [])):
        raise Conflict(f"You gave this ticket a {level} card already.")
    department = draft.ticket.lead
    card = {
        "level": level, "clock": None, "at": draft.now.isoformat(), "by": env.actor.subject, "reason": reason,
        "department": department,
    }  # fmt: skip
    draft.fact("cards", [*draft.ticket.facts.get("cards", []), card])
    draft.count(f"{level}_cards")
    draft.event("card.issued", **card)
    _tell(draft, department, f"{level}_card")
    return draft.finish()


def supervise(ticket: Ticket, form: Mapping[str, Any], count: int, env: Env) -> tuple[Decision, Supervision]:
    """Put a ticket under supervision. `count`: how many acts of supervision it has had.

    `form`: kind, ground, reason, and where they apply answer_by, addressee, second_supervisor. Raises Invalid and
    ActionNotPossible.
    """
    draft = _draft(ticket, env)
    kind, ground = form["kind"], form["ground"]
    answer_by, second = form.get("answer_by"), form.get("second_supervisor")
    if answer_by is not None and answer_by <= draft.now:
        raise Invalid.field("/answer_by", "expected a time in the future")
    if kind in {"slip", "listed", "summons"} and answer_by is None:
        raise Invalid.field("/answer_by", f"expected: a {kind} says until when the unit answers")
    if kind in {"summons", "report_upward"} and not form.get("addressee"):
        raise Invalid.field("/addressee", f"expected: a {kind} says who is meant")
    if ground in ORDERED and not second:
        raise Invalid.field("/second_supervisor", "expected: what was ordered from outside has a second supervisor")
    if second is not None and second == env.actor.subject:
        raise Invalid.field("/second_supervisor", "expected somebody else than you")
    act = Supervision(
        id=env.new_id(),
        ticket_id=ticket.id,
        number=f"{PREFIX[kind]}{ticket.number[2:]}-{count + 1}",
        kind=kind,
        ground=ground,
        reason=str(form["reason"]),
        department=draft.ticket.lead,
        addressee=str(form.get("addressee") or ""),
        state="open",
        issued_by=env.actor.subject,
        issued_at=draft.now,
        answer_by=answer_by,
    )
    told = {"number": act.number, "kind": kind, "ground": ground, "at": draft.now.isoformat()}
    if ground in ORDERED:
        draft.fact("priority", {"ground": ground, "at": draft.now.isoformat(), "supervisors": [act.issued_by, second]})
    if kind == "slip":
        card = {"level": "slip", "clock": None, "at": draft.now.isoformat(), "number": act.number, "by": act.issued_by}
        draft.fact("cards", [*draft.ticket.facts.get("cards", []), card])
    draft.event(
        "supervision.issued", supervision=act.id, department=act.department, reason=act.reason,
        addressee=act.addressee, second_supervisor=second, answer_by=answer_by.isoformat() if answer_by else None, **told,
    )  # fmt: skip
    _tell(draft, act.department, f"supervision_{kind}", answer_by)
    if second:
        draft.notices.append(Notice(Role.SUPERVISOR.value, f"supervision_{kind}", None, answer_by))
    return draft.finish(), act


def answer(ticket: Ticket, act: Supervision, text: str, env: Env) -> tuple[Decision, Supervision]:
    """The unit answers for it; late or not is told with it. Possible also after the ticket has been closed."""
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    if act.state != "open":
        raise Conflict(f"This supervision is {act.state} already.", state=act.state)
    if act.department not in env.actor.departments:
        raise Forbidden("The unit that was put under supervision answers for it.")
    late = act.answer_by is not None and draft.now > act.answer_by
    act = replace(act, state="answered", answer=text, answered_by=env.actor.subject, answered_at=draft.now)
    draft.event("supervision.answered", supervision=act.id, number=act.number, text=text, late=late)
    draft.notices.append(Notice(Role.SUPERVISOR.value, "supervision_answered"))
    return draft.finish(), act


def lift(ticket: Ticket, act: Supervision, reason: str, env: Env) -> tuple[Decision, Supervision]:
    """A supervisor ends it, answered or not, and says why."""
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    if act.state == "lifted":
        raise Conflict("This supervision was lifted already.", state=act.state)
    act = replace(act, state="lifted", lifted_by=env.actor.subject, lifted_at=draft.now, lift_reason=reason)
    draft.event("supervision.lifted", supervision=act.id, number=act.number, reason=reason)
    _tell(draft, act.department, "supervision_lifted")
    return draft.finish(), act


def _draft(ticket: Ticket, env: Env) -> Draft:
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    if not draft.ticket.open:
        raise ActionNotPossible("Only an open ticket is put under supervision.", stage=ticket.stage, actions=[])
    return draft


def _tell(draft: Draft, department: str | None, kind: str, due_at: datetime | None = None) -> None:
    to = f"department:{department}" if department else Role.DISPATCHER.value
    draft.notices.append(Notice(to, kind, None, due_at))
