"""W2: whatever passes the checker, no history of a real ticket comes to an open ticket without a clock or a way out."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from functools import cache
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from service.core import workflow
from service.core.checking import Proof, check
from service.core.definitions import Workflow, compile_workflow
from service.core.errors import DefinitionError
from service.core.exploring import Space, config_of, explore, structure, telling_clocks
from service.core.invariants import RUNNING
from tests.builders import HOTLINE, Case, RouteTo, a_gap, a_step, a_ticket, at, calendar, folder, ids
from tests.core.generated import a_mutant, a_workflow

GENERATED, MUTANTS = range(90), range(50)


@cache
def made(kind: str, seed: int) -> Workflow | None:
    rng = Random(seed)
    plain: dict[str, Any] = dict(folder().workflows["project_landing"])
    try:
        return compile_workflow(a_workflow(rng) if kind == "generated" else a_mutant(plain, rng))
    except DefinitionError:
        return None  # refused by its names already


@cache
def proof(kind: str, seed: int) -> Proof | None:
    flow = made(kind, seed)
    return check(flow) if flow is not None else None


@cache
def passing(kind: str) -> list[int]:
    return [
        s for s in (GENERATED if kind == "generated" else MUTANTS) if (p := proof(kind, s)) is not None and not p.faults
    ]


def test_chance_makes_enough_that_hold_and_enough_that_do_not() -> None:
    assert len(passing("generated")) >= 20 and len(GENERATED) - len(passing("generated")) >= 30
    assert len(passing("mutant")) >= 15 and len(MUTANTS) - len(passing("mutant")) >= 15
    words = " ".join(f.en for s in GENERATED if (p := proof("generated", s)) for f in p.faults)
    for fault in ("running clock", "dead end", "loop without a limit", "nobody can ever", "own work", "undecided"):
        assert fault in words


def opened(flow: Workflow, rng: Random) -> Case:
    received = at("2026-01-05 00:00") + timedelta(minutes=rng.randint(0, 300 * 24 * 60))
    new_id = ids()
    case = Case(flow, received, a_ticket(flow, received, received, new_id), new_id, calendar())
    lead = "tax" if rng.random() < 0.8 else None
    others = ("finance", "water")[: rng.randint(0, 2)] if lead else ()
    return case.take(workflow.open_ticket(case.ticket, RouteTo(lead, others, "r"), case.env(HOTLINE), {}))


def holds_a_clock(case: Case) -> bool:
    return not case.ticket.open or any(c.state in RUNNING for c in case.ticket.clocks)


def one_step(case: Case, rng: Random) -> None:
    now = case.now + a_gap(rng)
    case.pump_on_time(now)
    case.on(now)
    a_step(case, rng).carry_out(case)


def space_of(flow: Workflow) -> Space:
    return explore(structure(flow, telling_clocks(flow)))


def distances(space: Space) -> dict[int, int]:
    """To the nearest closed configuration, without what may be done anywhere (a withdrawal)."""
    anywhere = {a.name for a in space.bones.acts if a.anywhere}
    back: dict[int, list[int]] = {}
    for n, steps in enumerate(space.steps):
        for step in steps:
            if step.label.kind != "action" or step.label.name not in anywhere:
                back.setdefault(step.target, []).append(n)
    found = {n: 0 for n in range(len(space.configs)) if not space.open(n)}
    todo = deque(found)
    while todo:
        n = todo.popleft()
        for m in back.get(n, ()):
            if m not in found:
                found[m] = found[n] + 1
                todo.append(m)
    return found


def walks_out(case: Case, space: Space, rng: Random, tries: int = 120) -> bool:
    """By the real engine, one step nearer at a time, or any step where none is."""
    far = distances(space)
    anywhere = {a.name for a in space.bones.acts if a.anywhere}
    for _ in range(tries):
        if not case.ticket.open:
            return True
        here = far.get(space.index.get(config_of(case.ticket, space.bones), -1), 10_000)
        first = case.next_fire_at()
        for _ in range(25):
            kept = (case.ticket, case.now)
            if first is not None and rng.random() < 0.1:
                case.pump(max(first, case.now))
            else:
                step = a_step(case, rng)
                if step.kind == "action" and step.name in anywhere:
                    continue
                step.carry_out(case)
            there = far.get(space.index.get(config_of(case.ticket, space.bones), -1), 10_000)
            if there < here:
                break
            if rng.random() < 0.9:
                case.ticket, case.now = kept
    return not case.ticket.open


def live(flow: Workflow, rng: Random, length: int) -> None:
    space, case = space_of(flow), opened(flow, rng)
    assert config_of(case.ticket, space.bones) in space.index
    for _ in range(length):
        one_step(case, rng)
        assert holds_a_clock(case), case.types()[-12:]
        assert config_of(case.ticket, space.bones) in space.index, (
            config_of(case.ticket, space.bones),
            case.types()[-6:],
        )
    if case.ticket.open:
        assert walks_out(case, space, rng), (config_of(case.ticket, space.bones), case.types()[-12:])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data(), st.integers(0, 2**32))
def test_a_generated_workflow_that_holds_forgets_nothing_in_200_steps(data: st.DataObject, history: int) -> None:
    seed = data.draw(st.sampled_from(passing("generated")))
    flow = made("generated", seed)
    assert flow is not None
    live(flow, Random(history), 200)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data(), st.integers(0, 2**32))
def test_a_mutant_of_the_shipped_set_that_holds_forgets_nothing_in_200_steps(data: st.DataObject, history: int) -> None:
    seed = data.draw(st.sampled_from(passing("mutant")))
    flow = made("mutant", seed)
    assert flow is not None
    live(flow, Random(history), 200)
