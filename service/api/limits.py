"""How many requests one client may send: a bucket of tokens per client, in this process. Nothing outside is asked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from service.clock import monotonic
from service.core.errors import JiebanError

BURST_SECONDS = 5
"""A client that was quiet may send as much at once as it may in this many seconds."""
MOST_CLIENTS = 20_000
"""Buckets kept; the one that was asked longest ago goes first, and is full when it comes back."""


class TooMany(JiebanError):
    """Carries `retry_after`: whole seconds until there is a token again."""

    slug = "too-many-requests"
    title = "Too many requests"

    def __init__(self, seconds: int) -> None:
        super().__init__(f"This client sends too many requests; come back in {seconds} s.", retry_after=seconds)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Limiter:
    """`per_second` requests of each client, and BURST_SECONDS times as many at once; 0: no limit."""

    def __init__(self, per_second: int, now: Callable[[], float] = monotonic) -> None:
        self._rate, self._now = per_second, now
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, client: str) -> None:
        """Let one request pass, or raise TooMany. A refused request costs nothing."""
        if not self._rate:
            return
        now, most = self._now(), float(self._rate * BURST_SECONDS)
        bucket = self._buckets.get(client)
        if bucket is None:
            bucket = self._buckets[client] = _Bucket(most, now)
            if len(self._buckets) > MOST_CLIENTS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(client)
            bucket.tokens, bucket.at = min(most, bucket.tokens + (now - bucket.at) * self._rate), now
        if bucket.tokens < 1:
            raise TooMany(max(1, round((1 - bucket.tokens) / self._rate + 0.5)))
        bucket.tokens -= 1
