"""Whom a bearer token speaks for: tokens of the built-in issuer and of one OpenID Connect issuer (RFC 8725, RFC 9068).

A token names its issuer; only that issuer's keys can verify it. Nothing inside a token says where keys are: `jku`,
`x5u`, `jwk` and `crit` headers are refused. Whoever presents a bad token learns that it expired or is not valid,
no more. A good token that names no usable role or department is answered by a sentence one can act on (Forbidden).
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import math
import os
import re
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Never
from urllib.parse import urlsplit

import httpx
import structlog
from joserfc import jws, jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, Key, OctKey, import_key
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64decode

from service.clock import monotonic, new_id, wall_now
from service.core.errors import Forbidden, JiebanError
from service.core.model import SYSTEM, Actor, Role

BUILTIN_ISSUER = "jieban"
ACCESS_TYPE = "at+jwt"
AUDIENCE = "jieban"
ALGORITHMS = {"ES256": "ES256", "RS256": "RS256", "PS256": "PS256", "EdDSA": "Ed25519"}
"""What a header may name -> the library's algorithm. EdDSA means Ed25519 here (RFC 9864 ended the vaguer name)."""
REFUSED_HEADERS = frozenset({"jku", "x5u", "jwk", "crit", "b64"})
PRECEDENCE = (Role.ADMIN, Role.AUDITOR, Role.SUPERVISOR, Role.REVIEWER, Role.DISPATCHER, Role.HANDLER, Role.HOTLINE)
"""Of several roles the first in this order counts. Those that duty keeps away from cases come first: an administrator
who is also named a handler does not see cases."""

LEEWAY_SECONDS = 60
"""For `nbf` and `iat` only: an issuer's clock may be ahead. A token past its `exp` is past it."""
CACHE_ENTRIES, CACHE_SECONDS = 10_000, 60.0
TOKEN_CHARACTERS = 16_384
SUBJECT_CHARACTERS = 255
LIFETIME_SECONDS = 366 * 86_400
FETCH_SECONDS = 5.0
REFETCH_SECONDS = 60.0
"""At most one fetch in this time is caused by key ids that nobody knows."""
RETRY_SECONDS = 10.0
REFRESH_SECONDS = 600.0
TRUST_SECONDS = 86_400.0
"""An issuer that cannot be asked for so long is no longer believed: its keys may have been withdrawn."""
DOCUMENT_BYTES, DOCUMENT_KEYS = 1 << 20, 100
RSA_BITS = range(2048, 8193)

NOT_VALID, EXPIRED = "The token is not valid.", "The token has expired."
DEPARTMENT = re.compile(r"[A-Za-z0-9_.\-]{1,64}")

log = structlog.get_logger()


class Unauthenticated(JiebanError):
    """Nobody is signed in: no token, or one that is expired or not valid (401)."""

    slug = "unauthenticated"
    title = "Not signed in"


@dataclass(frozen=True, slots=True)
class Verified:
    """`expires_at`: seconds since 1970, the token's own end."""

    actor: Actor
    expires_at: float


# --- the built-in issuer -------------------------------------------------------------------------------------------


