"""The client of the demonstration: a token for each person, retries, and a count of what went otherwise."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from service.demo.errors import DemoFailed

ROLES = ("hotline", "dispatcher", "reviewer", "supervisor")
"""Who has a token from the beginning; those of the handlers are made when they are needed."""
ATTEMPTS = 8
PAGE = 200


class Api:
    """Calls with retries; keeps count of answers that were not hoped for."""

    def __init__(self, tokens: Mapping[str, str], mint: Callable[[str], str]) -> None:
        self._tokens, self._mint = dict(tokens), mint
        self._free: asyncio.Queue[httpx.AsyncClient] = asyncio.Queue()
        self.calls = 0
        self.overtaken: Counter[str] = Counter()
        """409 and 403: a timer or another person was there first."""
        self.unexpected: Counter[str] = Counter()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, connections: int, tokens: Mapping[str, str], mint: Callable[[str], str]
    ) -> AsyncIterator[Api]:
        """One client for each connection: a pool that several requests share is looked through for each of them."""
        api, tls = cls(tokens, mint), httpx.create_ssl_context()
        async with AsyncExitStack() as stack:
            for _ in range(connections):
                client = httpx.AsyncClient(base_url=url, timeout=300.0, trust_env=False, verify=tls)
                api._free.put_nowait(await stack.enter_async_context(client))
            yield api

    async def get(self, who: str, path: str, **params: Any) -> Any:
        answer = await self._send(who, "GET", path, params={k: v for k, v in params.items() if v is not None})
        if answer.status_code != 200:
            self.note("GET", path, answer)
            return None
        return answer.json()

    async def items(self, who: str, path: str, **params: Any) -> list[dict[str, Any]]:
        """All pages of a list."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = await self.get(who, path, limit=PAGE, cursor=cursor, **params)
            found += page["items"] if page else []
            cursor = page["next_cursor"] if page else None
            if cursor is None:
                return found

    async def act(self, who: str, path: str, form: Mapping[str, Any], key: str) -> tuple[bool, Any]:
        """A write: (done, the answer). A 409 or 403 is what happens among many people; all else is noted."""
        answer = await self._send(who, "POST", path, body=form, key=key)
        if answer.is_success:
            return True, answer.json()
        if answer.status_code in {403, 409}:
            self.overtaken[f"{answer.status_code} {path.rsplit('/', 1)[-1]}: {_problem(answer)}"] += 1
        else:
            self.note("POST", path, answer)
        return False, _json(answer)

    async def post_ticket(self, body: Mapping[str, Any], key: str) -> httpx.Response:
        return await self._send("hotline", "POST", "/v1/tickets", body=body, key=key)

    def note(self, method: str, path: str, answer: httpx.Response) -> None:
        shape = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|QY\d+", "{id}", path)
        self.unexpected[f"{method} {shape} → {answer.status_code} {_problem(answer)}"] += 1

    async def _send(
        self, who: str, method: str, path: str, *, params: Any = None, body: Any = None, key: str | None = None
    ) -> httpx.Response:
        if who not in self._tokens:
            self._tokens[who] = self._mint(who)
        headers = {"Authorization": f"Bearer {self._tokens[who]}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        why = ""
        for attempt in range(ATTEMPTS):
            self.calls += 1
            pause = min(0.1 * 2**attempt, 5.0)
            http = await self._free.get()
            try:
                answer = await http.request(method, path, params=params, json=body, headers=headers)
            except httpx.TransportError as error:
                why = repr(error)
            else:
                busy = answer.status_code == 409 and "retry-after" in answer.headers
                if answer.status_code not in {429, 503} and not busy:
                    return answer
                why = f"{answer.status_code} {_problem(answer)}"
                given = answer.headers.get("retry-after", "")
                pause = min(float(given), 5.0) if given.isdigit() else pause
            finally:
                self._free.put_nowait(http)
            await asyncio.sleep(pause)
        raise DemoFailed(f"{method} {path} was tried {ATTEMPTS} times in vain; the last time: {why}")


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return {}


def _problem(answer: httpx.Response) -> str:
    told = _json(answer)
    if not isinstance(told, dict):
        return answer.text[:200]
    fields = "; ".join(f"{e.get('pointer')}: {e.get('detail')}" for e in told.get("errors") or ())
    return f"{told.get('detail') or answer.text[:200]}{' (' + fields + ')' if fields else ''}"
