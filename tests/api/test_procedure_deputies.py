"""Deputies of approvers who are absent, and decisions that come late."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.api.test_life import check_history, clock_of, moment
from tests.api.test_procedure_supervision import handled, later, now_of, send
from tests.conftest import City

TAX, DEPUTY = "handler:tax", "wang@supervisor"
EXTENSION = {"ground": "needs_test_or_expert", "days": 5, "reason": "需检测"}


async def waiting(city: City, **query: Any) -> list[dict[str, Any]]:
    answer = await city.get("/v1/approvals", query.pop("who", "dispatcher"), params={"state": "pending", **query})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def delegated(
    city: City, who: str = "dispatcher", deputy: str = "li@handler:water", **changes: Any
) -> dict[str, Any]:
    body = {
        "deputy": deputy, "starts_at": await later(city, minutes=-1), "ends_at": await later(city, days=5), "reason": "出差",
        **changes,
    }  # fmt: skip
    return await send(city, "delegations", who, **body)


async def test_g15_g29_a_deputy_decides_in_place_of_an_absent_approver_and_both_are_named(city: City) -> None:
    t = await handled(city)
    await city.act(t, "request_extension", TAX, **EXTENSION)
    [asked] = await waiting(city)
    path = f"approvals/{asked['id']}/decision"
    deputy = "li@handler:water"
    verdict = {"decision": "approve", "reason": "同意"}
    await send(city, path, deputy, 404, **verdict)
    await send(city, path, deputy, 403, **verdict, on_behalf_of="dispatcher")
    made = await delegated(city)
    assert (made["delegator"], made["role"], made["active"]) == ("dispatcher", "dispatcher", True)
    assert [a["id"] for a in await waiting(city, who=deputy, on_behalf_of="dispatcher")] == [asked["id"]]
    done = await send(city, path, deputy, 200, **verdict, on_behalf_of="dispatcher")
    assert (done["state"], done["decided_by"]) == ("approved", deputy)
    [said] = done["decisions"]
    assert (said["by"], said["on_behalf_of"]) == (deputy, "dispatcher")
    told = [e for e in await check_history(city, t) if e["type"] == "approval.approved"][-1]
    assert (told["actor"]["subject"], told["data"]["on_behalf_of"]) == (deputy, "dispatcher")
    assert (await city.get("/v1/tickets/" + t, deputy)).status_code == 404, "deputy for requests, not for tickets"


async def test_a_delegation_is_in_force_from_its_beginning_to_its_end_and_can_be_taken_back(city: City) -> None:
    t = await handled(city)
    await city.act(t, "request_extension", TAX, **EXTENSION)
    [asked] = await waiting(city)
    path, deputy = f"approvals/{asked['id']}/decision", "li@handler:water"
    verdict = {"decision": "deny", "reason": "x", "on_behalf_of": "dispatcher"}
    await delegated(city, starts_at=await later(city, days=1), ends_at=await later(city, days=2))
    await send(city, path, deputy, 403, **verdict)
    await city.advance(advance_by="P3D")
    await send(city, path, deputy, 403, **verdict)
    again = await delegated(city)
    await send(city, f"delegations/{again['id']}/revocation", deputy, 403)
    await send(city, f"delegations/{again['id']}/revocation", "dispatcher", 200)
    await send(city, f"delegations/{again['id']}/revocation", "dispatcher", 409)
    await send(city, path, deputy, 403, **verdict)
    mine = (await city.get("/v1/delegations", deputy)).json()["items"]
    assert next(d["id"] for d in mine) == again["id"] and len(mine) == 2
    assert (await city.get("/v1/delegations", "handler:finance")).json()["items"] == []
    assert (await city.get("/v1/delegations", "supervisor", params={"active": "true"})).json()["items"] == []


async def test_g29_four_eyes_look_at_the_deputy_and_at_the_absent_one(city: City) -> None:
    t = await handled(city)
    await city.act(t, "request_extension", TAX, **EXTENSION)
    [asked] = await waiting(city)
    await delegated(city, deputy=TAX)
    answer = {"decision": "approve", "reason": "x", "on_behalf_of": "dispatcher"}
    await send(city, f"approvals/{asked['id']}/decision", TAX, 403, **answer)


async def test_only_an_administrator_names_a_deputy_for_somebody_else(city: City) -> None:
    more = {"delegator": "zhao", "role": "handler", "departments": ["tax"]}
    body = {
        "deputy": "qian", "starts_at": await later(city), "ends_at": await later(city, days=1), "reason": "病假", **more,
    }  # fmt: skip
    await send(city, "delegations", "supervisor", 403, **body)
    await send(city, "delegations", "admin", 422, **{**body, "departments": ["nowhere"]})
    await send(city, "delegations", "admin", 422, **{**body, "departments": None})
    await send(city, "delegations", "admin", 422, **{**body, "ends_at": await later(city, days=-1)})
    await send(city, "delegations", "admin", 422, **{**body, "ends_at": await later(city, days=100)})
    made = await send(city, "delegations", "admin", **body)
    assert (made["delegator"], made["departments"], made["made_by"]) == ("zhao", ["tax"], "admin")
    await send(city, "delegations", "hotline", 403, **{**body, "delegator": None, "role": None, "departments": None})
    await send(city, "delegations", "dispatcher", 422, **{**body, **dict.fromkeys(more), "deputy": "dispatcher"})


async def test_g15_an_extension_asked_on_the_last_evening_and_decided_late_never_turns_red(city: City) -> None:
    """Asked after the close of office on the due day, decided a week later, and denied: no breach before the decision."""
    t = await handled(city)
    due = moment(clock_of(await city.show(t), "resolve")["due_at"])
    evening = due.replace(hour=21) if due.hour else due.fromtimestamp(due.timestamp() - 3 * 3600, due.tzinfo)
    await city.advance(advance_to=evening.isoformat())
    await city.act(t, "request_extension", TAX, **EXTENSION)
    await city.advance(advance_by="P7D")
    shown = await city.show(t)
    assert clock_of(shown, "resolve")["breached_at"] is None
    assert clock_of(shown, "extension_decision")["state"] == "breached_running", "the centre is late, not the unit"
    [asked] = await waiting(city)
    await send(city, f"approvals/{asked['id']}/decision", DEPUTY, 200, decision="deny", reason="不同意")
    resolve = clock_of(await city.show(t), "resolve")
    assert (resolve["state"], resolve["breached_at"]) == ("running", None)
    assert moment(resolve["due_at"]) >= await now_of(city), "the unit keeps the time that the decision took"
    assert [c["level"] for c in (await city.show(t))["cards"] if c["level"] == "red"] == []
    await city.advance(advance_by="P10D")
    assert clock_of(await city.show(t), "resolve")["state"] == "breached_running"
    assert isinstance(due, datetime)
