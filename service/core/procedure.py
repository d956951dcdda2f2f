"""What must be settled before a matter is decided: gates, written opinions, quorum, stakes. Used by `review`.

Nothing here changes a ticket. A refusal says everything that is missing at once (`missing`), each entry with what would
settle it, so that a client can go on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from service.core.calendar import Budget, Measure
from service.core.docket import GATES, Docket
from service.core.draft import Draft
from service.core.errors import ActionNotPossible, Conflict, FieldError, Forbidden, Invalid
from service.core.meetings import Attendee, Meeting
from service.core.model import Actor, MeasureTask, Opinion, Review

APPROVING = frozenset({"approve", "approve_with_conditions", "refer_out"})
"""Decisions by which something is to be done: only these need the gates."""
FAVOURS = ("tax", "subsidy", "land", "factor_price")
"""What a resolution may give to one enterprise (Fair Competition Review Regulation, arts. 10 and 18)."""
PASSED = frozenset({"passed", "waived"})
Missing = dict[str, Any]


# --- gates -----------------------------------------------------------------------------------------------------------


def needed_gates(review: Review, docket: Docket, resolution: Mapping[str, Any] | None = None) -> dict[str, list[str]]:
    """The gates that this matter needs, each with why. `resolution`: the form of a decision; None: what is known so far."""
    measures = list((resolution or {}).get("measures") or ())
    commitments = list((resolution or {}).get("commitments") or ())
    is_so = {
        "always": True,
        "investment_project": review.kind == "investment_project",
        "major": review.major,
        "commitments": bool(commitments),
        "favours": bool(_favours(measures, commitments)),
        "funds": any(c.get("resource") == "funds" for c in commitments) or "subsidy" in _favours(measures, commitments),
    }
    why = {name: [str(need) for need in docket.gates[name].needed if is_so[need]] for name in GATES}
    return {name: needs for name, needs in why.items() if needs}


def as_resolved(measures: Iterable[MeasureTask]) -> dict[str, Any]:
    """A resolution that was adopted, as `needed_gates` asks: what these measures of it commit and give."""
    return {"commitments": [{"resource": m.resource, "favour": m.favour} for m in measures if m.resource or m.favour]}


def _favours(measures: Iterable[Mapping[str, Any]], commitments: Iterable[Mapping[str, Any]]) -> set[str]:
    return {str(item["favour"]) for item in (*measures, *commitments) if item.get("favour")}


def missing_gates(review: Review, docket: Docket, resolution: Mapping[str, Any]) -> Iterator[Missing]:
    needs = needed_gates(review, docket, resolution)
    for name in needs:
        state = (review.gates.get(name) or {}).get("result", "open")
        if state not in PASSED:
            title = docket.gates[name].title
            yield {"what": "gate", "gate": name, "title": title.zh, "title_en": title.en, "state": state,
                   "because": needs[name], "settle": "pass_gate"}  # fmt: skip
    granted = set((review.gates.get("fair_competition") or {}).get("favours") or ())
    asked = _favours(resolution.get("measures") or (), resolution.get("commitments") or ())
    if "fair_competition" in needs and (review.gates.get("fair_competition") or {}).get("result") in PASSED:
        for favour in sorted(asked - granted):
            yield {"what": "legal_basis", "gate": "fair_competition", "favour": favour, "settle": "pass_gate"}


def judged(draft: Draft, review: Review, form: Mapping[str, Any]) -> dict[str, Any]:
    """One gate's entry as this form leaves it. Raises Invalid, Conflict or ActionNotPossible; it changes nothing."""
    name, result, now = str(form["gate"]), str(form.get("result") or "passed"), draft.now
    ground, basis = str(form.get("ground") or ""), str(form.get("legal_basis") or "")
    before, docket = review.gates.get(name) or {}, draft.env.docket
    favours = list(form.get("favours") or ())
    if result in {"waived", "failed"} and not ground:
        raise Invalid.field("/ground", f"expected why: a gate is {result} only with a ground on record")
    if favours and name != "fair_competition":
        raise Invalid.field("/favours", "expected nothing: favours are judged by the gate fair_competition")
    if result == "passed" and favours and not basis:
        told = "expected the article that allows it: what favours one enterprise passes with a legal basis only"
        raise Invalid.field("/legal_basis", f"{told} (result failed records that there is none)")
    if docket is not None:
        gate = docket.gates[name]
        if result == "waived" and not gate.skip:
            raise Conflict(f"The gate {name} is never skipped; it is passed, or failed with a ground.", gate=name)
        if result == "passed" and gate.working_days:
            _long_enough(draft, name, gate.working_days, before)
    entry = {"result": result, "ground": ground, "legal_basis": basis, "by": draft.actor.subject, "at": now.isoformat()}
    if result == "requested" or before.get("requested_at"):
        entry["requested_at"] = before.get("requested_at") or now.isoformat()
    return entry | ({"favours": favours} if favours else {})


