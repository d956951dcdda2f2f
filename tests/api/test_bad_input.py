"""F6: whatever is sent, the answer is a problem that names what is wrong; never a 500, never what was sent."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import City, request_body

NAME, PHONE, CARD = "司马测试君", "13512349876", "370102199001011234"
CANARIES = (NAME, PHONE, CARD)
ID = "01900000-0000-7000-8000-000000000000"
HOTLINE, DISPATCHER, REVIEWER, ADMIN = "hotline", "dispatcher", "reviewer", "admin"
TICKETS = "/v1/tickets"
JSON = {"content-type": "application/json"}


class Raw:
    """JSON text that Python would not write."""

    def __init__(self, text: str) -> None:
        self.text = text


def spell(body: Any) -> bytes:
    """JSON in which each `Raw` stands as it is."""
    raws: list[str] = []

    def put(value: Any) -> str:
        assert isinstance(value, Raw)
        raws.append(value.text)
        return f"@@{len(raws) - 1}@@"

    text = json.dumps(body, default=put, ensure_ascii=False)
    for n, raw in enumerate(raws):
        text = text.replace(f'"@@{n}@@"', raw)
    return text.encode("utf-8", "surrogatepass")


def canary_body() -> dict[str, Any]:
    return request_body(
        title=f"{NAME} 的事", description=f"{NAME} {PHONE} {CARD}", contact={"name": NAME, "phone": PHONE},
        enterprise={"name": f"{NAME}公司"}, extra={"card": CARD},
    )  # fmt: skip


def put(pointer: str, value: Any) -> dict[str, Any]:
    """An otherwise right request with one field set."""
    body = canary_body()
    *path, last = pointer.strip("/").split("/")
    at = body
    for name in path:
        at = at.setdefault(name, {})
    at[last] = value
    return body


TEXT_FIELDS = [
    "/source/system", "/source/reference", "/source/channel", "/request_type", "/matter", "/title", "/description",
    "/enterprise/name", "/enterprise/uscc", "/enterprise/district", "/enterprise/industry", "/enterprise/tier",
    "/contact/name", "/contact/phone", "/contact/role", "/location/district", "/location/address", "/project/name",
    "/project/code",
]  # fmt: skip
WRONG: list[tuple[str, Any]] = [
    *[(field, 12) for field in TEXT_FIELDS],
    *[(field, NAME + "\0" + PHONE) for field in TEXT_FIELDS],
    *[(field, [PHONE]) for field in ("/title", "/contact/phone", "/enterprise/name")],
    *[(field, {"a": PHONE}) for field in ("/title", "/contact/phone", "/source")],
    *[(field, True) for field in ("/title", "/contact/name", "/domain", "/enterprise", "/extra")],
    *[(field, "") for field in ("/title", "/description", "/source/system", "/source/reference", "/enterprise/name")],
    *[(field, NAME) for field in ("/domain", "/urgency", "/confidential", "/source", "/enterprise", "/contact")],
    *[(field, None) for field in ("/title", "/description", "/source", "/enterprise", "/urgency", "/confidential")],
    *[("/confidential", value) for value in (1, 0, "true", "yes", [], 1.0)],
    *[("/reply_required", value) for value in (1, "false", Raw("1e400"))],
    *[("/source/received_at", value) for value in (
        "2026-11-23T09:12:00", "2026-11-23", 1e11, 1764000000, True, "0001-01-01T00:00:00+08:00",
        "9999-12-31T23:59:59-08:00", "1969-12-31T00:00:00Z", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z",
        "24:00", "now", "2026-11-23T09:12:00+99:00", Raw("1e400"), PHONE,
    )],
    ("/title", "长" * 501), ("/description", "长" * 20_001), ("/source/system", "有 空格"), ("/source/system", "a" * 65),
    ("/source/reference", "r" * 129), ("/contact/phone", PHONE * 20), ("/location/address", "a" * 501),
    ("/urgency", "Normal"), ("/urgency", 1), ("/domain", "none"),
    ("/extra/n", Raw("NaN")), ("/extra/n", Raw("1e400")), ("/extra/n", Raw("-1e400")), ("/extra/n", Raw("Infinity")),
    ("/extra/n", Raw("9" * 31)), ("/extra/n", Raw("-" + "9" * 400)), ("/extra/n", f"{PHONE}\0"),
    ("/extra", [1]), ("/extra", "x"), ("/extra", {f"a\0{PHONE}": 1}), ("/extra", {"n": [0] * 1001}),
    ("/extra", {"deep": Raw("[" * 17 + "]" * 17)}), ("/extra", {"deep": Raw('{"a":' * 40 + "1" + "}" * 40)}),
    ("/phone", PHONE), ("/contact/card", CARD), ("/source/received", "x"), ("/enterprise/contact/phone", PHONE),
]  # fmt: skip
"""Field of an intake -> a value that is wrong there; the answer names this field or one above it."""

UNREADABLE: list[tuple[str, bytes]] = [
    ("broken JSON", b'{"title": '),
    ("an open string", f'{{"title": "{PHONE}'.encode()),
    ("a comma too many", b'{"title": "a",}'),
    ("single quotes", b"{'title': 'a'}"),
    ("a comment", b'{"title": "a" /* x */}'),
    ("nothing", b""),
    ("white space", b" \n\t "),
    ("null", b"null"),
    ("an array", b"[]"),
    ("an array of objects", spell([canary_body()])),
    ("a text", json.dumps(PHONE).encode()),
    ("a number", b"1"),
    ("true", b"true"),
    ("a raw NUL", spell(put("/title", Raw('"a\0b"')))),
    ("a raw line feed", spell(put("/title", Raw('"a\nb"')))),
    ("an escaped lone surrogate", spell(put("/title", Raw(r'"\ud800"')))),
    ("a low surrogate first", spell(put("/title", Raw(r'"\udc00\ud800"')))),
    ("a lone surrogate in a name", spell({**canary_body(), "extra": Raw(r'{"\ud800": 1}')})),
    ("a lone surrogate as bytes", spell(put("/title", "\ud800"))),
    ("UTF-8 that is none", b'{"title": "\xff\xfe"}'),
    ("a character cut in two", json.dumps(canary_body(), ensure_ascii=False).encode()[:-9] + b"\xe4"),
    ("UTF-16", json.dumps(canary_body(), ensure_ascii=False).encode("utf-16")),
    ("UTF-16 without a mark", json.dumps(canary_body()).encode("utf-16-le")),
    ("UTF-32", json.dumps(canary_body()).encode("utf-32")),
    ("a byte order mark", b"\xef\xbb\xbf" + json.dumps(canary_body()).encode()),
    ("GBK", json.dumps(canary_body(), ensure_ascii=False).encode("gbk")),
    ("100,000 levels", b"[" * 100_000 + b"]" * 100_000),
    ("20,000 objects deep", b'{"extra":' * 20_000 + b"1" + b"}" * 20_000),
    ("a name twice", spell(canary_body())[:-1] + b', "title": "b"}'),
    ("a name twice below", spell(put("/contact", Raw(f'{{"phone": "{PHONE}", "phone": "2"}}')))),
    ("a name twice in extra", spell(put("/extra", Raw('{"a": [{"b": 1, "b": 1}]}')))),
    ("two documents", spell(canary_body()) * 2),
    ("a form", f"title={PHONE}".encode()),
    ("XML", f"<title>{PHONE}</title>".encode()),
    ("a long number", spell(put("/extra/n", Raw("1" * 5000)))),
]

FORMS: list[tuple[str, str, Any, str | None]] = [
    # who, path, body, pointer
    (DISPATCHER, "/v1/tickets/{t}/actions/comment", {}, None),
    (DISPATCHER, "/v1/tickets/{t}/actions/comment", {"text": 12}, "/text"),
    (DISPATCHER, "/v1/tickets/{t}/actions/comment", {"text": f"{PHONE}\0"}, "/text"),
    (DISPATCHER, "/v1/tickets/{t}/actions/comment", {"text": "x" * 5001}, "/text"),
    (DISPATCHER, "/v1/tickets/{t}/actions/comment", {"text": ""}, "/text"),
    (DISPATCHER, "/v1/tickets/{t}/actions/comment", {"text": "a", "more": PHONE}, None),
    (DISPATCHER, "/v1/tickets/{t}/actions/comment", {"text": "a", "n\0": 1}, None),
    (DISPATCHER, "/v1/tickets/{t}/actions/comment", {"text": Raw("9" * 30)}, "/text"),
    (DISPATCHER, "/v1/tickets/{t}/actions/comment", {"text": Raw("1e400")}, "/text"),
    (DISPATCHER, "/v1/tickets/{t}/actions/comment", {"text": Raw("NaN")}, None),
    (DISPATCHER, "/v1/tickets/{t}/actions/comment", {"text": Raw("[" * 40 + "]" * 40)}, None),
    (DISPATCHER, "/v1/tickets/{t}/actions/comment", {"text": Raw('"a", "text": "b"')}, None),
    (DISPATCHER, "/v1/tickets/{t}/actions/comment", {"text": Raw(r'"\ud800"')}, None),
    (DISPATCHER, "/v1/tickets/{t}/actions/comment", [1], None),
    (DISPATCHER, "/v1/tickets/{t}/actions/comment", Raw("nope"), None),
    (DISPATCHER, "/v1/tickets/{t}/actions/dispatch", {"department": "nobody"}, "/department"),
    (DISPATCHER, "/v1/tickets/{t}/actions/dispatch", {"department": ["tax"]}, "/department"),
    (DISPATCHER, "/v1/tickets/{t}/actions/dispatch", {"department": "tax", "co_handlers": "tax"}, "/co_handlers"),
    (DISPATCHER, "/v1/tickets/{t}/actions/dispatch", {"department": "tax", "co_handlers": [1]}, "/co_handlers/0"),
    (DISPATCHER, "/v1/tickets/{t}/actions/dispatch", {"department": "tax", "co_handlers": ["x"]}, "/co_handlers/0"),
    ("handler:tax", "/v1/tickets/{t}/actions/request_return", {"ground": PHONE, "reason": "x"}, "/ground"),
    ("handler:tax", "/v1/tickets/{t}/actions/log_contact", {"reached": 1}, "/reached"),
    ("handler:tax", "/v1/tickets/{t}/actions/log_contact", {"reached": Raw("1e400")}, "/reached"),
    (DISPATCHER, "/v1/tickets/{t}/contact/reveal", {}, "/reason"),
    (DISPATCHER, "/v1/tickets/{t}/contact/reveal", {"reason": "  "}, "/reason"),
    (DISPATCHER, "/v1/tickets/{t}/contact/reveal", {"reason": f"\0{PHONE}"}, "/reason"),
    (DISPATCHER, "/v1/tickets/{t}/contact/reveal", {"reason": 1}, "/reason"),
    (DISPATCHER, "/v1/queue/actions/comment", {"ids": [], "form": {}}, "/ids"),
    (DISPATCHER, "/v1/queue/actions/comment", {"ids": ["{t}"] * 201}, "/ids"),
    (DISPATCHER, "/v1/queue/actions/comment", {"ids": [1]}, "/ids/0"),
    (DISPATCHER, "/v1/queue/actions/comment", {"ids": ["a\0"]}, "/ids/0"),
    (DISPATCHER, "/v1/queue/actions/comment", {"ids": ["{t}"], "form": {"text": f"{PHONE}\0"}}, "/form"),
    (DISPATCHER, "/v1/queue/actions/comment", {"ids": ["{t}"], "form": {"text": Raw("NaN")}}, "/form"),
    (DISPATCHER, "/v1/queue/actions/comment", {"ids": ["{t}"], "form": []}, "/form"),
    (DISPATCHER, f"/v1/approvals/{ID}/decision", {"decision": "perhaps"}, "/decision"),
    (DISPATCHER, f"/v1/approvals/{ID}/decision", {"decision": "deny", "reason": "\0"}, "/reason"),
    (DISPATCHER, f"/v1/approvals/{ID}/decision", {"decision": True}, "/decision"),
    (DISPATCHER, "/v1/reviews", {"ticket": "{t}"}, "/reason"),
    (DISPATCHER, "/v1/reviews", {"ticket": "{t}", "reason": PHONE * 1000}, "/reason"),
    (DISPATCHER, "/v1/reviews", {"ticket": 1, "reason": "x"}, "/ticket"),
    (DISPATCHER, "/v1/reviews", {"ticket": "{t}", "reason": "x", "kind": PHONE}, "/kind"),
    (REVIEWER, f"/v1/reviews/{ID}/actions/screen", {"decision": "accept", "tier": 4}, "/tier"),
    (REVIEWER, f"/v1/reviews/{ID}/actions/screen", {"decision": "accept", "tier": True}, "/tier"),
    (REVIEWER, f"/v1/reviews/{ID}/actions/screen", {"decision": "accept", "tier": "1"}, "/tier"),
    (REVIEWER, f"/v1/reviews/{ID}/actions/screen", {"decision": "accept", "tier": Raw("9" * 25)}, "/tier"),
    (REVIEWER, f"/v1/reviews/{ID}/actions/request_opinions", {"departments": "tax"}, "/departments"),
    (REVIEWER, f"/v1/reviews/{ID}/actions/request_opinions", {"departments": []}, "/departments"),
    (REVIEWER, f"/v1/reviews/{ID}/actions/decide", {"decision": "approve", "text": "x", "measures": [
        {"title": "a", "department": "tax", "due_on": "2026-02-30"}]}, "/measures/0/due_on"),
    (REVIEWER, f"/v1/reviews/{ID}/actions/decide", {"decision": "approve", "text": "x", "measures": [
        {"title": "a", "department": "tax", "due_on": 20261201}]}, "/measures/0/due_on"),
    (REVIEWER, f"/v1/measures/{ID}/actions/reschedule", {"due_on": "2026-12-01T00:00:00Z", "reason": "x"}, "/due_on"),
    (REVIEWER, f"/v1/measures/{ID}/actions/strike_off", {"waive": "yes"}, "/waive"),
    ("handler:tax", f"/v1/measures/{ID}/actions/submit_evidence", {"evidence": "\0"}, "/evidence"),
    (ADMIN, "/v1/sandbox/clock", {}, ""),
    (ADMIN, "/v1/sandbox/clock", {"advance_by": "PT4H", "advance_to": "2027-01-01T00:00:00Z"}, ""),
    (ADMIN, "/v1/sandbox/clock", {"advance_by": "P999999999D"}, "/advance_by"),
    (ADMIN, "/v1/sandbox/clock", {"advance_by": "P99999999999D"}, "/advance_by"),
    (ADMIN, "/v1/sandbox/clock", {"advance_by": "-PT4H"}, "/advance_by"),
    (ADMIN, "/v1/sandbox/clock", {"advance_by": 5}, "/advance_by"),
    (ADMIN, "/v1/sandbox/clock", {"advance_to": "1990-01-01T00:00:00Z"}, "/advance_to"),
    (ADMIN, "/v1/sandbox/clock", {"advance_to": "9999-12-31T23:59:59-08:00"}, "/advance_to"),
    (ADMIN, "/v1/sandbox/clock", {"advance_to": "2099-12-31T23:59:59Z"}, "/advance_to"),
    (DISPATCHER, "/v1/routing/try", {"title": "\0"}, "/title"),
    (DISPATCHER, "/v1/routing/proposals", {"ticket": "x", "words": ["发\0票"], "reason": "x"}, "/words/0"),
    (DISPATCHER, "/v1/routing/proposals", {"ticket": "x", "words": ["发票"], "reason": "\0"}, "/reason"),
    (DISPATCHER, "/v1/routing/try", {"title": "x", "domain": 1}, "/domain"),
    (DISPATCHER, "/v1/routing/try", {"title": "x", "enterprise": {"name": NAME, "tier": 1}}, "/enterprise/tier"),
    (DISPATCHER, "/v1/oauth/token", {"grant_type": "password"}, "/grant_type"),
    (DISPATCHER, "/v1/oauth/token", {"grant_type": "client_credentials", "client_id": f"a\0{PHONE}",
                                     "client_secret": "x"}, "/client_id"),
    (DISPATCHER, "/v1/oauth/token", {"grant_type": "client_credentials", "client_id": "a"}, "/client_secret"),
    (DISPATCHER, "/v1/oauth/token", [PHONE], None),
]  # fmt: skip


def cursor(place: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


LISTS = ["/v1/queue", "/v1/tickets", "/v1/approvals", "/v1/reviews", "/v1/measures", "/v1/tickets/{t}/events"]
BAD_CURSORS = [
    "x", "=", "中文", "\0", "AAAA", cursor(5.5), cursor({}), cursor([]), cursor([1]), cursor("x"), cursor(True),
    cursor(["2026-01-01", ID]), cursor(["0001-01-01T00:00:00+08:00", ID]), cursor(["9999-12-31T23:59:59-08:00", ID]),
    cursor(["2026-01-01T00:00:00Z", "x"]), cursor(10**12), cursor(-1), cursor(["infinity"]), cursor(None)[:-3] + "!",
    base64.urlsafe_b64encode(b"[" * 5000).decode()[:6000],
]  # fmt: skip
QUERIES: list[tuple[str, str]] = [
    *[(path, f"limit={value}") for path in LISTS for value in ("-1", "0", "201", 10**12, "9" * 30, "1e2", "x", "")],
    *[("/v1/queue", query) for query in (
        "q=%00", "q=a%00b", "q=" + "x" * 201, "department=%00", "assignee=%00", "phase=none", "phase=%00",
        "due_before=2026-11-23", "due_before=2026-11-23T00:00:00", "due_before=0001-01-01T00:00:00%2B08:00",
        "due_before=9999-12-31T23:59:59-08:00", "due_before=1e11x", "due_before=",
    )],
    *[("/v1/tickets", f"{name}=%00") for name in (
        "phase", "domain", "department", "source_system", "source_reference",
    )],
    ("/v1/measures", "department=%00"), ("/v1/measures", "state=x"), ("/v1/reviews", "kind=x"),
    ("/v1/reviews", "state=%00"), ("/v1/approvals", "state=x"), ("/v1/approvals", "kind=%00"),
    *[("/v1/clocks/what-if", query) for query in (
        "", "anchor=x&measure=working_hours&budget=PT4H",
        "anchor=2026-11-23T09:00:00&measure=working_hours&budget=PT4H",
        "anchor=2026-11-23T09:00:00Z&measure=hours&budget=PT4H",
        "anchor=2026-11-23T09:00:00Z&measure=working_hours&budget=4",
        "anchor=2026-11-23T09:00:00Z&measure=working_hours&budget=PT99999999999H",
        "anchor=2026-11-23T09:00:00Z&measure=working_hours&budget=-PT4H",
        "anchor=2026-11-23T09:00:00Z&measure=working_days&budget=99999999999999999999",
        "anchor=2026-11-23T09:00:00Z&measure=working_days&budget=%EF%BC%94x",
        "anchor=0001-01-01T00:00:00%2B08:00&measure=natural_days&budget=3",
        "anchor=9999-12-31T23:59:59-08:00&measure=natural_hours&budget=PT4H",
        "anchor=2026-11-23T09:00:00Z&measure=working_hours&budget=PT4H&calendar=%00",
    )],
]  # fmt: skip
BAD_PATHS = [
    "/v1/tickets/x", "/v1/tickets/%00", "/v1/tickets/" + "9" * 400, "/v1/tickets/QY1", "/v1/tickets/" + ID,
    "/v1/tickets/" + ID.upper() + "x", "/v1/tickets/..%2f..", "/v1/tickets/%ff%fe", "/v1/tickets/%ED%A0%80",
    "/v1/tickets/-1/events", "/v1/tickets/x/clocks/y/explanation", "/v1/tickets/x/actions", "/v1/reviews/x",
    "/v1/reviews/%00", "/v1/reviews/" + ID, "/v1/nothing", "/v1/tickets/", "/problems/nothing", "/problems/%00",
    "/v1/tickets/QY" + "１" * 15,
]  # fmt: skip


def check(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    """A problem with one of these statuses, that does not repeat what was sent."""
    assert answer.status_code in statuses, (answer.status_code, answer.text[:500])
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail"} <= set(problem)
    assert problem["type"].startswith("/problems/")
    assert problem["status"] == answer.status_code
    assert len(answer.content) < 20_000
    for canary in CANARIES:
        assert canary not in answer.text
        assert canary not in str(answer.headers)
    for error in problem.get("errors", []):
        assert set(error) == {"pointer", "detail"}
        assert error["pointer"] == "" or error["pointer"].startswith("/")
        assert error["detail"]
    return problem


@pytest.fixture(scope="module")
async def ticket(shared_city: City) -> str:
    return str((await shared_city.ticket())["id"])


@pytest.fixture(scope="module")
async def toy(shared_city: City) -> str:
    """A ticket that may change."""
    return str((await shared_city.ticket())["id"])


async def send(city: City, path: str, body: bytes, who: str | None = HOTLINE, **headers: str) -> httpx.Response:
    return await city.request("POST", path, who, content=body, headers={**JSON, **headers})


def named(table: list[tuple[Any, ...]]) -> list[Any]:
    return [pytest.param(*row, id=f"{n}-{str(row[0])[:40]}") for n, row in enumerate(table)]


def test_the_tables_hold_enough() -> None:
    bad = len(WRONG) + len(UNREADABLE) + len(FORMS) + len(QUERIES) + len(LISTS) * len(BAD_CURSORS) + len(BAD_PATHS)
    assert bad >= 300


# --- intake ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pointer", "value"), named(WRONG))
async def test_a_wrong_field_of_an_intake_is_named(shared_city: City, pointer: str, value: Any) -> None:
    problem = check(await send(shared_city, TICKETS, spell(put(pointer, value))), 422)
    assert problem["type"] == "/problems/invalid-request"
    pointers = [e["pointer"] for e in problem["errors"]]
    assert any(p and (pointer.startswith(p) or p.startswith(pointer)) for p in pointers) or pointers == [""], pointers


@pytest.mark.parametrize(("what", "raw"), named(UNREADABLE))
async def test_what_is_no_json_object_is_refused(shared_city: City, what: str, raw: bytes) -> None:
    problem = check(await send(shared_city, TICKETS, raw), 400, 422)
    if problem["status"] == 422:
        assert problem["errors"], what


@pytest.mark.parametrize("field", ["source", "title", "description", "enterprise"])
async def test_a_missing_field_is_named(shared_city: City, field: str) -> None:
    body = canary_body()
    del body[field]
    problem = check(await send(shared_city, TICKETS, spell(body)), 422)
    assert [e["pointer"] for e in problem["errors"]] == [f"/{field}"]


async def test_nothing_of_the_bad_intakes_was_stored(shared_city: City) -> None:
    for _, raw in UNREADABLE:
        await send(shared_city, TICKETS, raw)
    found = await shared_city.get("/v1/queue", params={"q": NAME})
    assert found.json()["items"] == []


async def test_hundreds_of_wrong_fields_are_told_briefly(shared_city: City) -> None:
    body = {**canary_body(), **{f"x{n}": PHONE for n in range(5000)}}
    problem = check(await send(shared_city, TICKETS, spell(body)), 422)
    assert len(problem["errors"]) <= 50


# --- size, encodings, types ------------------------------------------------------------------------------------------


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(0, size, 50_000):
        yield b" " * 50_000


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 20_000_000])
async def test_a_body_beyond_one_mebibyte_is_413(shared_city: City, size: int) -> None:
    check(await send(shared_city, TICKETS, b" " * size), 413)


@pytest.mark.parametrize("size", [1_100_000, 20_000_000])
async def test_a_body_in_chunks_without_a_length_is_413_too(shared_city: City, size: int) -> None:
    answer = await shared_city.request("POST", TICKETS, HOTLINE, content=chunks(size), headers=JSON)
    check(answer, 413)


async def test_a_body_of_one_megabyte_is_still_read(shared_city: City) -> None:
    body = spell(put("/title", "x" * 1_000_001))
    assert 1_000_001 < len(body) <= 1024 * 1024
    check(await send(shared_city, TICKETS, body), 422)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "GZIP", "gzip, identity"])
async def test_an_encoded_body_is_415(shared_city: City, encoding: str) -> None:
    body = gzip.compress(spell(canary_body()))
    check(await send(shared_city, TICKETS, body, **{"content-encoding": encoding}), 415)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x", ";"])
async def test_another_content_type_is_refused(shared_city: City, kind: str) -> None:
    check(await send(shared_city, TICKETS, spell(canary_body()), **{"content-type": kind}), 400, 415)


async def test_a_query_beyond_eight_kibibytes_is_414(shared_city: City) -> None:
    check(await shared_city.get("/v1/queue?q=" + "x" * 8200), 414)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NONSENSE"])
async def test_another_method_is_405_and_names_those_that_are(shared_city: City, method: str) -> None:
    answer = await shared_city.request(method, TICKETS)
    check(answer, 405)
    assert answer.headers["allow"]


LOGGED = """
import structlog
from service import telemetry
telemetry.configure("INFO")
def fail(contact):
    raise TypeError("unforeseen")
