"""The pump under load: a burst, an outage to catch up with, a steady stream; beside raw SQL and arq, in one run.

    python3 -m service bench pump             # or: .venv/bin/python -m bench.pump --help

Two real worker processes fire timers of tickets that were copied set-wise from really posted ones (each copy starts its
history anew, so its chain can be verified). In the burst the API takes in requests beside them. Afterwards it is checked
that each rung fired once, not before its time, in order, with its event, outbox row and notice, and a sample of chains.
Server, workers and load share the machine: what to quote is the ratio to a loop that writes the same rows in raw SQL.

The full figures:  .venv/bin/python -m bench.pump --armed 1000000 --burst 50000 --overdue 100000 --steady-seconds 60
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from arq.connections import RedisSettings, create_pool
from arq.worker import Worker, func

from bench.intake import ROOT, requests
from service.core import history
from service.core.model import SYSTEM
from service.db import audit as stored
from service.db import migrate
from service.db.session import Database, connect_arguments
from service.embedded import EmbeddedServers
from service.processes import spawn
from service.supervisor import wait_http
from service.usecases import audit

CLOCKS_PER_TICKET = 4
COPIED = ("tickets", "rounds", "assignments", "clocks", "ticket_texts", "open_tickets")
TICKETS_PER_FIRM = 5
"""About so many copies are of one firm; each firm's copies are copies of one real ticket."""
SEED = 20_000
"""Copies per statement, so that the progress can be seen."""


class Bench:
    """A database with copies, the processes beside it, and what is measured."""

    def __init__(self, dsn: str, redis: str, folder: Path, given: argparse.Namespace) -> None:
        self.dsn, self.redis, self.given = dsn, redis, given
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.env = {**os.environ, "JIEBAN_DATABASE_URL": dsn, "JIEBAN_REDIS_URL": redis, "JIEBAN_PORT": str(self.port),
                    "JIEBAN_DATA_DIR": str(folder), "JIEBAN_SANDBOX": "0", "JIEBAN_LOG_LEVEL": "WARNING"}  # fmt: skip
        self.copies = 0
        self.rate = 0.0

    def start(self, name: str, **env: str) -> subprocess.Popen[bytes]:
        """A process of the service; it dies with this one."""
        command = [sys.executable, "-m", "service.cli", name]
        log = self.folder / f"{name}.log"
        return spawn(command, log=log, death_signal=signal.SIGKILL, env={**self.env, **env}, cwd=ROOT)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        opened = await asyncpg.connect(**connect_arguments(self.dsn))
        try:
            yield opened
        finally:
            await opened.close()

    async def value(self, sql: str, *args: object) -> object:
        async with self.connection() as connection:
            return await connection.fetchval(sql, *args)


# --- seeding -------------------------------------------------------------------------------------------------------


FRESH = """
    -- a UUIDv7 whose time is the number of the copy: copies stand in the indexes as real ones do
    CREATE OR REPLACE FUNCTION bench_fresh(id uuid, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$ SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || substr(replace(id::text, '-', ''), 13))::uuid $$
"""


async def post(port: int, token: str, count: int) -> None:
    """Real tickets over HTTP: what the copies are made of."""
    bodies = requests()
    for n in range(count):
        await one_post(port, token, bodies[n % len(bodies)], f"real-{n}")


async def one_post(port: int, token: str, body: dict, reference: str) -> float:
    """Seconds until the answer, over a connection of its own; infinite for a refusal."""
    raw = json.dumps({**body, "source": {**body["source"], "reference": reference}}, ensure_ascii=False).encode()
    head = (
        f"POST /v1/tickets HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\nconnection: close\r\n"
        f"content-type: application/json\r\nidempotency-key: {reference}\r\ncontent-length: {len(raw)}\r\n\r\n"
    )
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + raw)
    answer = await reader.read()
    writer.close()
    return time.perf_counter() - started if answer.startswith(b"HTTP/1.1 201") else math.inf


async def copy(bench: Bench, count: int) -> int:
    """`count` more copies of the routed real tickets; the number of the first."""
    first = bench.copies
    async with bench.connection() as connection:
        await connection.execute(FRESH)
        await connection.execute("SET synchronous_commit = off; SET session_replication_role = replica")
        statements = await _originals(connection)
        indexes = await without_indexes(connection) if count > SEED else []
        while bench.copies < first + count:
            upto = min(bench.copies + SEED, first + count)
            async with connection.transaction():  # workers that run already find whole tickets only
                for statement in statements:
                    await connection.execute(statement, bench.copies, upto - 1)
            bench.copies = upto
            print(f"\r  {bench.copies} tickets copied", end="", flush=True)
        print()
        for index in indexes:
            await connection.execute(index)
    return first


