"""What must hold of every ticket as it is stored: the promises, as pure functions over everything known of one ticket.

Each rule looks at one kind of thing and yields a verdict for each: None when it is as it should be, else a short reason.
Codes: P3 is the promise "nothing forgotten"; I1 to I14 are the invariants that must hold after any crash. How each is
read on these tables, where a timer is a clock's `next_fire_at` and the claim of a rung is a firing (clock, rung):

  projection   each open clock's due_at, provisional and next_fire_at are what its ledger gives under its calendar
               version and its workflow, requests that wait for a decision included; the ticket's next_due_at too
  explanation  the stretches that explain a clock add up to budget and extensions and end at its due time, ended or not
  P3   an open ticket has a running clock, or a paused one whose pause ends by itself. A held clock waits for an audit,
       which is a running clock. Every clock that is paused or held has an open span that says so
  I1   no timer is ten minutes overdue while a pump is at work
  I2   a clock's fired rungs are those of its firings, each once; a cycle that continues another has that one's too.
       Twice cannot be written (primary key; see `schema`)
  I3   each firing has exactly one event that tells of it, and each such event its firing. Where a promise was made anew
       one event tells of all the rungs that lie behind (superseded)
  I4   that event took effect at the firing's due instant, or names it where it tells of superseded rungs
  I5   no firing is older than its due instant, and its event tells the same
  I6   a running clock with rungs left has a timer, and no other clock has one
  I7   met is not late, breached is not on time, and a breach is dated at the due time unless the promise was changed
  I8   events are numbered without gaps, chained by their hashes, and end where the ticket says
  I9   replaying the events gives the stored stage, phase, round and closing time; the approvals, reviews and measures
       in their states; the clocks started, met, cancelled and extended, by name. Each event is read by the version of the
       workflow that was in force when it was told. A person's action, an approval and a migration tell
       from which stage to which; for a timer's rung and a review's step the workflow says where they may lead
  I10  each event is in exactly one message of the outbox, and no message tells of another
  I12  each reveal of a contact has its entry in the audit, and each entry its reveal. Every other change of a ticket is
       told by its own history, which is the audit of it
  I15  what a meeting decided stands on its agenda as it does on the matter; a matter is listed by one meeting at a time
  I13  nothing that belongs to a closed ticket is open: clock, leg, approval, review, measure
  I14  no rung of a clock took effect after the clock had ended

I11 (a kept 2xx answer has its ticket) and `schema` (the constraints that make the rest impossible are there) are asked
of the database as a whole: `service.usecases.integrity`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from service.core import clocks, history
from service.core.definitions import Branch, Rung, Workflow
from service.core.draft import Draft, Env
from service.core.model import Clock, ClockState, Ticket

RUNNING = frozenset({ClockState.RUNNING, ClockState.BREACHED_RUNNING})
STOPPED = frozenset({ClockState.PAUSED, ClockState.HELD})
LONGEST_OVERDUE = timedelta(minutes=10)
FIRED = frozenset({"clock.fired", "clock.breached"})
"""Events that tell of one firing each: `clock_id` and `rung` in their data."""
DECIDED = frozenset({"approval.approved", "approval.denied"})
REBOUND = frozenset({"clock.rebound", "clock.breached_on_rebind"})
"""Events of a promise made anew (T8): their `superseded` lists the rungs that lie behind, each with its due time."""

MIGRATED = frozenset({"workflow.migrated", "workflow.migrated_back"})
REBOUND_TICKET = MIGRATED | {"ticket.rebound"}
"""Events from which on another workflow or version is in force: `before` and `after` in their data."""

Verdicts = Iterator[str | None]


@dataclass(frozen=True, slots=True)
class Case:
    """One ticket with all that is stored of it, as of one instant.

    `events`: in order, as stored, instants as datetimes, with `id`. `firings`: rows of its clocks. `aside`: ids of
    clocks whose timer failed and waits or was given up. `told`: ids of events named by the outbox, repeats kept.
    `reveals`: (subject, reason) of each audit entry of a reveal. `pump_at_work`: whether overdue timers count.
    """

    ticket: Ticket
    env: Env
    next_due_at: datetime | None
    events: Sequence[Mapping[str, Any]]
    firings: Sequence[Mapping[str, Any]]
    aside: frozenset[str]
    told: Sequence[str]
    reveals: Sequence[tuple[str, str]]
    pump_at_work: bool
    agenda: Sequence[Mapping[str, Any]] = ()
    """Its matters on agendas: meeting, review, state, decision, decided_at and the state of the meeting."""
    flows: Mapping[tuple[str, int], Workflow] = field(default_factory=dict)
    """Workflows by key and version: those that this ticket and its ended clocks were under before."""

    def policy_of(self, clock: Clock) -> Workflow:
        """What a clock was last bound to: one that has ended stays with it when its ticket moves on."""
        return self.flows.get((clock.workflow_key, clock.workflow_version), self.env.workflow)

    def times(self, clock: Clock) -> Sequence[tuple[str, clocks.RungTime]]:
        return self.policy_of(clock).clocks[clock.name].times

    def in_force(self) -> Iterator[tuple[Mapping[str, Any], Workflow]]:
        """Each event with the workflow that was in force when it was told."""
        changes = [e["data"] for e in self.events if e["type"] in REBOUND_TICKET]
        flow = self._version(changes[0]["before"]) if changes else self.env.workflow
        for event in self.events:
            if event["type"] in REBOUND_TICKET:
                flow = self._version(event["data"]["after"])
            yield event, flow

    def _version(self, named: Mapping[str, Any]) -> Workflow:
        return self.flows.get((named["key"], named["version"]), self.env.workflow)

    def deciding(self, clock: Clock) -> bool:
        return Draft(self.ticket, self.env).deciding(clock)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with its titles, and what it looks at in one case."""

    code: str
    zh: str
    en: str
    look: Callable[[Case], Verdicts]


