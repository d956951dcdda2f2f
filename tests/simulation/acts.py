"""What people do to a ticket of the model city: when it is possible, and what must follow (workflows/city/base.yaml).

`ACTS` names each act by the workflow's own name of the action. Reviews and their measures stand in `docket`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.simulation.days import Amount
from tests.simulation.ledger import budget_of
from tests.simulation.model import Leg, Request, Rules, Ticket

WORKED = ("accepting", "handling")
OPEN = ("dispatching", "accepting", "handling", "waiting", "auditing", "callback", "reviewing")
UNDECIDED = ("dispatching", "accepting", "handling", "waiting")
CALLBACK_WINDOW = timedelta(days=15)
Form = Mapping[str, Any]


@dataclass(frozen=True)
class Act:
    """`by`: handler (a unit acts for its leg), or a role of the centre. `if_`: the guard, given ticket, leg, form."""

    by: str
    stages: tuple[str, ...]
    do: Callable[[Ticket, Leg | None, Form, datetime], None]
    if_: Callable[[Ticket, Leg | None, Form], bool] = lambda t, leg, form: True

    def possible(self, ticket: Ticket, unit: str | None, form: Form) -> bool:
        leg = ticket.leg_of(unit) if unit else None
        if self.by == "handler" and leg is None:
            return False
        return ticket.stage in self.stages and self.if_(ticket, leg, form)


def perform(ticket: Ticket, name: str, unit: str | None, form: Form, now: datetime) -> None:
    """Carry out an act that is possible on a ticket that has caught up."""
    ACTS[name].do(ticket, ticket.leg_of(unit) if unit else None, form, now)
    ticket.reckon()


# --- opening, dispatch ------------------------------------------------------------------------------------------------


def opened(
    rules: Rules, domain: str, urgency: str, received_at: datetime, lead: str, co_handlers: list[str], now: datetime
) -> Ticket:
    ticket = Ticket(rules, rules.fitting(domain, urgency), domain, urgency, received_at)
    ticket.start("resolve", now)
    if lead:
        _to_lead(ticket, lead, co_handlers, now)
        _start_of_a_leg(ticket, now)
    else:
        ticket.start("dispatch", now)
        ticket.stage = "dispatching"
    ticket.reckon()
    return ticket


def _to_lead(t: Ticket, lead: str, co_handlers: list[str], now: datetime) -> None:
    for leg in t.legs:
        if leg.open and (leg.role == "lead" or leg.department == lead):
            _end_leg(t, leg, now)
    _new_leg(t, lead, "lead", now)
    t.lead = lead
    for code in co_handlers:
        if t.leg_of(code) is None:
            _new_leg(t, code, "co_handler", now)


def _new_leg(t: Ticket, department: str, role: str, now: datetime) -> None:
    t.legs.append(Leg(len(t.legs), department, role, now))


def _end_leg(t: Ticket, leg: Leg, now: datetime) -> None:
    """T4: a leg's own clocks end with it."""
    leg.open = False
    t.cancel(now, about=leg.name)


def _start_of_a_leg(t: Ticket, now: datetime) -> None:
    t.start_for_legs("accept", "lead", now)
    t.start_once_a_round("contact", now)
    t.start_once_a_round("opinion", now)
    t.start_for_legs("co_reply", "co_handler", now)
    t.stage = "accepting"


def _dispatch(t: Ticket, leg: Leg | None, form: Form, now: datetime) -> None:
    t.withdraw_requests(now)
    t.meet(now, "dispatch")
    _to_lead(t, form["department"], form.get("co_handlers", []), now)
    _start_of_a_leg(t, now)


def _add_co_handler(t: Ticket, leg: Leg | None, form: Form, now: datetime) -> None:
    _new_leg(t, form["department"], "co_handler", now)
    t.start_for_legs("co_reply", "co_handler", now)


# --- handling ---------------------------------------------------------------------------------------------------------


def _accept(t: Ticket, leg: Leg | None, form: Form, now: datetime) -> None:
    assert leg is not None
    t.meet(now, "accept", about=leg.name)
    leg.state, t.stage = "accepted", "handling"


def _log_contact(t: Ticket, leg: Leg | None, form: Form, now: datetime) -> None:
    if form.get("reached", True):
        t.meet(now, "contact")


def _ask(kind: str) -> Callable[[Ticket, Leg | None, Form, datetime], None]:
    def ask(t: Ticket, leg: Leg | None, form: Form, now: datetime) -> None:
        assert leg is not None
        t.counters[f"{kind}_requests"] = t.count(f"{kind}_requests") + 1
        if kind == "return":
            for promise in t.running("accept"):
                if promise.stopped is None:
                    promise.stop("awaiting_ruling", now)
        t.requests[kind] = Request(kind, now, leg, form)
        t.start(f"{kind}_decision", now)

    return ask


def decide(t: Ticket, kind: str, approve: bool, now: datetime) -> None:
    """A request is decided by somebody else."""
    request = t.requests.pop(kind)
    t.meet(now, f"{kind}_decision")
    _RULINGS[kind](t, request, approve, now)
    t.reckon()


