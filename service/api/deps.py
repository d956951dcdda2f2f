"""What every route needs: who calls, what was sent, where a list goes on."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from json import loads
from math import isfinite
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from service.api import errors
from service.api.limits import TooMany
from service.core.errors import Invalid, JiebanError, NotFound
from service.core.model import Actor
from service.integrations.identity_provider import Unauthenticated, Verifier
from service.usecases.answers import Answer, Call, digest_of
from service.usecases.house import House

MAX_BODY_BYTES = 1024 * 1024
STREAMED = frozenset({"/v1/tickets/batch"})
"""Bodies of any length, read line by line; each line is bounded by MAX_BODY_BYTES."""
MAX_DEPTH = 32
_KEY = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)
B = TypeVar("B", bound=BaseModel)


class Malformed(JiebanError):
    slug = "malformed-request"
    title = "The request cannot be read"


class UnsupportedMedia(JiebanError):
    slug = "unsupported-media-type"
    title = "The body is of a kind that is not read here"


errors.STATUS |= {Malformed: 400, UnsupportedMedia: 415, TooMany: 429}


async def house_of(request: Request) -> House:
    """Async although it waits for nothing: a plain function would cost a hop to a thread at each request."""
    return request.app.state.house  # type: ignore[no-any-return]


async def actor_of(request: Request) -> Actor:
    """The caller, from the bearer token; raises Unauthenticated."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send Authorization: Bearer TOKEN.")
    verifier: Verifier = request.app.state.verifier
    actor = (await verifier.verify(token.strip())).actor
    request.app.state.limiter.take(actor.subject)
    return actor


HouseDep = Annotated[House, Depends(house_of)]
ActorDep = Annotated[Actor, Depends(actor_of)]


async def read(request: Request, model: type[B]) -> B:
    """The body as `model`, parsed once in strict mode from its bytes. Raises Invalid naming each wrong field."""
    return parse(await _raw(request), model)


def parse(raw: bytes, model: type[B]) -> B:
    """As `read`, from bytes that are there already."""
    try:
        body = model.model_validate_json(raw)
    except ValidationError as error:
        raise errors.invalid(error, model) from None
    _refuse_repeated_names(raw)
    return body


async def read_form(request: Request) -> dict[str, Any]:
    """The body of an action: any JSON object (none counts as {}); its form is checked by the workflow's schema."""
    raw = await _raw(request)
    if not raw.strip():
        return {}
    try:
        form = from_json(raw, allow_inf_nan=False)
    except ValueError:
        raise Malformed("Expected a JSON object in UTF-8.") from None
    if not isinstance(form, dict):
        raise Invalid.field("", "expected a JSON object")
    check_plain(form)
    _refuse_repeated_names(raw)
    return form


def _refuse_repeated_names(raw: bytes) -> None:
    """The parser keeps the last of two fields with one name; which one was meant nobody knows. `raw` is valid JSON."""
    loads(raw, object_pairs_hook=_pairs, parse_int=str, parse_float=str)


def _pairs(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise Invalid.field("", "expected each field once: a name stands twice in one object")


async def _raw(request: Request) -> bytes:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMedia("Send Content-Type: application/json.")
    return await request.body()


def check_plain(value: Any) -> None:
    """No NUL, no number beyond what the database keeps, not too deep: PostgreSQL would refuse it later."""
    todo = [(value, "", 1)]
    while todo:
        item, pointer, depth = todo.pop()
        if depth > MAX_DEPTH:
            raise Invalid.field(pointer, f"expected at most {MAX_DEPTH} levels")
        if isinstance(item, str) and "\x00" in item:
            raise Invalid.field(pointer, "expected text without NUL characters")
        if isinstance(item, int) and not isinstance(item, bool) and abs(item) > 2**53:
            raise Invalid.field(pointer, "expected a number of at most 2^53")
        if isinstance(item, float) and not isfinite(item):
            raise Invalid.field(pointer, "expected a finite number")
        if isinstance(item, dict):
            for key, inner in item.items():
                if "\x00" in key:
                    raise Invalid.field(pointer, "expected field names without NUL characters")
                todo.append((inner, f"{pointer}/{key[:80]}", depth + 1))
        elif isinstance(item, list):
            todo += [(inner, f"{pointer}/{n}", depth + 1) for n, inner in enumerate(item)]


def call_of(request: Request, route: str, content: Any) -> Call:
    """What identifies this write. The key may be quoted (a structured string) or bare."""
    key = request.headers.get("idempotency-key")
    if key is not None:
        key = key.strip()
        if len(key) >= 2 and key[0] == key[-1] == '"':
            key = key[1:-1]
        if not _KEY.fullmatch(key):
            raise Malformed("Idempotency-Key: expected 1 to 255 printable ASCII characters.")
        if "\x00" in route:
            raise NotFound("There is nothing at this address; see /docs.")
    return Call(route, key, digest_of(content))


def respond(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers), media_type="application/json")


