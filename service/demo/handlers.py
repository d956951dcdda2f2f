"""The handlers of the departments: their tempers, what each means to do, and when it does it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from service.demo.city import DAY, Act, Case, City

MOODS = (
    ("untouched", 0.04),
    ("return", 0.06),
    ("extension", 0.07),
    ("pause", 0.05),
    ("late", 0.12),
    ("escalate", 0.02),
)
WORKABLE = frozenset({"accepting", "handling"})
PLANS = (
    "已与企业核对情况，拟先查阅登记材料，再与相关处室会商，按期书面答复。",
    "安排专人上门走访，三日内提出处理意见并告知企业。",
    "涉及两个处室，由综合处牵头研究，形成一致意见后答复。",
)
REPLIES = (
    "经核实，您反映的问题已处理完毕，相关手续已办结，感谢对我们工作的监督。",
    "已按规定为企业办理，并指定专人跟踪服务，如有新的困难请直接联系经办人。",
    "经现场核查，情况属实，已责成相关单位整改，整改结果附后。",
    "依据现行规定，该事项暂不具备办理条件，所需补充的材料已一次性告知企业。",
)
OUTCOMES = ("solved",) * 6 + ("service_confirmed", "explained_no_basis", "planned", "not_true")
REASONS = {
    "return": "该事项不属于本单位职责范围，建议转请职能单位办理。",
    "extension": "需会同多个单位现场勘验并研究，预计不能在原时限内办结。",
    "pause": "等待企业补充材料，已书面一次性告知。",
    "escalate": "涉及多个单位和历史遗留问题，单一部门无法解决，提请一事一议。",
}


def mood_of(city: City, key: str, urgency: str) -> str:
    """One of MOODS, or "" for a handler who does all in time; an emergency is not extended."""
    dice = city.chance(key, "mood")
    for mood, share in MOODS:
        dice -= share
        if dice < 0:
            return "" if mood == "extension" and urgency == "emergency" else mood
    return ""


def assigned(city: City, case: Case) -> None:
    """A department has a new ticket."""
    case.plan += 1
    key, mood = (case.key, case.plan), case.mood
    for unit in case.co_handlers:
        if city.chance(*key, unit, "answers") < 0.88:
            city.later(case, city.step + city.between(3, 2 * DAY, *key, unit), "co_reply", unit)
    if mood == "untouched":
        return
    if mood == "return" and not case.returned:
        city.later(case, city.step + 1, "return")
        return
    dice, begin = city.chance(*key, "accept"), city.step + DAY
    if dice < (0.5 if mood == "late" else 0.94):
        begin = city.step + (1 if dice < 0.8 else 2)
        city.later(case, begin, "accept")
    slow = city.chance(*key, "slow contact") < (0.3 if mood == "late" else 0.03)
    city.later(case, begin + (city.between(3, 9, *key, "contact") if slow else 0), "contact")
    ready = begin + (city.between(DAY, 2 * DAY, *key, "opinion") if slow else city.between(1, 5, *key, "opinion"))
    city.later(case, ready, "plan")
    _continue(city, case, ready)


def _continue(city: City, case: Case, ready: int) -> None:
    """After the plan: what this handler's temper leads to."""
    key, last = (case.key, case.plan), case.due_day * DAY + 5
    if case.mood == "extension" and last - ready >= 4:
        city.later(case, ready + city.between(1, last - ready - 2, *key, "asks"), "extension")
    elif case.mood in {"pause", "escalate"}:
        city.later(case, ready + city.between(1, 8, *key, "asks"), case.mood)
    else:
        will_reply(city, case, ready + 1, late=case.mood == "late")


def will_reply(city: City, case: Case, ready: int, *, late: bool = False) -> None:
    """A reply at some hour from `ready` up to the due day; `late`: some days after it."""
    key, last = (case.key, case.plan, case.round), case.due_day * DAY + 5
    if late:
        days = 1 + int(9 * city.chance(*key, "late") ** 2)  # mostly a day or two
        ready = max(ready, (case.due_day + days) * DAY + city.between(0, 6, *key, "at"))
    elif last > ready:
        ready += int((last - ready) * city.chance(*key, "reply"))
    city.later(case, ready, "reply")


