"""What Jieban promises (P1 to P6), asked of the API from outside after each step of a life."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from service.core import history
from service.core.recorded import TIMERS
from tests.conftest import City

PHONE, CONTACT = "13800001234", "王小明"
"""What the hotline hands over and nobody reads without a reason."""
STRANGER = "handler:sports"
"""Of a unit that this city never gives a ticket."""
LIVE = {"running", "breached_running"}


@dataclass
class Ledger:
    """What was seen of one ticket, to be held against what is seen later."""

    id: str
    number: str
    body: dict[str, Any]
    version: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    breached: dict[str, str] = field(default_factory=dict)
    """Clock -> when it was breached."""


async def kept(city: City, ledger: Ledger) -> dict[str, Any]:
    """Hold every promise against this ticket; raises AssertionError with the promise's name. Gives the ticket."""
    answer = await city.get(f"/v1/tickets/{ledger.id}")
    assert answer.status_code == 200, f"P1: the ticket is gone: {answer.text}"
    shown: dict[str, Any] = answer.json()
    assert shown["number"] == ledger.number, "P1: it has another number"
    assert shown["version"] >= ledger.version, "P1: an answered change is gone"
    ledger.version = shown["version"]
    _nothing_forgotten(shown)
    await _nothing_rewritten(city, ledger, shown)
    await _nothing_unexplained(city, shown)
    await _nothing_leaked(city, shown)
    return shown


def _nothing_forgotten(shown: dict[str, Any]) -> None:
    states = [clock["state"] for clock in shown["clocks"]]
    if shown["phase"] == "closed":
        still = [c["name"] for c in shown["clocks"] if c["ended_at"] is None]
        assert not still, f"P3: closed, and {still} run on"
    else:
        # a pause has an end: the clock of its cap runs
        assert LIVE & set(states), f"P3: open in {shown['stage']} without a running clock: {states}"


async def _nothing_rewritten(city: City, ledger: Ledger, shown: dict[str, Any]) -> None:
    events, cursor = [], ""
    while cursor is not None:
        page = (await city.get(f"/v1/tickets/{ledger.id}/events?limit=200{cursor and '&cursor=' + cursor}")).json()
        events += page["items"]
        cursor = page["next_cursor"]
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1)), "P5: the history has gaps"
    assert events[: len(ledger.events)] == ledger.events, "P5: what was history is otherwise now"
    head = ledger.events[-1]["hash"] if ledger.events else ""
    for event in events[len(ledger.events) :]:
        times = {name: _utc(event[name]) for name in ("occurred_at", "recorded_at")}
        digest = history.digest({**event, **times, "ticket_id": ledger.id})
        assert event["prev"] == head and event["hash"] == digest, f"P5: the chain breaks at {event}"
        head = event["hash"]
    ledger.events = events
    fired = Counter((e["data"]["clock_id"], e["data"]["rung"]) for e in events if e["type"] in TIMERS)
    twice = {key: n for key, n in fired.items() if n > 1}
    assert not twice, f"P2: fired more than once: {twice}"
    for clock in shown["clocks"]:
        known = ledger.breached.setdefault(clock["id"], clock["breached_at"]) if clock["breached_at"] else None
        assert known == clock["breached_at"], f"P5: the breach of {clock['name']} moved"
    cured = ledger.breached.keys() - {c["id"] for c in shown["clocks"] if c["breached_at"]}
    assert not cured, f"P5: breaches are gone: {cured}"


def _utc(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).isoformat()


async def _nothing_unexplained(city: City, shown: dict[str, Any]) -> None:
    running = [c for c in shown["clocks"] if c["ended_at"] is None]
    for clock in running[shown["version"] % max(1, len(running)) :][:1]:  # each in turn: a life has many steps
        told = (await city.get(f"/v1/tickets/{shown['id']}/clocks/{clock['id']}/explanation")).json()
        assert told["due_at"] == clock["due_at"], f"P4: {clock['name']} is due otherwise than explained"
        assert told["sum"] == str(clock["budget"]), f"P4: {clock['name']}: {told['sum']} is not {clock['budget']}"


async def _nothing_leaked(city: City, shown: dict[str, Any]) -> None:
    answer = await city.get(f"/v1/tickets/{shown['id']}", STRANGER)
    assert answer.status_code == 404, "P6: another unit reads the ticket"
    text = json.dumps(shown, ensure_ascii=False)
    assert PHONE not in text and CONTACT not in text, "P6: the contact is not masked"
