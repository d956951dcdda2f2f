"""Events to receivers, signed as Standard Webhooks 1.0: 2xx is success, redirects are never followed.

Two kinds: the one address that the operator set, and those that clients registered. Where the latter lead is decided at
each delivery: the name is looked up once, every address is held against `core.receivers`, and the connection goes to the
very address that was looked at (the name is used for TLS and the Host header only).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from ipaddress import ip_address
from typing import Any

import httpx
from pydantic_core import to_json
from standardwebhooks.webhooks import Webhook

from service.core.errors import Invalid
from service.core.receivers import PORTS, Address, Allowed, Place, Sent, place_of

TIMEOUT_SECONDS = 15.0


class WebhookSender:
    """Sends to one address set by the operator (JIEBAN_WEBHOOK_URL), never to one that a client named."""

    def __init__(self, url: str, secret: str) -> None:
        self._url, self._webhook = url, Webhook(secret)
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False)

    async def send(self, message_id: str, sent_at: datetime, payload: Mapping[str, Any]) -> str | None:
        """Deliver once; None when the receiver took it, else the reason."""
        body = to_json(payload).decode()
        headers = signed(self._webhook, message_id, sent_at, body)
        try:
            async with self._client.stream("POST", self._url, content=body.encode(), headers=headers) as answer:
                return None if answer.is_success else f"the receiver answered {answer.status_code}"
        except httpx.HTTPError as error:
            return f"the receiver cannot be reached: {type(error).__name__}"

    async def close(self) -> None:
        await self._client.aclose()


def signed(webhook: Any, message_id: str, sent_at: datetime, body: str) -> dict[str, str]:
    """The headers of a message: the id stays the same over retries, time and signature are those of the try."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": webhook.sign(message_id, sent_at, body),
        "content-type": "application/json",
    }


Resolve = Callable[[str, int], Awaitable[list[Address]]]


async def resolve(host: str, port: int) -> list[Address]:
    """Every address that a name leads to now; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(info[4][0]) for info in found]


class ReceiverCourier:
    """Sends to addresses that clients registered, within the operator's list."""

    def __init__(self, allowed: Allowed, look_up: Resolve = resolve) -> None:
        self._allowed, self._resolve = allowed, look_up
        # no connection is used twice: two names may lead to one address, and TLS was verified for one of them
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def send(self, url: str, secret: str, message_id: str, sent_at: datetime, body: bytes) -> Sent:
        """Try once; never raises. What the receiver answers besides its status is not read."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                place = place_of(url)
                addresses = [place.address] if place.address else await self._resolve(place.host, place.port)
                refused = self._allowed.refused(place, addresses)
                if refused is not None:
                    return Sent(f"the address is refused: {refused}")
                headers = signed(Webhook(secret), message_id, sent_at, body.decode())
                return await self._post(url, place, addresses[0], headers, body)
        except (httpx.HTTPError, OSError, TimeoutError, Invalid, UnicodeError) as error:
            return Sent(f"the receiver cannot be reached: {type(error).__name__}")

    async def _post(self, url: str, place: Place, address: Address, headers: dict[str, str], body: bytes) -> Sent:
        default = place.port == PORTS[place.scheme]
        name = f"[{place.host}]" if ":" in place.host else place.host
        request = self._client.build_request(
            "POST",
            httpx.URL(url).copy_with(host=str(address)),
            headers={**headers, "host": name if default else f"{name}:{place.port}"},
            content=body,
            extensions={} if place.address else {"sni_hostname": place.host},
        )
        answer = await self._client.send(request, stream=True)
        try:
            if answer.is_success:
                return Sent(None)
            wait = answer.headers.get("retry-after", "")
            seconds = int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 7 else None
            return Sent(f"the receiver answered {answer.status_code}", answer.status_code == 410, seconds)
        finally:
            await answer.aclose()

    async def close(self) -> None:
        await self._client.aclose()
