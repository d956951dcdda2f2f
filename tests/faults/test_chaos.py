"""T1, T3, T4, T9, T12: real processes, real faults, real time. The long form: `python -m tests.faults.chaos --help`."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import httpx
import pytest

from service.db.session import connect_arguments
from tests.faults.chaos import run_seed
from tests.faults.flows import CarefulClient, Flow, Told, load
from tests.faults.stage import WORKERS, Stage, opened_stage

pytestmark = pytest.mark.slow
# ruff: noqa: ASYNC110  # other processes are waited for: nobody here could set an event
FLOWS, SECONDS = 90, 8.0


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with opened_stage(seed=1) as opened:
        yield opened


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_t1_chaos_breaks_no_promise(stage: Stage, seed: int) -> None:
    outcome = await run_seed(stage, seed, FLOWS, SECONDS)
    print(outcome)
    assert outcome.violations == [], str(outcome)
    assert outcome.figures["flows"] == FLOWS
    assert outcome.figures["firings"] > FLOWS
    assert outcome.figures["commits_cut"] > 5


async def test_t3_without_redis_nothing_waits_and_no_process_ends(stage: Stage) -> None:
    await quiet(stage)
    workers = {name: stage.supervisor.pid(name) for name in WORKERS}
    [before] = await stage.rows("SELECT clock_timestamp() AS at")
    told = Told()
    async with stage.without("redis"):
        started = time.monotonic()
        await load(stage, told, seed=31, flows=30, seconds=4)
        assert time.monotonic() - started < 30
        await asyncio.sleep(3)
        assert {name: stage.supervisor.pid(name) for name in WORKERS} == workers, stage.told
        assert all(_lives(pid) for pid in workers.values())
    assert await late_since(stage, before["at"], at_least=60) < 3
    assert len(told.tickets) == 30
    await nothing_offends(stage)


async def test_t4_timers_of_a_worker_killed_in_the_middle_of_its_batch_fire_within_five_seconds(stage: Stage) -> None:
    await quiet(stage)
    first, other = WORKERS
    stage.kill(other, signal.SIGSTOP)
    blocker = await asyncpg.connect(**connect_arguments(stage.dsn))
    try:
        tickets = await posted(stage, "t4", 40)
        # whoever fires now waits for this lock, with its tickets locked and its work undone
        await blocker.execute("BEGIN")
        await blocker.execute("LOCK TABLE firings IN SHARE MODE")
        await until(stage, f"SELECT count(*) >= 40 FROM clocks WHERE next_fire_at < now() AND {ours(tickets)}")
        await until(stage, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'firings'::regclass")
        stage.kill(first)
        await blocker.execute("COMMIT")
    finally:
        stage.kill(other, signal.SIGCONT)
        await blocker.close()
    killed = time.monotonic()
    await until(
        stage, f"SELECT count(*) = 0 FROM clocks WHERE next_fire_at < now() - interval '0.5 s' AND {ours(tickets)}"
    )
    assert time.monotonic() - killed < 5
    await nothing_offends(stage)


async def test_t9_a_worker_that_was_stopped_and_goes_on_does_nothing_twice(stage: Stage) -> None:
    """It sleeps over everything that falls due, in the middle of its own batch, and wakes when all of it is done."""
    await quiet(stage)
    sleeper = WORKERS[0]
    tickets = await posted(stage, "t9", 40)
    await until(stage, f"SELECT count(*) > 0 FROM firings f WHERE {ours(tickets)}")
    pid = stage.kill(sleeper, signal.SIGSTOP)
    # what it may have locked is let go by the server's own limit; here that limit comes at once
    await stage.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE state = 'idle in transaction' AND application_name = 'jieban'"
    )
    await asyncio.sleep(8)
    [fired] = await stage.rows(f"SELECT count(*) AS n FROM firings WHERE {ours(tickets)}")
    assert fired["n"] > 100, "the other one did the work"
    os.kill(pid, signal.SIGCONT)
    await asyncio.sleep(2)
    assert stage.supervisor.pid(sleeper) == pid, "it is the same process that goes on"
    await nothing_offends(stage)


async def test_t12_ten_rolling_restarts_of_the_workers_lose_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a worker whose first look at the database is cut off ends and is started again: here only ours are counted
    monkeypatch.setattr(stage.cutter, "share", 0.0)
    await quiet(stage)
    told, before = Told(), len(stage.told)
    [since] = await stage.rows("SELECT clock_timestamp() AS at")
    async with asyncio.TaskGroup() as group:
        group.create_task(load(stage, told, seed=121, flows=60, seconds=20))
        for n in range(10):
            name = WORKERS[n % 2]
            pid = stage.kill(name, signal.SIGTERM)
            await poll_for(lambda name=name, pid=pid: stage.supervisor.pid(name) != pid, 30)
            # rolling: the next one is asked to end when this one works again
            await poll_for(lambda name=name: takes_sigterm(stage.supervisor.pid(name)), 60)
    ended = [line for line in stage.told[before:] if "ended with code" in line or "was killed" in line]
    assert all("worker" in line and "ended with code 0;" in line for line in ended), "\n".join(ended)
    assert len(ended) == 10, "\n".join(ended)
    late = await late_since(stage, since["at"], at_least=150)
    print(f"latest {late:.2f} s")
    assert late < 3
    assert len(told.tickets) == 60
    await nothing_offends(stage)


# --- what they share ---------------------------------------------------------------------------------------------------


async def posted(stage: Stage, name: str, number: int) -> list[str]:
    """Tickets that nobody touches, acknowledged."""
    told = Told()
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
        client = CarefulClient(stage, http, told, Random(4))
        flows = [Flow(client, told, f"{name}-{n}", Random(n), 0) for n in range(number)]
        for n in range(0, number, 8):
            await asyncio.gather(*(flow.run("silent") for flow in flows[n : n + 8]))
    return list(told.tickets.values())


async def quiet(stage: Stage) -> None:
    """Everything ready, and nothing due: what earlier tests began has ended or is withdrawn. The workers too: one whose
    start met a cut connection has been started again."""
    await stage.wait_ready(20, late_seconds=1.0)
    await poll_for(lambda: all(takes_sigterm(stage.supervisor.pid(name)) for name in WORKERS), 20)
    stage.told.clear()


async def until(stage: Stage, sql: str, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not (await stage.rows(sql))[0][0]:
            await asyncio.sleep(0.05)


async def poll_for(condition: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


def takes_sigterm(pid: int) -> bool:
    """Whether the process has come so far that it ends in good order when asked to (a handler for signal 15)."""
    try:
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return False
    return caught is not None and bool(int(caught[1], 16) & 1 << (signal.SIGTERM - 1))


def ours(tickets: list[str]) -> str:
    listed = ", ".join(f"'{t}'" for t in tickets)
    return f"ticket_id IN ({listed})"


async def late_since(stage: Stage, since: Any, at_least: int) -> float:
    """The longest delay of the rungs that came due since then, of which there were `at_least` so many."""
    [row] = await stage.rows(
        "SELECT count(*) AS n, max(extract(epoch FROM fired_at - due_at))::float AS late FROM firings WHERE due_at > $1",
        since,
    )
    assert row["n"] >= at_least, row
    return float(row["late"])


async def nothing_offends(stage: Stage) -> None:
    checked = await stage.run("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert stage.unforeseen() == []


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
