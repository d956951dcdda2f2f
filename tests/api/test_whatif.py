"""What-if and diagrams over HTTP."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from multiprocessing import active_children
from typing import Any
from xml.etree import ElementTree

import pytest

from service.usecases import simulation
from tests.conftest import City


def draft(city: City, key: str = "business_development", **clocks: Any) -> dict[str, Any]:
    body = deepcopy(dict(city.house.rules.bodies["workflow", key][1]))
    for name, values in clocks.items():
        body["clocks"][name] |= values
    return body


async def test_a_supervisor_sees_what_a_shorter_limit_would_have_done(city: City) -> None:
    ticket = await city.ticket()
    await city.act(ticket["id"], "accept", "handler:tax")
    await city.advance(advance_by="P10D")
    path = "/v1/workflows/business_development/simulate"
    body = {"workflow": draft(city, resolve={"budget": 2}), "check": "all"}
    answer = await city.post(path, body, "supervisor")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["tickets"] == {"recorded": 1, "compared": 1, "replayed": 1, "set_aside": 0}
    assert found["check"] == {"checked": 1, "differ": 0, "first": []}
    named = {row["clock"]: row for row in found["breaches"]["newly"]}
    assert named["resolve"]["ticket"] == {"id": ticket["id"], "number": ticket["number"]}
    assert named["resolve"]["department"] == "tax" and named["resolve"]["due_at"].endswith("+08:00")
    again = await city.post(path, body, "supervisor")
    assert again.content == answer.content
    drawn = await city.post(f"{path}?format=svg&lang=en", body, "supervisor")
    assert drawn.headers["content-type"].startswith("image/svg+xml")
    assert "Tickets late, by clock" in "".join(ElementTree.fromstring(drawn.text).itertext())  # noqa: S314


async def test_a_replaying_process_that_is_killed_is_told_and_the_next_simulation_runs(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "SMALL", 0)  # a process of its own for one ticket
    await city.ticket()
    path, body = "/v1/workflows/business_development/simulate", {"workflow": draft(city, resolve={"budget": 2})}
    asked = asyncio.create_task(city.post(path, body, "supervisor"))
    while not (children := active_children()) and not asked.done():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    children[0].kill()
    answer = await asked
    assert answer.status_code == 503 and "try it again" in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) >= 1
    again = await city.post(path, body, "supervisor")
    assert again.status_code == 200, again.text


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"workflow": {"key": "business_development"}}, 422, "title"),
        ({"workflow": []}, 422, "/workflow"),
        ({"version": 99}, 404, "version 99"),
        ({"version": 0}, 422, "/version"),
        ({"calendar": {"key": "x"}}, 422, "calendar"),
        ({"routing": {}}, 422, "domains"),
        ({"from": "yesterday"}, 422, "/from"),
        ({"department": "nobody"}, 422, "/department"),
        ({"from_": "2026-01-01"}, 422, "/from_"),
    ],
)
async def test_a_bad_request_names_what_is_wrong(shared_city: City, body: Any, status: int, told: str) -> None:
    answer = await shared_city.post("/v1/workflows/business_development/simulate", body, "supervisor")
    assert answer.status_code == status and told in answer.text, answer.text


async def test_a_bad_draft_names_the_path(shared_city: City) -> None:
    body = draft(shared_city)
    body["clocks"]["resolve"]["budget"] = "soon"
    answer = await shared_city.post("/v1/workflows/business_development/simulate", {"workflow": body}, "supervisor")
    assert answer.status_code == 422 and answer.json()["type"] == "/problems/definition-invalid"
    assert answer.json()["detail"].startswith("clocks.resolve.budget: ")


async def test_others_than_supervisors_do_not_simulate(shared_city: City) -> None:
    for who in ("handler:tax", "dispatcher", "admin", "hotline", "auditor"):
        answer = await shared_city.post("/v1/workflows/consultation/simulate", {}, who)
        assert answer.status_code == 403, who
    assert (await shared_city.post("/v1/workflows/consultation/simulate", {}, None)).status_code == 401


async def test_a_workflow_is_drawn(shared_city: City) -> None:
    answer = await shared_city.get("/v1/workflows/consultation/diagram.svg", "handler:tax")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("image/svg+xml")
    told = "".join(ElementTree.fromstring(answer.text).itertext())  # noqa: S314
    assert "咨询求助" in told and "待签收" in told and "办结 2个工作日" in told
    english = await shared_city.get("/v1/workflows/consultation/diagram.mmd?lang=en&version=1", "handler:tax")
    assert english.text.startswith("%% consultation 1\nflowchart TD\n") and "Being handled" in english.text
    for path in ("nobody/diagram.svg", "consultation/diagram.svg?version=9", "nobody/diagram.mmd"):
        assert (await shared_city.get(f"/v1/workflows/{path}")).status_code == 404
    assert (await shared_city.get("/v1/workflows/consultation/diagram.svg?lang=fr")).status_code == 422


async def test_a_tickets_way_is_drawn_for_who_may_see_it(shared_city: City) -> None:
    ticket = await shared_city.ticket()
    await shared_city.act(ticket["id"], "accept", "handler:tax")
    for ref in (ticket["id"], ticket["number"]):
        answer = await shared_city.get(f"/v1/tickets/{ref}/diagram.svg", "handler:tax")
        told = "".join(ElementTree.fromstring(answer.text).itertext())  # noqa: S314
        assert ticket["number"] in told and "办理中  (签收)" in told
    for ref, who in ((ticket["id"], "handler:water"), ("QY000000000000000", "dispatcher"), ("x", "dispatcher")):
        assert (await shared_city.get(f"/v1/tickets/{ref}/diagram.svg", who)).status_code == 404