async def without_indexes(connection: asyncpg.Connection) -> list[str]:
    """Drop the plain indexes of what is copied; the statements that make them again: a third of the time."""
    rows = await connection.fetch(
        """SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = ANY($1)
           AND indexdef NOT LIKE 'CREATE UNIQUE%'""",
        list(COPIED),
    )
    for row in rows:
        await connection.execute(f"DROP INDEX {row['indexname']}")
    return [row["indexdef"] for row in rows]


async def _originals(connection: asyncpg.Connection) -> list[str]:
    """The rows of the routed real tickets beside the tables, and the statements that copy them: firms, then table by table."""
    await connection.execute(
        """CREATE TEMP TABLE original AS SELECT id, row_number() OVER (ORDER BY id) - 1 AS k, count(*) OVER () AS of
           FROM tickets t WHERE source_reference LIKE 'real-%'
             AND EXISTS (SELECT 1 FROM clocks c WHERE c.ticket_id = t.id AND c.name = 'contact')"""
    )
    firm = f"bench_fresh(s.enterprise_id, n / (s.o_of * {TICKETS_PER_FIRM}))"
    statements = [
        f"""INSERT INTO enterprises (id, match_key, name, name_key, created_at)
            SELECT bench_fresh(e.id, g), e.match_key || ' ' || g, e.name, e.name_key, e.created_at
            FROM (SELECT DISTINCT e.*, o.of FROM original o JOIN tickets t USING (id) JOIN enterprises e
                  ON e.id = t.enterprise_id) e,
              generate_series($1::bigint / (e.of * {TICKETS_PER_FIRM}), $2::bigint / (e.of * {TICKETS_PER_FIRM})) g
            ON CONFLICT DO NOTHING"""
    ]
    for table in COPIED:
        key = "id" if table == "tickets" else "ticket_id"
        await connection.execute(
            f"""CREATE TEMP TABLE o_{table} AS SELECT s.*, o.k AS o_k, o.of AS o_of
                FROM original o JOIN {table} s ON s.{key} = o.id"""
        )
        rows = await connection.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1",
            table,
        )
        own = {name: f"bench_fresh(s.{name}, n)" for name in ("id", "ticket_id", "assignment_id")}
        own["enterprise_id"] = firm
        if table == "tickets":
            own |= {"number": "'QY' || lpad(n::text, 15, '0')", "source_system": "'bench'", "source_reference": "n::text",
                    "last_seq": "0", "head_hash": "''"}  # fmt: skip
        names = [row[0] for row in rows]
        statements.append(
            f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(own.get(name, f's.{name}') for name in names)}"
            f" FROM generate_series($1::bigint, $2::bigint) n JOIN o_{table} s ON s.o_k = n % s.o_of"
        )
    return statements


async def arm(bench: Bench, first: int, count: int, at: str) -> None:
    """The contact clock of each of these copies is moved so that its warning is due `at` (SQL; `n` counts from 0)."""
    async with bench.connection() as connection:
        await connection.execute(
            f"""WITH moved AS (
                  SELECT c.id, ({at}) - c.next_fire_at AS by FROM (
                    SELECT id, source_reference::bigint - {first} AS n FROM tickets
                    WHERE source_system = 'bench' AND source_reference::bigint BETWEEN {first} AND {first + count - 1}) t
                  JOIN clocks c ON c.ticket_id = t.id AND c.name = 'contact')
                UPDATE clocks c SET anchor = anchor + by, due_at = due_at + by, original_due_at = original_due_at + by,
                  next_fire_at = next_fire_at + by FROM moved WHERE moved.id = c.id"""
        )
        # what is read off the clocks follows them, or the worker would put the queue right in the midst of a burst
        await connection.execute(
            f"""WITH due AS MATERIALIZED (
                  SELECT t.id, min(c.due_at) AS at FROM tickets t JOIN clocks c ON c.ticket_id = t.id
                  WHERE source_system = 'bench' AND source_reference::bigint BETWEEN {first} AND {first + count - 1}
                    AND c.state IN ('running', 'breached_running') GROUP BY t.id),
                t AS (UPDATE tickets SET next_due_at = at FROM due WHERE due.id = tickets.id)
                UPDATE open_tickets SET due = at FROM due WHERE due.id = ticket_id"""
        )


