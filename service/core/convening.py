"""What is done with a meeting: invite, notify, papers, attendance, stakes, hearing, adjournment. Pure.

A meeting has one chair. Quorum is judged matter by matter (`procedure.missing_at_meeting`); one that fails is adjourned with
what was missing on record. Nothing here decides on a matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from service.core.calendar import Budget, Calendar, Measure
from service.core.docket import Docket
from service.core.errors import ActionNotPossible, Conflict, Forbidden, Invalid, NotFound
from service.core.meetings import Attendee, Meeting, invited, with_item
from service.core.model import Actor, Role

ACTIONS: Mapping[str, tuple[frozenset[Role], str, str]] = {
    "invite": (frozenset({Role.REVIEWER}), "邀请参会", "Invite"),
    "notify": (frozenset({Role.REVIEWER}), "发出会议通知", "Send the notices"),
    "acknowledge": (frozenset({Role.HANDLER}), "签收通知", "Sign for the notice"),
    "add_paper": (frozenset({Role.REVIEWER}), "提交材料", "Add a paper"),
    "attend": (frozenset({Role.REVIEWER}), "登记到会", "Record attendance"),
    "recuse": (frozenset({Role.REVIEWER}), "登记回避", "Record a stake"),
    "hear": (frozenset({Role.REVIEWER}), "听取企业意见", "Hear the enterprise"),
    "adjourn": (frozenset({Role.REVIEWER}), "延期召开", "Adjourn to another date"),
    "close": (frozenset({Role.REVIEWER}), "会议结束", "End the meeting"),
    "cancel": (frozenset({Role.REVIEWER}), "取消会议", "Cancel the meeting"),
}
"""Action -> roles and titles. All are done while the meeting is planned."""


FARTHEST = timedelta(days=731)


@dataclass(frozen=True, slots=True)
class Sitting:
    """What an act on a meeting may look at."""

    actor: Actor
    now: datetime
    new_id: Callable[[], str]
    docket: Docket
    calendar: Calendar
    departments: frozenset[str]


def planned(form: Mapping[str, Any], number: str, at: Sitting) -> Meeting:
    """A new meeting: its agenda closes as the rules say; the tier's chair is named by office unless by person.

    Raises Invalid where the agenda of that date closed already: choose a later date, or an extra meeting with its reason.
    """
    held_at, tier = form["held_at"], at.docket.tiers[form["tier"]]
    if abs(held_at - at.now) > FARTHEST:
        raise Invalid.field("/held_at", "expected a time within two years")
    closes, reason = at.docket.agenda_closes_at(held_at, at.calendar), ""
    if form.get("extra"):
        reason = str(form.get("reason") or "")
        if not reason:
            raise Invalid.field("/reason", "expected why an extra meeting is needed")
        closes = held_at - timedelta(hours=at.docket.meeting.extra_closes_hours)
    elif closes < at.now:
        told = f"expected a later date: its agenda closed at {closes.isoformat()} (or extra: true, with a reason)"
        raise Invalid.field("/held_at", told)
    meeting = Meeting(
        id=at.new_id(),
        number=number,
        tier=form["tier"],
        title=str(form.get("title") or tier.title.zh),
        state="planned",
        held_at=held_at,
        agenda_closes_at=closes,
        created_by=at.actor.subject,
        created_at=at.now,
        updated_at=at.now,
        version=1,
        place=str(form.get("place") or ""),
        extra_reason=reason,
    )
    chair = {"title": tier.chair.zh, **{k: v for k, v in (form.get("chair") or {}).items() if v}}
    people = [{**chair, "role": "chair"}]
    people += [{**form["recorder"], "role": "recorder"}] if form.get("recorder") else []
    people += form.get("attendees") or []
    for n, person in enumerate(people):
        meeting = _with(meeting, person, f"/attendees/{n - len(people) + len(form.get('attendees') or [])}", at)
    return meeting


def act(meeting: Meeting, action: str, form: Mapping[str, Any], at: Sitting) -> Meeting:
    """The meeting after one act. Raises Forbidden, NotFound, ActionNotPossible, Conflict, Invalid."""
    check_role(action, at.actor)
    if meeting.state != "planned":
        raise ActionNotPossible(f"The meeting is {meeting.state}.", stage=meeting.state, actions=[])
    return replace(_STEPS[action](meeting, form, at), updated_at=at.now, version=meeting.version + 1)


def check_role(action: str, actor: Actor) -> None:
    if action not in ACTIONS:
        raise NotFound("There is no such action.")
    roles = ACTIONS[action][0]
    if actor.role not in roles:
        raise Forbidden(f"{action!r} is done by: {', '.join(sorted(roles))}; you are {actor.role}.")


def possible(meeting: Meeting, actor: Actor) -> list[str]:
    if meeting.state != "planned":
        return []
    mine = any(_own(a, actor) and a.state == "notified" for a in meeting.attendees)
    return [name for name, (roles, *_) in ACTIONS.items() if actor.role in roles and (name != "acknowledge" or mine)]


def notice_is_late(meeting: Meeting, attendee: Attendee, docket: Docket, calendar: Calendar) -> bool:
    """Whether the notice left less than the working days that the rules want."""
    days = docket.meeting.notice_working_days
    if attendee.notified_at is None or days == 0:
        return False
    return attendee.notified_at > calendar.shift(meeting.held_at, Budget(Measure.working_days, days), -1)


def _own(attendee: Attendee, actor: Actor) -> bool:
    return attendee.department is not None and attendee.department in actor.departments


def _with(meeting: Meeting, person: Mapping[str, Any], pointer: str, at: Sitting) -> Meeting:
    unit = person.get("department")
    if unit is not None and unit not in at.departments:
        raise Invalid.field(f"{pointer}/department", "expected the code of a department; GET /v1/departments")
    name, title = (str(person.get(field) or "") for field in ("name", "title"))
    role = str(person.get("role") or "member")
    if role == "member" and unit is None:
        raise Invalid.field(f"{pointer}/department", "expected the unit that a member speaks for")
    made = Attendee(at.new_id(), meeting.id, role, "invited", unit, name, title, person.get("subject"))
    return invited(meeting, made)


def _invite(meeting: Meeting, form: Mapping[str, Any], at: Sitting) -> Meeting:
    for n, person in enumerate(form["attendees"]):
        meeting = _with(meeting, person, f"/attendees/{n}", at)
    return meeting


def _notify(meeting: Meeting, form: Mapping[str, Any], at: Sitting) -> Meeting:
    """Everybody who was not told yet is; the notices go out with the tickets' own (`usecases.meetings`)."""
    told = (replace(a, state="notified", notified_at=at.now) if a.state == "invited" else a for a in meeting.attendees)
    return replace(meeting, attendees=tuple(told))


