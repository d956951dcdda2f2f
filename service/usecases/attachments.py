"""Files of a ticket: taken in as a stream, told by their bytes, given back for download only.

A row is committed before the first byte and made valid after the last, in the transaction that puts the attachment into
the ticket's history. Whatever ends an upload in between leaves a row that is not valid: the upload itself clears it away,
or, if its process was killed, the sweep does.
"""

from __future__ import annotations

import asyncio
import hashlib
import unicodedata
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from pydantic_core import to_json

from service.core import workflow
from service.core.desk import HEAD_BYTES, Attachments, FileType
from service.core.errors import Conflict, Forbidden, Invalid, JiebanError, NotFound, TooLarge, WrongKind
from service.core.model import SYSTEM, Actor, Role
from service.db import attachments as stored
from service.db import audit, tickets
from service.db.session import Tx, Unavailable
from service.integrations.attachments import FAILURES, FileStore
from service.usecases import views
from service.usecases.answers import Answer, Call, digest_of, once
from service.usecases.house import House
from service.usecases.tickets import ABSENT, decide_and_save

log = structlog.get_logger()
NOT_THERE = "There is no such attachment, or it is not yours to see."
_TURNS_TEXT_ROUND = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way in. `size`: as announced, if it was. `audience`: all who see the ticket, or the centre only."""

    name: str
    chunks: AsyncIterator[bytes]
    size: int | None = None
    audience: str | None = None


async def add(house: House, actor: Actor, ref: str, upload: Upload, key: str | None) -> Answer:
    """Take a file in. Raises TooLarge, WrongKind, Invalid, Conflict (too many), NotFound; nothing stays of a refused one."""
    rules, files = house.rules.desk.attachments, _files(house)
    name = _plain_name(upload.name)
    kind = rules.kind_of(name)
    if kind is None:
        endings = sorted(e for t in rules.types.values() for e in t.endings)
        raise WrongKind(f"Files of this kind are not taken; the name ends with one of: {', '.join(endings)}.")
    if upload.size is not None and upload.size > rules.max_bytes:
        raise _too_large(rules)
    row = await _begin(house, actor, ref, rules, {"name": name, "media_type": kind.media_type}, upload.audience)
    done = False
    try:
        size, sha256 = await _receive(files, row["id"], upload.chunks, rules, kind)
        answer = await _finish(house, actor, row, size, sha256, key)
        done = answer.headers.get("Idempotent-Replayed") is None
        return answer
    finally:
        if not done:
            # also when the caller is gone and this is being cancelled
            await asyncio.shield(discard(house, [row["id"]]))


def _files(house: House) -> FileStore:
    if house.files is None:
        raise Unavailable("No place for attachments is set up.")
    return house.files


def _too_large(rules: Attachments) -> TooLarge:
    return TooLarge(f"An attachment has at most {rules.max_bytes} bytes.")


def _plain_name(name: str) -> str:
    """The last part of a path, without what cannot be shown or would turn it round (txt.exe that reads exe.txt)."""
    last = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2])
    plain = "".join(c for c in last if unicodedata.category(c)[0] != "C" and c not in _TURNS_TEXT_ROUND).strip(" .")
    if not plain or len(plain) > 200 or len(plain.encode()) > 600:
        raise Invalid.field("/name", "expected the name of the file, of 1 to 200 characters, with its ending")
    return plain


async def _begin(
    house: House, actor: Actor, ref: str, rules: Attachments, row: dict[str, Any], audience: str | None
) -> dict[str, Any]:
    async with house.db.transaction(actor) as tx:
        ticket_id = await tickets.resolve(tx, ref)
        loaded = await tickets.load(tx, [ticket_id]) if ticket_id else {}
        if ticket_id is None or ticket_id not in loaded:
            raise NotFound(ABSENT)
        if actor.role is Role.HANDLER and loaded[ticket_id].ticket.leg_of(actor.departments) is None:
            raise Forbidden("An attachment is added by a department that handles this ticket.")
        if await stored.count(tx, ticket_id) >= rules.per_ticket:
            raise Conflict(f"A ticket has at most {rules.per_ticket} attachments.")
        row |= {"id": house.new_id(), "ticket_id": ticket_id}
        row["audience"] = audience or _usual_audience(actor, loaded[ticket_id].row["content"])
        if row["audience"] == "centre" and actor.role is Role.HANDLER:
            raise Invalid.field(
                "/audience", "expected `all`: a department's attachment is seen by all who see the ticket"
            )
        await stored.begin(tx, row)
    return row


def _usual_audience(actor: Actor, content: Mapping[str, Any]) -> str:
    """What comes in with a confidential request may tell who made it: it stays with the centre unless somebody says so."""
    return "centre" if content.get("confidential") and actor.role is not Role.HANDLER else "all"


async def _receive(
    files: FileStore, key: str, chunks: AsyncIterator[bytes], rules: Attachments, kind: FileType
) -> tuple[int, bytes]:
    """Bytes into the store as they come; their number and SHA-256."""
    size, digest = 0, hashlib.sha256()
    refused: BaseException | None = None

    async def watched() -> AsyncIterator[bytes]:
        """The file, and what was wrong with it or its sender: never to be taken for a fault of the store."""
        nonlocal refused
        try:
            async for piece in counted():
                yield piece
        except Exception as error:
            refused = error
            raise

    async def counted() -> AsyncIterator[bytes]:
        nonlocal size
        head: bytes | None = b""
        async for chunk in chunks:
            size += len(chunk)
            if size > rules.max_bytes:
                raise _too_large(rules)
            digest.update(chunk)
            if head is None:
                yield chunk
                continue
            head += chunk
            if len(head) >= HEAD_BYTES:
                yield _checked(head, kind)
                head = None
        if head is not None:
            yield _checked(head, kind)

    try:
        async with asyncio.timeout(rules.unfinished_minutes * 60):
            await files.put(key, watched())
    except TimeoutError:
        raise TooLarge(f"The upload took longer than {rules.unfinished_minutes} minutes.") from None
    except FAILURES as error:
        if refused is not None:
            raise
        log.error("an attachment could not be stored", error=repr(error))
        raise Unavailable("The attachments' store cannot be reached for a moment; send the file again.") from error
    return size, digest.digest()


def _checked(head: bytes, kind: FileType) -> bytes:
    if not head:
        raise Invalid.field("/file", "expected a file that is not empty")
    if not kind.fits(head[:HEAD_BYTES]):
        raise WrongKind("The file's bytes are not of the kind that its name says.")
    return head


async def _finish(
    house: House, actor: Actor, row: Mapping[str, Any], size: int, sha256: bytes, key: str | None
) -> Answer:
    """The attachment is valid from here on, and the ticket's history says so; a known key gives its first answer."""
    told = {"id": row["id"], "size": size, "sha256": sha256.hex(), "audience": row["audience"]}
    if row["audience"] == "all":
        # of what stays with the centre even the name may tell too much
        told |= {"name": row["name"], "media_type": row["media_type"]}
    content = [row["name"], row["audience"], sha256.hex()]
    call = Call(f"POST /v1/tickets/{row['ticket_id']}/attachments", key, digest_of(content))

    async def work(tx: Tx) -> Answer:
        await decide_and_save(
            house, tx, row["ticket_id"], lambda t, env: workflow.note(t, "attachment.added", told, env)
        )
        rules = house.rules.desk.attachments
        if await stored.count(tx, row["ticket_id"]) > rules.per_ticket:
            raise Conflict(f"A ticket has at most {rules.per_ticket} attachments.")
        made = await stored.finish(tx, row["id"], size, sha256)
        if made is None:
            raise Conflict("The upload took too long and was cleared away; send the file again.")
        return Answer(201, to_json(shown(made, house)), {"Location": f"/v1/attachments/{row['id']}"})

    return await once(house, actor, call, work)


