"""Tokens, good and bad, against the real issuer, real signatures and a key server on this machine."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from service.clock import wall_now
from service.core.errors import Forbidden, Invalid, JiebanError
from service.core.model import Actor, Role
from service.integrations import identity_provider
from service.integrations.identity_provider import (
    CACHE_ENTRIES,
    BuiltinIssuer,
    RemoteKeys,
    Unauthenticated,
    Verifier,
)
from service.usecases.identity import parse_as, scope_of_role, subject_of

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())

EC = ECKey.generate_key("P-256", {"kid": "ec"})
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
PSS = RSAKey.generate_key(2048, {"kid": "pss", "alg": "PS256"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed", "alg": "EdDSA"})
P384 = ECKey.generate_key("P-384", {"kid": "p384"})
ENCRYPTION = RSAKey.generate_key(2048, {"kid": "enc", "use": "enc"})
ALL = (EC, RSA, PSS, ED, P384, ENCRYPTION)


class Clock:
    """Both clocks of a verifier, moved by hand."""

    def __init__(self) -> None:
        self.passed = 0.0

    def wall(self) -> datetime:
        return NOW + timedelta(seconds=self.passed)

    def ticks(self) -> float:
        return 1000.0 + self.passed


def b64(data: Any) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def signed(header: Any, claims: Any, sign: Callable[[bytes], bytes]) -> str:
    body = f"{b64(header)}.{b64(claims)}"
    return f"{body}.{b64(sign(body.encode()))}"


def token_of(key: Key, algorithm: str, header: dict[str, Any], claims: Any) -> str:
    """A compact JWS with exactly this header and these claims, whatever they are."""
    model = JWSRegistry.algorithms["Ed25519" if algorithm == "EdDSA" else algorithm]
    full = {"alg": algorithm, "typ": "at+jwt", "kid": key.kid, **header}
    return signed({k: v for k, v in full.items() if v is not ...}, claims, lambda text: model.sign(text, key))


# --- a key server ------------------------------------------------------------------------------------------------


@dataclass
class KeyServer:
    """Serves a JWK Set over HTTP; counts fetches; can be made to misbehave."""

    url: str = ""
    fetches: int = 0
    keys: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    body: bytes | None = None
    headers: str = ""
    pause_seconds: float = 0.0
    drip_seconds: float = 0.0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.fetches += 1
            await asyncio.sleep(self.pause_seconds)
            body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
            head = f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{self.headers}\r\n"
            step = 1 if self.drip_seconds else 1 << 30
            for at in range(0, len(head) + len(body), step):
                writer.write((head.encode() + body)[at : at + step])
                await writer.drain()
                await asyncio.sleep(self.drip_seconds)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client gave up, as it should
        finally:
            writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[KeyServer]:
    server = KeyServer(keys=[dict(key.as_dict(private=False)) for key in ALL])
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/jwks.json"
    try:
        yield server
    finally:
        listening.close()
        await listening.wait_closed()


@dataclass
class Desk:
    """A verifier that believes a built-in issuer and one elsewhere, with what is needed to make tokens for it."""

    verifier: Verifier
    builtin: BuiltinIssuer
    server: KeyServer
    clock: Clock
    folder: Path

    @property
    def issuer(self) -> str:
        return self.server.url.removesuffix("/jwks.json")

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Good claims of the OIDC issuer with these changes; `...` takes a claim away."""
        good = {
            "iss": self.issuer, "aud": "jieban", "sub": "u-17", "roles": ["dispatcher"],
            "iat": SECONDS, "nbf": SECONDS, "exp": SECONDS + 600,
        }  # fmt: skip
        return {k: v for k, v in {**good, **changes}.items() if v is not ...}

    def token(self, key: Key = EC, algorithm: str = "ES256", header: Any = None, **changes: Any) -> str:
        return token_of(key, algorithm, header or {}, self.claims(**changes))

    def own(self, header: Any = None, **changes: Any) -> str:
        """A token that the built-in issuer's true key signed, with any header and claims."""
        key = ECKey.import_key(json.loads((self.folder / "keys" / "issuer.json").read_text())["keys"][0])
        good = {
            "iss": "jieban", "aud": "jieban", "sub": "hotline", "role": "hotline", "departments": [],
            "iat": SECONDS, "nbf": SECONDS, "exp": SECONDS + 600,
        }  # fmt: skip
        claims = {k: v for k, v in {**good, **changes}.items() if v is not ...}
        return token_of(key, "ES256", header or {}, claims)


