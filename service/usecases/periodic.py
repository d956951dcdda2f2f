"""Work that is done once per slot of time, by whichever worker comes first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from service.core.model import SYSTEM
from service.core.periods import Period, due_slots
from service.db import slots
from service.db.session import Unavailable
from service.usecases.house import House

log = structlog.get_logger()
Between = Callable[[], Awaitable[None]]
"""Waited for between two pages of long work, so that it can give way to what is more urgent."""
CHECK = "check"
"""The nightly check of everything stored; its last report is kept with its slot."""


@dataclass(frozen=True, slots=True)
class Job:
    """`work` gets the slot and gives what is kept of it. After downtime every missed slot is done with `run_all`,
    else the latest only. A slot whose worker died is done again: so is whatever `work` had done until then."""

    name: str
    period: Period
    work: Callable[[datetime], Awaitable[Mapping[str, Any]]]
    run_all: bool = False


async def at_once() -> None:
    """Between two pages: nothing."""


async def run_due(house: House, worker: str, job: Job) -> int:
    """Do the slots of one job that are due and nobody has begun; how many."""
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        begun = await slots.abandoned(tx, job.name)
        due = [*begun, *due_slots(job.period, await slots.newest(tx, job.name), tx.now, run_all=job.run_all)]
    done = 0
    for slot in due:
        async with house.db.transaction(SYSTEM) as tx:
            mine = await slots.claim(tx, job.name, slot, worker)
        if mine:
            await _do(house, job, slot)
            done += 1
    return done


async def _do(house: House, job: Job, slot: datetime) -> None:
    try:
        result = dict(await job.work(slot))
    except Unavailable:
        raise
    except Exception as error:  # said and kept; the next slot is a new try
        log.error("periodic work failed", job=job.name, slot=slot.isoformat(), exc_info=error)
        result = {"error": repr(error)[:500]}
    async with house.db.transaction(SYSTEM) as tx:
        await slots.finish(tx, job.name, slot, result)
