"""What somebody might do to a ticket now: plausible moves, and any at all. Chance is handed in as `below(n)`: 0..n-1."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from tests.simulation import joins
from tests.simulation.acts import ACTS
from tests.simulation.mirror import Mirror
from tests.simulation.model import Ticket

UNITS = ("commerce", "transport", "water")
"""Units without a workflow of their own: the model knows the city's."""
DOMAINS = ("consultation", "project_landing", "business_development", "government_service", "complaint_report")
URGENCIES = ("normal", "normal", "urgent", "emergency")
PAUSES = ("waiting_enterprise", "statutory_procedure", "force_majeure")
WEIGHTS = {"comment": 1, "urge": 1, "withdraw": 1, "escalate": 2, "reclassify": 3, "add_co_handler": 2, "log_contact": 3,
           "submit_plan": 3, "reopen": 12, "accept": 12, "submit_reply": 10}  # fmt: skip
COMMON = 6
"""How likely a move is beside the others; what is not named is common."""

Below = Callable[[int], int]
Move = tuple[int, Callable[[], Awaitable[bool]]]


def plausible(mirror: Mirror, name: str, below: Below) -> list[Move]:
    """Moves that are possible now by the model, each with its weight."""
    ticket = mirror.models[name].ahead(mirror.now)
    found: list[Move] = []
    for action, act in ACTS.items():
        for unit in _units_of(ticket) if act.by == "handler" else [None]:
            form = a_form(action, ticket, below)
            if act.possible(ticket, unit, form):
                found.append((WEIGHTS.get(action, COMMON), _acting(mirror, name, action, unit, form)))
    found += [(12, _deciding(mirror, name, kind, approve=below(5) < 3)) for kind in ticket.requests]
    found += _on_the_docket(mirror, name, ticket, below)
    found += _joins(mirror, name, ticket, below)
    return found


def choose(moves: list[Move], below: Below) -> Callable[[], Awaitable[bool]]:
    at = below(sum(weight for weight, _ in moves))
    for weight, move in moves:
        at -= weight
        if at < 0:
            return move
    raise AssertionError("a weight lies below their sum")


def any_at_all(mirror: Mirror, name: str, below: Below) -> Callable[[], Awaitable[bool]]:
    """A move that may well be impossible: then both cities must say so."""
    ticket = mirror.models[name].ahead(mirror.now)
    known = {a.kind for a in mirror.stored[name].approvals}
    choice = below(6)
    if choice == 0 and known:
        return _deciding(mirror, name, sorted(known)[below(len(known))], approve=bool(below(2)))
    if choice == 1 and ticket.reviews and mirror.stored[name].reviews:
        return _a_step(mirror, name, ticket, below)
    if choice == 2:
        others = sorted(mirror.models)
        return _merging(mirror, name, others[below(len(others))])
    action = sorted(ACTS)[below(len(ACTS))]
    unit = UNITS[below(len(UNITS))] if ACTS[action].by == "handler" else None
    return _acting(mirror, name, action, unit, a_form(action, ticket, below))


def a_form(action: str, t: Ticket, below: Below) -> dict[str, Any]:
    if action == "dispatch":
        return {"department": UNITS[below(3)], "co_handlers": [UNITS[below(3)]] if below(3) == 0 else []}
    if action == "add_co_handler":
        return {"department": UNITS[below(3)]}
    if action == "log_contact":
        return {"reached": below(4) > 0}
    if action == "request_extension":
        return {"days": 1 + below(3 if t.flow == "consultation" else 10)}
    if action == "request_pause":
        return {"kind": PAUSES[below(3)]} | ({"days": 1 + below(10)} if below(3) else {})
    if action == "submit_reply":
        return {"outcome": ("solved", "planned", "not_true")[below(3)]} if below(2) else {}
    if action == "record_callback":
        if below(4) == 0:
            return {"reached": False}
        return {"solved": ("yes", "partly", "no")[below(3)], "satisfaction": ("satisfied", "dissatisfied")[below(2)]}
    if action == "reclassify":
        return {"urgency": URGENCIES[below(4)]} if below(2) else {"domain": DOMAINS[below(5)]}
    return {}


