"""The only place that asks the machine for time, chance or ids. What decides anything is the database's time."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime

import uuid_utils


def new_id() -> str:
    """A UUIDv7: ordered by time, so indexes stay compact, and not guessable."""
    return str(uuid_utils.uuid7())


def monotonic() -> float:
    """Seconds for measuring spans; never for dates."""
    return time.monotonic()


def wall_now() -> datetime:
    """The host's time: for token expiry and skew reports only, never for a clock of a ticket."""
    return datetime.now(UTC)


def jitter(seconds: float) -> float:
    """A random share of `seconds`, so that several processes do not wake together."""
    return random.uniform(0.0, seconds)  # noqa: S311  # spreads load; nothing secret
