"""What a ticket is found by, kept up with what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.core import words
from service.core.model import SYSTEM
from service.db import clocks as timers
from service.db import finding, integrity, saving
from service.db.session import Tx
from service.usecases.house import House
from service.usecases.periodic import Between, at_once

SAID = {"amend": "text", "submit_reply": "public_reply"}
"""Action -> the field of its form by which the ticket is found afterwards."""
PAGE = 500


async def heard(tx: Tx, ticket_id: str, action: str, form: Mapping[str, Any]) -> None:
    """What an action said makes its ticket findable."""
    said = form.get(SAID.get(action, ""))
    if isinstance(said, str):
        folded = words.searchable([said])
        await finding.add_text(tx, ticket_id, folded, sorted(words.terms(folded)))


async def fill(house: House, between: Between = at_once, page: int = PAGE) -> int:
    """Give every ticket that has none its text (those taken in before there were any); how many.

    `between` two pages is waited for, here and below.
    """
    made = 0
    while True:
        await between()
        async with house.db.transaction(SYSTEM) as tx:
            rows = await finding.without_text(tx, page)
            await finding.insert_texts(tx, [saving.text_of(row) for row in rows])
        made += len(rows)
        if len(rows) < page:
            return made


async def repair_queue(house: House, between: Between = at_once) -> int:
    """Put right what the queue shows otherwise than it is; how many.

    Whoever changes a ticket writes its row of the queue. A process of an older version, in the minutes of an upgrade, does
    not know of it.
    """
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        last = await integrity.last_ticket(tx)
        wrong = [row["id"] for row in await tx.rows(integrity.QUEUED, last)] if last else []
    for n in range(0, len(wrong), PAGE):
        await between()
        async with house.db.transaction(SYSTEM) as tx:
            some = wrong[n : n + PAGE]
            await timers.lock_free(tx, some, wait=True)
            await finding.repair_queue(tx, some)
    return len(wrong)
