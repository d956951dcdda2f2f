"""F3: everything as `up` starts it, each part killed once while requests come in; nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.conftest import request_body
from tests.faults.running import ROOT, Running, poll, processes_with

POSTS, CLIENTS = 500, 16
pytestmark = pytest.mark.slow
# ruff: noqa: ASYNC110, ASYNC210, ASYNC221, ASYNC240  # while the parts are looked at, nothing else is to run


@pytest.fixture
def running() -> Iterator[Running]:
    base = Path(tempfile.mkdtemp(prefix="jieban-kill-"))
    base.chmod(0o711)  # the servers' account must pass through it
    made = Running(base / "data")
    try:
        made.wait_ready()
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.wait()
        made.log.close()
        poll(lambda: not processes_with(str(base)), 30, "all gone")
        servers = base / "data" / "servers"
        if servers.is_symlink():
            shutil.rmtree(servers.resolve(), ignore_errors=True)
        shutil.rmtree(base, ignore_errors=True)


async def post_until_taken(http: httpx.AsyncClient, body: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What a careful client does: the same body with the same key until it is acknowledged."""
    key, give_up = body["source"]["reference"], time.monotonic() + seconds
    while True:
        wait = 0.05
        try:
            answer = await http.post("/v1/tickets", json=body, headers={"Idempotency-Key": key})
            if answer.status_code in {200, 201}:
                acknowledged: dict[str, Any] = answer.json()
                return acknowledged
            assert answer.status_code in {409, 429, 503}, (answer.status_code, answer.text)
            assert answer.headers["retry-after"]
            wait = 0.2
        except httpx.TransportError:
            pass
        assert time.monotonic() < give_up, "a request was never taken"
        await asyncio.sleep(wait + random.random() * 0.05)


async def kill_each_once(running: Running, done: Callable[[], int]) -> list[str]:
    """-9 for API, worker, PostgreSQL and Redis, spread over the posts; each has come back before the next."""
    killed = []
    for n, name in enumerate(("api", "postgres", "worker", "redis"), 1):
        while done() < n * POSTS // 6:
            await asyncio.sleep(0.01)
        pid = running.children()[name]
        os.kill(pid, signal.SIGKILL)
        killed.append(name)
        async with asyncio.timeout(20):
            while running.children().get(name, pid) == pid:
                await asyncio.sleep(0.02)
    return killed


async def rows(running: Running, sql: str) -> list[Any]:
    connection = await asyncpg.connect(host=running.socket_folder(), port=5432, user="jieban", database="jieban")
    try:
        return list(await connection.fetch(sql))
    finally:
        await connection.close()


async def test_no_request_is_lost_or_doubled_while_each_part_is_killed_and_ctrl_c_leaves_nothing(
    running: Running,
) -> None:
    assert set(running.children()) == {"api", "worker", "postgres", "redis"}, running.told()
    token = running.token("hotline")
    bodies = [request_body(enterprise={"name": f"企业{n % 40}"}) for n in range(POSTS)]
    todo, acknowledged = list(bodies), []

    async with httpx.AsyncClient(
        base_url=running.url, timeout=10, trust_env=False, headers={"Authorization": f"Bearer {token}"}
    ) as http:

        async def client() -> None:
            while todo:
                body = todo.pop()
                acknowledged.append((body, await post_until_taken(http, body, 40)))

        killer = asyncio.create_task(kill_each_once(running, lambda: len(acknowledged)))
        try:
            await asyncio.gather(*(client() for _ in range(CLIENTS)))
        except AssertionError as error:
            raise AssertionError(f"{error}; {running.errors()}") from error
        assert await asyncio.wait_for(killer, 30) == ["api", "postgres", "worker", "redis"]
        for body, ticket in random.sample(acknowledged, 20):
            again = await post_until_taken(http, body, 20)
            assert again["id"] == ticket["id"]

    stored = await rows(
        running,
        """SELECT t.id::text AS id, t.number, t.source_reference AS reference, t.last_seq,
                  (SELECT count(*) FROM events e WHERE e.ticket_id = t.id AND e.type = 'ticket.opened') AS opened,
                  (SELECT count(*) FROM events e WHERE e.ticket_id = t.id) AS events,
                  (SELECT count(*) FROM clocks c WHERE c.ticket_id = t.id) AS clocks,
                  (SELECT count(*) FROM assignments a WHERE a.ticket_id = t.id) AS legs,
                  (SELECT count(*) FROM outbox o WHERE o.ticket_id = t.id) AS outbox
           FROM tickets t""",
    )
    assert len(stored) == POSTS == len(acknowledged)
    by_reference = {r["reference"]: r for r in stored}
    assert len(by_reference) == len({r["number"] for r in stored}) == POSTS
    for body, ticket in acknowledged:
        row = by_reference[body["source"]["reference"]]
        assert (row["id"], row["number"]) == (ticket["id"], ticket["number"])
        assert (row["opened"], row["clocks"]) == (1, 4)
        assert row["events"] == row["last_seq"] >= 1
        assert row["legs"] >= 1 and row["outbox"] >= 1
    kept = await rows(running, "SELECT count(*) AS n FROM idempotency")
    assert kept[0]["n"] == POSTS

    verdict = subprocess.run(
        [sys.executable, "-m", "service.cli", "audit", "verify"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**running.env, "JIEBAN_DATABASE_URL": f"postgresql://jieban@/jieban?host={running.socket_folder()}&port=5432"},
    )  # fmt: skip
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    assert f"{POSTS} tickets" in verdict.stdout and "0 broken" in verdict.stdout

    # a timer of the time after the kills is fired by the worker that came back
    assert httpx.get(f"{running.url}/readyz", trust_env=False).json()["oldest_due_seconds"] < 60
    marks = (str(running.folder), running.socket_folder())
    children = running.children()
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(40) == 0, running.told()
    poll(lambda: not processes_with(*marks), 5, "nothing is left")
    assert not [pid for pid in children.values() if Path(f"/proc/{pid}").exists()]
    with socket.create_server(("127.0.0.1", running.port)):
        pass  # the port is free again


def test_the_log_of_what_was_said_names_no_request(running: Running) -> None:
    """Whoever reads the logs after a crash learns of no person."""
    token = running.token("hotline")
    body = request_body(contact={"name": "欧阳测试人", "phone": "13987654321"})
    answer = httpx.post(
        f"{running.url}/v1/tickets",
        json=body,
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
        timeout=20,
    )
    assert answer.status_code == 201
    logs = json.dumps(
        [p.read_text(errors="replace") for p in (running.folder / "logs").glob("*.log")], ensure_ascii=False
    )
    for canary in ("欧阳测试人", "13987654321", body["title"], token):
        assert canary not in logs + running.told()
