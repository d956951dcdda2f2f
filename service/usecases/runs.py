"""One pump's run as others see it: its heart, what it has in hand, and the clock gate it fires through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from service import clock
from service.core.gate import Gate, Reading
from service.core.model import SYSTEM
from service.db import clocks as timers
from service.db import runs
from service.usecases.house import House

log = structlog.get_logger()


def _as_it_is(database: datetime) -> datetime:
    return database


@dataclass(frozen=True, slots=True)
class Watches:
    """The three clocks of a reading. `database` gets what the database says: tests let it jump."""

    database: Callable[[datetime], datetime] = _as_it_is
    host: Callable[[], datetime] = clock.wall_now
    uptime: Callable[[], float] = clock.uptime

    def read(self, database: datetime) -> Reading:
        return Reading(self.database(database), self.host(), self.uptime())


@dataclass(slots=True)
class Run:
    """This process among the pumps. `held` says why nothing is fired, None when the gate is open."""

    house: House
    watches: Watches = field(default_factory=Watches)
    worker: str = field(default_factory=clock.worker_name)
    gate: Gate = field(default_factory=Gate)
    skew: timedelta = timedelta()
    _told: str | None = None
    """What stands in our row as the reason, so that a release by hand can be told from news we have yet to write."""
    _in_hand: set[str] = field(default_factory=set)
    _written: bool = False

    @property
    def held(self) -> str | None:
        return self.gate.held

    async def begin(self) -> None:
        async with self.house.db.transaction(SYSTEM) as tx:
            await runs.register(tx, self.worker, self.held)

    async def leave(self) -> None:
        """A clean stop: nothing is in hand, nobody has to wonder."""
        async with self.house.db.transaction(SYSTEM) as tx:
            await runs.leave(tx, self.worker)

    # -- the gate

    def may_fire(self, database: datetime) -> bool:
        """Whether timers may fire, now that the database's clock says `database`."""
        reading = self.watches.read(database)
        self.skew = reading.skew
        before, self.gate = self.gate.held, self.gate.look(reading)
        if self.gate.held != before:
            if self.gate.held is None:
                log.warning("timers fire again: the clock is as expected", worker=self.worker)
            else:
                log.error("timers are held until the clock is right or somebody releases them", why=self.gate.held)
        return self.gate.held is None

    async def beat(self) -> None:
        """Say that we live, look at the clock, see whether the gate was closed or released, bury the dead."""
        async with self.house.db.transaction(SYSTEM, timed=False) as tx:
            moment = await timers.moment(tx, self.house.db.now_sql)
            self.may_fire(moment["database"])
            row = await runs.beat(tx, self.worker, self.skew)
            if row is None:  # we were silent for so long that somebody took us for dead
                await runs.register(tx, self.worker, self.held)
            else:
                if self.held is not None and self._told is not None and row["held"] is None:
                    self.gate = self.gate.released(self.watches.read(moment["database"]))
                    log.warning("timers fire again: released by hand", worker=self.worker)
                if row["held"] != self.held:
                    await runs.gate(tx, self.worker, self.held)
        self._told = self.held
        if self.held is None:
            await self._bury()

    async def _bury(self) -> None:
        async with self.house.db.transaction(SYSTEM) as tx:
            gone = await runs.take_over(tx, self.worker)
        if gone["workers"]:
            log.error("a worker died", workers=gone["workers"], suspects=gone["suspects"], dead=gone["dead"])

    # -- what is in hand

    @asynccontextmanager
    async def holding(self, ticket_ids: list[str]) -> AsyncIterator[None]:
        """Written before the work begins. Not wiped after it: what was fired is due no more, and so no suspect."""
        self._in_hand.update(ticket_ids)
        await self._write()
        try:
            yield
        finally:
            self._in_hand.difference_update(ticket_ids)

    async def rest(self) -> None:
        """Nothing is in hand."""
        if self._written and not self._in_hand:
            await self._write()

    async def _write(self) -> None:
        ids = sorted(self._in_hand)
        async with self.house.db.transaction(SYSTEM, timed=False) as tx:
            await runs.hold(tx, self.worker, ids)
        self._written = bool(ids)
