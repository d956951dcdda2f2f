"""The hotline, the dispatcher and the auditor: requests in, work to the departments, answers back."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

from service.demo import handlers
from service.demo.city import DAY, Case, City

# --- the hotline


async def post(city: City) -> None:
    """The requests of this hour, from several clients at once."""
    bodies = city.arrivals.pop(city.step)
    waiting = iter(bodies)

    async def client() -> None:
        for body in waiting:
            await _post_one(city, body)

    await asyncio.gather(*(client() for _ in range(min(city.clients, len(bodies)))))


async def _post_one(city: City, body: dict[str, Any]) -> None:
    key = body["source"]["reference"]
    body = {**body, "source": {**body["source"], "reference": f"{city.prefix}{key}"[:128]}}
    answer = await city.api.post_ticket(body, f"{city.run_id}-{hashlib.sha256(key.encode()).hexdigest()[:32]}")
    city.posted += 1
    if not answer.is_success:
        city.refused += 1
        city.api.note("POST", "/v1/tickets", answer)
        return
    ticket = answer.json()
    mood = handlers.mood_of(city, key, ticket["urgency"])
    case = Case(key, ticket["id"], ticket["number"], f"{ticket['title']} {ticket['description']}", mood)
    city.cases[case.id] = case
    city.learn(case, ticket)
    city.warnings.update(w["code"] for w in ticket["warnings"])
    city.leads[case.lead or ""] += 1
    if case.stage == "accepting":
        handlers.assigned(city, case)
    if city.chance(key, "withdrawn") < 0.02:
        city.later(case, city.step + city.between(2, 3 * DAY, key, "withdrawn when"), "withdraw", plan=-1)


async def call_back(city: City) -> None:
    """Are the enterprises content? Some are asked at once, some after a day or two."""
    cases = await city.queue("hotline", "callback")
    await asyncio.gather(*(_call_back_one(city, case) for case in cases))


async def _call_back_one(city: City, case: Case) -> None:
    since = case.first_seen("callback", city.step)
    if (city.step - since) // DAY < city.between(0, 2, case.key, case.round, "callback"):
        return
    if city.chance(case.key, case.round, "unreachable") < 0.06:
        form: dict[str, Any] = {"reached": False, "comment": "无人接听"}
    else:
        form = _opinion_of_enterprise(city, case)
    if await city.act(case, "hotline", "record_callback", form) and case.stage == "handling":
        case.plan += 1
        city.later(case, city.step + 2, "contact")
        handlers.will_reply(city, case, city.step + 4, late=city.chance(case.key, case.round, "late again") < 0.15)


def _opinion_of_enterprise(city: City, case: Case) -> dict[str, Any]:
    stubborn = city.chance(case.key, "stubborn") < 0.02
    dice = city.chance(case.key, case.round, "satisfied")
    if stubborn or dice < 0.08:
        grade = "very_dissatisfied" if stubborn else "dissatisfied"
        return {"solved": "no", "satisfaction": grade, "reason": "result", "comment": "问题没有解决"}
    if dice < 0.2:
        return {"solved": "partly", "satisfaction": "basically_satisfied"}
    return {"solved": "yes", "satisfaction": "very_satisfied" if dice > 0.55 else "satisfied"}


# --- the dispatcher


async def dispatch(city: City) -> None:
    """Tickets that no rule placed, or that came back, go to a department."""
    cases = await city.queue("dispatcher", "dispatch")
    await asyncio.gather(*(_dispatch_one(city, case) for case in cases))


async def _dispatch_one(city: City, case: Case) -> None:
    since = case.first_seen(f"dispatch{case.plan}", city.step)
    if city.chance(case.key, case.plan, "dispatcher busy") < 0.06 and city.step - since < 3:
        return
    unit = case.suggested or city.plausible(case)
    case.suggested = None
    form: dict[str, Any] = {"department": unit, "note": "请按时签收并先行联系企业。"}
    if city.chance(case.key, "co-handler") < 0.1:
        helper = city.plausible(case, besides=unit)
        form |= {"co_handlers": [helper]} if helper != unit else {}
    if await city.act(case, "dispatcher", "dispatch", form):
        handlers.assigned(city, case)


async def decide_requests(city: City) -> None:
    """Returns, extensions and pauses that the handlers asked for."""
    pending = await city.api.items("dispatcher", "/v1/approvals", state="pending")
    own = [(city.cases[a["ticket"]["id"]], a) for a in pending if a["ticket"]["id"] in city.cases]
    await asyncio.gather(*(_decide_request(city, case, a) for case, a in own))


async def _decide_request(city: City, case: Case, approval: Mapping[str, Any]) -> None:
    kind = approval["kind"]
    since = case.first_seen(f"approval {approval['id']}", city.step)
    if city.chance(case.key, kind, "slow") < 0.1 and city.step == since:
        return
    share = {"return": 0.5, "extension": 0.75, "pause": 0.8}[kind]
    approve = city.chance(case.key, kind, case.plan, "approved") < share
    form = {
        "decision": "approve" if approve else "deny",
        "reason": "理由充分" if approve else "理由不充分，请按期办理",
    }
    done, _ = await city.api.act(
        "dispatcher", f"/v1/approvals/{approval['id']}/decision", form, f"{city.run_id}-{approval['id']}"
    )
    case.waits_for = ""
    if done:
        _decided(city, case, kind, approve, approval["form"])


def _decided(city: City, case: Case, kind: str, approve: bool, form: Mapping[str, Any]) -> None:
    if kind == "return" and approve:
        case.plan += 1
        case.stage, case.lead, case.suggested = "dispatching", None, form.get("suggested_department")
    elif kind == "return":
        handlers.assigned(city, case)
    elif kind == "extension":
        case.due_day += form["days"] if approve else 0
        handlers.will_reply(city, case, city.step + 2, late=not approve and city.chance(case.key, "late anyway") < 0.3)
    elif approve:
        case.stage = "waiting"
        if city.chance(case.key, "resumes") < 0.65:
            city.later(case, city.step + DAY * city.between(2, 3, case.key, "resumes when"), "resume")
    else:
        handlers.will_reply(city, case, city.step + 2)


async def audit(city: City) -> None:
    """Replies go on to the hotline, or back to who wrote them."""
    cases = await city.queue("dispatcher", "audit")
    await asyncio.gather(*(_audit_one(city, case) for case in cases))


async def _audit_one(city: City, case: Case) -> None:
    since = case.first_seen("audit", city.step)
    if city.chance(case.key, case.round, "auditor busy") < 0.1 and city.step - since < DAY:
        return
    if city.chance(case.key, case.round, "audit") < 0.08 and case.rejected_in < case.round:
        case.rejected_in = case.round
        if await city.act(case, "dispatcher", "reject_reply", {"reason": "答复未回应企业的主要诉求，请补充。"}):
            case.plan += 1
            step = city.step + city.between(2, 6, case.key, case.round, "again")
            city.later(case, step, "reply")
    else:
        await city.act(case, "dispatcher", "approve_reply", {})
