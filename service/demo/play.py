"""The play over time: the clock moves from one working hour to the next, and whose hour it is acts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from service.demo import docket, handlers, offices
from service.demo.city import DAY, City

DISPATCH_SLOTS, AUDIT_SLOTS, APPROVAL_SLOT, CALLBACK_SLOT, REVIEW_SLOT = (1, 4), (2, 6), 3, 5, 3
REVIEW_WEEKDAYS = (1, 4)  # Tuesday and Friday: the screening of a proposal has three working days


async def live(city: City, tell: Callable[[], None]) -> None:
    """All steps, one after the other; the clock moves first, then everybody whose hour it is acts. `tell`: after each."""
    for step in range(city.steps):
        city.step = step
        duties = list(_duties(city, step % DAY))
        if duties or step % DAY == DAY - 1:
            await city.advance()
        for duty in duties:
            await duty(city)
        tell()


def _duties(city: City, slot: int) -> Iterator[Callable[[City], Awaitable[None]]]:
    """What is to be done at this step, in order. An hour at which nobody has anything to do is passed over."""
    stages = {c.stage for c in city.cases.values()}
    if city.step in city.arrivals:
        yield offices.post
    if slot == 0 and stages & {"accepting", "handling", "waiting"}:
        yield handlers.look_round
    if slot in DISPATCH_SLOTS and "dispatching" in stages:
        yield offices.dispatch
    if slot == APPROVAL_SLOT and any(c.waits_for in {"return", "extension", "pause"} for c in city.cases.values()):
        yield offices.decide_requests
    if slot == REVIEW_SLOT and city.days[city.step // DAY].weekday() in REVIEW_WEEKDAYS:
        yield docket.sit
    if city.step in city.agenda:
        yield handlers.handle
    if slot in AUDIT_SLOTS and "auditing" in stages:
        yield offices.audit
    if slot == CALLBACK_SLOT and stages & {"callback", "reviewing"}:
        yield offices.call_back
