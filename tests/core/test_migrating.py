"""P7: a ticket moves to another version only by an explicit act, with a mapping; undone, its promises are what they were."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import pytest

from service.core import migrating
from service.core.definitions import Workflow, compile_workflow
from service.core.differing import differences
from service.core.invariants import RULES
from service.core.invariants import Case as Judged
from service.core.migrating import Moved, Obstacle, Plan, planned
from service.core.model import SYSTEM, ClockState, Phase
from service.core.policies import Policies
from tests.builders import (
    DISPATCHER,
    EXTENSION,
    LEAD,
    PAUSE,
    REPLY,
    SUPERVISOR,
    Case,
    a_gap,
    a_step,
    at,
    calendar,
    flow,
    folder,
    handled,
    random_opening,
    renamed,
)

KEY = "project_landing"


def version(number: int = 2, key: str = KEY, names: Mapping[str, str] | None = None, **clocks: Any) -> Workflow:
    """A further version: `names` of stages and clocks that change, and what single clocks say differently."""
    plain = renamed(deepcopy(folder().workflows[key]), names or {})
    for name, changes in clocks.items():
        plain["clocks"][name] |= changes
    return compile_workflow(plain, number)


def plan(target: Workflow, stages: Mapping[str, str] | None = None, clocks: Mapping[str, str | None] | None = None,
         source: Workflow | None = None) -> Plan:  # fmt: skip
    return planned("m-1", source or flow(KEY), target, stages or {}, clocks or {}, "the new rules")


def moved(case: Case, wanted: Plan) -> Moved:
    result = migrating.migrate(case.ticket, wanted, case.env(SUPERVISOR))
    assert isinstance(result, Moved), result
    case.take(result.decision)
    case.flow = wanted.target
    return result


def back(case: Case, wanted: Plan, done: Moved) -> Moved | tuple[Obstacle, ...]:
    turned = replace(wanted, source=wanted.target, target=wanted.source, stages={}, clocks={})
    result = migrating.undo(case.ticket, turned, done.kept, done.stage_after, case.env(SUPERVISOR))
    if isinstance(result, Moved):
        case.take(result.decision)
        case.flow = wanted.source
    return result


def stuck(case: Case, wanted: Plan) -> list[tuple[str, str]]:
    result = migrating.migrate(case.ticket, wanted, case.env(SUPERVISOR))
    assert not isinstance(result, Moved)
    return [(o.code, o.name) for o in result]


def agrees(case: Case, *flows: Workflow) -> list[str]:
    """What the invariants that need no database find."""
    events = [
        {"id": str(n), "seq": n, "type": e.type, "occurred_at": e.occurred_at, "data": e.data, "actor": {}}
        for n, e in enumerate(case.events, 1)
    ]
    firings = [{"clock_id": f.clock_id, "rung": f.rung, "ticket_id": case.ticket.id, "due_at": f.due_at,
                "fired_at": f.fired_at, "outcome": f.outcome} for f in case.firings]  # fmt: skip
    known = {(f.key, f.version): f for f in flows}
    nearest = min((c.due_at for c in case.ticket.clocks if c.state in {"running", "breached_running"}), default=None)
    judged = Judged(case.ticket, case.env(SYSTEM), nearest, events, firings, frozenset(), [], [], False, known)
    skipped = {"I8", "I10", "I12"}
    return [f"{r.code}: {told}" for r in RULES if r.code not in skipped for told in r.look(judged) if told]


def test_stages_and_clocks_go_on_under_their_new_names_and_the_promise_is_counted_from_its_own_anchor() -> None:
    case = handled()
    before = case.clock("resolve")
    target = version(names={"handling": "working", "resolve": "settle"}, settle={"budget": 20})
    done = moved(case, plan(target, {"handling": "working"}, {"resolve": "settle"}))
    clock = case.clock("settle")
    assert (case.ticket.stage, case.ticket.phase, case.ticket.workflow_version) == ("working", Phase.HANDLING, 2)
    assert (clock.id, clock.anchor, clock.budget, clock.cycle) == (before.id, before.anchor, 20, 1)
    assert clock.due_at == calendar().add(before.anchor, target.clocks["settle"].budget)
    assert [(s.name, s.before, s.after) for s in done.shifts] == [("settle", before.due_at, clock.due_at)]
    [event] = [e for e in case.events if e.type == "workflow.migrated"]
    assert (event.actor, event.data["from"], event.data["to"]) == (SUPERVISOR, "handling", "working")
    assert event.data["before"] == {"key": KEY, "version": 1} and event.data["after"] == {"key": KEY, "version": 2}
    assert agrees(case, flow(KEY), target) == []
    case.on("2026-09-15 10:00").act(LEAD, "submit_reply", **REPLY)
    assert (case.ticket.stage, case.clock("settle").state) == ("auditing", ClockState.HELD)
    assert agrees(case, flow(KEY), target) == []


def test_what_cannot_be_moved_says_why_and_is_left_as_it_is() -> None:
    target = version(names={"handling": "working", "resolve": "settle"})
    case = handled()
    assert stuck(case, plan(target)) == [("stage", "handling"), ("clock", "resolve")]
    assert stuck(case, plan(target, {"handling": "working"})) == [("clock", "resolve")]
    assert (case.ticket.stage, case.ticket.workflow_version) == ("handling", 1)


def test_a_request_that_waits_for_its_decision_is_never_lost() -> None:
    emergency = flow("emergency")
    case = handled().act(LEAD, "request_extension", **EXTENSION)
    assert ("approval", "extension") in stuck(case, plan(emergency))
    case.decide("extension", True)
    moved(case, plan(emergency))
    assert agrees(case, flow(KEY), emergency) == [], "the decided request stays under what decided it"
    # its decision goes on under the clock that the target gives it
    other = version(names={"extension_decision": "extension_ruling"})
    case = handled().act(LEAD, "request_extension", **EXTENSION)
    assert stuck(case, plan(other)) == [("clock", "extension_decision"), ("approval", "extension")]
    moved(case, plan(other, clocks={"extension_decision": "extension_ruling"}))
    assert agrees(case, flow(KEY), other) == []
    case.decide("extension", True)
    assert case.clock("extension_ruling").state is ClockState.MET and case.clock("resolve").extensions
    assert agrees(case, flow(KEY), other) == []


def test_four_eyes_are_not_lost_with_the_name_of_an_action() -> None:
    case = handled().act(LEAD, "submit_reply", **REPLY)
    target = version(names={"submit_reply": "deliver"})
    assert stuck(case, plan(target)) == [("four_eyes", "approve_reply"), ("four_eyes", "reject_reply")]
    moved(handled(), plan(target))  # where nothing is to be judged yet nothing is lost


def test_a_shorter_promise_that_is_over_is_a_breach_of_the_moment_and_no_burst_of_old_steps() -> None:
    case = handled().on("2026-09-21 10:00")
    target = version(resolve={"budget": 2})
    done = moved(case, plan(target))
    clock = case.clock("resolve")
    assert done.breached == ("resolve",) and clock.breached_at == case.now
    assert {f.outcome for f in case.firings if f.clock_id == clock.id and f.fired_at == case.now} == {"superseded"}
    assert agrees(case, flow(KEY), target) == []
    # a breach is a fact: it is not taken back, the due time is
    assert isinstance(back(case, plan(target), done), Moved)
    again = case.clock("resolve")
    assert (again.breached_at, again.budget) == (clock.breached_at, 15)
    assert agrees(case, flow(KEY), target) == []


def test_undone_each_clock_has_the_promise_it_had() -> None:
    case = handled().act(LEAD, "request_extension", **EXTENSION).decide("extension", True)
    before = {c.id: (c.name, c.cycle, c.measure, c.budget, c.extensions, c.due_at, c.next_fire_at)
              for c in case.ticket.clocks}  # fmt: skip
    policy = case.ticket.facts.get("policy")
    # another measure: what was added in working days does not carry over, and comes back
    target = version(names={"resolve": "settle"}, settle={"measure": "natural_days", "budget": 40})
    wanted = plan(target, clocks={"resolve": "settle"})
    done = moved(case, wanted)
    assert case.clock("settle").extensions == ()
    assert isinstance(back(case, wanted, done), Moved)
    assert {c.id: (c.name, c.cycle, c.measure, c.budget, c.extensions, c.due_at, c.next_fire_at)
            for c in case.ticket.clocks} == before  # fmt: skip
    assert (case.ticket.workflow_version, case.ticket.stage) == (1, "handling")
    assert case.ticket.facts.get("policy") == policy
    assert case.types()[-1] == "workflow.migrated_back"
    assert agrees(case, flow(KEY), target) == []
    case.pump_on_time(at("2026-12-01 00:00"))
    assert agrees(case, flow(KEY), target) == []


def test_what_went_on_since_is_not_undone() -> None:
    case, wanted = handled(), plan(version())
    done = moved(case, wanted)
    case.on("2026-09-15 10:00").act(LEAD, "submit_reply", **REPLY)
    result = back(case, wanted, done)
    assert not isinstance(result, Moved) and result[0].code == "acted_on"
    case, wanted = handled(), plan(version(), clocks={"contact": None})
    done = moved(case, wanted)
    assert (done.ended, case.clock("contact").state) == (("contact",), ClockState.CANCELLED)
    assert agrees(case, flow(KEY), wanted.target) == []
    result = back(case, wanted, done)
    assert not isinstance(result, Moved) and result[0].code == "ended"


def test_what_is_due_fires_by_the_old_rules_first_and_a_ticket_closed_by_it_stays() -> None:
    case = Case.opened().on("2026-09-15 10:00")
    target = version(names={"accepting": "signing", "handling": "working"})
    done = moved(case, plan(target, {"accepting": "signing", "handling": "working"}))
    assert (done.stage_before, done.stage_after) == ("handling", "working"), "silence was acceptance an hour ago"
    assert agrees(case, flow(KEY), target) == []


def test_a_pause_goes_on_with_its_cap_and_a_ticket_is_never_left_without_a_clock() -> None:
    case = handled().act(LEAD, "request_pause", **PAUSE).decide("pause", True)
    assert case.ticket.phase is Phase.WAITING
    target = version()
    moved(case, plan(target))
    assert case.clock("resolve").state is ClockState.PAUSED and agrees(case, flow(KEY), target) == []
    case.act(LEAD, "resume")
    ends: dict[str, str | None] = {c.name: None for c in case.ticket.clocks if c.open}
    assert [code for code, _ in stuck(case, plan(version(3), clocks=ends, source=target))] == ["promise"]


def test_a_clock_without_which_nothing_would_hold_the_ticket_later_is_not_ended() -> None:
    case = Case.opened()
    assert case.ticket.stage == "accepting" and case.clock("accept").state is ClockState.RUNNING
    ends: dict[str, str | None] = {"resolve": None, "contact": None, "opinion": None}
    assert [e.pointer for e in migrating.check(plan(version(), clocks=ends))] == ["/clock_mapping/resolve"]
    other = version(names={"resolve": "settle"})
    assert migrating.check(plan(other, clocks=ends)) == []
    assert stuck(case, plan(other, clocks=ends)) == [("promise", "settle")]
    done = moved(case, plan(other, clocks={"resolve": "settle", "contact": None}))
    assert done.ended == ("contact",)


def test_one_clock_may_end_where_the_target_has_another_that_the_ticket_never_had() -> None:
    plain = deepcopy(folder().workflows[KEY])
    plain["clocks"]["leaders_look"] = {**plain["clocks"]["opinion"], "title": {"zh": "领导审阅", "en": "A look"}}
    plain["actions"]["submit_reply"]["branches"][-1]["effects"].append({"start": "leaders_look"})
    wanted = plan(compile_workflow(plain, 2), clocks={"contact": None})
    case = handled().on("2026-09-15 10:00").act(LEAD, "submit_reply", **REPLY)
    assert migrating.check(wanted) == []
    assert moved(case, wanted).stage_after == case.ticket.stage


def test_a_ticket_that_no_clock_would_hold_is_not_moved_whatever_the_plan_says() -> None:
    case = handled()
    ends: dict[str, str | None] = {c.name: None for c in case.ticket.clocks if c.open}
    assert stuck(case, Plan("m-1", flow(KEY), version(), {}, ends, "no promises known")) == [("unheld", "handling")]


@pytest.mark.parametrize(
    ("stages", "clocks", "pointer"),
    [
        ({"nowhere": "handling"}, {}, "/stage_mapping/nowhere"),
        ({"handling": "nowhere"}, {}, "/stage_mapping/handling"),
        ({"handling": "auditing"}, {}, "/stage_mapping/handling"),
        ({"closed": "closed"}, {}, "/stage_mapping/closed"),
        ({}, {"nothing": "resolve"}, "/clock_mapping/nothing"),
        ({}, {"resolve": "nothing"}, "/clock_mapping/resolve"),
        ({}, {"resolve": "accept"}, "/clock_mapping/resolve"),
        ({}, {"pause_cap": "audit"}, "/clock_mapping/pause_cap"),
        ({}, {"audit": "review_screen"}, "/clock_mapping/audit"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused_with_its_place(
    stages: dict[str, str], clocks: dict[str, str | None], pointer: str
) -> None:
    assert [e.pointer for e in migrating.check(plan(version(), stages, clocks))] == [pointer]


def test_a_co_handlers_clock_goes_on_beside_one_that_was_there() -> None:
    case = Case.opened(co_handlers=["finance", "water"]).act(LEAD, "accept")
    target = version(names={"co_reply": "joint_reply"})
    moved(case, plan(target, clocks={"co_reply": "joint_reply"}))
    assert [c.cycle for c in case.ticket.clocks if c.name == "joint_reply"] == [1, 2]
    case.act(DISPATCHER, "add_co_handler", department="market_supervision")
    assert [c.cycle for c in case.ticket.clocks if c.name == "joint_reply"] == [1, 2, 3]
    assert agrees(case, flow(KEY), target) == []


def test_a_workflow_whose_going_would_leave_new_tickets_without_one_is_named() -> None:
    flows = {key: flow(key) for key in folder().workflows}
    whole = Policies(flows, {})
    without = Policies({k: f for k, f in flows.items() if k != "consultation"}, {})
    assert whole.uncovered(without) == ["consultation", "consultation (urgent)"]
    assert whole.uncovered(Policies({k: f for k, f in flows.items() if k != "emergency"}, {})) == []


def test_differences_are_told_by_path_and_in_two_languages() -> None:
    before = folder().workflows[KEY]
    after = deepcopy(dict(before))
    after["clocks"]["resolve"]["budget"] = 12
    rungs = {r["name"]: r for r in after["clocks"]["resolve"]["rungs"]}
    rungs["yellow"]["before"] = 2
    del after["actions"]["merge"]
    after["stages"]["visiting"] = {"phase": "handling", "title": {"zh": "现场核查", "en": "Site visit"}}
    told = {d.path: d for d in differences(before, after)}
    assert set(told) == {
        "clocks.resolve.budget",
        "clocks.resolve.rungs.yellow.before",
        "actions.merge",
        "stages.visiting",
    }
    budget = told["clocks.resolve.budget"]
    assert (budget.before, budget.after, budget.title["en"]) == (15, 12, "Resolution")
    assert (budget.zh, budget.en) == ("时限“办结”的 budget：15 → 12", 'clock "Resolution": budget: 15 -> 12')
    assert told["stages.visiting"].zh == "新增环节“现场核查”" and told["stages.visiting"].before is None
    assert told["actions.merge"].kind == "removed" and told["actions.merge"].after is None
    assert differences(before, before) == []


NAMES = {
    "handling": "working",
    "auditing": "checking",
    "resolve": "settle",
    "co_reply": "joint_reply",
    "audit": "proof",
}
STAGES, CLOCKS = {"handling", "auditing"}, {"resolve", "co_reply", "audit"}


@cache
def variants(key: str) -> dict[int, Workflow]:
    """The shipped version, and one with other names and other budgets."""
    plain = renamed(deepcopy(folder().workflows[key]), NAMES)
    plain["clocks"]["settle"] |= {"measure": "working_days", "budget": 4, "rework_budget": 3}
    plain["clocks"]["proof"]["budget"] = 2
    return {1: flow(key), 2: compile_workflow(plain, 2)}


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happened_before_a_migration_or_an_undo_everything_agrees_afterwards(seed: int) -> None:
    """Random lives, moved to and fro at random moments: every promise still follows from its ledger, every event replays."""
    rng = Random(seed)
    case, keys = random_opening(rng), set[str]()
    last: tuple[Plan, Moved] | None = None
    turned = {new: old for old, new in NAMES.items()}
    for _ in range(16):
        now = case.now + a_gap(rng)
        case.pump_on_time(now)
        case.on(now)
        a_step(case, rng).carry_out(case)
        case.flow = variants(case.ticket.workflow_key)[case.ticket.workflow_version]
        if not case.ticket.open:
            break
        source, target = case.flow, variants(case.flow.key)[3 - case.flow.version]
        names = NAMES if source.version == 1 else turned
        stages = {old: new for old, new in names.items() if {old, new} & STAGES}
        mapped: dict[str, str | None] = {old: new for old, new in names.items() if {old, new} & CLOCKS}
        chance = rng.random()
        if chance < 0.4:
            wanted = plan(target, stages, mapped, source)
            done = moved(case, wanted)
            last = (wanted, done)
        elif chance < 0.6 and last is not None and last[0].target is case.flow:
            back(case, *last)
            last = None
        keys |= {source.key, *(e.data["before"]["key"] for e in case.events if e.type == "ticket.rebound")}
        assert agrees(case, *(v for key in keys for v in variants(key).values())) == []