# --- clocks and their projections ------------------------------------------------------------------------------------


def projection(case: Case) -> Verdicts:
    for clock in case.ticket.clocks:
        if clock.open and clock.id not in case.aside:
            yield _projected(case, clock)
    running = [c.due_at for c in case.ticket.clocks if c.state in RUNNING]
    yield _differs("next_due_at of the ticket", case.next_due_at, min(running, default=None))


def _projected(case: Case, clock: Clock) -> str | None:
    calendar = case.env.calendar_of(clock)
    fresh = clocks.project(clock, case.times(clock), calendar, case.deciding(clock))
    told = [
        _differs("due_at", clock.due_at, fresh.due_at),
        _differs("provisional", clock.provisional, fresh.provisional),
        # whether there is a timer at all: I6
        _differs("next_fire_at", clock.next_fire_at, fresh.next_fire_at)
        if clock.next_fire_at and fresh.next_fire_at
        else None,
    ]
    return _joined(clock, told)


def explanation(case: Case) -> Verdicts:
    for clock in case.ticket.clocks:
        calendar = case.env.calendar_of(clock)
        stretches = list(clocks.legs(clock, calendar, clocks.total(clock)))
        # an open clock's stored due time is compared by `projection`
        due_at = clocks.due(clock, calendar) if clock.open else clock.due_at
        yield _joined(
            clock,
            [
                _differs("sum of the stretches", sum(leg.amount for leg in stretches), clocks.total(clock)),
                _differs("due_at", due_at, stretches[-1].end),
            ],
        )


def never_without_a_clock(case: Case) -> Verdicts:
    if not case.ticket.open:
        return
    yield None if any(holds_the_ticket(c) for c in case.ticket.clocks) else "open, and no clock holds it"
    for clock in case.ticket.clocks:
        if clock.state in STOPPED:
            open_spans = any(s.end is None for s in clock.segments)
            yield None if open_spans else f"{_name(clock)} is {clock.state} without an open span"


def holds_the_ticket(clock: Clock) -> bool:
    """P3: it runs, or it is paused and the pause ends by itself."""
    if clock.state is ClockState.PAUSED:
        return any(s.end is None and s.until is not None for s in clock.segments)
    return clock.state in RUNNING