async def discard(house: House, ids: list[str]) -> None:
    """Take back what was not finished. Row and bytes go together: of an upload whose commit was not heard of, the row says
    whether it was finished after all; and what fails here leaves the row for the sweep."""
    if not ids:
        return
    try:
        async with house.db.transaction(SYSTEM) as tx:
            for attachment_id in await stored.forget(tx, ids):
                await _files(house).delete(attachment_id)
    except (*FAILURES, JiebanError) as error:
        log.warning("an unfinished attachment stays for the sweep", error=repr(error))


async def sweep(house: House) -> int:
    """Clear away what uploads left that nobody ended: their process was killed. How many."""
    longest = timedelta(minutes=2 * house.rules.desk.attachments.unfinished_minutes)
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        ids = await stored.unfinished(tx, tx.now - longest, 500)
    await discard(house, ids)
    return len(ids)


def shown(row: Any, house: House) -> dict[str, Any]:
    return {
        "id": row["id"],
        "ticket_id": row["ticket_id"],
        "name": row["name"],
        "media_type": row["media_type"],
        "size": row["size"],
        "sha256": bytes(row["sha256"]).hex(),
        "audience": row["audience"],
        "uploaded_by": row["uploaded_by"],
        "department": row["department"],
        "uploaded_at": views.local(row["stored_at"], house.zone),
    }


async def listed(house: House, actor: Actor, ref: str) -> list[dict[str, Any]]:
    async with house.db.transaction(actor, readonly=True) as tx:
        ticket_id = await tickets.resolve(tx, ref)
        if ticket_id is None:
            raise NotFound(ABSENT)
        rows = await stored.of_ticket(tx, ticket_id)
    return [shown(row, house) for row in rows]


async def download(house: House, actor: Actor, attachment_id: str) -> tuple[dict[str, Any], AsyncIterator[bytes]]:
    """What it is, and its bytes; who took it stands in the audit."""
    async with house.db.transaction(actor) as tx:
        row = await stored.find(tx, attachment_id)
        if row is None:
            raise NotFound(NOT_THERE)
        await audit.write(tx, house.new_id(), "attachment.read", row["ticket_id"], {"attachment": attachment_id})
    try:
        return shown(row, house), await _files(house).open(attachment_id)
    except FileNotFoundError:
        log.error("the bytes of an attachment are not in the store", attachment=attachment_id)
        raise NotFound("The bytes of this attachment are not in the store; tell the operator.") from None
    except FAILURES as error:
        raise Unavailable("The attachments' store cannot be reached for a moment.") from error