def _long_enough(draft: Draft, name: str, days: int, before: Mapping[str, Any]) -> None:
    """Who reviews has a minimum of time (Major Administrative Decisions Regulation, art. 26: seven working days)."""
    if not before.get("requested_at"):
        raise ActionNotPossible(
            f"The review of {name} was not asked for yet: record it with result 'requested' first; it has {days} working"
            " days at least.",
            stage="preparing", actions=["pass_gate"], missing=[{"what": "gate", "gate": name, "state": "open"}],
        )  # fmt: skip
    asked = datetime.fromisoformat(before["requested_at"])
    earliest = draft.env.calendar.add(asked, Budget(Measure.working_days, days)).astimezone(draft.env.calendar.zone)
    if draft.now < earliest:
        raise ActionNotPossible(
            f"The review of {name} has {days} working days at least, until {earliest.isoformat()}; with a ground it is"
            " waived instead.",
            stage="preparing", actions=["pass_gate"], until=earliest.isoformat(),
        )  # fmt: skip


# --- stakes ----------------------------------------------------------------------------------------------------------


def has_stake(review: Review, *, subject: str | None, name: str = "", department: str | None = None) -> bool:
    """Whether this person declared, or was found to have, a stake in the matter."""
    return any(
        (subject and stake.get("subject") == subject)
        or (name and stake.get("name") == name and stake.get("department") in {None, "", department})
        for stake in review.recused
    )


def check_no_stake(review: Review, actor: Actor) -> None:
    if has_stake(review, subject=actor.subject):
        raise Forbidden("You have a stake in this matter and are recused from it; somebody else acts.")


def _counts(attendee: Attendee, review: Review) -> bool:
    recused = attendee.recused_from(review.id) or has_stake(
        review, subject=attendee.subject, name=attendee.name, department=attendee.department
    )
    return attendee.state == "present" and not recused


# --- the sitting -----------------------------------------------------------------------------------------------------


def competent_units(lead: str | None, opinions: Iterable[Opinion], review: Review) -> list[str]:
    """The lead and every unit whose competence is asked: without each of them there is no quorum."""
    asked = [o.department for o in opinions if o.review_id == review.id]
    return list(dict.fromkeys([*([lead] if lead else []), *asked]))


def missing_at_meeting(meeting: Meeting, review: Review, units: Sequence[str]) -> list[Missing]:
    """What keeps this meeting from deciding this matter: its chair, a unit, or the enterprise that is still in the room."""
    out: list[Missing] = []
    chair = meeting.chair
    if chair is None or not _counts(chair, review):
        why = "none is named" if chair is None else "recused" if chair.state == "present" else chair.state
        out.append({"what": "chair", "state": why, "settle": "present, or attend of the meeting"})
    present = {a.department for a in meeting.attendees if a.role in {"member", "chair"} and _counts(a, review)}
    for unit in units:
        if unit not in present:
            states = [a.state if a.state != "present" else "recused" for a in meeting.attendees if a.department == unit]
            state = states[-1] if states else "not invited"
            out.append(
                {"what": "unit", "department": unit, "state": state, "settle": "present, or attend of the meeting"}
            )
    item = meeting.item_of(review.id)
    if item is not None and item.heard.get("at") and not item.heard.get("excused_at"):
        out.append({"what": "enterprise_excused", "settle": "hear of the meeting, with excused: true"})
    return out


def missing_in_writing(draft: Draft, review: Review) -> list[Missing]:
    """A matter is decided in writing when every unit asked has answered, or its limit has passed in silence."""
    out: list[Missing] = []
    for opinion in draft.ticket.opinions:
        if opinion.review_id != review.id or opinion.position is not None:
            continue
        clock = next((c for c in draft.ticket.clocks if c.subject_id == opinion.id and c.open), None)
        if clock is not None and clock.due_at >= draft.now:
            until = clock.due_at.astimezone(draft.env.calendar.zone).isoformat()
            out.append({"what": "opinion", "department": opinion.department, "until": until, "settle": "give_opinion"})
    return out


