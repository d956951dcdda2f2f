"""Queue, ticket and search at a million tickets under row-level security, over HTTP; and pages that hold while tickets change.

    python3 -m service bench queue             # or: .venv/bin/python -m bench.queue --help

The tickets are copies of really posted ones with texts put together from the shipped requests' clauses, so that some words
are rare and some stand in every tenth ticket; a tenth of them is open, units have very different shares. What is measured
is what people do: a handler's queue, a ticket, a search for words of all kinds, by small units, large ones and the city.
Server, API and clients share the machine.

The full figures:  .venv/bin/python -m bench.queue --tickets 1000000 --open 100000
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from bench.intake import requests
from bench.pump import FRESH, Bench, ended, post, settle, share, without_indexes
from service.core import words
from service.db import migrate
from service.embedded import EmbeddedServers
from service.supervisor import wait_http

BATCH = 50_000
LIMITS = {"queue": 100, "ticket": 30, "search": 100}
"""Milliseconds at p95."""
RARE = ("合同能源管理", "氢能", "跨境电商", "噪声扰民", "冷链")
COMMON = ("企业", "公司", "办理", "发票", "土地", "手续", "没有答复", "项目")


# --- the fill --------------------------------------------------------------------------------------------------------------


def clauses() -> list[str]:
    """What the shipped requests say, in pieces."""
    said = [
        piece for body in requests() for piece in re.split(r"[，。；！？\n]", f"{body['title']}，{body['description']}")
    ]
    return sorted({piece.strip() for piece in said if 4 <= len(piece.strip()) <= 40})


def units() -> list[str]:
    """Department codes, the busiest first."""
    import yaml

    listed = yaml.safe_load((Path(__file__).parent.parent / "workflows" / "departments.yaml").read_text("utf-8"))
    return [d["code"] for d in listed["departments"]]


def texts(first: int, count: int, given: argparse.Namespace, enterprises: int) -> Iterator[tuple[Any, ...]]:
    """(n, title, description, folded, terms, unit, open, seconds until due, number of the enterprise)."""
    pieces, codes = clauses(), units()
    known = [(piece, words.fold(piece), words.terms(words.fold(piece))) for piece in pieces]
    weights = list(itertools.accumulate(1 / (n + 2) for n in range(len(codes))))
    commons = list(itertools.accumulate(1 / (n + 20) for n in range(len(known))))
    chance = random.Random(first)
    for n in range(first, first + count):
        chosen = chance.choices(known, cum_weights=commons, k=chance.randint(5, 9))
        own = words.fold(f"qy{n:015d} 20261123{n:08d} 91370100{chance.randrange(36**4):07d}b{n % 997:02d}")
        if n % 5000 == 7:
            rare = RARE[n // 5000 % len(RARE)]
            chosen.append((rare, rare, words.terms(rare)))
        folded = " ".join([own, *(piece for _, piece, _ in chosen)])
        terms = words.terms(own).union(*(t for _, _, t in chosen))
        yield (n, chosen[0][0], "，".join(p for p, _, _ in chosen[1:]), folded, sorted(terms),
               chance.choices(codes, cum_weights=weights)[0], n * given.open // given.tickets != (n + 1) * given.open
               // given.tickets, chance.uniform(-5e5, 2.5e6), chance.randrange(enterprises))  # fmt: skip


STAGE = """
    CREATE UNLOGGED TABLE bench_texts (n bigint, title text, description text, folded text, terms int4[], unit text,
                                       open boolean, due double precision, firm int)
