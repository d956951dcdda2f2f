"""Figures of a what-if: recorded tickets beside the same ones as they would have fared, added up day by day.

What was recorded is taken from the record itself. A ticket that the draft cannot touch counts alike on both sides. Days and
weeks (ISO 8601) are those of the city's zone.

  breaches   tickets with a breach of that clock, in any of its cycles
  in hand    legs of a department that were open at some time of that day
  due        promises of a department (clocks of the enterprise's and the leg's own family) whose due time, as it was in
             the end, falls into that day; the end of a day belongs to it
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import accumulate
from typing import Any, Final
from zoneinfo import ZoneInfo

from service.core.model import Clock, ClockState
from service.core.whatif import REASONS, Kept, Leg, Life, Record, Refusal

NAMED: Final = 100
"""How many tickets a list names; the counts beside it are whole."""
_INSTANT: Final = timedelta(microseconds=1)
_DAY: Final = timedelta(days=1)
_PROMISED: Final = frozenset({"enterprise", "assignment"})
BEFORE: Final = 0
AFTER: Final = 1


@dataclass(frozen=True, slots=True)
class Breach:
    """`at`: when it became a fact; `due_at` may have been moved since."""

    clock: str
    department: str | None
    due_at: datetime
    at: datetime


@dataclass(slots=True)
class Fared:
    """What one side counts of one ticket. `dues`: department and due time of each promise."""

    breaches: dict[str, Breach]
    cards: Iterable[tuple[str, datetime]]
    proposed: Iterable[datetime]
    legs: Iterable[Leg]
    dues: list[tuple[str | None, datetime]]


def stored(record: Record, as_of: datetime) -> Fared:
    breaches, dues = _of_clocks(record.clocks, record.lead, as_of)
    return Fared(breaches, record.cards, record.proposed, record.legs, dues)


def fared(life: Life, as_of: datetime) -> Fared:
    ticket = life.ticket
    breaches, dues = _of_clocks(ticket.clocks, ticket.lead, as_of)
    legs = [Leg(a.department, a.dispatched_at, a.ended_at) for a in ticket.assignments]
    return Fared(breaches, life.cards, life.proposed, legs, dues)


def _of_clocks(
    clocks: Iterable[Clock | Kept], lead: str | None, as_of: datetime
) -> tuple[dict[str, Breach], list[tuple[str | None, datetime]]]:
    breaches: dict[str, Breach] = {}
    dues = []
    for clock in clocks:
        owner = clock.department or lead
        at = clock.breached_at
        if at is None and clock.state == ClockState.RUNNING and clock.due_at < as_of:
            at = clock.due_at  # nobody has looked at the timer yet: overdue is derived
        if at is not None and clock.name not in breaches:
            breaches[clock.name] = Breach(clock.name, owner, clock.due_at, at)
        if clock.family in _PROMISED:
            dues.append((owner, clock.due_at))
    return breaches, dues


@dataclass(slots=True)
class Tally:
    """Sums over tickets; two of them, of different tickets, are added by `add`. JSON comes from `told`."""

    zone: ZoneInfo
    tickets: Counter[str] = field(default_factory=Counter)
    breached: Counter[tuple[str, int]] = field(default_factory=Counter)
    changed: Counter[tuple[str, str]] = field(default_factory=Counter)
    weeks: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    steps: Counter[tuple[str, date, int]] = field(default_factory=Counter)
    """Legs that began on a day, less those that ended the day before."""
    due: Counter[tuple[str, date, int]] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused_tickets: Counter[tuple[str, str]] = field(default_factory=Counter)
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def compare(self, record: Record, as_of: datetime, life: Life | None) -> None:
        """`life`: under the draft; None when the draft cannot touch this ticket."""
        self.tickets["recorded"] += 1
        for refusal in dict.fromkeys((r.act, r.reason) for r in life.refused) if life is not None else ():
            self.refused_tickets[refusal] += 1
        for r in life.refused if life is not None else ():
            self.refused[r.act, r.reason] += 1
            self._name("not_comparable", record, _refusal(r))
        if life is not None and life.aside is not None:
            self.tickets["set_aside"] += 1
            if life.aside not in life.refused:
                self.refused[life.aside.act, life.aside.reason] += 1
                self.refused_tickets[life.aside.act, life.aside.reason] += 1
                self._name("not_comparable", record, _refusal(life.aside))
            return
        self.tickets["compared"] += 1
        self.tickets["replayed"] += life is not None
        before = stored(record, as_of)
        after = before if life is None else fared(life, as_of)
        self._breaches(record, before, after)
        if before is after:
            self._count(before, (BEFORE, AFTER), as_of)
        else:
            self._count(before, (BEFORE,), as_of)
            self._count(after, (AFTER,), as_of)

    def checked(self, record: Record, life: Life) -> None:
        """`life`: by the versions that it was recorded under."""
        self.tickets["checked"] += 1
        found = life.differences
        if life.aside is not None or life.refused:
            if record.not_replayable is not None:
                self.tickets["checked"] -= 1
                return
            found = [f"{r.act}: {r.reason}: {r.detail}" for r in ([life.aside] if life.aside else life.refused)]
        if found:
            self.tickets["differ"] += 1
            self._name("differ", record, {"differences": found[:5]})

    def routed(self, record: Record, lead: str | None) -> None:
        """Where the draft of the routing would have sent it."""
        if lead != record.route.lead:
            self.moves[record.route.lead or "", lead or ""] += 1
            self._name("other_lead", record, {"before": record.route.lead, "after": lead})

    def add(self, other: Tally) -> None:
        """`other`: of tickets that come after these."""
        for name in ("tickets", "breached", "changed", "weeks", "steps", "due", "refused", "refused_tickets", "moves"):
            getattr(self, name).update(getattr(other, name))
        for name, rows in other.first.items():
            mine = self.first.setdefault(name, [])
            mine += rows[: NAMED - len(mine)]

    # -- inside

    def _name(self, what: str, record: Record, row: Mapping[str, Any]) -> None:
        rows = self.first.setdefault(what, [])
        if len(rows) < NAMED:
            rows.append({"ticket": {"id": record.id, "number": record.number}, **row})

    def _breaches(self, record: Record, before: Fared, after: Fared) -> None:
        if before is not after:
            for what, ours, theirs in (
                ("newly", after.breaches, before.breaches),
                ("no_longer", before.breaches, after.breaches),
            ):
                fresh = [b for name, b in ours.items() if name not in theirs]
                for breach in fresh:
                    self.changed[breach.clock, what] += 1
                    self._name(what, record, self._breach(breach))
                self.tickets[what] += bool(fresh)
        for side, told in ((BEFORE, before), (AFTER, after)):
            self.tickets[("breached_before", "breached_after")[side]] += bool(told.breaches)
            for name in told.breaches:
                self.breached[name, side] += 1

    def _breach(self, b: Breach) -> dict[str, Any]:
        return {"clock": b.clock, "department": b.department, "due_at": self._local(b.due_at),
                "breached_at": self._local(b.at)}  # fmt: skip

    def _local(self, instant: datetime) -> str:
        return instant.astimezone(self.zone).isoformat()

    def _day(self, instant: datetime) -> date:
        return instant.astimezone(self.zone).date()

    def _count(self, told: Fared, sides: Sequence[int], as_of: datetime) -> None:
        weeks = [(_week(self._day(at)), level) for level, at in told.cards]
        weeks += [(_week(self._day(at)), "reviews") for at in told.proposed]
        begun = [(leg.department, self._day(leg.start)) for leg in told.legs]
        ended = [(leg.department, self._day(leg.end or as_of) + _DAY) for leg in told.legs]
        dues = [(code, self._day(due_at - _INSTANT)) for code, due_at in told.dues if code is not None]
        for side in sides:
            for week, what in weeks:
                self.weeks[week, what, side] += 1
            for department, day in begun:
                self.steps[department, day, side] += 1
            for department, day in ended:
                self.steps[department, day, side] -= 1
            for department, day in dues:
                self.due[department, day, side] += 1

    # -- telling

    def told(self) -> dict[str, Any]:
        """JSON-able; the same for the same tickets, whatever the order in which sums were made."""
        t = self.tickets
        names = sorted({name for name, _ in self.breached} | {name for name, _ in self.changed})
        return {
            "tickets": {k: t[k] for k in ("recorded", "compared", "replayed", "set_aside")},
            "check": {"checked": t["checked"], "differ": t["differ"], "first": self.first.get("differ", [])},
            "breaches": {
                "tickets": {"before": t["breached_before"], "after": t["breached_after"], "newly": t["newly"],
                            "no_longer": t["no_longer"]},
                "clocks": [
                    {"clock": name, "before": self.breached[name, BEFORE], "after": self.breached[name, AFTER],
                     "newly": self.changed[name, "newly"], "no_longer": self.changed[name, "no_longer"]}
                    for name in names
                ],
                "newly": self.first.get("newly", []),
                "no_longer": self.first.get("no_longer", []),
            },
            "weeks": self._weeks(),
            "load": self._load(),
            "not_comparable": {
                "tickets": t["set_aside"],
                "acts": [
                    {"act": act, "reason": reason, "title": dict(REASONS[reason]), "acts": n,
                     "tickets": self.refused_tickets[act, reason]}
                    for (act, reason), n in sorted(self.refused.items())
                ],
                "first": self.first.get("not_comparable", []),
            },
        }  # fmt: skip

    def told_routing(self) -> dict[str, Any]:
        moves = [{"before": a or None, "after": b or None, "tickets": n} for (a, b), n in sorted(self.moves.items())]
        return {"other_lead": sum(self.moves.values()), "moves": moves, "first": self.first.get("other_lead", [])}

    def _weeks(self) -> list[dict[str, Any]]:
        weeks = sorted({week for week, _, _ in self.weeks})
        return [
            {"week": week, **{
                kind: {"before": self.weeks[week, kind, BEFORE], "after": self.weeks[week, kind, AFTER]}
                for kind in ("yellow", "red", "reviews")
            }}
            for week in weeks
        ]  # fmt: skip

    def _load(self) -> list[dict[str, Any]]:
        """Of each department that has anything: from its first to its last day of work."""
        found = []
        for department in sorted({d for d, _, _ in self.steps} | {d for d, _, _ in self.due}):
            moves = {(day, side): n for (d, day, side), n in self.steps.items() if d == department and n}
            dues = {(day, side): n for (d, day, side), n in self.due.items() if d == department}
            marked = [day for day, _ in moves] + [day for day, _ in dues]
            if not marked:
                continue
            first, last = min(marked), max(marked)
            days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
            hands = [list(accumulate(moves.get((day, side), 0) for day in days)) for side in (BEFORE, AFTER)]
            rows = [
                {"day": day.isoformat(),
                 "in_hand": {"before": hands[BEFORE][n], "after": hands[AFTER][n]},
                 "due": {"before": dues.get((day, BEFORE), 0), "after": dues.get((day, AFTER), 0)}}
                for n, day in enumerate(days)
            ]  # fmt: skip
            found.append({"department": department, "days": [r for r in rows if _anything(r)]})
        return found


def _anything(row: Mapping[str, Any]) -> bool:
    return any(row[what][side] for what in ("in_hand", "due") for side in ("before", "after"))


def _week(day: date) -> str:
    year, week, _ = day.isocalendar()
    return f"{year}-W{week:02d}"


def _refusal(r: Refusal) -> dict[str, Any]:
    return {"act": r.act, "reason": r.reason, "detail": r.detail, "set_aside": r.moved}