def json(body: Any, status: int = 200) -> Response:
    return Response(to_json(body), status, media_type="application/json")


# --- lists -------------------------------------------------------------------------------------------------------


def page(request: Request, items: list[Any], next_place: Any | None, **beside: Any) -> Response:
    """`{items, next_cursor}` with a Link header for the next page; `beside`: what the answer says of the whole."""
    cursor = None if next_place is None else encode_cursor(next_place)
    answer = json({**beside, "items": items, "next_cursor": cursor})
    if cursor is not None:
        answer.headers["Link"] = f'<{request.url.include_query_params(cursor=cursor)}>; rel="next"'
    return answer


def encode_cursor(place: Any) -> str:
    return base64.urlsafe_b64encode(to_json(place)).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> Any:
    """What `encode_cursor` was given; raises Invalid for anything else."""
    if not cursor:
        return None
    try:
        return from_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error):
        raise Invalid.field("/cursor", "expected the next_cursor of an earlier answer") from None


def place_of(cursor: str | None) -> tuple[datetime, str] | None:
    """A cursor of (instant, id)."""
    place = decode_cursor(cursor)
    if place is None:
        return None
    try:
        if place[0] == "infinity":
            return datetime.max, _uuid(place[1])  # noqa: DTZ901  # the driver's own sign for infinity
        at = datetime.fromisoformat(place[0])
        if at.tzinfo is None or not 1970 <= at.year <= 9000:
            raise ValueError("no offset, or nothing of ours")
        return at, _uuid(place[1])
    except (ValueError, TypeError, IndexError, KeyError):
        raise Invalid.field("/cursor", "expected the next_cursor of an earlier answer") from None


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def _uuid(text: Any) -> str:
    if not isinstance(text, str) or not _UUID.fullmatch(text):
        raise ValueError("not an id")
    return text


def id_of(cursor: str | None) -> str | None:
    place = decode_cursor(cursor)
    try:
        return None if place is None else _uuid(place)
    except ValueError:
        raise Invalid.field("/cursor", "expected the next_cursor of an earlier answer") from None


def number_of(cursor: str | None) -> int:
    """A cursor that says how many were given already."""
    place = decode_cursor(cursor)
    if place is None:
        return 0
    if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place <= 1_000_000:
        raise Invalid.field("/cursor", "expected the next_cursor of an earlier answer")
    return place


def plain_text(value: str | None, pointer: str) -> str | None:
    """A query parameter that goes to the database as text."""
    if value is not None and "\x00" in value:
        raise Invalid.field(pointer, "expected text without NUL characters")
    return value or None


def name(text: str) -> str:
    """A short name in a path; one with a NUL is simply not found."""
    if "\x00" in text:
        raise NotFound("There is nothing with this name.")
    return text


def row_id(text: str) -> str:
    """An id in a path; anything that is no UUID is simply not found."""
    if not _UUID.fullmatch(text):
        raise NotFound("There is nothing with this id.")
    return text


def documented(model: type[BaseModel] | Mapping[str, Any]) -> dict[str, Any]:
    """`openapi_extra` for a route that reads its body itself."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"} if isinstance(model, type) else dict(model)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def token_form(request: Request) -> dict[str, str]:
    """client_id and client_secret of a token request: form fields, JSON, or HTTP Basic (RFC 6749, section 2.3.1)."""
    raw = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json":
            fields = from_json(raw)
            assert isinstance(fields, dict)
        else:
            fields = dict(parse_qsl(raw.decode(), strict_parsing=bool(raw)))
    except (ValueError, AssertionError):
        raise Malformed("Expected a form with grant_type, client_id and client_secret.") from None
    scheme, _, basic = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, secret = base64.b64decode(basic, validate=True).decode().partition(":")
        except ValueError:
            raise Unauthenticated("The client is not known, or its secret is not right.") from None
        fields = {**fields, "client_id": name, "client_secret": secret}
    if fields.get("grant_type") != "client_credentials":
        raise Invalid.field("/grant_type", "expected client_credentials")
    found = {name: str(fields.get(name) or "") for name in ("client_id", "client_secret")}
    for name, value in found.items():
        if not value or "\x00" in value or len(value) > 500:
            raise Invalid.field(f"/{name}", "expected: this field is required")
    return found