@asynccontextmanager
async def a_desk(folder: Path, **options: Any) -> AsyncIterator[Desk]:
    clock = Clock()
    builtin = BuiltinIssuer.open(folder)
    async with serving() as server:
        verifier = Verifier(
            builtin=builtin,
            oidc_issuer=server.url.removesuffix("/jwks.json"),
            jwks_url=server.url,
            wall=clock.wall,
            ticks=clock.ticks,
            **options,
        )
        yield Desk(verifier, builtin, server, clock, folder)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path) as made:
        yield made


# --- good tokens -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "actor"),
    [
        *[(role, Actor(role, Role(role))) for role in ("hotline", "dispatcher", "supervisor", "reviewer", "auditor")],
        ("admin", Actor("admin", Role.ADMIN)),
        ("handler:tax", Actor("handler:tax", Role.HANDLER, ("tax",))),
        ("handler:tax,water", Actor("handler:tax,water", Role.HANDLER, ("tax", "water"))),
    ],
)
async def test_a_token_made_for_a_role_speaks_for_it(desk: Desk, who: str, actor: Actor) -> None:
    role, departments = parse_as(who)
    token = desk.builtin.issue(subject_of(role, departments), role, departments, 600, NOW)
    verified = await desk.verifier.verify(token)
    assert (verified.actor, verified.expires_at) == (actor, SECONDS + 600)
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": desk.builtin.keys()["keys"][0]["kid"]}
    assert set(claims) == {"iss", "aud", "sub", "role", "departments", "iat", "nbf", "exp", "jti"}
    assert desk.server.fetches == 0


async def test_a_person_keeps_the_name_given(desk: Desk) -> None:
    token = desk.builtin.issue(subject_of(Role.AUDITOR, (), "王小明"), Role.AUDITOR, (), 600, NOW)
    assert (await desk.verifier.verify(token)).actor == Actor("王小明", Role.AUDITOR)


@pytest.mark.parametrize(
    ("key", "algorithm"), [(EC, "ES256"), (RSA, "RS256"), (RSA, "PS256"), (PSS, "PS256"), (ED, "EdDSA")]
)
async def test_each_algorithm_of_the_list_is_taken(desk: Desk, key: Key, algorithm: str) -> None:
    token = desk.token(key, algorithm, {"typ": "application/at+JWT", "x5t": "abc", "of-no-meaning": 1})
    assert (await desk.verifier.verify(token)).actor == Actor("u-17", Role.DISPATCHER)


async def test_an_issuer_may_name_several_audiences_and_be_a_minute_ahead(desk: Desk) -> None:
    token = desk.token(aud=["other", "jieban"], nbf=SECONDS + 60, iat=SECONDS + 59.5)
    assert (await desk.verifier.verify(token)).actor.subject == "u-17"


@pytest.mark.parametrize(
    ("claims", "actor"),
    [
        ({"roles": ["offline_access", "hotline"]}, Actor("u-17", Role.HOTLINE)),
        ({"roles": "openid dispatcher"}, Actor("u-17", Role.DISPATCHER)),
        ({"roles": ["handler", "admin"], "departments": ["tax"]}, Actor("u-17", Role.ADMIN)),
        ({"roles": ["hotline", "supervisor", "handler"]}, Actor("u-17", Role.SUPERVISOR)),
        ({"roles": ["handler"], "departments": ["tax", "water", "tax"]}, Actor("u-17", Role.HANDLER, ("tax", "water"))),
        ({"roles": ["handler"], "departments": "tax, water"}, Actor("u-17", Role.HANDLER, ("tax", "water"))),
        ({"roles": ["dispatcher"], "departments": ["tax"]}, Actor("u-17", Role.DISPATCHER)),
    ],
)
async def test_the_first_role_in_the_fixed_order_counts(desk: Desk, claims: dict[str, Any], actor: Actor) -> None:
    assert (await desk.verifier.verify(desk.token(**claims))).actor == actor


async def test_claims_may_lie_deeper_or_have_dots_in_their_names(tmp_path: Path) -> None:
    named = {"roles_claim": "realm_access.roles", "departments_claim": "https://city.example/units"}
    async with a_desk(tmp_path, **named) as desk:
        claims = desk.claims(realm_access={"roles": ["handler"]}) | {"https://city.example/units": ["tax"]}
        token = token_of(EC, "ES256", {}, claims)
        assert (await desk.verifier.verify(token)).actor == Actor("u-17", Role.HANDLER, ("tax",))
        for odd in (["handler"], "handler", None, {"other": 1}):
            with pytest.raises(Forbidden):
                await desk.verifier.verify(desk.token(realm_access=odd))


