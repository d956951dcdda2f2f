"""The database's own wall: without the service's checks, a department still sees its own rows only."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest

from service.db.session import connect_arguments
from service.db.tables import TICKET_TABLES
from service.integrations.identity_provider import BuiltinIssuer
from tests.conftest import City, opened_city

SEEN_BY_TAX = (
    "tickets", "assignments", "clocks", "rounds", "events", "outbox", "approvals", "reviews", "firings", "notices",
    "ticket_texts", "open_tickets",
)  # fmt: skip


@asynccontextmanager
async def session(dsn: str, user: str | None = None) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**{**connect_arguments(dsn), **({"user": user} if user else {})})
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def app_login(server_dsn: str) -> AsyncIterator[str]:
    """A login that is a member of jieban_app and of nothing else."""
    name = f"only_app_{os.urandom(4).hex()}"
    async with session(server_dsn) as admin:
        await admin.execute(f"CREATE ROLE {name} LOGIN NOINHERIT NOSUPERUSER IN ROLE jieban_app")
    yield name
    async with session(server_dsn) as admin:
        await admin.execute(f"DROP ROLE {name}")


async def fill(city: City) -> str:
    """A ticket of the tax bureau with something in every table."""
    t = str((await city.ticket())["id"])
    await city.act(t, "accept", "handler:tax")
    await city.act(t, "request_extension", "handler:tax", ground="waiting_enterprise", days=1, reason="x")
    await city.act(t, "escalate", "handler:tax", reason="难")
    await city.advance(advance_by="P3D")
    return t


@pytest.mark.parametrize(("departments", "sees"), [("tax", True), ("water", False), ("water,tax", True),
                                                   ("ta", False), ("tax2", False), ("", False), (None, False),
                                                   ("%", False), ("{tax}", False), ("tax ", False)])  # fmt: skip
async def test_a_session_sees_the_rows_of_its_context_only(
    city: City, app_login: str, departments: str | None, sees: bool
) -> None:
    await fill(city)
    async with session(city.dsn, app_login) as connection, connection.transaction():
        await connection.execute("SET LOCAL ROLE jieban_app")
        if departments is not None:
            await connection.execute("SELECT set_config('jieban.departments', $1, true)", departments)
        found = {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in TICKET_TABLES}
        firms = await connection.fetchval("SELECT count(*) FROM enterprises")
    for table in TICKET_TABLES:
        assert (found[table] > 0) == (sees and table in SEEN_BY_TAX), table
    assert firms == (1 if sees else 0)


async def test_a_foreign_row_can_be_neither_changed_nor_locked_nor_added_to(city: City, app_login: str) -> None:
    t = await fill(city)
    async with session(city.dsn, app_login) as connection:
        await connection.execute("SET ROLE jieban_app")
        await connection.execute("SELECT set_config('jieban.departments', 'water', false)")
        assert await connection.fetch("SELECT 1 FROM tickets WHERE id = $1 FOR UPDATE", t) == []
        assert await connection.execute("UPDATE tickets SET lead = 'water'") == "UPDATE 0"
        assert await connection.execute("UPDATE clocks SET due_at = now()") == "UPDATE 0"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(
                "INSERT INTO rounds (ticket_id, number, started_at) VALUES ($1, 99, now())", t
            )  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DELETE FROM tickets")
        for table in ("audit", "clients", "people"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT * FROM {table}")
        await connection.execute("SELECT set_config('jieban.departments', 'tax', false)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("UPDATE tickets SET visible_to = '{water}'")


async def test_a_kept_answer_is_seen_by_its_client_only(city: City, app_login: str) -> None:
    await city.post("/v1/tickets", {}, "hotline")
    t = (await city.ticket())["id"]
    await city.post(f"/v1/tickets/{t}/actions/accept", {}, "zhang@handler:tax", headers={"Idempotency-Key": "k"})
    async with session(city.dsn, app_login) as connection:
        await connection.execute("SET ROLE jieban_app")
        await connection.execute("SELECT set_config('jieban.departments', 'tax', false)")
        assert await connection.fetchval("SELECT count(*) FROM idempotency") == 0
        await connection.execute("SELECT set_config('jieban.client', 'zhang@handler:tax', false)")
        assert await connection.fetchval("SELECT count(*) FROM idempotency") == 1


@pytest.mark.parametrize("role", ["jieban_city", "jieban", "postgres", "pg_read_all_data"])
async def test_a_login_that_is_only_the_applications_cannot_become_anybody_else(
    dsn: str, app_login: str, role: str
) -> None:
    async with session(dsn, app_login) as connection:
        for sql in (f"SET ROLE {role}", f"SET SESSION AUTHORIZATION {role}"):
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError)):
                await connection.execute(sql)
        await connection.execute("SET ROLE jieban_app")
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError)):
            await connection.execute("SELECT set_config('role', $1, false)", role)
        assert await connection.fetchval("SELECT current_user") == "jieban_app"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("ALTER TABLE tickets DISABLE ROW LEVEL SECURITY")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE TABLE mine (n int)")


async def test_the_roles_own_nothing_and_bypass_nothing(dsn: str) -> None:
    async with session(dsn) as connection:
        rows = await connection.fetch(
            """SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcanlogin,
                      (SELECT count(*) FROM pg_class c WHERE c.relowner = r.oid) AS owned
               FROM pg_roles r WHERE rolname IN ('jieban_app', 'jieban_city')"""
        )
    assert len(rows) == 2
    for row in rows:
        assert tuple(row)[1:] == (False, False, False, False, 0)


@pytest.mark.parametrize("table", ["events", "audit", "firings"])
@pytest.mark.parametrize("role", ["jieban_app", "jieban_city", None])
async def test_what_is_append_only_is_neither_changed_nor_removed_by_anybody(
    city: City, table: str, role: str | None
) -> None:
    await fill(city)
    refusals = (asyncpg.InsufficientPrivilegeError, asyncpg.IntegrityConstraintViolationError)
    async with session(city.dsn) as connection:
        before = await connection.fetchval(f"SELECT count(*) FROM {table}")
        assert before > 0
        if role:
            await connection.execute(f"SET ROLE {role}")
            await connection.execute("SELECT set_config('jieban.departments', 'tax', false)")
        column = "data" if table != "firings" else "outcome"
        for sql in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            with pytest.raises(refusals):
                await connection.execute(sql)
        await connection.execute("RESET ROLE")
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == before


async def test_two_departments_over_two_connections_never_see_each_others_rows(dsn: str, issuer: BuiltinIssuer) -> None:
    chance = random.Random(5)
    async with opened_city(dsn, issuer, size=2) as city:
        owned: dict[str, set[str]] = {"tax": set(), "power_supply": set()}
        for _ in range(4):
            owned["tax"].add((await city.ticket(title="税的事"))["id"])
            made = await city.ticket(title="电的事", matter="street_order", enterprise={"district": None})
            await city.act(made["id"], "dispatch", "dispatcher", department="power_supply")
            owned["power_supply"].add(made["id"])
        every = [t for ids in owned.values() for t in ids]
        told = {"rows": 0, "hidden": 0, "cancelled": 0}
        gate = asyncio.Semaphore(64)

        async def ask(unit: str) -> None:
            own = owned[unit]
            if chance.random() < 0.4:
                answer = await city.get("/v1/queue", f"handler:{unit}")
                if answer.status_code == 200:
                    ids = {row["id"] for row in answer.json()["items"]}
                    assert ids == own
                    told["rows"] += len(ids)
            else:
                t = chance.choice(every)
                if chance.random() < 0.2:
                    answer = await city.post(f"/v1/tickets/{t}/actions/comment", {"text": "x"}, f"handler:{unit}")
                else:
                    answer = await city.get(f"/v1/tickets/{t}", f"handler:{unit}")
                allowed = {200, 503, 409} if t in own else {404, 503}
                assert answer.status_code in allowed, (unit, t, answer.text)
                told["hidden"] += answer.status_code == 404

        async def one(n: int) -> None:
            async with gate:
                task = asyncio.create_task(ask("tax" if n % 2 else "power_supply"))
                if chance.random() < 0.25:
                    await asyncio.sleep(chance.random() * 0.02)
                    task.cancel()
                    told["cancelled"] += 1
                    with suppress(asyncio.CancelledError):
                        await task
                else:
                    await task

        await asyncio.gather(*(one(n) for n in range(1200)))
        assert told["rows"] > 500 and told["hidden"] > 100 and told["cancelled"] > 100, told
        for unit, own in owned.items():
            after = await city.get("/v1/queue", f"handler:{unit}")
            assert {row["id"] for row in after.json()["items"]} == own, "the pool is whole after all that"
