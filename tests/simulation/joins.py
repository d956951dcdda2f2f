"""Two tickets of the model city become one, or a part is split off one (T11)."""

from __future__ import annotations

from datetime import datetime

from tests.simulation.acts import UNDECIDED, opened
from tests.simulation.days import Amount
from tests.simulation.ledger import Promise, Stop
from tests.simulation.model import Ticket


def may_merge(merged: Ticket, survivor: Ticket) -> bool:
    apart = merged is not survivor and survivor.open
    return apart and merged.stage in UNDECIDED and merged.review() is None and merged.may_close()


def may_split(whole: Ticket) -> bool:
    return whole.stage in ("dispatching", "accepting", "handling")


def merge(merged: Ticket, survivor: Ticket, now: datetime) -> None:
    """T11: the survivor takes the earliest anchor and the stricter promise. Both have caught up."""
    ending = merged.running()
    merged.cancel(now)
    merged.close(now, "merged")
    for other in ending:
        for promise in survivor.running(other.name) if other.family == "enterprise" else []:
            _take_over(survivor, promise, other, now)
    survivor.reckon()


def _take_over(t: Ticket, promise: Promise, other: Promise, now: datetime) -> None:
    anchor = min(promise.anchor, other.anchor)

    def due(amount: Amount) -> datetime:
        added = promise.added if amount.measure == promise.amount.measure else 0
        return promise.days.due(anchor, Amount(amount.measure, amount.size + added), promise.pauses())

    t.bind(promise, min(promise.amount, other.amount, key=due), anchor, now, promise.days)


def split_off(whole: Ticket, domain: str, lead: str, co_handlers: list[str], now: datetime) -> Ticket:
    """T11: a part inherits the anchor and the pauses that are over; a reply's hold was the whole's alone."""
    part = opened(whole.rules, domain, whole.urgency, now, lead, co_handlers, now)
    part.received_at = whole.received_at
    source = [p for p in whole.promises if p.name == "resolve"][-1]
    [promise] = part.running("resolve")
    promise.stops = [Stop(s.kind, s.start, s.end) for s in source.stops if s.end is not None and s.kind != "held"]
    part.bind(promise, promise.amount, source.anchor, now, part.rules.days)
    part.reckon()
    return part
