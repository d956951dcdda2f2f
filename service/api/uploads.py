"""A file in a request, as a stream: the raw body, or the part `file` of a multipart/form-data (RFC 7578)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.message import Message
from urllib.parse import unquote

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.api.deps import Malformed
from service.core.errors import FieldError, Invalid
from service.usecases.attachments import Upload

MAX_FIELD_BYTES = 1000
FIELDS = ("name", "audience")
AUDIENCES = ("all", "centre")


async def upload_of(request: Request) -> Upload:
    """Name and audience from the query or the form's fields before the file; the bytes are read as they are asked for."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    query = {field: request.query_params.get(field) for field in FIELDS}
    _known(set(request.query_params))
    if kind == b"multipart/form-data":
        form = _Form(options.get(b"boundary", b""))
        stream = request.stream()
        await form.read_until_file(stream)
        given = {**query, **form.fields}
        return Upload(given["name"] or form.filename, form.rest(stream), None, _audience(given["audience"]))
    name = query["name"] or _filename(request.headers.get("content-disposition", ""))
    if not name:
        raise Invalid.field("/name", "expected ?name=, or Content-Disposition with a filename, or multipart/form-data")
    length = request.headers.get("content-length", "")
    return Upload(name, request.stream(), int(length) if length.isdigit() else None, _audience(query["audience"]))


def _known(fields: set[str]) -> None:
    if unknown := sorted(fields - {*FIELDS, "file"}):
        named = unknown[0] if unknown[0].isidentifier() and len(unknown[0]) < 40 else "(unnamed)"
        raise Invalid(
            "One field is not as expected.", [FieldError(f"/{named}", "unknown field; there are: name, audience, file")]
        )


def _audience(given: str | None) -> str | None:
    if given in {None, ""}:
        return None
    if given not in AUDIENCES:
        raise Invalid.field("/audience", f"expected one of: {', '.join(AUDIENCES)}")
    return given


def _filename(disposition: str) -> str:
    """`filename*` (RFC 8187) or `filename`."""
    message = Message()
    message["content-disposition"] = disposition
    found = message.get_filename("")
    return unquote(found) if "%" in found and "filename*" not in disposition.lower() else found


class _Form:
    """Drives the parser; parts before the file are small fields, and there is nothing after it."""

    def __init__(self, boundary: bytes) -> None:
        if not boundary:
            raise Malformed("multipart/form-data: expected a boundary.")
        self.fields: dict[str, str] = {}
        self.filename, self.has_file, self.ended = "", False, False
        self._data: list[bytes] = []
        self._header, self._value, self._headers = b"", b"", dict[bytes, bytes]()
        self._field, self._text, self._in_file = "", b"", False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": lambda data, start, end: self._add("_header", data[start:end]),
                "on_header_value": lambda data, start, end: self._add("_value", data[start:end]),
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._takes,
                "on_part_end": self._part_ends,
                "on_end": self._ends,
            },
        )

    def _add(self, attribute: str, data: bytes) -> None:
        setattr(self, attribute, getattr(self, attribute) + data)

    def _part_begins(self) -> None:
        if self.has_file:
            raise Invalid.field("", "expected the part `file` as the last one, and only one file")
        self._headers, self._text, self._in_file = {}, b"", False

    def _header_ends(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        _known({self._field})
        if self._field == "file":
            named = options.get(b"filename", b"").decode("utf-8", "replace")
            self.filename, self.has_file, self._in_file = named, True, True

    def _takes(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._data.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MAX_FIELD_BYTES:
            raise Invalid.field(f"/{self._field}", f"expected at most {MAX_FIELD_BYTES} bytes")

    def _part_ends(self) -> None:
        if not self._in_file:
            self.fields[self._field] = self._text.decode("utf-8", "replace")
        self._in_file = False

    def _ends(self) -> None:
        self.ended = True

    def _write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except MultipartParseError:
            raise Malformed("The multipart/form-data cannot be read.") from None

    async def read_until_file(self, stream: AsyncIterator[bytes]) -> None:
        async for chunk in stream:
            self._write(chunk)
            if self.has_file:
                return
        raise Invalid.field("/file", "expected: a part of this name that holds the file")

    async def rest(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The file's bytes. A form that is cut before its end is no file."""
        while True:
            taken, self._data = b"".join(self._data), []
            if taken:
                yield taken
            chunk = await anext(stream, None)
            if chunk is None:
                break
            self._write(chunk)
        if not self.ended:
            raise Malformed("The multipart/form-data ends before its end.")
