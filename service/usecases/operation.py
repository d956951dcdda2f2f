"""What operators and configurators ask: definitions in force, routing tried out, readiness."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from service.core.definitions import Workflow
from service.core.model import SYSTEM
from service.core.routing import Request
from service.db import clocks as timers
from service.db import outbox
from service.db.session import Unavailable
from service.usecases import views
from service.usecases.house import House

OLDEST_DUE_SECONDS = 600


def workflows(house: House) -> list[dict[str, Any]]:
    return [_workflow(flow) for flow in house.rules.newest.values()]


def _workflow(flow: Workflow) -> dict[str, Any]:
    return {
        "key": flow.key,
        "version": flow.version,
        "title": flow.title,
        "calendar": flow.calendar,
        "domains": sorted(flow.domains),
        "urgency": sorted(flow.urgency),
        "departments": sorted(flow.departments),
        "stages": [{"name": n, "phase": phase, "title": title} for n, (phase, title) in flow.stages.items()],
        "clocks": [
            {
                "name": c.name,
                "title": c.title,
                "family": c.family,
                "anchor": c.anchor,
                "measure": c.budget.measure,
                "budget": c.budget.text(),
                "rungs": list(c.rungs),
            }
            for c in flow.clocks.values()
        ],
        "actions": [
            {"name": a.name, "title": a.title, "stages": sorted(a.stages), "roles": sorted(a.roles), "form": a.form}
            for a in flow.actions.values()
        ],
    }


def try_routing(house: House, request: Request) -> dict[str, Any]:
    """The route with every rule that was tried: those with evidence first."""
    route = house.rules.router.route(request, explain=True)
    tried = sorted((asdict(t) for t in route.tried), key=lambda t: (-t["score"], t["out"] is not None))
    choice = house.rules.policies.choose(route.domain, request.urgency, route.lead)
    return {
        "lead": route.lead,
        "co_handlers": route.co_handlers,
        "rule": route.rule,
        "matter": route.matter,
        "domain": route.domain,
        "domain_inferred": route.domain_inferred,
        "workflow": {"key": choice.flow.key, "version": choice.flow.version},
        "workflow_rule": choice.rule,
        "workflows_tried": choice.tried,
        "tried": tried,
    }


async def readiness(house: House) -> dict[str, Any]:
    """Whether requests can be served, and how far behind timers and outbox are."""
    try:
        await house.db.ping()
        async with house.db.transaction(SYSTEM, readonly=True) as tx:
            due = await timers.backlog(tx, tx.now)
            waiting = await outbox.pending(tx)
            late = (tx.now - due["oldest"]).total_seconds() if due["oldest"] else 0.0
            now = tx.now
    except Unavailable as error:
        return {"ready": False, "database": error.detail}
    return {
        "ready": late <= OLDEST_DUE_SECONDS,
        "database": "ok",
        "now": views.local(now, house.zone),
        "timers_due": due["due"],
        "oldest_due_seconds": round(late, 3),
        "outbox_pending": waiting["rows"],
    }
