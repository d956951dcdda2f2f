"""Connections and transactions: the only commit of the house.

A transaction begins with one statement that says who acts and gets the database's time: that is the transaction's
`now` (in a sandbox plus the stored offset); no other clock decides anything. Roles and scope are transaction-local, so
a pooled connection never carries them over, and a missing context sees no rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import asyncpg
from pydantic_core import from_json

from service.core.access import sees_everything
from service.core.errors import Busy, JiebanError
from service.core.model import Actor

APP_ROLE, CITY_ROLE = "jieban_app", "jieban_city"
NOW = """
    clock_timestamp() + CASE WHEN {sandbox} THEN
        coalesce((SELECT offset_us FROM sandbox_clock WHERE id = 1), 0) * interval '1 microsecond'
        ELSE interval '0' END
"""
"""The time of a transaction; in a sandbox the offset of its test clock is added."""


class Unavailable(JiebanError):
    """The database cannot be reached or is too busy; the caller should come back (503 with Retry-After)."""

    slug = "unavailable"
    title = "The service is not available for a moment"


class Collision(Exception):
    """A unique key was taken by a transaction that ran at the same time; carrying out the work again finds it."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint


@dataclass(frozen=True, slots=True)
class Tx:
    """One transaction: its connection, and the time at which everything in it happens."""

    connection: Any
    now: datetime
    actor: Actor

    async def rows(self, sql: str, *args: Any) -> list[Any]:
        return list(await self.connection.fetch(sql, *args))

    async def row(self, sql: str, *args: Any) -> Any:
        return await self.connection.fetchrow(sql, *args)

    async def value(self, sql: str, *args: Any) -> Any:
        return await self.connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: Any) -> None:
        await self.connection.execute(sql, *args)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """What fails in this block is undone, and what was done before it in the transaction stands."""
        await self.connection.execute("SAVEPOINT step")
        try:
            yield
        except Exception:
            await self.connection.execute("ROLLBACK TO SAVEPOINT step; RELEASE SAVEPOINT step")
            raise
        await self.connection.execute("RELEASE SAVEPOINT step")


class Database:
    """A pool of connections under the application's role, which owns nothing and bypasses no policy."""

    def __init__(self, pool: Any, sandbox: bool, acquire_timeout_seconds: float = 5.0) -> None:
        self.pool, self.sandbox, self._timeout = pool, sandbox, acquire_timeout_seconds

    @classmethod
    async def connect(cls, dsn: str, size: int, sandbox: bool) -> Database:
        try:
            pool = await asyncpg.create_pool(
                **connect_arguments(dsn),
                min_size=1,
                max_size=size,
                init=_init,
                reset=_no_reset,
                command_timeout=60,
                max_inactive_connection_lifetime=300,
                server_settings={
                    "application_name": "jieban",
                    "lock_timeout": "5000",
                    "statement_timeout": "60000",
                    "timezone": "UTC",
                },
            )
        except (*UNREACHABLE, asyncpg.PostgresError, ValueError) as error:
            raise Unavailable(f"The database of JIEBAN_DATABASE_URL cannot be used: {type(error).__name__}") from error
        return cls(pool, sandbox)

    async def close(self) -> None:
        try:
            await asyncio.wait_for(self.pool.close(), 5)
        except TimeoutError:
            self.pool.terminate()

    @asynccontextmanager
    async def transaction(
        self, actor: Actor, *, readonly: bool = False, snapshot: bool = False, timed: bool = True
    ) -> AsyncIterator[Tx]:
        """Begin, say who acts, yield, commit. Errors of the server become Unavailable, Busy or Collision.

        `snapshot`: every statement sees the same state (repeatable read), for reads that must agree with each other.
        `timed=False`: the first statement of the work asks for the time itself (`now_sql`); saves a round trip.
        """
        try:
            async with self.pool.acquire(timeout=self._timeout) as connection:
                try:
                    await connection.execute(_begin(actor, readonly, snapshot))
                    now = await connection.fetchval(f"SELECT {self.now_sql}") if timed else UNKNOWN_TIME
                    yield Tx(connection, now, actor)
                except BaseException:
                    await _roll_back(connection)
                    raise
                await connection.execute("COMMIT")
        except asyncpg.UniqueViolationError as error:
            raise Collision(error.constraint_name or "") from error
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            raise Busy("Somebody else is working on this ticket; try again in a moment.") from error
        except UNREACHABLE as error:
            raise Unavailable("The database cannot be reached for a moment; repeat the request as it was.") from error

    @property
    def now_sql(self) -> str:
        """The expression for a transaction's time."""
        return NOW.format(sandbox="true" if self.sandbox else "false")

    async def ping(self) -> None:
        """Raise Unavailable unless the database answers within a second."""
        try:
            async with asyncio.timeout(1.0), self.pool.acquire() as connection:
                await connection.fetchval("SELECT 1")
        except (*UNREACHABLE, TimeoutError) as error:
            raise Unavailable("The database does not answer.") from error


UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the connection was cut in the middle of a statement
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutOfMemoryError,
    asyncpg.DiskFullError,
    asyncpg.QueryCanceledError,
)
"""What says "come back later" rather than "this is wrong"."""


UNKNOWN_TIME = datetime.min.replace(tzinfo=UTC)


def _begin(actor: Actor, readonly: bool, snapshot: bool) -> str:
    """Begin and say who acts, in one round trip. All settings are local to the transaction."""
    mode = f"{' ISOLATION LEVEL REPEATABLE READ' if snapshot else ''}{' READ ONLY' if readonly else ''}"
    role = CITY_ROLE if sees_everything(actor) else APP_ROLE
    settings = {"role": role, "jieban.departments": ",".join(actor.departments), "jieban.client": actor.subject}
    said = ", ".join(f"set_config({_literal(name)}, {_literal(value)}, true)" for name, value in settings.items())
    return f"BEGIN{mode}; SELECT {said}"


def _literal(text: str) -> str:
    """A text as an SQL literal; backslashes mean nothing in it (E'' is never used), NUL cannot be sent."""
    if "\x00" in text:
        raise ValueError("NUL in a setting")
    return "'" + text.replace("'", "''") + "'"


async def _roll_back(connection: Any) -> None:
    if connection.is_closed() or not connection.is_in_transaction():
        return
    with contextlib.suppress(*UNREACHABLE):
        await connection.execute("ROLLBACK")


async def _init(connection: Any) -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=from_json, schema="pg_catalog")
    await connection.set_type_codec("uuid", encoder=str, decoder=str, schema="pg_catalog")
    await connection.execute(f"SET ROLE {APP_ROLE}")


async def _no_reset(connection: Any) -> None:
    """Nothing to reset: every setting of ours is local to its transaction. Saves a round trip per request."""


def connect_arguments(dsn: str) -> dict[str, Any]:
    """asyncpg arguments from a DSN, also one that names a socket folder (`?host=/run/…&port=5432`)."""
    parts = urlsplit(dsn.replace("postgresql+asyncpg://", "postgresql://", 1))
    query = dict(parse_qsl(parts.query))
    if "host" not in query or parts.hostname:
        return {"dsn": dsn.replace("postgresql+asyncpg://", "postgresql://", 1)}
    return {
        "host": query["host"],
        "port": int(query.get("port", "5432")),
        "user": parts.username or query.get("user"),
        "password": parts.password or query.get("password"),
        "database": parts.path.lstrip("/"),
    }