def _units_of(t: Ticket) -> list[str]:
    return [leg.department for leg in t.legs if leg.open]


# --- one closure for each kind of move --------------------------------------------------------------------------------


def _acting(
    mirror: Mirror, name: str, action: str, unit: str | None, form: dict[str, Any]
) -> Callable[[], Awaitable[bool]]:
    return lambda: mirror.act(name, action, unit, **form)


def _deciding(mirror: Mirror, name: str, kind: str, *, approve: bool) -> Callable[[], Awaitable[bool]]:
    return lambda: mirror.decide(name, kind, approve=approve)


def _merging(mirror: Mirror, name: str, into: str) -> Callable[[], Awaitable[bool]]:
    return lambda: mirror.merge(name, into)


def _joins(mirror: Mirror, name: str, ticket: Ticket, below: Below) -> list[Move]:
    found: list[Move] = []
    others = [n for n, other in mirror.models.items() if n != name and other.open]
    if others:
        into = others[below(len(others))]
        if joins.may_merge(ticket, mirror.models[into].ahead(mirror.now)):
            found.append((2, _merging(mirror, name, into)))
    if joins.may_split(ticket):
        domain, unit = DOMAINS[below(5)], UNITS[below(3)]
        found.append((1, lambda: mirror.split(name, domain, unit)))
    return found


# --- the docket -------------------------------------------------------------------------------------------------------


def _on_the_docket(mirror: Mirror, name: str, ticket: Ticket, below: Below) -> list[Move]:
    """Only what the real city knows of already: a proposal made by a timer is there once the timer has fired."""
    stored, found = mirror.stored[name], list[Move]()
    if ticket.review() is not None and len(stored.reviews) == len(ticket.reviews):
        found.append((14, _a_step(mirror, name, ticket, below)))
    tasks = [task.number for task in ticket.tasks if task.open]
    if tasks:
        number = tasks[below(len(tasks))]
        ready = ticket.tasks[number].state == "evidence"
        steps = ("strike_off", "waive", "reschedule") if ready else ("submit_evidence", "report", "waive", "reschedule")
        step = steps[below(len(steps))]
        form = {"due_on": _a_date(mirror, below)} if step == "reschedule" else {}
        found.append((20, lambda: mirror.measure(name, number, step, **form)))
    return found


def _a_step(mirror: Mirror, name: str, ticket: Ticket, below: Below) -> Callable[[], Awaitable[bool]]:
    """A step that is likely for the newest review, as it stands."""
    review = ticket.reviews[-1]
    if review.state == "proposed" and below(8) > 0:
        step, form = "screen", {"decision": "refuse" if below(4) == 0 else "accept"}
    elif below(8) == 0:
        step, form = "withdraw", {}
    elif (waiting := [code for code, given in review.asked.items() if not given]) and below(3) == 0:
        step, form = "give_opinion", {"unit": waiting[below(len(waiting))]}
    elif below(3) == 0:
        step, form = "request_opinions", {"departments": [UNITS[below(3)]]}
    else:
        step, form = "decide", _a_decision(mirror, below)
    return lambda: mirror.review(name, step, **form)


def _a_decision(mirror: Mirror, below: Below) -> dict[str, Any]:
    decision = ("approve", "approve", "refuse", "postpone")[below(4)]
    if decision != "approve":
        return {"decision": decision}
    measures = [
        {"title": "m", "department": UNITS[below(3)], "due_on": _a_date(mirror, below), "mandatory": n == 0}
        for n in range(below(3))
    ]
    replaced = {"clock_effect": "replaced"} if measures and below(2) else {}
    return {"decision": decision, "measures": measures} | replaced


def _a_date(mirror: Mirror, below: Below) -> str:
    return (mirror.today() + timedelta(days=1 + below(30))).isoformat()