class BuiltinIssuer:
    """Signs tokens with a key of the data folder: for the embedded default, for tests and for machines' clients.

    The file is a JWK Set: the first key signs, all verify, so that a key can be put before another one.
    """

    def __init__(self, keys: Sequence[ECKey], audience: str) -> None:
        assert keys, "an issuer has a key"
        self.audience, self._keys = audience, tuple(keys)

    @classmethod
    def open(cls, folder: Path, audience: str = AUDIENCE) -> BuiltinIssuer:
        """`folder` is the data folder. Makes the key when there is none; ValueError when the file is not ours."""
        path = folder / "keys" / "issuer.json"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            with _alone_in(path.parent) as folder_handle:
                if not path.exists():
                    _write_private(path, json.dumps({"keys": [_new_key()]}).encode())
                    os.fsync(folder_handle)
        elif path.stat().st_mode & 0o077:
            path.chmod(0o600)  # restored from a backup, say
        return cls(_private_keys(path), audience)

    def keys(self) -> dict[str, Any]:
        """The public JWK Set."""
        return {"keys": [key.as_dict(private=False) for key in self._keys]}

    def issue(self, subject: str, role: Role, departments: Sequence[str], lifetime_seconds: int, now: datetime) -> str:
        """A signed token. `now` is the host's time, not a sandbox's. ValueError for what no token may say."""
        problem = _role_problem(role, departments) or _subject_problem(subject)
        if problem:
            raise ValueError(problem)
        if not 0 < lifetime_seconds <= LIFETIME_SECONDS:
            raise ValueError(f"A token lives from 1 second to 366 days, not {lifetime_seconds} seconds.")
        issued = int(now.timestamp())
        claims = {
            "iss": BUILTIN_ISSUER,
            "aud": self.audience,
            "sub": subject,
            "role": str(role),
            "departments": list(departments),
            "iat": issued,
            "nbf": issued,
            "exp": issued + lifetime_seconds,
            "jti": new_id(),
        }
        key = self._keys[0]
        header = {"alg": "ES256", "typ": ACCESS_TYPE, "kid": key.kid}
        return jwt.encode(header, claims, key, algorithms=["ES256"], default_type=None)


def _new_key() -> Mapping[str, Any]:
    key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)
    return key.as_dict(private=True)


def _private_keys(path: Path) -> list[ECKey]:
    try:
        keys = [ECKey.import_key(entry) for entry in json.loads(path.read_bytes())["keys"]]
        if not keys or any(not key.is_private or not key.kid or key.curve_name != "P-256" for key in keys):
            raise ValueError("expected private P-256 keys with a kid")
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} holds no signing key of ours ({type(error).__name__}). Put the file back from a backup, or remove"
            " it to have a new key made; tokens issued so far then end."
        ) from error
    return keys


@contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    """One process at a time; the lock ends with its process, whatever happens to it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _write_private(path: Path, content: bytes) -> None:
    """The whole file or none of it, also when the power fails."""
    draft = path.with_suffix(".new")
    with suppress(FileNotFoundError):
        draft.unlink()  # left by a process that was killed while it held the lock
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


# --- the keys of an issuer elsewhere -------------------------------------------------------------------------------


class RemoteKeys:
    """An issuer's public keys, fetched when they are needed. Fetches never overlap and never take over 5 s."""

    def __init__(self, url: str, ticks: Callable[[], float] = monotonic) -> None:
        parts = urlsplit(url)
        local = parts.hostname in {"127.0.0.1", "::1", "localhost"}
        if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
            raise ValueError(f"The issuer's keys are fetched over https (http on this machine only), not from {url!r}.")
        self._url, self._ticks = url, ticks
        self._keys: dict[str, Key] = {}
        self._lock = asyncio.Lock()
        self._refresh_at = self._refetch_at = self._trusted_until = -math.inf

    async def find(self, kid: str) -> Key | None:
        """The key, or None when the issuer has no such key or cannot be asked."""
        due = self._ticks() >= self._refresh_at
        if kid in self._keys and (not due or self._lock.locked()):
            return self._known(kid)  # while one request refreshes, the others go on
        async with self._lock:
            now = self._ticks()
            if now >= self._refresh_at:
                await self._fetch()
            elif kid not in self._keys and now >= self._refetch_at:
                self._refetch_at = now + REFETCH_SECONDS
                await self._fetch()
        return self._known(kid)

    def _known(self, kid: str) -> Key | None:
        return self._keys.get(kid) if self._ticks() < self._trusted_until else None

    async def _fetch(self) -> None:
        try:
            keys = _public_keys(await self._download())
        except (httpx.HTTPError, OSError, ValueError, RecursionError) as error:
            now = self._ticks()
            self._refresh_at = now + RETRY_SECONDS
            self._refetch_at = now + REFETCH_SECONDS
            log.warning("the issuer's keys could not be fetched", url=self._url, error=repr(error)[:200])
            return
        now = self._ticks()
        self._keys, self._refresh_at, self._trusted_until = keys, now + REFRESH_SECONDS, now + TRUST_SECONDS

    async def _download(self) -> bytes:
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
        _tls()  # reading the authorities' certificates is not the issuer's time
        body = bytearray()
        async with (
            asyncio.timeout(FETCH_SECONDS),
            httpx.AsyncClient(verify=_tls(), timeout=FETCH_SECONDS, follow_redirects=False) as client,
            client.stream("GET", self._url, headers=headers) as answer,
        ):
            answer.raise_for_status()
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > DOCUMENT_BYTES:
                    raise ValueError("the answer is longer than 1 MiB")
        return bytes(body)


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _public_keys(document: bytes) -> dict[str, Key]:
    """The usable signing keys of a JWK Set by id; others (for encryption, symmetric, weak, unknown) are left out."""
    parsed = json.loads(document)
    if not isinstance(parsed, dict) or not isinstance(parsed.get("keys"), list):
        raise ValueError("not a JWK Set")
    found: dict[str, Key] = {}
    for entry in parsed["keys"][:DOCUMENT_KEYS]:
        with suppress(JoseError, ValueError, KeyError, TypeError, AttributeError):
            found.setdefault(*_public_key(entry))
    if not found:
        raise ValueError("the JWK Set holds no key that can verify signatures here")
    return found


