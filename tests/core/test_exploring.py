"""The machine that the checker explores and the engine that tickets live by are one: walked together, by chance."""

from __future__ import annotations

from random import Random

import pytest

from service.core.conditions import shape
from service.core.exploring import WAITING, config_of, explore, structure, telling_clocks
from tests.builders import Case, a_history, flow, folder, handled, handler

LEAD, CO = handler("tax"), handler("finance")


@pytest.mark.parametrize("every_clock", [False, True])
def test_a_real_ticket_is_never_where_the_machine_cannot_be(every_clock: bool) -> None:
    spaces = {}
    for key in folder().workflows:
        clocks = frozenset(flow(key).clocks) if every_clock else telling_clocks(flow(key))
        bones = structure(flow(key), frozenset(c for c in clocks if not (every_clock and c.startswith("co_"))))
        spaces[key] = bones, explore(bones)
    seen: set[object] = set()

    def watch(case: Case) -> None:
        bones, space = spaces[case.ticket.workflow_key]
        config = config_of(case.ticket, bones)
        assert config in space.index, (config, case.types()[-8:])
        seen.add((case.ticket.workflow_key, config))

    for seed in range(90):
        a_history(Random(seed), 30, watch)
    assert len(seen) > 100


def test_co_handlers_count_as_the_conditions_see_them() -> None:
    definition = flow("natural_resources_landing")
    bones = structure(definition, telling_clocks(definition))
    case = handled("natural_resources_landing", co_handlers=["finance"])
    assert config_of(case.ticket, bones).co == WAITING
    assert "submit_reply" not in case.possible(LEAD) and "submit_reply" in case.possible(CO)
    case.act(CO, "submit_reply", public_reply="r")
    assert config_of(case.ticket, bones).co != WAITING and "submit_reply" in case.possible(LEAD)


def test_a_late_co_handler_is_not_waited_for() -> None:
    case = handled("natural_resources_landing", co_handlers=["finance"]).pump("2026-09-17 00:00:01")
    assert "submit_reply" in case.possible(LEAD)


def test_workflows_that_differ_in_figures_only_are_explored_once() -> None:
    one, other = flow("project_landing"), flow("business_development")
    assert explore(structure(one, telling_clocks(one))) is explore(structure(other, telling_clocks(other)))


@pytest.mark.parametrize(
    ("source", "opaque"),
    [
        ('leg.role == "lead" && counters.pauses < 2', False),
        ('!(ticket.outcome in ["merged", "withdrawn"])', False),
        ("has(form.reached) && !form.reached", False),
        ("counters.pauses + counters.urges < 3", True),
        ('form.text.startsWith("x")', True),
        ('["a"].exists(x, x == leg.role)', True),
        ("size(form.parts) > 1", True),
    ],
)
def test_a_condition_of_another_build_is_taken_both_ways(source: str, opaque: bool) -> None:
    assert shape(source).opaque is opaque
