"""What the hotline asks besides posting a ticket: the batch, the feed of events, corrections, a day's account, limits."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import uvicorn

from service import clock
from service.api.limits import BURST_SECONDS, Limiter, TooMany
from service.core.model import Actor, Role
from service.db import feed
from service.db.session import connect_arguments
from service.usecases import integrity
from service.usecases.feed import number
from tests.conftest import City, request_body


def ndjson(*bodies: Any) -> bytes:
    return b"".join((b if isinstance(b, bytes) else json.dumps(b).encode()) + b"\n" for b in bodies)


async def batch(city: City, content: bytes, who: str = "hotline", **headers: str) -> tuple[int, list[dict[str, Any]]]:
    answer = await city.request(
        "POST", "/v1/tickets/batch", who, content=content,
        headers={"Content-Type": "application/x-ndjson", **headers},
    )  # fmt: skip
    if answer.status_code != 200:
        return answer.status_code, []
    assert answer.headers["content-type"] == "application/x-ndjson"
    return 200, [json.loads(line) for line in answer.text.splitlines()]


async def events_of(city: City, who: str = "hotline", **asked: Any) -> dict[str, Any]:
    answer = await city.get("/v1/events", who, params=asked)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def whole_feed(city: City, who: str = "hotline", **asked: Any) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    after = asked.pop("after", None)
    while True:
        page = await events_of(city, who, **asked, **({"after": after} if after else {}))
        out += page["items"]
        after = page["next_cursor"]
        if not page["more"]:
            return out


# --- the batch -------------------------------------------------------------------------------------------------------


async def test_one_bad_line_of_a_batch_harms_no_other(city: City) -> None:
    good = [request_body() for _ in range(3)]
    lines = [
        good[0], b"{not json", {"title": "only"}, good[1], b"", b"   ", good[0], {**good[1], "title": "another"},
        b'{"a": 1, "a": 2}', b"\xff\xfe", {**request_body(), "unknown_field": 1}, good[2],
    ]  # fmt: skip
    status, told = await batch(city, ndjson(*lines))
    assert status == 200
    by_line = {t["line"]: t for t in told}
    assert [t["line"] for t in told] == [1, 2, 3, 4, 7, 8, 9, 10, 11, 12], "in order; empty lines say nothing"
    assert {n: t["status"] for n, t in by_line.items()} == {
        1: 201, 2: 422, 3: 422, 4: 201, 7: 200, 8: 409, 9: 422, 10: 422, 11: 422, 12: 201,
    }  # fmt: skip
    assert by_line[7]["id"] == by_line[1]["id"]
    assert by_line[8]["problem"]["ticket"]["id"] == by_line[4]["id"]
    assert {e["pointer"] for e in by_line[3]["problem"]["errors"]} >= {"/source", "/description", "/enterprise"}
    assert by_line[11]["problem"]["errors"][0]["pointer"] == "/unknown_field"
    for n in (1, 4, 12):
        assert (await city.show(by_line[n]["id"]))["number"] == by_line[n]["number"]


async def test_a_line_without_a_newline_at_the_end_counts_and_a_line_too_long_is_told_so(city: City) -> None:
    long = request_body(description="长" * 500_000)
    body = ndjson(long, request_body()) + json.dumps(request_body()).encode()
    _, told = await batch(city, body)
    assert [(t["line"], t["status"]) for t in told] == [(1, 413), (2, 201), (3, 201)]
    assert told[0]["problem"]["type"] == "/problems/too-large"


async def test_a_batch_posted_again_makes_nothing_new(city: City) -> None:
    content = ndjson(*(request_body() for _ in range(20)))
    _, first = await batch(city, content)
    _, again = await batch(city, content)
    assert [t["id"] for t in again] == [t["id"] for t in first]
    assert {t["status"] for t in again} == {200}
    keyed = ndjson(*(request_body() for _ in range(3)))
    _, one = await batch(city, keyed, **{"Idempotency-Key": "b1"})
    _, two = await batch(city, keyed, **{"Idempotency-Key": "b1"})
    assert one == two, "with a key each line has its first answer again"


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-ndjson-no"])
async def test_a_batch_of_another_kind_is_refused_before_it_is_read(city: City, kind: str) -> None:
    answer = await city.request("POST", "/v1/tickets/batch", "hotline", content=b"{}", headers={"Content-Type": kind})
    assert answer.status_code == 415


@asynccontextmanager
async def served(city: City) -> AsyncIterator[str]:
    """The same application over a real socket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = uvicorn.Config(city.http._transport.app, port=port, lifespan="off", log_level="error")  # type: ignore[attr-defined]
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await task


