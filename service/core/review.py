"""One matter, one discussion (一事一议): the docket of hard cases, from proposal to resolution and reply.

    proposed --screen: accept, study--> preparing --decide--> decided --last mandatory measure struck off--> completed
      |  ^                               |   ^   |
      |  +--screen: return, supplement   |   +---+ decide: postpone (once), refer_up
      +--screen: refuse--> refused       +--withdraw--> withdrawn

A proposal by a timer never convenes by itself: somebody screens it. Silence of a unit asked for its opinion is shown as
no opinion, never as consent. The ticket stays open all the while and its resolve clock runs on (time rule T12). What must
be settled before a decision is `procedure`'s, the decision `deciding`'s, its measures `measures`'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from service.core.deciding import decide
from service.core.docket import GATES, Docket
from service.core.draft import Draft, Env
from service.core.effects import HANDLERS, end_clocks, start_clock
from service.core.errors import ActionNotPossible, Conflict, Forbidden, Invalid, NotFound
from service.core.meetings import Meeting
from service.core.model import Actor, Decision, Notice, Opinion, Phase, Review, Role, Ticket
from service.core.procedure import as_resolved, check_no_stake, competent_units, judged, needed_gates
from service.core.proposing import ASKED
from service.core.resolving import check_departments, take
from service.core.workflow import catch_up

ACTIONS: Mapping[str, tuple[frozenset[str], frozenset[Role], str, str]] = {
    "screen": (frozenset({"proposed"}), frozenset({Role.REVIEWER}), "初审", "Screen the proposal"),
    "supplement": (
        frozenset({"proposed"}),
        frozenset({Role.HANDLER, Role.DISPATCHER, Role.SUPERVISOR, Role.REVIEWER}),
        "补充材料",
        "Supplement what was sent back",
    ),
    "request_opinions": (frozenset({"preparing"}), frozenset({Role.REVIEWER}), "征求意见", "Ask units for opinions"),
    "give_opinion": (frozenset({"preparing"}), frozenset({Role.HANDLER}), "出具意见", "Give the unit's opinion"),
    "pass_gate": (frozenset({"preparing"}), frozenset({Role.REVIEWER}), "审查把关", "Record a gate"),
    "schedule": (frozenset({"preparing"}), frozenset({Role.REVIEWER}), "列入议程", "Put on an agenda"),
    "decide": (frozenset({"preparing"}), frozenset({Role.REVIEWER}), "议定", "Decide"),
    "reply": (
        frozenset({"decided", "completed"}),
        frozenset({Role.REVIEWER, Role.DISPATCHER}),
        "答复企业",
        "Reply to the enterprise",
    ),
    "withdraw": (
        frozenset({"proposed", "preparing"}),
        frozenset({Role.REVIEWER, Role.DISPATCHER}),
        "撤回",
        "Take off the docket",
    ),
}
"""Action -> the states in which it is possible, the roles that may do it, and its titles."""


def propose(ticket: Ticket, form: Mapping[str, Any], env: Env) -> Decision:
    """A person puts the matter on the docket (the same as the ticket's own action `escalate`)."""
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    known = draft.ticket.open_review()
    if known is not None:
        raise Conflict("This ticket is on the docket already.", review=known.id)
    if not draft.ticket.open or draft.ticket.phase in {Phase.AUDIT, Phase.CALLBACK, Phase.REVIEW}:
        raise ActionNotPossible("Only a ticket that is being handled is proposed.", stage=ticket.stage, actions=[])
    draft.form = form
    HANDLERS["propose_review"](draft, ASKED)
    return draft.finish()


def act(
    ticket: Ticket,
    review_id: str,
    action: str,
    form: Mapping[str, Any],
    env: Env,
    meeting: Meeting | None = None,
) -> Decision:
    """One step of the docket; `meeting`: on whose agenda the matter stands, or is put.

    Raises ActionNotPossible (with the actions that are, and what is `missing`), Forbidden, NotFound, Conflict, Invalid.
    """
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    review = next((r for r in draft.ticket.reviews if r.id == review_id), None)
    if review is None or action not in ACTIONS:
        raise NotFound("There is no such review or action.")
    check_role(action, env.actor)
    if review.state not in ACTIONS[action][0]:
        raise ActionNotPossible(
            f"{action!r} is not possible while the review is {review.state}.",
            stage=review.state,
            actions=possible(draft.ticket, review, env),
        )
    draft.form = form
    if action == "decide":
        decide(draft, review, form, meeting)
    else:
        _STEPS[action](draft, review, form)
    return draft.finish()


def check_role(action: str, actor: Actor) -> None:
    roles = ACTIONS[action][1]
    if actor.role not in roles:
        raise Forbidden(f"{action!r} is done by: {', '.join(sorted(roles))}; you are {actor.role}.")


def possible(ticket: Ticket, review: Review, env: Env) -> list[str]:
    """The actions that this actor may do on the review as it stands."""
    actor = env.actor
    names = [name for name, (states, roles, *_) in ACTIONS.items() if review.state in states and actor.role in roles]
    waiting = {o.department for o in ticket.opinions if o.review_id == review.id and o.position is None}
    never = {
        "supplement": not _waits_for_more(review),
        "give_opinion": not waiting & set(actor.departments),
        "reply": review.replied_at is not None or (review.meeting_id is not None and review.issued_at is None),
    }
    return sorted(name for name in names if not never.get(name))


def gates(review: Review, docket: Docket, ticket: Ticket) -> list[dict[str, Any]]:
    """Each gate with its state: passed, waived, failed, requested, open, or not needed (as far as is known)."""
    needed = needed_gates(review, docket, as_resolved(m for m in ticket.measures if m.review_id == review.id))
    out = []
    for name in GATES:
        gate = docket.gates[name]
        entry = dict(review.gates.get(name) or {})
        state = entry.pop("result", "open" if name in needed else "not_needed")
        titles = {"title": gate.title.zh, "title_en": gate.title.en}
        out.append({"gate": name, **titles, "state": state, "because": needed.get(name, []), **entry})
    return out


def issued(ticket: Ticket, review_id: str, number: str, env: Env, sealed: Mapping[str, str] | None = None) -> Decision:
    """The minutes that hold this matter's resolution were issued: from here the reply to the enterprise is due (T12).

    `sealed`: id and hash of the document, which the history keeps. Issued again (a correction is a document of its own)
    is noted and changes nothing.
    """
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    review = next((r for r in draft.ticket.reviews if r.id == review_id), None)
    if review is None:
        raise NotFound("There is no such review.")
    if review.decision is None or review.state not in {"decided", "completed"}:
        raise ActionNotPossible(
            f"Minutes are issued on what is decided; this matter is {review.state}.", stage=review.state, actions=[]
        )
    if review.issued_at is None:
        draft.put("reviews", replace(review, issued_at=draft.now))
        if draft.ticket.open and review.replied_at is None and "review_reply" in env.workflow.clocks:
            start_clock(draft, "review_reply", anchor=draft.now, subject_id=review.id)
        end_clocks(draft, [c for c in draft.open_clocks("review_minutes") if c.subject_id == review.id], "issued")
        draft.event("review.minutes_issued", review=review.id, minutes=number, **(sealed or {}))
    elif sealed is not None:
        draft.event("review.minutes_corrected", review=review.id, minutes=number, **sealed)
    return draft.finish()


# --- proposal and screening -------------------------------------------------------------------------------------------


def _waits_for_more(review: Review) -> bool:
    sent_back, more = review.returned_at, review.supplemented_at
    return sent_back is not None and (more is None or more < sent_back)


def _screen(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    decision, reason = form["decision"], str(form.get("reason") or "")
    if decision == "return":
        _send_back(draft, review, reason)
        return
    if decision == "refuse":
        _refuse(draft, review, reason, form.get("exclusion"))
        return
    if draft.ticket.phase in {Phase.AUDIT, Phase.CALLBACK}:
        raise ActionNotPossible(
            "The department has replied: finish the audit or the callback first, or refuse the proposal.",
            stage=draft.ticket.stage,
            actions=["screen"],
        )
    if draft.env.docket is not None and _waits_for_more(review):
        raise ActionNotPossible(
            "This proposal was sent back for more work; it is accepted once that is done, or refused.",
            stage=review.state,
            actions=["screen", "supplement"],
            missing=[{"what": "supplement", "settle": "supplement"}],
        )
    tier = int(form.get("tier") or (2 if decision == "study" else 1))
    major = bool(form.get("major"))
    changes: dict[str, Any] = {"state": "preparing", "tier": tier, "major": major, "study_id": form.get("study")}
    review = replace(review, **changes, **_screened(draft, reason))
    draft.put("reviews", review)
    take(draft, "accepted")
    told = {"study": review.study_id} if review.study_id else {}
    draft.event("review.accepted", review=review.id, tier=tier, reason=reason, **told)


def _screened(draft: Draft, reason: str) -> dict[str, Any]:
    return {"screened_by": draft.env.actor.subject, "screened_at": draft.now, "screen_reason": reason}


def _refuse(draft: Draft, review: Review, reason: str, exclusion: str | None) -> None:
    docket = draft.env.docket
    if docket is not None:
        if not reason:
            raise Invalid.field("/reason", "expected why: a proposal is refused with a reason only")
        if exclusion and exclusion not in docket.exclusions:
            raise Invalid.field("/exclusion", f"expected one of: {', '.join(docket.exclusions)}")
    if exclusion:
        draft.fact("excluded_track", exclusion)
    draft.put("reviews", replace(review, state="refused", completed_at=draft.now, **_screened(draft, reason)))
    take(draft, "refused")
    told = {"exclusion": exclusion} if exclusion else {}
    draft.event("review.refused", review=review.id, tier=review.tier, reason=reason, **told)


def _send_back(draft: Draft, review: Review, reason: str) -> None:
    """For more work: the screening begins anew, and so does its clock; so often as the rules say."""
    docket = draft.env.docket
    if docket is not None:
        if not reason:
            raise Invalid.field("/reason", "expected what is missing: a proposal is sent back with a reason only")
        if review.returns >= docket.screening.returns:
            raise Conflict(
                f"It was sent back {review.returns} times; now it is accepted or refused.", returns=review.returns
            )
    draft.put("reviews", replace(review, returns=review.returns + 1, returned_at=draft.now, screen_reason=reason))
    end_clocks(draft, draft.open_clocks("review_screen"), "returned")
    start_clock(draft, "review_screen", anchor=draft.now)
    lead = draft.ticket.lead
    draft.notices += (
        [Notice(f"department:{lead}", "review_returned")] if lead else [Notice("dispatcher", "review_returned")]
    )
    draft.event("review.returned", review=review.id, reason=reason)


def _supplement(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    if not _waits_for_more(review):
        raise ActionNotPossible("Nothing was sent back for more work.", stage=review.state, actions=["screen"])
    changes: dict[str, Any] = {name: str(form[name]) for name in ("asked", "tried", "signed_by") if form.get(name)}
    if form.get("options"):
        changes["options"] = tuple(form["options"])
    if not changes and not form.get("text"):
        raise Invalid.field("", "expected at least one of text, asked, tried, options and signed_by")
    summary = "\n".join(part for part in (review.summary, str(form.get("text") or "")) if part)
    draft.put("reviews", replace(review, **changes, summary=summary, supplemented_at=draft.now))
    draft.notices.append(Notice(Role.REVIEWER, "review_supplemented"))
    draft.event("review.supplemented", review=review.id)


# --- preparing --------------------------------------------------------------------------------------------------------


def _request_opinions(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    check_departments(draft.env, form["departments"], "/departments")
    asked = {o.department for o in draft.ticket.opinions if o.review_id == review.id}
    for code in form["departments"]:
        if code in asked:
            continue
        asked.add(code)
        draft.check_not_recused(code)
        opinion = Opinion(draft.env.new_id(), draft.ticket.id, review.id, code, draft.now)
        draft.put("opinions", opinion)
        start_clock(draft, "review_opinion", anchor=draft.now, subject_id=opinion.id, department=code)
    draft.event("review.opinions_requested", review=review.id, departments=list(form["departments"]))


def _give_opinion(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    actor = draft.env.actor
    mine = [o for o in draft.ticket.opinions if o.review_id == review.id and o.department in actor.departments]
    if not mine:
        raise Forbidden("Your department was not asked for an opinion on this matter.")
    check_no_stake(review, actor)
    opinion = next((o for o in mine if o.position is None), mine[0])
    if opinion.position is not None:
        raise Conflict("Your department has given its opinion already.", position=opinion.position)
    opinion = replace(
        opinion,
        position=form["position"],
        text=str(form.get("text") or ""),
        legal_basis=str(form.get("legal_basis") or ""),
        given_at=draft.now,
        given_by=actor.subject,
    )
    draft.put("opinions", opinion)
    end_clocks(draft, [c for c in draft.open_clocks("review_opinion") if c.subject_id == opinion.id], "given")
    # who said what stays with the convenor until the matter is decided: the history is read by every unit concerned
    draft.event("review.opinion_given", review=review.id)


def _pass_gate(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    name = str(form["gate"])
    entry = judged(draft, review, form)
    changes: dict[str, Any] = {"gates": {**review.gates, name: entry}}
    if name == "confidentiality" and form.get("level"):
        changes["confidentiality"] = str(form["level"])
    if name == "recusal":
        changes["recused"] = tuple(dict(stake) for stake in form.get("recused") or ())
    draft.put("reviews", replace(review, **changes))
    draft.event("review.gate", review=review.id, gate=name, result=entry["result"])


def _schedule(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    """The matter stands on this meeting's agenda (`meetings.listed` has seen to it that it may)."""
    if review.meeting_id == form["meeting"]:
        raise Conflict("This matter is on the agenda of that meeting already.", meeting=review.meeting_id)
    check_no_stake(review, draft.env.actor)
    draft.put("reviews", replace(review, meeting_id=form["meeting"]))
    for unit in competent_units(draft.ticket.lead, draft.ticket.opinions, review):
        draft.notices.append(Notice(f"department:{unit}", "meeting", None, form["held_at"]))
    draft.event("review.scheduled", review=review.id, meeting=form["number"], held_at=form["held_at"].isoformat())


# --- back to the ticket -------------------------------------------------------------------------------------------------


def _reply(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    """The enterprise is told what was decided, once the minutes that say so are issued."""
    if review.replied_at is not None:
        raise Conflict("The enterprise was told already.", replied_at=review.replied_at.isoformat())
    if review.meeting_id is not None and review.issued_at is None:
        raise ActionNotPossible(
            "The minutes of the meeting are not issued yet; the enterprise is told what they say.",
            stage=review.state,
            actions=[],
            missing=[{"what": "minutes", "meeting": review.meeting_id, "settle": "issue the meeting's minutes"}],
        )
    text = str(form.get("text") or review.enterprise_extract or review.decision_text)
    draft.put("reviews", replace(review, reply=text, replied_at=draft.now, replied_by=draft.env.actor.subject))
    end_clocks(draft, [c for c in draft.open_clocks("review_reply") if c.subject_id == review.id], "replied")
    draft.event("review.replied", review=review.id)


def _withdraw(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    reason = str(form["reason"])
    review = replace(review, state="withdrawn", completed_at=draft.now, screen_reason=reason)
    draft.put("reviews", review)
    own = [c for name in ("review_screen", "review_decision", "review_opinion") for c in draft.open_clocks(name)]
    end_clocks(draft, own, "withdrawn", cancelled=True)
    take(draft, "withdrawn")
    draft.event("review.withdrawn", review=review.id, reason=reason)


_STEPS: Mapping[str, Callable[[Draft, Review, Mapping[str, Any]], None]] = {
    "screen": _screen,
    "supplement": _supplement,
    "request_opinions": _request_opinions,
    "give_opinion": _give_opinion,
    "pass_gate": _pass_gate,
    "schedule": _schedule,
    "reply": _reply,
    "withdraw": _withdraw,
}
