"""A published calendar reaches the open clocks: batch after batch in the background, beside the pump."""

from __future__ import annotations

import asyncio

import structlog

from service import clock
from service.core.errors import JiebanError
from service.usecases import calendars
from service.usecases.house import House

log = structlog.get_logger()
LOOK_SECONDS = 1.0


async def recount(house: House) -> None:
    """Look for a running re-projection every second or so and carry it on, until cancelled."""
    walk = calendars.Walk()
    while True:
        try:
            while await calendars.recount_some(house, walk):
                pass
        except JiebanError as error:
            log.warning("clocks could not be counted anew; trying again", error=repr(error))
        except Exception as error:
            log.error("counting clocks anew failed; trying again", exc_info=error)
        await asyncio.sleep(LOOK_SECONDS + clock.jitter(0.3))
