"""A meeting and the tickets on its agenda -> the draft of its minutes.

What was decided stands in the rows and is never typed again. People word what rows do not say: title and opening, what
was considered, what the enterprise is told, how long the decision is a precedent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from service.core.docket import GATES, Docket
from service.core.errors import FieldError, Invalid
from service.core.meetings import AgendaItem, Attendee, Meeting
from service.core.minutes import BINDING, Attendance, Gate, Item, Minutes, Person, Stance, Task
from service.core.model import MeasureTask, Opinion, Review, Ticket
from service.core.procedure import PASSED, as_resolved, competent_units, missing_at_meeting, needed_gates

CAME, STAYED_AWAY = "present", "absent"


@dataclass(frozen=True, slots=True)
class Matter:
    """What a ticket says of itself: `title` of the request, name of the enterprise."""

    ticket: Ticket
    title: str
    enterprise: str


def assemble(
    meeting: Meeting,
    matters: Mapping[str, Matter],
    docket: Docket,
    titles: Mapping[str, str],
    wording: Mapping[str, Any],
    before: Minutes | None,
    zone: ZoneInfo,
) -> Minutes:
    """The draft. `matters` by ticket; `docket` says whose minutes these are; `titles` of units by code; what `wording` leaves
    out is kept from `before`.

    Raises Invalid for the wording of a matter that is not on the agenda.
    """
    worded = _by_review(meeting, wording.get("items") or ())
    known = {i.review_id: i for i in before.items} if before else {}
    items = tuple(
        _item(
            entry, matters[entry.ticket_id], docket, titles, worded.get(entry.review_id, {}), known.get(entry.review_id)
        )
        for entry in meeting.agenda
    )
    head = docket.minutes[meeting.tier]
    title = wording.get("title") or (before.title if before else "") or _title(items)
    opening = wording.get("opening")
    return Minutes(
        meeting=meeting.number,
        tier=meeting.tier,
        held_at=meeting.held_at.astimezone(zone).isoformat(),
        place=meeting.place,
        mark=head.mark,
        office=head.office,
        series=head.series,
        title=title,
        opening=opening if opening is not None else before.opening if before else "",
        attendance=_attendance(meeting, titles),
        items=items,
        quorum=_quorum(meeting, matters),
    )


def _by_review(meeting: Meeting, items: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    on_agenda = {i.review_id for i in meeting.agenda}
    wrong = [n for n, item in enumerate(items) if item["review"] not in on_agenda]
    if wrong:
        told = "expected a review on this meeting's agenda"
        raise Invalid("A review is not on the agenda.", [FieldError(f"/items/{n}/review", told) for n in wrong])
    return {str(item["review"]): item for item in items}


def _title(items: Sequence[Item]) -> str:
    if len(items) == 1:
        return f"关于{items[0].subject}的会议纪要"
    return "关于企业诉求“一事一议”有关事项的会议纪要"


def _attendance(meeting: Meeting, titles: Mapping[str, str]) -> Attendance:
    def of(role: str, *states: str) -> tuple[Person, ...]:
        return tuple(_person(a, titles) for a in meeting.attendees if a.role == role and a.state in states)

    chair, recorder = meeting.chair, meeting.recorder
    undecided = [a for a in meeting.attendees if a.role in {"chair", "member"} and a.state not in {CAME, STAYED_AWAY}]
    return Attendance(
        chair=_person(chair, titles) if chair and chair.state == CAME else None,
        recorder=_person(recorder, titles) if recorder else None,
        present=of("member", CAME),
        absent=of("member", STAYED_AWAY),
        observers=of("observer", CAME),
        undecided=tuple(_person(a, titles) for a in undecided),
    )


def _person(attendee: Attendee, titles: Mapping[str, str]) -> Person:
    code = attendee.department
    return Person(
        name=attendee.name,
        unit=titles.get(code, code) if code else "",
        position=attendee.title,
        substitute=attendee.substitute,
        reason=attendee.reason if attendee.state == STAYED_AWAY else "",
        department=code,
        subject=attendee.subject,
    )


def _quorum(meeting: Meeting, matters: Mapping[str, Matter]) -> bool | None:
    """Whether for each decided matter everybody was there whom it needed; None: nothing was decided yet."""
    decided = [i for i in meeting.agenda if i.decision is not None]
    if not decided:
        return None
    for item in decided:
        ticket = matters[item.ticket_id].ticket
        review = _review(ticket, item.review_id)
        if missing_at_meeting(meeting, review, competent_units(ticket.lead, ticket.opinions, review)):
            return False
    return True


def _review(ticket: Ticket, review_id: str) -> Review:
    return next(r for r in ticket.reviews if r.id == review_id)


def _item(
    entry: AgendaItem,
    matter: Matter,
    docket: Docket,
    titles: Mapping[str, str],
    worded: Mapping[str, Any],
    before: Item | None,
) -> Item:
    ticket, review = matter.ticket, _review(matter.ticket, entry.review_id)
    opinions = [o for o in ticket.opinions if o.review_id == review.id]
    measures = [m for m in ticket.measures if m.id in entry.measures]
    # a gate that some other resolution would have needed, and that this one did not pass, says nothing of what was decided
    needed = needed_gates(review, docket, as_resolved(measures))
    gates = tuple(
        Gate(name, str(g.get("result", "")), str(g.get("ground") or ""), str(g.get("legal_basis") or ""))
        for name, g in sorted(review.gates.items(), key=lambda entry: GATES.index(entry[0]))
        if name in needed or g.get("result") in PASSED
    )

    def kept(name: str, otherwise: Any) -> Any:
        given = worded.get(name)
        return given if given is not None else getattr(before, name) if before is not None else otherwise

    heard = "企业代表到会陈述意见后离席。" if entry.heard.get("at") else ""
    return Item(
        review_id=review.id,
        number=review.number,
        kind=review.kind,
        enterprise=matter.enterprise,
        subject=matter.title,
        matter=ticket.matter,
        state=entry.state,
        decision=entry.decision,
        asked=review.asked or review.summary,
        considered=kept("considered", heard),
        text=entry.text,
        extract=kept("extract", review.enterprise_extract if entry.decision in BINDING else ""),
        conditions=entry.conditions,
        postponed_to=entry.postponed_to,
        referred_to=entry.referred_to,
        stances=tuple(_stance(o, titles) for o in opinions),
        gates=gates,
        votes={side: tuple(titles.get(u, u) for u in units or ()) for side, units in entry.votes.items()},
        dissents=tuple({"unit": _unit(d, titles), "text": str(d.get("text") or "不同意")} for d in entry.dissents),
        recused=tuple(
            {"unit": _unit(r, titles), "name": str(r.get("name") or ""), "reason": str(r.get("reason") or "")}
            for r in (entry.recused or review.recused)
        ),
        measures=tuple(_task(m, titles) for m in measures),
        legal_grounds=tuple(
            dict.fromkeys(
                basis for basis in (*(o.legal_basis for o in opinions), *(g.legal_basis for g in gates)) if basis
            )
        ),
        valid_until=kept("valid_until", None),
    )


def _unit(said: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    code = said.get("department")
    return titles.get(code, str(code)) if code else ""


def _stance(opinion: Opinion, titles: Mapping[str, str]) -> Stance:
    unit = titles.get(opinion.department, opinion.department)
    return Stance(unit, opinion.position, opinion.text, opinion.legal_basis)


def _task(measure: MeasureTask, titles: Mapping[str, str]) -> Task:
    return Task(
        title=measure.title,
        owner=measure.department,
        owner_title=titles.get(measure.department, measure.department),
        due_on=measure.due_on,
        co_units=tuple(titles.get(u, u) for u in measure.co_units),
        deliverable=measure.deliverable,
        evidence_type=measure.evidence_type,
        mandatory=measure.mandatory,
        resource=measure.resource,
        quantity=measure.quantity,
    )


def distribution(meeting: Meeting, matters: Mapping[str, Matter]) -> tuple[str, ...]:
    """The units that the whole text goes to: those at the table, and those that have something to do."""
    at_the_table = {a.department for a in meeting.attendees if a.department and a.role != "enterprise"}
    wanted = {m for i in meeting.agenda for m in i.measures}
    tasks = [m for matter in matters.values() for m in matter.ticket.measures if m.id in wanted]
    return tuple(sorted(at_the_table | {unit for m in tasks for unit in (m.department, *m.co_units)}))


def concerned(item: Item, matter: Matter) -> tuple[str, ...]:
    """The units that took part in one matter: to them its decision is a precedent that they may look up."""
    ticket = matter.ticket
    asked = {o.department for o in ticket.opinions if o.review_id == item.review_id}
    owners = {u for m in ticket.measures if m.review_id == item.review_id for u in (m.department, *m.co_units)}
    return tuple(sorted({*ticket.visible_to, *asked, *owners}))


def late(issued_at: datetime | None, due_at: datetime, now: datetime) -> bool:
    """Issued, or still not issued, after its limit."""
    return (issued_at or now) > due_at
