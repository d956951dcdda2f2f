"""The real city: use cases over a PostgreSQL database, in a sandbox whose time stands still unless it is moved."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from service.api.schemas import NewTicket
from service.core.model import SYSTEM, Ticket
from service.db import clocks as timers
from service.db import tickets
from service.db.session import Database
from service.db.vault import Vault
from service.usecases import approvals, calendars, clocks, folders, intake, integrity, joining, publishing, reviews
from service.usecases import tickets as work
from service.usecases.answers import Answer, Call
from service.usecases.house import House
from tests.conftest import KEY, actor

BASE = datetime(2020, 1, 1, tzinfo=UTC)
CALL = Call("simulation", None, b"")
OLD_TICKETS_REST = "UPDATE clocks SET next_fire_at = NULL, dead_at = $1 WHERE next_fire_at IS NOT NULL"
FIRINGS = "SELECT ticket_id, clock_id, rung, due_at, fired_at, outcome FROM firings WHERE ticket_id = ANY($1::uuid[])"
NUMBERED = """
    SELECT ticket_id, count(*) AS n, min(seq) AS first, max(seq) AS last FROM events
    WHERE ticket_id = ANY($1::uuid[]) GROUP BY ticket_id
"""


class StoppedDatabase(Database):
    """The machine's clock is replaced by a fixed instant: the sandbox's offset alone is the time.

    So a history is the same whenever it is lived, and something can be done at the very microsecond at which it is due.
    """

    @property
    def now_sql(self) -> str:
        return super().now_sql.replace("clock_timestamp()", f"timestamptz '{BASE.isoformat()}'")


class Real:
    """What people and pumps do. Refusals are raised as the errors of the domain."""

    def __init__(self, house: House) -> None:
        self.house, self._references = house, count(1)

    async def set_time(self, now: datetime) -> None:
        """The sandbox's time from now on; nothing fires by itself, as if the pump were down."""
        async with self.house.db.transaction(SYSTEM) as tx:
            await timers.sandbox_offset(tx, (now - BASE) // timedelta(microseconds=1))

    async def advance(self, to: datetime) -> None:
        await clocks.advance(self.house, actor("admin"), to, None)

    async def forget(self) -> None:
        """The tickets of another history rest: their timers are given up, as if they had failed too often."""
        async with self.house.db.transaction(SYSTEM) as tx:
            await tx.execute(OLD_TICKETS_REST, tx.now)

    async def pump(self, hands: int = 1) -> None:
        """Fire until nothing is due, with several pumps at once."""

        async def fire() -> None:
            while (await clocks.fire_due(self.house)).tickets:
                pass

        await asyncio.gather(*(fire() for _ in range(hands)))
        await fire()  # what one passed over because the other held it

    async def post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        body = {**body, "source": {**body["source"], "reference": f"R{next(self._references)}"}}
        checked = NewTicket.model_validate_json(json.dumps(body)).model_dump()
        del checked["answered"]
        return _shown(await intake.accept(self.house, actor("hotline"), checked, CALL))

    async def act(self, ticket: str, action: str, who: str, form: Mapping[str, Any]) -> dict[str, Any]:
        return _shown(await work.act(self.house, actor(who), ticket, action, form, CALL, None))

    async def join(self, ticket: str, action: str, form: Mapping[str, Any]) -> dict[str, Any]:
        return _shown(await joining.act(self.house, actor("dispatcher"), ticket, action, form, CALL, None))

    async def decide(self, approval: str, approve: bool) -> None:
        await approvals.decide(self.house, actor("dispatcher"), approval, approve, "as it is", CALL)

    async def review(self, review: str, step: str, who: str, form: Mapping[str, Any]) -> None:
        await reviews.act(self.house, actor(who), review, step, form, CALL)
        if form.get("decision") == "accept":
            for gate in ("competence", "confidentiality", "recusal"):
                await reviews.act(self.house, actor(who), review, "pass_gate", {"gate": gate}, CALL)

    async def measure(self, measure: str, step: str, who: str, form: Mapping[str, Any]) -> None:
        await reviews.act_on_measure(self.house, actor(who), measure, step, form, CALL)

    async def publish(self, calendar: Mapping[str, Any]) -> None:
        """A new version of the calendar: looked at, published, and every open clock counted anew (T9)."""
        who, reason = actor("admin"), "the notice of the next year"
        look = calendars.Proposed(calendar, reason, None, dry_run=True)
        seen = _shown(await calendars.publish(self.house, who, look, CALL))
        await calendars.publish(self.house, who, calendars.Proposed(calendar, reason, seen["preview"], False), CALL)
        await self.house.refresh()
        walk = calendars.Walk()
        while await calendars.recount_some(self.house, walk):
            pass

    async def unsound(self) -> list[str]:
        """What the service's own check finds wrong with what is stored."""
        report = await integrity.check(self.house)
        return [repr(finding) for finding in report.findings if finding.offending]

    async def explain(self, ticket: str, clock: str) -> dict[str, Any]:
        return await work.explanation(self.house, actor("dispatcher"), ticket, clock)

    async def look(self, ids: list[str]) -> tuple[dict[str, Ticket], dict[str, list[Any]], dict[str, Any]]:
        """Whole tickets, their firings, and how their events are numbered; by ticket."""
        async with self.house.db.transaction(SYSTEM, readonly=True) as tx:
            loaded = await tickets.load(tx, ids)
            firings: dict[str, list[Any]] = {ticket_id: [] for ticket_id in ids}
            for row in await tx.rows(FIRINGS, ids):
                firings[row["ticket_id"]].append(row)
            numbered = {row["ticket_id"]: row for row in await tx.rows(NUMBERED, ids)}
        return {ticket_id: stored.ticket for ticket_id, stored in loaded.items()}, firings, numbered


def _shown(answer: Answer) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(answer.body)
    return shown


@asynccontextmanager
async def opened(dsn: str, folder: folders.Folder | None = None) -> AsyncIterator[Real]:
    """The city in a database; the shipped workflows are published first if they are given."""
    ids = count(1)
    db = await StoppedDatabase.connect(dsn, 4, sandbox=True)
    try:
        house = House(db, Vault(KEY), lambda: str(UUID(int=next(ids))), ZoneInfo("Asia/Shanghai"), sandbox=True)
        if folder is not None:
            await publishing.publish_folder(house, folder, "simulation", "the shipped set")
        await house.refresh()
        yield Real(house)
    finally:
        await db.close()
