"""W4: a workflow is published while thousands of tickets run and handlers act; then all are migrated, the worker killed.

    python3 -m service bench migration --tickets 5000      # or: .venv/bin/python -m bench.migration --help

Real processes: API, worker, PostgreSQL. Handlers act over HTTP all the time. Checked: by the publication no ticket changes
its version and no act fails; by the migration, with `kill -9` of the worker in the middle, each ticket is moved exactly
once; afterwards nothing that is stored offends, and the same again for the undo. Load, servers and workers share the
machine: next to the seconds stands the processor time that API and worker used.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from bench.pump import Bench, requests, settle, share
from service import clock
from service.api.schemas import NewTicket
from service.core.model import Actor, Role
from service.db import migrate
from service.db.session import Database
from service.db.vault import Vault
from service.embedded import EmbeddedServers
from service.integrations.identity_provider import BuiltinIssuer
from service.supervisor import wait_http
from service.usecases import audit, folders, intake, integrity, publishing
from service.usecases.answers import Call, digest_of
from service.usecases.house import House
from service.usecases.identity import parse_as

KEY, SECRET = "business_development", bytes(32)
HOTLINE = Actor("hotline", Role.HOTLINE)
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Acts:
    """What handlers did over HTTP: seconds by what happened meanwhile, and every answer that was no 200."""

    meanwhile: str = "nothing"
    seconds: dict[str, list[float]] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)

    def told(self) -> str:
        return "; ".join(
            f"{what}: {len(s)} acts, p50 {share(s, 50) * 1000:.0f} ms, p99 {share(s, 99) * 1000:.0f} ms"
            for what, s in self.seconds.items()
        )


class City:
    """HTTP to the API, with a token for each role."""

    def __init__(self, bench: Bench, issuer: BuiltinIssuer) -> None:
        self.bench, self.issuer, self.tokens = bench, issuer, dict[str, str]()
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{bench.port}", timeout=120, trust_env=False)

    def _headers(self, who: str) -> dict[str, str]:
        if who not in self.tokens:
            role, departments = parse_as(who)
            self.tokens[who] = self.issuer.issue(who, role, departments, 12 * 3600, clock.wall_now())
        return {"Authorization": f"Bearer {self.tokens[who]}"}

    async def post(self, path: str, body: Any, who: str, status: int) -> Any:
        answer = await self.http.post(path, json=body, headers=self._headers(who))
        assert answer.status_code == status, answer.text
        return answer.json()

    async def get(self, path: str, who: str = "supervisor") -> Any:
        return (await self.http.get(path, headers=self._headers(who))).json()

    async def act(self, ticket: str, action: str, form: Any, who: str, acts: Acts) -> None:
        started = time.perf_counter()
        answer = await self.http.post(f"/v1/tickets/{ticket}/actions/{action}", json=form, headers=self._headers(who))
        acts.seconds.setdefault(acts.meanwhile, []).append(time.perf_counter() - started)
        if answer.status_code != 200:
            acts.failed[f"{action}: {answer.status_code} {answer.text[:300]}"] += 1


async def seed(house: House, tickets: int) -> None:
    """Requests of one domain, taken in by the use case itself, eight at a time."""
    bodies, todo = requests(), iter(range(tickets))

    async def client() -> None:
        for n in todo:
            given = bodies[n % len(bodies)]
            source = {**given["source"], "reference": f"bench-{n}"}
            changes = {"source": source, "domain": KEY, "urgency": "normal"}
            body = NewTicket.model_validate({**given, **changes}).model_dump()
            await intake.accept(house, HOTLINE, body, Call("POST /v1/tickets", f"bench-{n}", digest_of(body)))
            if n % 500 == 499:
                print(f"\r  {n + 1} tickets", end="", flush=True)

    await asyncio.gather(*(client() for _ in range(8)))
    print()


def next_version() -> dict[str, Any]:
    """A stage has another name, the enterprise's promise is three days shorter."""
    plain = folders.read_folder(ROOT / "workflows").workflows[KEY]
    text = json.dumps(plain).replace('"handling"', '"working"').replace('"phase": "working"', '"phase": "handling"')
    made: dict[str, Any] = json.loads(text)
    made["clocks"]["resolve"]["budget"] = 12
    return made


