"""Files of a ticket: what is taken, what is refused, who sees them, how they are given back, and that nothing is left over."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.core.errors import JiebanError
from service.core.model import SYSTEM
from service.integrations.attachments import FileStore
from service.usecases import attachments
from tests.api.test_joining import sound
from tests.conftest import City

TAX, WATER = "handler:tax", "handler:water"
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 400
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 100


def docx() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", "<w:document/>")
    return made.getvalue()


async def put(city: City, ticket: str, name: str, data: Any, who: str = TAX, **more: Any) -> httpx.Response:
    params = {"name": name, **more.pop("params", {})}
    path = f"/v1/tickets/{ticket}/attachments"
    return await city.request("POST", path, who, params=params, content=data, **more)


async def rows(city: City) -> list[Any]:
    async with city.house.db.transaction(SYSTEM, readonly=True) as tx:
        return await tx.rows("SELECT * FROM attachments ORDER BY id")


def files(city: City) -> list[Path]:
    assert city.house.files is not None and city.house.files._folder is not None
    return [p for p in city.house.files._folder.rglob("*") if p.is_file()]


async def test_a_file_comes_back_as_it_went_in_and_for_download_only(city: City) -> None:
    ticket = await city.ticket()
    answer = await put(city, ticket["number"], "用地 批复(1).pdf", PDF)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/v1/attachments/{made['id']}"
    assert (made["name"], made["media_type"], made["size"]) == ("用地 批复(1).pdf", "application/pdf", len(PDF))
    assert (
        made["sha256"] == hashlib.sha256(PDF).hexdigest() and made["uploaded_by"] == TAX and made["department"] == "tax"
    )
    back = await city.get(f"/v1/attachments/{made['id']}", TAX)
    assert back.content == PDF
    expected = {
        "content-type": "application/pdf",
        "content-disposition": "attachment; filename*=UTF-8''%E7%94%A8%E5%9C%B0%20%E6%89%B9%E5%A4%8D%281%29.pdf",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "cache-control": "private, no-store",
        "content-length": str(len(PDF)),
    }
    assert {name: back.headers[name] for name in expected} == expected
    assert back.headers["repr-digest"].startswith("sha-256=:")
    assert (await city.get(f"/v1/tickets/{ticket['id']}/attachments", TAX)).json()["items"] == [made]
    events = (await city.get(f"/v1/tickets/{ticket['id']}/events", TAX)).json()["items"]
    assert events[-1]["type"] == "attachment.added" and events[-1]["data"]["sha256"] == made["sha256"]
    async with city.house.db.transaction(SYSTEM, readonly=True) as tx:
        assert await tx.value("SELECT count(*) FROM audit WHERE action = 'attachment.read'") == 1
    await sound(city)


async def test_a_form_with_a_file_is_taken_too(city: City) -> None:
    ticket = (await city.ticket())["id"]
    path = f"/v1/tickets/{ticket}/attachments"
    answer = await city.request(
        "POST", path, "hotline", files={"file": ("现场.png", PNG, "text/html")}, data={"audience": "centre"}
    )
    assert answer.status_code == 201, answer.text
    assert (answer.json()["name"], answer.json()["media_type"], answer.json()["audience"]) == (
        "现场.png",
        "image/png",
        "centre",
    )
    assert (await city.get(f"/v1/attachments/{answer.json()['id']}")).content == PNG
    named = await city.request("POST", path, TAX, files={"file": ("x.png", PNG)}, data={"name": "改名.png"})
    assert named.json()["name"] == "改名.png"
    for wrong, status in (
        ({"files": {"document": ("a.png", PNG)}}, 422),
        ({"files": {"file": ("a.png", PNG)}, "data": {"colour": "red"}}, 422),
        ({"files": {"file": ("a.png", PNG)}, "data": {"audience": "nobody"}}, 422),
        ({"files": [("file", ("a.png", PNG)), ("file", ("b.png", PNG))]}, 422),
        ({"data": {"audience": "all"}, "files": {}}, 422),
        ({"content": b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\n" + PNG,
          "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400),
        ({"content": b"nothing of the kind", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400),
        ({"content": b"", "headers": {"Content-Type": "multipart/form-data"}}, 400),
    ):  # fmt: skip
        refused = await city.request("POST", path, TAX, **wrong)
        assert refused.status_code == status, (wrong, refused.text)
        assert refused.headers["content-type"] == "application/problem+json"
    assert len(files(city)) == len(await rows(city)) == 2


@pytest.mark.parametrize(
    ("name", "data", "status"),
    [
        ("a.pdf", PDF, 201), ("A.PDF", PDF, 201), ("b.png", PNG, 201), ("c.docx", docx(), 201), ("d.txt", "说明".encode(), 201),
        ("e.csv", "单位,金额\n税务,3".encode("gb18030"), 201), ("f.jpg", b"\xff\xd8\xff\xe0" + b"0" * 9, 201),
        ("a.exe", b"MZ" + b"\x00" * 50, 415), ("a.html", b"<html>", 415), ("a.svg", b"<svg onload=alert(1)>", 415),
        ("a", PDF, 415), (".pdf", PDF, 415), ("a.zip", docx(), 415), ("a.pdf.js", PDF, 415),
        ("a.pdf", PNG, 415), ("a.png", b"<html><script>", 415), ("a.docx", b"PK\x03\x04" + b"evil" * 99, 415),
        ("a.txt", b"  <script>alert(1)</script>", 415), ("a.txt", b"\x00\x01", 415), ("a.txt", b"\xff\xfe\x00", 415),
        ("a.pdf", b"", 422), ("", PDF, 422), ("x" * 300 + ".pdf", PDF, 422),
    ],
)  # fmt: skip
async def test_the_kind_of_a_file_is_told_by_its_bytes(shared_city: City, name: str, data: bytes, status: int) -> None:
    city = shared_city
    ticket = (await city.ticket())["id"]
    answer = await put(city, ticket, name, data)
    assert answer.status_code == status, answer.text
    listed = (await city.get(f"/v1/tickets/{ticket}/attachments", TAX)).json()["items"]
    assert len(listed) == (status == 201)
    assert not [row for row in await rows(city) if row["state"] == "receiving"]
    if status == 201:
        assert not listed[0]["media_type"].startswith("text/html")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("../../etc/passwd.pdf", "passwd.pdf"), ("C:\\x\\a.pdf", "a.pdf"), ("exe\u202efdp.pdf", "exefdp.pdf"),
     ("a\r\nSet-Cookie: x.pdf", "aSet-Cookie: x.pdf"), ('q"uo\'te;.pdf', 'q"uo\'te;.pdf')],
)  # fmt: skip
async def test_a_name_is_only_a_name(shared_city: City, given: str, kept: str) -> None:
    ticket = (await shared_city.ticket())["id"]
    made = (await put(shared_city, ticket, given, PDF)).json()
    assert made["name"] == kept
    back = await shared_city.get(f"/v1/attachments/{made['id']}", TAX)
    assert back.status_code == 200 and "set-cookie" not in back.headers
    assert {p.name for p in files(shared_city)} >= {made["id"]}, "bytes lie under an id, never under a name"


async def test_more_than_is_allowed_is_refused_and_leaves_nothing(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = (await city.ticket())["id"]
    limited(city, monkeypatch, max_bytes=100_000, per_ticket=2)
    announced = await put(city, ticket, "a.pdf", PDF)
    assert (announced.status_code, announced.json()["type"]) == (413, "/problems/too-large")

    async def endless() -> AsyncIterator[bytes]:
        yield PDF[:9]
        while True:
            yield b"x" * 5000

    unannounced = await put(city, ticket, "a.pdf", endless())
    assert unannounced.status_code == 413 and await rows(city) == [] and files(city) == []
    for status in (201, 201, 409):
        assert (await put(city, ticket, "a.png", PNG)).status_code == status
    assert len(files(city)) == len(await rows(city)) == 2


def limited(city: City, monkeypatch: pytest.MonkeyPatch, **limits: int) -> None:
    desk = city.house.rules.desk
    rules = desk.attachments.model_copy(update=limits)
    changed = desk.model_copy(update={"attachments": rules})
    monkeypatch.setattr(city.house, "catalog", _with_desk(city.house.rules, changed))


def _with_desk(catalog: Any, desk: Any) -> Any:
    from dataclasses import replace

    return replace(catalog, desk=desk)


async def test_an_upload_that_is_cut_leaves_nothing(city: City) -> None:
    ticket = (await city.ticket())["id"]

    async def cut() -> AsyncIterator[bytes]:
        yield PDF
        yield b"x" * 6_000_000
        raise ConnectionError("the caller is gone")

    upload = attachments.Upload("a.pdf", cut())
    with pytest.raises(ConnectionError):
        await attachments.add(city.house, actor_of(TAX), ticket, upload, None)
    assert await rows(city) == [] and files(city) == []

    reached = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield PDF
        reached.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(
        attachments.add(city.house, actor_of(TAX), ticket, attachments.Upload("a.pdf", stuck()), None)
    )
    await reached.wait()
    assert len(await rows(city)) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await rows(city) == [] and files(city) == []


def actor_of(who: str) -> Any:
    from tests.conftest import actor

    return actor(who)


async def test_what_a_killed_process_left_is_swept_and_nothing_else(city: City) -> None:
    ticket = (await city.ticket())["id"]
    kept = (await put(city, ticket, "a.pdf", PDF)).json()["id"]
    assert city.house.files is not None and city.house.files._folder is not None
    left = city.house.new_id()
    row = {"id": left, "ticket_id": ticket, "name": "b.pdf", "media_type": "application/pdf", "audience": "all"}
    async with city.house.db.transaction(actor_of(TAX)) as tx:
        from service.db import attachments as stored

        await stored.begin(tx, row)
    (city.house.files._folder / left).write_bytes(b"whole, but nobody said so")
    (city.house.files._folder / f"{left}#1").write_bytes(b"half")
    assert (await city.get(f"/v1/attachments/{left}", TAX)).status_code == 404
    assert await attachments.sweep(city.house) == 0, "it may still be under way"
    await city.advance(advance_by="P1D")
    assert await attachments.sweep(city.house) == 1
    assert [row["id"] for row in await rows(city)] == [kept] and [p.name for p in files(city)] == [kept]


async def test_an_upload_that_was_swept_meanwhile_does_not_become_valid(city: City) -> None:
    ticket = (await city.ticket())["id"]

    async def slow() -> AsyncIterator[bytes]:
        yield PDF
        await city.advance(advance_by="P1D")
        assert await attachments.sweep(city.house) == 1
        yield b"the end"

    with pytest.raises(JiebanError, match="send the file again"):
        await attachments.add(city.house, actor_of(TAX), ticket, attachments.Upload("a.pdf", slow()), None)
    assert await rows(city) == [] and files(city) == []
    events = (await city.get(f"/v1/tickets/{ticket}/events")).json()["items"]
    assert "attachment.added" not in [e["type"] for e in events]


async def test_the_same_upload_with_its_key_again_is_the_same_attachment(city: City) -> None:
    ticket = (await city.ticket())["id"]
    key = {"Idempotency-Key": "up-1"}
    first, again = [await put(city, ticket, "a.pdf", PDF, headers=key) for _ in range(2)]
    assert first.content == again.content and again.headers["idempotent-replayed"] == "true"
    assert (await put(city, ticket, "a.pdf", PDF + b"x", headers=key)).status_code == 422
    assert len(files(city)) == len(await rows(city)) == 1
    at_once = await asyncio.gather(
        *(put(city, ticket, "b.png", PNG, headers={"Idempotency-Key": "k"}) for _ in range(4))
    )
    assert len({a.json()["id"] for a in at_once}) == 1 and len(files(city)) == len(await rows(city)) == 2


async def test_a_department_sees_the_files_of_its_tickets_only(city: City) -> None:
    ticket = (await city.ticket())["id"]
    made = (await put(city, ticket, "a.pdf", PDF)).json()["id"]
    for path in (f"/v1/attachments/{made}", f"/v1/tickets/{ticket}/attachments"):
        assert (await city.get(path, WATER)).status_code == 404
        assert (await city.get(path, None)).status_code == 401
    assert (await put(city, ticket, "a.pdf", PDF, WATER)).status_code == 404
    assert (await put(city, ticket, "a.pdf", PDF, "auditor")).status_code == 403
    assert (await city.get("/v1/attachments/x", TAX)).status_code == 404
    assert (await put(city, "QY202001010000001", "a.pdf", PDF)).status_code == 404


async def test_accuser_material_never_reaches_who_handles_the_ticket(city: City) -> None:
    ticket = (await city.ticket(confidential=True))["id"]
    secret = (await put(city, ticket, "举报人王小明的录音.pdf", PDF, "hotline")).json()
    assert secret["audience"] == "centre", "what comes with a confidential request stays with the centre"
    open_one = (await put(city, ticket, "b.pdf", PDF, "hotline", params={"audience": "all"})).json()
    assert [i["id"] for i in (await city.get(f"/v1/tickets/{ticket}/attachments", TAX)).json()["items"]] == [
        open_one["id"]
    ]
    assert (await city.get(f"/v1/attachments/{secret['id']}", TAX)).status_code == 404
    assert (await city.get(f"/v1/attachments/{secret['id']}")).status_code == 200
    for path in (f"/v1/tickets/{ticket}/events", f"/v1/tickets/{ticket}"):
        assert "王小明的录音" not in (await city.get(path, TAX)).text
    refused = await put(city, ticket, "c.pdf", PDF, TAX, params={"audience": "centre"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/audience")


async def test_a_store_that_is_away_is_told_as_such(city: City, tmp_path: Path) -> None:
    ticket = (await city.ticket())["id"]
    made = (await put(city, ticket, "a.pdf", PDF)).json()["id"]
    kept = city.house.files
    city.house.files = FileStore("s3://nowhere/x", {"endpoint": "http://127.0.0.1:1", "access_key_id": "a",
                                                    "secret_access_key": "b"})  # fmt: skip
    refused = await put(city, ticket, "b.pdf", PDF)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert (await city.get(f"/v1/attachments/{made}", TAX)).status_code == 503
    city.house.files = kept
    await city.advance(advance_by="P1D")
    assert await attachments.sweep(city.house) == 1 and len(await rows(city)) == 1
    files(city)[0].unlink()
    lost = await city.get(f"/v1/attachments/{made}", TAX)
    assert lost.status_code == 404 and "not in the store" in lost.json()["detail"]


async def test_an_upload_has_its_hour_and_no_longer(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep waits twice as long as any upload may take: it never takes away what is still under way."""
    rules = city.house.rules.desk.attachments
    assert timedelta(minutes=2 * rules.unfinished_minutes) > timedelta(minutes=rules.unfinished_minutes)
    limited(city, monkeypatch, unfinished_minutes=0)
    ticket = (await city.ticket())["id"]

    async def slow() -> AsyncIterator[bytes]:
        yield PDF
        await asyncio.sleep(5)

    with pytest.raises(Exception, match="longer than"):
        await attachments.add(city.house, actor_of(TAX), ticket, attachments.Upload("a.pdf", slow()), None)
    assert await rows(city) == [] and files(city) == []
