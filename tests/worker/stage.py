"""What tests of the worker share: a look into the database, a jump of the test clock, patience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from service.db.session import connect_arguments


@asynccontextmanager
async def database(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        yield connection
    finally:
        await connection.close()


async def sql(dsn: str, statement: str, *args: Any) -> list[Any]:
    async with database(dsn) as connection:
        return list(await connection.fetch(statement, *args))


async def jump(dsn: str, seconds: float) -> None:
    """The test clock stands later, and nothing has fired on the way: as after an outage."""
    await sql(
        dsn,
        """INSERT INTO sandbox_clock (id, offset_us) VALUES (1, $1)
           ON CONFLICT (id) DO UPDATE SET offset_us = sandbox_clock.offset_us + excluded.offset_us""",
        int(seconds * 1_000_000),
    )


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def count(dsn: str, what: str, *args: Any) -> int:
    """`what`: a table with its condition, as after FROM."""
    return int((await sql(dsn, f"SELECT count(*) AS n FROM {what}", *args))[0]["n"])


@asynccontextmanager
async def pumping(pump: Any, *beside: Any) -> AsyncIterator[asyncio.Task[None]]:
    """The pump at work; stopped cleanly at the end."""
    task = asyncio.create_task(pump.run(*beside))
    try:
        yield task
    finally:
        pump.stop()
        await asyncio.wait_for(task, 10)