def not_overdue(case: Case) -> Verdicts:
    if not case.pump_at_work:
        return
    for clock in case.ticket.clocks:
        if clock.next_fire_at is not None and clock.id not in case.aside:
            late = case.env.now - clock.next_fire_at
            yield f"{_name(clock)} is due for {late}" if late > LONGEST_OVERDUE else None


def timer_where_one_is_due(case: Case) -> Verdicts:
    for clock in case.ticket.clocks:
        if clock.id in case.aside:
            continue
        upcoming = clocks.next_rung(clock, case.times(clock), case.env.calendar_of(clock), case.deciding(clock))
        if (upcoming is None) == (clock.next_fire_at is None):
            yield None
        elif upcoming is None:
            yield f"{_name(clock)} is {clock.state} with a timer"
        else:
            yield f"{_name(clock)} has no timer for its rung {upcoming[0]}"


def breach_is_a_fact(case: Case) -> Verdicts:
    for clock in case.ticket.clocks:
        yield _joined(clock, _unlawful(case, clock))


def _unlawful(case: Case, clock: Clock) -> Iterator[str | None]:
    breached, ended = clock.breached_at, clock.ended_at
    if clock.state is ClockState.MET and ended is not None and ended > clock.due_at:
        yield None if _was_deciding(case, clock) else "met after its due time"
    if clock.state is ClockState.BREACHED_MET and ended is not None and breached is not None:
        # answered, and only then promised anew for an earlier time (T8): met when it was submitted (T10), red from the change
        anew = any(change["at"] == breached.isoformat() for change in clock.changes)
        yield "ended before its breach" if ended < breached and not anew else None
    must_be = clock.state in {ClockState.BREACHED_RUNNING, ClockState.BREACHED_MET}
    must_not = clock.state in {ClockState.RUNNING, ClockState.MET}
    yield "breached without an instant" if must_be and breached is None else None
    yield f"{clock.state} with a breach" if must_not and breached is not None else None
    changed = bool(clock.changes) or _continues(clock)
    extended = any(breached is not None and e.at >= breached for e in clock.extensions)
    if breached is not None and not changed and not extended:
        yield _differs("breached_at", breached, clock.due_at)
    # a clock that was late before any timer could look ends in the act that made it: no rung of it ever fired
    at_once = clock.state is ClockState.BREACHED_MET and not clock.fired
    if not changed and not at_once:
        yield "breached without the rung" if (breached is None) is ("breach" in clock.fired) else None


def _was_deciding(case: Case, clock: Clock) -> bool:
    """Whether at its due time somebody had still to decide a request that keeps the clock from turning red (T7)."""
    delays = {kind for kind, a in case.policy_of(clock).approvals.items() if clock.name in a.delays}
    return any(
        a.kind in delays and a.requested_at <= clock.due_at and (a.decided_at is None or a.decided_at >= clock.due_at)
        for a in case.ticket.approvals
    )


# --- firings -----------------------------------------------------------------------------------------------------------


def fired_once(case: Case) -> Verdicts:
    by_clock: dict[str, list[str]] = {}
    for firing in case.firings:
        by_clock.setdefault(firing["clock_id"], []).append(firing["rung"])
    for clock in case.ticket.clocks:
        if len(set(clock.fired)) != len(clock.fired):
            yield f"{_name(clock)} names a rung twice: {', '.join(clock.fired)}"
        own = set(by_clock.get(clock.id, ()))
        odd = (own - set(clock.fired)) | (set(clock.fired) - own - _inherited(case, clock))
        yield f"{_name(clock)} and its firings differ in {', '.join(sorted(odd))}" if odd else None
    for firing in case.firings:
        yield None if firing["ticket_id"] == case.ticket.id else f"{_rung(firing)} belongs to another ticket"


def _inherited(case: Case, clock: Clock) -> set[str]:
    """Rungs that fired in the cycle which this one continues (T3): they are facts of that one."""
    if not _continues(clock):
        return set()
    return {r for c in case.ticket.clocks if c.name == clock.name and c.cycle < clock.cycle for r in c.fired}