async def test_a_batch_is_answered_line_by_line_while_it_is_being_sent(city: City) -> None:
    async with served(city) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = (
            "POST /v1/tickets/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
            f"Authorization: Bearer {city.token('hotline')}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        writer.write(head.encode())
        for n in range(1, 4):
            line = ndjson(request_body())
            writer.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            await writer.drain()
            async with asyncio.timeout(10):
                while f'"line":{n},'.encode() not in (got := await reader.readline()):
                    assert got != b"", "the answer to a line comes before the next is sent"
        writer.write(b"0\r\n\r\n")
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()


async def test_a_client_that_reads_nothing_until_all_is_sent_is_not_stuck(city: City) -> None:
    """More answers than any socket buffer holds: bad lines are told at length and cost no database."""
    lines, line = 60_000, b'{"source": 1}\n'
    async with served(city) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = (
            "POST /v1/tickets/batch HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-ndjson\r\n"
            f"Authorization: Bearer {city.token('hotline')}\r\nContent-Length: {lines * len(line)}\r\n\r\n"
        )
        async with asyncio.timeout(120):
            writer.write(head.encode())
            for _ in range(lines // 1000):
                writer.write(line * 1000)
                await writer.drain()
            answer = await reader.read()
        writer.close()
    assert answer.count(b'{"line":') == lines


async def test_a_client_that_goes_away_in_the_middle_has_what_was_whole_by_then(city: City) -> None:
    whole, cut = request_body(), request_body()
    async with served(city) as url:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = (
            "POST /v1/tickets/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
            f"Authorization: Bearer {city.token('hotline')}\r\nContent-Length: 100000\r\n\r\n"
        )
        writer.write(head.encode() + ndjson(whole) + json.dumps(cut).encode()[:-2])
        await writer.drain()
        await asyncio.sleep(0.5)
        writer.close()
        await asyncio.sleep(0.5)
    for body, found in ((whole, 1), (cut, 0)):
        asked = {"source_reference": body["source"]["reference"]}
        assert len((await city.get("/v1/tickets", params=asked)).json()["items"]) == found


# --- the feed --------------------------------------------------------------------------------------------------------


async def test_the_feed_tells_every_event_once_and_of_each_ticket_in_order(city: City) -> None:
    made = [await city.ticket() for _ in range(3)]
    await city.act(made[0]["id"], "accept", "handler:tax")
    await city.act(made[1]["id"], "comment", "dispatcher", text="看过")
    page = await events_of(city, limit=2)
    assert len(page["items"]) == 2 and page["more"]
    told = page["items"] + await whole_feed(city, after=page["next_cursor"], limit=3)
    ids = [e["id"] for e in told]
    assert len(ids) == len(set(ids))
    for t in made:
        history = (await city.get(f"/v1/tickets/{t['id']}/events")).json()["items"]
        own = [e for e in told if e["subject"] == t["number"]]
        assert [e["id"] for e in own] == [e["id"] for e in history]
        assert [e["data"]["seq"] for e in own] == [*range(1, len(history) + 1)]
    first = told[0]
    assert first.items() >= {
        "specversion": "1.0", "type": "ticket.opened", "source": f"/v1/tickets/{made[0]['id']}",
        "subject": made[0]["number"], "datacontenttype": "application/json", "sequence": "0000000001",
    }.items()  # fmt: skip
    assert first["data"]["source"] == {"system": "jn12345", "reference": made[0]["source"]["reference"]}
    assert "王小明" not in json.dumps(told, ensure_ascii=False), "thin: ids, types, times"
    assert await whole_feed(city, after=(await events_of(city, after="latest"))["next_cursor"]) == []


async def test_the_feed_gives_the_types_asked_for(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "accept", "handler:tax")
    await city.act(t, "request_extension", "handler:tax", ground="waiting_enterprise", days=1, reason="x")
    some = {e["type"] for e in await whole_feed(city, types="ticket.opened")}
    assert some == {"ticket.opened"}
    kinds = {e["type"] for e in await whole_feed(city, types="ticket.*,approval.*")}
    assert kinds == {"ticket.opened", "ticket.accept", "ticket.request_extension"}
    start = await events_of(city, types="review.*")
    assert (start["items"], start["more"]) == ([], False)
    await city.act(t, "escalate", "handler:tax", reason="难")
    later = await events_of(city, types="review.*", after=start["next_cursor"])
    assert [e["type"] for e in later["items"]] == ["review.proposed"]


async def test_a_department_is_fed_the_events_of_its_own_tickets_only(city: City) -> None:
    await city.ticket()
    assert await whole_feed(city, "handler:water") == []
    assert {e["type"] for e in await whole_feed(city, "handler:tax")} == {"ticket.opened"}


@pytest.mark.parametrize("asked", [{"after": "x"}, {"after": "W10"}, {"after": "WzEsLTFd"}, {"types": "a b"},
                                   {"types": "%"}, {"types": "Ticket.opened"}, {"types": ",".join(["a"] * 51)}])  # fmt: skip
async def test_a_cursor_or_a_type_of_no_such_form_is_refused(shared_city: City, asked: dict[str, str]) -> None:
    answer = await shared_city.get("/v1/events", "hotline", params=asked)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"/{next(iter(asked))}"


async def test_no_event_is_missed_by_a_reader_although_transactions_commit_out_of_order(city: City) -> None:
    """Writers that hold their transactions open for a while, and a reader that follows the cursor meanwhile."""
    house, hotline = city.house, Actor("hotline", Role.HOTLINE)
    connection = await asyncpg.connect(**connect_arguments(city.dsn))
    await city.ticket()
    template = await connection.fetchrow("SELECT * FROM outbox LIMIT 1")

    async def write(n: int) -> str:
        async with house.db.transaction(hotline) as tx:
            row_id = clock.new_id()
            await tx.execute(
                "INSERT INTO outbox (id, ticket_id, topic, body, next_at, created_at) VALUES ($1, $2, 'ticket', $3, $4, $4)",
                row_id, template["ticket_id"],
                {"number": "n", "events": [{"id": row_id, "seq": 100 + n, "type": "test.event",
                                            "occurred_at": "2026-01-01T00:00:00+00:00"}]}, tx.now,
            )  # fmt: skip
            await asyncio.sleep((n * 7 % 11) * 0.01)  # who began first commits last, as it comes
        return row_id

    seen: list[str] = []
    stop = asyncio.Event()

    async def follow() -> None:
        after = None
        while True:
            last_time = stop.is_set()
            page = await events_of(city, types="test.event", limit=7, **({"after": after} if after else {}))
            seen.extend(e["id"] for e in page["items"])
            after = page["next_cursor"]
            if last_time and not page["more"]:
                return

    following = asyncio.create_task(follow())
    gate = asyncio.Semaphore(6)

    async def one(n: int) -> str:
        async with gate:
            return await write(n)

    written = await asyncio.gather(*(one(n) for n in range(150)))
    stop.set()
    await following
    await connection.close()
    assert sorted(seen) == sorted(written), "each once, none missed"


async def test_of_one_ticket_the_feed_keeps_the_order_of_its_history_when_many_act_at_once(city: City) -> None:
    tickets = [(await city.ticket())["id"] for _ in range(4)]

    async def comment(n: int) -> None:
        await city.act(tickets[n % 4], "comment", "dispatcher", text=str(n))
        if n % 5 == 0:
            await number(city.house)

    await asyncio.gather(*(comment(n) for n in range(60)))
    told = await whole_feed(city, limit=9)
    for t in tickets:
        own = [e["data"]["seq"] for e in told if e["source"].endswith(t)]
        assert own == [*range(1, len(own) + 1)]
        assert len(own) == 16


async def test_numbering_by_many_at_once_gives_each_message_one_place(city: City) -> None:
    await batch(city, ndjson(*(request_body() for _ in range(30))))
    await asyncio.gather(*(number(city.house) for _ in range(6)))
    async with city.house.db.transaction(Actor("a", Role.AUDITOR), readonly=True) as tx:
        rows = await tx.rows("SELECT position FROM outbox ORDER BY position")
        assert [r["position"] for r in rows] == [*range(1, 31)]
        assert await feed.last(tx) == 30


# --- corrections -----------------------------------------------------------------------------------------------------


def corrected(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**{k: v for k, v in body.items() if k != "source"}, **changes}


async def correct(city: City, ticket: str, sequence: int, request: dict[str, Any], status: int = 200) -> dict[str, Any]:
    answer = await city.post(
        f"/v1/tickets/{ticket}/corrections", {"sequence": sequence, "request": request, "reason": "录入有误"}, "hotline"
    )
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_special_case_1_a_corrected_post_changes_the_ticket_and_keeps_its_versions(city: City) -> None:
    body = request_body()
    t = await city.ticket(**body)
    second = corrected(body, title="发票额度不足", location={"address": "经十路1号"},
                       contact={"name": "李红", "phone": "13900002222"})  # fmt: skip
    told = await correct(city, t["id"], 1, second)
    assert (told["applied"], told["why_not"]) == (True, None)
    shown = await city.show(t["id"])
    assert (shown["title"], shown["location"]["address"], shown["contact"]["name"]) == (
        "发票额度不足",
        "经十路1号",
        "李*",
    )
    revealed = await city.post(f"/v1/tickets/{t['id']}/contact/reveal", {"reason": "核实"})
    assert revealed.json()["contact"]["phone"] == "13900002222"
    event = (await city.get(f"/v1/tickets/{t['id']}/events")).json()["items"][1]
    assert event["type"] == "source.corrected"
    assert event["data"]["changed"] == ["title", "contact", "location"]
    assert "李红" not in json.dumps(event, ensure_ascii=False), "names of fields, never the words"
    notices = {n["kind"] for n in (await city.get("/v1/notices", "handler:tax")).json()["items"]}
    assert "corrected" in notices
    again = await city.post("/v1/tickets", body, "hotline")
    assert (again.status_code, again.json()["id"]) == (200, t["id"]), "the first post repeated is the same ticket still"


async def test_special_case_1_a_correction_overtaken_by_a_later_one_is_kept_and_not_applied(city: City) -> None:
    body = request_body()
    t = (await city.ticket(**body))["id"]
    assert (await correct(city, t, 3, corrected(body, title="三")))["applied"]
    late = await correct(city, t, 2, corrected(body, title="二"))
    assert (late["applied"], late["why_not"]) == (False, "out_of_order")
    assert (await city.show(t))["title"] == "三"
    same = await correct(city, t, 2, corrected(body, title="二"))
    assert (same["applied"], same["why_not"]) == (False, "out_of_order"), "repeated: the same answer"
    await correct(city, t, 2, corrected(body, title="别的"), status=409)
    kept = (await city.get(f"/v1/tickets/{t}/corrections", "hotline")).json()["items"]
    assert [(v["sequence"], v["applied"], v["why_not"]) for v in kept] == [(2, False, "out_of_order"), (3, True, None)]
    told = [e["data"]["sequence"] for e in (await city.get(f"/v1/tickets/{t}/events")).json()["items"]
            if e["type"] == "source.corrected"]  # fmt: skip
    assert told == [3, 2], "each once in the history"


async def test_special_case_1_a_correction_of_the_urgency_makes_the_promises_anew(city: City) -> None:
    body = request_body()
    t = await city.ticket(**body)
    told = await correct(city, t["id"], 1, corrected(body, urgency="emergency"))
    assert told["ticket"]["workflow"]["key"] == "emergency"
    resolve = {c["name"]: c for c in told["ticket"]["clocks"]}["resolve"]
    assert (resolve["budget"], resolve["started_at"]) == (1, t["clocks"][0]["started_at"]), "from the first anchor on"
    types = [e["type"] for e in (await city.get(f"/v1/tickets/{t['id']}/events")).json()["items"]]
    assert {"ticket.reclassified", "source.corrected"} <= set(types)
    assert (await integrity.check(city.house)).offending == 0


async def test_special_case_1_a_correction_of_a_closed_ticket_is_kept_only(city: City) -> None:
    body = request_body()
    t = (await city.ticket(**body))["id"]
    await city.act(t, "withdraw", "hotline", reason="不需要了")
    told = await correct(city, t, 1, corrected(body, title="改"))
    assert (told["applied"], told["why_not"]) == (False, "closed")
    assert (await city.show(t))["title"] == body["title"]
    assert (await integrity.check(city.house)).offending == 0


async def test_two_corrections_at_once_go_one_after_the_other(city: City) -> None:
    body = request_body()
    t = (await city.ticket(**body))["id"]
    await asyncio.gather(*(correct(city, t, n, corrected(body, title=f"第{n}版")) for n in range(1, 9)))
    assert (await city.show(t))["title"] == "第8版"
    kept = (await city.get(f"/v1/tickets/{t}/corrections", "hotline")).json()["items"]
    assert [v["sequence"] for v in kept] == [*range(1, 9)]
    assert kept[-1]["applied"]


@pytest.mark.parametrize(("body", "pointer"), [
    ({"sequence": 0, "request": {}}, "/sequence"), ({"sequence": 1, "request": {}}, "/request/title"),
    ({"sequence": 1, "request": {**corrected(request_body()), "source": {}}}, "/request/source"),
])  # fmt: skip
async def test_a_wrong_correction_names_the_field(shared_city: City, body: dict[str, Any], pointer: str) -> None:
    t = (await shared_city.ticket())["id"]
    answer = await shared_city.post(f"/v1/tickets/{t}/corrections", body, "hotline")
    assert answer.status_code == 422
    assert pointer in {e["pointer"] for e in answer.json()["errors"]}


# --- a day's account -------------------------------------------------------------------------------------------------


async def test_special_case_30_a_day_is_reconciled_by_count_digest_and_list(city: City) -> None:
    now = (await city.get("/v1/sandbox/clock", "admin")).json()["now"][:10]
    references = ["b2", "a1", "中", "a10"]
    for reference in references:
        await city.ticket(source={"reference": reference, "received_at": f"{now}T00:00:01+08:00"})
    await city.ticket(source={"system": "other", "reference": "x", "received_at": f"{now}T00:00:01+08:00"})
    told = (await city.get("/v1/reconciliation", "hotline", params={"system": "jn12345", "date": now})).json()
    ordered = sorted(references, key=lambda r: r.encode())
    assert told["count"] == 4
    assert [i["reference"] for i in told["items"]] == ordered
    text = "".join(r + "\n" for r in ordered)
    assert told["digest"] == "sha256:" + hashlib.sha256(text.encode()).hexdigest(), "as anybody can compute it"
    assert told["items"][0]["last_event"]["type"] == "ticket.opened"
    assert told["items"][0]["stage"] == "accepting"
    await city.act(told["items"][0]["id"], "withdraw", "hotline", reason="x")
    page = (
        await city.get("/v1/reconciliation", "hotline", params={"system": "jn12345", "date": now, "limit": 3})
    ).json()
    assert page["items"][0]["last_event"]["type"] == "ticket.withdraw"
    rest = await city.get("/v1/reconciliation", "hotline",
                          params={"system": "jn12345", "date": now, "cursor": page["next_cursor"]})  # fmt: skip
    assert [i["reference"] for i in page["items"] + rest.json()["items"]] == ordered
    empty = (await city.get("/v1/reconciliation", "hotline", params={"system": "nobody", "date": now})).json()
    assert (empty["count"], empty["items"]) == (0, [])
    assert empty["digest"] == "sha256:" + hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("asked", [{"system": "x"}, {"date": "2026-01-01"}, {"system": "x", "date": "2026-13-01"},
                                   {"system": "x", "date": "0001-01-01"}, {"system": "", "date": "2026-01-01"}])  # fmt: skip
async def test_reconciliation_asks_for_a_source_and_a_day(shared_city: City, asked: dict[str, str]) -> None:
    assert (await shared_city.get("/v1/reconciliation", "hotline", params=asked)).status_code == 422


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_a_client_that_asks_too_much_is_told_when_to_come_back(city: City) -> None:
    app = city.http._transport.app  # type: ignore[attr-defined]
    app.state.limiter = Limiter(1)
    answers = [await city.get("/v1/tickets", "hotline") for _ in range(BURST_SECONDS + 2)]
    assert [a.status_code for a in answers] == [200] * BURST_SECONDS + [429] * 2
    last = answers[-1]
    assert last.headers["content-type"] == "application/problem+json"
    assert int(last.headers["retry-after"]) >= 1
    assert (await city.get("/v1/tickets", "dispatcher")).status_code == 200, "each client has a limit of its own"
    app.state.limiter = Limiter(0)
    assert (await city.get("/v1/tickets", "hotline")).status_code == 200, "switched off"


def test_tokens_come_back_at_the_rate_and_no_more_than_a_burst() -> None:
    now = [0.0]
    limiter = Limiter(2, lambda: now[0])

    def passes() -> int:
        passed = 0
        while True:
            try:
                limiter.take("a")
            except TooMany:
                return passed
            passed += 1

    assert passes() == 2 * BURST_SECONDS
    with pytest.raises(TooMany) as refused:
        limiter.take("a")
    assert refused.value.extra["retry_after"] == 1
    now[0] += 1.5
    assert passes() == 3
    now[0] += 3600
    assert passes() == 2 * BURST_SECONDS


def test_the_buckets_of_clients_long_gone_are_given_up() -> None:
    limiter = Limiter(10, lambda: 0.0)
    started = time.monotonic()
    for n in range(50_000):
        limiter.take(str(n))
    assert len(limiter._buckets) <= 20_000
    assert time.monotonic() - started < 5
