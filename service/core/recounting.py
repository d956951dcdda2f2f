"""A new version of a calendar (time rule T9): which open clocks it moves, and the same clocks counted by it.

What is finished is not touched, rungs that fired stay; a clock whose due time does not move is only written to the new
version. `moved` answers for many clocks at once, before anything is decided.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.core import clocks
from service.core.budgets import Budget
from service.core.calendar import MEASURES, Calendar, IntArray
from service.core.draft import Draft, Env
from service.core.model import Clock, Decision, Ticket, evolve
from service.core.rebinding import Promise, bind
from service.core.workflow import catch_up


def recount(ticket: Ticket, calendar: Calendar, reason: str, env: Env) -> tuple[Decision, list[Clock]]:
    """T9: this ticket's open clocks under a new version of their calendar, everything due before it fired first.

    Gives the decision (without events when no due time moves) and the clocks that the new version only had to be written
    to: the same due time, the same steps still to come.
    """
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    same: list[Clock] = []
    for clock in [c for c in draft.ticket.clocks if c.open and counts_by(c, draft.ticket, calendar)]:
        times = draft.env.workflow.clocks[clock.name].times
        pinned = evolve(clock, calendar_key=calendar.key, calendar_version=calendar.version)
        counted = clocks.project(pinned, times, calendar, draft.deciding(clock))
        fires = counted.next_fire_at
        if counted.due_at == clock.due_at and (fires == clock.next_fire_at or fires is None or fires > draft.now):
            same.append(counted)
            continue
        terms = Budget(clock.measure, clock.budget)
        bind(draft, clock, Promise("calendar", reason, draft.env.workflow, calendar, terms, clock.anchor))
    return draft.finish(), same


def counts_by(clock: Clock, ticket: Ticket, calendar: Calendar) -> bool:
    """Whether a version of a calendar is to count this clock: an older version does, or its city's where it is a district's."""
    if clock.calendar_key == calendar.key:
        return clock.calendar_version < calendar.version
    return clock.calendar_key == calendar.extends and ticket.district in calendar.districts


def due_times(calendar: Calendar, plain: Sequence[tuple[int, str, int]]) -> IntArray:
    """Due times of clocks without pauses and extensions: (anchor in epoch microseconds, measure, budget) -> the same unit."""
    anchors, measures, amounts = zip(*plain, strict=True) if plain else ((), (), ())
    positions = {str(measure): n for n, measure in enumerate(MEASURES)}
    return calendar.add_each(
        np.array(anchors, dtype=np.int64),
        np.array([positions[m] for m in measures], dtype=np.int64),
        np.array(amounts, dtype=np.int64),
    )
