"""Workers that die: what they had in hand is taken over by exactly one, and what killed them ends dead and visible."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.core.model import SYSTEM
from service.db import batches, tickets
from service.usecases import audit, clocks
from service.usecases.runs import Run
from service.worker.pump import Pump
from tests.conftest import City
from tests.worker.stage import count, jump, pumping, sql, until

ROOT = Path(__file__).resolve().parents[2]
DAY = 86_400


async def died_over(city: City, ticket_ids: list[str], worker: str = "gone") -> None:
    """A run of a worker that wrote what it had in hand and was never heard of again."""
    await sql(
        city.dsn,
        """INSERT INTO pump_runs (worker, started_at, heartbeat_at, batch)
           VALUES ($1, now() - interval '1 hour', now() - interval '16 seconds', $2::uuid[])""",
        worker, ticket_ids,
    )  # fmt: skip


async def crashes(city: City, ticket_id: str) -> set[int]:
    rows = await sql(
        city.dsn, "SELECT crashes FROM clocks WHERE ticket_id = $1 AND next_fire_at IS NOT NULL", ticket_id
    )
    return {r["crashes"] for r in rows}


async def due_tickets(city: City, n: int) -> list[str]:
    made = [(await city.ticket())["id"] for _ in range(n)]
    await jump(city.dsn, 30 * DAY)
    return made


async def test_what_a_dead_worker_had_in_hand_is_taken_over_by_exactly_one(city: City) -> None:
    made = await due_tickets(city, 3)
    await died_over(city, made)
    others = [Run(city.house) for _ in range(4)]
    for other in others:
        await other.begin()
    await asyncio.gather(*(other.beat() for other in others))
    assert [await crashes(city, t) for t in made] == [{1}] * 3
    assert await count(city.dsn, "pump_runs WHERE worker = 'gone'") == 0


async def test_a_worker_whose_heart_beats_is_left_alone(city: City) -> None:
    [t] = await due_tickets(city, 1)
    slow, other = Run(city.house), Run(city.house)
    await slow.begin()
    async with slow.holding([t]):
        await other.begin()
        await other.beat()
    assert await crashes(city, t) == {0}


async def test_a_batch_that_killed_its_worker_is_fired_one_by_one_after_the_others(city: City) -> None:
    suspects = await due_tickets(city, 3)
    await died_over(city, suspects)
    innocent = (await city.ticket())["id"]
    await jump(city.dsn, 30 * DAY)
    run = Run(city.house)
    await run.begin()
    await run.beat()
    seen: list[tuple[str, ...]] = []
    while (await clocks.fire_due(city.house, run=run)).tickets:
        [row] = await sql(city.dsn, "SELECT batch::text[] AS batch FROM pump_runs WHERE worker = $1", run.worker)
        seen.append(tuple(row["batch"]))
    first_alone = next(n for n, batch in enumerate(seen) if batch[0] in suspects)
    assert all(len(batch) == 1 for batch in seen[first_alone : first_alone + 3]), "alone"
    assert all(batch == (innocent,) for batch in seen[:first_alone]), "what nobody suspects comes first"
    for t in suspects:
        assert await count(city.dsn, "firings WHERE ticket_id = $1", t) > 0
        assert await crashes(city, t) == {0}, "what could be fired is no suspect any more"


async def test_a_timer_over_which_workers_died_three_times_is_dead_and_visible(city: City) -> None:
    killer, other = await due_tickets(city, 2)
    run = Run(city.house)
    await run.begin()
    await died_over(city, [killer, other])
    await run.beat()
    for n in (2, 3):
        await died_over(city, [killer], f"gone {n}")
        await run.beat()
    rows = await sql(
        city.dsn,
        "SELECT crashes, next_fire_at, last_error FROM clocks WHERE ticket_id = $1 AND dead_at IS NOT NULL",
        killer,
    )  # fmt: skip
    assert rows and {(r["crashes"], r["next_fire_at"], r["last_error"]) for r in rows} == {
        (3, None, "workers died over it 3 times")
    }
    assert await crashes(city, other) == {1}, "many batches of many prove nothing against one"
    shown = (await city.get("/v1/timers?state=dead", "supervisor")).json()["items"]
    assert {item["ticket"]["id"] for item in shown} == {killer}
    for _ in range(5):
        await died_over(city, [other, killer], "again")
        await run.beat()
    assert await crashes(city, other) == {1}


async def test_a_silent_run_that_was_taken_for_dead_registers_again(city: City) -> None:
    run = Run(city.house)
    await run.begin()
    await sql(city.dsn, "DELETE FROM pump_runs")
    await run.beat()
    assert await count(city.dsn, "pump_runs WHERE worker = $1", run.worker) == 1


async def test_the_heart_beats_while_idle_and_a_clean_stop_leaves_no_run(city: City) -> None:
    pump = Pump(city.house)
    async with pumping(pump):

        async def known() -> object:
            return await count(city.dsn, "pump_runs")

        await until(known)
        first = (await sql(city.dsn, "SELECT heartbeat_at FROM pump_runs"))[0][0]

        async def beaten() -> object:
            return (await sql(city.dsn, "SELECT heartbeat_at FROM pump_runs"))[0][0] > first

        await until(beaten, 8)
    assert await count(city.dsn, "pump_runs") == 0


WORKER = """
import asyncio, sys
from service import bootstrap
from service.db import batches
from service.settings import Settings
loaded = batches.load
async def slow(tx, ids):
    print("in hand", flush=True)
    await asyncio.sleep(float(sys.argv[1]))
    return await loaded(tx, ids)