async def settle(bench: Bench) -> None:
    async with bench.connection() as connection:
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")


# --- measuring -----------------------------------------------------------------------------------------------------


async def drained(bench: Bench, firings: int, patience: float, what: str) -> float:
    """Seconds until so many rungs have fired; asks ten times a second."""
    started = time.perf_counter()
    async with bench.connection() as connection:
        before = last = await connection.fetchval("SELECT count(*) FROM firings")
        shown = started
        while last - before < firings:
            if time.perf_counter() - started > patience:
                raise SystemExit(f"{what}: only {last - before} of {firings} fired within {patience:.0f} s")
            await asyncio.sleep(0.1)
            last = await connection.fetchval("SELECT count(*) FROM firings")
            if time.perf_counter() - shown > 2:
                shown = time.perf_counter()
                print(f"\r  {last - before} of {firings} fired", end="", flush=True)
    print(f"\r  {firings} fired" + " " * 20)
    return time.perf_counter() - started


async def cpu_seconds(bench: Bench, processes: list[subprocess.Popen[bytes]]) -> tuple[float, float]:
    """What these processes and the backends of PostgreSQL that now run have used: on a noisy machine the surer figure."""
    async with bench.connection() as connection:
        backends = [row[0] for row in await connection.fetch("SELECT pid FROM pg_stat_activity")]
    return _used([p.pid for p in processes]), _used(backends)


def _used(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def share(seconds: list[float], percent: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * percent / 100))] if seconds else 0.0


async def intake(bench: Bench, token: str, per_second: float, tag: str, stop: asyncio.Event) -> list[float]:
    """Posts at a steady rate, whether the answers come or not; seconds of each."""
    bodies, posts, n = requests(), [], 0
    started = time.perf_counter()
    while not stop.is_set():
        posts.append(asyncio.create_task(one_post(bench.port, token, bodies[n % len(bodies)], f"{tag}-{n}")))
        n += 1
        await asyncio.sleep(max(0.0, started + n / per_second - time.perf_counter()))
    return list(await asyncio.gather(*posts))


async def checked(bench: Bench, first: int, count: int) -> str:
    """What must hold of these copies after everything has fired."""
    mine = f"source_system = 'bench' AND source_reference::bigint BETWEEN {first} AND {first + count - 1}"
    async with bench.connection() as connection:
        row = await connection.fetchrow(
            f"""WITH mine AS MATERIALIZED (SELECT id FROM tickets WHERE {mine}),
                f AS MATERIALIZED (SELECT f.* FROM firings f JOIN mine ON mine.id = f.ticket_id),
                e AS MATERIALIZED (SELECT e.* FROM events e JOIN mine ON mine.id = e.ticket_id)
                SELECT (SELECT count(*) FROM mine) AS tickets, (SELECT count(*) FROM f) AS firings,
                  (SELECT count(*) FROM f WHERE fired_at < due_at) AS early,
                  (SELECT count(*) FROM e WHERE type IN ('clock.fired', 'clock.breached')) AS events,
                  (SELECT count(*) FROM outbox o JOIN mine ON mine.id = o.ticket_id) AS outbox,
                  (SELECT count(*) FROM notices o JOIN mine ON mine.id = o.ticket_id) AS notices,
                  (SELECT count(*) FROM f WHERE outcome = 'fired') AS told,
                  (SELECT count(DISTINCT ticket_id) FROM f) AS touched,
                  (SELECT count(*) FROM (
                     SELECT oldest, max(newest) OVER (ORDER BY fired_at
                       ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM (
                         SELECT fired_at, min(due_at) AS oldest, max(due_at) AS newest FROM f GROUP BY fired_at) at_once) o
                   WHERE before > oldest + interval '5 minutes') AS overtaken"""
        )
    assert row["touched"] == row["tickets"] == count, dict(row)
    assert row["early"] == 0 and row["overtaken"] == 0, dict(row)
    assert row["firings"] == row["events"], dict(row)
    assert row["outbox"] >= count and row["notices"] == row["told"], dict(row)
    broken = await sampled_chains(bench, mine)
    assert broken == 0, f"{broken} chains do not verify"
    return (
        f"{row['firings']} firings, one event each; {row['outbox']} outbox rows, {row['notices']} notices; chains hold"
    )


