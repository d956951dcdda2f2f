"""What a worker does by the clock beside firing timers. Each slot is done once, whichever worker comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, time, timedelta
from typing import Any

import structlog

from service import clock
from service.core.errors import JiebanError
from service.core.periods import Daily, Every, Weekly
from service.usecases import attachments, finding, incidents, integrity, notices, repeats, supervision
from service.usecases.house import House
from service.usecases.periodic import CHECK, Job, run_due

log = structlog.get_logger()
LOOK_SECONDS = 2.0
GIVE_WAY_SECONDS, GIVE_WAY_LOOKS = 0.2, 300
"""A page of long work waits for timers a minute at the most: a night without rest has its check too."""
NIGHT = time(2, 30)
SWEEP_AT = time(8, 0)
"""Monday morning: what last week left behind."""


def jobs(house: House, busy: Callable[[], bool] = lambda: False) -> list[Job]:
    """Everything that is done by the clock. Long work goes on between two pages only while it is not `busy`."""

    async def give_way() -> None:
        for _ in range(GIVE_WAY_LOOKS):
            if not busy():
                return
            await asyncio.sleep(GIVE_WAY_SECONDS)

    async def digests(slot: datetime) -> dict[str, Any]:
        return await notices.digest(house, slot)

    async def check(slot: datetime) -> dict[str, Any]:
        report = await integrity.check(house, between=give_way)
        if report.offending:
            log.error("what is stored does not agree with itself; run `service check`", offending=report.offending)
        for calendar, year in house.missing_years(slot).items():
            log.warning("a year is not published: due times in it are provisional", calendar=calendar, year=year)
        return report.as_dict()

    async def sweep(slot: datetime) -> dict[str, Any]:
        return await supervision.sweep(house, slot)

    async def merged(_: datetime) -> dict[str, Any]:
        return {"answered": await repeats.answer_sources(house)}

    async def clusters(_: datetime) -> dict[str, Any]:
        return await incidents.notice(house)

    async def swept(_: datetime) -> dict[str, Any]:
        return {"cleared": await attachments.sweep(house)}

    async def texts(_: datetime) -> dict[str, Any]:
        return {"filled": await finding.fill(house, give_way), "repaired": await finding.repair_queue(house, give_way)}

    return [
        Job("digests", Every(timedelta(minutes=1)), digests),
        Job("merged", Every(timedelta(minutes=1)), merged),
        Job("incidents", Every(timedelta(minutes=1)), clusters),
        Job("unfinished_attachments", Every(timedelta(minutes=10)), swept),
        Job("texts", Every(timedelta(hours=1)), texts),
        Job(CHECK, Daily(NIGHT, house.zone), check),
        Job("sweep", Weekly(0, SWEEP_AT, house.zone), sweep),
    ]


async def keep_time(house: House, worker: str, job: Job) -> None:
    """Look every two seconds for slots of one job that are due, until cancelled. Each job has a loop of its own: a
    night's long one does not keep the minutes' short one waiting."""
    while True:
        try:
            await run_due(house, worker, job)
        except JiebanError as error:
            log.warning("periodic work must wait", job=job.name, error=repr(error))
        except Exception as error:
            log.error("periodic work failed", job=job.name, exc_info=error)
        await asyncio.sleep(LOOK_SECONDS + clock.jitter(0.5))