def _continues(clock: Clock) -> bool:
    return any(s.kind == clocks.CLOSED for s in clock.segments)


def each_firing_is_told(case: Case) -> Verdicts:
    told = Counter(said.key for event in case.events for said in _told_by(event))
    fired = {_key(firing) for firing in case.firings}
    for key in fired:
        yield None if told[key] == 1 else f"{key[1]} of clock {key[0]} is told by {told[key]} events"
    for key in told:
        if key not in fired:
            yield f"an event tells of {key[1]} of clock {key[0]}, which did not fire"


@dataclass(frozen=True, slots=True)
class Said:
    """What an event says of one firing: (clock id, rung), when it was due and when it fired."""

    key: tuple[str, str]
    due_at: datetime
    fired_at: datetime


def _told_by(event: Mapping[str, Any]) -> Iterator[Said]:
    data, at = event["data"], event["occurred_at"]
    if event["type"] in FIRED:
        yield Said((data["clock_id"], data["rung"]), at, datetime.fromisoformat(data["fired_at"]))
    elif event["type"] in REBOUND:
        for rung in data["superseded"]:
            yield Said((data["clock_id"], rung["rung"]), datetime.fromisoformat(rung["due_at"]), at)


def effect_at_the_due_instant(case: Case) -> Verdicts:
    for firing, said in _with_events(case):
        other = _differs("due_at", firing["due_at"], said.due_at)
        yield f"{_rung(firing)}: {other}" if other else None


def never_before_its_time(case: Case) -> Verdicts:
    for firing, said in _with_events(case):
        if firing["fired_at"] < firing["due_at"]:
            yield f"{_rung(firing)} fired {firing['due_at'] - firing['fired_at']} before it was due"
        else:
            other = firing["fired_at"] != said.fired_at
            yield f"{_rung(firing)} fired at another instant than its event tells" if other else None


def _with_events(case: Case) -> Iterator[tuple[Mapping[str, Any], Said]]:
    """Each firing with what its event says of it; those without: I3."""
    told = {said.key: said for event in case.events for said in _told_by(event)}
    for firing in case.firings:
        if _key(firing) in told:
            yield firing, told[_key(firing)]


def nothing_after_the_end(case: Case) -> Verdicts:
    ended = {c.id: c.ended_at for c in case.ticket.clocks if c.ended_at is not None}
    for firing in case.firings:
        end = ended.get(firing["clock_id"])
        if end is not None:
            yield f"{_rung(firing)} took effect after its clock had ended" if firing["due_at"] > end else None


# --- history -----------------------------------------------------------------------------------------------------------


def whole_history(case: Case) -> Verdicts:
    rows = ({**e, **{k: e[k].isoformat() for k in ("occurred_at", "recorded_at")}} for e in case.events)
    bad = history.verify(rows, case.ticket.last_seq, case.ticket.head_hash)
    yield None if bad is None else f"the history is broken from event {bad} on"


def each_event_goes_out_once(case: Case) -> Verdicts:
    told, known = Counter(case.told), {e["id"] for e in case.events}
    for event in case.events:
        times = told[event["id"]]
        yield None if times == 1 else f"event {event['seq']} is in {times} messages"
    for event_id in told:
        if event_id not in known:
            yield f"a message tells of the event {event_id}, which is not there"


def reveals_are_audited(case: Case) -> Verdicts:
    audited = Counter(case.reveals)
    revealed = Counter(
        (e["actor"]["subject"], e["data"].get("reason", "")) for e in case.events if e["type"] == "contact.revealed"
    )
    for key in audited | revealed:
        for _ in range(max(audited[key], revealed[key])):
            other = f"{key[0]} revealed {revealed[key]} times, the audit has {audited[key]}"
            yield None if audited[key] == revealed[key] else other


def nothing_open_when_closed(case: Case) -> Verdicts:
    ticket = case.ticket
    if ticket.open:
        return
    for clock in ticket.clocks:
        yield f"{_name(clock)} is {clock.state}" if clock.open else None
    for leg in ticket.assignments:
        yield f"the leg of {leg.department} is {leg.state}" if leg.open else None
    for approval in ticket.approvals:
        yield f"a request ({approval.kind}) is pending" if approval.state == "pending" else None
    for review in ticket.reviews:
        yield f"review {review.number} is {review.state}" if review.open else None
    for task in ticket.measures:
        yield f"a measure of {task.department} is {task.state}" if task.open else None