async def test_plain_jwt_is_taken_only_where_it_is_allowed(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated):
        await desk.verifier.verify(desk.token(header={"typ": "JWT"}))
    async with a_desk(tmp_path, plain_jwt=True) as lenient:
        assert (await lenient.verifier.verify(lenient.token(header={"typ": "JWT"}))).actor.subject == "u-17"
        with pytest.raises(Unauthenticated):
            await lenient.verifier.verify(lenient.own(header={"typ": "JWT"}))


async def test_each_issuer_has_its_own_audience(tmp_path: Path) -> None:
    async with a_desk(tmp_path, audience="hotline-api") as desk:
        assert (await desk.verifier.verify(desk.token(aud="hotline-api"))).actor.subject == "u-17"
        assert (await desk.verifier.verify(desk.own())).actor.subject == "hotline"
        with pytest.raises(Unauthenticated):
            await desk.verifier.verify(desk.token(aud="jieban"))


# --- good tokens of people who have nothing to do here -----------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ({"roles": ["handler"]}, "names no department"),
        ({"roles": ["handler"], "departments": []}, "names no department"),
        ({"roles": ["handler"], "departments": [7, None]}, "names no department"),
        ({"roles": ["handler"], "departments": ["tax", "moon"]}, "do not exist here: moon"),
        ({"roles": ["handler"], "departments": ["tax,water"]}, "A department code is"),
        ({"roles": ["handler"], "departments": ["t" * 65]}, "A department code is"),
        ({"roles": ["handler"], "departments": ["税务"]}, "A department code is"),
        ({"roles": []}, "names no role"),
        ({"roles": ...}, "names no role"),
        ({"roles": 5}, "names no role"),
        ({"roles": {"dispatcher": True}}, "names no role"),
        ({"roles": ["DISPATCHER", "root", None]}, "names no role"),
        ({"roles": ["system"]}, "names no role"),
    ],
)
async def test_a_good_token_without_a_place_here_is_told_why(
    tmp_path: Path, claims: dict[str, Any], sentence: str
) -> None:
    async with a_desk(tmp_path, known_departments=lambda: {"tax", "water"}) as desk:
        with pytest.raises(Forbidden, match=sentence):
            await desk.verifier.verify(desk.token(**claims))


# --- bad tokens --------------------------------------------------------------------------------------------------


def public_pem() -> bytes:
    return RSA.as_pem(private=False)


def hs256(secret: bytes, header: dict[str, Any], claims: Any) -> str:
    full = {"alg": "HS256", "typ": "at+jwt", **header}
    return signed(full, claims, lambda text: hmac.new(secret, text, hashlib.sha256).digest())


def spoilt(token: str, part: int, change: Callable[[str], str]) -> str:
    parts = token.split(".")
    parts[part] = change(parts[part])
    return ".".join(parts)


def raw_payload(desk: Desk, text: bytes) -> str:
    """Properly signed, with this text instead of claims."""
    return token_of(EC, "ES256", {}, text)


def doubled(desk: Desk) -> bytes:
    return json.dumps(desk.claims())[:-1].encode() + b', "sub": "u-18"}'


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