async def sampled_chains(bench: Bench, mine: str, sample: int = 500) -> int:
    """How many of a random sample of these histories do not verify."""
    db = await Database.connect(bench.dsn, 2, False)
    try:
        async with db.transaction(SYSTEM, readonly=True, snapshot=True) as tx:
            heads = await tx.rows(
                f"SELECT id, last_seq, head_hash FROM tickets WHERE {mine} ORDER BY random() LIMIT {sample}"
            )
            events = [audit.hashed(row) for row in await stored.chain(tx, [head["id"] for head in heads])]
    finally:
        await db.close()
    chains = {head["id"]: [e for e in events if e["ticket_id"] == head["id"]] for head in heads}
    return sum(history.verify(chains[h["id"]], h["last_seq"], h["head_hash"]) is not None for h in heads)


# --- beside what it stands -------------------------------------------------------------------------------------------


V7 = """
    CREATE OR REPLACE FUNCTION bench_v7() RETURNS uuid LANGUAGE sql VOLATILE AS
    $$ SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
               || substr(md5(random()::text), 1, 19))::uuid $$
"""
RAW = """
    WITH due AS MATERIALIZED (
        SELECT ticket_id, id, next_fire_at, due_at FROM clocks
        WHERE next_fire_at <= now() AND attempts = 0 AND crashes = 0 AND get_byte(uuid_send(ticket_id), 5) % 2 = $1
        ORDER BY next_fire_at LIMIT 1200),
    d AS MATERIALIZED (
        SELECT t.id AS ticket, t.number, t.lead, t.last_seq + 1 AS seq, t.head_hash, due.* FROM due
        JOIN tickets t ON t.id = due.ticket_id ORDER BY due.next_fire_at LIMIT 200 FOR NO KEY UPDATE OF t SKIP LOCKED),
    f AS (INSERT INTO firings (clock_id, rung, ticket_id, due_at, fired_at, outcome)
          SELECT id, 'warning', ticket, next_fire_at, clock_timestamp(), 'fired' FROM d),
    e AS (INSERT INTO events (id, ticket_id, seq, type, occurred_at, recorded_at, actor, data, prev, hash)
          SELECT bench_v7(), ticket, seq, 'clock.fired', next_fire_at, now(),
            '{"subject": "system", "role": "system", "departments": []}',
            jsonb_build_object('clock', 'contact', 'clock_id', id, 'rung', 'warning', 'outcome', 'fired',
              'due_at', due_at, 'fired_at', now()), head_hash, encode(sha256((head_hash || id)::bytea), 'hex') FROM d),
    o AS (INSERT INTO outbox (id, ticket_id, topic, body, next_at, created_at)
          SELECT bench_v7(), ticket, 'ticket', jsonb_build_object('number', number, 'events', jsonb_build_array(
            jsonb_build_object('id', ticket, 'seq', seq, 'type', 'clock.fired', 'occurred_at', now()))), now(), now()
          FROM d),
    n AS (INSERT INTO notices (id, ticket_id, recipient, kind, about, due_at, created_at)
          SELECT bench_v7(), ticket, 'department:' || lead, 'attention', 'contact', due_at, now() FROM d),
    c AS (UPDATE clocks SET fired = fired || 'warning'::text, next_fire_at = d.due_at FROM d WHERE clocks.id = d.id),
    t AS (UPDATE tickets SET version = version + 1, last_seq = d.seq, updated_at = now(),
            head_hash = encode(sha256((d.head_hash || d.id)::bytea), 'hex') FROM d WHERE tickets.id = d.ticket)
    SELECT count(*) FROM d
"""
"""The same rows in the same batches under the same locks, with nothing decided and nothing looked at again, so that each
loop has a half of the tickets to itself: the limit of the database."""


async def raw(bench: Bench) -> None:
    async with bench.connection() as connection:
        await connection.execute(V7)

    async def loop(half: int) -> None:
        async with bench.connection() as connection:
            while await connection.fetchval(RAW, half):
                pass

    await asyncio.gather(loop(0), loop(1))


