"""What is to be done next: of what somebody may do now, that which keeps a promise, the nearest due first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from service.core.definitions import ActionDef, Workflow
from service.core.model import Clock, Ticket

KEEPS = frozenset({"meet", "hold", "settle"})
"""Effects that end a clock's running as a promise kept."""


@dataclass(frozen=True, slots=True)
class Step:
    """An action, and the running clock that it serves."""

    action: ActionDef
    clock: Clock


def next_steps(
    ticket: Ticket, actions: Iterable[ActionDef], flow: Workflow, departments: tuple[str, ...]
) -> list[Step]:
    """Of `actions` (what the actor may do now) those that serve a running clock; another unit's own clocks are its own."""
    listed = list(actions)
    legs = {a.id for a in ticket.assignments if a.open and (not departments or a.department in departments)}
    steps = []
    for clock in ticket.clocks:
        if clock.open and clock.name in flow.clocks and (clock.assignment_id is None or clock.assignment_id in legs):
            steps += [Step(action, clock) for action in listed if clock.name in _kept_by(action)]
    return sorted(steps, key=lambda s: (s.clock.due_at, s.clock.id, s.action.name))


def _kept_by(action: ActionDef) -> set[str]:
    return {str(arg) for branch in action.branches for verb, arg in branch.effects if verb in KEEPS}