FOREIGN = ECKey.generate_key("P-256", {"kid": "ec"})
JKU = {"jku": "https://127.0.0.1:1/keys"}
BAD: dict[str, Callable[[Desk], str]] = {
    "alg none, no signature": lambda d: signed({"alg": "none", "typ": "at+jwt", "kid": "ec"}, d.claims(), lambda _: b""),
    "alg None": lambda d: signed({"alg": "None", "typ": "at+jwt", "kid": "ec"}, d.claims(), lambda _: b""),
    "alg none over a true signature": lambda d: spoilt(
        d.token(), 0, lambda _: b64({"alg": "none", "typ": "at+jwt", "kid": "ec"})
    ),
    "no alg": lambda d: d.token(header={"alg": ...}),
    "alg a number": lambda d: d.token(header={"alg": 1}),
    "alg a list": lambda d: d.token(header={"alg": ["ES256"]}),
    "alg in small letters": lambda d: d.token(header={"alg": "es256"}),
    "HS256 with the public PEM": lambda d: hs256(public_pem(), {"kid": "rsa"}, d.claims()),
    "HS256 with the public JWK": lambda d: hs256(
        json.dumps(RSA.as_dict(private=False)).encode(), {"kid": "rsa"}, d.claims()
    ),
    "HS256 with an empty secret": lambda d: hs256(b"", {"kid": "ec"}, d.claims()),
    "HS256 of the built-in issuer": lambda d: hs256(
        json.dumps(d.builtin.keys()["keys"][0]).encode(),
        {"kid": d.builtin.keys()["keys"][0]["kid"]},
        d.claims(iss="jieban"),
    ),
    "RS384, not on the list": lambda d: d.token(RSA, "RS384"),
    "RS512, not on the list": lambda d: d.token(RSA, "RS512"),
    "ES384, not on the list": lambda d: d.token(P384, "ES384"),
    "RS256 with a key for PS256": lambda d: d.token(PSS, "RS256"),
    "RS256 with a key for encryption": lambda d: d.token(ENCRYPTION, "RS256"),
    "ES256 named, RSA key": lambda d: d.token(RSA, "RS256", {"alg": "ES256"}),
    "RS256 named, EC key": lambda d: d.token(EC, "ES256", {"alg": "RS256"}),
    "EdDSA named, EC key": lambda d: d.token(EC, "ES256", {"alg": "EdDSA"}),
    "type JWT": lambda d: d.token(header={"typ": "JWT"}),
    "type of a logout token": lambda d: d.token(header={"typ": "logout+jwt"}),
    "type a number": lambda d: d.token(header={"typ": 1}),
    "no type": lambda d: d.token(header={"typ": ...}),
    "built-in issuer, type JWT": lambda d: d.own({"typ": "JWT"}),
    "no kid": lambda d: d.token(header={"kid": ...}),
    "unknown kid": lambda d: d.token(header={"kid": "nobody"}),
    "kid a number": lambda d: d.token(header={"kid": 1}),
    "kid a list": lambda d: d.token(header={"kid": ["ec"]}),
    "kid a path": lambda d: d.token(header={"kid": "../../keys/issuer.json"}),
    "kid a statement": lambda d: d.token(header={"kid": "ec' OR '1'='1"}),
    "kid of the built-in key at the other issuer": lambda d: d.token(header={"kid": d.builtin.keys()["keys"][0]["kid"]}),
    "embedded jwk": lambda d: d.token(FOREIGN, header={"jwk": FOREIGN.as_dict(private=False)}),
    "embedded jwk beside a true signature": lambda d: d.token(header={"jwk": EC.as_dict(private=False)}),
    "jku": lambda d: d.token(header=JKU),
    "x5u": lambda d: d.token(header={"x5u": "https://127.0.0.1:1/chain.pem"}),
    "crit unknown": lambda d: d.token(header={"crit": ["exp"], "exp": 1}),
    "crit empty": lambda d: d.token(header={"crit": []}),
    "b64 false": lambda d: d.token(header={"b64": False, "crit": ["b64"]}),
    "another issuer": lambda d: d.token(iss="https://evil.example"),
    "issuer with a slash": lambda d: d.token(iss=d.issuer + "/"),
    "issuer a list": lambda d: d.token(iss=[d.issuer]),
    "no issuer": lambda d: d.token(iss=...),
    "built-in issuer named, foreign key": lambda d: d.token(iss="jieban", role="admin"),
    "other issuer named, built-in key": lambda d: d.own(iss=d.issuer, roles=["admin"]),
    "another audience": lambda d: d.token(aud="billing"),
    "other audiences": lambda d: d.token(aud=["billing", "jieban2"]),
    "audience an object": lambda d: d.token(aud={"jieban": 1}),
    "no audience": lambda d: d.token(aud=...),
    "built-in issuer, another audience": lambda d: d.own(aud="billing"),
    "expired": lambda d: d.token(exp=SECONDS - 1),
    "expires now": lambda d: d.token(exp=SECONDS),
    "built-in issuer, expired": lambda d: d.own(exp=SECONDS),
    "no exp": lambda d: d.token(exp=...),
    "exp null": lambda d: d.token(exp=None),
    "exp text": lambda d: d.token(exp="2099-01-01"),
    "exp true": lambda d: d.token(exp=True),
    "exp without end": lambda d: d.token(exp=float("inf")),
    "exp not a number": lambda d: d.token(exp=float("nan")),
    "exp 1e400": lambda d: raw_payload(d, json.dumps(d.claims(exp=777777777)).replace("777777777", "1e400").encode()),
    "exp huge": lambda d: d.token(exp=10**40),
    "exp of thousands of digits": lambda d: raw_payload(
        d, json.dumps(d.claims(exp=777777777)).replace("777777777", "9" * 5000).encode()
    ),
    "not yet valid": lambda d: d.token(nbf=SECONDS + 61),
    "nbf text": lambda d: d.token(nbf="now"),
    "issued in the future": lambda d: d.token(iat=SECONDS + 61),
    "no sub": lambda d: d.token(sub=...),
    "sub empty": lambda d: d.token(sub=""),
    "sub blank": lambda d: d.token(sub="  "),
    "sub a number": lambda d: d.token(sub=17),
    "sub with NUL": lambda d: d.token(sub="u\x0017"),
    "sub a lone surrogate": lambda d: d.token(sub="u\ud800"),
    "sub very long": lambda d: d.token(sub="u" * 256),
    "sub of the pump": lambda d: d.token(sub="system"),
    "truncated by one": lambda d: d.token()[:-1],
    "truncated by half": lambda d: d.token()[: len(d.token()) // 2],
    "no signature": lambda d: spoilt(d.token(), 2, lambda _: ""),
    "signature of zeros": lambda d: spoilt(d.token(), 2, lambda _: b64(bytes(64))),
    "signature of another key": lambda d: d.token(FOREIGN),
    "signature of another token": lambda d: spoilt(d.token(), 2, lambda _: d.token(sub="u-18").split(".")[2]),
    "signature in DER": lambda d: spoilt(d.token(), 2, lambda _: b64(b"\x30\x44" + bytes(68))),
    "signature with padding": lambda d: d.token() + "==",
    "role changed": lambda d: spoilt(d.token(), 1, lambda _: b64(d.claims(roles=["admin"]))),
    "a bit of the header changed": lambda d: spoilt(d.token(), 0, lambda h: b64(base64.urlsafe_b64decode(h + "==") + b" ")),
    "claims a list": lambda d: raw_payload(d, b"[1, 2]"),
    "claims text": lambda d: raw_payload(d, b'"jieban"'),
    "claims no JSON": lambda d: raw_payload(d, b"{'sub': 'u-17'}"),
    "claims not UTF-8": lambda d: raw_payload(d, b'{"sub": "\xff\xfe"}'),
    "claims in UTF-16": lambda d: raw_payload(d, json.dumps(d.claims()).encode("utf-16")),
    "claims empty": lambda d: raw_payload(d, b""),
    "a claim twice": lambda d: raw_payload(d, doubled(d)),
    "claims nested": lambda d: raw_payload(d, nested(5000)),
    "header nested": lambda d: signed(nested(700), d.claims(), lambda _: b"x"),
    "header a list": lambda d: signed(["alg", "ES256"], d.claims(), lambda _: b"x"),
    "header text": lambda d: signed("alg", d.claims(), lambda _: b"x"),
    "header very long": lambda d: d.token(header={"note": "n" * 4000}),
    "a token in a token": lambda d: token_of(EC, "ES256", {"cty": "JWT"}, d.token().encode()),
    "encrypted, five parts": lambda d: d.token() + ".a.b",
    "two parts": lambda d: d.token().rpartition(".")[0],
    "JSON serialisation": lambda d: json.dumps({"payload": b64(d.claims()), "signatures": []}),
    "empty": lambda _: "",
    "dots": lambda _: "..",
    "only a dot": lambda _: ".",
    "unicode": lambda _: "令牌.令牌.令牌",
    "unicode digits in a token": lambda d: d.token() + "\u0661",
    "lone surrogate": lambda d: d.token() + "\ud800",
    "control characters": lambda d: d.token()[:20] + "\x00\n" + d.token()[20:],
    "blanks around": lambda d: f" {d.token()} ",
    "100 kB of letters": lambda _: "a" * 100_000,
    "100 kB, properly signed": lambda d: d.token(note="n" * 100_000),
    "100 kB of dots": lambda _: "." * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token_is_refused_and_told_nothing(desk: Desk, name: str) -> None:
    token = BAD[name](desk)
    for _ in range(2):  # nothing about it is remembered
        with pytest.raises(Unauthenticated) as refused:
            await desk.verifier.verify(token)
    expired = "expire" in name
    assert refused.value.detail == ("The token has expired." if expired else "The token is not valid.")
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    assert desk.server.fetches <= 2


def test_there_are_enough_bad_tokens() -> None:
    assert len(BAD) >= 40


async def test_what_bad_tokens_are_made_from_is_good(desk: Desk) -> None:
    """Else the corpus would prove nothing."""
    for token in (desk.token(), desk.own(), desk.token(RSA, "RS256"), token_of(EC, "ES256", {}, desk.claims())):
        await desk.verifier.verify(token)


async def test_an_expired_token_with_a_wrong_signature_is_only_not_valid(desk: Desk) -> None:
    with pytest.raises(Unauthenticated, match="not valid"):
        await desk.verifier.verify(desk.token(FOREIGN, exp=SECONDS - 1))


async def test_a_verifier_that_believes_nobody_refuses_all(desk: Desk) -> None:
    for token in (desk.token(), desk.own()):
        with pytest.raises(Unauthenticated):
            await Verifier().verify(token)


def test_unauthenticated_is_an_error_of_the_house() -> None:
    assert issubclass(Unauthenticated, JiebanError)
    assert (Unauthenticated.slug, Unauthenticated.title) == ("unauthenticated", "Not signed in")


# --- fetching keys -----------------------------------------------------------------------------------------------


async def refusals(desk: Desk, tokens: list[str]) -> int:
    found = await asyncio.gather(*(desk.verifier.verify(t) for t in tokens), return_exceptions=True)
    return sum(isinstance(one, Unauthenticated) for one in found)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_thousand_unknown_key_ids_cause_two_fetches_at_most(desk: Desk, at_once: bool) -> None:
    tokens = [desk.token(header={"kid": f"k{n}"}) for n in range(1000)]
    for batch in [tokens] if at_once else [[token] for token in tokens]:
        assert await refusals(desk, batch) == len(batch)
    assert desk.server.fetches <= 2
    assert (await desk.verifier.verify(desk.token())).actor.subject == "u-17"


async def test_tokens_that_cannot_be_good_cause_no_fetch(desk: Desk) -> None:
    for name in ("another issuer", "alg none, no signature", "type JWT", "jku", "embedded jwk", "claims a list"):
        assert await refusals(desk, [BAD[name](desk)]) == 1
    assert desk.server.fetches == 0


async def test_a_new_key_is_found_at_once_and_another_one_a_minute_later(desk: Desk) -> None:
    await desk.verifier.verify(desk.token())
    for fetches, name in ((2, "first"), (3, "second")):
        key = ECKey.generate_key("P-256", {"kid": name})
        desk.server.keys.append(dict(key.as_dict(private=False)))
        if name == "second":
            assert await refusals(desk, [desk.token(key)]) == 1
            desk.clock.passed += 60
        assert (await desk.verifier.verify(desk.token(key))).actor.subject == "u-17"
        assert desk.server.fetches == fetches


async def test_a_withdrawn_key_is_forgotten(desk: Desk) -> None:
    old = desk.token(exp=SECONDS + 10_000)
    await desk.verifier.verify(old)
    desk.server.keys = [key for key in desk.server.keys if key["kid"] != "ec"]
    desk.clock.passed += 600
    assert await refusals(desk, [old]) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        {"status": 500},
        {"status": 302, "headers": "Location: http://127.0.0.1:1/\r\n"},
        {"body": b"<html>"},
        {"body": b"[]"},
        {"body": b'{"keys": []}'},
        {"body": b'{"keys": [null, "a", 1, {}, [], {"kid": "ec"}, {"kid": "ec", "kty": "RSA", "n": 5}]}'},
        {"body": b'{"keys": ' + nested(100_000) + b"}"},
        {"body": b" " * 3_000_000},
        {"body": b"\xff\xfe\x00"},
        {"body": gzip.compress(b" " * 1000), "headers": "Content-Encoding: gzip\r\n"},
    ],
)
async def test_an_issuer_in_trouble_loses_no_known_key(desk: Desk, trouble: dict[str, Any]) -> None:
    await desk.verifier.verify(desk.token())
    for name, value in trouble.items():
        setattr(desk.server, name, value)
    desk.clock.passed += 601
    token = desk.token(exp=SECONDS + 100_000)
    assert (await desk.verifier.verify(token)).actor.subject == "u-17"
    assert await refusals(desk, [desk.token(header={"kid": "new"}, exp=SECONDS + 100_000)] * 50) == 50
    assert desk.server.fetches == 2
    desk.clock.passed += 86_400  # but not for ever
    assert await refusals(desk, [token]) == 1


