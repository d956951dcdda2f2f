"""Clients and their secrets in a real PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from service import clock
from service.core.errors import Conflict, Forbidden, Invalid, NotFound
from service.core.model import SYSTEM, Actor, Role
from service.db import identity as stored
from service.db import migrate
from service.db.session import Database
from service.db.vault import Vault
from service.embedded import throwaway_servers
from service.integrations.identity_provider import BuiltinIssuer, Unauthenticated, Verifier
from service.usecases import identity
from service.usecases.house import House

ADMIN = Actor("admin", Role.ADMIN)


@pytest.fixture(scope="session")
def clients_dsn() -> Iterator[str]:
    """Migrated here, before any loop runs."""
    with throwaway_servers() as servers:
        dsn = servers.start_postgres()
        migrate.upgrade(dsn)
        yield dsn


@pytest.fixture
async def house(clients_dsn: str) -> AsyncIterator[House]:
    db = await Database.connect(clients_dsn, 4, sandbox=False)
    try:
        yield House(db, Vault(bytes(32)), clock.new_id, ZoneInfo("Asia/Shanghai"))
    finally:
        await db.close()


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> BuiltinIssuer:
    return BuiltinIssuer.open(tmp_path_factory.mktemp("issuer"))


@pytest.fixture
def name() -> str:
    return f"m-{clock.new_id()}"


async def test_a_client_trades_its_secret_for_a_token(house: House, key: BuiltinIssuer, name: str) -> None:
    secret = await identity.create_client(house, name, Role.HOTLINE)
    assert secret.startswith("jbs_")
    assert len(secret) >= 4 + 43
    answer = await identity.client_token(house, key, name, secret)
    assert set(answer) == {"access_token", "token_type", "expires_in", "scope"}
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3600)
    assert "tickets:write" in answer["scope"].split()
    verified = await Verifier(builtin=key).verify(answer["access_token"])
    assert verified.actor == Actor(name, Role.HOTLINE)
    assert 3590 < verified.expires_at - clock.wall_now().timestamp() <= 3600


async def test_only_a_hash_is_kept_and_the_act_is_on_record(house: House, name: str) -> None:
    secret = await identity.create_client(house, name, Role.AUDITOR, ADMIN)
    async with house.db.transaction(SYSTEM) as tx:
        row = await stored.find_client(tx, name)
        noted = await tx.row("SELECT actor, data FROM audit WHERE data->>'client' = $1", name)
    assert row["secret_sha256"] == hashlib.sha256(secret.encode()).digest()
    assert (noted["actor"]["subject"], noted["data"]["role"]) == ("admin", "auditor")
    assert secret not in repr(noted)


async def test_all_failures_are_told_in_the_same_words(house: House, key: BuiltinIssuer, name: str) -> None:
    secret = await identity.create_client(house, name, Role.HOTLINE)
    gone = f"{name}-gone"
    gone_secret = await identity.create_client(house, gone, Role.HOTLINE)
    await identity.deactivate_client(house, gone)
    attempts = [
        (name, secret[:-1]),
        (name, secret + "x"),
        (name, ""),
        (name, gone_secret),
        (name, "\ud800\x00"),
        (name, hashlib.sha256(secret.encode()).hexdigest()),
        (name, "\x00" * 32),
        (gone, gone_secret),
        ("nobody", secret),
        ("", ""),
        ("nul\x00", secret),
        ("\ud800", secret),
        (name.upper(), secret),
        (f"{name}' OR true --", secret),
    ]
    told = set()
    for client_id, given in attempts:
        with pytest.raises(Unauthenticated) as refused:
            await identity.client_token(house, key, client_id, given)
        told.add((refused.value.slug, refused.value.detail, tuple(refused.value.extra.items())))
    assert told == {("unauthenticated", "The client's id or secret is not valid.", (("error", "invalid_client"),))}


async def test_without_the_built_in_issuer_there_are_no_tokens(house: House, name: str) -> None:
    secret = await identity.create_client(house, name, Role.HOTLINE)
    with pytest.raises(NotFound, match="identity provider"):
        await identity.client_token(house, None, name, secret)


async def test_a_name_is_given_once_also_when_two_ask_at_once(house: House, name: str) -> None:
    made = await asyncio.gather(
        *(identity.create_client(house, name, Role.HOTLINE) for _ in range(4)), return_exceptions=True
    )
    assert sum(isinstance(one, str) for one in made) == 1
    assert sum(isinstance(one, Conflict) for one in made) == 3
    await identity.deactivate_client(house, name)
    with pytest.raises(Conflict):
        await identity.create_client(house, name, Role.HOTLINE)


@pytest.mark.parametrize("client_id", ["", "system", "a b", "a/b", "机器", "-x", "x" * 65, "a\x00"])
async def test_an_unfit_name_is_refused(house: House, client_id: str) -> None:
    with pytest.raises(Invalid):
        await identity.create_client(house, client_id, Role.HOTLINE)


@pytest.mark.parametrize("role", [Role.HANDLER, Role.SYSTEM])
async def test_a_client_is_never_a_handler_or_the_service(house: House, name: str, role: Role) -> None:
    with pytest.raises(Invalid):
        await identity.create_client(house, name, role)


async def test_the_list_shows_no_hash(house: House, name: str) -> None:
    await identity.create_client(house, name, Role.SUPERVISOR)
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        rows = await stored.list_clients(tx)
    (row,) = [row for row in rows if row["id"] == name]
    assert set(row.keys()) == {"id", "role", "active", "created_at"}
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)


async def test_a_client_is_deactivated_once(house: House, name: str) -> None:
    await identity.create_client(house, name, Role.HOTLINE)
    await identity.deactivate_client(house, name)
    for unknown in (name, "nobody", "nul\x00"):
        with pytest.raises(NotFound):
            await identity.deactivate_client(house, unknown)


async def test_a_token_ends_within_a_minute_of_its_client(house: House, key: BuiltinIssuer, name: str) -> None:
    ticks = [0.0]
    verifier = Verifier(builtin=key, check=partial(identity.refuse_deactivated, house), ticks=lambda: ticks[0])
    secret = await identity.create_client(house, name, Role.HOTLINE)
    token = (await identity.client_token(house, key, name, secret))["access_token"]
    person = key.issue("王小明", Role.DISPATCHER, (), 600, clock.wall_now())
    assert (await verifier.verify(token)).actor.subject == name
    await identity.deactivate_client(house, name)
    ticks[0] = 60.0
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)
    assert (await verifier.verify(person)).actor.role is Role.DISPATCHER


async def test_a_client_without_a_usable_role_gets_nothing(house: House, key: BuiltinIssuer, tmp_path: Path) -> None:
    """The role stands in the token; a handler's token without departments is refused with a sentence."""
    odd = key.issue("x", Role.HANDLER, ("tax",), 60, clock.wall_now())
    with pytest.raises(Forbidden, match="do not exist here: tax"):
        await Verifier(builtin=key, known_departments=lambda: {"water"}).verify(odd)