async def handlers(city: City, tickets: list[Any], acts: Acts, per_second: float, stop: asyncio.Event) -> None:
    """Each ticket is accepted by its own unit once, in random order; then they are commented on. At a steady rate."""
    rng = random.Random(1)
    todo = [t for t in tickets if t["lead"]]
    rng.shuffle(todo)
    started, n, running = time.perf_counter(), 0, set[asyncio.Task[None]]()
    while not stop.is_set():
        if n < len(todo) // 2:
            row, action, form = todo[n], "accept", {}
        else:
            row, action, form = rng.choice(todo), "comment", {"text": "查询进度"}
        task = asyncio.create_task(city.act(str(row["id"]), action, form, f"handler:{row['lead']}", acts))
        running.add(task)
        task.add_done_callback(running.discard)
        n += 1
        await asyncio.sleep(max(0.0, started + n / per_second - time.perf_counter()))
    await asyncio.gather(*running)


async def on_version(bench: Bench, version: int) -> int:
    sql = "SELECT count(*) FROM tickets WHERE workflow_key = $1 AND workflow_version = $2"
    return int(str(await bench.value(sql, KEY, version)))


async def carried_out(
    city: City, bench: Bench, order: str, workers: list[subprocess.Popen[bytes]], kill_at: float
) -> float:
    """Until no ticket of the order waits, the worker killed at a share of it; seconds, those of the restart included."""
    started, killed = time.perf_counter(), False
    while True:
        told = await city.get(f"/v1/workflows/migrations/{order}")
        if told["done"] >= told["total"]:
            return time.perf_counter() - started
        if not killed and told["done"] >= kill_at * told["total"]:
            workers[-1].send_signal(signal.SIGKILL)
            workers[-1].wait()
            killed = True
            left = (await city.get(f"/v1/workflows/migrations/{order}"))["done"]
            print(f"  worker killed with {left} of {told['total']} done")
            workers.append(bench.start("worker"))
        await asyncio.sleep(0.1)


async def once_each(bench: Bench, type_: str) -> tuple[int, int]:
    """How many tickets have events of this type, and the most that any of them has."""
    async with bench.connection() as connection:
        row = await connection.fetchrow(
            """SELECT count(*) AS tickets, coalesce(max(n), 0) AS most
               FROM (SELECT count(*) AS n FROM events WHERE type = $1 GROUP BY ticket_id) e""",
            type_,
        )
    return row["tickets"], row["most"]


async def sound(house: House, what: str) -> None:
    verdict, report = await audit.verify(house), await integrity.check(house)
    bad = [f for f in report.findings if f.offending]
    print(f"  {what}: {report.tickets} tickets, {report.clocks} clocks checked, {report.offending} offending;"
          f" {verdict.events} events, {len(verdict.broken)} chains broken")  # fmt: skip
    assert not bad and not verdict.broken, bad


