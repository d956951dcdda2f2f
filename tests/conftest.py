"""Real servers for every test: one embedded PostgreSQL and Valkey per test process, one cloned database per test."""

from __future__ import annotations

import asyncio
import atexit
import gc
import json
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import httpx
import pytest
import structlog
from hypothesis import settings as hypothesis_settings

from service import clock
from service.api.app import Parts, create_app
from service.core.model import Actor, Role
from service.db import migrate
from service.db.session import Database, connect_arguments
from service.db.vault import Vault
from service.embedded import EmbeddedServers, throwaway_servers
from service.integrations.attachments import FileStore
from service.integrations.identity_provider import BuiltinIssuer, Verifier
from service.usecases import folders, publishing
from service.usecases.house import House
from service.usecases.identity import parse_as

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = ROOT / "workflows"
KEY = bytes(range(32))

# plain lines: the default renderer draws every frame with its locals, seconds for each error
structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])
hypothesis_settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
hypothesis_settings.load_profile("ci")


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    with throwaway_servers() as running:
        yield running


@pytest.fixture(scope="session")
def server_dsn(servers: EmbeddedServers) -> str:
    return servers.start_postgres()


@pytest.fixture(scope="session")
def redis_url(servers: EmbeddedServers) -> str:
    return servers.start_redis()


@pytest.fixture(scope="session")
def folder() -> folders.Folder:
    """The shipped workflows folder, read once."""
    return folders.read_folder(WORKFLOWS)


def in_database(dsn: str, name: str) -> str:
    return dsn.replace("@/jieban?", f"@/{name}?")


@pytest.fixture(scope="session")
def template(server_dsn: str, folder: folders.Folder) -> str:
    """A database with the newest schema and the shipped workflows published, to be cloned."""

    async def prepare() -> None:
        async with opened_house(dsn) as house:
            await publishing.publish_folder(house, folder, "tests", "the shipped set")

    asyncio.run(_command(server_dsn, "CREATE DATABASE template_jieban"))
    dsn = in_database(server_dsn, "template_jieban")
    migrate.upgrade(dsn)
    asyncio.run(prepare())
    return "template_jieban"