def _rule_on_return(t: Ticket, request: Request, approve: bool, now: datetime) -> None:
    if not approve:
        t.counters["returns_denied"] = t.count("returns_denied") + 1
        t.resume(now, "accept")
        return
    t.withdraw_requests(now)
    t.resume(now, "resolve", "opinion")
    t.cancel(now, "pause_cap")
    _end_leg(t, request.leg, now)
    t.cancel(now, "accept")
    t.lead, t.stage = "", "dispatching"
    t.start("dispatch", now)


def _rule_on_extension(t: Ticket, request: Request, approve: bool, now: datetime) -> None:
    """T7: the budget grows, the original target stays; the approver's delay is nobody's breach."""
    if approve:
        t.counters["extensions"] = t.count("extensions") + 1
        for promise in t.running("resolve"):
            promise.added += request.form["days"]
    t.excuse(request, now)


def _rule_on_pause(t: Ticket, request: Request, approve: bool, now: datetime) -> None:
    """T6: with a cap, and from the day on which it was asked."""
    if not approve:
        t.excuse(request, now)
        return
    t.counters["pauses"] = t.count("pauses") + 1
    most = budget_of(t.rules.clock(t.flow, "pause_cap"), "whole")
    wanted = request.form.get("days")
    t.start("pause_cap", now, amount=Amount(most.measure, min(most.size, wanted)) if wanted else None)
    cap = t.rules.days.due(now, t.promises[-1].amount, [])
    for promise in t.running("resolve", "opinion"):
        if promise.stopped is None:
            promise.stop(request.form["kind"], request.asked, cap)
    t.stage = "waiting"


_RULINGS = {"return": _rule_on_return, "extension": _rule_on_extension, "pause": _rule_on_pause}


def _resume(t: Ticket, leg: Leg | None, form: Form, now: datetime) -> None:
    t.resume(now, "resolve", "opinion")
    t.meet(now, "pause_cap")
    t.stage = "handling"


def _submit_reply(t: Ticket, leg: Leg | None, form: Form, now: datetime) -> None:
    assert leg is not None
    leg.state = "submitted"
    if leg.role == "co_handler":
        t.meet(now, "co_reply", about=leg.name)
        return
    t.withdraw_requests(now)
    for promise in t.running("resolve"):
        promise.stop("held", now)  # T10
    t.meet(now, "opinion")
    t.start("audit", now)
    t.stage = "auditing"
    t.reply_outcome = form.get("outcome", "solved")


def _approve_reply(t: Ticket, leg: Leg | None, form: Form, now: datetime) -> None:
    for promise in t.running("resolve"):
        t.finish(promise, "met", promise.held_at or now)  # T10: met when it was submitted
    t.meet(now, "audit")
    t.start("callback", now)
    t.stage = "callback"


def _reject_reply(t: Ticket, leg: Leg | None, form: Form, now: datetime) -> None:
    for promise in t.running("resolve"):
        promise.go_on(now)  # T10: as if never held
    t.meet(now, "audit")
    _accept_again(t)
    t.stage = "handling"


def _accept_again(t: Ticket) -> None:
    leg = t.lead_leg()
    if leg is not None:
        leg.state = "accepted"


# --- callback, closing, taking up again -----------------------------------------------------------------------------


def _content(form: Form) -> bool:
    return form.get("solved") != "no" and form.get("satisfaction") not in {"dissatisfied", "very_dissatisfied"}


def _closes(t: Ticket, form: Form) -> bool:
    reached = form.get("reached", True)
    return t.count("callback_attempts") >= 2 and t.attempted_on != _day(t.now) if not reached else _content(form)


def _day(now: datetime | None) -> str:
    assert now is not None, "set where it is looked at what is possible"
    return now.astimezone(ZoneInfo("Asia/Shanghai")).date().isoformat()


def _record_callback(t: Ticket, leg: Leg | None, form: Form, now: datetime) -> None:
    reached = form.get("reached", True)
    t.now = now
    closes = _closes(t, form)
    if not reached:
        if t.attempted_on != _day(now):
            t.counters["callback_attempts"] = t.count("callback_attempts") + 1
        t.attempted_on = _day(now)
        if not closes:
            return
    t.meet(now, "callback")
    if closes:
        t.close(now, t.reply_outcome if reached else "unrated")
    elif t.round >= 3 and t.count("reviews") >= 2:
        t.close(now, "explained_no_basis")
    elif t.round >= 3:
        t.counters["reviews"] = t.count("reviews") + 1
        t.propose(now)
        t.stage = "reviewing"
    else:
        _next_round(t)
        t.start("resolve", now)
        if t.lead:
            _accept_again(t)
            t.stage = "handling"
        else:
            t.start("dispatch", now)
            t.stage = "dispatching"


def _next_round(t: Ticket) -> None:
    t.round += 1
    t.counters["callback_attempts"] = 0


