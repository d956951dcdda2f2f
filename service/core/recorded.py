"""Stored histories -> what people did (`whatif.Record`). What timers and effects did by themselves is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from service.core.draft import RouteTo
from service.core.model import Actor, Role
from service.core.whatif import Record, Step, Version

TIMERS = frozenset({"clock.fired", "clock.breached"})
"""Events that only timers make; a reader of histories leaves them out but for the last of a ticket."""
_BY_PRODUCTS = frozenset(
    {"card.issued", "clock.rebound", "clock.breached_on_rebind", "ticket.reclassified", "ticket.rebound",
     "review.completed", "review.supplemented", "review.gate", "review.scheduled", "review.minutes_corrected",
     "contact.revealed", "enterprise.told",
     "ticket.viewed", "ticket.revealed", "ticket.recused", "ticket.recusal_lifted", "ticket.handed_on"}
)  # fmt: skip
"""What an act brings about, or what changes nothing; a rebinding is told to the act that it belongs to."""
_REVIEW_STEPS: Mapping[str, str] = {
    "accepted": "screen", "refused": "screen", "opinions_requested": "request_opinions",
    "opinion_given": "give_opinion", "decided": "decide", "postponed": "decide", "withdrawn": "withdraw",
    "returned": "screen", "referred": "decide", "replied": "reply",
}  # fmt: skip
_MEASURE_STEPS: Mapping[str, str] = {
    "reported": "report", "evidence_submitted": "submit_evidence", "struck_off": "strike_off", "waived": "strike_off",
    "rescheduled": "reschedule",
}  # fmt: skip
_BESIDE = frozenset({"supervision", "exemption"})
"""Kinds of events that move neither stage nor clock."""
_MOVING = frozenset({"accepted", "refused", "decided", "withdrawn", "struck_off", "waived"})
"""Steps of a review that may send the ticket elsewhere."""
_JOINED = frozenset({"ticket.absorbed"})
Entry = tuple[str, datetime, Mapping[str, Any], Mapping[str, Any]]
"""Type, when it took effect, who, data."""


class Reader:
    """Rows of tickets with their events -> records. `published`: when each version of a calendar came into force."""

    def __init__(self, published: Sequence[tuple[datetime, Version]]) -> None:
        self._published = [(at, version) for at, version in published if version[1] > 1]
        self._actors: dict[Any, Actor] = {}

    def read(
        self,
        row: Mapping[str, Any],
        entries: Sequence[Entry],
        measures: Sequence[Mapping[str, Any]] = (),
        **kept: Any,
    ) -> Record:
        """`row`: columns of the ticket as it is now. `entries`: its history in order, without TIMERS but the last.

        `kept`: `clocks`, `legs`, `cards` and `proposed` of the record.
        """
        first = next((e for e in entries if e[0] == "ticket.opened"), None)
        last = entries[-1] if entries else None
        current = {name: row[name] for name in ("domain", "matter", "urgency")}
        bound: Version = (row["workflow_key"], row["workflow_version"])
        reason: str | None = None if first is not None else "event"
        for type_, _, _, data in reversed(entries):
            if type_ == "ticket.reclassified":
                current |= data["before"]
            elif type_ == "ticket.rebound":
                bound = (data["before"]["key"], data["before"]["version"])
        opened = first[3] if first is not None else {}
        if "split" in opened or any(e[0] in _JOINED for e in entries):
            reason = "joined"
        steps: list[Step] = []
        if reason is None:
            try:
                steps = self._steps(entries, row, measures)
            except (LookupError, TypeError, ValueError):
                reason = "event"
        return Record(
            id=row["id"], number=row["number"], workflow=bound, district=row["district"],
            domain=current["domain"], matter=current["matter"], urgency=current["urgency"],
            received_at=row["received_at"], created_at=row["created_at"],
            route=RouteTo(opened.get("lead"), tuple(opened.get("co_handlers") or ()), opened.get("rule")),
            answered={"outcome": row["outcome"]} if opened.get("answered") else None,
            no_reply=bool(opened.get("no_reply")), steps=tuple(steps),
            last_at=max((e[1] for e in entries), default=row["created_at"]),
            last_was_timer=last is not None and last[0] in TIMERS, lead=row["lead"], not_replayable=reason,
            **{name: tuple(rows) for name, rows in kept.items()},
        )  # fmt: skip

    def _steps(
        self, entries: Sequence[Entry], row: Mapping[str, Any], measures: Sequence[Mapping[str, Any]]
    ) -> list[Step]:
        """Raises LookupError for an event that is not known here."""
        steps: list[Step] = []
        bound_to: Version | None = None
        numbers = {m["id"]: n for n, m in enumerate(measures)}
        for n, (type_, at, actor, data) in enumerate(entries):
            kind, _, name = type_.partition(".")
            if type_ == "ticket.opened" or type_ in TIMERS:
                continue
            if type_ == "ticket.rebound":
                bound_to = (data["after"]["key"], data["after"]["version"])
            if kind == "clock" and data.get("kind") == "calendar":
                self._recounted(steps, at, data["after"]["calendar"])
            if type_ == "source.corrected" and not data["reclassified"]:
                continue
            if type_ in _BY_PRODUCTS or kind in _BESIDE or (type_ == "review.proposed" and self._belongs(entries, n)):
                continue
            who = self._actor(actor)
            if kind == "ticket":
                moved = data.get("from") != data.get("to")
                if name == "split":
                    parts = [{"title": p["title"], "description": p["title"]} for p in data["parts"]]
                    steps.append(Step("split", at, who, name, {"reason": data["reason"], "parts": parts}, moved))
                else:
                    kind = "merge" if name == "merge" else "act"
                    steps.append(Step(kind, at, who, name, data["form"], moved, bound_to))
            elif kind == "approval":
                form = {
                    "approve": {"passed": True, "approved": True, "denied": False}[name],
                    "reason": data.get("reason") or "",
                }
                moved = data.get("from") != data.get("to")
                steps.append(Step("approval", at, who, data["kind"], form, moved, bound_to))
            elif type_ == "review.proposed":
                steps.append(Step("propose", at, who, "propose", {"reason": ""}))
            elif type_ == "review.minutes_issued":
                steps.append(Step("issue", at, who, str(data["minutes"]), {}))
            elif kind == "review":
                form = _review_form(name, data, measures, entries)
                steps.append(Step("review", at, who, _REVIEW_STEPS[name], form, name in _MOVING))
            elif kind == "measure":
                form = {"n": numbers[data["measure"]], "form": _measure_form(name, data)}
                steps.append(Step("measure", at, who, _MEASURE_STEPS[name], form, name in _MOVING))
            else:
                raise LookupError(type_)
            bound_to = None
        return self._with_calendars(steps, row)

    def _belongs(self, entries: Sequence[Entry], n: int) -> bool:
        """Whether a proposal was the work of a timer, or of the act that is told right after it."""
        _, at, actor, _ = entries[n]
        if actor["role"] == Role.SYSTEM:
            return True
        rest = entries[n + 1 :]
        following = next((e for e in rest if e[0] not in _BY_PRODUCTS), None)
        return following is not None and following[0].startswith("ticket.") and following[1:3] == (at, actor)

    def _recounted(self, steps: list[Step], at: datetime, calendar: Mapping[str, Any]) -> None:
        key, version = calendar["key"], calendar["version"]
        if not any(s.kind == "recount" and (s.name, s.form["version"]) == (key, version) for s in steps):
            steps.append(Step("recount", at, self._actor(_SYSTEM), key, {"version": version}))

    def _with_calendars(self, steps: list[Step], row: Mapping[str, Any]) -> list[Step]:
        """Versions of calendars that moved nothing of this ticket left no event; its clocks count by them all the same."""
        known = {(s.name, s.form["version"]) for s in steps if s.kind == "recount"}
        until = row["closed_at"]
        for at, (key, version) in self._published:
            if (key, version) not in known and at > row["created_at"] and (until is None or at < until):
                steps.append(Step("recount", at, self._actor(_SYSTEM), key, {"version": version}))
        if self._published:
            steps.sort(key=lambda s: s.at)
        return steps

    def _actor(self, actor: Mapping[str, Any]) -> Actor:
        key = (actor["subject"], actor["role"], *actor["departments"])
        if key not in self._actors:
            if len(self._actors) > 100_000:
                self._actors.clear()
            self._actors[key] = Actor(actor["subject"], Role(actor["role"]), tuple(actor["departments"]))
        return self._actors[key]


_SYSTEM: Mapping[str, Any] = {"subject": "system", "role": "system", "departments": ()}


def _review_form(
    name: str, data: Mapping[str, Any], measures: Sequence[Mapping[str, Any]], entries: Sequence[Entry]
) -> dict[str, Any]:
    if name in {"accepted", "refused"}:
        return {"decision": "accept" if name == "accepted" else "refuse", "tier": data.get("tier")}
    if name == "opinions_requested":
        return {"departments": data["departments"]}
    if name in {"postponed", "referred"}:
        decision = "postpone" if name == "postponed" else "refer_up"
        return {"decision": decision, "text": "", "postponed_to": data.get("until")}
    if name == "returned":
        return {"decision": "return", "reason": data.get("reason") or "-"}
    if name == "replied":
        return {"text": ""}
    if name == "decided":
        own = [m for m in measures if m["review_id"] == data["review"]]
        if len(own) != data["measures"]:
            raise LookupError("measures")
        tasks = [{"title": "", "department": m["department"], "mandatory": m["mandatory"],
                  "due_on": _first_date(m, entries)} for m in own]  # fmt: skip
        return {"decision": data["decision"], "text": "", "measures": tasks, "clock_effect": data["clock_effect"]}
    if name == "opinion_given":
        return {"position": "agree"}  # which one it was stays with the convenor, and decides nothing
    return {"reason": data.get("reason") or ""}


def _first_date(measure: Mapping[str, Any], entries: Sequence[Entry]) -> str:
    """The date that the resolution set, before anybody changed it."""
    moved = (e[3] for e in entries if e[0] == "measure.rescheduled" and e[3]["measure"] == measure["id"])
    return str(next((data["before"] for data in moved), measure["due_on"]))


def _measure_form(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    if name == "rescheduled":
        return {"due_on": data["after"], "reason": ""}
    if name == "waived":
        return {"waive": True, "reason": data.get("reason") or "-"}
    return {"reason": data.get("reason") or "", "text": "", "evidence": ""}
