"""A city that lives for years in a sandbox, beside the model:  python -m tests.simulation.city --seed 7 --years 3

Firms call, departments and the centre act at plausible times or not at all for months, reviews are held, tickets are
joined and taken up again; the pump comes when it comes. Each ticket is compared with the model after whatever somebody
did to it, and at the end of each week if a timer did; all of them at the end. The same seed lives the same life.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import count
from random import Random
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from service import clock
from service.db import migrate
from service.embedded import throwaway_servers
from service.usecases.folders import read_folder
from tests.conftest import WORKFLOWS
from tests.simulation.compare import JINAN
from tests.simulation.days import DAY
from tests.simulation.mirror import Different, Mirror
from tests.simulation.model import Rules, Ticket
from tests.simulation.moves import DOMAINS, URGENCIES, any_at_all, choose, plausible
from tests.simulation.real import opened

YEAR = timedelta(days=365.2425)
WEEK = timedelta(days=7)
START = datetime(2024, 1, 1, tzinfo=UTC)


class City:
    """Whose turn it is: a heap of (when, what, which ticket)."""

    def __init__(
        self, mirror: Mirror, rng: Random, years: float, tickets: int, notices: dict[int, Mapping[str, Any]]
    ) -> None:
        self.mirror, self.rng, self.end = mirror, rng, mirror.now + years * YEAR
        self.notices = notices
        """The calendar as it stands once the notice of a year is out, by year."""
        self.born: dict[str, datetime] = {}
        self.open_since: dict[str, datetime] = {}
        self.open_time = timedelta()
        self.queue: list[tuple[datetime, int, str, str]] = []
        self._numbers = count()
        for _ in range(tickets):
            self._at(self._by_day(mirror.now + rng.random() * (self.end - mirror.now)), "a request")
        self._at(mirror.now, "the pump")
        self._at(mirror.now + WEEK, "a week")
        for year in self.notices:
            self._at(datetime(year - 1, 11, 5 + self.below(20), 3, tzinfo=UTC), "a notice", str(year))

    def below(self, n: int) -> int:
        return self.rng.randrange(n)

    def _at(self, when: datetime, what: str, name: str = "") -> None:
        heapq.heappush(self.queue, (when, next(self._numbers), what, name))

    def _by_day(self, when: datetime) -> datetime:
        """What would fall into the night mostly waits until the morning."""
        local = when.astimezone(JINAN)
        if 8 <= local.hour < 18 or self.below(6) == 0:
            return when
        morning = datetime.combine(local.date() + (DAY if local.hour >= 18 else timedelta()), time(8), JINAN)
        return (morning + self.below(240) * timedelta(minutes=1)).astimezone(UTC)

    async def live(self) -> AsyncIterator[datetime]:
        """Yields the time after each thing that happened."""
        while self.queue and self.queue[0][0] <= self.end:
            when, _, what, name = heapq.heappop(self.queue)
            await self.mirror.wait_until(when)
            if what == "a request":
                await self._request()
            elif what == "a visit":
                await self._visit(name)
            elif what == "the pump":
                await self._pump()
            elif what == "a notice":
                await self.mirror.publish(self.notices[int(name)])
            else:
                await self.mirror.compare(sorted(self.mirror.touched), self.below)
                self._at(when + WEEK, "a week")
            yield self.mirror.now
        await self.mirror.wait_until(self.end)
        await self.mirror.pump()
        names = list(self.mirror.models)
        for first in range(0, len(names), 200):
            await self.mirror.compare(names[first : first + 200], self.below)
        await self.mirror.check()
        self.open_time += sum((self.end - since for since in self.open_since.values()), timedelta())
        yield self.end

    async def _request(self) -> None:
        domain, urgency = self.rng.choice(DOMAINS), self.rng.choice(URGENCIES)
        age = timedelta(minutes=self.below(600)) if self.below(3) else timedelta()
        await self._after(await self.mirror.post(domain, urgency, age, routed=self.below(5) > 0))

    async def _visit(self, name: str) -> None:
        """Somebody does something plausible to a ticket; now and then something that is not possible is tried."""
        if name in self.mirror.touched:
            await self.mirror.compare([name], self.below)
        known = len(self.mirror.models)
        if self.below(20) == 0:
            await any_at_all(self.mirror, name, self.below)()
        elif moves := plausible(self.mirror, name, self.below):
            await choose(moves, self.below)()
        for part in [name, *list(self.mirror.models)[known:]]:
            await self._after(part)

    async def _after(self, name: str) -> None:
        """Compare it, and say when somebody will look at it next, if ever."""
        await self.mirror.compare([name], self.below)
        ticket, now = self.mirror.models[name], self.mirror.now
        self.born.setdefault(name, now)
        if ticket.open:
            self.open_since.setdefault(name, now)
        elif name in self.open_since:
            self.open_time += now - self.open_since.pop(name)
        if ticket.open or self.below(4) == 0:
            self._at(self._by_day(now + self._gap(ticket)), "a visit", name)

    def _gap(self, ticket: Ticket) -> timedelta:
        kind = self.below(1000)
        if ticket.open and kind < 350:
            return timedelta(minutes=5 + self.below(180))
        if ticket.open and kind < 700:
            return timedelta(hours=1 + self.below(30))
        if kind < 930:
            return timedelta(days=1 + self.below(9), minutes=self.below(600))
        if kind < 985:
            return timedelta(days=10 + self.below(50), minutes=self.below(600))
        return timedelta(days=60 + self.below(240))  # forgotten in a drawer

    async def _pump(self) -> None:
        """It comes about twice a day, with an outage now and then; sometimes two at once, sometimes the sandbox's own."""
        if self.below(10) == 0:
            await self.mirror.advance(timedelta(minutes=self.below(90)))
        else:
            await self.mirror.pump(1 + self.below(2))
        late = timedelta(days=self.below(12)) if self.below(50) == 0 else timedelta(minutes=self.below(24 * 60))
        self._at(self.mirror.now + late, "the pump")

    def figures(self) -> dict[str, str]:
        models = list(self.mirror.models.values())
        fired = [f for t in models for f in t.fired]
        lived = sum((self.end - born for born in self.born.values()), timedelta())
        return {
            "tickets (with parts split off)": f"{len(models):,}",
            "case-years from receipt to the end": f"{lived / YEAR:,.0f}",
            "case-years open": f"{self.open_time / YEAR:,.1f}",
            "steps (of them refused by both)": f"{self.mirror.steps:,} ({self.mirror.refused:,})",
            "comparisons of a whole ticket": f"{self.mirror.compared:,}",
            "clocks": f"{sum(len(t.promises) for t in models):,}",
            "steps of ladders fired": f"{len(fired):,}",
            "of them behind when a promise was made anew": f"{sum(f.behind for f in fired):,}",
            "breaches": f"{sum(p.breached_at is not None for t in models for p in t.promises):,}",
        }