"""


async def fill(bench: Bench, given: argparse.Namespace) -> None:
    async with bench.connection() as connection:
        await connection.execute(FRESH + ";" + STAGE)
        await connection.execute("SET synchronous_commit = off; SET session_replication_role = replica")
        await connection.execute("SET maintenance_work_mem = '1GB'; SET max_parallel_maintenance_workers = 2")
        await _originals(connection)
        firms = max(100, given.tickets // 20)
        await connection.execute(
            """INSERT INTO enterprises (id, match_key, name, created_at)
               SELECT bench_fresh('00000000-0000-7000-8000-000000000001', n), 'name:bench' || n, '测试企业' || n, now()
               FROM generate_series(0, $1 - 1) n""",
            firms,
        )
        indexes = await without_indexes(connection)
        started = time.perf_counter()
        for first in range(0, given.tickets, BATCH):
            count = min(BATCH, given.tickets - first)
            await connection.copy_records_to_table("bench_texts", records=texts(first, count, given, firms))
            for statement in COPIES:
                await connection.execute(statement, first, first + count - 1)
            await connection.execute("TRUNCATE bench_texts")
            print(f"\r  {first + count} tickets, {time.perf_counter() - started:.0f} s", end="", flush=True)
        print("\n  indexes", end="", flush=True)
        for index in indexes:
            await connection.execute(index)
            print(".", end="", flush=True)
        print(f" {time.perf_counter() - started:.0f} s")
    await settle(bench)


COPIES: list[str] = []


async def _originals(connection: asyncpg.Connection) -> None:
    """Rows of really posted tickets that reached a unit, and the statements that make many of each."""
    await connection.execute(
        """CREATE TEMP TABLE original AS SELECT id, row_number() OVER (ORDER BY id) - 1 AS k, count(*) OVER () AS of
           FROM tickets t WHERE source_reference LIKE 'real-%'
             AND EXISTS (SELECT 1 FROM clocks c WHERE c.ticket_id = t.id AND c.name = 'contact')"""
    )
    due = "now() + s.due * interval '1 second'"
    fresh = {name: f"bench_fresh(o.{name}, s.n)" for name in ("id", "ticket_id", "assignment_id")}
    own = {
        "tickets": {
            "number": "'QY' || lpad(s.n::text, 15, '0')", "source_system": "'bench'", "source_reference": "s.n::text",
            "title": "s.title", "description": "s.description", "last_seq": "0", "head_hash": "''", "lead": "s.unit",
            "visible_to": "ARRAY[s.unit]", "phase": "CASE WHEN s.open THEN o.phase ELSE 'closed' END",
            "stage": "CASE WHEN s.open THEN o.stage ELSE 'closed' END",
            "next_due_at": f"CASE WHEN s.open THEN {due} END", "closed_at": "CASE WHEN NOT s.open THEN now() END",
            "enterprise_id": "bench_fresh('00000000-0000-7000-8000-000000000001', s.firm)",
        },
        "assignments": {
            "department": "CASE WHEN o.role = 'lead' THEN s.unit ELSE o.department END",
            "ended_at": "CASE WHEN NOT s.open THEN now() END", "state": "CASE WHEN s.open THEN o.state ELSE 'ended' END",
        },
        "rounds": {},
        "clocks": {
            "due_at": due, "original_due_at": due, "next_fire_at": "CASE WHEN s.open THEN now() + interval '9 days' END",
            "state": "CASE WHEN s.open THEN o.state ELSE 'met' END", "ended_at": "CASE WHEN NOT s.open THEN now() END",
        },
    }  # fmt: skip
    for table, told in own.items():
        key = "id" if table == "tickets" else "ticket_id"
        await connection.execute(
            f"""CREATE TEMP TABLE o_{table} AS SELECT t.*, o.k AS o_k, o.of AS o_of
                FROM original o JOIN {table} t ON t.{key} = o.id"""
        )
        rows = await connection.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1",
            table,
        )
        names = [row[0] for row in rows]
        values = fresh | told
        COPIES.append(
            f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values.get(name, f'o.{name}') for name in names)}"
            f" FROM bench_texts s JOIN o_{table} o ON o.o_k = s.n % o.o_of WHERE s.n BETWEEN $1 AND $2"
        )
    COPIES.append(
        """INSERT INTO ticket_texts (ticket_id, enterprise_id, visible_to, folded, terms)
           SELECT bench_fresh(o.id, s.n), bench_fresh('00000000-0000-7000-8000-000000000001', s.firm), ARRAY[s.unit],
                  s.folded, CASE WHEN s.open THEN s.terms || 1 ELSE s.terms END
           FROM bench_texts s JOIN o_tickets o ON o.o_k = s.n % o.o_of WHERE s.n BETWEEN $1 AND $2"""
    )
    COPIES.append(
        f"""INSERT INTO open_tickets (ticket_id, due, visible_to, departments, hands, phase, matter, urgency, domain, cards)
            SELECT bench_fresh(o.id, s.n), {due}, ARRAY[s.unit], ARRAY[s.unit], ARRAY['', s.unit || ' '], o.phase, o.matter,
                   o.urgency, o.domain, '{{}}'
            FROM bench_texts s JOIN o_tickets o ON o.o_k = s.n % o.o_of WHERE s.open AND s.n BETWEEN $1 AND $2"""
    )


# --- measuring -------------------------------------------------------------------------------------------------------------


class Caller:
    def __init__(self, bench: Bench, http: httpx.AsyncClient, token: Any) -> None:
        self.bench, self.http, self.token = bench, http, token
        self.seconds: dict[str, list[float]] = {}

    async def get(self, what: str, path: str, who: str, **params: Any) -> Any:
        headers = {"authorization": f"Bearer {self.token(who)}"}
        started = time.perf_counter()
        answer = await self.http.get(path, params=params, headers=headers)
        self.seconds.setdefault(what, []).append(time.perf_counter() - started)
        assert answer.status_code == 200, (path, params, answer.text)
        return answer.json()

    def tell(self) -> bool:
        good, together = True, dict[str, list[float]]()
        for what, seconds in self.seconds.items():
            together.setdefault(f"{what.split()[0]}, all of them", []).extend(seconds)
        for what, seconds in [*sorted(self.seconds.items()), *sorted(together.items())]:
            limit = LIMITS.get(what.removesuffix(", all of them"))
            p95 = share(seconds, 95) * 1000
            good &= limit is None or p95 <= limit
            verdict = "" if limit is None else f"  (limit {limit} ms: {'held' if p95 <= limit else 'MISSED'})"
            print(f"  {what:34} n {len(seconds):5}  p50 {share(seconds, 50) * 1000:6.1f}  p95 {p95:6.1f}"
                  f"  max {max(seconds) * 1000:6.1f} ms{verdict}")  # fmt: skip
        return good


async def once(caller: Caller, chance: random.Random, who: str, name: str) -> None:
    """What somebody does who works: looks at the queue, goes on a page, opens a ticket, looks for words."""
    page = await caller.get(f"queue {name}", "/v1/queue", who)
    if page["next_cursor"]:
        await caller.get(f"queue {name}, next page", "/v1/queue", who, cursor=page["next_cursor"])
    await caller.get(f"queue {name}, filtered", "/v1/queue", who, urgency="normal", domain=chance.choice(DOMAINS))
    if page["items"]:
        shown = await caller.get(f"ticket {name}", f"/v1/tickets/{chance.choice(page['items'])['id']}", who)
        await caller.get(f"search number, {name}", "/v1/tickets", who, q=shown["number"])
        text = shown["description"]
        at = chance.randrange(max(1, len(text) - 6))
        await caller.get(f"search own words, {name}", "/v1/tickets", who, q=text[at : at + chance.choice((2, 3, 4, 6))])
    for kind, listed in (("rare", RARE), ("common", COMMON)):
        await caller.get(f"search {kind}, {name}", "/v1/tickets", who, q=chance.choice(listed))
        await caller.get(f"search {kind} in the queue, {name}", "/v1/queue", who, q=chance.choice(listed))
    await caller.get(f"search two common, {name}", "/v1/tickets", who, q=" ".join(chance.sample(COMMON, 2)))
    await caller.get(f"search one character, {name}", "/v1/tickets", who, q=chance.choice("税电水氢"))


DOMAINS = ("consultation", "project_landing", "business_development", "government_service", "complaint_report")


async def paging(bench: Bench, caller: Caller, given: argparse.Namespace) -> None:
    """All pages of one unit's queue while other hands change it: each ticket that stays as it is, once."""
    unit, who = units()[30], f"handler:{units()[30]}"
    async with bench.connection() as connection:
        rows = await connection.fetch(
            "SELECT id::text FROM tickets WHERE lead = $1 AND phase = 'acceptance' ORDER BY id", unit
        )
    still, moved = {r[0] for r in rows[::2]}, [r[0] for r in rows[1::2]]
    stop, acted = asyncio.Event(), 0

    async def disturb() -> None:
        nonlocal acted
        for ticket in moved:
            if stop.is_set():
                return
            answer = await caller.http.post(
                f"/v1/tickets/{ticket}/actions/withdraw", json={"reason": "bench"},
                headers={"authorization": f"Bearer {caller.token('dispatcher')}"},
            )  # fmt: skip
            acted += answer.status_code == 200

    task = asyncio.create_task(disturb())
    seen, params = list[str](), dict[str, Any](limit=50)
    while True:
        page = await caller.get("queue while it changes", "/v1/queue", who, **params)
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    stop.set()
    await task
    assert len(seen) == len(set(seen)), "a ticket stood on two pages"
    assert still <= set(seen), f"{len(still - set(seen))} tickets were on no page"
    print(f"  paging: {len(seen)} tickets on pages of 50 while {acted} were withdrawn: none twice, none missing")


