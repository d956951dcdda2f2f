"""T18, T6: timers fire only while the database's clock can be believed."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from service import clock
from service.core.model import Role
from service.usecases import operation
from service.usecases.runs import Watches
from service.worker.pump import Pump
from tests.conftest import City
from tests.worker.stage import count, jump, pumping, sql, until


class Jumping:
    """A database's clock that somebody moves."""

    def __init__(self) -> None:
        self.by = timedelta()

    def __call__(self, database: datetime) -> datetime:
        return database + self.by


def watches(database: Jumping) -> Watches:
    return Watches(database=database)


async def held(city: City) -> str | None:
    rows = await sql(city.dsn, "SELECT held FROM pump_runs")
    return rows[0]["held"] if rows else None


async def is_held(city: City) -> bool:
    return await held(city) is not None


async def fired(city: City) -> int:
    return await count(city.dsn, "firings")


@pytest.mark.parametrize("hours", [2, -1])
async def test_T6_a_jump_of_the_databases_clock_fires_nothing_until_it_is_back(city: City, hours: int) -> None:
    database = Jumping()
    async with pumping(Pump(city.house, watches(database))):
        await until(lambda: count(city.dsn, "pump_runs"))
        await city.ticket()
        database.by = timedelta(hours=hours)

        async def closed() -> bool:
            return await is_held(city)

        await until(closed, 15)
        await jump(city.dsn, 86_400)  # as the jump would have it: everything of the day is due
        ready = await operation.readiness(city.house)
        assert ready["timers"].startswith("degraded: held") and "jumped" in ready["timers"]
        text = (await city.get("/metrics", None)).text
        assert "jieban_pumps_held 1.0" in text
        assert await fired(city) == 0
        database.by = timedelta(seconds=3)

        async def some() -> int:
            return await fired(city)

        await until(some, 15)

        async def told() -> bool:
            return not await is_held(city)

        await until(told, 15)


async def test_T18_a_host_far_from_the_database_holds_its_own_pump_only(city: City) -> None:
    wrong = Pump(city.house, Watches(host=lambda: clock.wall_now() + timedelta(hours=2)))
    right = Pump(city.house)
    await city.ticket()
    async with pumping(wrong):

        async def closed() -> bool:
            return await is_held(city)

        await until(closed)
        await jump(city.dsn, 86_400)
        async with pumping(right):

            async def some() -> int:
                return await fired(city)

            await until(some)
        rows = await sql(city.dsn, "SELECT held, skew_us FROM pump_runs WHERE worker = $1", wrong.worker)
        assert "the host's clock is +7200 s" in rows[0]["held"]
        assert abs(rows[0]["skew_us"] - 7_200_000_000) < 5_000_000


async def test_a_persistent_jump_is_released_by_an_administrator_and_kept_in_the_audit(city: City) -> None:
    database = Jumping()
    async with pumping(Pump(city.house, watches(database))):
        await until(lambda: count(city.dsn, "pump_runs"))
        await city.ticket()
        database.by = timedelta(hours=2)

        async def closed() -> bool:
            return await is_held(city)

        await until(closed, 15)
        await jump(city.dsn, 86_400)
        refused = await city.post("/v1/timers/gate/release", {"reason": "x"}, "supervisor")
        assert refused.status_code == 403
        answer = await city.post("/v1/timers/gate/release", {"reason": "NTP was corrected"}, "admin")
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["released"]) == 1

        async def some() -> int:
            return await fired(city)

        await until(some, 15)
    [entry] = await sql(city.dsn, "SELECT actor, data FROM audit WHERE action = 'timers.released'")
    assert "NTP was corrected" in entry["data"]
    assert str(Role.ADMIN) in entry["actor"]


async def test_T18_a_host_whose_clock_is_off_takes_no_requests(city: City) -> None:
    assert (await operation.readiness(city.house))["ready"]
    off = await operation.readiness(city.house, lambda: clock.wall_now() + timedelta(seconds=61))
    assert not off["ready"]
    assert 60 < off["clock_skew_seconds"] < 70


async def test_readiness_fails_when_the_oldest_due_timer_is_older_than_its_bound(city: City) -> None:
    await city.ticket()
    await jump(city.dsn, 30 * 86_400)
    answer = await city.get("/readyz", None)
    assert answer.status_code == 503
    assert "oldest_due_seconds" in answer.json()["detail"]
    await sql(city.dsn, "UPDATE clocks SET attempts = 1, next_fire_at = next_fire_at WHERE next_fire_at IS NOT NULL")
    assert (await city.get("/readyz", None)).status_code == 200, "what is set aside is somebody's work, not lateness"