batches.load = slow
asyncio.run(bootstrap.run_worker(Settings()))
"""


@contextmanager
def started(city: City, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """A worker process that stands still for so long with each batch in hand."""
    env = {**os.environ, "JIEBAN_DATABASE_URL": city.dsn, "JIEBAN_REDIS_URL": "redis://127.0.0.1:1", "JIEBAN_SANDBOX": "1",
           "JIEBAN_SECRET_KEY": "A" * 43 + "=", "JIEBAN_LOG_LEVEL": "ERROR"}  # fmt: skip
    command = [sys.executable, "-c", WORKER, str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as worker:
        try:
            yield worker
        finally:
            worker.kill()


async def in_hand(worker: subprocess.Popen[str]) -> None:
    """Wait until it says that it has a batch in hand."""
    assert worker.stdout is not None
    async with asyncio.timeout(30):
        while line := await asyncio.to_thread(worker.stdout.readline):
            if line.strip() == "in hand":
                return
    raise AssertionError("the worker ended")


async def test_T4_timers_of_a_worker_killed_in_mid_batch_are_fired_by_another_within_seconds(city: City) -> None:
    made = await due_tickets(city, 20)
    with started(city, 60) as worker:
        await in_hand(worker)
        assert await count(city.dsn, "pump_runs WHERE cardinality(batch) = 20") == 1, "written before the work began"
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    async with pumping(Pump(city.house)):

        async def fired() -> object:
            return await count(city.dsn, "(SELECT DISTINCT ticket_id FROM firings) f") == len(made)

        await until(fired, 5)
    assert (await audit.verify(city.house)).broken == ()


async def test_T12_ten_rolling_restarts_lose_no_effect_and_no_try(city: City) -> None:
    made = await due_tickets(city, 40)
    for _ in range(10):
        pump = Pump(city.house, batch=2)
        task = asyncio.create_task(pump.run())
        before = await count(city.dsn, "firings")

        async def more(before: int = before) -> object:
            return await count(city.dsn, "firings") > before

        await until(more)
        pump.stop()  # what SIGTERM does
        await asyncio.wait_for(task, 10)
        assert await count(city.dsn, "pump_runs") == 0
    rows = await sql(city.dsn, "SELECT max(attempts) AS tries, max(crashes) AS crashes FROM clocks")
    assert tuple(rows[0]) == (0, 0)
    async with pumping(Pump(city.house)):

        async def fired() -> object:
            return await count(city.dsn, "(SELECT DISTINCT ticket_id FROM firings) f") == len(made)

        await until(fired)
    assert (await audit.verify(city.house)).broken == ()


async def test_a_worker_told_to_stop_finishes_the_batch_at_hand(city: City) -> None:
    made = await due_tickets(city, 5)
    with started(city, 1.5) as worker:
        await in_hand(worker)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 10) == 0
    assert await count(city.dsn, "(SELECT DISTINCT ticket_id FROM firings) f") == len(made)
    assert await count(city.dsn, "pump_runs") == 0


async def test_a_ticket_read_with_many_others_is_the_ticket_read_alone(city: City) -> None:
    made = [(await city.ticket())["id"] for _ in range(3)]
    await city.act(made[0], "accept", "handler:tax")
    await city.act(
        made[0], "request_extension", "handler:tax", days=3, ground="complex_multi_department", reason="复杂"
    )
    await city.act(made[1], "accept", "handler:tax")
    await city.act(made[1], "escalate", "handler:tax", reason="难")
    await city.advance(advance_by="P20D")
    async with city.house.db.transaction(SYSTEM) as tx:
        alone = await tickets.load(tx, made)
        together = await batches.load(tx, made)
    assert together.broken == {}
    for ticket in together.tickets:
        assert ticket == alone[ticket.id].ticket