def check_decision(draft: Draft, review: Review, form: Mapping[str, Any], meeting: Meeting | None) -> None:
    """Raises unless this matter may be decided so, here and now, by this actor. `meeting`: where; None: in writing."""
    docket = draft.env.docket
    if docket is None:
        return
    check_no_stake(review, draft.env.actor)
    tier = review.tier or 1
    if meeting is None:
        if not docket.tiers[tier].written:
            told = docket.tiers[tier].title
            raise ActionNotPossible(
                f"A matter of tier {tier} ({told.en} {told.zh}) is decided at a meeting, never in writing: schedule it.",
                stage=review.state, actions=["schedule"], missing=[{"what": "meeting", "tier": tier, "settle": "schedule"}],
            )  # fmt: skip
        # a matter goes up or is put off without waiting for anybody
        missing = missing_in_writing(draft, review) if form["decision"] not in {"postpone", "refer_up"} else []
    else:
        _check_sitting(meeting, review, tier, draft.now)
        units = competent_units(draft.ticket.lead, draft.ticket.opinions, review)
        missing = missing_at_meeting(meeting, review, units)
    if form["decision"] in APPROVING:
        missing += missing_gates(review, docket, form)
    if missing:
        raise ActionNotPossible(
            f"This matter cannot be decided yet; missing: {', '.join(map(_said, missing))}.",
            stage=review.state, actions=sorted({"pass_gate", "schedule", "request_opinions"}), missing=missing,
        )  # fmt: skip
    _check_votes(form, review, meeting)


def _said(missing: Missing) -> str:
    what = str(missing["what"])
    named = missing.get("gate") or missing.get("department") or missing.get("favour")
    return f"{what} {named}" if named else what


def _check_sitting(meeting: Meeting, review: Review, tier: int, now: datetime) -> None:
    if meeting.state == "cancelled":
        raise ActionNotPossible(
            "The meeting was cancelled: schedule the matter anew.", stage=review.state, actions=["schedule"]
        )
    if meeting.tier < tier:
        raise Conflict(f"The meeting is of tier {meeting.tier}, the matter of tier {tier}.")
    if now < meeting.held_at:
        raise ActionNotPossible(
            f"The meeting {meeting.number} begins at {meeting.held_at.isoformat()}; nothing is decided before.",
            stage=review.state, actions=["pass_gate", "schedule", "withdraw"], until=meeting.held_at.isoformat(),
        )  # fmt: skip


def _check_votes(form: Mapping[str, Any], review: Review, meeting: Meeting | None) -> None:
    """Who votes is there, has no stake, and votes once."""
    votes: Mapping[str, Sequence[str]] = form.get("votes") or {}
    errors, seen = [], set[str]()
    able = {a.department for a in meeting.attendees if _counts(a, review)} if meeting else None
    for side in ("for", "against", "abstain"):
        for n, unit in enumerate(votes.get(side) or ()):
            if unit in seen:
                errors.append(FieldError(f"/votes/{side}/{n}", f"expected each unit once; {unit} has voted"))
            elif able is not None and unit not in able:
                errors.append(
                    FieldError(f"/votes/{side}/{n}", f"expected a unit that is present and has no stake; not {unit}")
                )
            seen.add(unit)
    if errors:
        raise Invalid("The votes are not as expected.", errors)


def dissents_of(draft: Draft, review: Review, form: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Who disagreed: as said at the meeting, and each written opinion against it; nobody's is left out (art. 30)."""
    said = [{"department": d["department"], "text": d["text"], "from": "meeting"} for d in form.get("dissents") or ()]
    known = {d["department"] for d in said}
    written = [
        {"department": o.department, "text": o.text, "from": "opinion"}
        for o in draft.ticket.opinions
        if o.review_id == review.id and o.position == "disagree" and o.department not in known
    ]
    against = [
        {"department": unit, "text": "", "from": "vote"}
        for unit in (form.get("votes") or {}).get("against") or ()
        if unit not in known | {d["department"] for d in written}
    ]
    return (*said, *written, *against)