async def test_an_issuer_that_was_away_is_asked_again_soon(desk: Desk) -> None:
    desk.server.status = 503
    assert await refusals(desk, [desk.token()] * 20) == 20
    assert desk.server.fetches == 1
    desk.server.status = 200
    desk.clock.passed += 10
    assert (await desk.verifier.verify(desk.token())).actor.subject == "u-17"


@pytest.mark.parametrize("how", ["silent", "dripping"])
async def test_nobody_hangs_on_a_slow_issuer(desk: Desk, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    assert identity_provider.FETCH_SECONDS == 5.0
    monkeypatch.setattr(identity_provider, "FETCH_SECONDS", 0.3)
    desk.server.pause_seconds = 3.0 if how == "silent" else 0.0
    desk.server.drip_seconds = 0.05 if how == "dripping" else 0.0
    tokens = [desk.token(header={"kid": f"k{n}"}) for n in range(100)]
    begun = time.monotonic()
    assert await refusals(desk, tokens) == 100
    assert time.monotonic() - begun < 2.5
    assert desk.server.fetches <= 1


async def test_a_closed_port_is_a_refusal() -> None:
    async with serving() as server:
        url = server.url
    assert await RemoteKeys(url).find("ec") is None


async def test_weak_symmetric_and_foreign_keys_of_an_issuer_are_never_used(desk: Desk) -> None:
    weak: dict[str, dict[str, Any]] = {
        "symmetric": {"kty": "oct", "k": b64(b"s" * 32)},
        "small": {"kty": "RSA", "n": b64(b"\xc1" * 128), "e": "AQAB"},
        "just too small": {"kty": "RSA", "n": b64(b"\x7f" + b"\xc1" * 255), "e": "AQAB"},
        "enormous": {"kty": "RSA", "n": b64(b"\xc1" * 4096), "e": "AQAB"},
        "off the curve": {"kty": "EC", "crv": "P-256", "x": b64(b"\x01" * 32), "y": b64(b"\x02" * 32)},
        "unknown curve": {"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA"},
        "exchange": {**OKPKey.generate_key("X25519").as_dict(private=False)},
        "for HS256": {**EC.as_dict(private=False), "alg": "HS256"},
        "for wrapping": {**RSA.as_dict(private=False), "key_ops": ["wrapKey"]},
        "of no kind": {"kty": "AKP", "pub": "AA"},
    }
    desk.server.keys += [{**key, "kid": kid} for kid, key in weak.items()]
    found = identity_provider._public_keys(json.dumps({"keys": desk.server.keys}).encode())
    assert set(found) == {"ec", "rsa", "pss", "ed"}
    assert not any(key.is_private for key in found.values())
    private = identity_provider._public_keys(json.dumps({"keys": [EC.as_dict(private=True)]}).encode())
    assert not private["ec"].is_private


@pytest.mark.parametrize(
    "url", ["http://issuer.example/keys", "ftp://issuer.example/keys", "file:///etc/passwd", "x", ""]
)
def test_keys_are_fetched_over_https(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        RemoteKeys(url)


def test_the_keys_lie_beside_the_issuer_unless_said_otherwise() -> None:
    Verifier(oidc_issuer="https://sso.example/realms/city/")
    with pytest.raises(ValueError, match=r"http://sso\.example/\.well-known/jwks\.json"):
        Verifier(oidc_issuer="http://sso.example")


# --- the cache ---------------------------------------------------------------------------------------------------


async def test_a_kept_token_is_read_again_after_a_minute(tmp_path: Path) -> None:
    asked: list[Actor] = []

    async def check(actor: Actor) -> None:
        asked.append(actor)

    async with a_desk(tmp_path, check=check) as desk:
        token = desk.token(exp=SECONDS + 90)
        first = await desk.verifier.verify(token)
        desk.clock.passed = 59.9
        assert await desk.verifier.verify(token) is first
        assert len(asked) == 1
        desk.clock.passed = 60.0
        assert await desk.verifier.verify(token) == first
        assert len(asked) == 2
        desk.clock.passed = 90.0  # within the second minute, but expired
        with pytest.raises(Unauthenticated, match="expired"):
            await desk.verifier.verify(token)


async def test_who_is_refused_by_the_check_is_not_kept(tmp_path: Path) -> None:
    async def check(actor: Actor) -> None:
        raise Unauthenticated("The token is not valid.")

    async with a_desk(tmp_path, check=check) as desk:
        assert await refusals(desk, [desk.token()] * 3) == 3
        assert not desk.verifier._cache


async def test_the_cache_is_bounded_and_holds_no_token(desk: Desk) -> None:
    verified = await desk.verifier.verify(desk.own())
    for n in range(CACHE_ENTRIES + 500):
        desk.verifier._keep(hashlib.sha256(str(n).encode()).digest(), verified)
    assert len(desk.verifier._cache) == CACHE_ENTRIES
    assert all(len(key) == 32 for key in desk.verifier._cache)
    assert hashlib.sha256(str(CACHE_ENTRIES + 499).encode()).digest() in desk.verifier._cache  # the oldest went
    assert await desk.verifier.verify(desk.own()) == verified


async def test_a_hot_token_costs_a_look_up(desk: Desk) -> None:
    token = desk.builtin.issue("handler:tax", Role.HANDLER, ("tax",), 600, NOW)
    verify = Verifier(builtin=desk.builtin, wall=desk.clock.wall).verify
    await verify(token)
    rounds = []
    for _ in range(7):
        begun = time.perf_counter()
        for _ in range(5000):
            await verify(token)
        rounds.append((time.perf_counter() - begun) / 5000)
    print(f"hot token: {min(rounds) * 1e6:.2f} µs")
    assert min(rounds) < 5e-6


# --- the built-in issuer's key -----------------------------------------------------------------------------------


def test_the_key_is_private_and_stays(tmp_path: Path) -> None:
    one = BuiltinIssuer.open(tmp_path)
    path = tmp_path / "keys" / "issuer.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    assert BuiltinIssuer.open(tmp_path).keys() == one.keys()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (key,) = one.keys()["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


RACE = """
import sys, time
from pathlib import Path
from service.integrations.identity_provider import BuiltinIssuer
folder = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(BuiltinIssuer.open(folder).keys()["keys"][0]["kid"], flush=True)
"""


def test_processes_that_start_at_once_agree_on_the_key(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RACE, str(tmp_path)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT)
        for _ in range(4)
    ]
    kids = set()
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        kids.add(out.strip())
    assert len(kids) == 1
    assert kids == {BuiltinIssuer.open(tmp_path).keys()["keys"][0]["kid"]}
    assert [p.name for p in (tmp_path / "keys").iterdir()] == ["issuer.json"]


def test_a_draft_left_by_a_killed_process_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "issuer.new").write_bytes(b'{"keys": [')
    BuiltinIssuer.open(tmp_path)
    assert [p.name for p in (tmp_path / "keys").iterdir()] == ["issuer.json"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b'{"keys": []}', b'{"keys": [1]}', b"\xff", json.dumps({"keys": [EC.as_dict(private=False)]}),
     json.dumps({"keys": [P384.as_dict(private=True)]})],
)  # fmt: skip
def test_a_file_that_is_no_key_is_refused_with_advice(tmp_path: Path, content: bytes | str) -> None:
    (tmp_path / "keys").mkdir()
    path = tmp_path / "keys" / "issuer.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"issuer\.json holds no signing key of ours .* remove it"):
        BuiltinIssuer.open(tmp_path)


