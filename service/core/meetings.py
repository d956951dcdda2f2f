"""Meetings of one matter, one discussion: agenda, attendance, quorum. Plain values and their rules.

A meeting is no part of a ticket: it has a row and a lock of its own, taken before those of the tickets on its agenda.
What it decides on a matter is an act on that matter's ticket (`review`), with the meeting as witness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


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
