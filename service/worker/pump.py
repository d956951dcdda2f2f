"""The pump: fires what is due, from PostgreSQL alone. It sleeps until the next due time, a ring, or one second.

While there is more than one batch it works on two at a time, so that one is decided while the other is read or written.
Its heart beats beside it, through long batches and idle hours. The outbox has a sweeper of its own, so that with Redis
gone nothing waits more than a few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from prometheus_client import Counter, Gauge, Histogram

from service import clock
from service.core.errors import JiebanError
from service.usecases import clocks
from service.usecases.clocks import Fired
from service.usecases.house import House
from service.usecases.runs import Run, Watches

log = structlog.get_logger()
T = TypeVar("T")
LANES = 2
LONGEST_SLEEP_SECONDS = 1.0
SHORTEST_SLEEP_SECONDS = 0.05
BEAT_SECONDS = 3.0
SWEEP_SECONDS = 3.0
CONNECTIONS = LANES + 4
"""Of one worker: its batches, what is written about them, what goes on in the background (recounts, migrations), the
hands (outbox, digests, nightly work), and receivers."""
FIRED = Counter("jieban_timers_fired_total", "Rungs fired")
LATENESS = Histogram(
    "jieban_timer_lateness_seconds",
    "From the due time of each rung to the commit of its effect",
    buckets=(0.1, 0.3, 1, 2, 3, 5, 10, 30, 60, 300, 600, 3600),
)
FAILURES = Counter("jieban_pump_failures_total", "Rounds of the pump that failed")
HELD = Gauge("jieban_pump_held", "1 while the clock gate holds the timers")


class Pump:
    """Run as many processes as wanted, they share the work by row locks."""

    def __init__(self, house: House, watches: Watches | None = None, *, batch: int = clocks.BATCH) -> None:
        self._house, self._batch = house, batch
        self.own = Run(house, watches or Watches())
        self._wake, self._stopping = asyncio.Event(), False
        self.draining = False
        """True while more than one batch is being fired."""

    @property
    def worker(self) -> str:
        return self.own.worker

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        """Finish the batches at hand, then return from `run`."""
        self._stopping = True
        self._wake.set()

    async def run(self, *beside: Callable[[], Awaitable[None]]) -> None:
        """Fire until told to stop. `beside`: what else this worker does meanwhile, begun after it is known, ended before
        it takes its leave."""
        await self._tried(self.own.begin, None)
        tasks = [asyncio.ensure_future(work()) for work in (self._beat, *beside)]
        try:
            while not self._stopping:
                self._wake.clear()
                pause = await self._tried(self._round, LONGEST_SLEEP_SECONDS)
                if pause > 0 and not self._stopping:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), pause)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._tried(self.own.leave, None)

    async def _tried(self, work: Callable[[], Awaitable[T]], otherwise: T) -> T:
        """What `work` gives; whatever goes wrong is said and tried again later."""
        try:
            return await work()
        except JiebanError as error:
            log.warning("the pump could not work; trying again", error=repr(error))
        except Exception as error:
            log.error("the pump failed; trying again", exc_info=error)
        FAILURES.inc()
        return otherwise

    async def _beat(self) -> None:
        while True:
            await self._tried(self.own.beat, None)
            await self._tried(self._house.refresh, None)
            HELD.set(self.own.held is not None)
            await asyncio.sleep(LONGEST_SLEEP_SECONDS if self.own.held else BEAT_SECONDS)

    async def _round(self) -> float:
        """Fire until nothing is due; seconds to sleep."""
        if await self._fire() > 0 and not self._stopping:
            # each lane is left to end by itself: what one of them met is told as what it is, not as a group of one
            self.draining = True
            try:
                ended = await asyncio.gather(*(self._lane() for _ in range(LANES)), return_exceptions=True)
            finally:
                self.draining = False
            for error in ended:
                if isinstance(error, BaseException):
                    raise error
        while not self._stopping and self._observed(await clocks.fire_suspect(self._house, self.own)):
            # what is due and suspected of nothing comes first, always
            await self._fire()
        if self.own.held is not None:
            return LONGEST_SLEEP_SECONDS
        await self.own.rest()
        next_in = await clocks.seconds_to_next(self._house)
        longest = LONGEST_SLEEP_SECONDS + clock.jitter(0.2)
        # due already, but held by somebody: look again soon instead of spinning
        return longest if next_in is None else min(max(next_in, SHORTEST_SLEEP_SECONDS), longest)

    async def _lane(self) -> None:
        while not self._stopping and await self._fire():
            pass

    async def _fire(self) -> int:
        return self._observed(await clocks.fire_batch(self._house, self._batch, self.own))

    @staticmethod
    def _observed(fired: Fired) -> int:
        FIRED.inc(fired.rungs)
        for seconds in fired.lateness_seconds:
            LATENESS.observe(seconds)
        return fired.tickets


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