async def simulate(dsn: str, seed: int, years: float, tickets: int, console: Console) -> City:
    folder = read_folder(WORKFLOWS)
    whole = folder.calendars["cn-jinan"]
    official = [int(year) for year, block in whole["years"].items() if block["status"] == "official"]
    notices = {year: _known_in(whole, year) for year in official if year > START.year}
    at_first = _known_in(whole, START.year)
    rules = Rules(folder.workflows, at_first)
    async with opened(dsn, replace(folder, calendars={**folder.calendars, "cn-jinan": at_first})) as real:
        mirror = Mirror(real, rules, START)
        await mirror.begin()
        city = City(mirror, Random(seed), years, tickets, notices)
        columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %")]
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
            task = progress.add_task("", total=(city.end - mirror.now) / DAY)
            async for now in city.live():
                progress.update(task, completed=(now - START) / DAY, description=f"{now:%Y-%m-%d}")
        return city


def _known_in(calendar: Mapping[str, Any], last: int) -> dict[str, Any]:
    """The calendar before the notices of later years were out."""
    return {**calendar, "years": {year: block for year, block in calendar["years"].items() if int(year) <= last}}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.simulation.city", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="the same seed lives the same life (default 1)")
    parser.add_argument(
        "--years", type=float, default=3, help=f"how long it lives, from {START:%Y-%m-%d} on (default 3)"
    )
    parser.add_argument("--tickets", type=int, default=500, help="how many requests come in (default 500)")
    asked = parser.parse_args()
    console = Console()
    began = clock.monotonic()
    with throwaway_servers() as servers:
        dsn = servers.start_postgres()
        migrate.upgrade(dsn)
        try:
            city = asyncio.run(simulate(dsn, asked.seed, asked.years, asked.tickets, console))
        except Different as difference:
            console.print(str(difference), markup=False, highlight=False, soft_wrap=True)
            console.print(f"again: python -m tests.simulation.city {' '.join(sys.argv[1:])}", highlight=False)
            return 1
    table = Table(title=f"A city of seed {asked.seed}, {asked.years:g} years: the same as the model", show_header=False)
    for name, figure in {**city.figures(), "seconds": f"{clock.monotonic() - began:,.0f}"}.items():
        table.add_row(name, figure)
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
