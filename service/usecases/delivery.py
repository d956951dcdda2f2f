"""What must leave the house, leaves it: at least once, in order per ticket, never inside a transaction of a ticket."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from service.clock import monotonic, wall_now
from service.core.model import SYSTEM
from service.db import outbox
from service.db.outbox import Queue
from service.usecases.house import House

log = structlog.get_logger()
LEASE = timedelta(seconds=60)
WORK_SECONDS = 30.0
"""No send begins later than this after the claim: with a send's own limit of 15 s it ends within the lease."""
BATCH = 100
PAUSES_SECONDS = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Standard Webhooks' schedule after the first try: ten tries over three days, then the row is dead and visible."""


class Sender(Protocol):
    async def send(self, message_id: str, sent_at: datetime, payload: Mapping[str, Any]) -> str | None:
        """Deliver one message; None when it was taken, else why not."""


async def deliver_due(house: House, sender: Sender | None) -> int:
    """Deliver a batch of events and one of digests; how many rows were worked on."""
    return await _deliver(house, sender, outbox.OUTBOX) + await _deliver(house, sender, outbox.DIGESTS)


async def _deliver(house: House, sender: Sender | None, queue: Queue) -> int:
    async with house.db.transaction(SYSTEM) as tx:
        if sender is None:  # there is nobody to tell
            return await outbox.finish_all(tx, tx.now, BATCH * 10, queue)
        rows = await outbox.claim(tx, tx.now, BATCH, LEASE, queue)
    started = monotonic()
    for n, row in enumerate(rows):
        if monotonic() - started > WORK_SECONDS:
            return n  # the rest is free again when its lease runs out; nothing is sent on a lease that has
        # the host's time: receivers refuse a signature some minutes off, and a sandbox may be weeks ahead
        error = await sender.send(row["id"], wall_now(), PAYLOADS[queue](row))
        if error is not None:
            await _postpone(house, queue, row, error)
            continue
        async with house.db.transaction(SYSTEM) as tx:
            await outbox.done(tx, row["id"], row["lease_until"], tx.now, queue)
    return len(rows)


def payload(row: Mapping[str, Any]) -> dict[str, Any]:
    """A CloudEvents 1.0 batch in one message: ids, types and times only; content is fetched with authorisation."""
    body = row["body"]
    return {
        "type": "jieban.ticket.changed",
        "timestamp": row["created_at"].isoformat(),
        "data": {
            "ticket": {"id": row["subject"], "number": body["number"]},
            "events": [
                {
                    "specversion": "1.0",
                    "id": e["id"],
                    "source": "/v1/tickets/" + row["subject"],
                    "type": e["type"],
                    "time": e["occurred_at"],
                    "sequence": e["seq"],
                }
                for e in body["events"]
            ],
        },
    }


def digest_payload(row: Mapping[str, Any]) -> dict[str, Any]:
    """Who is told of how many notices on which tickets (a hundred are named): ids, numbers and kinds only."""
    return {
        "type": "jieban.notices.digest",
        "timestamp": row["created_at"].isoformat(),
        "data": {"recipient": row["subject"], **row["body"]},
    }


PAYLOADS = {outbox.OUTBOX: payload, outbox.DIGESTS: digest_payload}


async def _postpone(house: House, queue: Queue, row: Mapping[str, Any], error: str) -> None:
    tries = row["attempts"] + 1
    async with house.db.transaction(SYSTEM) as tx:
        again = tx.now + timedelta(seconds=PAUSES_SECONDS[tries - 1]) if tries <= len(PAUSES_SECONDS) else None
        await outbox.failed(tx, row["id"], row["lease_until"], again, error, queue)
    log.warning("a message could not be delivered", message=row["id"], tries=tries, dead=again is None, error=error)
