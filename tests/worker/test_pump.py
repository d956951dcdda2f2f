"""Timers and the outbox with nobody in front: several at once, poisoned rows, Redis gone, a receiver that fails."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from service.core.model import SYSTEM
from service.db import outbox
from service.integrations.webhooks import WebhookSender
from service.usecases import audit, clocks, delivery
from service.worker.main import ArqBell, run_hands
from service.worker.pump import Pump, sweep
from tests.conftest import City, opened_house
from tests.worker.stage import database, jump, sql, until

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
DAY = 86_400
DEAD_REDIS = "redis://127.0.0.1:1"


# --- firing ----------------------------------------------------------------------------------------------------------


async def test_two_houses_that_fire_at_once_fire_each_rung_once(city: City) -> None:
    made = [await city.ticket() for _ in range(60)]
    await jump(city.dsn, 30 * DAY)
    done = []

    async def fire(house: Any) -> None:
        idle = 0
        while idle < 3:
            fired = await clocks.fire_due(house, limit=10)
            idle = 0 if fired.tickets else idle + 1
            done.append(fired.rungs)

    async with opened_house(city.dsn, sandbox=True) as one, opened_house(city.dsn, sandbox=True) as two:
        await asyncio.gather(*(fire(house) for house in (one, two, one, two)))
    rows = await sql(city.dsn, "SELECT clock_id, rung, due_at, fired_at FROM firings")
    assert len(rows) == len({(r["clock_id"], r["rung"]) for r in rows}) == sum(done)
    assert all(r["fired_at"] >= r["due_at"] for r in rows)
    per_ticket = await sql(
        city.dsn,
        """SELECT ticket_id, count(*) AS n, array_agg(DISTINCT data ->> 'rung') AS rungs FROM events
           WHERE type IN ('clock.fired', 'clock.breached') GROUP BY 1""",
    )
    assert {str(r["ticket_id"]) for r in per_ticket} == {t["id"] for t in made}
    assert len({r["n"] for r in per_ticket}) == 1, "the same way for each"
    assert sum(r["n"] for r in per_ticket) == len(rows), "an event for each firing, a firing for each event"
    assert (await audit.verify(city.house)).broken == ()


POISONS = {
    "a segment of another shape": "UPDATE clocks SET segments = '[{\"bad\": 1}]' WHERE ticket_id = $1",
    "a list of numbers": "UPDATE clocks SET segments = '[1]' WHERE ticket_id = $1",
    "a clock that the workflow does not know": "UPDATE clocks SET name = 'nonsense' WHERE ticket_id = $1 AND name = 'accept'",
    "facts that are no object": "UPDATE tickets SET facts = '[]' WHERE id = $1",
    "a version that was never published": "UPDATE tickets SET workflow_version = 99 WHERE id = $1",
    "a budget below nothing": "UPDATE clocks SET budget = -5 WHERE ticket_id = $1",
    "an extension without an end": "UPDATE clocks SET extensions = '[{}]' WHERE ticket_id = $1",
    "a number taken": "UPDATE tickets SET last_seq = 0 WHERE id = $1",
}


FAULTS_OF_A_PART = {"a clock that the workflow does not know", "facts that are no object"}
"""The ticket's other timers, due long before, are sound and fire."""


@pytest.mark.parametrize("poison", POISONS)
async def test_a_ticket_that_cannot_be_fired_is_set_aside_and_the_others_fire(city: City, poison: str) -> None:
    bad = (await city.ticket())["id"]
    good = [(await city.ticket())["id"] for _ in range(3)]
    await sql(city.dsn, POISONS[poison], bad)
    await jump(city.dsn, 30 * DAY)
    async with asyncio.timeout(10):
        while (await clocks.fire_due(city.house)).tickets:
            pass
    fired = await sql(city.dsn, "SELECT DISTINCT ticket_id::text AS id FROM firings")
    assert {r["id"] for r in fired} >= set(good)
    if poison in {"a budget below nothing"} and bad in {r["id"] for r in fired}:
        return  # it could be fired after all
    aside = await sql(
        city.dsn, "SELECT max(attempts) AS n, max(last_error) AS why FROM clocks WHERE ticket_id = $1", bad
    )
    if poison not in FAULTS_OF_A_PART:
        assert bad not in {r["id"] for r in fired}
    assert aside[0]["n"] >= 1
    assert aside[0]["why"]


