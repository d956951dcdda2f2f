"""Intake over HTTP at 1, 8 and 32 clients beside pgbench writing the same rows, on the same PostgreSQL in one run.

    python3 -m service bench intake            # or: .venv/bin/python -m bench.intake --help

Server, database and load share the machine. The ratio is what to quote: it says how much of the database's own speed is
left after HTTP, tokens, validation, routing, clocks and rendering. Two settings: fsync and synchronous_commit are on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from service.db import migrate
from service.db.session import connect_arguments
from service.embedded import EmbeddedServers, postgres_bins
from service.supervisor import wait_http

ROOT = Path(__file__).resolve().parent.parent
TABLES = ("rounds", "assignments", "clocks", "events", "outbox", "idempotency")


def requests() -> list[dict]:
    lines = (ROOT / "workflows" / "demo" / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


# --- our side ------------------------------------------------------------------------------------------------------


async def client(port: int, token: str, bodies: list[dict], tag: str, until: float, seconds: list[float]) -> int:
    """One keep-alive connection that posts until the time is up; returns how many answers were not 201."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    bad = n = 0
    while time.perf_counter() < until:
        body = dict(bodies[n % len(bodies)])
        body["source"] = {**body["source"], "reference": f"{tag}-{n}"}
        raw = json.dumps(body, ensure_ascii=False).encode()
        head = (
            f"POST /v1/tickets HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n"
            f"content-type: application/json\r\nidempotency-key: {tag}-{n}\r\ncontent-length: {len(raw)}\r\n\r\n"
        )
        started = time.perf_counter()
        writer.write(head.encode() + raw)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(next(h for h in answer.lower().split(b"\r\n") if h.startswith(b"content-length:")).split(b":")[1])
        await reader.readexactly(length)
        seconds.append(time.perf_counter() - started)
        bad += not answer.startswith(b"HTTP/1.1 201")
        n += 1
    writer.close()
    return bad


async def load(port: int, token: str, clients: int, duration: float, tag: str) -> dict:
    bodies, seconds = requests(), []
    started = time.perf_counter()
    jobs = [client(port, token, bodies, f"{tag}-{k}", started + duration, seconds) for k in range(clients)]
    bad = sum(await asyncio.gather(*jobs))
    took = time.perf_counter() - started
    seconds.sort()
    return {
        "per_second": len(seconds) / took,
        "p50_ms": 1000 * statistics.median(seconds),
        "p99_ms": 1000 * seconds[int(len(seconds) * 0.99) - 1],
        "not_201": bad,
    }


# --- the limit -----------------------------------------------------------------------------------------------------


async def settle(dsn: str) -> None:
    """What the run before left to be written is written now, so that it does not weigh on the next one."""
    connection = await asyncpg.connect(**connect_arguments(dsn))
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")
    await connection.close()


async def prepare_pgbench(dsn: str) -> None:
    """A function that writes one ticket's rows, copied from a real ticket with fresh ids: one call, one transaction."""
    connection = await asyncpg.connect(**connect_arguments(dsn))
    ticket = await connection.fetchval("SELECT id FROM tickets WHERE contact IS NOT NULL ORDER BY id DESC LIMIT 1")
    columns = {
        table: [r[0] for r in await connection.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position", table)]
        for table in ("tickets", *TABLES)
    }  # fmt: skip
    await connection.execute("DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench")
    inserts = []
    fresh = {"id": "gen_random_uuid()", "ticket_id": "t", "key": "t::text", "assignment_id": "a"}
    for table, names in columns.items():
        where = (
            "true LIMIT 1" if table == "idempotency" else f"{'id' if table == 'tickets' else 'ticket_id'} = '{ticket}'"
        )
        await connection.execute(f"CREATE TABLE bench.{table} AS SELECT * FROM public.{table} WHERE {where}")
        own = dict(fresh)
        if table == "tickets":
            own |= {"id": "t", "number": "t::text", "source_reference": "t::text"}
        if table == "assignments":
            own["id"] = "CASE role WHEN 'lead' THEN a ELSE gen_random_uuid() END"
        if table == "clocks":
            own["assignment_id"] = "CASE WHEN assignment_id IS NULL THEN NULL ELSE a END"
        values = ", ".join(own.get(name, name) for name in names)
        inserts.append(f"INSERT INTO public.{table} ({', '.join(names)}) SELECT {values} FROM bench.{table};")
    await connection.execute(
        "CREATE FUNCTION bench.intake() RETURNS void LANGUAGE plpgsql AS $$ DECLARE t uuid := gen_random_uuid();"
        f" a uuid := gen_random_uuid(); BEGIN {' '.join(inserts)} END $$"
    )
    rows = {table: await connection.fetchval(f"SELECT count(*) FROM bench.{table}") for table in columns}
    print("rows per ticket:", ", ".join(f"{n} {t}" for t, n in rows.items()))
    await connection.close()


def pgbench(dsn: str, clients: int, duration: int) -> float:
    where = connect_arguments(dsn)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("SELECT bench.intake();\n")
        script.flush()
        command = [
            str(next(b for b in postgres_bins() if (b / "pgbench").exists()) / "pgbench"), "-n", "-M", "prepared",
            "-c", str(clients), "-j", str(min(clients, 2)), "-T", str(duration), "-f", script.name,
            "-h", where["host"], "-p", str(where["port"]), "-U", where["user"], where["database"],
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(next(line for line in done.stdout.splitlines() if line.startswith("tps")).split()[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, help="length of each run (default 10)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jieban-bench-") as folder:
        Path(folder).chmod(0o711)
        with EmbeddedServers(Path(folder) / "data") as servers:
            dsn, redis = servers.start_postgres(), servers.start_redis()
            run(dsn, redis, Path(folder), given)


def run(dsn: str, redis: str, folder: Path, given: argparse.Namespace) -> None:
    migrate.upgrade(dsn)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "JIEBAN_DATABASE_URL": dsn, "JIEBAN_REDIS_URL": redis, "JIEBAN_PORT": str(port),
           "JIEBAN_DATA_DIR": str(folder), "JIEBAN_SANDBOX": "0"}  # fmt: skip
    cli = [sys.executable, "-m", "service.cli"]
    subprocess.run([*cli, "migrate"], env=env, check=True, stdout=subprocess.DEVNULL)
    token = subprocess.run(
        [*cli, "token", "--as", "hotline"], env=env, check=True, capture_output=True, text=True
    ).stdout.strip()
    api = subprocess.Popen([*cli, "api"], env=env)
    worker = subprocess.Popen([*cli, "worker"], env=env)
    try:
        wait_http(f"http://127.0.0.1:{port}/readyz", 30)
        asyncio.run(load(port, token, 4, 3, "warm"))
        asyncio.run(prepare_pgbench(dsn))
        print(f"{'clients':>8} {'HTTP/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'not 201':>8} {'pgbench/s':>10} {'ratio':>7}")
        for clients in given.clients:
            asyncio.run(settle(dsn))
            ours = asyncio.run(load(port, token, clients, given.seconds, f"c{clients}"))
            asyncio.run(settle(dsn))
            limit = pgbench(dsn, clients, given.seconds)
            print(
                f"{clients:>8} {ours['per_second']:>9.0f} {ours['p50_ms']:>8.1f} {ours['p99_ms']:>8.1f}"
                f" {ours['not_201']:>8} {limit:>10.0f} {ours['per_second'] / limit:>7.3f}"
            )
    finally:
        for process in (api, worker):
            process.terminate()
        for process in (api, worker):
            process.wait(30)


if __name__ == "__main__":
    main()
