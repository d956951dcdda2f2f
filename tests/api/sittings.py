"""A meeting that has taken place, over HTTP: what tests of minutes, precedents and the board begin with."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from tests.conftest import City

GATES = ("competence", "confidentiality", "recusal")
EXTRACT = "贵公司增加发票额度的申请已获同意，请于月底前到办税大厅办理。"
MEASURE = {"title": "为企业核增发票额度", "department": "tax", "deliverable": "核定通知书", "evidence_type": "document"}


async def ok(answer: Any, status: int = 200) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def now(city: City) -> datetime:
    return datetime.fromisoformat((await ok(await city.get("/v1/sandbox/clock", "admin")))["now"])


async def on_the_docket(city: City, enterprise: str, **changes: Any) -> str:
    """A ticket of the tax bureau that is accepted for a review of tier 1; the review's id."""
    ticket = await city.ticket(enterprise={"name": enterprise, "district": "370102"}, **changes)
    form = {"ticket": ticket["id"], "reason": "两次派单未解决", "asked": f"请求为{enterprise}增加发票额度"}
    review = (await ok(await city.post("/v1/reviews", form, "dispatcher"), 201))["id"]
    path = f"/v1/reviews/{review}/actions"
    await ok(await city.post(f"{path}/screen", {"decision": "accept", "tier": 1, "reason": "确需协调"}, "reviewer"))
    return str(review)


async def ready(city: City, review: str) -> None:
    for gate in GATES:
        await ok(
            await city.post(f"/v1/reviews/{review}/actions/pass_gate", {"gate": gate, "ground": "经审查"}, "reviewer")
        )


async def convened(city: City, *reviews: str, chair: dict[str, Any] | None = None) -> str:
    """An extra meeting with these matters, at which the chair and the tax bureau are present; its id."""
    held_at = await now(city) + timedelta(hours=30)
    body = {
        "tier": 1,
        "held_at": held_at.isoformat(),
        "extra": True,
        "reason": "事项紧急",
        "place": "第二会议室",
        "chair": chair or {"name": "张建国"},
        "recorder": {"name": "李喆", "title": "秘书"},
    }
    meeting = (await ok(await city.post("/v1/meetings", body, "reviewer"), 201))["id"]
    for review in reviews:
        await ready(city, review)
        await ok(await city.post(f"/v1/reviews/{review}/actions/schedule", {"meeting": meeting}, "reviewer"))
    await city.advance(advance_by="PT31H")
    attended = {"attendance": [{"chair": True}, {"department": "tax"}]}
    await ok(await city.post(f"/v1/meetings/{meeting}/actions/attend", attended, "reviewer"))
    return str(meeting)


async def decided(city: City, review: str, **form: Any) -> None:
    """Approved with one measure, unless `form` says otherwise."""
    due_on = (await now(city) + timedelta(days=20)).date().isoformat()
    body = {
        "decision": "approve",
        "text": "同意由税务部门按规定为企业核增发票额度。",
        "enterprise_extract": EXTRACT,
        "measures": [{**MEASURE, "due_on": due_on}],
        **form,
    }
    await ok(await city.post(f"/v1/reviews/{review}/actions/decide", body, "reviewer"))


async def step(
    city: City, meeting: str, name: str, who: str = "reviewer", status: int = 200, **more: Any
) -> dict[str, Any]:
    return await ok(await city.post(f"/v1/meetings/{meeting}/minutes", {"step": name, **more}, who), status)


async def issued(city: City, meeting: str) -> dict[str, Any]:
    """Drafted, checked, signed and issued."""
    await step(city, meeting, "draft", status=201)
    for name in ("check", "sign"):
        await step(city, meeting, name)
    return await step(city, meeting, "issue")


async def sat(city: City, enterprise: str = "济南测试机械有限公司", **form: Any) -> tuple[str, str]:
    """A meeting that decided one matter: (meeting, review)."""
    review = await on_the_docket(city, enterprise)
    meeting = await convened(city, review)
    await decided(city, review, **form)
    return meeting, review
