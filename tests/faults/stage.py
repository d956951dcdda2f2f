"""A whole city of processes for fault tests: PostgreSQL, Valkey, two APIs, two workers, on promises of seconds.

The embedded servers and the supervisor are the launcher's own; one API and one worker reach PostgreSQL through the proxy
that cuts replies to COMMIT. The workflows are the shipped ones with every budget in seconds of real time, so that
thousands of timers really come due within a minute.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from service import clock
from service.core.yaml_files import read_yaml
from service.db import migrate
from service.db.session import connect_arguments
from service.embedded import EmbeddedServers
from service.integrations.identity_provider import BuiltinIssuer
from service.supervisor import Child, Supervisor
from service.usecases.identity import parse_as
from tests.faults.proxy import CommitCutter
from tests.faults.running import ROOT

CLI = [sys.executable, "-m", "service.cli"]
APIS, WORKERS = ("api-1", "api-2"), ("worker-1", "worker-2")
SECONDS = {
    "resolve": 12, "contact": 4, "opinion": 6, "accept": 3, "co_reply": 6, "dispatch": 2, "return_decision": 3,
    "extension_decision": 3, "pause_decision": 3, "pause_cap": 3, "audit": 4, "callback": 5, "review_screen": 4,
    "review_opinion": 3, "review_decision": 5,
}  # fmt: skip
"""Budget of each clock; measures of a review keep their dates."""
UNFORESEEN = (
    "unforeseen", "the pump failed", "the outbox failed", "a timer cannot be fired", "a batch of timers failed",
    "deadlock detected",
)  # fmt: skip
"""What no log may say: that something went wrong which nobody had foreseen."""


def hasty_workflows(target: Path) -> None:
    """The city's own workflows with budgets of seconds. JSON is YAML: what is changed is written as JSON."""
    shutil.copytree(ROOT / "workflows", target, ignore=shutil.ignore_patterns("departments"))
    for path in (target / "city").glob("*.yaml"):
        plain = read_yaml(path)
        if path.name != "base.yaml":
            plain.pop("clocks", None)
        for name, seconds in SECONDS.items():
            if path.name == "base.yaml":
                _hasten(plain["clocks"][name], seconds)
        if path.name == "base.yaml":
            # days are added to clocks of days only
            effects = plain["approvals"]["extension"]["approve"]["effects"]
            effects.remove({"extend": "resolve"})
        path.write_text(json.dumps(plain, ensure_ascii=False))


def _hasten(plain: dict[str, Any], seconds: int) -> None:
    plain |= {"measure": "natural_hours", "budget": f"PT{seconds}S"}
    if "rework_budget" in plain:
        plain["rework_budget"] = f"PT{seconds // 2}S"
    for rung in plain.get("rungs", ()):
        for when in ("before", "after"):
            if when in rung:
                rung |= {when: f"PT{rung[when]}S", "measure": "natural_hours"}
        if "times" in rung:
            rung["times"] = 3


