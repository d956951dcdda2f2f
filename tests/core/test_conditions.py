"""A condition taken apart comes to what CEL says of the whole, also where a part of it fails."""

from __future__ import annotations

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.conditions import Choice, conjuncts

OPERANDS = [
    "counters.a < 2",
    "counters.b == 1",
    "form.text == 'a && b'",
    "!pending.ask",
    "(counters.a == 0 || form.text == 'x')",
    "has(form.text)",
    "counters.a < form.text",
    "counters.b",
    "true",
    "ticket.stage in ['a', 'b']",
    "(counters.a == 1 && pending.ask)",
]
CONTEXT = st.fixed_dictionaries(
    {
        "counters": st.fixed_dictionaries({}, optional={"a": st.integers(0, 3), "b": st.integers(0, 2)}),
        "form": st.fixed_dictionaries({}, optional={"text": st.sampled_from(["x", "a && b", ""])}),
        "pending": st.fixed_dictionaries({}, optional={"ask": st.booleans()}),
        "ticket": st.fixed_dictionaries({}, optional={"stage": st.sampled_from("abc")}),
    }
)


def come_to(source: str, context: dict[str, object]) -> bool | None:
    """None: it fails."""
    try:
        return bool(cel.compile(source).execute(context))
    except (KeyError, TypeError, ValueError):
        return None


@given(st.lists(st.sampled_from(OPERANDS), min_size=2, max_size=5), CONTEXT)
def test_the_parts_of_a_conjunction_come_to_what_the_whole_comes_to(
    operands: list[str], context: dict[str, object]
) -> None:
    whole = " && ".join(operands)
    parts = conjuncts(whole)
    assert len(parts) == len(operands)
    held = [come_to(part, context) for part in parts]
    together = False if False in held else None if None in held else True
    assert together == come_to(whole, context)


@pytest.mark.parametrize(
    "source",
    [
        "counters.a < 2",
        "counters.a < 2 || counters.b == 1 && form.text == 'x'",
        "counters.a < 2 && counters.b == 1 || form.text == 'x'",
        "counters.a < 2 ? counters.b == 1 && pending.ask : pending.ask",
        "form.text == 'a && b'",
        r"form.text == 'a\' && ' && pending.ask",
        "counters.a < 2 // && never",
        "form.text == '''a' && 'b''' && pending.ask",
    ],
)
def test_what_is_built_otherwise_is_left_whole(source: str) -> None:
    assert conjuncts(source) == (source,)


def test_a_field_that_may_be_left_out_is_named_unless_another_part_forbids_the_step() -> None:
    form = '{"properties": {"text": {"type": "string"}}}'
    asked = Choice(None, ("form.text == 'x' && counters.a > 5",), form, (("counters", "a"),), ())
    assert [b.reason for b in asked.outcomes((9,)).broken] == ["it reads 'text', which need not be there"]
    assert asked.outcomes((0,)).broken == ()
    assert asked.outcomes((9,)).possible == (0,) and asked.outcomes((0,)).possible == ()


def test_an_operand_that_is_no_boolean_fails_as_the_engine_fails() -> None:
    choice = Choice(None, ("counters.a && pending.ask",), None, (("counters", "a"), ("pending", "ask")), ())
    assert [b.reason for b in choice.outcomes((1, True)).broken] == ["it compares values of different kinds"]
    assert choice.outcomes((1, False)).broken == ()
