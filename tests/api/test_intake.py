"""POST /v1/tickets as the hotline sees it: taken once, whatever is repeated, wrong or broken on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from stdnum.cn import uscc

from service import clock
from service.api.schemas import NewTicket
from service.core.model import Actor, Role
from service.db.session import connect_arguments
from service.usecases import intake
from service.usecases.answers import Call, digest_of
from tests.conftest import KEY, UNROUTED, City, Vault, opened_house, request_body


@asynccontextmanager
async def database(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        yield connection
    finally:
        await connection.close()


async def count(dsn: str, table: str) -> int:
    async with database(dsn) as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))


async def post(city: City, body: dict[str, Any], key: str | None = None, who: str = "hotline") -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await city.post("/v1/tickets", body, who, headers=headers)


def codes(ticket: dict[str, Any]) -> set[str]:
    """Warnings about what was sent; the tests of this module post the same request of the same firm again and again."""
    return {w["code"] for w in ticket["warnings"]} - {"similar_request"}


# --- taken -----------------------------------------------------------------------------------------------------------


async def test_a_new_request_is_created_with_location_and_etag(shared_city: City) -> None:
    body = request_body(extra={"n": [1, 2.5, None, True, "文"]}, project={"name": "三期厂房", "code": "P-1"})
    answer = await post(shared_city, body)
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["location"] == f"/v1/tickets/{made['id']}"
    assert answer.headers["etag"] == f'"{made["version"]}"'
    assert answer.headers["content-type"] == "application/json"
    found = await shared_city.get(answer.headers["location"])
    assert found.status_code == 200
    assert found.headers["etag"] == answer.headers["etag"]
    by_number = await shared_city.get(f"/v1/tickets/{made['number']}")
    assert (by_number.json()["id"], found.json()["id"]) == (made["id"], made["id"])
    for name in ("domain", "matter", "title", "description", "enterprise", "extra", "project"):
        assert made[name].items() >= body[name].items() if isinstance(made[name], dict) else made[name] == body[name]
    assert made["source"]["reference"] == body["source"]["reference"]
    assert made["created_at"].endswith("+08:00")
    assert made["number"].startswith("QY") and len(made["number"]) == 17
    assert (made["stage"], made["phase"], made["round"], made["lead"]["department"]) == (
        "accepting", "acceptance", 1, "tax",
    )  # fmt: skip
    assert {c["name"] for c in made["clocks"]} == {"resolve", "accept", "contact", "opinion"}
    nearest = min(c["due_at"] for c in made["clocks"])
    assert made["due_at"] == nearest


async def test_the_contracts_own_example_is_taken(shared_city: City) -> None:
    body = {
        "source": {
            "system": "jn12345", "reference": "2026112300012345", "channel": "phone",
            "received_at": "2026-11-23T09:12:00+08:00",
        },
        "domain": "project_landing", "request_type": "help", "matter": "land_use",
        "title": "…", "description": "…", "urgency": "normal", "confidential": False, "reply_required": True,
        "enterprise": {"name": "…", "uscc": "91370100…", "district": "370102", "industry": "C39", "tier": "key"},
        "contact": {"name": "…", "phone": "…", "role": "…"},
        "location": {"district": "370112", "address": "…"},
        "project": {"name": "…", "code": "…"}, "extra": {},
    }  # fmt: skip
    made = await post(shared_city, body)
    assert made.status_code == 201, made.text
    ticket = made.json()
    assert codes(ticket) == {"invalid_uscc"}
    fields = {
        "id", "number", "stage", "stage_title", "phase", "round", "workflow", "lead", "co_handlers", "due_at",
        "due_clock", "provisional", "clocks", "cards", "outcome", "warnings", "created_at", "updated_at", "version",
    }  # fmt: skip
    assert fields | set(body) <= set(ticket)
    clock_fields = {
        "id", "name", "title", "measure", "budget", "state", "started_at", "due_at", "held_at", "ended_at", "used",
        "warnings",
    }  # fmt: skip
    assert all(clock_fields <= set(c) for c in ticket["clocks"])


async def test_only_the_required_fields_are_needed(shared_city: City) -> None:
    body = {
        "source": {"system": "jn12345", "reference": "r1"}, "title": "问", "description": "怎么办理社保登记",
        "enterprise": {"name": "某公司"},
    }  # fmt: skip
    made = await post(shared_city, body)
    assert made.status_code == 201, made.text
    ticket = made.json()
    assert (ticket["urgency"], ticket["confidential"], ticket["reply_required"]) == ("normal", False, True)
    assert ticket["contact"] is None
    assert "domain_inferred" in codes(ticket)
    assert ticket["source"]["received_at"] == ticket["created_at"]


# --- repeated --------------------------------------------------------------------------------------------------------


async def test_a_known_reference_with_the_same_content_answers_200_and_the_ticket(city: City) -> None:
    body = request_body()
    made = (await post(city, body)).json()
    await city.act(made["id"], "accept", "handler:tax")
    shuffled = json.loads(json.dumps(body, sort_keys=True))
    again = await post(city, shuffled)
    assert again.status_code == 200
    assert again.json()["id"] == made["id"]
    assert again.json()["stage"] == "handling", "the ticket as it is now"
    assert again.headers["location"] == f"/v1/tickets/{made['id']}"
    assert again.headers["etag"] == '"2"'
    assert await count(city.dsn, "tickets") == 1


async def test_a_known_reference_with_other_content_is_a_conflict_that_names_the_ticket(shared_city: City) -> None:
    body = request_body()
    made = (await post(shared_city, body)).json()
    other = await post(shared_city, {**body, "title": "另一件事"})
    assert other.status_code == 409
    problem = other.json()
    assert problem["type"] == "/problems/duplicate-reference"
    assert problem["ticket"] == {"id": made["id"], "number": made["number"]}
    assert made["number"] in problem["detail"]
    assert other.headers["content-type"] == "application/problem+json"
    elsewhere = await post(shared_city, {**body, "title": "另一件事", "source": {**body["source"], "system": "wx"}})
    assert elsewhere.status_code == 201, "a reference is unique within its system only"


@pytest.mark.parametrize("quoted", [False, True])
async def test_the_same_key_and_body_give_the_same_bytes_again(city: City, quoted: bool) -> None:
    body, key = request_body(), "9b2e-1 x"
    first = await post(city, body, f'"{key}"' if quoted else key)
    assert first.status_code == 201
    assert "idempotent-replayed" not in first.headers
    await city.act(first.json()["id"], "accept", "handler:tax")
    again = await post(city, json.loads(json.dumps(body, sort_keys=True)), key if quoted else f'"{key}"')
    assert again.status_code == 201
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    for name in ("location", "etag", "content-type"):
        assert again.headers[name] == first.headers[name]


async def test_the_same_key_with_another_body_is_refused(city: City) -> None:
    assert (await post(city, request_body(), "k")).status_code == 201
    refused = await post(city, request_body(), "k")
    assert refused.status_code == 422
    assert refused.json()["type"] == "/problems/idempotency-key-reused"
    assert await count(city.dsn, "tickets") == 1


async def test_a_kept_answer_is_also_that_of_a_known_reference(city: City) -> None:
    body = request_body()
    made = (await post(city, body)).json()
    first = await post(city, body, "k")
    assert first.status_code == 200
    await city.act(made["id"], "accept", "handler:tax")
    again = await post(city, body, "k")
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert (await post(city, request_body(), "k")).status_code == 422


async def test_a_refused_request_does_not_use_up_its_key(city: City) -> None:
    body = request_body()
    assert (await post(city, {**body, "unknown": 1}, "k")).status_code == 422
    assert (await post(city, body, "k")).status_code == 201
    assert (await post(city, {**body, "title": "另一件事"}, "k2")).status_code == 409
    assert (await post(city, request_body(), "k2")).status_code == 201


async def test_a_key_belongs_to_its_client(city: City) -> None:
    body = request_body()
    assert (await post(city, body, "k", "one@hotline")).status_code == 201
    assert (await post(city, request_body(), "k", "two@hotline")).status_code == 201
    mine = await post(city, body, "k", "one@hotline")
    assert mine.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("key", ["x", "x" * 255, "a b", "~!@#$%^&*()", '"' + "y" * 255 + '"'])
async def test_a_key_of_1_to_255_printable_characters_is_taken(city: City, key: str) -> None:
    assert (await post(city, request_body(), key)).status_code == 201


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "a\tb", b"\xe4\xb8\xad", b"a\x7fb"])
async def test_any_other_key_is_refused(city: City, key: str | bytes) -> None:
    name: Any = "Idempotency-Key" if isinstance(key, str) else b"Idempotency-Key"
    token = f"Bearer {city.token('hotline')}"
    headers: Any = [(name, key), ("Authorization", token)] if isinstance(key, str) else [
        (name, key), (b"Authorization", token.encode())
    ]  # fmt: skip
    refused = await city.http.post("/v1/tickets", json=request_body(), headers=headers)
    assert refused.status_code == 400, refused.text
    assert refused.json()["type"] == "/problems/malformed-request"
    assert await count(city.dsn, "tickets") == 0


async def test_kept_answers_are_encrypted_at_rest(city: City) -> None:
    await post(city, request_body(), "k")
    async with database(city.dsn) as connection:
        row = await connection.fetchrow("SELECT * FROM idempotency")
    assert "发票".encode() not in bytes(row["answer"])
    assert b"number" not in bytes(row["answer"])


# --- warnings, never refusals ----------------------------------------------------------------------------------------


async def test_an_unknown_matter_is_a_warning(shared_city: City) -> None:
    ticket = await shared_city.ticket(matter="no_such_matter")
    assert "unknown_matter" in codes(ticket)
    assert ticket["warnings"][0].keys() == {"code", "pointer", "detail"}


@pytest.mark.parametrize("given", ["91370100MA3C0000X9", "1", "统一", "91370100MA3C0000X", "9" * 19])
async def test_a_wrong_credit_code_is_a_warning_and_kept_as_given(shared_city: City, given: str) -> None:
    ticket = await shared_city.ticket(enterprise={"uscc": given})
    assert codes(ticket) == {"invalid_uscc"}
    assert ticket["enterprise"]["uscc"] == given


def fullwidth(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) for c in text)


async def test_a_credit_code_is_folded_before_it_is_checked(city: City) -> None:
    base = "91370000MA3D5W8M3"
    code = base + uscc.calc_check_digit(base)
    good = [code, code.lower(), fullwidth(code), f" {code[:8]} {code[8:]}\u3000"]
    for form in good:
        ticket = await city.ticket(enterprise={"uscc": form})
        assert codes(ticket) == set(), form
    async with database(city.dsn) as connection:
        stored = await connection.fetch("SELECT uscc FROM enterprises")
    assert [row["uscc"] for row in stored] == [code], "one firm, however its code was written"


async def test_an_unknown_district_is_a_warning(shared_city: City) -> None:
    ticket = await shared_city.ticket(location={"district": "110101"}, enterprise={"district": "999999"})
    pointers = {w["pointer"] for w in ticket["warnings"] if w["code"] == "unknown_district"}
    assert pointers == {"/location/district", "/enterprise/district"}


async def test_a_missing_domain_is_inferred_with_a_warning(shared_city: City) -> None:
    ticket = await shared_city.ticket(domain=None)
    assert ticket["domain"] in {
        "consultation", "project_landing", "business_development", "government_service", "complaint_report",
    }  # fmt: skip
    assert codes(ticket) == {"domain_inferred"}


async def test_a_time_in_the_future_counts_as_now(shared_city: City) -> None:
    ahead = (clock.wall_now() + timedelta(hours=3)).isoformat()
    ticket = await shared_city.ticket(source={"received_at": ahead})
    assert codes(ticket) == {"received_in_future"}
    assert ticket["source"]["received_at"] == ticket["created_at"]
    resolve = next(c for c in ticket["clocks"] if c["name"] == "resolve")
    assert resolve["started_at"] == ticket["created_at"]


async def test_an_ancient_time_is_clamped_to_the_oldest_allowed(shared_city: City) -> None:
    ticket = await shared_city.ticket(source={"received_at": "1999-01-01T00:00:00Z"})
    assert codes(ticket) == {"received_long_ago"}
    oldest = datetime.fromisoformat(ticket["created_at"]) - timedelta(days=30)
    assert datetime.fromisoformat(ticket["source"]["received_at"]) == oldest


async def test_the_hotlines_own_time_starts_the_enterprises_clock(shared_city: City) -> None:
    earlier = clock.wall_now() - timedelta(days=3)
    ticket = await shared_city.ticket(source={"received_at": earlier.isoformat()})
    assert codes(ticket) == set()
    started = {c["name"]: datetime.fromisoformat(c["started_at"]) for c in ticket["clocks"]}
    assert started["resolve"] == earlier
    assert started["accept"] == datetime.fromisoformat(ticket["created_at"])


async def test_an_unrouted_request_waits_for_the_dispatcher_with_its_clocks_running(city: City) -> None:
    ticket = await city.ticket(**UNROUTED)
    assert (ticket["stage"], ticket["phase"], ticket["lead"]) == ("dispatching", "dispatch", None)
    assert "not_routed" in codes(ticket)
    assert {c["name"]: c["state"] for c in ticket["clocks"]} == {"resolve": "running", "dispatch": "running"}
    queue = (await city.get("/v1/queue", params={"phase": "dispatch"})).json()["items"]
    assert [row["id"] for row in queue] == [ticket["id"]]


async def test_a_request_that_two_units_may_lead_tells_the_dispatcher_both(shared_city: City) -> None:
    text = {
        "title": "污水厂提高标准俺们排不进去了",
        "description": "园区污水厂说进水标准从十月起收紧，俺们加设备得六十来万，能不能几家小厂合着建一个预处理站。",
    }
    tried = (await shared_city.post("/v1/routing/try", text)).json()
    assert tried["lead"] is None and set(tried["nearest"]) == {"ecology_environment", "water"}
    ticket = await shared_city.ticket(**text, domain=None, matter=None)
    told = next(w["detail"] for w in ticket["warnings"] if w["code"] == "not_routed")
    assert told == f"not sure enough: {' or '.join(tried['nearest'])}; in the dispatcher's queue"


async def test_a_request_that_says_nothing_of_any_rule_goes_to_the_dispatcher(shared_city: City) -> None:
    ticket = await shared_city.ticket(
        domain="consultation", matter=None, title="想反映情况", description="说不清楚",
        enterprise={"district": None, "industry": None},
    )  # fmt: skip
    assert ticket["lead"] is None


async def test_an_emergency_has_its_own_workflow_and_hours(shared_city: City) -> None:
    ticket = await shared_city.ticket(urgency="emergency")
    assert ticket["workflow"]["key"] == "emergency"
    by_name = {c["name"]: c for c in ticket["clocks"]}
    assert (by_name["contact"]["measure"], by_name["contact"]["budget"]) == ("natural_hours", "PT1H")
    accept = by_name["accept"]
    took = datetime.fromisoformat(accept["due_at"]) - datetime.fromisoformat(accept["started_at"])
    assert took == timedelta(minutes=30)


# --- personal data ---------------------------------------------------------------------------------------------------


async def test_the_contact_is_masked_everywhere_and_encrypted_at_rest(city: City) -> None:
    secret_name, secret_phone = "欧阳测试人", "13987654321"
    contact = {"name": secret_name, "phone": secret_phone, "role": "法人"}
    answer = await post(city, request_body(contact=contact), "k")
    made = answer.json()
    assert made["contact"] == {"name": "欧**", "phone": "139****4321", "role": "法人"}
    seen = [answer.text]
    for path in ("", "/events", "/actions", f"/clocks/{made['clocks'][0]['id']}/explanation"):
        readers = ("hotline", "dispatcher", "handler:tax", "supervisor", "auditor", "reviewer")
        seen += [(await city.get(f"/v1/tickets/{made['id']}{path}", who)).text for who in readers]
    seen += [(await city.get(path)).text for path in ("/v1/queue", "/v1/tickets")]
    seen.append((await city.post(f"/v1/tickets/{made['id']}/actions/accept", {}, "handler:tax")).text)
    async with database(city.dsn) as connection:
        for table in ("tickets", "events", "outbox", "audit", "enterprises", "idempotency", "assignments", "clocks"):
            seen += [str(row[0]) for row in await connection.fetch(f"SELECT to_jsonb(t)::text FROM {table} t")]
        sealed = bytes(await connection.fetchval("SELECT contact FROM tickets"))
    for text in seen:
        assert secret_name not in text
        assert secret_phone not in text
    for hidden in (secret_name, secret_phone):
        assert hidden.encode() not in sealed
    assert Vault(KEY).open(sealed, f"contact/{made['id']}") == contact
    with pytest.raises(ValueError, match="does not open"):
        Vault(KEY).open(sealed, f"contact/{clock.new_id()}")


# --- one transaction -------------------------------------------------------------------------------------------------


async def test_an_intake_takes_three_round_trips_besides_begin_and_commit(dsn: str) -> None:
    async with opened_house(dsn, size=1) as house:
        told: list[str] = []

        async def take(body: dict[str, Any]) -> None:
            parsed = NewTicket.model_validate_json(json.dumps(body))
            call = Call("POST /v1/tickets", clock.new_id(), digest_of(body))
            answer = await intake.accept(house, Actor("jn12345", Role.HOTLINE), parsed.model_dump(), call)
            assert answer.status == 201

        for _ in range(2):  # a connection asks once what the types are that it has not met yet
            await take(request_body())
        async with house.db.pool.acquire() as connection:
            connection.add_query_logger(lambda record: told.append(record.query.strip()))
        for body in (request_body(), request_body(enterprise={"name": "新来的公司"}), request_body(matter=None)):
            told.clear()
            await take(body)
            work = [sql for sql in told if not sql.startswith(("BEGIN", "COMMIT"))]
            assert 2 <= len(work) <= 3, told
            assert [sql for sql in told if sql.startswith("COMMIT")], "the logger saw the transaction"


async def test_when_the_commit_fails_nothing_is_acknowledged_and_nothing_stored(city: City) -> None:
    tables = ("tickets", "events", "clocks", "assignments", "rounds", "outbox", "enterprises", "idempotency", "audit")
    before = {table: await count(city.dsn, table) for table in tables}
    async with database(city.dsn) as connection:
        await connection.execute(
            """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN RAISE EXCEPTION 'the disk is gone' USING ERRCODE = 'disk_full'; END $$;
               CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION refuse();"""
        )
    body = request_body()
    failed = await post(city, body, "k")
    assert failed.status_code == 503
    assert failed.headers["retry-after"] == "1"
    assert failed.headers["content-type"] == "application/problem+json"
    assert "disk" not in failed.text
    assert {table: await count(city.dsn, table) for table in tables} == before
    async with database(city.dsn) as connection:
        await connection.execute("DROP TRIGGER refuse ON events")
    assert (await post(city, body, "k")).status_code == 201, "the same request again, once the fault is gone"


async def test_any_other_failing_commit_is_an_error_without_its_inside(city: City) -> None:
    async with database(city.dsn) as connection:
        await connection.execute(
            """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN RAISE EXCEPTION 'secret inside'; END $$;
               CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON clocks DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION refuse();"""
        )
    failed = await post(city, request_body())
    assert failed.status_code == 500
    assert "secret" not in failed.text
    assert await count(city.dsn, "tickets") == 0


# --- at once ---------------------------------------------------------------------------------------------------------


async def test_300_posts_of_one_key_and_reference_at_once_make_one_ticket(city: City) -> None:
    body = request_body()
    answers = await asyncio.gather(*(post(city, body, "one-key") for _ in range(300)))
    statuses = {a.status_code for a in answers}
    assert statuses <= {201, 409, 503}, statuses
    made = [a for a in answers if a.status_code == 201]
    assert len({a.content for a in made}) == 1
    assert sum("idempotent-replayed" not in a.headers for a in made) == 1
    for refused in answers:
        if refused.status_code != 201:
            assert refused.headers["retry-after"]
    assert await count(city.dsn, "tickets") == 1
    assert await count(city.dsn, "idempotency") == 1
    assert await count(city.dsn, "events") == 1


async def test_posts_of_one_reference_without_a_key_at_once_make_one_ticket(city: City) -> None:
    body = request_body()
    answers = await asyncio.gather(*(post(city, body) for _ in range(60)))
    assert sorted({a.status_code for a in answers}) == [200, 201]
    assert sum(a.status_code == 201 for a in answers) == 1
    assert len({a.json()["id"] for a in answers}) == 1
    assert await count(city.dsn, "tickets") == 1


async def test_different_requests_of_one_new_firm_at_once_are_all_taken(city: City) -> None:
    bodies = [request_body(enterprise={"name": "同一家新公司"}) for _ in range(40)]
    answers = await asyncio.gather(*(post(city, body) for body in bodies))
    assert {a.status_code for a in answers} == {201}
    assert len({a.json()["number"] for a in answers}) == 40
    assert await count(city.dsn, "enterprises") == 1


async def test_one_reference_with_two_contents_at_once_gives_one_ticket_and_one_conflict(shared_city: City) -> None:
    body = request_body()
    answers = await asyncio.gather(post(shared_city, body), post(shared_city, {**body, "title": "另一件事"}))
    assert sorted(a.status_code for a in answers) == [201, 409]


async def test_an_unknown_field_is_told_the_fields_that_there_are(shared_city: City) -> None:
    answer = await shared_city.post(
        "/v1/routing/try", {"title": "t", "titel": "t", "enterprise": {"name": "n", "town": "x"}}
    )
    told = {e["pointer"]: e["detail"] for e in answer.json()["errors"]}
    fields = "title, description, domain, matter, urgency, enterprise, location"
    assert told["/titel"] == f"unknown field: remove it; the fields here are: {fields}"
    assert told["/enterprise/town"].startswith("unknown field: remove it; the fields here are: name, uscc, ")
    answer = await shared_city.post("/v1/sandbox/clock", {"seconds": 1}, "admin")
    assert answer.json()["errors"][0]["detail"].endswith("the fields here are: advance_to, advance_by")
