"""What a ticket looks like outside: the contract's fields, in the city's zone, contact data masked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from service.core import clocks
from service.core.calendar import Budget, Calendar, Measure
from service.core.definitions import ClockDef, Workflow
from service.core.model import Approval, Clock, ClockState, Ticket

COUNTING = frozenset({ClockState.RUNNING, ClockState.BREACHED_RUNNING})


def ticket(
    t: Ticket,
    row: Mapping[str, Any],
    flow: Workflow,
    definition_of: Callable[[Clock], ClockDef],
    calendar_of: Callable[[Clock], Calendar],
    now: datetime,
    zone: ZoneInfo,
) -> dict[str, Any]:
    """The ticket, everywhere the same. `row`: the stored columns that intake wrote."""
    content = row["content"]
    lead = t.lead_leg()
    counting = [c for c in t.clocks if c.state in COUNTING]
    nearest = min(counting, key=lambda c: c.due_at, default=None)
    title = flow.stages[t.stage][1]
    return {
        "id": t.id,
        "number": t.number,
        "source": {
            "system": row["source_system"],
            "reference": row["source_reference"],
            "channel": content["source"].get("channel"),
            "received_at": local(t.received_at, zone),
        },
        "domain": t.domain,
        "request_type": content.get("request_type"),
        "matter": t.matter,
        "title": row["title"],
        "description": row["description"],
        "urgency": t.urgency,
        "confidential": content.get("confidential", False),
        "reply_required": content.get("reply_required", True),
        "enterprise": content["enterprise"],
        "contact": row["contact_masked"],
        "location": content.get("location"),
        "project": content.get("project"),
        "extra": content.get("extra") or {},
        "anonymous": content.get("anonymous", False),
        "agent": content.get("agent"),
        "group": content.get("group"),
        "handed_over": t.facts.get("handed_over"),
        "rejection": _rejection(t, zone),
        "stage": t.stage,
        "stage_title": title["zh"],
        "stage_title_en": title["en"],
        "phase": t.phase,
        "round": t.round,
        "workflow": {"key": t.workflow_key, "version": t.workflow_version},
        "lead": {"department": t.lead, "assignee": lead.assignee if lead else None} if t.lead else None,
        "co_handlers": [a.department for a in t.assignments if a.open and a.role == "co_handler"],
        "due_at": local(nearest.due_at, zone) if nearest else None,
        "due_clock": nearest.name if nearest else None,
        "provisional": nearest.provisional if nearest else False,
        "clocks": [clock(c, definition_of(c), calendar_of(c), now, zone) for c in t.clocks],
        "cards": [{**card, "at": _relocal(card["at"], zone)} for card in t.facts.get("cards", [])],
        "priority": _priority(t, zone),
        "outcome": t.outcome,
        "public_reply": t.facts.get("reply", {}).get("public_reply"),
        "interim_reply": t.facts.get("interim_reply", {}).get("public_reply"),
        "planned": _planned(t, zone),
        "enterprise_notices": [_told(n, zone) for n in t.facts.get("enterprise_notices", [])],
        "co_replies": [_co_reply(c, zone) for c in t.facts.get("co_replies", [])],
        "review": next(({"id": r.id, "number": r.number, "state": r.state} for r in reversed(t.reviews)), None),
        "merged_into": t.merged_into,
        "split_from": t.split_from,
        "parts": t.facts.get("parts", []),
        "warnings": row["warnings"],
        "created_at": local(t.created_at, zone),
        "updated_at": local(t.updated_at, zone),
        "closed_at": local(t.closed_at, zone),
        "version": t.version,
    }


def _priority(t: Ticket, zone: ZoneInfo) -> dict[str, Any] | None:
    """An order from outside (批示、媒体曝光、督查交办) goes before everything else."""
    found = t.facts.get("priority")
    return {**found, "at": _relocal(found["at"], zone)} if found else None


def _planned(t: Ticket, zone: ZoneInfo) -> dict[str, Any] | None:
    """The last plan that was approved: what will be done, and on which day."""
    found = t.facts.get("planned")
    if found is None:
        return None
    return {k: found.get(k) for k in ("reason", "measures", "planned_on")} | {
        "approved_at": _relocal(found["at"], zone)
    }


def _co_reply(reply: Mapping[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    """What a co-handler answered; a note for its own house stays there."""
    told = {k: reply.get(k) for k in ("department", "public_reply", "outcome", "by")}
    return {**told, "partial": bool(reply.get("partial")), "at": _relocal(reply["at"], zone)}


def _told(notice: Mapping[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    next_date = notice["next_date"]
    return {**notice, "at": _relocal(notice["at"], zone), "next_date": next_date and _relocal(next_date, zone)}


def clock(c: Clock, definition: ClockDef, calendar: Calendar, now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "id": c.id,
        "name": c.name,
        "title": definition.title["zh"],
        "title_en": definition.title["en"],
        "cycle": c.cycle,
        "family": c.family,
        "department": c.department,
        "measure": c.measure,
        "budget": amount(c.measure, clocks.total(c)),
        "state": clocks.shown_state(c, now),
        "started_at": local(c.anchor, zone),
        "due_at": local(c.due_at, zone),
        "original_due_at": local(c.original_due_at, zone),
        "provisional": c.provisional,
        "held_at": local(c.held_at, zone),
        "breached_at": local(c.breached_at, zone),
        "ended_at": local(c.ended_at, zone),
        "end_reason": c.end_reason or None,
        "changes": len(c.changes),
        "used": amount(c.measure, clocks.used(c, calendar, now)),
        "warnings": [
            {"name": name, "at": local(clocks.rung_at(c, time, calendar), zone), "fired": name in c.fired}
            for name, time in definition.times
            if time.kind in {"share", "before"}
        ],
    }


def amount(measure: Measure, value: int) -> str | int:
    """ISO 8601 duration for the hour measures, a whole number for the day measures."""
    if measure.counts_days:
        return value
    return Budget(measure, value).text() if value > 0 else "PT0S"


def local(instant: datetime | None, zone: ZoneInfo) -> str | None:
    return None if instant is None else instant.astimezone(zone).isoformat()


def _rejection(t: Ticket, zone: ZoneInfo) -> dict[str, Any] | None:
    """Why a request was not accepted, and the way that the enterprise is told to go instead."""
    said = t.facts.get("rejection")
    if said is None:
        return None
    return {**{k: said[k] for k in ("ground", "explanation", "legal_route")}, "at": _relocal(said["at"], zone)}


def _relocal(text: str, zone: ZoneInfo) -> str | None:
    return local(datetime.fromisoformat(text), zone)


def localised(value: Any, zone: ZoneInfo) -> Any:
    """Every datetime inside plain data, in the city's zone."""
    if isinstance(value, datetime):
        return local(value, zone)
    if isinstance(value, Mapping):
        return {k: localised(v, zone) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [localised(v, zone) for v in value]
    return value


def relocated(change: Mapping[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    """A stored change of a promise, its instants in the city's zone."""
    sides = {s: {k: _relocal(v, zone) if k in {"due_at", "anchor"} else v for k, v in change[s].items()}
             for s in ("before", "after")}  # fmt: skip
    return {**change, **sides, "at": _relocal(change["at"], zone)}


def approval(a: Approval, number: str, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "id": a.id,
        "kind": a.kind,
        "state": a.state,
        "ticket": {"id": a.ticket_id, "number": number},
        "department": a.department,
        "requested_by": a.requested_by,
        "requested_at": local(a.requested_at, zone),
        "form": a.form,
        "decided_by": a.decided_by,
        "decided_at": local(a.decided_at, zone),
        "reason": a.reason,
        "level": a.level,
        "decisions": [{**said, "at": _relocal(said["at"], zone)} for said in a.decisions],
    }


def actions(
    names: Iterable[str], titles: Mapping[str, tuple[str, str]], forms: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What may be done now, each with its titles and, where `forms` has it, the JSON Schema of its form."""
    return [
        {"name": n, "title": titles[n][0], "title_en": titles[n][1], **({"form": forms[n]} if n in forms else {})}
        for n in names
    ]