class Stage:
    """The processes, with a handle on each. Made by `opened_stage`."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.servers = EmbeddedServers(folder / "data")
        self.dsn = self.servers.start_postgres()
        self.redis_url = self.servers.start_redis()
        (folder / "proxy").mkdir()
        upstream = Path(connect_arguments(self.dsn)["host"]) / ".s.PGSQL.5432"
        self.cutter = CommitCutter(folder / "proxy", upstream, seed)
        hasty_workflows(folder / "workflows")
        self.told: list[str] = []
        self.ports = {name: _free_port() for name in APIS}
        self.env = {
            "JIEBAN_DATABASE_URL": self.dsn, "JIEBAN_REDIS_URL": self.redis_url, "JIEBAN_SANDBOX": "0",
            "JIEBAN_DATA_DIR": str(folder / "data"), "JIEBAN_WORKFLOWS_DIR": str(folder / "workflows"),
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        children = [self._child(name, n == 0) for names in (APIS, WORKERS) for n, name in enumerate(names)]
        self.supervisor = Supervisor(self.servers, children, tell=self.told.append)
        self.issuer = BuiltinIssuer.open(folder / "data")
        self._tokens: dict[str, str] = {}

    def _child(self, name: str, through_proxy: bool) -> Child:
        proxied = f"postgresql://jieban@/jieban?host={self.folder / 'proxy'}&port=5432"
        env = {**self.env, "JIEBAN_DATABASE_URL": proxied if through_proxy else self.dsn, "JIEBAN_POOL_SIZE": "8"}
        if name in self.ports:
            env["JIEBAN_PORT"] = str(self.ports[name])
        return Child(name, [*CLI, name.partition("-")[0]], env, cwd=ROOT)

    # -- what is looked at

    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports.values()]

    def token(self, who: str) -> str:
        if who not in self._tokens:
            role, departments = parse_as(who)
            self._tokens[who] = self.issuer.issue(who, role, departments, 3600, clock.wall_now())
        return self._tokens[who]

    async def rows(self, sql: str, *args: Any) -> list[Any]:
        connection = await asyncpg.connect(**connect_arguments(self.dsn))
        try:
            return list(await connection.fetch(sql, *args))
        finally:
            await connection.close()

    async def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of the service, beside the processes that run."""
        return await asyncio.to_thread(
            subprocess.run, [*CLI, *words], cwd=ROOT, capture_output=True, text=True, timeout=120,
            env={**os.environ, **self.env},
        )  # fmt: skip

    async def wait_ready(self, seconds: float, late_seconds: float = 600.0) -> float:
        """Until every API is ready and no timer is later than `late_seconds`; how long that took."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with httpx.AsyncClient(timeout=3, trust_env=False) as http:
            while True:
                answers = [await _ready(http, url) for url in self.urls()]
                if all(a is not None and a["oldest_due_seconds"] <= late_seconds for a in answers):
                    return loop.time() - started
                if loop.time() - started > seconds:
                    raise AssertionError(f"not ready within {seconds} s: {answers}; {self.told[-5:]}")
                await asyncio.sleep(0.1)

    def unforeseen(self) -> list[str]:
        """What the processes' logs say went wrong in a way nobody foresaw, and deadlocks of the database."""
        found = []
        for path in (self.folder / "data" / "logs").glob("*.log"):
            lines = path.read_text(errors="replace").splitlines()
            found += [f"{path.name}: {line[:500]}" for line in lines if any(sign in line for sign in UNFORESEEN)]
        return found

    # -- what is done to them

    def kill(self, name: str, signum: signal.Signals = signal.SIGKILL) -> int:
        pid = self.supervisor.pid(name)
        os.kill(pid, signum)
        return pid

    async def flush_redis(self) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.servers.sockets / "redis.sock"))
            writer.write(b"FLUSHALL\r\n")
            await writer.drain()
            await asyncio.wait_for(reader.readline(), 2)
            writer.close()
        except (OSError, TimeoutError):
            return  # it is away itself

    @asynccontextmanager
    async def without(self, name: str) -> AsyncIterator[None]:
        """A server is gone and nobody starts it again until the end of the block."""
        with self.supervisor._busy:
            watched = [w for w in self.supervisor._watched if w.name == name]
            self.supervisor._watched = [w for w in self.supervisor._watched if w.name != name]
        self.kill(name)
        try:
            yield
        finally:
            await asyncio.to_thread(self.servers.restart, name)
            with self.supervisor._busy:
                self.supervisor._watched += watched


def _passable_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="jieban-chaos-"))
    folder.chmod(0o711)  # the servers' account must pass through it
    return folder


async def _ready(http: httpx.AsyncClient, url: str) -> dict[str, Any] | None:
    try:
        answer = await http.get(f"{url}/readyz")
    except httpx.TransportError:
        return None
    told: dict[str, Any] = answer.json()
    return told if answer.status_code == 200 else None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@asynccontextmanager
async def opened_stage(seed: int) -> AsyncIterator[Stage]:
    """Everything started and ready; everything gone afterwards."""
    folder = _passable_folder()
    stage = await asyncio.to_thread(Stage, folder, seed)
    try:
        await asyncio.to_thread(migrate.upgrade, stage.dsn)
        published = await stage.run("migrate")
        assert published.returncode == 0, published.stderr
        await stage.cutter.start()
        await asyncio.to_thread(stage.supervisor.start)
        await stage.wait_ready(60)
        yield stage
    finally:
        await asyncio.to_thread(stage.supervisor.stop)
        await stage.cutter.stop()
        shutil.rmtree(stage.servers.home, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
