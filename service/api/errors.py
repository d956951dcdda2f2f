"""Domain errors -> application/problem+json (RFC 9457). Nothing that was sent is echoed, no internals are told."""

from __future__ import annotations

import re
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from service.core import errors as domain
from service.core.documents import fields_at
from service.db.session import Unavailable
from service.integrations.identity_provider import Unauthenticated

log = structlog.get_logger()

STATUS: dict[type[domain.JiebanError], int] = {
    domain.Invalid: 422,
    Unauthenticated: 401,
    domain.Forbidden: 403,
    domain.NotFound: 404,
    domain.ActionNotPossible: 409,
    domain.Duplicate: 409,
    domain.Busy: 409,
    domain.Conflict: 409,
    domain.KeyReused: 422,
    domain.Stale: 412,
    domain.TooLarge: 413,
    domain.WrongKind: 415,
    domain.DefinitionError: 422,
    Unavailable: 503,
}
"""Every domain error that can reach the edge; a test holds it against the tree."""

PROBLEMS: dict[str, tuple[int, str, str]] = {
    "invalid-request": (
        422,
        "请求内容不符合要求",
        "A field is missing, of another kind, or unknown; `errors` names each.",
    ),
    "malformed-request": (400, "请求无法解析", "The body is not JSON in UTF-8, or a header is not of its form."),
    "unauthenticated": (
        401,
        "未登录",
        "Send Authorization: Bearer TOKEN, from POST /v1/oauth/token or your identity provider.",
    ),
    "forbidden": (403, "无权操作", "Your role may not do this."),
    "not-found": (404, "未找到", "It is absent, or not yours to see."),
    "method-not-allowed": (405, "方法不允许", "This address takes other methods; see Allow."),
    "action-not-possible": (409, "当前环节不能执行此操作", "`stage` and `actions` say what is possible now."),
    "duplicate-reference": (
        409,
        "来源编号已登记且内容不同",
        "`ticket` names it; send corrections to POST /v1/tickets/{id}/corrections.",
    ),
    "still-running": (409, "相同请求正在处理", "Try again after Retry-After seconds."),
    "preview-required": (
        409,
        "该版本会改变在办时限，须先查看影响",
        "`first` shows what it would move; repeat the request with `preview` to publish it.",
    ),
    "conflict": (409, "与当前状态冲突", "`detail` says what stands against it."),
    "idempotency-key-reused": (422, "幂等键已用于其他内容", "Use a new Idempotency-Key for a new request."),
    "stale-version": (412, "数据已更新", "Read it again and repeat with its ETag."),
    "too-large": (413, "请求过大", "The body limit is 1 MiB; that of a file stands in workflows/desk.yaml."),
    "unsupported-media-type": (
        415,
        "不支持的媒体类型",
        "Send application/json without Content-Encoding; of files, the kinds of workflows/desk.yaml.",
    ),
    "definition-invalid": (422, "配置有误", "`detail` names file, line, path and what was expected."),
    "too-many-requests": (429, "请求过多", "Try again after Retry-After seconds."),
    "unavailable": (503, "服务暂不可用", "Repeat it after Retry-After seconds, with the same Idempotency-Key."),
    "internal": (500, "内部错误", "Nothing was changed. Give the request id to the operator."),
}
"""Slug -> status, Chinese title, what to do. Published at /problems/<slug>."""


def problem(status: int, slug: str, title: str, detail: str, **extra: Any) -> Response:
    body = {
        "type": f"/problems/{slug}",
        "title": title,
        "title_zh": PROBLEMS[slug][1],
        "status": status,
        "detail": detail,
    }
    headers = (
        {"Retry-After": str(extra.get("retry_after", 1))} if status in {429, 503} or slug == "still-running" else {}
    )
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(to_json({**body, **extra}), status, headers, media_type="application/problem+json")


def of(error: domain.JiebanError) -> Response:
    status = next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)
    extra = dict(error.extra)
    if isinstance(error, domain.Invalid):
        extra["errors"] = [{"pointer": e.pointer, "detail": e.detail} for e in error.errors]
    detail = error.detail
    if isinstance(error, domain.DefinitionError):
        detail, extra = str(error), {k: v for k, v in told(error).items() if k != "detail"} | extra
    return problem(status, error.slug, error.title, detail, **extra)


def told(error: domain.DefinitionError) -> dict[str, Any]:
    """Where a definition is wrong and how a ticket comes to it. `line` is null where data was sent instead of a text."""
    path = "".join(f"/{key}" for key in error.path)
    return {"detail": error.detail, "line": error.line or None, "path": path, "steps": list(error.steps)}


def invalid(error: ValidationError | RequestValidationError, model: type[BaseModel] | None = None) -> domain.Invalid:
    """Pydantic's findings as field errors: where, and what was expected; never what was sent.

    `model`: what was to be read; an unknown field is then told those that there are.
    """
    listed = (
        error.errors()
        if isinstance(error, RequestValidationError)
        else error.errors(include_input=False, include_url=False, include_context=False)
    )
    found = []
    for e in listed[:50]:
        path = [_named(p) for p in e["loc"] if p not in ("body", "query", "path", "header")]
        pointer = "".join(f"/{p}" for p in path)
        expected = _EXPECTED.get(e["type"], e["msg"])
        if e["type"] == "extra_forbidden" and model is not None and (fields := fields_at(model, e["loc"][:-1])):
            expected = f"unknown field: remove it; the fields here are: {', '.join(fields)}"
        found.append(domain.FieldError(pointer, expected))
    return domain.Invalid(f"{len(found)} field(s) are not as expected.", found)


def _named(part: str | int) -> str:
    """A step of a pointer. An unknown field's name is the client's own words: one that may be data is not repeated."""
    text = str(part)
    return text if isinstance(part, int) or _FIELD_NAME.fullmatch(text) else "(unnamed)"


_FIELD_NAME = re.compile(r"(?!.*[0-9]{5})[A-Za-z_][A-Za-z0-9_.-]{0,39}", re.ASCII)
_EXPECTED = {
    "extra_forbidden": "unknown field: remove it, or see /docs for the fields that exist",
    "missing": "expected: this field is required",
    "timezone_aware": "expected a time with an offset, such as 2026-11-23T09:12:00+08:00",
    "json_invalid": "expected valid JSON in UTF-8",
}


def install(app: FastAPI) -> None:
    """Every error that can reach the edge becomes a problem; an unforeseen one says nothing about itself."""

    @app.exception_handler(domain.JiebanError)
    async def _domain(_: Request, error: domain.JiebanError) -> Response:
        return of(error)

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> Response:
        return of(invalid(error))

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        slug = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "malformed-request")
        answer = problem(error.status_code, slug, PROBLEMS[slug][2], "There is nothing at this address; see /docs.")
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def _unforeseen(request: Request, error: Exception) -> Response:
        log.error("unforeseen error", path=request.scope.get("path"), error=type(error).__name__, exc_info=error)
        return unforeseen()


def unforeseen() -> Response:
    return problem(500, "internal", "Something went wrong", "The error was recorded; nothing was changed.")
