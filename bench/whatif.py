"""What-if over recorded tickets: time, memory, and whether two runs give the same bytes.

    python3 -m service bench whatif --tickets 100000

Recorded lives are made by the engine itself (random handlers, co-handlers, requests, rounds and reviews over a quarter),
stored as the house stores them, and copied set-wise with ids of their own; copies differ in nothing else. Then they are
replayed under drafts (shorter limits of one workflow; one more day off; every day ends earlier, which moves every clock),
in as many processes as there are cores, each twice. Seconds are of the wall; memory is the sum over this process and its
replaying children at their highest.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import resource
import time
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from bench.pump import FRESH, without_indexes
from service import clock
from service.core.model import Actor, Role
from service.db import migrate
from service.db.session import Database, connect_arguments
from service.db.vault import Vault
from service.embedded import throwaway_servers
from service.usecases import folders, publishing
from service.usecases.house import House
from service.usecases.simulation import Wanted, simulate
from tests import builders
from tests.builders import BAD, DISPATCHER, EXTENSION, HOTLINE, LEAD, PAUSE, REPLY, SOLVED, Case
from tests.stored import store

ROOT = Path(__file__).resolve().parent.parent
BOSS = Actor("bench", Role.SUPERVISOR)
COPIED = ("tickets", "rounds", "assignments", "clocks", "approvals", "reviews", "opinions", "measures", "events")
CHUNK = 20_000
DAY_OFF = "2026-08-19"
KEYS = ("business_development", "project_landing", "government_service", "complaint_report", "consultation")


def a_life(seed: int, key: str) -> Case:
    """A likely life: taken up, planned, sometimes extended or paused, replied, audited, called back, at times again."""
    rng = Random(seed)
    begun = builders.at("2026-07-01 00:00") + timedelta(minutes=rng.randrange(85 * 24 * 60))
    helpers = ("finance",) if rng.random() < 0.15 else ()
    case = Case.opened(key, begun.strftime("%Y-%m-%d %H:%M"), co_handlers=helpers)

    def later(hours: float) -> Case:
        at = case.now + timedelta(hours=hours * rng.random(), seconds=1)
        return case.pump_on_time(at).on(at)

    def may(who: Actor, action: str, chance: float = 1.0, **form: Any) -> bool:
        if rng.random() >= chance or action not in case.possible(who):
            return False
        case.act(who, action, **form)
        return True

    if rng.random() < 0.02:
        return case  # nobody ever looked at it
    later(3)
    may(LEAD, "accept")
    later(2)
    may(LEAD, "log_contact", 0.9)
    later(30)
    may(LEAD, "submit_plan", 0.8, plan="p")
    for _ in range(1 + (rng.random() < 0.1)):
        if may(LEAD, "request_extension", 0.15, **EXTENSION):
            later(20)
            case.decide("extension", rng.random() < 0.7)
        elif may(LEAD, "request_pause", 0.1, **PAUSE):
            later(20)
            case.decide("pause", rng.random() < 0.7)
            later(100)
            may(LEAD, "resume")
        later(300)
        if not may(LEAD, "submit_reply", 0.97, **REPLY):
            return case
        later(20)
        if may(DISPATCHER, "reject_reply", 0.1, reason="r"):
            later(60)
            may(LEAD, "submit_reply", **REPLY)
            later(20)
        may(DISPATCHER, "approve_reply")
        later(60)
        if not may(HOTLINE, "record_callback", **(SOLVED if rng.random() < 0.92 else BAD)) or not case.ticket.open:
            return case
    return case


async def seed(house: House, dsn: str, tickets: int, lives: int, key: str | None) -> None:
    """`lives` of the engine, then copies of them until there are `tickets`."""
    started, end = time.perf_counter(), builders.at("2026-10-31 18:00")
    for first in range(0, lives, 500):
        cases = [a_life(n, key or KEYS[n % len(KEYS)]).pump(end) for n in range(first, min(first + 500, lives))]
        await store(house, cases, source=f"lives-{first}", first=first)
    print(f"{lives} lives made and stored in {time.perf_counter() - started:.0f} s", flush=True)
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        await connection.execute(FRESH)
        await connection.execute("SET synchronous_commit = off; SET session_replication_role = replica")
        statements = await _copies(connection)
        indexes = await without_indexes(connection)
        for n in range(lives, tickets, CHUNK):
            for statement in statements:
                await connection.execute(statement, n, min(n + CHUNK, tickets) - 1, timeout=600)
            print(f"\r  {min(n + CHUNK, tickets)} tickets", end="", flush=True)
        print()
        for index in indexes:
            await connection.execute(index, timeout=600)
        await connection.execute("VACUUM ANALYZE", timeout=600)
        row = await connection.fetchrow("SELECT (SELECT count(*) FROM events) e, (SELECT count(*) FROM clocks) c")
        print(f"{tickets} tickets, {row['c']} clocks, {row['e']} events")
    finally:
        await connection.close()


async def _copies(connection: asyncpg.Connection) -> list[str]:
    await connection.execute(
        "CREATE TEMP TABLE original AS SELECT id, row_number() OVER (ORDER BY id) - 1 AS k FROM tickets"
    )
    lives = await connection.fetchval("SELECT count(*) FROM original")
    statements = []
    for table in COPIED:
        key = "id" if table == "tickets" else "ticket_id"
        await connection.execute(
            f"""CREATE TEMP TABLE o_{table} AS SELECT s.*, o.k AS o_k
                FROM original o JOIN {table} s ON s.{key} = o.id;
                CREATE INDEX ON o_{table} (o_k); ANALYZE o_{table}"""
        )
        rows = await connection.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1",
            table,
        )
        ids = ("id", "ticket_id", "assignment_id", "review_id", "subject_id")
        own = {name: f"bench_fresh(s.{name}, n)" for name in ids}
        if table == "tickets":
            own |= {"number": "'QY' || lpad((10000000 + n)::text, 15, '0')", "source_reference": "n::text",
                    "source_system": "'copies'"}  # fmt: skip
        if table == "reviews":
            own["number"] = "'YS' || s.o_k || '-' || n || '-' || s.number"
        if table == "events":
            named = "jsonb_build_object('{0}', bench_fresh((s.data ->> '{0}')::uuid, n))"
            parts = [f"CASE WHEN s.data ? '{w}' THEN {named.format(w)} ELSE '{{}}' END" for w in ("review", "measure")]
            told = " || ".join(["s.data", *parts])
            own["data"] = f"CASE WHEN s.data ?| array['review', 'measure'] THEN {told} ELSE s.data END"
        names = [row[0] for row in rows]
        statements.append(
            f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(own.get(name, f's.{name}') for name in names)}"
            f" FROM generate_series($1::bigint, $2::bigint) n JOIN o_{table} s ON s.o_k = n % {lives}"
        )
    return statements


def _mib() -> float:
    """The highest of this process and of the largest of its ended children, which are `os.cpu_count()` at a time."""
    own, child = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own + (os.cpu_count() or 1) * child


def _cpu() -> float:
    return sum(
        resource.getrusage(w).ru_utime + resource.getrusage(w).ru_stime
        for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


async def measure(dsn: str, given: argparse.Namespace) -> None:
    db = await Database.connect(dsn, 4, sandbox=False)
    house = House(db, Vault(bytes(32)), clock.new_id, ZoneInfo("Asia/Shanghai"))
    try:
        await publishing.publish_folder(house, folders.read_folder(ROOT / "workflows"), "bench", "the shipped set")
        await house.refresh()
        await seed(house, dsn, given.tickets, min(given.lives, given.tickets), given.only)
        key = given.only or "business_development"
        body = deepcopy(dict(house.rules.bodies["workflow", key][1]))
        body["clocks"]["resolve"] |= {"budget": max(1, body["clocks"]["resolve"]["budget"] * 2 // 3)}
        usual = dict(house.rules.bodies["calendar", "cn-jinan"][1])
        calendar, day_off = deepcopy(usual) | {"day_end": "office_close"}, deepcopy(usual)
        day_off["years"]["2026"]["off"][DAY_OFF] = "a day off of the city"
        drafts: dict[str, dict[str, Any]] = {
            f"draft of {key}": {"workflow": body},
            "draft calendar with one more day off": {"calendar": day_off},
            "draft calendar that ends every day earlier": {"calendar": calendar},
        }
        for name, draft in drafts.items():
            digests = set()
            for _ in range(2):
                started, cpu = time.perf_counter(), _cpu()
                wanted = Wanted(key, **draft, start="2026-06-01", end="2026-10-31", check_all=given.check_all)
                found = await simulate(house, BOSS, wanted)
                took, used = time.perf_counter() - started, _cpu() - cpu
                raw = json.dumps(found, ensure_ascii=False, sort_keys=True).encode()
                digests.add(hashlib.sha256(raw).hexdigest()[:16])
                told, check = found["tickets"], found["check"]
                print(
                    f"{name}: {took:.1f} s ({used:.1f} s of processors, PostgreSQL's not included), {_mib():.0f} MiB;"
                    f" {told['recorded']} tickets, {told['replayed']} replayed, {told['set_aside']} set aside;"
                    f" {check['checked']} checked, {check['differ']} differ; newly breached"
                    f" {found['breaches']['tickets']['newly']}; {len(raw)} bytes", flush=True,
                )  # fmt: skip
            print(f"  digests: {', '.join(sorted(digests))} ({'the same' if len(digests) == 1 else 'NOT the same'})")
    finally:
        await db.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=100_000)
    parser.add_argument(
        "--lives", type=int, default=4_000, help="lives made by the engine, of which the rest are copies"
    )
    parser.add_argument(
        "--only", choices=KEYS, help="all tickets of this workflow: every one is replayed under the draft"
    )
    parser.add_argument("--check-all", action="store_true", help="replay every ticket by its own rules too")
    given = parser.parse_args()
    with throwaway_servers() as servers:
        dsn = servers.start_postgres()
        migrate.upgrade(dsn)
        asyncio.run(measure(dsn, given))


if __name__ == "__main__":
    main()