async def arq_alone(redis: str, jobs: int) -> float:
    """Seconds in which one arq worker (100 jobs at once, 50 ms poll) does so many deferred jobs that do nothing."""
    settings, queue = RedisSettings.from_dsn(redis), f"bench:{os.getpid()}"
    pool = await create_pool(settings)
    for _ in range(jobs):
        await pool.enqueue_job("nothing", _queue_name=queue, _defer_by=0.001)
    done, all_done = 0, asyncio.Event()

    async def nothing(ctx: dict) -> None:
        nonlocal done
        done += 1
        if done == jobs:
            all_done.set()

    worker = Worker([func(nothing, name="nothing", keep_result=0)], queue_name=queue, redis_settings=settings,
                    handle_signals=False, max_jobs=100, poll_delay=0.05, keep_result=0)  # fmt: skip
    started = time.perf_counter()
    running = asyncio.create_task(worker.async_run())
    await all_done.wait()
    took = time.perf_counter() - started
    await asyncio.sleep(0.5)  # the last job puts its books in order
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    with contextlib.suppress(asyncio.CancelledError):
        await worker.close()
    await pool.aclose()
    return took


# --- what is run -----------------------------------------------------------------------------------------------------


async def burst(bench: Bench, token: str, workers: list[subprocess.Popen[bytes]]) -> None:
    count = bench.given.burst
    print(f"burst: {count} timers due in the same second, {await bench.value('SELECT count(*) FROM clocks')} clocks")
    first = await copy(bench, count)
    # long enough that everything is at rest when they fall due
    due = await bench.value(f"SELECT date_trunc('second', now()) + interval '{bench.given.lead} s'")
    await arm(bench, first, count, f"'{due.isoformat()}'::timestamptz")
    await settle(bench)
    wait = (due - await bench.value("SELECT clock_timestamp()")).total_seconds()
    assert wait > 0, f"seeding took {-wait:.0f} s too long: give a longer --lead"
    stop, alone, together = asyncio.Event(), asyncio.Event(), []
    before = asyncio.create_task(intake(bench, token, bench.given.intake, f"calm-{first}", alone))
    await asyncio.sleep(max(0.0, wait - 1))
    alone.set()
    calm = await before
    beside = asyncio.create_task(intake(bench, token, bench.given.intake, f"burst-{first}", stop))
    await asyncio.sleep(max(0.0, (due - await bench.value("SELECT clock_timestamp()")).total_seconds()))
    before_us, before_them = await cpu_seconds(bench, workers)
    took = await drained(bench, count, 600, "burst")
    after_us, after_them = await cpu_seconds(bench, workers)
    stop.set()
    together = await beside
    print(f"  {took:.1f} s, {count / took:.0f}/s; {await checked(bench, first, count)}")
    us, them = 1e6 * (after_us - before_us) / count, 1e6 * (after_them - before_them) / count
    print(f"  processor time a timer: {us:.0f} us of the workers, {them:.0f} us of PostgreSQL (intake's included)")
    print(f"  intake {bench.given.intake}/s: p50 {1000 * share(calm, 50):.0f} p99 {1000 * share(calm, 99):.0f} ms before;"
          f" p50 {1000 * share(together, 50):.0f} p99 {1000 * share(together, 99):.0f} ms during"
          f" ({len(together)} posts, {sum(map(math.isinf, together))} refused)")  # fmt: skip
    bench.rate = count / took


async def beside_raw(bench: Bench, workers: list[subprocess.Popen[bytes]]) -> None:
    count = bench.given.burst
    ended(workers)  # not only stopped: one that held a lock would keep the copies waiting for ever
    first = await copy(bench, count)
    await arm(bench, first, count, "now() - interval '1 s'")
    await settle(bench)
    started = time.perf_counter()
    await raw(bench)
    took = time.perf_counter() - started
    print(f"raw SQL, the same rows, two connections: {took:.1f} s, {count / took:.0f}/s; ours is"
          f" {bench.rate * took / count:.2f} of it")  # fmt: skip
    jobs = min(count, 10_000)
    took = await arq_alone(bench.redis, jobs)
    print(f"arq alone, {jobs} deferred jobs that do nothing: {took:.1f} s, {jobs / took:.0f}/s")


