"""What is carried on in the background beside the pump, batch after batch: its state is in the database, not here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from service import clock
from service.core.errors import JiebanError
from service.usecases import calendars, migrations, receivers, units
from service.usecases.house import House

log = structlog.get_logger()
LOOK_SECONDS = 1.0


async def recount(house: House) -> None:
    """A published calendar reaches the open clocks."""
    walk = calendars.Walk()
    await _forever("clocks are counted anew", lambda: calendars.recount_some(house, walk))


async def migrate(house: House) -> None:
    """Running tickets are moved to another workflow version."""
    await _forever("tickets are migrated", lambda: migrations.move_some(house))


async def succeed(house: House) -> None:
    """Open tickets of units that are no more move to their successors."""
    await _forever("tickets move to successors", lambda: units.move_some(house))


async def tell(house: House, courier: receivers.Courier, busy: Callable[[], bool]) -> None:
    """Events get their places, and registered receivers are told of them. While it is `busy`, places wait if nobody is."""
    await _forever("receivers are told", lambda: receivers.tell_due(house, courier, busy=busy()))


async def _forever(what: str, some: Callable[[], Awaitable[int]]) -> None:
    """Look for something to do every second or so and carry it on, until cancelled."""
    while True:
        try:
            while await some():
                pass
        except JiebanError as error:
            log.warning("background work must wait; trying again", work=what, error=repr(error))
        except Exception as error:
            log.error("background work failed; trying again", work=what, exc_info=error)
        await asyncio.sleep(LOOK_SECONDS + clock.jitter(0.3))