def wake(city: City, case: Case) -> None:
    """Somebody notices a ticket that nobody means to do anything about."""
    case.plan += 1
    case.waits_for = ""
    city.later(case, city.step + 1, "plan")
    city.later(case, city.step + city.between(3, 2 * DAY, case.key, case.plan, "wake"), "reply")


# --- acts


async def handle(city: City) -> None:
    """What is due by the agenda: each ticket's acts in their order, the tickets side by side."""
    due: dict[str, list[Act]] = defaultdict(list)
    for act in city.agenda.pop(city.step):
        due[act[0].id].append(act)
    await asyncio.gather(*(_handle_one(city, acts) for acts in due.values()))


async def _handle_one(city: City, acts: Sequence[Act]) -> None:
    for case, plan, act, data in acts:
        if plan in {-1, case.plan} and case.stage != "closed":
            await _ACTS[act](city, case, data)


async def _lead_acts(city: City, case: Case, action: str, form: Mapping[str, Any], stages: Iterable[str]) -> bool:
    if case.lead is None or case.stage not in stages:
        return False
    return await city.act(case, f"handler:{case.lead}", action, form)


async def _accept(city: City, case: Case, _: Any) -> None:
    await _lead_acts(city, case, "accept", {}, {"accepting"})


async def _contact(city: City, case: Case, _: Any) -> None:
    form = {"channel": city.pick(("phone", "phone", "visit", "wechat"), case.key, "channel")}
    await _lead_acts(city, case, "log_contact", form, {"accepting", "handling", "waiting", "reviewing"})


async def _plan(city: City, case: Case, _: Any) -> None:
    await _see_whether_accepted(city, case)
    await _lead_acts(city, case, "submit_plan", {"plan": city.pick(PLANS, case.key, "plan")}, {"handling"})


async def _reply(city: City, case: Case, _: Any) -> None:
    await _see_whether_accepted(city, case)
    form = {
        "public_reply": city.pick(REPLIES, case.key, case.round, "reply"),
        "outcome": city.pick(OUTCOMES, case.key, case.round, "outcome"),
    }
    await _lead_acts(city, case, "submit_reply", form, {"handling"})


async def _see_whether_accepted(city: City, case: Case) -> None:
    """Silence may have accepted the ticket by now; what is possible is told by the service."""
    if case.stage == "accepting" and case.lead is not None:
        told = await city.api.get(f"handler:{case.lead}", f"/v1/tickets/{case.id}/actions")
        if told and told["stage"] == "accepting" and any(a["name"] == "accept" for a in told["items"]):
            await city.act(case, f"handler:{case.lead}", "accept", {})
        elif told:
            case.stage = told["stage"]


async def _possible(city: City, case: Case) -> set[str]:
    told = await city.api.get(f"handler:{case.lead}", f"/v1/tickets/{case.id}/actions")
    return {action["name"] for action in told["items"]} if told else set()


async def _co_reply(city: City, case: Case, unit: str) -> None:
    if unit in case.co_handlers and case.stage == "handling":
        form = {"public_reply": "本单位协办意见：无不同意见，已将有关材料转主办单位。"}
        await city.act(case, f"handler:{unit}", "submit_reply", form)


async def _ask(city: City, case: Case, kind: str, form: Mapping[str, Any], stages: Iterable[str]) -> None:
    action = f"request_{kind}"
    # some units' workflows have no such request; what is possible is told by the service
    asks = case.lead is not None and case.stage in stages and action in await _possible(city, case)
    if asks and await _lead_acts(city, case, action, form, stages):
        case.waits_for = kind