def _public_key(entry: Mapping[str, Any]) -> tuple[str, Key]:
    kid, algorithm = entry["kid"], entry.get("alg")
    if not isinstance(kid, str) or entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        raise ValueError("not for signatures, or without an id")
    if entry["kty"] not in {"EC", "RSA", "OKP"}:
        raise ValueError("not a public key")
    if entry["kty"] == "RSA" and _bits(entry["n"]) not in RSA_BITS:
        raise ValueError("too weak, or too large to be sensible")
    bare = {name: entry[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in entry}
    if algorithm is not None:
        bare["alg"] = ALGORITHMS.get(algorithm, algorithm)
    key = import_key(bare)
    for name in {bare["alg"]} if algorithm is not None else set(ALGORITHMS.values()):
        with suppress(JoseError):
            _REGISTRY.model(name).check_key(key)
            return kid, key
    raise ValueError("for none of our algorithms")


def _bits(number: str) -> int:
    return int.from_bytes(urlsafe_b64decode(number.encode())).bit_length()


# --- verifying -----------------------------------------------------------------------------------------------------


class _Registry(JWSRegistry):
    """The library's checks with our list of algorithms, whatever it would recommend or warn of."""

    max_header_length, max_payload_length, max_signature_length = 2048, TOKEN_CHARACTERS, 2048

    def get_alg(self, name: str) -> Any:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError
        return self.model(ALGORITHMS[name])

    def model(self, name: str) -> Any:
        if name not in ALGORITHMS.values():
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


_REGISTRY = _Registry(strict_check_header=False)


@dataclass(frozen=True, slots=True)
class _Trust:
    """What is known of one issuer before its token is read."""

    find: Callable[[str], Awaitable[Key | None]]
    audience: str
    types: frozenset[str]
    roles_claim: str
    departments_claim: str


class Verifier:
    """Turns bearer tokens into actors. One per process; a hot token costs one look-up.

    `oidc_issuer` is an address, or empty. Claim names may be paths (`realm_access.roles`). `plain_jwt` also takes that
    issuer's tokens of the type `JWT`, for one that does not mark access tokens as RFC 9068 asks.
    `known_departments` gives the codes in force, if codes are to be checked. `check` is asked before a token is kept
    for the next minute and may raise: it lets a deactivated client end at once instead of with its token.
    """

    def __init__(
        self,
        *,
        builtin: BuiltinIssuer | None = None,
        oidc_issuer: str = "",
        audience: str = AUDIENCE,
        jwks_url: str = "",
        roles_claim: str = "roles",
        departments_claim: str = "departments",
        plain_jwt: bool = False,
        known_departments: Callable[[], Collection[str]] | None = None,
        check: Callable[[Actor], Awaitable[None]] | None = None,
        wall: Callable[[], datetime] = wall_now,
        ticks: Callable[[], float] = monotonic,
    ) -> None:
        self._known_departments, self._check, self._wall, self._ticks = known_departments, check, wall, ticks
        self._cache: OrderedDict[bytes, tuple[Verified, float]] = OrderedDict()
        self._trusted: dict[str, _Trust] = {}
        if oidc_issuer:
            keys = RemoteKeys(jwks_url or f"{oidc_issuer.rstrip('/')}/.well-known/jwks.json", ticks)
            types = frozenset({ACCESS_TYPE, "jwt"} if plain_jwt else {ACCESS_TYPE})
            self._trusted[oidc_issuer] = _Trust(keys.find, audience, types, roles_claim, departments_claim)
        if builtin is not None:
            if oidc_issuer == BUILTIN_ISSUER:
                raise ValueError(f"{BUILTIN_ISSUER!r} is the built-in issuer; another one has an address of its own.")
            self._trusted[BUILTIN_ISSUER] = _trust_builtin(builtin)

    async def verify(self, token: str) -> Verified:
        """Raises Unauthenticated for a bad token, Forbidden for a good one without a usable role or department."""
        if len(token) > TOKEN_CHARACTERS or not token.isascii():
            _refuse()
        digest = hashlib.sha256(token.encode()).digest()
        kept = self._cache.get(digest)
        if kept is not None:
            if self._ticks() < kept[1]:
                return kept[0]
            del self._cache[digest]
        verified = await self._read(token)
        if self._check is not None:
            await self._check(verified.actor)
        self._keep(digest, verified)
        return verified

    def _keep(self, digest: bytes, verified: Verified) -> None:
        remaining = verified.expires_at - self._wall().timestamp()
        self._cache[digest] = (verified, self._ticks() + min(CACHE_SECONDS, remaining))
        if len(self._cache) > CACHE_ENTRIES:
            self._cache.popitem(last=False)  # the oldest: nearest to its minute's end

    async def _read(self, token: str) -> Verified:
        try:
            signed = jws.extract_compact(token.encode(), registry=_REGISTRY)
            claims = _strict_json(signed.payload)
        except (JoseError, ValueError, TypeError, RecursionError):
            _refuse()
        header = signed.headers()
        trust = self._trust_for(header, claims)
        key = await trust.find(header["kid"])
        if key is None or not _signature_holds(signed, key):
            _refuse()
        expires_at = self._check_times(claims)
        subject, audience = claims.get("sub"), claims.get("aud")
        if trust.audience not in (audience if isinstance(audience, list) else [audience]):
            _refuse()
        if not isinstance(subject, str) or _subject_problem(subject):
            _refuse()
        return Verified(self._actor(subject, claims, trust), expires_at)

    def _trust_for(self, header: Any, claims: Any) -> _Trust:
        """The issuer that the token names, if its header is one that this issuer may write."""
        if not isinstance(header, dict) or not isinstance(claims, dict) or not REFUSED_HEADERS.isdisjoint(header):
            _refuse()
        issuer, kid, kind = claims.get("iss"), header.get("kid"), header.get("typ")
        if not isinstance(issuer, str) or issuer not in self._trusted:
            _refuse()
        trust = self._trusted[issuer]
        if not isinstance(kid, str) or not isinstance(kind, str):
            _refuse()
        if kind.lower().removeprefix("application/") not in trust.types:
            _refuse()
        if header.get("alg") not in list(ALGORITHMS):  # before anything is fetched
            _refuse()
        return trust

    def _check_times(self, claims: Mapping[str, Any]) -> float:
        now = self._wall().timestamp()
        expires_at = _date(claims["exp"]) if "exp" in claims else _refuse()
        if any(_date(claims[name]) > now + LEEWAY_SECONDS for name in ("nbf", "iat") if name in claims):
            _refuse()
        if now >= expires_at:
            raise Unauthenticated(EXPIRED)
        return expires_at

    def _actor(self, subject: str, claims: Mapping[str, Any], trust: _Trust) -> Actor:
        named = _strings(_claim(claims, trust.roles_claim))
        role = next((role for role in PRECEDENCE if role in named), None)
        if role is None:
            raise Forbidden(f"Your token names no role of this service in the claim {trust.roles_claim!r}.")
        if role is not Role.HANDLER:
            return Actor(subject, role)
        departments = tuple(dict.fromkeys(_strings(_claim(claims, trust.departments_claim))))
        problem = _role_problem(role, departments) or self._unknown(departments)
        if problem:
            raise Forbidden(problem)
        return Actor(subject, role, departments)

    def _unknown(self, departments: Sequence[str]) -> str:
        if self._known_departments is None:
            return ""
        known = self._known_departments()
        unknown = [code for code in departments if code not in known]
        return f"Your token names departments that do not exist here: {', '.join(unknown)}." if unknown else ""


def _trust_builtin(issuer: BuiltinIssuer) -> _Trust:
    keys = _public_keys(json.dumps(issuer.keys()).encode())

    async def find(kid: str) -> Key | None:
        return keys.get(kid)

    return _Trust(find, issuer.audience, frozenset({ACCESS_TYPE}), "role", "departments")


def _refuse() -> Never:
    raise Unauthenticated(NOT_VALID) from None


def _signature_holds(signed: jws.CompactSignature, key: Key) -> bool:
    assert not isinstance(key, OctKey), "a shared secret never verifies"
    try:
        return jws.validate_compact(signed, key, registry=_REGISTRY)
    except (JoseError, ValueError, TypeError):
        return False


def _strict_json(text: bytes) -> Any:
    """JSON in which no name comes twice and every number is one: what two readers could read differently is refused."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name comes twice")
        return found

    return json.loads(text.decode("utf-8"), object_pairs_hook=once, parse_constant=_no_number)


def _no_number(text: str) -> Never:
    raise ValueError(f"{text} is no number")


def _date(value: Any) -> float:
    """A NumericDate (RFC 7519) as seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        _refuse()
    return float(value)


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or by a path of names joined by dots."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for step in name.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _strings(value: Any) -> list[str]:
    """A list of strings, or one string in which spaces or commas part them."""
    if isinstance(value, str):
        return value.replace(",", " ").split()
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _subject_problem(subject: str) -> str:
    """Printable, so that it can be stored, logged and shown; and nobody is called as the pump is."""
    if not 0 < len(subject) <= SUBJECT_CHARACTERS or not subject.isprintable() or not subject.strip():
        return "A subject is 1 to 255 printable characters."
    return f"Nobody may be called {subject!r}." if subject == SYSTEM.subject else ""


def _role_problem(role: Role, departments: Sequence[str]) -> str:
    """What is wrong with this role and these departments, or nothing."""
    if role is Role.SYSTEM:
        return "No token carries the role of the service itself."
    if role is not Role.HANDLER:
        return f"Only a handler has departments; {role} is a role for the whole city." if departments else ""
    if not departments:
        return "This token makes you a handler but names no department you work for."
    wrong = [code for code in departments if not DEPARTMENT.fullmatch(code)]
    return "A department code is 1 to 64 letters, digits, dots, dashes or underscores." if wrong else ""