async def outage(bench: Bench) -> None:
    count = bench.given.overdue
    print(f"outage: {count} timers overdue, spread over six hours")
    first = await copy(bench, count)
    await arm(bench, first, count, f"now() - interval '6 hours' * (1 - n::float8 / {count})")
    await settle(bench)
    due = await bench.value("SELECT count(*) FROM clocks WHERE next_fire_at <= now()")
    workers = [bench.start("worker") for _ in range(2)]
    try:
        started = time.perf_counter()
        while await bench.value("SELECT count(*) FROM clocks WHERE next_fire_at <= now()"):
            assert time.perf_counter() - started < 900, "not within 15 minutes"
            await asyncio.sleep(0.5)
        took = time.perf_counter() - started
    finally:
        ended(workers)
    print(
        f"  {due} timers in {took:.1f} s with two workers, their start included; {await checked(bench, first, count)}"
    )


async def steady(bench: Bench, name: str, workers: dict[str, str]) -> None:
    """`workers`: the environment of the worker processes."""
    seconds, rate = bench.given.steady_seconds, bench.given.steady
    count = seconds * rate
    first = await copy(bench, count)
    await arm(bench, first, count, f"now() + interval '20 s' + n * interval '{1 / rate} s'")
    await settle(bench)
    running = [bench.start("worker", **workers) for _ in range(2)]
    try:
        until = time.perf_counter() + 20 + seconds + 15
        while time.perf_counter() < until:
            left = await bench.value(
                f"SELECT count(*) FROM tickets WHERE source_system = 'bench' AND last_seq = 0"
                f" AND source_reference::bigint BETWEEN {first} AND {first + count - 1}"
            )
            if not left:
                break
            await asyncio.sleep(1)
    finally:
        ended(running)
    async with bench.connection() as connection:
        rows = await connection.fetch(
            f"""SELECT extract(epoch FROM f.fired_at - f.due_at)::float8 FROM firings f JOIN tickets t ON t.id = f.ticket_id
                WHERE source_system = 'bench' AND source_reference::bigint BETWEEN {first} AND {first + count - 1}"""
        )
    late = [row[0] for row in rows]
    print(f"steady, {rate} due/s for {seconds} s, {name}: p50 {share(late, 50):.2f} p99 {share(late, 99):.2f}"
          f" max {max(late):.2f} s late; {await checked(bench, first, count)}")  # fmt: skip


def ended(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(30)


async def measure(bench: Bench, token: str) -> None:
    await post(bench.port, token, 60)
    armed = max(0, bench.given.armed // CLOCKS_PER_TICKET)
    print(f"arming {armed * CLOCKS_PER_TICKET} clocks, not due")
    await copy(bench, armed)
    if bench.given.burst:
        workers = [bench.start("worker") for _ in range(2)]
        try:
            await burst(bench, token, workers)
            await beside_raw(bench, workers)
        finally:
            ended(workers)
    if bench.given.overdue:
        await outage(bench)
    if bench.given.steady_seconds:
        await steady(bench, "Redis up", {})
        await steady(bench, "Redis gone", {"JIEBAN_REDIS_URL": "redis://127.0.0.1:1"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--armed", type=int, default=40_000, help="clocks that are armed and not due (default 40,000)")
    add("--burst", type=int, default=5_000, help="timers due in one second (default 5,000; 0: not run)")
    add("--lead", type=int, default=15, help="seconds until the burst: longer than VACUUM takes (default 15)")
    add("--intake", type=float, default=30, help="posts a second beside the burst (default 30)")
    add("--overdue", type=int, default=5_000, help="timers overdue after the outage (default 5,000; 0: not run)")
    add("--steady", type=int, default=50, help="timers due each second of the steady stream (default 50)")
    add(
        "--steady-seconds",
        type=int,
        default=10,
        help="its length, twice: with Redis and without (default 10; 0: not run)",
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jieban-bench-") as folder:
        Path(folder).chmod(0o711)
        with EmbeddedServers(Path(folder) / "data") as servers:
            run(Bench(servers.start_postgres(), servers.start_redis(), Path(folder), given))


def run(bench: Bench) -> None:
    migrate.upgrade(bench.dsn)
    cli = [sys.executable, "-m", "service.cli"]
    subprocess.run([*cli, "migrate"], env=bench.env, check=True, stdout=subprocess.DEVNULL)
    token = subprocess.run(
        [*cli, "token", "--as", "hotline"], env=bench.env, check=True, capture_output=True, text=True
    ).stdout.strip()
    api = bench.start("api")
    try:
        wait_http(f"http://127.0.0.1:{bench.port}/readyz", 30)
        asyncio.run(measure(bench, token))
    finally:
        ended([api])


if __name__ == "__main__":
    main()
