"""Files of a ticket: streamed in, listed, and given back for download only."""

from __future__ import annotations

import base64
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from service.api import deps, uploads
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import AttachmentOut, Page, Problem
from service.api.tickets import ABSENT
from service.core.access import require
from service.usecases import attachments

router = APIRouter(prefix="/v1", tags=["attachments"])
BINARY = {"type": "string", "format": "binary"}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "name": {"type": "string", "description": "default: the file's own"},
                        "audience": {"enum": ["all", "centre"]},
                        "file": {**BINARY, "description": "the last part"},
                    },
                }
            },
            "application/octet-stream": {"schema": BINARY},
        },
    },
    "parameters": [
        {"name": "name", "in": "query", "schema": {"type": "string", "maxLength": 200}},
        {"name": "audience", "in": "query", "schema": {"enum": ["all", "centre"]}},
    ],
}


@router.post(
    "/tickets/{ticket}/attachments",
    status_code=201,
    openapi_extra=BODY,
    responses={
        201: {"model": AttachmentOut},
        **ABSENT,
        413: {"model": Problem, "description": "Larger than workflows/desk.yaml allows."},
        415: {"model": Problem, "description": "Of a kind that is not taken, or not what its name says."},
    },
)
async def post_attachment(request: Request, ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """Add a file: as the raw body with `?name=`, or as the part `file` of a form. Its kind is told by its bytes."""
    require(actor, "attachments:write")
    key = deps.call_of(request, "attachments", None).key
    return deps.respond(await attachments.add(house, actor, ticket, await uploads.upload_of(request), key))


@router.get("/tickets/{ticket}/attachments", responses={200: {"model": Page}, **ABSENT})
async def get_attachments(ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """The files of a ticket that the caller may see, oldest first."""
    require(actor, "tickets:read")
    return deps.json({"items": await attachments.listed(house, actor, ticket), "next_cursor": None})


@router.get(
    "/attachments/{attachment}",
    responses={200: {"content": {"application/octet-stream": {"schema": BINARY}}}, **ABSENT},
)
async def get_attachment(attachment: str, house: HouseDep, actor: ActorDep) -> Response:
    """The file, for download only: no browser shows it in this site's name. Who took it is audited."""
    require(actor, "tickets:read")
    row, pieces = await attachments.download(house, actor, deps.row_id(attachment))
    digest = base64.b64encode(bytes.fromhex(row["sha256"])).decode()
    headers = {
        "Content-Length": str(row["size"]),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(row['name'], safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "private, no-store",
        "Repr-Digest": f"sha-256=:{digest}:",
    }
    return StreamingResponse(pieces, 200, headers, media_type=row["media_type"])
