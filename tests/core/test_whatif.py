"""What-if: a recorded life comes out as it was, and a draft does to it what the engine itself would do."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

import pytest

from service.core import measures, review, workflow
from service.core.calendar import Calendar
from service.core.definitions import Workflow, compile_workflow
from service.core.draft import Env, RouteTo
from service.core.errors import JiebanError
from service.core.model import SYSTEM, Actor, Phase, Ticket, evolve
from service.core.policies import Policies
from service.core.recorded import Reader
from service.core.replay import Memory
from service.core.whatif import Kept, Leg, Life, Record, Rules, Step, World, live
from tests import builders
from tests.builders import BAD, DISPATCHER, HOTLINE, LEAD, PAUSE, REPLY, SOLVED, Case, at, folder

LONG_AGO = at("2020-01-01 00:00")


def rules(flow: Workflow | None = None, calendar: Calendar | None = None) -> Rules:
    usual = builders.calendar()
    return Rules(
        workflow=lambda version: builders.flow(version[0]),
        calendars={(usual.key, 1): usual},
        calendars_at=[(LONG_AGO, {usual.key: usual})],
        newest=builders.policies(),
        departments=builders.departments(),
        matters=builders.matters(),
        draft_workflow=flow,
        draft_calendar=calendar,
    )


def recorded(case: Case, opened: Ticket | None = None) -> Record:
    """What the house would have stored of this case, read back."""
    ticket = case.ticket
    row = {name: getattr(ticket, name) for name in (
        "id", "number", "workflow_key", "workflow_version", "domain", "matter", "urgency", "district", "received_at",
        "created_at", "closed_at", "outcome", "lead")}  # fmt: skip
    entries = [
        (e.type, e.occurred_at,
         {"subject": e.actor.subject, "role": str(e.actor.role), "departments": list(e.actor.departments)}, e.data)
        for e in case.events
    ]  # fmt: skip
    kept = [
        Kept(c.name, c.cycle, c.state, c.due_at, c.breached_at, c.fired, c.family, c.department) for c in ticket.clocks
    ]
    cards = [(c["level"], datetime.fromisoformat(c["at"])) for c in ticket.facts.get("cards", ())]
    legs = [Leg(a.department, a.dispatched_at, a.ended_at) for a in ticket.assignments]
    proposed = [r.proposed_at for r in ticket.reviews]
    measures = [{"id": m.id, "review_id": m.review_id, "department": m.department, "due_on": m.due_on,
                 "mandatory": m.mandatory} for m in ticket.measures]  # fmt: skip
    return Reader([(LONG_AGO, ("cn-jinan", 1))]).read(
        row, entries, measures, clocks=kept, legs=legs, cards=cards, proposed=proposed
    )


def lived(record: Record, given: Rules, *, draft: bool, as_of: datetime, **how: Any) -> Life:
    return live(record, World(given, draft=draft), Memory(), as_of, **how)


def changed(key: str, **clocks: Mapping[str, Any]) -> Workflow:
    """The shipped workflow with other clocks, as a draft."""
    plain = deepcopy(dict(folder().workflows[key]))
    for name, values in clocks.items():
        plain["clocks"][name] = {**plain["clocks"][name], **values}
    return compile_workflow(plain, 2)


def state_of(ticket: Ticket) -> dict[str, Any]:
    """Everything of a ticket that replaying keeps, with ids by order of appearance."""
    names: dict[str, str] = {}

    def named(id_: str | None) -> str | None:
        return None if id_ is None else names.setdefault(id_, f"#{len(names)}")

    legs = [(named(a.id), a.department, a.role, a.state, a.round, a.dispatched_at, a.accepted_at, a.auto_accepted,
             a.submitted_at, a.ended_at, a.end_reason) for a in ticket.assignments]  # fmt: skip
    clocks = [(c.name, c.cycle, named(c.assignment_id), c.measure, c.budget, c.anchor, c.state, c.due_at,
               c.original_due_at, [(s.kind, s.start, s.end, s.until) for s in c.segments],
               [(e.amount, e.at) for e in c.extensions], c.fired, c.breached_at, c.held_at, c.ended_at, c.end_reason,
               c.next_fire_at, c.department, c.escalates_from, c.workflow_key) for c in ticket.clocks]  # fmt: skip
    return {
        "where": (ticket.stage, ticket.phase, ticket.round, ticket.lead, ticket.outcome, ticket.closed_at),
        "what": (ticket.domain, ticket.matter, ticket.urgency, dict(ticket.counters)),
        "legs": legs,
        "clocks": clocks,
        "rounds": [replace(r, ticket_id="") for r in ticket.rounds],
        "approvals": [(a.kind, a.state, a.requested_at, a.decided_at) for a in ticket.approvals],
        "reviews": [(r.state, r.grounds, r.proposed_at, r.decision, r.completed_at) for r in ticket.reviews],
        "measures": [(m.department, m.due_on, m.mandatory, m.state) for m in ticket.measures],
        "cards": [(c["level"], c["clock"], c["at"]) for c in ticket.facts.get("cards", ())],
    }


# --- the engine itself, as the measure ---------------------------------------------------------------------------------


def by_the_engine(record: Record, given: Rules, as_of: datetime) -> tuple[Ticket, set[str]]:
    """The same steps by the engine, act by act, from one saved ticket to the next; and what it refused.

    Only for lives in which nothing that moved the ticket is refused.
    """
    world, new_id = World(given, draft=True), builders.ids()
    bound = record.workflow

    def env(ticket: Ticket, step: Step) -> Env:
        made = world.env(flow(ticket), record.district, step, bound, new_id)
        return replace(made, punctual=False)

    def flow(ticket: Ticket) -> Workflow:
        return world.workflow((ticket.workflow_key, ticket.workflow_version))

    first = world.flow_for(bound, record.domain, record.urgency, record.route.lead)
    ticket = Ticket(
        id=record.id, number=record.number, workflow_key=first.key, workflow_version=first.version, stage="",
        phase=Phase.INTAKE, round=1, domain=record.domain, matter=record.matter, urgency=record.urgency,
        district=record.district, received_at=record.received_at, created_at=record.created_at,
        updated_at=record.created_at, version=0,
    )  # fmt: skip
    opening = Step("open", record.created_at, HOTLINE, "open", {})
    ticket = workflow.open_ticket(ticket, record.route, env(ticket, opening), {}, record.answered).after
    refused: set[str] = set()
    for step in record.steps:
        bound = step.bound_to or bound
        here = env(ticket, step)
        try:
            if step.kind == "act":
                decision = workflow.act(ticket, step.name, step.form, here)
            elif step.kind == "approval":
                caught = workflow.fire_due(
                    ticket, replace(here, actor=SYSTEM), step.at - timedelta(microseconds=1)
                ).after
                asked = next((a for a in caught.approvals if a.kind == step.name and a.state == "pending"), None)
                if asked is None:
                    refused.add(step.name)
                    continue
                decision = workflow.decide_approval(ticket, asked.id, step.form["approve"], "", here)
            elif step.kind == "propose":
                decision = review.propose(ticket, step.form, here)
            elif step.kind == "review":
                ticket = workflow.fire_due(
                    ticket, replace(here, actor=SYSTEM), step.at - timedelta(microseconds=1)
                ).after
                docket = ticket.open_review()
                if docket is None:
                    refused.add(step.name)
                    continue
                decision = review.act(ticket, docket.id, step.name, step.form, here)
            else:
                task = ticket.measures[step.form["n"]]
                decision = measures.act(ticket, task.id, step.name, step.form["form"], here)
        except JiebanError:
            refused.add(step.name)
            continue
        ticket = decision.after
    return workflow.fire_due(ticket, env(ticket, Step("timers", as_of, SYSTEM, "", {}))).after, refused


# --- a life as it was ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(150))
def test_a_recorded_life_comes_out_as_it_is_stored(seed: int) -> None:
    case, _ = builders.a_history(Random(seed), length=18)
    case.pump()  # a reply that was sent back makes due what lies behind
    record = recorded(case)
    life = lived(record, rules(), draft=False, as_of=record.last_at)
    assert life.aside is None and life.refused == [] and life.differences == []
    assert state_of(life.ticket) == state_of(case.ticket)


def test_it_comes_out_the_same_when_the_pump_was_days_late() -> None:
    for seed in range(25):
        case, steps = builders.a_history(Random(seed), length=14)
        late = builders.relive(Random(seed), steps, timedelta(days=3))
        assert recorded(late).steps == recorded(case).steps


@pytest.mark.parametrize("key", ["business_development", "government_service", "complaint_report"])
def test_months_of_reminders_side_by_side_are_passed_by_as_they_were_fired(key: str) -> None:
    # nobody looks at it: the series of several clocks interleave, far beyond what is first laid out of a ladder
    case = Case.opened(key, "2026-09-14 10:00").pump(builders.at("2027-03-01 10:00"))
    record = recorded(case)
    assert sorted(len(clock.fired) for clock in record.clocks)[-2] > 12
    life = lived(record, rules(), draft=False, as_of=builders.at("2027-03-01 10:00"))
    assert life.aside is None and life.differences == []
    assert state_of(life.ticket) == state_of(case.ticket)


def test_what_is_stored_otherwise_is_told() -> None:
    case = builders.handled().on("2026-09-15 09:00").act(LEAD, "submit_plan", plan="p")
    record = recorded(case)
    wrong = [replace(k, due_at=k.due_at + timedelta(days=1)) if k.name == "resolve" else k for k in record.clocks]
    wrong_cards = (("red", record.last_at),)
    other = replace(record, clocks=tuple(wrong), cards=wrong_cards)
    life = lived(other, rules(), draft=False, as_of=record.last_at)
    assert len(life.differences) == 2
    assert life.differences[0].startswith("resolve/1: due_at is 2026-10-1") and life.differences[1].startswith(
        "cards: 0"
    )


# --- a life under a draft ----------------------------------------------------------------------------------------------


def a_draft(key: str, rng: Random) -> Workflow:
    """Other budgets, measures and ladders, by chance."""
    resolve: dict[str, Any] = {"budget": rng.randint(1, 12), "rework_budget": rng.randint(1, 6)}
    if rng.random() < 0.3:
        resolve["measure"] = "natural_days"
    if rng.random() < 0.5:
        resolve["rungs"] = [
            {"name": "warning", "share": rng.choice([30, 80]), "effects": [{"notify": ["department"]}]},
            {"name": "yellow", "before": rng.choice([1, 2]), "effects": [{"card": "yellow"}]},
            {"name": "red", "after": rng.choice([1, 3]), "effects": [{"card": "red"}]},
            {"name": "review", "after": 4, "effects": [{"propose_review": "overdue"}]},
            {"name": "supervise", "after": 6, "times": 9, "effects": [{"card": "red"}]},
        ]
    return changed(
        key, resolve=resolve, accept={"measure": "working_hours", "budget": rng.choice(["PT1H", "PT6H"])},
        contact={"measure": "natural_hours", "budget": rng.choice(["PT1H", "PT8H"])},
        co_reply={"budget": rng.randint(1, 5)}, pause_cap={"budget": rng.randint(2, 10)},
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(150))
def test_under_a_draft_it_goes_as_the_engine_makes_it_go(seed: int) -> None:
    rng = Random(seed)
    case, _ = builders.a_history(rng, length=16)
    record = recorded(case)
    calendar = None
    if rng.random() < 0.4:
        body = dict(folder().calendars["cn-jinan"])
        body["day_end"] = "office_close"
        calendar = Calendar.compile(body, 2)
    given = rules(a_draft(record.workflow[0], rng), calendar)
    as_of = record.last_at + timedelta(days=rng.randint(0, 30), microseconds=1)
    life = lived(record, given, draft=True, as_of=as_of)
    if life.aside is not None:
        # the engine refuses that very act: nothing after it is looked at
        before = [s for s in record.steps if s.at < life.aside.at]
        ticket, _ = by_the_engine(
            replace(record, steps=tuple(before)), given, life.aside.at - timedelta(microseconds=1)
        )
        assert state_of(ticket)["where"][1] is life.ticket.phase or life.aside.reason == "effect"
        return
    ticket, refused = by_the_engine(record, given, as_of)
    assert {r.act for r in life.refused} == refused
    assert state_of(life.ticket) == state_of(ticket)


AGAIN = {"name": "again", "after": 1, "times": 12, "effects": [{"notify": ["department"]}]}
GIVE_UP = {"name": "give_up", "after": 6, "effects": [{"cancel": "contact"}]}


@pytest.mark.parametrize("paused", [False, True], ids=["laid out", "paused before"])
@pytest.mark.parametrize("before", [[], [AGAIN]], ids=["at once", "behind a series"])
def test_reminders_are_not_passed_by_where_another_clock_would_have_ended_them(before: list[Any], paused: bool) -> None:
    case = builders.handled("business_development", "2026-09-14 10:00")
    if paused:
        case.on("2026-09-15 10:00").act(LEAD, "request_pause", **PAUSE)
        case.on("2026-09-15 11:00").decide("pause", True).on("2026-09-16 10:00").act(LEAD, "resume")
    record = recorded(case)
    contact = {"rungs": [{**AGAIN, "times": 50, "after": "P1D", "measure": "natural_hours"}]}
    resolve = {"budget": 3, "rungs": [*before, GIVE_UP]}
    given = rules(changed("business_development", contact=contact, resolve=resolve))
    as_of = builders.at("2026-12-01 10:00")
    life = lived(record, given, draft=True, as_of=as_of)
    ticket, refused = by_the_engine(record, given, as_of)
    assert (life.aside, refused) == (None, set())
    ended = next(c for c in ticket.clocks if c.name == "contact")
    assert not ended.open and 3 < len(ended.fired) < 40
    assert state_of(life.ticket) == state_of(ticket)


def replied_on_day_six() -> Case:
    """Received Monday the 14th, replied the next Tuesday (the sixth working day: Sunday is a make-up day)."""
    case = builders.handled("project_landing", "2026-09-14 10:00")
    case.on("2026-09-14 11:00").act(LEAD, "log_contact").act(LEAD, "submit_plan", plan="p")
    case.on("2026-09-22 10:00").act(LEAD, "submit_reply", **REPLY)
    case.on("2026-09-22 15:00").act(DISPATCHER, "approve_reply")
    return case.on("2026-09-23 10:00").act(HOTLINE, "record_callback", **SOLVED)


def test_a_shorter_limit_would_have_been_breached() -> None:
    record = recorded(replied_on_day_six())
    given = rules(changed("project_landing", resolve={"budget": 5}))
    before, after = (lived(record, given, draft=draft, as_of=record.last_at) for draft in (False, True))
    assert [c.breached_at for c in before.ticket.clocks if c.name == "resolve"] == [None]
    # five working days after Monday the 14th: 15, 16, 17, 18 and the make-up Sunday 20
    assert [c.breached_at for c in after.ticket.clocks if c.name == "resolve"] == [at("2026-09-21 00:00")]
    assert [level for level, _ in after.cards] == ["yellow", "red"] and before.cards == []
    assert after.ticket.closed_at == before.ticket.closed_at == at("2026-09-23 10:00")


def without(key: str, *path: str) -> Workflow:
    plain = deepcopy(dict(folder().workflows[key]))
    inner = plain
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return compile_workflow(plain, 2)


def test_an_act_that_is_gone_is_told_and_the_rest_goes_on_unless_it_moved_the_ticket() -> None:
    record = recorded(replied_on_day_six())
    life = lived(record, rules(without("project_landing", "actions", "submit_plan")), draft=True, as_of=record.last_at)
    assert [(r.act, r.reason, r.moved) for r in life.refused] == [("submit_plan", "action", False)]
    assert life.aside is None and life.ticket.stage == "closed"
    assert [c.state for c in life.ticket.clocks if c.name == "opinion"] == ["breached_met"], (
        "nobody met it until the reply"
    )

    life = lived(
        record, rules(without("project_landing", "actions", "approve_reply")), draft=True, as_of=record.last_at
    )
    assert life.aside is not None
    assert (life.aside.act, life.aside.reason) == ("approve_reply", "action")
    assert life.ticket.stage == "auditing", "nothing after it is carried out"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stages": ["waiting"]}, "stage"),
        ({"roles": ["reviewer"]}, "role"),
        ({"guard": 'leg.role == "nobody"'}, "guard"),
    ],
)
def test_the_reason_says_what_the_draft_refuses(change: Mapping[str, Any], reason: str) -> None:
    plain = deepcopy(dict(folder().workflows["project_landing"]))
    plain["actions"]["submit_plan"] |= change
    record = recorded(replied_on_day_six())
    life = lived(record, rules(compile_workflow(plain, 2)), draft=True, as_of=record.last_at)
    assert [(r.act, r.reason) for r in life.refused] == [("submit_plan", reason)]


def test_what_a_refused_act_had_begun_is_undone() -> None:
    """A draft whose reply counts before it reaches an effect that cannot be done."""
    plain = deepcopy(dict(folder().workflows["project_landing"]))
    plain["actions"]["submit_plan"]["effects"] = [{"count": "urges"}, {"card": "red"}, "reclassify"]
    record = recorded(replied_on_day_six())
    life = lived(record, rules(compile_workflow(plain, 2)), draft=True, as_of=record.last_at)
    assert [(r.act, r.reason) for r in life.refused] == [("submit_plan", "effect")]
    assert life.cards == [] and "urges" not in life.ticket.counters


def test_a_ticket_that_depends_on_another_is_set_aside() -> None:
    case = builders.handled()
    record = recorded(case)
    assert record.not_replayable is None
    case.events.insert(1, replace(case.events[0], type="ticket.absorbed", data={}))
    life = lived(recorded(case), rules(), draft=False, as_of=record.last_at)
    assert life.aside is not None and life.aside.reason == "joined"
    case.events[1] = replace(case.events[0], type="ticket.something_new", data={"form": None})
    case.events[1] = replace(case.events[1], type="something.new")
    assert recorded(case).not_replayable == "event"


def test_a_draft_touches_only_tickets_that_it_takes() -> None:
    record = recorded(replied_on_day_six())
    assert World(rules(changed("project_landing")), draft=True).touches(record, record.last_at)
    assert not World(rules(changed("consultation")), draft=True).touches(record, record.last_at)
    own = {**folder().workflows["consultation"], "key": "tax_own", "departments": ["tax"], "domains": []}
    overlay = compile_workflow(own, 1)
    world = World(rules(overlay), draft=True)
    assert world.touches(record, record.last_at), "a new overlay of the lead takes what the domain's workflow had"
    life = lived(record, rules(overlay), draft=True, as_of=record.last_at)
    assert (life.ticket.workflow_key, life.ticket.workflow_version) == ("tax_own", 1)


def with_days_off(days: Mapping[str, str], **more: Any) -> Calendar:
    body = deepcopy(dict(folder().calendars["cn-jinan"]))
    for day, name in days.items():
        body["years"][day[:4]].get("work", {}).pop(day, None)
        body["years"][day[:4]]["off"][day] = name
    return Calendar.compile({**body, **more}, 2)


def test_dates_that_two_calendars_count_differently_are_known() -> None:
    usual = builders.calendar()
    assert usual.dates_unlike(usual) == usual.dates_unlike(with_days_off({})) == []
    assert with_days_off({"2026-11-10": "x", "2026-11-14": "a Saturday"}).dates_unlike(usual) == [date(2026, 11, 10)]
    shorter = with_days_off({}, week={**folder().calendars["cn-jinan"]["week"], "fri": [["09:00", "11:00"]]})
    assert {day.isoweekday() for day in shorter.dates_unlike(usual)} >= {5}
    for all_else in ({"zone": "Asia/Tokyo"}, {"day_end": "office_close"}):
        assert len(with_days_off({}, **all_else).dates_unlike(usual)) > 10_000


def test_a_life_that_no_changed_day_meets_is_not_lived_again_and_would_be_the_same() -> None:
    touched = 0
    for seed in range(300):
        rng = Random(seed)
        case, _ = builders.a_history(rng, length=16)
        case.pump(case.now + timedelta(days=rng.randint(0, 20)))
        record = recorded(case)
        days = {(record.received_at.date() + timedelta(days=rng.randint(-6, 20))).isoformat(): "x" for _ in range(2)}
        given = rules(None, with_days_off({day: name for day, name in days.items() if day[:4] in {"2025", "2026"}}))
        if World(given, draft=True).touches(record, case.now):
            touched += 1
            continue
        as_it_was, as_tried = (lived(record, given, draft=draft, as_of=case.now) for draft in (False, True))
        assert as_it_was.aside == as_tried.aside and as_it_was.refused == as_tried.refused, (seed, days)
        assert state_of(as_it_was.ticket) == state_of(as_tried.ticket), (seed, days)
        assert (as_it_was.cards, as_it_was.proposed) == (as_tried.cards, as_tried.proposed), (seed, days)
    assert 50 < touched < 250


def test_a_draft_that_no_longer_takes_a_ticket_leaves_it_to_the_next() -> None:
    record = recorded(replied_on_day_six())
    plain = {**folder().workflows["project_landing"], "domains": ["consultation"]}
    life = lived(record, rules(compile_workflow(plain, 2)), draft=True, as_of=record.last_at)
    assert life.aside is None or life.aside.reason == "effect"
    assert life.ticket.workflow_key == "project_landing", "nothing else takes this domain: it stays"


def test_under_another_route_the_new_lead_does_what_the_old_one_did() -> None:
    record = recorded(replied_on_day_six())
    life = lived(record, rules(), draft=False, as_of=record.last_at, route=RouteTo("finance", (), "r"))
    assert life.refused == [] and life.ticket.stage == "closed"
    assert {a.department for a in life.ticket.assignments} == {"finance"}
    unrouted = lived(record, rules(), draft=False, as_of=record.last_at, route=RouteTo(None))
    assert unrouted.aside is not None and unrouted.aside.act == "accept"


def test_several_rounds_and_a_review_are_lived_again() -> None:
    case = replied_on_day_six()
    case.on("2026-09-25 10:00").act(HOTLINE, "reopen", reason="again").act(LEAD, "accept")
    case.on("2026-09-28 10:00").act(LEAD, "submit_reply", **REPLY).act(DISPATCHER, "approve_reply")
    case.act(HOTLINE, "record_callback", **BAD).pump_on_time(at("2026-12-01 10:00"))
    record = recorded(case)
    life = lived(record, rules(), draft=False, as_of=record.last_at)
    assert life.differences == [] and len(life.proposed) == 1
    assert state_of(life.ticket) == state_of(case.ticket)


def test_versions_of_the_calendar_count_from_when_they_came() -> None:
    """A day off that was announced in the middle moves the due time from then on, in the replay as it did."""
    from service.core import recounting

    body = deepcopy(dict(folder().calendars["cn-jinan"]))
    body.pop("holidays", None)
    later = Calendar.compile({**body, "day_end": "office_close"}, 2)
    case = builders.handled()
    moment = at("2026-09-16 09:00")
    case.pump_on_time(moment)
    case.on(moment)
    case.calendars = {("cn-jinan", 1): builders.calendar(), ("cn-jinan", 2): later}
    decision, same = recounting.recount(case.ticket, later, "new", case.env(Actor("system", SYSTEM.role)))
    case.take(decision)
    case.ticket = evolve(
        case.ticket, clocks=tuple(next((s for s in same if s.id == c.id), c) for c in case.ticket.clocks)
    )
    case.calendar = later
    case.on("2026-09-22 10:00").act(LEAD, "submit_reply", **REPLY)
    record = recorded(case)
    given = replace(
        rules(), calendars=case.calendars,
        calendars_at=[(LONG_AGO, {"cn-jinan": builders.calendar()}), (moment, {"cn-jinan": later})],
    )  # fmt: skip
    life = lived(record, given, draft=False, as_of=record.last_at)
    assert life.differences == []
    assert any(s.kind == "recount" for s in record.steps)


def test_policies_choose_as_recorded_or_the_draft() -> None:
    draft = changed("project_landing")
    world = World(rules(draft), draft=True)
    step = Step("act", at("2026-09-14 10:00"), LEAD, "dispatch", {})
    for bound, chosen in (("project_landing", draft), ("consultation", builders.flow("consultation"))):
        env = world.env(draft, "370102", step, (bound, 1), str)
        assert isinstance(env.policies, Policies)
        assert env.policies.choose("project_landing", "normal", "tax").flow is chosen
