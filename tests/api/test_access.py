"""F5: who may do what on which route; what another department has is as if it were not there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from service import clock
from service.core.model import Role
from service.db.session import connect_arguments
from service.integrations.identity_provider import BuiltinIssuer
from tests.conftest import City

ID = "01900000-0000-7000-8000-000000000000"
WHO = ("hotline", "handler:tax", "handler:water", "dispatcher", "supervisor", "reviewer", "auditor", "admin")
ALL = "200 200 200 200 200 200 200 200"
READ = "200 200 404 200 200 200 200 403"
WHAT_IF = "/v1/clocks/what-if?anchor=2026-11-23T01:00:00Z&measure=working_hours&budget=PT4H"

# The ticket is the tax bureau's, in hand and on the docket. Columns as in WHO; without a token 401.
WRITE = "403 403 403 403 422 403 403 422"
TABLE: list[tuple[str, str, Any, str]] = [
    ("POST", "/v1/tickets", {}, "422 403 403 403 403 403 403 403"),
    ("GET", "/v1/tickets", None, "200 200 200 200 200 200 200 403"),
    ("GET", "/v1/queue", None, "200 200 200 200 200 200 200 403"),
    ("GET", "/v1/queue?department=tax", None, "200 200 403 200 200 200 200 403"),
    ("GET", "/v1/tickets/{ticket}", None, READ),
    ("GET", "/v1/tickets/{number}", None, READ),
    ("GET", "/v1/tickets/{ticket}/events", None, READ),
    ("GET", "/v1/tickets/{ticket}/actions", None, READ),
    ("GET", "/v1/tickets/{ticket}/diagram.svg", None, READ),
    ("GET", "/v1/tickets/{ticket}/clocks/{clock}/explanation", None, READ),
    ("POST", "/v1/tickets/{ticket}/actions/comment", {"text": "x"}, "200 200 404 200 200 200 403 403"),
    ("POST", "/v1/tickets/{ticket}/actions/accept", {}, "403 409 404 403 403 403 403 403"),
    ("POST", "/v1/tickets/{ticket}/actions/dispatch", {"department": "water"}, "403 403 404 409 403 403 403 403"),
    ("POST", "/v1/tickets/{ticket}/actions/approve_reply", {}, "403 403 404 409 409 403 403 403"),
    ("POST", "/v1/tickets/{ticket}/actions/record_callback", {}, "409 403 404 409 403 403 403 403"),
    ("POST", "/v1/tickets/{ticket}/actions/submit_plan", {}, "403 422 404 403 403 403 403 403"),
    ("POST", "/v1/tickets/{ticket}/actions/withdraw", {}, "422 403 404 422 403 403 403 403"),
    ("POST", "/v1/tickets/{ticket}/urges", {"bad": 1}, "422 403 404 403 403 403 403 403"),
    ("POST", "/v1/tickets/{ticket}/amendments", {"bad": 1}, "422 403 404 403 403 403 403 403"),
    ("POST", "/v1/tickets/{ticket}/withdrawal", {}, "422 403 404 422 403 403 403 403"),
    ("POST", "/v1/tickets/{ticket}/callbacks", {}, "409 403 404 409 403 403 403 403"),
    ("POST", "/v1/tickets/{ticket}/contact/reveal", {"reason": "核实"}, "200 200 404 200 403 403 403 403"),
    ("POST", "/v1/queue/actions/comment", {"ids": ["{ticket}"], "form": {"text": "x"}}, "200 200 200 200 200 200 403 403"),
    ("GET", "/v1/approvals", None, "403 200 200 200 200 403 200 403"),
    ("POST", f"/v1/approvals/{ID}/decision", {"decision": "deny"}, "403 404 404 404 404 403 403 403"),
    ("GET", "/v1/reviews", None, "403 200 200 200 200 200 200 403"),
    ("GET", "/v1/reviews/{review}", None, "403 200 404 200 200 200 200 403"),
    ("POST", "/v1/reviews", {"ticket": "{ticket}", "reason": "x"}, "403 409 404 409 409 409 403 403"),
    ("POST", "/v1/reviews/{review}/actions/decide", {"decision": "refuse", "text": "x"}, "403 403 404 403 403 409 403 403"),
    ("POST", "/v1/reviews/{review}/actions/give_opinion", {"position": "agree"}, "403 409 404 403 403 403 403 403"),
    ("GET", "/v1/measures", None, "403 200 200 200 200 200 200 403"),
    ("POST", f"/v1/measures/{ID}/actions/report", {"text": "x"}, "403 404 404 404 404 404 403 403"),
    ("GET", "/v1/reviews/board", None, "403 200 200 200 200 200 200 403"),
    ("POST", f"/v1/meetings/{ID}/minutes", {}, "403 403 403 403 404 404 403 403"),
    ("POST", f"/v1/meetings/{ID}/minutes/actions/check", {}, "403 403 403 403 404 404 403 403"),
    ("GET", f"/v1/meetings/{ID}/minutes", None, "403 404 404 404 404 404 404 403"),
    ("GET", f"/v1/meetings/{ID}/minutes.docx", None, "403 404 404 404 404 404 404 403"),
    ("GET", f"/v1/meetings/{ID}/minutes.pdf", None, "403 404 404 404 404 404 404 403"),
    ("GET", "/v1/precedents", None, "403 200 200 200 200 200 200 403"),
    ("GET", f"/v1/precedents/{ID}", None, "403 404 404 404 404 404 404 403"),
    ("POST", f"/v1/precedents/{ID}/actions/limit", {"valid_until": "2030-01-01", "reason": "x"},
     "403 403 403 403 404 404 403 403"),
    ("POST", f"/v1/precedents/{ID}/actions/withdraw", {"reason": "x"}, "403 403 403 403 404 404 403 403"),
    ("POST", f"/v1/precedents/{ID}/proposals", {"kind": "rule", "target": "business_development", "text": "x"},
     "403 403 403 404 404 404 403 404"),
    ("GET", "/v1/precedents/proposals", None, "403 403 403 200 200 200 403 200"),
    ("POST", f"/v1/precedents/proposals/{ID}/decision", {"decision": "refuse", "reason": "x"},
     "403 403 403 403 404 403 403 404"),
    ("GET", f"/v1/measures/{ID}", None, "403 404 404 404 404 404 404 403"),
    ("GET", "/v1/meetings", None, "403 200 200 200 200 200 200 403"),
    ("POST", "/v1/meetings", {}, "403 403 403 403 403 422 403 403"),
    ("GET", f"/v1/meetings/{ID}", None, "403 404 404 404 404 404 404 403"),
    ("POST", f"/v1/meetings/{ID}/actions/notify", {}, "403 403 403 403 403 404 403 403"),
    ("POST", f"/v1/meetings/{ID}/actions/acknowledge", {}, "403 404 404 403 403 403 403 403"),
    ("GET", "/v1/studies", None, "403 200 200 200 200 200 200 403"),
    ("GET", "/v1/studies/clusters", None, "403 403 403 200 200 200 200 403"),
    ("POST", "/v1/studies", {}, "403 403 403 403 403 422 403 403"),
    ("GET", f"/v1/studies/{ID}", None, "403 404 404 404 404 404 404 403"),
    ("POST", f"/v1/studies/{ID}/close", {}, "403 403 403 403 403 422 403 403"),
    ("GET", "/v1/notices", None, ALL),
    ("GET", "/v1/timers", None, "403 403 403 200 200 403 200 200"),
    ("GET", "/v1/timers?state=due", None, "403 403 403 200 200 403 200 200"),
    ("POST", "/v1/timers/{clock}/requeue", {}, "403 403 403 409 409 403 403 409"),
    ("POST", f"/v1/timers/{ID}/requeue", {}, "403 403 403 404 404 403 403 404"),
    ("POST", "/v1/timers/gate/release", {"reason": "x"}, "403 403 403 403 403 403 403 200"),
    ("POST", "/v1/tickets/batch", {}, "415 403 403 403 403 403 403 403"),
    ("GET", "/v1/events", None, "200 200 200 200 200 200 200 403"),
    ("POST", "/v1/webhooks", {}, "422 403 403 403 403 403 403 422"),
    ("GET", "/v1/webhooks", None, "200 403 403 403 403 403 403 200"),
    ("GET", f"/v1/webhooks/{ID}", None, "404 403 403 403 403 403 403 404"),
    ("DELETE", f"/v1/webhooks/{ID}", None, "404 403 403 403 403 403 403 404"),
    ("POST", f"/v1/webhooks/{ID}/replay", {}, "404 403 403 403 403 403 403 404"),
    ("GET", "/v1/reconciliation?system=jn12345&date=2026-11-23", None, "200 403 403 200 200 403 200 403"),
    ("POST", "/v1/tickets/{ticket}/corrections", {}, "422 403 403 403 403 403 403 403"),
    ("GET", "/v1/tickets/{ticket}/corrections", None, "200 403 403 403 403 403 403 403"),
    ("GET", "/v1/quarantine", None, "403 403 403 200 200 403 200 403"),
    ("POST", "/v1/quarantine/{ticket}/fix", {"means": "invoice", "reason": "x"}, "403 403 403 409 409 403 403 403"),
    ("GET", "/v1/enterprises", None, "200 403 403 200 200 200 200 403"),
    ("GET", f"/v1/enterprises/{ID}", None, "404 403 403 404 404 404 404 403"),
    ("GET", "/v1/incidents", None, "403 403 403 200 200 200 200 403"),
    ("GET", f"/v1/incidents/{ID}", None, "403 403 403 404 404 404 404 403"),
    ("POST", "/v1/tickets/{ticket}/reveal", {"reason": "x"}, "200 403 403 200 200 200 200 403"),
    ("GET", "/v1/tickets/{ticket}/recusals", None, "403 403 403 200 200 403 200 403"),
    ("POST", "/v1/tickets/{ticket}/recusals", {"subject": "nobody"}, "422 422 422 422 422 422 403 403"),
    ("POST", "/v1/tickets/{ticket}/recusals/person:nobody/lift", {"reason": "x"}, "403 403 404 404 404 403 403 403"),
    ("POST", "/v1/departments/tax/changes", {}, "403 403 403 403 422 403 403 422"),
    ("GET", "/v1/departments/tax/changes", None, "403 403 403 403 200 403 403 200"),
    ("POST", "/v1/users/nobody/leave", {"reason": "x"}, "403 403 403 200 200 403 403 200"),
    ("GET", "/v1/rosters", None, ALL),
    ("POST", "/v1/rosters", {}, "403 403 403 422 422 403 403 422"),
    ("DELETE", f"/v1/rosters/{ID}", None, "403 403 403 404 404 403 403 404"),
    ("GET", "/v1/workflows", None, ALL),
    ("POST", "/v1/workflows", {}, WRITE),
    ("GET", "/v1/workflows/consultation", None, ALL),
    ("GET", "/v1/workflows/consultation/versions/1", None, ALL),
    ("GET", "/v1/workflows/consultation/diff", None, ALL),
    ("POST", "/v1/workflows/consultation/retire", {}, WRITE),
    ("POST", "/v1/workflows/consultation/migrations", {}, WRITE),
    ("GET", "/v1/workflows/migrations", None, "403 403 403 200 200 403 200 200"),
    ("GET", f"/v1/workflows/migrations/{ID}", None, "403 403 403 404 404 403 404 404"),
    ("GET", f"/v1/workflows/migrations/{ID}/tickets", None, "403 403 403 404 404 403 404 404"),
    ("POST", f"/v1/workflows/migrations/{ID}/retry", {}, "403 403 403 403 404 403 403 404"),
    ("POST", f"/v1/workflows/migrations/{ID}/undo", {"reason": "x"}, "403 403 403 403 404 403 403 404"),
    ("POST", "/v1/workflows/consultation/simulate", {}, "403 403 403 403 200 403 403 403"),
    ("GET", "/v1/workflows/consultation/diagram.svg", None, ALL),
    ("GET", "/v1/workflows/consultation/diagram.mmd", None, ALL),
    ("POST", "/v1/workflows/check", {"workflow": {}}, "403 403 403 422 422 403 403 422"),
    ("GET", "/v1/departments", None, ALL),
    ("GET", "/v1/matters", None, ALL),
    ("GET", "/v1/calendars", None, ALL),
    ("POST", "/v1/calendars", {}, "403 403 403 403 403 403 403 422"),
    ("GET", "/v1/calendars/cn-jinan", None, ALL),
    ("GET", "/v1/calendars/cn-jinan/years/2026", None, ALL),
    ("DELETE", "/v1/calendars/cn-jinan", None, "403 403 403 403 403 403 403 409"),
    ("GET", "/v1/clocks?provisional=true", None, "200 200 200 200 200 200 200 403"),
    ("POST", "/v1/routing/try", {"title": "发票"}, ALL),
    ("GET", "/v1/reports/routing", None, "403 403 403 200 200 403 200 200"),
    ("GET", "/v1/routing/proposals", None, "403 403 403 200 200 403 200 200"),
    ("POST", "/v1/routing/proposals", {}, "403 403 403 422 422 403 403 422"),
    ("POST", f"/v1/routing/proposals/{ID}/decision", {"decision": "refuse", "reason": "x"}, "403 403 403 403 403 403 403 404"),
    ("GET", "/v1/sandbox/clock", None, ALL),
    ("POST", "/v1/sandbox/clock", {}, "422 422 422 422 422 422 422 422"),
]  # fmt: skip
OPEN_TO_ALL = [("GET", WHAT_IF), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/v1/oauth/jwks")]


class Scene:
    def __init__(self, city: City, names: dict[str, str], expired: str) -> None:
        self.city, self.names, self.expired = city, names, expired

    def fill(self, value: Any) -> Any:
        if isinstance(value, str):
            for name, text in self.names.items():
                value = value.replace("{" + name + "}", text)
            return value
        if isinstance(value, dict):
            return {k: self.fill(v) for k, v in value.items()}
        return [self.fill(v) for v in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
async def scene(shared_city: City, issuer: BuiltinIssuer) -> Scene:
    made = await shared_city.ticket()
    await shared_city.act(made["id"], "accept", "handler:tax")
    raised = await shared_city.act(made["id"], "escalate", "handler:tax", reason="难")
    past = clock.wall_now() - timedelta(hours=2)
    return Scene(
        shared_city,
        {
            "ticket": made["id"],
            "number": made["number"],
            "clock": made["clocks"][0]["id"],
            "review": raised["review"]["id"],
        },
        issuer.issue("late", Role.DISPATCHER, (), 60, past),
    )


@pytest.mark.parametrize(("method", "path", "body", "expected"), TABLE, ids=[f"{m} {p}" for m, p, _, _ in TABLE])
async def test_each_role_gets_on_each_route_what_the_table_says(
    scene: Scene, method: str, path: str, body: Any, expected: str
) -> None:
    path, body = scene.fill(path), scene.fill(body)
    sent = {} if body is None else {"json": body}
    got = [(await scene.city.request(method, path, who, **sent)).status_code for who in WHO]
    assert " ".join(map(str, got)) == expected
    bad_tokens = [
        None,
        f"Bearer {scene.expired}",
        "Bearer x.y.z",
        "Bearer ",
        "Basic eDp5",
        scene.city.token("dispatcher"),
    ]
    for bad in bad_tokens:
        headers = {} if bad is None else {"Authorization": bad}
        answer = await scene.city.request(method, path, None, headers=headers, **sent)
        assert answer.status_code == 401, bad
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("method", "path"), OPEN_TO_ALL)
async def test_what_is_open_to_all_needs_no_token(scene: Scene, method: str, path: str) -> None:
    assert (await scene.city.request(method, path, None)).status_code == 200


async def test_every_route_stands_in_the_table(scene: Scene) -> None:
    import re

    document = (await scene.city.get("/openapi.json", None)).json()
    listed = {(m, p.partition("?")[0]) for m, p, _, _ in TABLE} | {(m, p.partition("?")[0]) for m, p in OPEN_TO_ALL}
    elsewhere = {("POST", "/v1/oauth/token")}  # its own tests
    missing = []
    for path, operations in document["paths"].items():
        pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
        for method in (m.upper() for m in operations):
            found = any(m == method and pattern.fullmatch(p) for m, p in listed | elsewhere)
            if not found and not path.startswith("/v1/reports"):
                missing.append(f"{method} {path}")
    assert missing == []


FOREIGN = [
    ("GET", "/v1/tickets/{}", None), ("GET", "/v1/tickets/{}/events", None), ("GET", "/v1/tickets/{}/actions", None),
    ("GET", "/v1/tickets/{}/events?limit=1", None), ("GET", "/v1/tickets/{}/clocks/{clock}/explanation", None),
    ("GET", "/v1/tickets/{}/clocks/x/explanation", None),
    *[("POST", "/v1/tickets/{}/actions/" + action, form) for action, form in (
        ("comment", {"text": "x"}), ("comment", {}), ("accept", {}), ("dispatch", {"department": "water"}),
        ("submit_reply", {"public_reply": "x"}), ("nothing", {}), ("assign", {"assignee": "x"}),
    )],
    ("POST", "/v1/tickets/{}/contact/reveal", {"reason": "x"}), ("POST", "/v1/reviews", {"ticket": "{}", "reason": "x"}),
]  # fmt: skip


@pytest.mark.parametrize("name", ["ticket", "number"])
@pytest.mark.parametrize(("method", "path", "body"), FOREIGN)
async def test_another_departments_ticket_is_byte_for_byte_an_absent_one(
    scene: Scene, name: str, method: str, path: str, body: Any
) -> None:
    absent = {"ticket": ID, "number": "QY202001010000001"}[name]
    answers = []
    for ref in (scene.names[name], absent):
        filled = scene.fill(path).replace("{}", ref)
        form = {k: v.replace("{}", ref) for k, v in body.items()} if body else body
        sent = {} if body is None else {"json": form, "headers": {"If-Match": '"9"', "Idempotency-Key": "k" + ref}}
        answers.append(await scene.city.request(method, filled, "handler:water", **sent))
    foreign, nothing = answers
    assert foreign.status_code == nothing.status_code == 404
    assert foreign.content == nothing.content
    assert dict(foreign.headers) == dict(nothing.headers)


@pytest.mark.parametrize(
    "action", ["screen", "request_opinions", "give_opinion", "pass_gate", "schedule", "decide", "reply", "withdraw"]
)
async def test_another_departments_review_is_byte_for_byte_an_absent_one(scene: Scene, action: str) -> None:
    form = {
        "screen": {"decision": "accept"}, "request_opinions": {"departments": ["water"]},
        "give_opinion": {"position": "agree"}, "decide": {"decision": "refuse", "text": "x"}, "withdraw": {"reason": "x"},
        "pass_gate": {"gate": "recusal"}, "schedule": {}, "reply": {},
    }[action]  # fmt: skip
    answers = [
        await scene.city.post(f"/v1/reviews/{ref}/actions/{action}", form, "handler:water")
        for ref in (scene.names["review"], ID)
    ]
    assert answers[0].status_code == answers[1].status_code == 404
    assert answers[0].content == answers[1].content
    shown = [await scene.city.get(f"/v1/reviews/{ref}", "handler:water") for ref in (scene.names["review"], ID)]
    assert shown[0].content == shown[1].content


async def test_lists_of_another_department_hold_nothing_of_it(scene: Scene) -> None:
    lists = ("queue", "tickets", "approvals", "reviews", "measures", "meetings", "studies")
    for path in (f"/v1/{name}" for name in lists):
        answer = await scene.city.get(path, "handler:water")
        assert answer.json()["items"] == [], path
    mine = (await scene.city.get("/v1/queue", "handler:tax,water")).json()["items"]
    assert [row["id"] for row in mine] == [scene.names["ticket"]], "of one who works for both"
    known = await scene.city.get("/v1/tickets", "handler:water", params={"source_system": "jn12345"})
    assert known.json()["items"] == []


async def test_a_reveal_shows_the_whole_contact_and_is_an_event_and_an_entry_of_the_audit(city: City) -> None:
    t = (await city.ticket(contact={"name": "王小明", "phone": "13800001234"}))["id"]
    answer = await city.post(f"/v1/tickets/{t}/contact/reveal", {"reason": "回访前核实"}, "li@handler:tax")
    assert answer.json() == {"contact": {"name": "王小明", "phone": "13800001234", "role": "会计"}}
    event = (await city.get(f"/v1/tickets/{t}/events")).json()["items"][-1]
    assert (event["type"], event["data"]) == ("contact.revealed", {"reason": "回访前核实"})
    assert event["actor"]["subject"] == "li@handler:tax"
    connection = await asyncpg.connect(**connect_arguments(city.dsn))
    try:
        rows = await connection.fetch(
            "SELECT actor ->> 'subject', data ->> 'reason' FROM audit WHERE ticket_id = $1", t
        )
    finally:
        await connection.close()
    assert [tuple(row) for row in rows] == [("li@handler:tax", "回访前核实")]
    refused = await city.post(f"/v1/tickets/{t}/contact/reveal", {"reason": "x"}, "handler:water")
    assert refused.status_code == 404
    assert (await city.show(t))["version"] == 2, "who may not look leaves no event"


async def test_nobody_decides_or_audits_his_own_request(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "request_return", "handler:tax", ground="not_our_duty", reason="x")
    [asked] = (await city.get("/v1/approvals")).json()["items"]
    both = await city.post(f"/v1/approvals/{asked['id']}/decision", {"decision": "approve"}, "handler:tax")
    assert both.status_code == 403


async def test_the_test_clock_does_not_exist_outside_a_sandbox(dsn: str, issuer: BuiltinIssuer) -> None:
    from service.api.app import create_app

    paths = create_app(lambda: None, with_sandbox=False).openapi()["paths"]
    assert not [p for p in paths if "sandbox" in p]