async def _command(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@asynccontextmanager
async def cloned_database(server_dsn: str, template: str) -> AsyncIterator[str]:
    name = f"t_{os.urandom(6).hex()}"
    await _command(server_dsn, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield in_database(server_dsn, name)
    await _command(server_dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def dsn(server_dsn: str, template: str) -> AsyncIterator[str]:
    """A database of this test's own."""
    async with cloned_database(server_dsn, template) as made:
        yield made


@pytest.fixture(scope="module")
async def shared_dsn(server_dsn: str, template: str) -> AsyncIterator[str]:
    """A database for the tests of one module that do not mind each other's tickets."""
    async with cloned_database(server_dsn, template) as made:
        yield made


_compiled: list[tuple[Any, dict[Any, Any], dict[Any, Any]]] = []


async def _load(house: House) -> None:
    """Every clone holds the template's definitions: they are compiled once a process, and looked at anew by stamp.

    What is kept is a copy: the house it is taken from lives on, and what its test publishes is of its own database.
    """
    if _compiled:
        catalog, workflows, calendars = _compiled[0]
        house.catalog = catalog
        house._workflows, house._calendars = dict(workflows), dict(calendars)
    await house.refresh()
    if not _compiled:
        _compiled.append((house.catalog, dict(house._workflows), dict(house._calendars)))


@cache
def _files() -> str:
    """A folder of this test process for the attachments of all its houses, removed at its end."""
    folder = tempfile.TemporaryDirectory(prefix="jieban-files-")
    atexit.register(folder.cleanup)
    return folder.name


@asynccontextmanager
async def opened_house(dsn: str, *, sandbox: bool = False, size: int = 8) -> AsyncIterator[House]:
    db = await Database.connect(dsn, size, sandbox)
    try:
        house = House(db, Vault(KEY), clock.new_id, ZoneInfo("Asia/Shanghai"), sandbox)
        house.files = FileStore.in_folder(Path(tempfile.mkdtemp(prefix="files-", dir=_files())))
        if "template" not in dsn:
            await _load(house)
        yield house
    finally:
        await db.close()


@pytest.fixture
async def house(dsn: str) -> AsyncIterator[House]:
    async with opened_house(dsn, sandbox=True) as opened:
        yield opened


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> BuiltinIssuer:
    return BuiltinIssuer.open(tmp_path_factory.mktemp("keys"))


def actor(who: str) -> Actor:
    role, departments = parse_as(who)
    return Actor(who, role, departments)


class QuietBell:
    """No workers to wake: tests fire timers themselves."""

    reachable = True

    def ring(self) -> None:
        return

    async def run(self) -> None:
        await asyncio.Event().wait()


class City:
    """The API over a database of its own, with a client per role."""

    def __init__(self, http: httpx.AsyncClient, token: Callable[[str], str], dsn: str, house: House) -> None:
        self.http, self.token, self.dsn, self.house = http, token, dsn, house

    def __repr__(self) -> str:
        return "City()"  # the whole house would be megabytes

    async def request(self, method: str, path: str, who: str | None = "dispatcher", **more: Any) -> httpx.Response:
        headers = dict(more.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {self.token(who)}"
        return await self.http.request(method, path, headers=headers, **more)

    async def get(self, path: str, who: str | None = "dispatcher", **more: Any) -> httpx.Response:
        return await self.request("GET", path, who, **more)

    async def post(self, path: str, body: Any = None, who: str | None = "dispatcher", **more: Any) -> httpx.Response:
        return await self.request("POST", path, who, json={} if body is None else body, **more)

    async def ticket(self, **changes: Any) -> dict[str, Any]:
        """Post one request as the hotline; the ticket."""
        answer = await self.post("/v1/tickets", request_body(**changes), "hotline")
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def act(self, ticket: str, action: str, who: str, status: int = 200, **form: Any) -> dict[str, Any]:
        answer = await self.post(f"/v1/tickets/{ticket}/actions/{action}", form, who)
        assert answer.status_code == status, answer.text
        acted: dict[str, Any] = answer.json()
        return acted

    async def show(self, ticket: str, who: str = "dispatcher") -> dict[str, Any]:
        answer = await self.get(f"/v1/tickets/{ticket}", who)
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    async def advance(self, **how: str) -> dict[str, Any]:
        answer = await self.post("/v1/sandbox/clock", how, "admin")
        assert answer.status_code == 200, answer.text
        moved: dict[str, Any] = answer.json()
        return moved


def request_body(**changes: Any) -> dict[str, Any]:
    """A request that is routed to the tax bureau, unless `changes` says otherwise."""
    body: dict[str, Any] = {
        "source": {"system": "jn12345", "reference": os.urandom(8).hex(), "channel": "phone"},
        "domain": "business_development",
        "matter": "invoice",
        "title": "发票额度不够用",
        "description": "公司本月订单增加，发票额度不够，申请增加额度已提交一周没有答复。",
        "enterprise": {"name": "济南测试机械有限公司", "district": "370102", "industry": "C34"},
        "contact": {"name": "王小明", "phone": "13800001234", "role": "会计"},
    }
    for key, value in changes.items():
        if value is None:
            body.pop(key, None)
        elif isinstance(value, dict) and isinstance(body.get(key), dict):
            body[key] = {k: v for k, v in {**body[key], **value}.items() if v is not None}
        else:
            body[key] = value
    return body


UNROUTED: dict[str, Any] = {
    "domain": "complaint_report",
    "matter": "street_order",
    "title": "一件事",
    "description": "说不清楚",
    "enterprise": {"district": None, "industry": None},
}
"""Changes for a request whose matter belongs to its district, which nobody named: a dispatcher looks."""


@asynccontextmanager
async def opened_city(dsn: str, issuer: BuiltinIssuer, size: int = 8) -> AsyncIterator[City]:
    """The API over a database, called in this process."""

    @asynccontextmanager
    async def parts() -> AsyncIterator[Parts]:
        async with opened_house(dsn, sandbox=True, size=size) as house:
            yield Parts(house, Verifier(builtin=issuer), issuer, QuietBell())

    app = create_app(parts, with_sandbox=True)
    tokens: dict[str, str] = {}

    def token(who: str) -> str:
        if who not in tokens:
            role, departments = parse_as(who.split("@")[-1])
            tokens[who] = issuer.issue(who, role, departments, 3600, clock.wall_now())
        return tokens[who]

    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=30) as http:
            yield City(http, token, dsn, app.state.house)
    gc.unfreeze()  # the application froze what it will live with; the next test's has its own


@pytest.fixture
async def city(dsn: str, issuer: BuiltinIssuer) -> AsyncIterator[City]:
    async with opened_city(dsn, issuer) as opened:
        yield opened


@pytest.fixture(scope="module")
async def shared_city(shared_dsn: str, issuer: BuiltinIssuer) -> AsyncIterator[City]:
    async with opened_city(shared_dsn, issuer) as opened:
        yield opened


def real_requests() -> list[dict[str, Any]]:
    """Lines of the shipped requests."""
    text = (WORKFLOWS / "demo" / "requests.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


Deciding = Callable[..., Awaitable[Any]]
__all__ = [
    "UNROUTED",
    "City",
    "Role",
    "Vault",
    "actor",
    "cloned_database",
    "in_database",
    "opened_city",
    "opened_house",
    "real_requests",
    "request_body",
]
