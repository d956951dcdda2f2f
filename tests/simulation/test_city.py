"""A model city: random histories of several tickets in one database, step by step beside a simple reference model.

One that fails prints what the ticket lived and what is different. More examples and longer ones:

    CITY_EXAMPLES=2000 CITY_STEPS=100 python -m pytest tests/simulation

`python -m tests.simulation.city --help` lets a city live for years.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from service.usecases.folders import Folder
from tests.conftest import cloned_database
from tests.simulation.mirror import Mirror
from tests.simulation.model import Rules
from tests.simulation.moves import DOMAINS, URGENCIES, any_at_all, choose, plausible
from tests.simulation.real import Real, opened

EXAMPLES, STEPS = int(os.environ.get("CITY_EXAMPLES", "25")), int(os.environ.get("CITY_STEPS", "40"))
MOST_TICKETS = 4
MICROSECOND = timedelta(microseconds=1)

gaps = st.one_of(
    st.integers(0, 180).map(lambda n: timedelta(minutes=n)),
    st.integers(1, 30).map(lambda n: timedelta(hours=n)),
    st.integers(1, 9).map(lambda n: timedelta(days=n)),
    st.integers(10, 40).map(lambda n: timedelta(days=n)),
)
START = datetime(2024, 1, 1, tzinfo=UTC)
starts = st.integers(0, 3 * 365 * 24 * 60).map(lambda n: START + timedelta(minutes=n))
which = st.integers(0, 999)
chances = st.integers(0, 2**32 - 1)
"""A seed for what exactly somebody does: drawn one by one, the first of all moves would come far too often."""
Running = Callable[[Awaitable[Any]], Any]


class City(RuleBasedStateMachine):
    """Whoever acts, whenever, and however late the pump is: both cities are the same after each step."""

    def __init__(self, running: Running, real: Real, rules: Rules) -> None:
        super().__init__()
        self.run, self.real, self.rules = running, real, rules

    def _ticket(self, number: int) -> str:
        names = list(self.mirror.models)
        return names[number % len(names)]

    def _compare(self, *names: str) -> None:
        self.run(self.mirror.compare(names or list(self.mirror.models), lambda n: self.mirror.steps % n))

    @initialize(
        start=starts, domain=st.sampled_from(DOMAINS), urgency=st.sampled_from(URGENCIES), hours=st.integers(0, 99)
    )
    def the_city_opens(self, start: datetime, domain: str, urgency: str, hours: int) -> None:
        self.mirror = Mirror(self.real, self.rules, start)
        self.run(self.mirror.begin())
        self._compare(self.run(self.mirror.post(domain, urgency, timedelta(hours=hours), routed=True)))

    @precondition(lambda self: len(self.mirror.models) < MOST_TICKETS)
    @rule(
        domain=st.sampled_from(DOMAINS),
        urgency=st.sampled_from(URGENCIES),
        minutes=st.integers(0, 3000),
        routed=st.booleans(),
    )
    def a_request_comes_in(self, domain: str, urgency: str, minutes: int, routed: bool) -> None:
        self._compare(self.run(self.mirror.post(domain, urgency, timedelta(minutes=minutes), routed=routed)))

    @rule(number=which, gap=gaps, chance=chances)
    def somebody_acts_after_a_while(self, number: int, gap: timedelta, chance: int) -> None:
        self.run(self.mirror.wait(gap))
        self._somebody_acts(number, chance)

    @rule(number=which, chance=chances)
    def somebody_acts_at_once(self, number: int, chance: int) -> None:
        self._somebody_acts(number, chance)

    @rule(number=which, off=st.integers(-1, 1), chance=chances)
    def somebody_acts_in_the_very_moment_of_a_timer(self, number: int, off: int, chance: int) -> None:
        at = self.mirror.models[self._ticket(number)].next_step_at()
        if at is not None:
            self.run(self.mirror.wait_until(at + off * MICROSECOND))
        self._somebody_acts(number, chance)

    @rule(number=which, chance=chances)
    def somebody_tries_anything(self, number: int, chance: int) -> None:
        self.run(any_at_all(self.mirror, self._ticket(number), Random(chance).randrange)())
        self._compare()

    @rule(gap=gaps, hands=st.integers(1, 2))
    def the_pump_comes_late(self, gap: timedelta, hands: int) -> None:
        self.run(self.mirror.wait(gap))
        self.run(self.mirror.pump(hands))
        self._compare()

    @rule(gap=gaps)
    def the_clock_of_the_sandbox_is_moved(self, gap: timedelta) -> None:
        self.run(self.mirror.advance(gap))
        self._compare()

    def _somebody_acts(self, number: int, chance: int) -> None:
        below, name = Random(chance).randrange, self._ticket(number)
        moves = plausible(self.mirror, name, below)
        if moves:
            self.run(choose(moves, below)())
        self._compare()


@pytest.mark.slow
def test_the_city_is_as_the_model_says_after_each_step_of_any_history(
    server_dsn: str, template: str, folder: Folder
) -> None:
    rules = Rules(folder.workflows, folder.calendars["cn-jinan"])
    shape = settings(
        max_examples=EXAMPLES, stateful_step_count=STEPS, suppress_health_check=list(HealthCheck), derandomize=True
    )
    with asyncio.Runner() as runner:
        database = cloned_database(server_dsn, template)
        dsn = runner.run(database.__aenter__())
        city = opened(dsn)
        real = runner.run(city.__aenter__())
        try:
            run_state_machine_as_test(lambda: City(runner.run, real, rules), settings=shape)  # type: ignore[no-untyped-call]
            # the last life may end with nobody at the timers for days, which I1 rightly calls overdue
            runner.run(real.pump())
            runner.run(Mirror(real, rules, START).check())
        finally:
            runner.run(city.__aexit__(None, None, None))
            runner.run(database.__aexit__(None, None, None))
