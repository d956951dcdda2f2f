"""What operators and configurators ask: definitions in force, routing tried out, readiness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from service.clock import wall_now
from service.core.model import SYSTEM
from service.core.routing import Request
from service.db import clocks as timers
from service.db import notices, outbox, runs, slots
from service.db.session import Unavailable
from service.usecases import views
from service.usecases.house import House
from service.usecases.periodic import CHECK

OLDEST_DUE_SECONDS = 600
"""Beyond this the timers are behind: 99.9 % fire within 60 s, and an outage of hours is caught up with in five minutes."""
SKEW_SECONDS = 60
"""A host further from the database than this issues and judges tokens by a wrong clock: it takes no requests."""


def try_routing(house: House, request: Request) -> dict[str, Any]:
    """The route with every rule that was tried: those with evidence first."""
    route = house.rules.router.route(request, explain=True)
    tried = sorted(
        (asdict(t) for t in route.tried), key=lambda t: (t["rule"] != route.rule, -t["score"], t["out"] is not None)
    )
    choice = house.rules.policies.choose(route.domain, request.urgency, route.lead)
    return {
        "lead": route.lead,
        "co_handlers": route.co_handlers,
        "rule": route.rule,
        "matter": route.matter,
        "domain": route.domain,
        "domain_inferred": route.domain_inferred,
        "domains_tried": [asdict(t) for t in route.domains_tried],
        "complained_of": route.complained_of,
        "nearest": route.nearest,
        "catalogue_version": house.rules.routing_version,
        "workflow": {"key": choice.flow.key, "version": choice.flow.version},
        "workflow_rule": choice.rule,
        "workflows_tried": choice.tried,
        "tried": tried,
    }


async def readiness(house: House, host: Callable[[], datetime] = wall_now) -> dict[str, Any]:
    """Whether requests can be served, and how far behind timers and outbox are. `host`: the host's clock."""
    try:
        await house.db.ping()
        async with house.db.transaction(SYSTEM, readonly=True, timed=False) as tx:
            moment = await timers.moment(tx, house.db.now_sql)
            skew = (host() - moment["database"]).total_seconds()
            due = await timers.backlog(tx, moment["now"])
            waiting = await outbox.pending(tx)
            pumps = await runs.seen(tx)
    except Unavailable as error:
        return {"ready": False, "database": error.detail}
    now = moment["now"]
    late = (now - due["oldest"]).total_seconds() if due["oldest"] else 0.0
    return {
        "ready": late <= OLDEST_DUE_SECONDS and abs(skew) <= SKEW_SECONDS,
        "database": "ok",
        "now": views.local(now, house.zone),
        "clock_skew_seconds": round(skew, 3),
        "timers": _state_of_timers(pumps),
        "timers_due": due["due"],
        "timers_aside": due["aside"],
        "timers_dead": due["dead"],
        "oldest_due_seconds": round(late, 3),
        "outbox_pending": waiting["rows"],
        "calendars_missing": house.missing_years(now),
    }


def _state_of_timers(pumps: Sequence[Any]) -> str:
    """A held pump is no reason to take requests elsewhere, but somebody has to know of it."""
    alive = [p for p in pumps if p["age_seconds"] <= runs.STALE.total_seconds()]
    held = sorted({p["held"] for p in alive if p["held"]})
    if held:
        return f"degraded: held, {'; '.join(held)}; POST /v1/timers/gate/release when the clock is right"
    return "ok" if alive else "degraded: no pump was heard of lately; a worker fires what is due when it comes back"


async def measured(house: House, host: Callable[[], datetime] = wall_now) -> dict[str, Any]:
    """What operators watch that stands in the database: name -> a number, or label -> number. Raises Unavailable."""
    async with house.db.transaction(SYSTEM, readonly=True, timed=False) as tx:
        moment = await timers.moment(tx, house.db.now_sql)
        skew = (host() - moment["database"]).total_seconds()
        due = await timers.backlog(tx, moment["now"])
        queues = {queue.table: await outbox.pending(tx, queue) for queue in (outbox.OUTBOX, outbox.DIGESTS)}
        waiting, pumps = await notices.backlog(tx), await runs.seen(tx)
        checked = await slots.last_result(tx, CHECK) or {}

    def age(since: datetime | None) -> float:
        return (moment["now"] - since).total_seconds() if since else 0.0

    return {
        "timers_due": due["due"],
        "timers_oldest_due_seconds": age(due["oldest"]),
        "timers_aside": due["aside"],
        "timers_dead": due["dead"],
        "clock_skew_seconds": skew,
        "outbox_pending": {table: q["rows"] for table, q in queues.items()},
        "outbox_age_seconds": {table: age(q["oldest"]) for table, q in queues.items()},
        "notices_waiting": waiting,
        "check_offending": {rule["rule"]: rule["offending"] for rule in checked.get("rules", ())},
        "calendar_year_missing": house.missing_years(moment["now"]),
        "pumps_held": sum(p["held"] is not None for p in pumps),
        "pump_heartbeat_age_seconds": {p["worker"]: p["age_seconds"] for p in pumps},
        "pump_skew_seconds": {p["worker"]: p["skew_us"] / 1e6 for p in pumps},
    }