async def measure(bench: Bench, house: House, city: City, workers: list[subprocess.Popen[bytes]]) -> None:
    given, acts, stop = bench.given, Acts(), asyncio.Event()
    async with bench.connection() as connection:
        tickets = await connection.fetch(
            "SELECT id, lead FROM tickets WHERE workflow_key = $1 AND phase <> 'closed'", KEY
        )
    total = len(tickets)
    print(f"{total} tickets run on {KEY} version 1; handlers act {given.acts:.0f} times a second")
    acting = asyncio.create_task(handlers(city, tickets, acts, given.acts, stop))
    await asyncio.sleep(given.quiet)

    acts.meanwhile = "a version is published"
    plain, started = next_version(), time.perf_counter()
    await city.post("/v1/workflows", {"workflow": plain, "reason": "bench"}, "supervisor", 201)
    print(f"published version 2 in {(time.perf_counter() - started) * 1000:.0f} ms")
    await asyncio.sleep(given.quiet)
    assert (await on_version(bench, 1), await on_version(bench, 2)) == (total, 0), "publishing moved a ticket"
    print(f"  no ticket changed its version, {acts.failed.total()} acts failed")

    acts.meanwhile = "a dry run"
    wanted = {"from_version": 1, "stage_mapping": {"handling": "working"}, "reason": "bench"}
    path, started, used = f"/v1/workflows/{KEY}/migrations", time.perf_counter(), cpu(workers[0])
    told = await city.post(path, {**wanted, "dry_run": True}, "supervisor", 200)
    print(f"dry run in {time.perf_counter() - started:.1f} s, {cpu(workers[0]) - used:.1f} s of the API's processor time"
          f" (acts included): {told['can_move']} can move, {told['cannot_move']} cannot;"
          f" {told['due_times']['moved']} due times move, {told['breaches']['clocks']} breaches")  # fmt: skip

    acts.meanwhile = "the migration"
    used = cpu(workers[0])
    order = (await city.post(path, wanted, "supervisor", 202))["id"]
    took = await carried_out(city, bench, order, workers, given.kill_at)
    counts = (await city.get(f"/v1/workflows/migrations/{order}"))["tickets"]
    print(f"migrated in {took:.1f} s, {total / took:.0f} tickets/s; processor time: API {cpu(workers[0]) - used:.1f} s,"
          f" worker after the kill {cpu(workers[-1]):.1f} s")  # fmt: skip
    print(f"  { ({k: n for k, n in counts.items() if n}) }, {acts.failed.total()} acts failed")
    await finished(city, order, "done")
    assert counts["moved"] == total == await on_version(bench, 2), counts
    assert await once_each(bench, "workflow.migrated") == (total, 1)
    print(f"  each of {total} tickets has exactly one event of its migration")

    acts.meanwhile = "the undo"
    stop.set()
    await acting
    await sound(house, "after the migration")
    await city.post(f"/v1/workflows/migrations/{order}/undo", {"reason": "bench"}, "supervisor", 202)
    took = await carried_out(city, bench, order, workers, given.kill_at)
    await finished(city, order, "undone")
    counts = (await city.get(f"/v1/workflows/migrations/{order}"))["tickets"]
    print(f"undone in {took:.1f} s: { ({k: n for k, n in counts.items() if n}) } (kept: somebody acted on it since)")
    assert counts["undone"] + counts["kept"] == total
    assert await once_each(bench, "workflow.migrated_back") == (counts["undone"], 1)
    assert await on_version(bench, 1) == counts["undone"]
    await sound(house, "after the undo")
    print(f"acts while this went on: {acts.told()}")
    assert not acts.failed, acts.failed.most_common(5)
    print("no act failed")


def cpu(process: subprocess.Popen[bytes]) -> float:
    """Processor seconds that a process has used since it began."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def finished(city: City, order: str, state: str) -> None:
    """It looks once more for tickets that another process bound to the old version, ten seconds after it began."""
    async with asyncio.timeout(60):
        while (await city.get(f"/v1/workflows/migrations/{order}"))["state"] != state:  # noqa: ASYNC110  # it is another process
            await asyncio.sleep(0.5)


async def run(bench: Bench) -> None:
    db = await Database.connect(bench.dsn, 8, sandbox=False)
    house = House(db, Vault(SECRET), clock.new_id, ZoneInfo("Asia/Shanghai"), False)
    workers: list[subprocess.Popen[bytes]] = []
    api: subprocess.Popen[bytes] | None = None
    try:
        folder = folders.read_folder(ROOT / "workflows")
        # all tickets on one workflow, whatever overlays the folder has
        city_wide = {k: w for k, w in folder.workflows.items() if not w.get("departments")}
        await publishing.publish_folder(house, replace(folder, workflows=city_wide), "bench", "the shipped set")
        started = time.perf_counter()
        await seed(house, bench.given.tickets)
        print(f"seeded in {time.perf_counter() - started:.0f} s")
        await settle(bench)
        api, city = bench.start("api"), City(bench, BuiltinIssuer.open(bench.folder))
        workers += [api, bench.start("worker")]
        await asyncio.to_thread(wait_http, f"http://127.0.0.1:{bench.port}/readyz", 60)
        await measure(bench, house, city, workers)
        await city.http.aclose()
    finally:
        for process in workers:
            process.kill()
            process.wait()
        await db.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=5000)
    parser.add_argument("--acts", type=float, default=20, help="acts of handlers a second (default 20)")
    parser.add_argument("--quiet", type=float, default=8, help="seconds before and after the publication (default 8)")
    parser.add_argument("--kill-at", type=float, default=0.4, help="share at which the worker is killed (default 0.4)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jieban-bench-") as folder:
        Path(folder).chmod(0o711)
        with EmbeddedServers(Path(folder) / "data") as servers:
            bench = Bench(servers.start_postgres(), servers.start_redis(), Path(folder), given)
            bench.env["JIEBAN_SECRET_KEY"] = base64.b64encode(SECRET).decode()
            migrate.upgrade(bench.dsn)
            asyncio.run(run(bench))


if __name__ == "__main__":
    main()