def _acknowledge(meeting: Meeting, form: Mapping[str, Any], at: Sitting) -> Meeting:
    own = [a for a in meeting.attendees if _own(a, at.actor)]
    if not own:
        raise Forbidden("Your unit is not invited to this meeting.")
    if not any(a.state == "notified" for a in own):
        raise Conflict("There is no notice to sign for: it was not sent yet, or is signed for.", state=own[-1].state)
    signed: dict[str, Any] = {
        "state": "acknowledged",
        "acknowledged_at": at.now,
        "acknowledged_by": at.actor.subject,
    }
    people = (replace(a, **signed) if _own(a, at.actor) and a.state == "notified" else a for a in meeting.attendees)
    return replace(meeting, attendees=tuple(people))


def _add_paper(meeting: Meeting, form: Mapping[str, Any], at: Sitting) -> Meeting:
    """Papers lie before who presides some working days ahead; one that comes later is marked so."""
    days = at.docket.meeting.papers_working_days
    late = days > 0 and at.now > at.calendar.shift(meeting.held_at, Budget(Measure.working_days, days), -1)
    paper = {
        "title": form["title"], "kind": form.get("kind") or "report", "secret": bool(form.get("secret")),
        "attachment": form.get("attachment"), "at": at.now.isoformat(), "by": at.actor.subject, "late": late,
    }  # fmt: skip
    _item(meeting, form)
    return with_item(meeting, form["review"], lambda item: replace(item, papers=(*item.papers, paper)))


def _item(meeting: Meeting, form: Mapping[str, Any]) -> None:
    if meeting.item_of(form["review"]) is None:
        raise Invalid.field("/review", "expected the id of a matter on this meeting's agenda")


