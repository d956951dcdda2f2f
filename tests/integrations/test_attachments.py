"""The store of attachments: a folder, and a bucket spoken to in S3's own protocol over HTTP."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from service.integrations.attachments import CHUNK_BYTES, FileStore


class Bucket(ThreadingHTTPServer):
    """As much of S3 as the store speaks: objects, and uploads in parts that are there only once they are completed."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.signed = 0


class _Handler(BaseHTTPRequestHandler):
    server: Bucket
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        return

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.server.signed += "AWS4-HMAC-SHA256 Credential=key/" in self.headers.get("authorization", "")
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def asked(self) -> tuple[str, dict[str, list[str]], bytes]:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        return parts.path, parse_qs(parts.query, keep_blank_values=True), body

    def do_POST(self) -> None:
        key, query, body = self.asked()
        if "delete" in query:
            names = [name.decode() for name in re.findall(rb"<Key>(.*?)</Key>", body)]
            for name in names:
                self.server.objects.pop(f"{key}/{name}", None)
            gone = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
            told = f"<DeleteResult>{gone}</DeleteResult>"
        elif "uploads" in query:
            name = f"upload-{len(self.server.uploads)}"
            self.server.uploads[name] = {}
            told = f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
        else:
            parts = self.server.uploads.pop(query["uploadId"][0])
            self.server.objects[key] = b"".join(part for _, part in sorted(parts.items()))
            told = '<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>'
        self.answer(200, told.encode())

    def do_PUT(self) -> None:
        key, query, body = self.asked()
        if "uploadId" in query:
            self.server.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = body
        else:
            self.server.objects[key] = body
        self.answer(200, ETag='"e"')

    def do_GET(self) -> None:
        key, _, _ = self.asked()
        if key not in self.server.objects:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        modified = "Thu, 26 Nov 2026 00:00:00 GMT"
        self.answer(200, self.server.objects[key], ETag='"e"', Last_Modified=modified)

    def do_DELETE(self) -> None:
        key, query, _ = self.asked()
        if "uploadId" in query:
            self.server.uploads.pop(query["uploadId"][0], None)
        else:
            self.server.objects.pop(key, None)
        self.answer(204)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    server = Bucket()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, bucket: Bucket) -> FileStore:
    if request.param == "folder":
        return FileStore.in_folder(tmp_path / "文件 夹")
    options = {"endpoint": f"http://127.0.0.1:{bucket.server_port}", "access_key_id": "key", "secret_access_key": "s",
               "region": "cn-jinan"}  # fmt: skip
    return FileStore("s3://papers/city", options)


async def pieces(data: bytes, then: Exception | None = None) -> AsyncIterator[bytes]:
    for n in range(0, len(data), 700_000):
        yield data[n : n + 700_000]
    if then is not None:
        raise then


async def read(store: FileStore, key: str) -> bytes:
    return b"".join([piece async for piece in await store.open(key)])


@pytest.mark.parametrize("size", [1, 700_000, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 17])
async def test_what_is_put_is_what_is_read(store: FileStore, size: int) -> None:
    data = os.urandom(size)
    await store.put("01a2-key", pieces(data))
    assert await read(store, "01a2-key") == data


def left(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


async def test_a_file_whose_writing_fails_is_not_there(store: FileStore, bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the sender is gone"):
        await store.put("k", pieces(os.urandom(2 * CHUNK_BYTES), RuntimeError("the sender is gone")))
    with pytest.raises(FileNotFoundError):
        await store.open("k")
    assert left(tmp_path) == [] and bucket.objects == {}


async def test_a_deleted_file_is_gone_and_deleting_it_again_does_no_harm(store: FileStore) -> None:
    await store.put("k", pieces(b"x"))
    for _ in range(2):
        await store.delete("k")
    with pytest.raises(FileNotFoundError):
        await store.open("k")


async def test_requests_to_a_bucket_are_signed_and_stay_under_its_prefix(bucket: Bucket) -> None:
    options = {"endpoint": f"http://127.0.0.1:{bucket.server_port}", "access_key_id": "key", "secret_access_key": "s"}
    await FileStore("s3://papers/city", options).put("k", pieces(b"x"))
    assert list(bucket.objects) == ["/papers/city/k"] and bucket.signed > 0


def test_an_address_of_no_store_is_refused() -> None:
    for wrong in ("ftp://x/y", "nothing", "s3://"):
        with pytest.raises(ValueError, match="JIEBAN_ATTACHMENTS_URL"):
            FileStore(wrong)