def meetings_agree(case: Case) -> Verdicts:
    """What a meeting decided stands on its agenda as it stands on the matter, and a matter on one agenda at a time."""
    by_review: dict[str, list[Mapping[str, Any]]] = {r.id: [] for r in case.ticket.reviews}
    for item in case.agenda:
        by_review.setdefault(item["review_id"], []).append(item)
    known = {r.id: r for r in case.ticket.reviews}
    for key, items in by_review.items():
        review = known.get(key)
        if review is None:
            yield f"an agenda lists the review {key}, which is not this ticket's"
            continue
        listed = [i for i in items if i["state"] == "listed" and i["meeting_state"] == "planned"]
        own = next((i for i in items if i["meeting_id"] == review.meeting_id), None)
        if review.meeting_id is not None and own is None:
            yield f"review {review.number} names a meeting that does not list it"
        if review.state == "preparing" and len(listed) > 1:
            yield f"review {review.number} is listed by {len(listed)} meetings"
        for item in items:
            decided = item["state"] == "decided"
            same = decided and (item["decision"], item["decided_at"]) == (review.decision, review.decided_at)
            wrong = f"review {review.number}: its meeting's agenda and the review tell of different decisions"
            yield wrong if decided and not same else None
        if own is not None and review.state in {"decided", "completed"}:
            told = f"review {review.number} is {review.state}, on the agenda it is {own['state']}"
            yield None if own["state"] == "decided" else told


def replay_gives_the_state(case: Case) -> Verdicts:
    told = [*_stage(case), *_round(case), *_closing(case), *_requests(case), *_reviews(case), *_measures(case)]
    told += _started_and_ended(case)
    yield "; ".join(told) or None


def _stage(case: Case) -> Iterator[str]:
    ticket, flow = case.ticket, case.env.workflow
    possible: set[str] = set()
    since_told: set[str] = set()
    for event, flow_then in case.in_force():
        data = event["data"]
        if isinstance(data.get("to"), str):
            # a review proposed on the way is told before the action that proposes it
            if data["from"] not in since_told:
                yield f"event {event['seq']} comes from {data['from']}, the ticket was in {_listed(possible)}"
            possible = since_told = {data["to"]}
        else:
            possible = _after(flow_then, event, possible)
            since_told = since_told | possible
    if ticket.stage not in possible:
        yield f"stage: stored {ticket.stage}, the events lead to {_listed(possible)}"
    if ticket.stage in flow.stages and flow.phase(ticket.stage) is not ticket.phase:
        yield f"phase: stored {ticket.phase}, the stage is of {flow.phase(ticket.stage)}"


def _after(flow: Workflow, event: Mapping[str, Any], possible: set[str]) -> set[str]:
    """The stages after an event that does not tell its own: what the workflow gives the rung or the review's step."""
    out: set[str] = set()
    for branch in _branches(flow, event):
        out |= possible if branch.to is None else {branch.to}
        if branch.when is None:
            return out
    return out | possible


def _branches(flow: Workflow, event: Mapping[str, Any]) -> Sequence[Branch | Rung]:
    """The branches of the workflow of which an event's decision took the first that applied."""
    type_, data = str(event["type"]), event["data"]
    kind, _, name = type_.partition(".")
    if type_ == "ticket.opened":
        how = "answered" if data.get("answered") else "routed" if data.get("lead") else "unrouted"
        return [flow.opened[how]]
    if type_ in FIRED and data["clock"] in flow.clocks:
        rung = flow.clocks[data["clock"]].rungs.get(data["rung"])
        return [rung] if rung else []
    if kind == "review":
        return flow.review.get(name, ())
    if type_ in DECIDED and data.get("kind") in flow.approvals:
        approval = flow.approvals[data["kind"]]
        return [approval.approve if name == "approved" else approval.deny]
    if kind == "ticket" and name in flow.actions and isinstance(data.get("to"), str):
        return [b for b in flow.actions[name].branches if data["to"] == (b.to or data["from"])]
    return ()


