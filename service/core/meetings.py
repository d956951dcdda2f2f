"""Meetings of one matter, one discussion: agenda, attendance, quorum. Plain values and their rules.

A meeting is no part of a ticket: it has a row and a lock of its own, taken before those of the tickets on its agenda.
What it decides on a matter is an act on that matter's ticket (`review`), with the meeting as witness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from service.core.errors import ActionNotPossible, Conflict, FieldError, Invalid
from service.core.model import Actor, Review


@dataclass(frozen=True, slots=True)
class Attendee:
    """Somebody who is invited. `role`: chair, recorder, member, observer, enterprise.

    `state`: invited, notified, acknowledged, present, absent. `substitute`: who came instead. `recused`: the matters in
    which he or she has a stake, each {review, reason}; for those another of the unit must be there.
    """

    id: str
    meeting_id: str
    role: str
    state: str
    department: str | None = None
    name: str = ""
    title: str = ""
    subject: str | None = None
    substitute: str = ""
    reason: str = ""
    notified_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    attended_at: datetime | None = None
    recused: tuple[Mapping[str, Any], ...] = ()

    def recused_from(self, review_id: str) -> bool:
        return any(stake["review"] == review_id for stake in self.recused)


@dataclass(frozen=True, slots=True)
class AgendaItem:
    """A matter on the agenda and what this meeting decided on it. `state`: listed, decided, postponed, referred, withdrawn.

    `papers`: {title, kind, secret, at, by}. `heard`: the enterprise, {at, by, statement, excused_at}. `text`: the chair's
    summary. `votes`, `dissents` and `recused` as in `model.Review`; `measures`: ids of what was resolved.
    """

    id: str
    meeting_id: str
    ticket_id: str
    review_id: str
    position: int
    state: str
    added_at: datetime
    added_by: str
    late_ground: str = ""
    papers: tuple[Mapping[str, Any], ...] = ()
    heard: Mapping[str, Any] = field(default_factory=dict)
    decision: str | None = None
    text: str = ""
    conditions: str = ""
    votes: Mapping[str, Any] = field(default_factory=dict)
    dissents: tuple[Mapping[str, Any], ...] = ()
    recused: tuple[Mapping[str, Any], ...] = ()
    postponed_to: str | None = None
    referred_to: str | None = None
    measures: tuple[str, ...] = ()
    decided_by: str | None = None
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Meeting:
    """One sitting. `state`: planned, held, cancelled. `adjournments`: {at, by, from, to, reason, missing}, oldest first."""

    id: str
    number: str
    tier: int
    title: str
    state: str
    held_at: datetime
    agenda_closes_at: datetime
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int
    place: str = ""
    departments: tuple[str, ...] = ()
    extra_reason: str = ""
    ended_at: datetime | None = None
    adjournments: tuple[Mapping[str, Any], ...] = ()
    attendees: tuple[Attendee, ...] = ()
    agenda: tuple[AgendaItem, ...] = ()

    @property
    def chair(self) -> Attendee | None:
        return next((a for a in self.attendees if a.role == "chair"), None)

    @property
    def recorder(self) -> Attendee | None:
        return next((a for a in self.attendees if a.role == "recorder"), None)

    def item_of(self, review_id: str) -> AgendaItem | None:
        return next((i for i in self.agenda if i.review_id == review_id), None)


# --- the agenda ------------------------------------------------------------------------------------------------------


def listed(
    meeting: Meeting,
    review: Review,
    units: Sequence[str],
    item_id: str,
    new_id: Callable[[], str],
    by: Actor,
    now: datetime,
    late_ground: str = "",
) -> Meeting:
    """The meeting with this matter on its agenda and the units it needs invited. Raises Conflict or ActionNotPossible."""
    if meeting.state != "planned":
        raise Conflict(f"The meeting {meeting.number} is {meeting.state}; choose another.", meeting=meeting.id)
    if meeting.tier < (review.tier or 1):
        raise Conflict(f"The meeting is of tier {meeting.tier}, the matter of tier {review.tier}.", tier=meeting.tier)
    if now > meeting.agenda_closes_at and not late_ground:
        raise ActionNotPossible(
            f"The agenda of {meeting.number} closed at {meeting.agenda_closes_at.isoformat()}; the chair may let a matter"
            " in later: say why as late_ground.",
            stage=review.state, actions=["schedule"], closed_at=meeting.agenda_closes_at.isoformat(),
            missing=[{"what": "late_ground", "settle": "schedule with late_ground, or a later meeting"}],
        )  # fmt: skip
    if meeting.item_of(review.id) is not None:
        raise Conflict(
            "This matter stands on that agenda already, or was decided or postponed there.", meeting=meeting.id
        )
    position = 1 + max((i.position for i in meeting.agenda), default=0)
    late = late_ground if now > meeting.agenda_closes_at else ""
    item = AgendaItem(item_id, meeting.id, review.ticket_id, review.id, position, "listed", now, by.subject, late)
    meeting = replace(meeting, agenda=(*meeting.agenda, item))
    for unit in units:
        if not any(a.department == unit for a in meeting.attendees):
            meeting = invited(meeting, Attendee(new_id(), meeting.id, "member", "invited", unit))
    return meeting


def invited(meeting: Meeting, attendee: Attendee) -> Meeting:
    """With one more attendee. Raises Conflict for a second chair: a meeting has one."""
    if attendee.role == "chair" and meeting.chair is not None:
        raise Conflict("A meeting has one chair; it is named already.", chair=meeting.chair.name or meeting.chair.title)
    units = dict.fromkeys([*meeting.departments, *([attendee.department] if attendee.department else [])])
    return replace(meeting, attendees=(*meeting.attendees, attendee), departments=tuple(sorted(units)))


def taken_off(meeting: Meeting, review_id: str) -> Meeting:
    """Without a matter that is withdrawn, or that goes to another meeting: the item stays and says so."""
    return with_item(meeting, review_id, lambda item: replace(item, state="withdrawn"))


def reconciled(meeting: Meeting, standing: Mapping[str, tuple[str, str | None]]) -> Meeting:
    """Without matters that left the docket by themselves. `standing`: state and meeting of each review, by id."""
    for item in meeting.agenda:
        if item.state == "listed" and standing.get(item.review_id) != ("preparing", meeting.id):
            meeting = taken_off(meeting, item.review_id)
    return meeting


def with_item(meeting: Meeting, review_id: str, change: Callable[[AgendaItem], AgendaItem]) -> Meeting:
    return replace(meeting, agenda=tuple(change(i) if i.review_id == review_id else i for i in meeting.agenda))


def decided(meeting: Meeting, review: Review, decision: str, measures: Sequence[str]) -> Meeting:
    """The agenda item with what was decided on it, as the minutes will say it. `review`: as it is after the decision."""
    states = {"postpone": "postponed", "refer_up": "referred"}
    return with_item(
        meeting,
        review.id,
        lambda item: replace(
            item,
            state=states.get(decision, "decided"),
            decision=decision,
            text=review.decision_text,
            conditions=review.conditions,
            votes=review.votes,
            dissents=review.dissents,
            recused=review.recused,
            postponed_to=review.postponed_to if decision == "postpone" else None,
            referred_to=f"tier {review.tier}" if decision == "refer_up" else review.referred_to,
            measures=tuple(measures),
            decided_by=review.decided_by,
            decided_at=review.decided_at,
        ),
    )


# --- attendance ------------------------------------------------------------------------------------------------------


def attended(meeting: Meeting, units: Sequence[str], now: datetime) -> Meeting:
    """The short form: these units are present, and so is the chair. Raises Invalid for one that is not invited."""
    known = {a.department for a in meeting.attendees}
    unknown = [n for n, unit in enumerate(units) if unit not in known]
    if unknown:
        told = "expected a unit that is invited to the meeting (action invite)"
        raise Invalid("A unit is not invited.", [FieldError(f"/present/{n}", told) for n in unknown])

    def present(a: Attendee) -> Attendee:
        there = a.department in units or a.role == "chair"
        fresh = there and a.state not in {"present", "absent"}
        return replace(a, state="present", attended_at=now) if fresh else a

    return replace(meeting, attendees=tuple(map(present, meeting.attendees)))