async def test_after_ten_tries_a_poisoned_ticket_rests_with_its_due_time_kept(city: City) -> None:
    bad = (await city.ticket())["id"]
    await sql(city.dsn, POISONS["a segment of another shape"], bad)
    due = await sql(city.dsn, "SELECT id, due_at FROM clocks ORDER BY id")
    await jump(city.dsn, 30 * DAY)
    for _ in range(12):
        await clocks.fire_due(city.house)
        await jump(city.dsn, 1000)
    rows = await sql(city.dsn, "SELECT attempts, next_fire_at, dead_at IS NULL FROM clocks WHERE ticket_id = $1", bad)
    assert {tuple(r) for r in rows} == {(10, None, False)}
    assert await sql(city.dsn, "SELECT id, due_at FROM clocks ORDER BY id") == due
    assert (await clocks.fire_due(city.house)).tickets == 0


async def test_a_ticket_held_by_somebody_is_passed_over_and_fired_later(city: City) -> None:
    held, free = (await city.ticket())["id"], (await city.ticket())["id"]
    await jump(city.dsn, 2 * DAY)
    async with database(city.dsn) as connection, connection.transaction():
        await connection.execute("SELECT 1 FROM tickets WHERE id = $1 FOR UPDATE", held)
        async with asyncio.timeout(3):
            while (await clocks.fire_due(city.house)).tickets:
                pass
        fired = await sql(city.dsn, "SELECT DISTINCT ticket_id::text AS id FROM firings")
        assert [r["id"] for r in fired] == [free]
    assert (await clocks.fire_due(city.house)).tickets == 1


async def test_pump_and_sweeper_work_with_redis_dead(city: City) -> None:
    bell = ArqBell(DEAD_REDIS)
    city.house.ring = bell.ring

    async def deliver() -> int:
        return await delivery.deliver_due(city.house, None)

    pump = Pump(city.house)
    aside = [
        asyncio.create_task(work) for work in (bell.run(), sweep(deliver), run_hands(DEAD_REDIS, pump.wake, deliver))
    ]
    main = asyncio.create_task(pump.run())
    try:
        t = (await city.ticket())["id"]
        await jump(city.dsn, 2 * DAY)

        async def fired() -> bool:
            rows = await sql(city.dsn, "SELECT count(*) AS n FROM firings WHERE ticket_id = $1", t)
            return bool(rows[0]["n"] >= 4)

        async def carried() -> bool:
            rows = await sql(city.dsn, "SELECT count(*) AS n FROM outbox WHERE state = 'pending'")
            return rows[0]["n"] == 0

        await until(fired)
        await until(carried)
        assert not any(task.done() for task in (*aside, main)), "nobody gave up"
        assert not bell.reachable
        pump.stop()
        await asyncio.wait_for(main, 5)
    finally:
        for task in (*aside, main):
            task.cancel()
        await asyncio.gather(*aside, main, return_exceptions=True)


# --- delivery --------------------------------------------------------------------------------------------------------


class Receiver:
    """A partner's HTTP server: takes messages, answers what it is told to."""

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], dict[str, Any], bytes]] = []
        self.answers: list[int] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
                headers = {k.lower(): v for k, v in headers.items()}
                body = await reader.readexactly(int(headers["content-length"]))
                status = self.answers.pop(0) if self.answers else 204
                if status < 300:
                    self.taken.append((headers, json.loads(body), body))
                more = "Location: http://127.0.0.1:1/\r\n" if 300 <= status < 400 else ""
                writer.write(f"HTTP/1.1 {status} X\r\n{more}Content-Length: 0\r\n\r\n".encode())
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    yield made
    server.close()


@pytest.fixture
async def sender(receiver: Receiver) -> AsyncIterator[WebhookSender]:
    made = WebhookSender(receiver.url, SECRET)
    yield made
    await made.close()


async def drain(city: City, sender: WebhookSender | None) -> int:
    rows = 0
    while n := await delivery.deliver_due(city.house, sender):
        rows += n
    return rows


