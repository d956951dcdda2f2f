"""Registered receivers: told at least once, in order per ticket, signed, and nowhere but where the operator allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from service.core.model import SYSTEM
from service.core.receivers import Address, Allowed
from service.integrations.webhooks import ReceiverCourier
from service.usecases import receivers
from tests.conftest import City
from tests.worker.stage import jump, sql
from tests.worker.test_pump import Receiver


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    yield made
    server.close()


@pytest.fixture
async def courier(city: City, receiver: Receiver) -> AsyncIterator[ReceiverCourier]:
    city.house.receivers = Allowed.parse(receiver.url.removesuffix("/hook"), loopback=True)
    made = ReceiverCourier(city.house.receivers)
    yield made
    await made.close()


async def register(city: City, receiver: Receiver, **more: Any) -> dict[str, Any]:
    answer = await city.post("/v1/webhooks", {"url": receiver.url, **more}, "hotline")
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def told(receiver: Receiver) -> list[dict[str, Any]]:
    return [e for _, body, _ in receiver.taken for e in body["data"]["events"]]


async def shown(city: City, receiver_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await city.get(f"/v1/webhooks/{receiver_id}", "hotline")).json()
    return found


async def test_a_receiver_is_told_every_event_in_order_and_signed(
    city: City, receiver: Receiver, courier: ReceiverCourier
) -> None:
    before = (await city.ticket())["id"]
    made = await register(city, receiver)
    tickets = [(await city.ticket())["id"] for _ in range(3)]
    for n in range(40):
        await city.act(tickets[n % 3], "comment", "dispatcher", text=str(n))
    while await receivers.tell_due(city.house, courier):
        pass
    assert before not in {e["data"]["ticket"]["id"] for e in told(receiver)}, "from its registration on"
    for t in tickets:
        history = (await city.get(f"/v1/tickets/{t}/events")).json()["items"]
        own = [e for e in told(receiver) if e["data"]["ticket"]["id"] == t]
        assert [e["id"] for e in own] == [e["id"] for e in history]
    verifier = Webhook(made["secret"])
    for headers, body, raw in receiver.taken:
        assert verifier.verify(raw.decode(), headers) == body
        assert len(raw) < 20_000
        assert (body["type"], body["data"]["receiver"]) == ("jieban.events", made["id"])
    assert len({h["webhook-id"] for h, _, _ in receiver.taken}) == len(receiver.taken) == 2
    assert (await shown(city, made["id"]))["behind"] == 0
    assert await receivers.tell_due(city.house, courier) == 0, "nothing new, nothing sent"


async def test_while_timers_fire_places_are_given_only_if_somebody_is_to_be_told(
    city: City, receiver: Receiver, courier: ReceiverCourier
) -> None:
    async def waiting() -> int:
        async with city.house.db.transaction(SYSTEM) as tx:
            return int(await tx.value("SELECT count(*) FROM outbox WHERE position IS NULL"))

    await city.ticket()
    assert await receivers.tell_due(city.house, courier, busy=True) == 0
    assert await waiting() == 1
    assert (await city.get("/v1/events", "hotline")).json()["items"], "who reads gives the places"
    assert await waiting() == 0
    await register(city, receiver)
    await city.ticket()
    assert await receivers.tell_due(city.house, courier, busy=True) == 1
    assert await waiting() == 0


async def test_more_events_than_one_message_holds_go_in_several_each_under_the_recommended_size(
    city: City, receiver: Receiver, courier: ReceiverCourier
) -> None:
    await register(city, receiver)
    t = (await city.ticket())["id"]
    for n in range(120):
        await city.act(t, "comment", "dispatcher", text=str(n))
    await receivers.tell_due(city.house, courier)
    assert [len(body["data"]["events"]) for _, body, _ in receiver.taken] == [30, 30, 30, 30, 1]
    assert max(len(raw) for _, _, raw in receiver.taken) < 20_000
    assert [e["data"]["seq"] for e in told(receiver)] == [*range(1, 122)]


async def test_a_message_not_taken_is_tried_again_as_it_was_and_later_ones_wait(
    city: City, receiver: Receiver, courier: ReceiverCourier
) -> None:
    made = await register(city, receiver)
    t = (await city.ticket())["id"]
    receiver.answers = [500, 302, 429]
    tried: list[tuple[str, bytes]] = []
    send = courier.send

    async def watched(url: str, secret: str, message_id: str, sent_at: Any, body: bytes) -> Any:
        tried.append((message_id, body))
        return await send(url, secret, message_id, sent_at, body)

    courier.send = watched  # type: ignore[method-assign]
    for seconds in (0, 5, 300):
        await jump(city.dsn, seconds)
        assert await receivers.tell_due(city.house, courier) == 1
        assert await receivers.tell_due(city.house, courier) == 0, "not before its time"
        await city.act(t, "comment", "dispatcher", text="更多")  # what comes meanwhile is another message
    assert receiver.taken == []
    assert (await shown(city, made["id"])).items() >= {"attempts": 3, "state": "active"}.items()
    await jump(city.dsn, 1800)
    assert await receivers.tell_due(city.house, courier) == 2
    assert len(set(tried[:4])) == 1, "four tries of one message"
    assert [e["data"]["seq"] for e in told(receiver)] == [1, 2, 3, 4]
    again = await shown(city, made["id"])
    assert (again["attempts"], again["last_error"], again["behind"]) == (0, None, 0)


async def test_a_receiver_that_is_down_for_days_is_stopped_and_goes_on_from_there(
    city: City, receiver: Receiver, courier: ReceiverCourier
) -> None:
    made = await register(city, receiver)
    await city.ticket()
    receiver.answers = [503] * 10
    for seconds in (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400):
        await jump(city.dsn, seconds)
        assert await receivers.tell_due(city.house, courier) == 1
    stopped = await shown(city, made["id"])
    assert (stopped["state"], stopped["reason"]) == ("disabled", "too_many_failures")
    await city.ticket()
    await jump(city.dsn, 10 * 86_400)
    assert await receivers.tell_due(city.house, courier) == 0
    answer = await city.post(f"/v1/webhooks/{made['id']}/replay", {}, "hotline")
    assert answer.json()["state"] == "active"
    await receivers.tell_due(city.house, courier)
    assert [e["type"] for e in told(receiver)] == ["ticket.opened", "ticket.opened"], "nothing was skipped"


async def test_a_receiver_that_says_it_is_gone_is_stopped_at_once(
    city: City, receiver: Receiver, courier: ReceiverCourier
) -> None:
    made = await register(city, receiver)
    await city.ticket()
    receiver.answers = [410]
    await receivers.tell_due(city.house, courier)
    assert (await shown(city, made["id"]))["reason"] == "gone"


async def test_events_are_sent_again_from_a_cursor(city: City, receiver: Receiver, courier: ReceiverCourier) -> None:
    start = (await city.get("/v1/events", "hotline")).json()["next_cursor"]
    await city.ticket()
    made = await register(city, receiver, types=["ticket.opened"], after=start)
    await receivers.tell_due(city.house, courier)
    assert len(told(receiver)) == 1, "from the cursor it named"
    await city.post(f"/v1/webhooks/{made['id']}/replay", {"after": start}, "hotline")
    await receivers.tell_due(city.house, courier)
    assert [e["id"] for e in told(receiver)] == [told(receiver)[0]["id"]] * 2


async def test_only_the_types_asked_for_are_sent_and_the_rest_does_not_hold_it_back(
    city: City, receiver: Receiver, courier: ReceiverCourier
) -> None:
    made = await register(city, receiver, types=["review.*"])
    t = (await city.ticket())["id"]
    await receivers.tell_due(city.house, courier)
    assert receiver.taken == []
    assert (await shown(city, made["id"]))["behind"] == 0
    await city.act(t, "escalate", "handler:tax", reason="难")
    await receivers.tell_due(city.house, courier)
    assert [e["type"] for e in told(receiver)] == ["review.proposed"]


async def test_two_workers_send_each_message_once(city: City, receiver: Receiver, courier: ReceiverCourier) -> None:
    await register(city, receiver)
    for _ in range(20):
        await city.ticket()
    await asyncio.gather(*(receivers.tell_due(city.house, courier) for _ in range(6)))
    assert len(told(receiver)) == len({e["id"] for e in told(receiver)}) == 20


async def test_who_dies_while_sending_leaves_the_message_to_another_after_the_lease(
    city: City, receiver: Receiver, courier: ReceiverCourier
) -> None:
    await register(city, receiver)
    await city.ticket()
    blocked = asyncio.Event()

    async def hangs(*_: Any) -> Any:
        blocked.set()
        await asyncio.Event().wait()

    send, courier.send = courier.send, hangs  # type: ignore[method-assign]
    dying = asyncio.create_task(receivers.tell_due(city.house, courier))
    await blocked.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    courier.send = send  # type: ignore[method-assign]
    assert await receivers.tell_due(city.house, courier) == 0, "the lease is not over"
    await jump(city.dsn, 61)
    assert await receivers.tell_due(city.house, courier) == 1
    assert len(told(receiver)) == 1


async def test_a_removed_receiver_is_told_nothing_and_its_secret_is_forgotten(
    city: City, receiver: Receiver, courier: ReceiverCourier
) -> None:
    made = await register(city, receiver)
    assert (await city.request("DELETE", f"/v1/webhooks/{made['id']}", "hotline")).status_code == 204
    await city.ticket()
    assert await receivers.tell_due(city.house, courier) == 0
    assert (await city.get(f"/v1/webhooks/{made['id']}", "hotline")).status_code == 404
    assert (await city.request("DELETE", f"/v1/webhooks/{made['id']}", "hotline")).status_code == 404
    [row] = await sql(city.dsn, "SELECT secret FROM receivers")
    assert row["secret"] is None


async def test_a_secret_is_shown_once_and_stored_sealed(
    city: City, receiver: Receiver, courier: ReceiverCourier
) -> None:
    made = await register(city, receiver)
    listed = (await city.get("/v1/webhooks", "hotline")).json()["items"]
    assert [r["id"] for r in listed] == [made["id"]]
    assert "secret" not in listed[0]
    [row] = await sql(city.dsn, "SELECT secret FROM receivers")
    assert made["secret"].encode() not in bytes(row["secret"])


async def test_a_client_sees_its_own_receivers_only_and_an_administrator_all(
    city: City, receiver: Receiver, courier: ReceiverCourier
) -> None:
    made = await register(city, receiver)
    assert (await city.get("/v1/webhooks", "other@hotline")).json()["items"] == []
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/replay")):
        answer = await city.request(method, f"/v1/webhooks/{made['id']}{path}", "other@hotline", json={})
        assert answer.status_code == 404, (method, path)
    assert [r["id"] for r in (await city.get("/v1/webhooks", "admin")).json()["items"]] == [made["id"]]


@pytest.mark.parametrize("url", ["https://evil.cn/", "http://127.0.0.1:1/", "http://169.254.169.254/", "ftp://x/", "x",
                                 "http://user@127.0.0.1:9/"])  # fmt: skip
async def test_an_address_outside_the_operators_list_is_refused(city: City, url: str) -> None:
    answer = await city.post("/v1/webhooks", {"url": url}, "hotline")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/url"


async def test_a_client_has_a_bounded_number_of_receivers(
    city: City, receiver: Receiver, courier: ReceiverCourier
) -> None:
    for _ in range(receivers.MOST):
        await register(city, receiver)
    assert (await city.post("/v1/webhooks", {"url": receiver.url}, "hotline")).status_code == 409


# --- where it really connects ----------------------------------------------------------------------------------------


async def post(allowed: str, url: str, *addresses: str, loopback: bool = False) -> Any:
    async def look_up(host: str, port: int) -> list[Address]:
        return [ip_address(a) for a in addresses]

    courier = ReceiverCourier(Allowed.parse(allowed, loopback=loopback), look_up)
    try:
        secret = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        from service.clock import wall_now

        return await courier.send(url, secret, "msg_1", wall_now(), b"{}")
    finally:
        await courier.close()


async def test_a_name_that_leads_to_this_machine_is_never_connected_to(receiver: Receiver) -> None:
    port = receiver.url.split(":")[2].partition("/")[0]
    listed = f"http://receiver.example.cn:{port}"
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0"):  # noqa: S104
        sent = await post(listed, f"{listed}/hook", address)
        assert sent.error.startswith("the address is refused"), address
        sent = await post(listed, f"{listed}/hook", "203.0.113.1", address)
        assert sent.error.startswith("the address is refused"), "one good address does not help"
    assert receiver.taken == []


async def test_the_connection_goes_to_the_very_address_that_was_looked_at(receiver: Receiver) -> None:
    port = receiver.url.split(":")[2].partition("/")[0]
    listed = f"http://receiver.example.cn:{port},http://127.0.0.0/8:{port}"
    sent = await post(listed, f"http://receiver.example.cn:{port}/hook", "127.0.0.1", loopback=True)
    assert sent.error is None
    headers, _, _ = receiver.taken[0]
    assert headers["host"] == f"receiver.example.cn:{port}", "the name is told, but was not looked up again"


async def test_a_list_made_narrower_holds_for_receivers_that_are_there_already(
    city: City, receiver: Receiver, courier: ReceiverCourier
) -> None:
    made = await register(city, receiver)
    await city.ticket()
    narrow = ReceiverCourier(Allowed())
    await receivers.tell_due(city.house, narrow)
    await narrow.close()
    assert receiver.taken == []
    assert "operator's list" in (await shown(city, made["id"]))["last_error"]


async def test_an_answer_that_never_ends_holds_nothing_up(city: City) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 1000)
        await reader.read()  # until the other side has had enough
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with asyncio.timeout(5):
        sent = await post(url, url + "/", "127.0.0.1", loopback=True)
    assert sent.error is None, "the status is all that is read"
    server.close()
