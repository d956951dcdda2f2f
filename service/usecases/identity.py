"""Clients of the API and what `--as` means: making credentials, trading them for a token, ending them."""

from __future__ import annotations

import hmac
import re
import secrets
from typing import Any

from service.clock import wall_now
from service.core.access import OPERATIONS
from service.core.errors import Conflict, Invalid, NotFound
from service.core.model import SYSTEM, Actor, Role
from service.db import audit
from service.db import identity as stored
from service.db.vault import sha256
from service.integrations.identity_provider import DEPARTMENT, BuiltinIssuer, Unauthenticated
from service.usecases.house import House

LIFETIME_SECONDS = 3600
SECRET_PREFIX = "jbs_"  # noqa: S105  # so that scanners for leaked secrets recognise ours
CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,63}")
NO_SECRET = bytes(32)
"""Compared with when there is no client: no known text hashes to it."""
TOKEN_ROLES = tuple(role for role in Role if role is not Role.SYSTEM)


async def client_token(
    house: House, issuer: BuiltinIssuer | None, client_id: str, client_secret: str
) -> dict[str, Any]:
    """The answer of RFC 6749, 4.4.3. A wrong secret, an unknown and an inactive client are not told apart."""
    if issuer is None:
        raise NotFound("This service gives no tokens (JIEBAN_BUILTIN_ISSUER=0); ask your identity provider for one.")
    row = None
    if CLIENT_ID.fullmatch(client_id):
        async with house.db.transaction(SYSTEM, readonly=True) as tx:
            row = await stored.find_client(tx, client_id)
    expected = row["secret_sha256"] if row is not None and row["active"] else NO_SECRET
    given = sha256(client_secret.encode("utf-8", "surrogatepass"))
    if not hmac.compare_digest(given, expected) or row is None:
        raise Unauthenticated("The client's id or secret is not valid.", error="invalid_client")
    role = Role(row["role"])
    return {
        "access_token": issuer.issue(client_id, role, (), LIFETIME_SECONDS, wall_now()),
        "token_type": "Bearer",
        "expires_in": LIFETIME_SECONDS,
        "scope": scope_of_role(role),
    }


def scope_of_role(role: Role) -> str:
    """The operations open to a role, as an OAuth scope."""
    return " ".join(sorted(name for name, roles in OPERATIONS.items() if role in roles))


async def create_client(house: House, client_id: str, role: Role, actor: Actor = SYSTEM) -> str:
    """Returns the secret, which is kept nowhere and cannot be shown again."""
    if not CLIENT_ID.fullmatch(client_id) or client_id == SYSTEM.subject:
        raise Invalid.field("/client_id", "1 to 64 letters, digits, dots, dashes or underscores; not `system`.")
    if role in (Role.SYSTEM, Role.HANDLER):
        raise Invalid.field("/role", "A client acts for the whole city: any role but handler and system.")
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    async with house.db.transaction(actor) as tx:
        if not await stored.add_client(tx, client_id, str(role), sha256(secret.encode())):
            raise Conflict(f"There is or was a client {client_id!r}; choose another id.")
        await audit.write(tx, house.new_id(), "client.created", None, {"client": client_id, "role": str(role)})
    return secret


async def deactivate_client(house: House, client_id: str, actor: Actor = SYSTEM) -> None:
    """No further tokens; those it has end within a minute where `refuse_deactivated` is asked."""
    async with house.db.transaction(actor) as tx:
        if not CLIENT_ID.fullmatch(client_id) or not await stored.deactivate_client(tx, client_id):
            raise NotFound(f"There is no active client {client_id!r}.")
        await audit.write(tx, house.new_id(), "client.deactivated", None, {"client": client_id})


async def refuse_deactivated(house: House, actor: Actor) -> None:
    """For `Verifier(check=…)`: a client's token must not outlive the client by more than the verifier's cache."""
    if CLIENT_ID.fullmatch(actor.subject):
        async with house.db.transaction(SYSTEM, readonly=True) as tx:
            row = await stored.find_client(tx, actor.subject)
        if row is not None and not row["active"]:
            raise Unauthenticated("The token is not valid.")


def parse_as(text: str) -> tuple[Role, tuple[str, ...]]:
    """`handler:tax,water` -> the role and its departments. Raises Invalid with a sentence for the command line."""
    name, colon, rest = text.strip().partition(":")
    codes = tuple(dict.fromkeys(code.strip() for code in rest.split(","))) if colon else ()
    expected = f"expected one of {', '.join(r for r in TOKEN_ROLES if r is not Role.HANDLER)} or handler:<department>"
    if name not in TOKEN_ROLES:
        raise Invalid(f"{text!r} is not a role: {expected}.")
    if (name == Role.HANDLER) != bool(codes):
        raise Invalid(f"{text!r}: a handler, and nobody else, has departments: {expected}.")
    if not all(DEPARTMENT.fullmatch(code) for code in codes):
        raise Invalid(f"{text!r}: department codes look like `tax` or `handler:tax,water`.")
    return Role(name), codes


def subject_of(role: Role, departments: tuple[str, ...], user: str = "") -> str:
    """Who acts with a token made by `--as`: the name given by `--user`, else the role (`handler:tax,water`)."""
    return user or ":".join(filter(None, (str(role), ",".join(departments))))