async def test_a_key_put_before_another_signs_and_both_verify(tmp_path: Path) -> None:
    old = BuiltinIssuer.open(tmp_path).issue("hotline", Role.HOTLINE, (), 600, wall_now())
    path = tmp_path / "keys" / "issuer.json"
    keys = json.loads(path.read_text())["keys"]
    path.write_text(json.dumps({"keys": [identity_provider._new_key(), *keys]}))
    issuer = BuiltinIssuer.open(tmp_path)
    verifier = Verifier(builtin=issuer)
    for token in (old, issuer.issue("hotline", Role.HOTLINE, (), 600, wall_now())):
        assert (await verifier.verify(token)).actor.role is Role.HOTLINE


@pytest.mark.parametrize(
    ("subject", "role", "departments", "seconds"),
    [
        ("x", Role.SYSTEM, (), 60),
        ("system", Role.ADMIN, (), 60),
        ("", Role.ADMIN, (), 60),
        ("a\nb", Role.ADMIN, (), 60),
        ("x", Role.HANDLER, (), 60),
        ("x", Role.HANDLER, ("a,b",), 60),
        ("x", Role.HOTLINE, ("tax",), 60),
        ("x", Role.HOTLINE, (), 0),
        ("x", Role.HOTLINE, (), 400 * 86_400),
    ],
)
def test_no_token_is_made_that_would_be_refused(
    tmp_path: Path, subject: str, role: Role, departments: tuple[str, ...], seconds: int
) -> None:
    with pytest.raises(ValueError):
        BuiltinIssuer.open(tmp_path).issue(subject, role, departments, seconds, NOW)


# --- words of the command line -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "role", "departments", "subject"),
    [
        ("hotline", Role.HOTLINE, (), "hotline"),
        (" admin ", Role.ADMIN, (), "admin"),
        ("handler:tax", Role.HANDLER, ("tax",), "handler:tax"),
        ("handler:tax, water,tax", Role.HANDLER, ("tax", "water"), "handler:tax,water"),
    ],
)
def test_as_names_a_role_and_departments(text: str, role: Role, departments: tuple[str, ...], subject: str) -> None:
    assert parse_as(text) == (role, departments)
    assert subject_of(role, departments) == subject
    assert subject_of(role, departments, "wang") == "wang"


@pytest.mark.parametrize(
    "text",
    ["", "root", "system", "Admin", "handler", "handler:", "handler:,", "handler:tax,", "handler:a b", "admin:", "admin:tax",
     "handler:税", ":tax"],
)  # fmt: skip
def test_as_refuses_what_means_nothing(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_as(text)
    assert "expected" in refused.value.detail or "look like" in refused.value.detail


def test_the_scope_names_what_the_role_may_do() -> None:
    assert "tickets:write" in scope_of_role(Role.HOTLINE).split()
    assert "tickets:write" not in scope_of_role(Role.DISPATCHER).split()
