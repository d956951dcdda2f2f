"""The pump: fires what is due, from PostgreSQL alone. It sleeps until the next due time, a ring, or one second.

Beside it runs the sweeper of the outbox, so that with Redis gone nothing waits more than a few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog
from prometheus_client import Counter, Gauge, Histogram

from service import clock
from service.core.errors import JiebanError
from service.usecases import clocks
from service.usecases.house import House

log = structlog.get_logger()
LONGEST_SLEEP_SECONDS = 1.0
SWEEP_SECONDS = 3.0
REFRESH_SECONDS = 3.0
FIRED = Counter("jieban_timers_fired_total", "Rungs fired")
LATENESS = Histogram(
    "jieban_timer_lateness_seconds",
    "fired_at - due_at, the latest of each batch",
    buckets=(0.1, 0.3, 1, 3, 10, 60, 600),
)
FAILURES = Counter("jieban_pump_failures_total", "Rounds of the pump that failed")
LAST_ROUND = Gauge("jieban_pump_last_round_monotonic_seconds", "When the pump last looked (monotonic clock)")


class Pump:
    """One loop; run as many processes as wanted, they share the work by row locks."""

    def __init__(self, house: House) -> None:
        self._house, self._wake, self._stopping = house, asyncio.Event(), False

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        """Finish the batch at hand, then return from `run`."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        refreshed = clock.monotonic()
        while not self._stopping:
            self._wake.clear()
            LAST_ROUND.set(clock.monotonic())
            try:
                if clock.monotonic() - refreshed > REFRESH_SECONDS:
                    await self._house.refresh()
                    refreshed = clock.monotonic()
                pause = await self._round()
            except JiebanError as error:
                FAILURES.inc()
                log.warning("the pump could not work; trying again", error=repr(error))
                pause = LONGEST_SLEEP_SECONDS
            except Exception as error:
                FAILURES.inc()
                log.error("the pump failed; trying again", exc_info=error)
                pause = LONGEST_SLEEP_SECONDS
            if pause > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause)

    async def _round(self) -> float:
        """Fire until nothing is due; seconds to sleep."""
        while not self._stopping:
            fired = await clocks.fire_due(self._house)
            if fired.rungs:
                FIRED.inc(fired.rungs)
                LATENESS.observe(fired.lateness_seconds)
            if fired.tickets == 0:
                break
        next_in = await clocks.seconds_to_next(self._house)
        longest = LONGEST_SLEEP_SECONDS + clock.jitter(0.2)
        # due already, but held by somebody: look again soon instead of spinning
        return longest if next_in is None else min(max(next_in, 0.05), longest)


async def sweep(deliver: Callable[[], Awaitable[int]]) -> None:
    """Carry the outbox every few seconds, ring or no ring, until cancelled."""
    while True:
        try:
            while await deliver():
                pass
        except JiebanError as error:
            log.warning("the outbox could not be carried; trying again", error=repr(error))
        except Exception as error:
            log.error("the outbox failed; trying again", exc_info=error)
        await asyncio.sleep(SWEEP_SECONDS + clock.jitter(0.5))
