"""A command in the house: open it on its database, do the work, close it."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TypeVar

from service import bootstrap
from service.cli.surroundings import needs_database
from service.core.model import Actor, Role
from service.settings import Settings
from service.usecases.answers import Call
from service.usecases.house import House

COMMAND = Call("command line", None, b"")
"""Commands carry no key: what they do is safe to repeat, or refused."""
T = TypeVar("T")


def in_house(work: Callable[[House], Awaitable[T]], settings: Settings | None = None) -> T:
    """Open the house on its database, do this in it, close it."""
    given = settings or needs_database()

    async def run() -> T:
        async with bootstrap.open_house(given) as house:
            return await work(house)

    return asyncio.run(run())


def me(name: str) -> Actor:
    """Who runs the command: whoever reaches the database may do everything, and is named in the record."""
    return Actor(name or f"{getpass.getuser()} (command line)", Role.ADMIN)