async def test_events_reach_the_receiver_signed_whole_and_in_order_per_ticket(
    city: City, receiver: Receiver, sender: WebhookSender
) -> None:
    tickets = [(await city.ticket(contact={"name": "欧阳测试", "phone": "13987654321"}))["id"] for _ in range(4)]
    for t in tickets:
        await city.act(t, "accept", "handler:tax")
        await city.act(t, "comment", "handler:tax", text="机密内容")
    await city.advance(advance_by="P20D")
    receiver.answers = [204, 500, 204, 302, 204]
    assert await drain(city, sender) > 0
    while (await sql(city.dsn, "SELECT count(*) AS n FROM outbox WHERE state = 'pending'"))[0]["n"]:
        await jump(city.dsn, 6)
        await drain(city, sender)
    told: dict[str, list[int]] = {t: [] for t in tickets}
    for headers, payload, raw in receiver.taken:
        assert Webhook(SECRET).verify(raw, headers) == payload, "its time is near to ours, though the test clock is not"
        assert "机密" not in raw.decode() and "13987654321" not in raw.decode() and "欧阳" not in raw.decode()
        for event in payload["data"]["events"]:
            assert event["specversion"] == "1.0"
            assert event["source"] == "/v1/tickets/" + payload["data"]["ticket"]["id"]
            told[payload["data"]["ticket"]["id"]].append(event["sequence"])
    for t in tickets:
        stored = await sql(city.dsn, "SELECT last_seq FROM tickets WHERE id = $1", t)
        assert told[t] == list(range(1, stored[0]["last_seq"] + 1))
    with pytest.raises(Exception, match="signature"):
        Webhook("whsec_" + base64.b64encode(os.urandom(32)).decode()).verify(receiver.taken[0][2], receiver.taken[0][0])


async def test_a_failed_message_is_sent_again_with_the_same_id_and_holds_back_its_ticket_only(
    city: City, receiver: Receiver, sender: WebhookSender
) -> None:
    first = (await city.ticket())["id"]
    receiver.answers = [500]
    assert await delivery.deliver_due(city.house, sender) == 1
    await city.act(first, "accept", "handler:tax")
    other = (await city.ticket())["id"]
    await drain(city, sender)
    assert [p["data"]["ticket"]["id"] for _, p, _ in receiver.taken] == [other], "the failed one comes before its next"
    [row] = await sql(city.dsn, "SELECT attempts, last_error FROM outbox WHERE state = 'pending' AND attempts > 0")
    assert (row["attempts"], row["last_error"]) == (1, "the receiver answered 500")
    await jump(city.dsn, 6)
    await drain(city, sender)
    mine = [p for _, p, _ in receiver.taken if p["data"]["ticket"]["id"] == first]
    assert [e["type"] for p in mine for e in p["data"]["events"]] == ["ticket.opened", "ticket.accept"]
    ids = [h["webhook-id"] for h, _, _ in receiver.taken]
    assert len(set(ids)) == len(ids) == 3


async def test_after_ten_tries_over_three_days_a_message_is_dead_and_visible(
    city: City, receiver: Receiver, sender: WebhookSender
) -> None:
    await city.ticket()
    receiver.answers = [503] * 20
    tries = 0
    while (await sql(city.dsn, "SELECT state FROM outbox"))[0]["state"] == "pending":
        tries += await delivery.deliver_due(city.house, sender)
        await jump(city.dsn, 3600)
        assert tries <= 10
    assert tries == 10
    [row] = await sql(city.dsn, "SELECT state, attempts, last_error FROM outbox")
    assert tuple(row) == ("dead", 10, "the receiver answered 503")


async def test_a_receiver_that_is_not_there_is_a_failure_like_another(city: City) -> None:
    await city.ticket()
    sender = WebhookSender("http://127.0.0.1:1/", SECRET)
    try:
        assert await delivery.deliver_due(city.house, sender) == 1
    finally:
        await sender.close()
    [row] = await sql(city.dsn, "SELECT state, last_error FROM outbox")
    assert row["state"] == "pending" and "cannot be reached" in row["last_error"]


async def test_a_leased_message_is_left_alone_until_the_lease_ends(
    city: City, receiver: Receiver, sender: WebhookSender
) -> None:
    await city.ticket()
    async with city.house.db.transaction(SYSTEM) as tx:
        assert len(await outbox.claim(tx, tx.now, 10, delivery.LEASE)) == 1
    assert await delivery.deliver_due(city.house, sender) == 0, "somebody else carries it"
    await jump(city.dsn, delivery.LEASE.total_seconds() + 1)
    assert await delivery.deliver_due(city.house, sender) == 1, "who carried it is gone"
    assert len(receiver.taken) == 1


async def test_two_that_carry_at_once_send_nothing_twice(city: City, receiver: Receiver, sender: WebhookSender) -> None:
    for _ in range(20):
        await city.ticket()
    async with opened_house(city.dsn, sandbox=True) as other:
        await asyncio.gather(*(delivery.deliver_due(house, sender) for house in (city.house, other) * 3))
    ids = [h["webhook-id"] for h, _, _ in receiver.taken]
    assert len(ids) == len(set(ids)) == 20


async def test_without_a_receiver_nothing_waits(city: City) -> None:
    await city.ticket()
    assert await drain(city, None) == 1
    assert [r["state"] for r in await sql(city.dsn, "SELECT state FROM outbox")] == ["done"]
