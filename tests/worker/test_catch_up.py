"""After an outage: once each, oldest first, nobody starved, warnings overtaken not sent, notices coalesced."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from service.core.periods import Every
from service.usecases import audit, clocks, delivery, notices
from service.usecases.periodic import CHECK, Job, run_due
from service.usecases.runs import Run
from service.worker.periodic import jobs, keep_time
from service.worker.pump import Pump
from tests.builders import ordinary_monday
from tests.conftest import City, opened_house
from tests.worker.stage import count, jump, pumping, sql, until

DAY = 86_400
HOUR = 3600


async def drain(city: City, limit: int = 200) -> None:
    run = Run(city.house)
    await run.begin()
    while (await clocks.fire_due(city.house, limit=limit, run=run)).tickets:
        pass


async def test_T17_a_warning_overtaken_by_its_breach_is_recorded_and_not_sent(city: City) -> None:
    t = (await city.ticket())["id"]
    await jump(city.dsn, 3 * HOUR)  # first contact: warning after 90 minutes, breach after two hours
    await drain(city)
    rows = await sql(
        city.dsn,
        """SELECT f.rung, f.outcome, f.due_at, f.fired_at, c.due_at AS promised FROM firings f
           JOIN clocks c ON c.id = f.clock_id WHERE c.name = 'contact' ORDER BY f.due_at""",
    )
    assert [(r["rung"], r["outcome"]) for r in rows] == [("warning", "superseded"), ("breach", "fired")]
    assert rows[1]["due_at"] == rows[1]["promised"]
    assert rows[1]["fired_at"] - rows[1]["due_at"] > timedelta(minutes=50)
    about = await sql(city.dsn, "SELECT kind FROM notices WHERE ticket_id = $1 AND about = 'contact'", t)
    assert len(about) == 1, "the breach is told, the warning is not"
    async with city.house.db.transaction(delivery.SYSTEM) as tx:
        now = tx.now
    await notices.digest(city.house, now)
    [body] = await sql(city.dsn, "SELECT body FROM digests WHERE recipient = 'department:tax'")
    told = json.loads(body["body"])
    sent = await count(city.dsn, "notices WHERE recipient = 'department:tax'")
    assert (told["count"], told["more"], len(told["tickets"])) == (sent, 0, 1)
    assert told["tickets"][0]["id"] == t


async def test_T5_nothing_fires_before_what_is_due_five_minutes_earlier(city: City) -> None:
    now = datetime.now(ZoneInfo("Asia/Shanghai"))
    await jump(city.dsn, (ordinary_monday(now) - now).total_seconds())  # promises of office hours fall due on this day
    for minutes in range(0, 60, 7):
        await city.ticket()
        await jump(city.dsn, minutes * 60)
    await jump(city.dsn, 6 * HOUR)
    await asyncio.gather(*(drain(city, limit=2) for _ in range(2)))
    rows = await sql(city.dsn, "SELECT due_at, fired_at FROM firings ORDER BY fired_at, due_at")
    assert len(rows) > 20
    for n, row in enumerate(rows):
        newest = max((r["due_at"] for r in rows[:n] if r["fired_at"] < row["fired_at"]), default=row["due_at"])
        assert newest - row["due_at"] < timedelta(minutes=5)


async def test_a_ticket_with_very_many_rungs_due_does_not_starve_the_others(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = (await city.ticket())["id"]
    await jump(city.dsn, 60)
    others = [(await city.ticket())["id"] for _ in range(5)]
    await jump(city.dsn, 120 * DAY)  # half a hundred reminders each
    monkeypatch.setattr(clocks, "ENOUGH_RUNGS", 3)
    first: dict[str, int] = {}
    batches = 0
    while (await clocks.fire_due(city.house, limit=2)).tickets:
        batches += 1
        for row in await sql(city.dsn, "SELECT DISTINCT ticket_id::text AS id FROM firings"):
            first.setdefault(row["id"], batches)
    assert set(first) == {many, *others}
    assert max(first.values()) <= 2 * len(first), "each had its turn before anybody's later rungs"
    assert batches > 20
    assert (await audit.verify(city.house)).broken == ()


async def test_everything_overdue_fires_in_one_round_however_much_it_is(city: City) -> None:
    for _ in range(30):
        await city.ticket()
    await jump(city.dsn, 30 * DAY)
    async with pumping(Pump(city.house, batch=4)):

        async def none_due() -> bool:
            return (await clocks.seconds_to_next(city.house) or 1) > 0

        await until(none_due)
    rows = await sql(city.dsn, "SELECT ticket_id, count(*) AS n FROM firings GROUP BY 1")
    assert len(rows) == 30
    assert len({r["n"] for r in rows}) == 1


# --- digests ---------------------------------------------------------------------------------------------------------


async def test_digests_come_once_per_recipient_and_minute_however_many_workers_run(city: City) -> None:
    for _ in range(4):
        await city.ticket()
    await jump(city.dsn, 30 * DAY)
    async with (
        opened_house(city.dsn, sandbox=True) as two,
        opened_house(city.dsn, sandbox=True) as three,
    ):
        pumps = [Pump(house) for house in (city.house, two, three)]
        tasks = [
            asyncio.create_task(pump.run(*(partial(keep_time, house, pump.worker, job) for job in jobs(house))))
            for pump, house in zip(pumps, (city.house, two, three), strict=True)
        ]
        try:
            for _ in range(3):

                async def told() -> bool:
                    return await count(city.dsn, "notices") > 0 and not await count(
                        city.dsn, "notices WHERE digest_id IS NULL"
                    )

                await until(told)
                await city.ticket()
                await jump(city.dsn, 2 * HOUR)
        finally:
            for pump in pumps:
                pump.stop()
            await asyncio.gather(*tasks)
    rows = await sql(city.dsn, "SELECT recipient, slot, count(*) AS n FROM digests GROUP BY 1, 2")
    assert rows and {r["n"] for r in rows} == {1}
    assert all(r["slot"].second == 0 for r in rows)
    summed = await sql(city.dsn, "SELECT sum((body ->> 'count')::int) AS n FROM digests")
    assert summed[0]["n"] == await count(city.dsn, "notices WHERE digest_id IS NOT NULL"), "each notice in one digest"


class Taking:
    """A receiver that takes everything."""

    def __init__(self) -> None:
        self.taken: list[Any] = []

    async def send(self, message_id: str, sent_at: Any, payload: Any) -> str | None:
        self.taken.append(payload)
        return None


async def test_a_digest_is_told_outside_thinly_and_names_a_hundred_tickets_at_most(city: City) -> None:
    t = await city.ticket(contact={"name": "欧阳测试", "phone": "13987654321"})
    await sql(
        city.dsn,
        """WITH copied AS (
             INSERT INTO tickets SELECT (jsonb_populate_record(t, jsonb_build_object(
               'id', gen_random_uuid(), 'number', 'QY' || lpad(n::text, 15, '0'), 'source_reference', 'copy ' || n))).*
             FROM tickets t, generate_series(1, 119) n RETURNING id)
           INSERT INTO notices (id, ticket_id, recipient, kind, about, due_at, created_at)
           SELECT gen_random_uuid(), id, 'supervisor', 'attention', 'resolve', now(), now() FROM copied""",
    )
    async with city.house.db.transaction(delivery.SYSTEM) as tx:
        now = tx.now
    made = await notices.digest(city.house, now)
    assert made == {"digests": 2}
    receiver = Taking()
    while await delivery.deliver_due(city.house, receiver):
        pass
    digests = {p["data"]["recipient"]: p["data"] for p in receiver.taken if p["type"] == "jieban.notices.digest"}
    assert set(digests) == {"supervisor", "department:tax"}
    assert (digests["supervisor"]["count"], digests["supervisor"]["more"]) == (119, 19)
    assert len(digests["supervisor"]["tickets"]) == 100
    [mine] = digests["department:tax"]["tickets"]
    assert mine == {"id": t["id"], "number": t["number"], "kinds": ["dispatched"], "about": []}
    said = json.dumps(receiver.taken, ensure_ascii=False)
    assert "欧阳" not in said and "13987654321" not in said and t["title"] not in said
    assert await count(city.dsn, "digests WHERE state <> 'done'") == 0


async def test_without_a_receiver_digests_are_done(city: City) -> None:
    await city.ticket()
    async with city.house.db.transaction(delivery.SYSTEM) as tx:
        now = tx.now
    await notices.digest(city.house, now)
    while await delivery.deliver_due(city.house, None):
        pass
    assert {r["state"] for r in await sql(city.dsn, "SELECT state FROM digests")} == {"done"}


# --- periodic work -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_all", [True, False])
async def test_T10_cron_slots_three_workers_and_a_day_with_five_hours_down(city: City, run_all: bool) -> None:
    done: list[Any] = []

    async def work(slot: Any) -> dict[str, Any]:
        done.append(slot)
        return {"n": len(done)}

    job = Job("hourly", Every(timedelta(hours=1)), work, run_all)
    await sql(
        city.dsn,
        """INSERT INTO pump_runs (worker, started_at, heartbeat_at)
           SELECT 'worker ' || n, now(), now() FROM generate_series(0, 2) n""",
    )
    for hour in range(24):
        await jump(city.dsn, HOUR)
        if not 8 <= hour < 13:
            await asyncio.gather(*(run_due(city.house, f"worker {n}", job) for n in range(3)))
    rows = await sql(city.dsn, "SELECT slot, finished_at, result FROM cron_slots WHERE name = 'hourly' ORDER BY slot")
    assert len(rows) == len(done) == len(set(done)) == (24 if run_all else 19)
    assert all(r["finished_at"] is not None for r in rows)
    assert [r["slot"] for r in rows] == sorted(done)


async def test_a_slot_whose_worker_died_is_done_by_another(city: City) -> None:
    done: list[Any] = []

    async def work(slot: Any) -> dict[str, Any]:
        done.append(slot)
        return {}

    job = Job("nightly", Every(timedelta(days=1)), work)
    await sql(city.dsn, "INSERT INTO pump_runs (worker, started_at, heartbeat_at) VALUES ('other', now(), now())")
    slot = job.period.latest((await sql(city.dsn, "SELECT now()"))[0][0])
    await sql(
        city.dsn, "INSERT INTO cron_slots (name, slot, worker, started_at) VALUES ('nightly', $1, 'other', now())", slot
    )
    assert await run_due(city.house, "me", job) == 0, "somebody is at it"
    await sql(city.dsn, "DELETE FROM pump_runs")
    assert await run_due(city.house, "me", job) == 1
    assert await run_due(city.house, "me", job) == 0
    assert done == [slot]


async def test_periodic_work_that_fails_is_kept_with_its_error_and_tried_at_the_next_slot(city: City) -> None:
    async def work(slot: Any) -> dict[str, Any]:
        raise ValueError("no luck")

    job = Job("failing", Every(timedelta(hours=1)), work)
    assert await run_due(city.house, "me", job) == 1
    assert await run_due(city.house, "me", job) == 0
    [row] = await sql(city.dsn, "SELECT result FROM cron_slots WHERE name = 'failing'")
    assert "no luck" in row["result"]
    await jump(city.dsn, HOUR)
    assert await run_due(city.house, "me", job) == 1


async def test_the_nights_work_gives_way_to_timers(city: City) -> None:
    await city.ticket()
    busy = True
    check = next(job for job in jobs(city.house, lambda: busy) if job.name == CHECK)
    async with city.house.db.transaction(delivery.SYSTEM) as tx:
        working = asyncio.create_task(check.work(tx.now))
    await asyncio.sleep(0.5)
    assert not working.done()
    busy = False
    assert (await working)["tickets"] == 1