def _round(case: Case) -> Iterator[str]:
    least = most = 1
    for event, flow in case.in_force():
        starts = [any(verb == "new_round" for verb, _ in b.effects) for b in _branches(flow, event)]
        least, most = least + (all(starts) and bool(starts)), most + any(starts)
    if not least <= case.ticket.round <= most:
        yield f"round: stored {case.ticket.round}, the events make it {least} to {most}"
    numbers = [r.number for r in case.ticket.rounds]
    if numbers != list(range(1, case.ticket.round + 1)):
        yield f"rounds: stored {numbers}, the ticket is in round {case.ticket.round}"


def _closing(case: Case) -> Iterator[str]:
    closed_at = case.ticket.closed_at
    if (closed_at is None) is not case.ticket.open:
        yield f"closed_at: stored {closed_at}, the phase is {case.ticket.phase}"
    if closed_at is not None and not any(e["occurred_at"] == closed_at for e in case.events):
        yield f"closed_at: no event took effect at {closed_at}"


def _requests(case: Case) -> Iterator[str]:
    decided = Counter(
        (e["data"]["approval"], str(e["type"]).partition(".")[2]) for e in case.events if e["type"] in DECIDED
    )
    kept = Counter((a.id, a.state) for a in case.ticket.approvals if a.state in {"approved", "denied"})
    if decided != kept:
        yield f"approvals: {len(decided)} decided by events, {len(kept)} stored, or others"
    asked = Counter(kind for e in case.events for kind in _changed(e, "requested"))
    yield from _counts("requests", asked, Counter(a.kind for a in case.ticket.approvals))


_REVIEW_STATES = {
    "proposed": "proposed", "accepted": "preparing", "refused": "refused", "decided": "decided",
    "completed": "completed", "withdrawn": "withdrawn",
}  # fmt: skip


def _reviews(case: Case) -> Iterator[str]:
    states: dict[str, str] = {}
    for event in case.events:
        kind, _, step = str(event["type"]).partition(".")
        if kind == "review" and step in _REVIEW_STATES:
            states[event["data"]["review"]] = _REVIEW_STATES[step]
    yield from _states("review", states, {r.id: (r.state, r.open) for r in case.ticket.reviews}, case)


def _measures(case: Case) -> Iterator[str]:
    states = {m.id: "open" for m in case.ticket.measures}
    for event in case.events:
        kind, _, step = str(event["type"]).partition(".")
        if kind == "measure" and step in {"struck_off", "waived"}:
            states[event["data"]["measure"]] = step
    stored = {m.id: (m.state if not m.open else "open", m.open) for m in case.ticket.measures}
    yield from _states("measure", states, stored, case)


def _states(what: str, told: Mapping[str, str], stored: Mapping[str, tuple[str, bool]], case: Case) -> Iterator[str]:
    """Compare by id. Closing a ticket ends what is left of it by itself: that is told by the closing."""
    for key in {*told, *stored}:
        state, still_open = stored.get(key, ("missing", True))
        ended_by_closing = _was_closed(case) and not still_open and told.get(key) in {"open", *_OPEN_REVIEW}
        if told.get(key) != state and not ended_by_closing:
            yield f"{what} {key}: stored {state}, the events make it {told.get(key, 'missing')}"


def _was_closed(case: Case) -> bool:
    """Now, or once: it may have been taken up again."""
    return not case.ticket.open or any(e["type"] == "ticket.reopen" for e in case.events)


_OPEN_REVIEW = frozenset({"proposed", "preparing", "decided"})


