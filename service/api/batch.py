"""POST /v1/tickets/batch: NDJSON in, NDJSON out, of any length, in bounded memory.

Each line is a transaction of its own, so one bad line harms no other; answers come in the order of the lines. Reading,
working and sending go on beside each other. A client that sends everything before it reads anything must not block
itself, so what it has not read yet waits in a temporary file, not in memory and not in its way.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import structlog
from fastapi import Request
from fastapi.responses import Response
from pydantic_core import from_json, to_json
from starlette.requests import ClientDisconnect

from service.api import deps, errors
from service.api.deps import MAX_BODY_BYTES, UnsupportedMedia
from service.api.schemas import NewTicket
from service.core.errors import JiebanError
from service.core.model import Actor
from service.usecases import intake
from service.usecases.answers import Call, digest_of
from service.usecases.house import House

log = structlog.get_logger()
ROUTE = "POST /v1/tickets/batch"
KINDS = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/json-lines"})
AT_ONCE = 4
"""Lines that are worked on at the same time."""
CHUNK_BYTES = 64 * 1024
Line = tuple[int, bytes | None]
"""Its number from 1, and its bytes; None when it is longer than a body may be."""


def check_kind(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in KINDS:
        raise UnsupportedMedia("Send Content-Type: application/x-ndjson, one ticket a line.")


class Batch(Response):
    """The answer, which is written while the request is still being read."""

    media_type = "application/x-ndjson"

    def __init__(self, house: House, actor: Actor, request: Request, key: str | None) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._house, self._actor, self._request, self._key = house, actor, request, key

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with tempfile.TemporaryFile() as file:
            done = _Spool(file)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._work(done))
                group.create_task(self._send(done, send))

    async def _work(self, done: _Spool) -> None:
        """Read lines and carry out a few at a time, telling their results in order, each as soon as it is there."""
        waiting: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(AT_ONCE)

        async def tell() -> None:
            while (task := await waiting.get()) is not None:
                done.write(await task)

        async with asyncio.TaskGroup() as group:
            group.create_task(tell())
            lately: dict[Any, asyncio.Task[bytes]] = {}
            # a client that goes away has what was done until then: it posts again what it was not told of
            with suppress(ClientDisconnect):
                async for number, raw in lines(self._request.stream()):
                    parsed = _parsed(raw)
                    # two lines of one reference go one after the other: the first of them is the ticket
                    named = parsed["source"] if isinstance(parsed, dict) else None
                    reference = (named["system"], named["reference"]) if named else number
                    task = group.create_task(self._one(number, parsed, lately.get(reference)))
                    lately = {r: t for r, t in lately.items() if not t.done()} | {reference: task}
                    await waiting.put(task)
            await waiting.put(None)
        done.close()

    @staticmethod
    async def _send(done: _Spool, send: Any) -> None:
        while (chunk := await done.read()) is not None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _one(self, number: int, parsed: dict[str, Any] | Response, before: asyncio.Task[bytes] | None) -> bytes:
        told: dict[str, Any] = {"line": number}
        if isinstance(parsed, Response):
            return _line(told | _problem(parsed))
        if before is not None:
            await asyncio.wait([before])
        try:
            call = Call(f"{ROUTE}#{number}", self._key, digest_of(parsed))
            answer = await intake.accept(self._house, self._actor, parsed, call)
            made = from_json(answer.body)
            told |= {"status": answer.status, "id": made["id"], "number": made["number"]}
        except JiebanError as error:
            told |= _problem(errors.of(error))
        except Exception as error:
            log.error("a line of a batch failed", line=number, error=type(error).__name__, exc_info=error)
            told |= _problem(errors.unforeseen())
        return _line(told)


def _parsed(raw: bytes | None) -> dict[str, Any] | Response:
    """A line as a body, or the problem with it."""
    if raw is None:
        return errors.problem(413, "too-large", "The line is too large", f"A line is at most {MAX_BODY_BYTES} bytes.")
    try:
        return deps.parse(raw, NewTicket).as_posted()
    except JiebanError as error:
        return errors.of(error)


def _line(told: dict[str, Any]) -> bytes:
    return to_json(told) + b"\n"


def _problem(answer: Response) -> dict[str, Any]:
    return {"status": answer.status_code, "problem": from_json(bytes(answer.body))}


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[Line]:
    """Lines that hold something, each whole. What follows the last newline counts when the body ends, not when it is cut."""
    number, rest, skipping = 0, bytearray(), False
    async for chunk in chunks:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            number += 1
            rest += chunk[start:end]
            too_long = skipping or len(rest) > MAX_BODY_BYTES
            raw = bytes(rest).strip()
            rest, skipping, start = bytearray(), False, end + 1
            if too_long or raw:
                yield number, None if too_long else raw
        rest += chunk[start:]
        if len(rest) > MAX_BODY_BYTES:
            rest, skipping = bytearray(), True
    if skipping or rest.strip():
        yield number + 1, None if skipping else bytes(rest).strip()


class _Spool:
    """Bytes that one task writes and another reads, through a file: as much as is written, whenever it is read."""

    def __init__(self, file: Any) -> None:
        self._file, self._written, self._read, self._closed = file, 0, 0, False
        self._more = asyncio.Event()

    def write(self, data: bytes) -> None:
        self._file.seek(self._written)
        self._file.write(data)
        self._written += len(data)
        self._more.set()

    def close(self) -> None:
        self._closed = True
        self._more.set()

    async def read(self) -> bytes | None:
        """What is there, at most one chunk; waits for something; None at the end."""
        while self._read == self._written:
            if self._closed:
                return None
            self._more.clear()
            await self._more.wait()
        self._file.seek(self._read)
        data: bytes = self._file.read(min(CHUNK_BYTES, self._written - self._read))
        self._read += len(data)
        return data
