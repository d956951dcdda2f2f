"""The HTTP application: routes, limits, documentation. Its house is made by `bootstrap` and handed in."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from prometheus_client import Counter, Histogram
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import clock
from service.api import (
    admin,
    attachments,
    board,
    calendars,
    callbacks,
    cases,
    delegations,
    deps,
    desk,
    diagrams,
    docket_forms,
    errors,
    hotline,
    intake,
    meetings,
    minutes,
    minutes_forms,
    oversight,
    progress,
    queue,
    reports,
    reviews,
    routing,
    sandbox,
    schemas,
    supervision,
    tickets,
    timers,
    units,
    whatif,
    workflows,
)  # fmt: skip
from service.api.limits import Limiter
from service.integrations.identity_provider import BuiltinIssuer, Verifier
from service.usecases.house import House

log = structlog.get_logger()
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
MAX_QUERY_BYTES = 8192
MAX_UPLOAD_BYTES = 2**33
REFRESH_SECONDS = 3.0
SECONDS = Histogram("jieban_request_seconds", "Time to answer", ["method", "status"])
REQUESTS = Counter("jieban_requests_total", "Requests answered", ["method", "status"])


class Bell(Protocol):
    """Rings the workers after a commit. Losing a ring loses nothing: the pump looks for itself."""

    reachable: bool

    def ring(self) -> None:
        """Ask for attention soon; never waits, never fails."""

    async def run(self) -> None:
        """Carry the rings outward until cancelled."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application is made of."""

    house: House
    verifier: Verifier
    issuer: BuiltinIssuer | None
    bell: Bell
    limiter: Limiter = field(default_factory=lambda: Limiter(0))


def create_app(open_parts: Callable[[], Any], *, with_sandbox: bool) -> FastAPI:
    """`open_parts`: an async context manager that gives `Parts` (pools are opened in the server's own loop)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_parts() as parts:
            app.state.house, app.state.verifier = parts.house, parts.verifier
            app.state.issuer, app.state.bell, app.state.limiter = parts.issuer, parts.bell, parts.limiter
            parts.house.ring = parts.bell.ring
            tasks = [asyncio.create_task(parts.bell.run()), asyncio.create_task(_keep_fresh(parts.house))]
            # what lives until the end need not be looked through by every collection: a third off p99
            gc.collect()
            gc.freeze()
            gc.set_threshold(20_000, 50, 100)
            yield
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    app = FastAPI(
        title="Jieban 接办",
        version="0.1.0",
        description="The enterprise edition of the 12345 hotline: requests, clocks, one matter one discussion, reports.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    errors.install(app)
    for module in (
        hotline, intake, tickets, units, cases, queue, desk, attachments, progress, supervision, callbacks, delegations,
        board, reviews, meetings, minutes, reports, oversight, calendars, workflows, whatif, diagrams, timers, routing, admin,
    ):  # fmt: skip
        app.include_router(module.router)
    if with_sandbox:
        app.include_router(sandbox.router)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    app.add_middleware(Guard)
    return app


async def _keep_fresh(house: House) -> None:
    """Newly published definitions reach this process within seconds."""
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        try:
            await house.refresh()
        except Exception as error:  # the process goes on by the rules it has
            log.warning("definitions could not be refreshed", error=repr(error))


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The generated document, with the bodies that routes read themselves."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        models = [
            m
            for m in [*vars(schemas).values(), *vars(docket_forms).values(), *vars(minutes_forms).values()]
            if isinstance(m, type) and issubclass(m, schemas.Body) and m is not schemas.Body
        ]
        modes: list[tuple[type[BaseModel], Any]] = [(m, "validation") for m in models]
        _, definitions = models_json_schema(modes, ref_template="#/components/schemas/{model}")
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(definitions.get("$defs", {}))
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
        document["security"] = [{"bearer": []}]
        for path in document["paths"].values():
            for operation in path.values():
                _document_problems(operation["responses"])
        app.openapi_schema = document
    return app.openapi_schema


ANYWHERE = {
    "400": "The request cannot be read.",
    "401": "No bearer token, or one that is not valid.",
    "403": "Not for this role.",
    "404": "Absent, or not yours to see.",
    "409": "Not possible now.",
    "412": "If-Match names an older version.",
    "413": "The body is larger than 1 MiB.",
    "414": "The query is longer than 8 KiB.",
    "415": "The body is encoded.",
    "422": "A field is not as expected; `errors` names it.",
    "429": "Too many requests; Retry-After says when.",
    "503": "Not available for a moment; Retry-After says when.",
}
"""What any operation may answer."""


def _document_problems(responses: dict[str, Any]) -> None:
    """Every refusal is a problem (RFC 9457), also those that the framework documents in its own form."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status, description in ANYWHERE.items():
        own = responses.get(status, {}).get("description")
        responses[status] = {"description": description if own in {None, "Validation Error"} else own}
        responses[status]["content"] = content


class Guard:
    """Limits before anything is read: body size, encodings, query length; and measures around it. Pure ASGI."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused = _refusal(scope)
        started, status = clock.monotonic(), 500

        async def observed(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            if refused is not None:
                await refused(scope, receive, observed)
            else:
                await self.app(scope, _limited(receive, _limit_of(scope)), observed)
        except _TooLarge:
            await _too_large()(scope, receive, observed)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            SECONDS.labels(method, str(status)).observe(clock.monotonic() - started)
            REQUESTS.labels(method, str(status)).inc()


_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"})


class _TooLarge(Exception):
    """More body came than was announced or allowed."""


def _too_large() -> Any:
    return errors.problem(
        413, "too-large", "The request is too large", f"The body limit is {deps.MAX_BODY_BYTES} bytes."
    )


def _refusal(scope: Scope) -> Any | None:
    if len(scope.get("query_string", b"")) > MAX_QUERY_BYTES:
        return errors.problem(
            414, "too-large", "The address is too long", f"The query limit is {MAX_QUERY_BYTES} bytes."
        )
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > _limit_of(scope):
            return _too_large()
        if name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            return errors.problem(
                415, "unsupported-media-type", "Unsupported encoding", "Send the body without Content-Encoding."
            )
    return None


_UPLOAD = re.compile(r"/v1/tickets/[^/]+/attachments")


def _limit_of(scope: Scope) -> int:
    """Bytes that a body may have. Of a file the use case knows better, and counts what comes."""
    if scope["path"] in deps.STREAMED:
        return sys.maxsize  # it is read line by line, and each line has its limit
    return MAX_UPLOAD_BYTES if scope["method"] == "POST" and _UPLOAD.fullmatch(scope["path"]) else deps.MAX_BODY_BYTES


def _limited(receive: Receive, limit: int) -> Receive:
    seen = 0

    async def counted() -> MutableMapping[str, Any]:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _TooLarge
        return message

    return counted
