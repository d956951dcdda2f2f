"""Events to the operator's receiver, signed as Standard Webhooks 1.0: 2xx is success, redirects are never followed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx
from pydantic_core import to_json
from standardwebhooks.webhooks import Webhook

TIMEOUT_SECONDS = 15.0


class WebhookSender:
    """Sends to one address set by the operator (JIEBAN_WEBHOOK_URL), never to one that a client named."""

    def __init__(self, url: str, secret: str) -> None:
        self._url, self._webhook = url, Webhook(secret)
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False)

    async def send(self, message_id: str, sent_at: datetime, payload: Mapping[str, Any]) -> str | None:
        """Deliver once; None when the receiver took it, else the reason."""
        body = to_json(payload).decode()
        headers = {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(sent_at.timestamp())),
            "webhook-signature": self._webhook.sign(message_id, sent_at, body),
            "content-type": "application/json",
        }
        try:
            async with self._client.stream("POST", self._url, content=body.encode(), headers=headers) as answer:
                return None if answer.is_success else f"the receiver answered {answer.status_code}"
        except httpx.HTTPError as error:
            return f"the receiver cannot be reached: {type(error).__name__}"

    async def close(self) -> None:
        await self._client.aclose()
