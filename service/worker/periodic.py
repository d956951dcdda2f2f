"""What a worker does by the clock beside firing timers. Each slot is done once, whichever worker comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from service import clock
from service.core.errors import JiebanError
from service.core.periods import Every
from service.usecases import notices
from service.usecases.house import House
from service.usecases.periodic import Job, run_due

log = structlog.get_logger()
LOOK_SECONDS = 2.0


def jobs(house: House) -> list[Job]:
    """Everything that is done by the clock."""

    async def digests(slot: datetime) -> dict[str, Any]:
        return await notices.digest(house, slot)

    return [Job("digests", Every(timedelta(minutes=1)), digests)]


async def keep_time(house: House, worker: str, todo: Sequence[Job]) -> None:
    """Look every two seconds for slots that are due, until cancelled."""
    while True:
        for job in todo:
            try:
                await run_due(house, worker, job)
            except JiebanError as error:
                log.warning("periodic work must wait", job=job.name, error=repr(error))
            except Exception as error:
                log.error("periodic work failed", job=job.name, exc_info=error)
        await asyncio.sleep(LOOK_SECONDS + clock.jitter(0.5))