async def measure(bench: Bench, given: argparse.Namespace) -> bool:
    cli = [sys.executable, "-m", "service.cli", "token", "--as"]
    tokens: dict[str, str] = {}

    def token(who: str) -> str:
        if who not in tokens:
            made = subprocess.run([*cli, who], env=bench.env, check=True, capture_output=True, text=True)
            tokens[who] = made.stdout.strip()
        return tokens[who]

    codes, chance = units(), random.Random(1)
    people = [(f"handler:{codes[0]}", "largest unit"), (f"handler:{codes[12]}", "middle unit"),
              (f"handler:{codes[-1]}", "small unit"), ("dispatcher", "city")]  # fmt: skip
    if not given.use:
        await post(bench.port, token("hotline"), 60)
        print(f"filling {given.tickets} tickets, {given.open} open")
        await fill(bench, given)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bench.port}", timeout=60) as http:
        caller = Caller(bench, http, token)
        for who, name in people:
            await once(caller, chance, who, name)  # warm
        caller.seconds.clear()
        for _ in range(given.turns):
            for who, name in people:
                await once(caller, chance, who, name)
        for who, name in people:
            for _ in range(5):
                await caller.get(f"counts, {name}", "/v1/queue/counts", who)
        await paging(bench, caller, given)
        return caller.tell()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=50_000, help="how many (default 50,000)")
    parser.add_argument("--open", type=int, default=5_000, help="how many of them are open (default 5,000)")
    parser.add_argument("--turns", type=int, default=40, help="turns of each person (default 40)")
    parser.add_argument("--keep", type=Path, help="a folder that is kept afterwards")
    parser.add_argument("--use", action="store_true", help="the folder of --keep is filled already")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jieban-bench-") as made:
        folder = given.keep or Path(made)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
        with EmbeddedServers(folder / "data") as servers:
            bench = Bench(servers.start_postgres(), servers.start_redis(), folder, given)
            migrate.upgrade(bench.dsn)
            subprocess.run(
                [sys.executable, "-m", "service.cli", "migrate"], env=bench.env, check=True, stdout=subprocess.DEVNULL
            )
            api = bench.start("api")
            try:
                wait_http(f"http://127.0.0.1:{bench.port}/readyz", 30)
                good = asyncio.run(measure(bench, given))
            finally:
                ended([api])
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
