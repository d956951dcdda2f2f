"""How fast `check` reads a city: tickets a second, beside `audit verify` on the same database in one run.

    python3 -m service bench check             # or: .venv/bin/python -m bench.check --help

The city is made of the shipped requests, taken in by the use case itself and left alone for weeks, so that each ticket has
its escalations: about thirteen firings and as many events.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from service import clock
from service.api.schemas import NewTicket
from service.core.model import Actor, Role
from service.db import migrate
from service.db.session import Database
from service.db.vault import Vault
from service.embedded import throwaway_servers
from service.usecases import audit, clocks, folders, intake, integrity, publishing
from service.usecases.answers import Call, digest_of
from service.usecases.house import House

ROOT = Path(__file__).resolve().parent.parent
HOTLINE, ADMIN = Actor("hotline", Role.HOTLINE), Actor("admin", Role.ADMIN)


def requests() -> list[dict[str, Any]]:
    lines = (ROOT / "workflows" / "demo" / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


async def seed(house: House, tickets: int, weeks: int) -> None:
    """Post `tickets` requests eight at a time, then let `weeks` go by."""
    bodies, todo = requests(), iter(range(tickets))

    async def client() -> None:
        for n in todo:
            given = bodies[n % len(bodies)]
            source = {**given["source"], "reference": f"bench-{n}"}
            body = NewTicket.model_validate({**given, "source": source}).model_dump()
            await intake.accept(house, HOTLINE, body, Call("POST /v1/tickets", f"bench-{n}", digest_of(body)))

    await asyncio.gather(*(client() for _ in range(8)))
    await clocks.advance(house, ADMIN, None, timedelta(weeks=weeks))
    async with house.db.pool.acquire() as connection:
        await connection.execute("RESET ROLE")
        await connection.execute("ANALYZE")


async def measure(dsn: str, tickets: int, weeks: int) -> None:
    db = await Database.connect(dsn, 8, sandbox=True)
    house = House(db, Vault(bytes(32)), clock.new_id, ZoneInfo("Asia/Shanghai"), True)
    try:
        await publishing.publish_folder(house, folders.read_folder(ROOT / "workflows"), "bench", "the shipped set")
        await house.refresh()
        started = time.perf_counter()
        await seed(house, tickets, weeks)
        print(f"seeded {tickets} tickets and {weeks} weeks in {time.perf_counter() - started:.0f} s", flush=True)
        for name, read in (("check", integrity.check), ("audit verify", audit.verify)):
            started = time.perf_counter()
            told = await read(house)
            seconds = time.perf_counter() - started
            print(f"{name}: {seconds:.1f} s, {told.tickets / seconds:.0f} tickets/s", flush=True)
            if isinstance(told, integrity.Report):
                looked = {f.code: f.looked for f in told.findings}
                print(
                    f"  {told.clocks} clocks, {looked['I3']} firings, {looked['I10']} events; {told.offending} offend"
                )
    finally:
        await db.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=20_000)
    parser.add_argument("--weeks", type=int, default=6)
    given = parser.parse_args()
    with throwaway_servers() as servers:
        dsn = servers.start_postgres()
        migrate.upgrade(dsn)
        asyncio.run(measure(dsn, given.tickets, given.weeks))


if __name__ == "__main__":
    main()
