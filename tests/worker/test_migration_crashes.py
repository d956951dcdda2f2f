"""W4: published while tickets run and people act, no ticket changes its version; moved with a worker killed in the middle,
each is moved exactly once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.usecases import audit, integrity
from service.usecases.folders import Folder
from tests.api.test_workflows import KEY, MAPPING, NAMES, TAX, changed, order, publish, shown
from tests.conftest import City
from tests.worker.stage import count, sql, until

ROOT = Path(__file__).resolve().parents[2]
TICKETS = 300
WORKER = """
import asyncio, sys
from service import bootstrap
from service.db import saving
from service.settings import Settings
written, batches, stop_at = saving.save, 0, int(sys.argv[1])
async def save(tx, decisions, *given, **more):
    global batches
    saved = await written(tx, decisions, *given, **more)
    if any(e.type.startswith("workflow.") for d in decisions for e in d.events):
        batches += 1
        if batches == stop_at:
            print("in hand", flush=True)
            await asyncio.sleep(600)
    return saved
saving.save = save
asyncio.run(bootstrap.run_worker(Settings()))
"""
"""A real worker that stands still when it has written its n-th batch and not yet committed it."""


@contextmanager
def started(city: City, stop_at: int = 0) -> Iterator[subprocess.Popen[str]]:
    env = {**os.environ, "JIEBAN_DATABASE_URL": city.dsn, "JIEBAN_REDIS_URL": "redis://127.0.0.1:1", "JIEBAN_SANDBOX": "1",
           "JIEBAN_SECRET_KEY": "A" * 43 + "=", "JIEBAN_LOG_LEVEL": "ERROR"}  # fmt: skip
    command = [sys.executable, "-c", WORKER, str(stop_at)]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as worker:
        try:
            yield worker
        finally:
            worker.kill()


async def killed_in_mid_batch(worker: subprocess.Popen[str]) -> None:
    assert worker.stdout is not None
    async with asyncio.timeout(60):
        while (line := await asyncio.to_thread(worker.stdout.readline)).strip() != "in hand":
            assert line, "the worker ended"
    worker.send_signal(signal.SIGKILL)
    worker.wait()


async def test_W4_a_worker_killed_in_the_middle_moves_and_moves_back_every_ticket_exactly_once(
    city: City, folder: Folder
) -> None:
    made = [(await city.ticket())["id"] for _ in range(TICKETS)]

    async def act(tickets: list[str], action: str, **form: object) -> None:
        for t in tickets:
            await city.act(t, action, TAX, **form)

    async def published() -> None:
        await asyncio.sleep(0.2)
        await publish(city, changed(folder, names=NAMES, budget=12))

    await asyncio.gather(act(made[:60], "accept"), published())
    assert await count(city.dsn, "tickets WHERE workflow_version = 1") == TICKETS, "publishing moves nobody"

    migration = (await order(city, **MAPPING))["id"]
    with started(city, stop_at=3) as worker:
        acting = asyncio.create_task(act(made[60:90], "accept"))
        await killed_in_mid_batch(worker)
        moved = await count(city.dsn, "workflow_migration_tickets WHERE state = 'moved'")
        assert 0 < moved < TICKETS
        assert await count(city.dsn, "tickets WHERE workflow_version = 2") == moved, (
            "what was not committed is not there"
        )
        await acting
    with started(city):

        async def done() -> object:
            return (await shown(city, migration))["done"] == TICKETS

        await until(done, 60)
    await exactly_once(city, "workflow.migrated", 2)
    assert (await shown(city, migration))["tickets"]["moved"] == TICKETS

    await act(made[:10], "comment", text="x")
    undone = await city.post(f"/v1/workflows/migrations/{migration}/undo", {"reason": "a mistake"}, "admin")
    assert undone.status_code == 202
    with started(city, stop_at=2) as worker:
        await killed_in_mid_batch(worker)
    with started(city):

        async def undone_all() -> object:
            return (await shown(city, migration))["state"] == "undone"

        await until(undone_all, 60)
    told = (await shown(city, migration))["tickets"]
    assert (told["undone"], told["kept"]) == (TICKETS - 10, 10)
    rows = await sql(
        city.dsn, "SELECT count(*) AS n FROM events WHERE type = 'workflow.migrated_back' GROUP BY ticket_id"
    )
    assert [r["n"] for r in rows] == [1] * (TICKETS - 10)
    assert await count(city.dsn, "tickets WHERE workflow_version = 1") == TICKETS - 10
    await sound(city)


async def exactly_once(city: City, type_: str, version: int) -> None:
    rows = await sql(city.dsn, "SELECT count(*) AS n FROM events WHERE type = $1 GROUP BY ticket_id", type_)
    assert [r["n"] for r in rows] == [1] * TICKETS
    assert await count(city.dsn, "tickets WHERE workflow_key = $1 AND workflow_version = $2", KEY, version) == TICKETS
    await sound(city)


async def sound(city: City) -> None:
    assert (await audit.verify(city.house)).broken == ()
    report = await integrity.check(city.house)
    assert [f for f in report.findings if f.offending] == []
