"""Receivers of events: registered by clients, told of everything at least once, in order per ticket.

A receiver follows the feed: it has a place, and one message at a time with the events after it. A message that is not
taken is tried again as it was, on Standard Webhooks' schedule, and what comes later waits: so the order holds. A receiver
that takes nothing for three days, or says it is gone (410), is stopped where it stands and goes on from there when
somebody says so; nothing is skipped.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog
from pydantic_core import to_json

from service.clock import monotonic, wall_now
from service.core.access import require
from service.core.errors import Conflict, Invalid, NotFound
from service.core.model import SYSTEM, Actor, Role
from service.core.receivers import Sent, place_of
from service.db import audit, receivers
from service.db.session import Tx
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.delivery import PAUSES_SECONDS
from service.usecases.feed import Place, end, number, read
from service.usecases.house import House

log = structlog.get_logger()
ABSENT = "There is no such receiver, or it is not yours."
MOST = 20
"""Receivers of one client."""
EVENTS_AT_ONCE = 30
"""Events of one message: under the 20 kB that Standard Webhooks recommends."""
RECEIVERS_AT_ONCE = 10
LEASE = timedelta(seconds=60)
WORK_SECONDS = 30.0
LONGEST_PAUSE = timedelta(days=1)


class Courier(Protocol):
    async def send(self, url: str, secret: str, message_id: str, sent_at: datetime, body: bytes) -> Sent:
        """Try one message at one receiver; never raises, never follows, never goes where the operator's list ends."""


# --- registering -------------------------------------------------------------------------------------------------------


def _owner(actor: Actor) -> str | None:
    """Whose receivers the actor sees: an administrator everybody's."""
    return None if actor.role is Role.ADMIN else actor.subject


async def register(house: House, actor: Actor, asked: Mapping[str, Any], call: Call) -> Answer:
    """201 with the receiver and its secret, which is shown this once. Raises Invalid and Conflict.

    `asked["after"]`: a place of the feed to begin at, None: with what comes from now on.
    """
    require(actor, "webhooks:write")
    place = place_of(asked["url"])
    if not house.receivers.takes(place):
        raise Invalid.field("/url", "expected an address that the operator allows (JIEBAN_WEBHOOK_RECEIVERS)")
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    await number(house)

    async def work(tx: Tx) -> Answer:
        if await receivers.count_of(tx, actor.subject) >= MOST:
            raise Conflict(f"A client has at most {MOST} receivers; remove one first.")
        receiver_id = house.new_id()
        start: Place = asked["after"] or await end(tx)
        await receivers.add(
            tx,
            {
                "id": receiver_id,
                "url": asked["url"],
                "secret": house.vault.seal_bytes(secret.encode(), f"receiver/{receiver_id}"),
                "types": list(asked["types"]),
                "description": asked["description"],
                "owner": actor.subject,
                "position": start[0],
                "within": start[1],
                "next_at": tx.now,
                "created_at": tx.now,
            },
        )
        await audit.write(
            tx, house.new_id(), "receiver.registered", None, {"receiver": receiver_id, "url": asked["url"]}
        )
        shown = _shown(await receivers.get(tx, receiver_id, None), house)
        return Answer(201, to_json({**shown, "secret": secret}), {"Location": f"/v1/webhooks/{receiver_id}"})

    return await once(house, actor, call, work)