def _reopen(t: Ticket, leg: Leg | None, form: Form, now: datetime) -> None:
    assert t.closed_at is not None
    t.counters["reopenings"] = t.count("reopenings") + 1
    _next_round(t)
    t.cycle = "reopened" if now <= t.closed_at + CALLBACK_WINDOW else "reopened_late"
    t.closed_at = t.outcome = None
    if t.lead:
        _to_lead(t, t.lead, [], now)
        t.start("resolve", now)
        t.start_for_legs("accept", "lead", now)
        t.start("contact", now)
        t.stage = "accepting"
    else:
        t.start("resolve", now)
        t.start("dispatch", now)
        t.stage = "dispatching"
    t.cycle = "rounds"


def _withdraw(t: Ticket, leg: Leg | None, form: Form, now: datetime) -> None:
    t.close(now, "withdrawn")


# --- another policy ----------------------------------------------------------------------------------


def _reclassify(t: Ticket, leg: Leg | None, form: Form, now: datetime) -> None:
    """T8: bound anew from the original anchor. A budget that a decision set is no policy and stays."""
    t.domain, t.urgency = form.get("domain", t.domain), form.get("urgency", t.urgency)
    flow = t.rules.fitting(t.domain, t.urgency)
    if flow == t.flow:
        return
    unknown = [kind for kind in t.requests if kind not in t.rules.flows[flow]["approvals"]]
    overtaken = [(t.requests.pop(kind), t.delays(kind)) for kind in unknown]
    t.cancel(now, *(f"{kind}_decision" for kind in unknown)) if unknown else None
    old, t.flow = t.flow, flow
    for promise in t.running():
        granted = promise.granted(t.rules.clock(old, promise.name))
        amount = promise.amount if granted == "decision" else budget_of(t.rules.clock(flow, promise.name), granted)
        waits = [request for request, delays in overtaken if promise.name in delays]
        t.bind(promise, amount, promise.anchor, now, t.rules.days, waits)


# --- the table --------------------------------------------------------------------------------------------------------


def _nothing(t: Ticket, leg: Leg | None, form: Form, now: datetime) -> None:
    return


def _is_lead(t: Ticket, leg: Leg | None, form: Form) -> bool:
    return leg is not None and leg.role == "lead"


def _may_return(t: Ticket, leg: Leg | None, form: Form) -> bool:
    asked = t.count("return_requests") < 2 and t.count("returns_denied") == 0
    return _is_lead(t, leg, form) and asked and "return" not in t.requests


def _may_extend(t: Ticket, leg: Leg | None, form: Form) -> bool:
    known = "extension" in t.rules.flows[t.flow]["approvals"]
    most = 3 if t.flow == "consultation" else 10
    asked = t.count("extensions") == 0 and t.count("extension_requests") < 3 and "extension" not in t.requests
    red = [p for p in t.promises if p.name == "resolve"][-1].breached_at is not None
    return _is_lead(t, leg, form) and known and asked and not red and form["days"] <= most


def _may_pause(t: Ticket, leg: Leg | None, form: Form) -> bool:
    asked = t.count("pauses") < 2 and t.count("pause_requests") < 4
    return _is_lead(t, leg, form) and asked and "pause" not in t.requests


def _may_reopen(t: Ticket, leg: Leg | None, form: Form) -> bool:
    return t.count("reopenings") < 3 and t.outcome not in {"merged", "withdrawn"}


ACTS: dict[str, Act] = {
    "dispatch": Act("dispatcher", ("dispatching", "accepting"), _dispatch),
    "accept": Act(
        "handler", ("accepting",), _accept, lambda t, leg, f: _is_lead(t, leg, f) and "return" not in t.requests
    ),
    "log_contact": Act("handler", ("accepting", "handling", "waiting", "reviewing"), _log_contact),
    "submit_plan": Act("handler", ("handling",), lambda t, leg, f, now: t.meet(now, "opinion"), _is_lead),
    "add_co_handler": Act(
        "dispatcher", WORKED, _add_co_handler, lambda t, leg, form: t.leg_of(form["department"]) is None
    ),
    "request_return": Act("handler", WORKED, _ask("return"), _may_return),
    "request_extension": Act("handler", ("handling",), _ask("extension"), _may_extend),
    "request_pause": Act("handler", ("handling",), _ask("pause"), _may_pause),
    "resume": Act("handler", ("waiting",), _resume, _is_lead),
    "submit_reply": Act("handler", ("handling",), _submit_reply, lambda t, leg, f: leg.state != "submitted"),
    "approve_reply": Act("dispatcher", ("auditing",), _approve_reply),
    "reject_reply": Act("dispatcher", ("auditing",), _reject_reply),
    "record_callback": Act(
        "hotline", ("callback",), _record_callback, lambda t, leg, form: not _closes(t, form) or t.may_close()
    ),
    "escalate": Act(
        "dispatcher", UNDECIDED, lambda t, leg, f, now: t.propose(now), lambda t, leg, f: t.review() is None
    ),
    "comment": Act("dispatcher", OPEN, _nothing),
    "urge": Act("hotline", OPEN, _nothing),
    "reclassify": Act("dispatcher", OPEN, _reclassify),
    "reopen": Act("dispatcher", ("closed",), _reopen, _may_reopen),
    "withdraw": Act("dispatcher", OPEN, _withdraw, lambda t, leg, form: t.may_close()),
}