def _started_and_ended(case: Case) -> Iterator[str]:
    stored = case.ticket.clocks
    started, renamed = _named(case, "started"), [r for e in case.events for r in _renamed(e)]
    for name in renamed:
        started[name["from"]] -= 1
        started[name["to"]] += 1
    yield from _counts("clocks started", started, Counter(c.name for c in stored))
    met = Counter(c.name for c in stored if c.state in {ClockState.MET, ClockState.BREACHED_MET})
    yield from _counts("clocks met", _named(case, "met"), met)
    cancelled = Counter(c.name for c in stored if c.state is ClockState.CANCELLED)
    yield from _counts("clocks cancelled", _named(case, "cancelled"), cancelled)
    # a promise made anew in other units loses its extensions, one that is continued has those of the last cycle too
    anew = {c.name for c in stored if c.changes or _continues(c)} | {name["from"] for name in renamed}
    extended = Counter(c.name for c in stored for _ in c.extensions if c.name not in anew)
    told = Counter({name: n for name, n in _named(case, "extended").items() if name not in anew})
    yield from _counts("clocks extended", told, extended)


def _named(case: Case, what: str) -> Counter[str]:
    return Counter(name for event in case.events for name in _changed(event, what))


def _renamed(event: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Open clocks that went on under another name when their ticket was migrated."""
    return event["data"]["renamed"] if event["type"] in MIGRATED else ()


def _changed(event: Mapping[str, Any], what: str) -> Iterable[str]:
    changes = event["data"].get("clocks")
    return changes.get(what, ()) if isinstance(changes, dict) else ()


def _counts(what: str, told: Counter[str], stored: Counter[str]) -> Iterator[str]:
    for name in sorted({*told, *stored}):
        if told[name] != stored[name]:
            yield f"{what}: {stored[name]} of {name} stored, {told[name]} told by events"


# --- how things are named ----------------------------------------------------------------------------------------------


def _name(clock: Clock) -> str:
    return f"clock {clock.name}/{clock.cycle}"


def _rung(firing: Mapping[str, Any]) -> str:
    return f"{firing['rung']} of clock {firing['clock_id']}"


def _key(firing: Mapping[str, Any]) -> tuple[str, str]:
    return firing["clock_id"], firing["rung"]


def _listed(stages: set[str]) -> str:
    return " or ".join(sorted(stages)) or "no stage"


def _differs(what: str, stored: Any, fresh: Any) -> str | None:
    return None if stored == fresh else f"{what} is {_plain(stored)}, should be {_plain(fresh)}"


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _joined(clock: Clock, told: Iterable[str | None]) -> str | None:
    found = [reason for reason in told if reason]
    return f"{_name(clock)}: {'; '.join(found)}" if found else None


RULES: tuple[Rule, ...] = (
    Rule("projection", "到期时间与账目一致", "due times are what the ledgers give", projection),
    Rule("explanation", "时限说明合计相符", "explanations add up", explanation),
    Rule("P3", "在办工单必有时限", "an open ticket has a clock or a pause with an end", never_without_a_clock),
    Rule("I1", "无逾时未触发的定时", "no timer waits while a pump is at work", not_overdue),
    Rule("I2", "每级提醒只触发一次", "each rung fired once, as its clock says", fired_once),
    Rule("I3", "触发与事件一一对应", "each firing has its event", each_firing_is_told),
    Rule("I4", "事件时间即到期时间", "effects carry the due instant", effect_at_the_due_instant),
    Rule("I5", "无提前触发", "nothing fired before its time", never_before_its_time),
    Rule("I6", "运行中的时限有定时", "running clocks have their timer, others none", timer_where_one_is_due),
    Rule("I7", "超期为事实", "met is not late, a breach stays one", breach_is_a_fact),
    Rule("I8", "历史连续成链", "histories are whole and chained", whole_history),
    Rule("I9", "重放事件等于现状", "replaying the events gives the state", replay_gives_the_state),
    Rule("I10", "每个事件发出一次", "each event is in one message", each_event_goes_out_once),
    Rule("I12", "查看联系方式有审计", "reveals are audited", reveals_are_audited),
    Rule("I13", "办结后无未了事项", "nothing is open on a closed ticket", nothing_open_when_closed),
    Rule("I15", "会议议程与议题一致", "agendas and matters agree", meetings_agree),
    Rule("I14", "时限结束后无触发", "nothing fired after its clock ended", nothing_after_the_end),
)