async def _ask_return(city: City, case: Case, _: Any) -> None:
    case.returned = True
    body = {"title": case.text[:500], "description": case.text[:2000], "domain": case.domain}
    _, told = await city.api.act(f"handler:{case.lead}", "/v1/routing/try", body, f"{city.run_id}-{case.id}-try")
    unit = told.get("lead")
    unit = unit if unit and unit != case.lead else city.plausible(case)
    ground = city.pick(("not_our_duty", "wrong_area", "level_wrong"), case.key, "ground")
    form = {"ground": ground, "reason": REASONS["return"], "suggested_department": unit}
    await _ask(city, case, "return", form, WORKABLE)


async def _ask_extension(city: City, case: Case, _: Any) -> None:
    days = city.between(1, 3, case.key, "days") if case.domain == "consultation" else 5
    form = {"ground": "complex_multi_department", "days": days, "reason": REASONS["extension"]}
    await _ask(city, case, "extension", form, {"handling"})
    if case.waits_for != "extension":
        will_reply(city, case, city.step + 1)


async def _ask_pause(city: City, case: Case, _: Any) -> None:
    form = {
        "kind": "waiting_enterprise",
        "reason": REASONS["pause"],
        "evidence": "一次性告知书",
        "days": city.between(4, 8, case.key, "pause"),
    }
    await _ask(city, case, "pause", form, {"handling"})


async def _resume(city: City, case: Case, _: Any) -> None:
    if await _lead_acts(city, case, "resume", {"note": "企业已补充材料"}, {"waiting"}):
        will_reply(city, case, city.step + 2)


async def _escalate(city: City, case: Case, _: Any) -> None:
    form = {"reason": REASONS["escalate"], "asked": "请明确牵头单位和完成时限", "tried": "已两次协调未果"}
    if await _lead_acts(city, case, "escalate", form, WORKABLE):
        case.waits_for = "docket"


async def _withdraw(city: City, case: Case, _: Any) -> None:
    await city.act(case, "hotline", "withdraw", {"reason": "企业来电表示问题已自行解决，申请撤单。"})


async def _opine(city: City, case: Case, data: tuple[str, str]) -> None:
    review, unit = data
    position = city.pick(("agree", "agree", "condition", "disagree"), case.key, unit, "opinion")
    form = {"position": position, "text": "建议由主办单位牵头，我单位配合。", "legal_basis": "优化营商环境条例"}
    path = f"/v1/reviews/{review}/actions/give_opinion"
    await city.api.act(f"handler:{unit}", path, form, f"{city.run_id}-{review}-{unit}")


async def _measure(city: City, case: Case, data: tuple[str, str, str]) -> None:
    measure, unit, action = data
    form = {"text": "已召开专题会，正按计划推进。"} if action == "report" else {"evidence": "完成情况报告及企业确认单"}
    path = f"/v1/measures/{measure}/actions/{action}"
    await city.api.act(f"handler:{unit}", path, form, f"{city.run_id}-{measure}-{action}")


_ACTS: Mapping[str, Callable[[City, Case, Any], Awaitable[None]]] = {
    "accept": _accept,
    "contact": _contact,
    "plan": _plan,
    "reply": _reply,
    "co_reply": _co_reply,
    "return": _ask_return,
    "extension": _ask_extension,
    "pause": _ask_pause,
    "resume": _resume,
    "escalate": _escalate,
    "withdraw": _withdraw,
    "opinion": _opine,
    "measure": _measure,
}

# --- the morning


async def look_round(city: City) -> None:
    """The morning: every department looks through its queue and finds what changed without it."""
    stages = WORKABLE | {"waiting"}
    units = sorted({c.lead for c in city.cases.values() if c.lead and c.stage in stages and _idle(city, c)})
    await asyncio.gather(*(_look_through(city, unit) for unit in units))


async def _look_through(city: City, unit: str) -> None:
    for case in await city.queue(f"handler:{unit}"):
        if case.lead == unit and case.stage == "handling" and _idle(city, case):
            wake(city, case)


def _idle(city: City, case: Case) -> bool:
    """Nobody means to do anything more, and not because that is the play."""
    return case.busy_until < city.step and not case.waits_for and case.mood not in {"untouched", "escalate"}