async def listed(house: House, actor: Actor, after: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    require(actor, "webhooks:write")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await receivers.listed(tx, _owner(actor), after, limit + 1)
    return [_shown(r, house) for r in rows[:limit]], rows[limit - 1]["id"] if len(rows) > limit else None


async def get(house: House, actor: Actor, receiver_id: str) -> dict[str, Any]:
    require(actor, "webhooks:write")
    async with house.db.transaction(actor, readonly=True) as tx:
        return _found(await receivers.get(tx, receiver_id, _owner(actor)), house)


async def remove(house: House, actor: Actor, receiver_id: str) -> None:
    require(actor, "webhooks:write")
    async with house.db.transaction(actor) as tx:
        if not await receivers.remove(tx, receiver_id, _owner(actor)):
            raise NotFound(ABSENT)
        await audit.write(tx, house.new_id(), "receiver.removed", None, {"receiver": receiver_id})


async def replay(house: House, actor: Actor, receiver_id: str, after: Place | None, call: Call) -> Answer:
    """Begin again: from where it stopped, or from a place of the feed."""
    require(actor, "webhooks:write")

    async def work(tx: Tx) -> Answer:
        if not await receivers.go_on(tx, receiver_id, _owner(actor), after):
            raise NotFound(ABSENT)
        await audit.write(tx, house.new_id(), "receiver.replayed", None, {"receiver": receiver_id, "after": after})
        return Answer(200, to_json(_found(await receivers.get(tx, receiver_id, _owner(actor)), house)))

    return await once(house, actor, call, work)


def _found(row: Any, house: House) -> dict[str, Any]:
    if row is None:
        raise NotFound(ABSENT)
    return _shown(row, house)


def _shown(row: Any, house: House) -> dict[str, Any]:
    localised: dict[str, Any] = views.localised(dict(row), house.zone)
    return localised


# --- telling -----------------------------------------------------------------------------------------------------------


async def tell_due(house: House, courier: Courier, *, busy: bool = False) -> int:
    """Tell each receiver whose turn it is as long as it takes what it is told; how many messages were tried.

    `busy`: nothing is done unless somebody is to be told (who reads the feed gives what is new its places).
    """
    if busy:
        async with house.db.transaction(SYSTEM, readonly=True) as tx:
            if not await receivers.any_active(tx):
                return 0
    await number(house)
    async with house.db.transaction(SYSTEM) as tx:
        rows = await receivers.claim(tx, RECEIVERS_AT_ONCE, LEASE)
    return sum(await asyncio.gather(*(_tell(house, courier, dict(row)) for row in rows)))


async def _tell(house: House, courier: Courier, row: dict[str, Any]) -> int:
    started, tried = monotonic(), 0
    lease, place = row["lease_until"], (row["position"], row["within"])
    upto: Sequence[int] | None = row["sending"]
    # no send begins later than this after the claim: with its own limit of 15 s it ends within the lease
    while monotonic() - started < WORK_SECONDS:
        events, reached, more = await _next(house, row["types"], place, upto)
        if events:
            if upto is None:
                async with house.db.transaction(SYSTEM) as tx:
                    await receivers.sending(tx, row["id"], lease, reached)
            tried += 1
            sent = await _send(house, courier, row, place, events)
            if sent.error is not None:
                await _postpone(house, row, sent)
                return tried
        elif reached == place:
            break
        async with house.db.transaction(SYSTEM) as tx:
            if not await receivers.advance(tx, row["id"], lease, reached, delivered=bool(events)):
                return tried
        place, upto, row["attempts"] = reached, None, 0
        if not more:
            break
    async with house.db.transaction(SYSTEM) as tx:
        await receivers.release(tx, row["id"], lease)
    return tried


async def _next(
    house: House, types: Sequence[str], place: Place, upto: Sequence[int] | None
) -> tuple[list[dict[str, Any]], Place, bool]:
    """The events of the next message; of one that was tried before exactly the same ones."""
    async with house.db.transaction(SYSTEM, readonly=True, snapshot=True) as tx:
        found, reached, more = await read(tx, place, types, EVENTS_AT_ONCE)
    if upto is None:
        return [event for _, event in found], reached, more
    until: Place = (upto[0], upto[1])
    return [event for at, event in found if at <= until], until, True


async def _send(
    house: House, courier: Courier, row: Mapping[str, Any], place: Place, events: Sequence[Mapping[str, Any]]
) -> Sent:
    secret = house.vault.open_bytes(bytes(row["secret"]), f"receiver/{row['id']}").decode()
    message = {
        "type": "jieban.events",
        "timestamp": events[0]["time"],
        "data": {"receiver": row["id"], "events": events},
    }
    # stable over retries: the place where it begins; the host's time: a sandbox may be weeks ahead
    message_id = f"msg_{row['id']}_{place[0]}_{place[1]}"
    return await courier.send(row["url"], secret, message_id, wall_now(), to_json(message))


async def _postpone(house: House, row: Mapping[str, Any], sent: Sent) -> None:
    tries, error = row["attempts"] + 1, sent.error or ""
    async with house.db.transaction(SYSTEM) as tx:
        again, reason = None, ""
        if sent.gone:
            reason = "gone"
        elif tries > len(PAUSES_SECONDS):
            reason = "too_many_failures"
        else:
            pause = timedelta(seconds=max(PAUSES_SECONDS[tries - 1], sent.wait_seconds or 0))
            again = tx.now + min(pause, LONGEST_PAUSE)
        await receivers.failed(tx, row["id"], row["lease_until"], again, error, reason)
    log.warning("a receiver took no message", receiver=row["id"], tries=tries, stopped=again is None, error=error)
