"""One matter, one discussion: the reviewer, and what a matter on the docket puts on others' agenda."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from service.demo import handlers
from service.demo.city import DAY, Case, City

MEASURES = ("制定专项解决方案并报批", "协调落实相关指标与资金", "完成现场整改并经企业确认")


async def sit(city: City) -> None:
    """Every matter one step on: struck off what is proved, decided what was heard, screened what is new."""
    reviews: list[dict[str, Any]] = []
    for state in ("decided", "preparing", "proposed"):
        reviews += await city.api.items("reviewer", "/v1/reviews", state=state)
    city.reviews = {r["id"]: r["state"] for r in reviews if r["ticket"]["id"] in city.cases}
    for review in reviews:
        case = city.cases.get(review["ticket"]["id"])
        if case is not None:
            await _STEPS[review["state"]](city, case, review)


async def _on_docket(
    city: City, review: Mapping[str, Any], action: str, form: Mapping[str, Any], about: str = ""
) -> Any:
    path = f"/v1/reviews/{review['id']}/actions/{action}"
    done, told = await city.api.act("reviewer", path, form, f"{city.run_id}-{city.step}-{review['id']}-{action}{about}")
    if done:
        city.reviews[review["id"]] = told["state"]
    return told if done else None


async def _screen(city: City, case: Case, review: Mapping[str, Any]) -> None:
    ticket = await city.api.get("reviewer", f"/v1/tickets/{case.id}")
    if ticket is None:
        return
    city.learn(case, ticket)
    replied = case.stage in {"auditing", "callback", "closed"}
    if replied or city.chance(case.key, "refused") < 0.2:
        reason = "主办单位已答复，按普通程序办理。" if replied else "不属于一事一议范围，请主办单位继续办理。"
        if await _on_docket(city, review, "screen", {"decision": "refuse", "reason": reason}) and not replied:
            handlers.wake(city, case)
        return
    form = {"decision": "accept", "tier": 1, "reason": "列入议题"}
    if await _on_docket(city, review, "screen", form) is None:
        return
    case.plan += 1
    case.stage, case.waits_for = "reviewing", ""
    first = case.lead or city.plausible(case)
    units = [first, city.plausible(case, besides=first)]
    if await _on_docket(city, review, "request_opinions", {"departments": units}) is None:
        return
    for unit in units:
        if city.chance(case.key, unit, "silent") >= 0.1:
            step = city.step + city.between(4, 13, case.key, unit, "opinion when")
            city.later(case, step, "opinion", (review["id"], unit), plan=-1)


async def _decide(city: City, case: Case, review: Mapping[str, Any]) -> None:
    if any(opinion["state"] == "waiting" for opinion in review["opinions"]):
        return  # decided in writing: once all have answered, or their limit has passed in silence
    today, units = city.days[city.step // DAY], [o["department"] for o in review["opinions"]]
    measures = [
        {
            "title": title,
            "department": units[n % len(units)],
            "due_on": str(today + timedelta(days=city.between(10, 25, case.key, n, "due"))),
            "mandatory": n < 2,
        }
        for n, title in enumerate(MEASURES[: city.between(1, 3, case.key, "measures")])
    ]
    for gate in ("competence", "confidentiality", "recusal"):
        passed = {"gate": gate, "ground": "经审查无异议"}
        await _on_docket(city, review, "pass_gate", passed, gate)
    form = {"decision": "approve", "text": "同意按以下事项办理，由主办单位牵头落实。", "measures": measures}
    told = await _on_docket(city, review, "decide", form)
    for n, measure in enumerate(told["measures"] if told else ()):
        report = city.step + DAY * city.between(1, 3, case.key, n, "report")
        evidence = report + DAY * city.between(1, 5, case.key, n, "evidence")
        city.later(case, report, "measure", (measure["id"], measure["department"], "report"), plan=-1)
        if city.chance(case.key, n, "no evidence") >= 0.08:
            data = (measure["id"], measure["department"], "submit_evidence")
            city.later(case, evidence, "measure", data, plan=-1)


async def _strike_off(city: City, case: Case, review: Mapping[str, Any]) -> None:
    for measure in review["measures"]:
        if measure["state"] == "evidence":
            path = f"/v1/measures/{measure['id']}/actions/strike_off"
            await city.api.act(
                "reviewer",
                path,
                {"enterprise_opinion": "satisfied", "reason": "已核实"},
                f"{city.run_id}-{measure['id']}-off",
            )


_STEPS: Mapping[str, Callable[[City, Case, Mapping[str, Any]], Awaitable[None]]] = {
    "proposed": _screen,
    "preparing": _decide,
    "decided": _strike_off,
}