try:
    fail({"phone": "13512349876"})
except TypeError as error:
    structlog.get_logger().error("unforeseen error", exc_info=error)
"""


def test_an_unforeseen_error_is_logged_without_what_was_sent() -> None:
    root = Path(__file__).resolve().parents[2]
    code = LOGGED.replace('"phone": "13512349876"', '"phone": sys.argv[1]').replace(
        "import structlog", "import structlog, sys"
    )
    told = subprocess.run([sys.executable, "-c", code, PHONE], cwd=root, capture_output=True, text=True, check=True)
    assert "unforeseen" in told.stderr
    assert PHONE not in told.stderr


# --- forms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("who", "path", "body", "pointer"), named(FORMS))
async def test_a_wrong_form_is_refused(
    shared_city: City, ticket: str, who: str, path: str, body: Any, pointer: str | None
) -> None:
    path, raw = path.replace("{t}", ticket), spell(body).replace(b"{t}", ticket.encode())
    problem = check(await send(shared_city, path, raw, who), *((422,) if pointer is not None else (400, 422)))
    if pointer is not None:
        pointers = [e["pointer"] for e in problem["errors"]]
        assert pointer in pointers, pointers


@pytest.mark.parametrize("path", sorted({path for _, path, _, _ in FORMS} | {TICKETS}))
@pytest.mark.parametrize("raw", [b'{"a": ', b"[]", b"\xff", b'{"a": "\\ud800"}', b'{"a": NaN, "a": 1}', b"[" * 9999])
async def test_every_post_refuses_what_it_cannot_read(shared_city: City, ticket: str, path: str, raw: bytes) -> None:
    for who in (HOTLINE, DISPATCHER, REVIEWER):
        answer = await send(shared_city, path.replace("{t}", ticket), raw, who, **{"idempotency-key": "k"})
        check(answer, 400, 403, 404, 422)


async def test_an_object_among_codes_is_a_wrong_field(shared_city: City, ticket: str) -> None:
    form = {"department": "tax", "co_handlers": [{}]}
    check(await send(shared_city, f"/v1/tickets/{ticket}/actions/dispatch", spell(form), DISPATCHER), 422)


async def test_a_missing_field_of_a_form_is_named(shared_city: City, ticket: str) -> None:
    problem = check(await send(shared_city, f"/v1/tickets/{ticket}/actions/comment", b"{}", DISPATCHER), 422)
    assert [e["pointer"] for e in problem["errors"]] == ["/text"]


async def test_a_refused_form_in_a_bulk_names_the_field(shared_city: City, ticket: str) -> None:
    body = {"ids": [ticket, "nothing"], "form": {"text": 12}}
    answer = await send(shared_city, "/v1/queue/actions/comment", spell(body), DISPATCHER)
    assert answer.status_code == 200
    wrong, absent = answer.json()["results"]
    assert wrong["problem"]["type"] == "/problems/invalid-request"
    assert [e["pointer"] for e in wrong["problem"]["errors"]] == ["/text"]
    assert absent["problem"]["type"] == "/problems/not-found"


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "query"), named(QUERIES))
async def test_a_wrong_query_is_refused(shared_city: City, ticket: str, path: str, query: str) -> None:
    answer = await shared_city.get(f"{path.replace('{t}', ticket)}?{query}")
    problem = check(answer, 422)
    assert problem["errors"]


@pytest.mark.parametrize("path", LISTS)
async def test_a_cursor_that_was_never_given_is_refused(shared_city: City, ticket: str, path: str) -> None:
    for bad in BAD_CURSORS:
        answer = await shared_city.get(path.replace("{t}", ticket), params={"cursor": bad})
        if answer.status_code != 200:  # an id list takes any id as a place, an events list any number
            assert check(answer, 422)["errors"][0]["pointer"] == "/cursor"
        else:
            assert bad == cursor("x") or answer.json()["next_cursor"] is None


@pytest.mark.parametrize("path", BAD_PATHS)
async def test_an_address_of_nothing_is_404(shared_city: City, path: str) -> None:
    check(await shared_city.get(path), 404)


@pytest.mark.parametrize("path", ["/v1/tickets/a%00b/actions/accept", "/v1/queue/actions/a%00b"])
async def test_a_nul_in_the_path_is_404_with_a_key_too(shared_city: City, path: str) -> None:
    body = b'{"ids": ["x"]}' if "queue" in path else b"{}"
    check(await send(shared_city, path, body, DISPATCHER, **{"idempotency-key": "k"}), 404)


@pytest.mark.parametrize("value", ["x", '"0"', 'W/"1"', '"1", "2"', "", '"' + PHONE + '"'])
async def test_an_if_match_of_no_version_is_412(shared_city: City, ticket: str, value: str) -> None:
    body = b'{"text": "a"}'
    check(
        await send(shared_city, f"/v1/tickets/{ticket}/actions/comment", body, DISPATCHER, **{"if-match": value}), 412
    )


# --- chance ----------------------------------------------------------------------------------------------------------

texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["\0", PHONE, "a\0", "𠮷", "2026"]
)
names = st.text(alphabet=st.characters(codec="utf-8"), max_size=8)  # a name is told: the pointer names the field
numbers = st.integers() | st.floats() | st.sampled_from([10**40, -(2**63), 2**63, 1e308])
anything = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
FIELDS = [f.strip("/").split("/") for f in (*TEXT_FIELDS, "/source/received_at", "/extra", "/domain", "/urgency")]


@st.composite
def intakes(draw: st.DrawFn) -> dict[str, Any]:
    body = request_body()
    body["source"]["reference"] = draw(st.uuids()).hex
    for path in draw(st.lists(st.sampled_from(FIELDS), max_size=4)):
        at: Any = body
        for name in path[:-1]:
            at = at.setdefault(name, {}) if isinstance(at, dict) else {}
        at[path[-1]] = draw(anything)
    if draw(st.integers(0, 9)) == 0:
        body = draw(st.dictionaries(st.sampled_from([*body, "x"]), anything, max_size=6))
    return body


FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@FUZZ
@given(body=intakes())
async def test_no_intake_whatever_breaks_the_house(shared_city: City, body: dict[str, Any]) -> None:
    answer = await send(shared_city, TICKETS, json.dumps(body).encode())
    assert answer.status_code in {200, 201, 409, 422}, (answer.status_code, answer.text)
    if answer.status_code >= 400:
        check(answer, answer.status_code)
    else:
        assert json.loads(answer.content)["number"]


ACTIONS = [
    "dispatch", "accept", "log_contact", "submit_plan", "add_co_handler", "request_return", "request_extension",
    "request_pause", "resume", "submit_reply", "record_callback", "escalate", "assign", "comment", "nothing",
]  # fmt: skip
NAMES = [
    "department", "note", "assignee", "reached", "channel", "plan", "planned_on", "ground", "reason", "days", "kind",
    "public_reply", "outcome", "solved", "satisfaction", "asked", "text", "form",
]  # fmt: skip


@FUZZ
@given(
    action=st.sampled_from(ACTIONS),
    form=st.dictionaries(st.sampled_from(NAMES), anything | st.sampled_from(["tax", "yes", "phone"]), max_size=5)
    | anything,
    who=st.sampled_from([DISPATCHER, "handler:tax", HOTLINE]),
)
async def test_no_form_whatever_breaks_the_house(shared_city: City, toy: str, action: str, form: Any, who: str) -> None:
    answer = await send(shared_city, f"/v1/tickets/{toy}/actions/{action}", json.dumps(form).encode(), who)
    assert answer.status_code in {200, 400, 403, 404, 409, 422}, (answer.status_code, answer.text)
    if answer.status_code >= 400:
        check(answer, answer.status_code)


# --- the published description ---------------------------------------------------------------------------------------

OPERATIONS = 8
SECONDS = 20.0


def operations(schema: Any) -> Iterator[Any]:
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path != "/v1/sandbox/clock":  # an hour of the test clock is an hour of every ticket
            yield operation


@schemathesis.serializer("application/x-ndjson")
def _lines(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


async def test_every_operation_answers_as_the_openapi_document_says(shared_city: City, ticket: str) -> None:
    document = (await shared_city.get("/openapi.json", None)).json()
    schema = schemathesis.openapi.from_dict(document)
    tried = 0
    cases: list[tuple[Any, Any]] = []

    def gather(operation: Any) -> None:
        @settings(max_examples=OPERATIONS, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def collect(case: Any) -> None:
            cases.append((operation, case))

        collect()

    listed = list(operations(schema))
    assert len(listed) >= 25
    for operation in listed:
        gather(operation)
    give_up = time.monotonic() + SECONDS  # the tries have it all: how long their making takes is the machine's affair
    for operation, case in cases:
        if time.monotonic() > give_up:
            break
        sent = case.as_transport_kwargs(base_url="http://test")
        sent = {
            k: v for k, v in sent.items() if k in {"params", "json", "data", "headers", "cookies"} and v is not None
        }
        body = sent.pop("data", None)
        sent.pop("cookies", None)
        url = case.formatted_path.replace("%7B", "{")
        headers = {k: v for k, v in dict(sent.pop("headers", {})).items() if k.lower() != "authorization"}
        for who in (DISPATCHER, HOTLINE):
            answer = await shared_city.request(
                operation.method.upper(), url, who, headers=headers,
                **{**sent, **({"content": body} if isinstance(body, (bytes, str)) else {})},
            )  # fmt: skip
            tried += 1
            where = f"{operation.method} {url} {sent}: {answer.status_code} {answer.text[:300]}"
            assert answer.status_code < 500, where
            documented = document["paths"][operation.path][operation.method]["responses"]
            assert str(answer.status_code) in documented, where
            media = documented[str(answer.status_code)].get("content", {})
            assert not media or answer.headers["content-type"].partition(";")[0] in media, where
    assert tried >= 200