def _attend(meeting: Meeting, form: Mapping[str, Any], at: Sitting) -> Meeting:
    for n, entry in enumerate(form["attendance"]):
        ids = _found(meeting, entry, f"/attendance/{n}")
        if not entry["present"] and not entry.get("reason"):
            raise Invalid.field(f"/attendance/{n}/reason", "expected why: absence without a reason is criticised")
        state = "present" if entry["present"] else "absent"
        said: dict[str, Any] = {
            "state": state,
            "substitute": entry.get("substitute") or "",
            "reason": entry.get("reason") or "",
        }
        people = (replace(a, **said, attended_at=at.now) if a.id in ids else a for a in meeting.attendees)
        meeting = replace(meeting, attendees=tuple(people))
    return meeting


def _found(meeting: Meeting, entry: Mapping[str, Any], pointer: str) -> set[str]:
    """The attendees that an entry names: by id, by unit, or `chair: true`."""
    wanted, unit = entry.get("attendee"), entry.get("department")
    ids = {
        a.id
        for a in meeting.attendees
        if a.id == wanted or (unit and a.department == unit) or (entry.get("chair") and a.role == "chair")
    }
    if not ids:
        raise Invalid.field(pointer, "expected an attendee of this meeting: attendee, department, or chair: true")
    return ids


def _recuse(meeting: Meeting, form: Mapping[str, Any], at: Sitting) -> Meeting:
    """A person with a stake leaves for that matter; the unit sends another, or there is no quorum for it."""
    _item(meeting, form)
    ids, stake = _found(meeting, form, ""), {"review": form["review"], "reason": form["reason"]}
    people = (replace(a, recused=(*a.recused, stake)) if a.id in ids else a for a in meeting.attendees)
    return replace(meeting, attendees=tuple(people))


def _hear(meeting: Meeting, form: Mapping[str, Any], at: Sitting) -> Meeting:
    """The enterprise is heard, then excused: nothing is decided while it is in the room."""
    _item(meeting, form)

    def heard(item: Any) -> Any:
        before = dict(item.heard) or {"at": at.now.isoformat(), "by": at.actor.subject}
        said = {"statement": form.get("statement") or before.get("statement", "")}
        left = {"excused_at": at.now.isoformat()} if form.get("excused") else {}
        return replace(item, heard={**before, **said, **left})

    return with_item(meeting, form["review"], heard)


def _adjourn(meeting: Meeting, form: Mapping[str, Any], at: Sitting) -> Meeting:
    """To another date, with who was missing; everybody is told and attends anew."""
    held_at = form["held_at"]
    if not at.now < held_at <= at.now + FARTHEST:
        raise Invalid.field("/held_at", "expected a time that is still to come, within two years")
    absent = [
        a.department or a.title for a in meeting.attendees if a.role in {"chair", "member"} and a.state != "present"
    ]
    entry = {
        "at": at.now.isoformat(), "by": at.actor.subject, "from": meeting.held_at.isoformat(),
        "to": held_at.isoformat(), "reason": form["reason"], "missing": absent,
    }  # fmt: skip
    people = (replace(a, state="invited", attended_at=None, substitute="", reason="") for a in meeting.attendees)
    return replace(meeting, held_at=held_at, adjournments=(*meeting.adjournments, entry), attendees=tuple(people))


def _close(meeting: Meeting, form: Mapping[str, Any], at: Sitting) -> Meeting:
    left = [i.review_id for i in meeting.agenda if i.state == "listed"]
    if at.now < meeting.held_at:
        raise Conflict("The meeting has not begun.", held_at=meeting.held_at.isoformat())
    if left:
        raise Conflict("Matters on the agenda are undecided: decide or postpone them first.", reviews=left)
    return replace(meeting, state="held", ended_at=at.now)


def _cancel(meeting: Meeting, form: Mapping[str, Any], at: Sitting) -> Meeting:
    if any(i.decision for i in meeting.agenda):
        raise Conflict("Something was decided at this meeting; it is closed, not cancelled.")
    gone = tuple(replace(i, state="withdrawn") for i in meeting.agenda)
    entry = {"at": at.now.isoformat(), "by": at.actor.subject, "cancelled": True, "reason": form["reason"]}
    return replace(meeting, state="cancelled", agenda=gone, adjournments=(*meeting.adjournments, entry))


_STEPS: Mapping[str, Callable[[Meeting, Mapping[str, Any], Sitting], Meeting]] = {
    "invite": _invite,
    "notify": _notify,
    "acknowledge": _acknowledge,
    "add_paper": _add_paper,
    "attend": _attend,
    "recuse": _recuse,
    "hear": _hear,
    "adjourn": _adjourn,
    "close": _close,
    "cancel": _cancel,
}
