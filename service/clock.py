"""The only place that asks the machine for time, chance or ids. What decides anything is the database's time."""

from __future__ import annotations

import os
import random
import socket
import time
from datetime import UTC, datetime

import uuid_utils


def new_id() -> str:
    """A UUIDv7: ordered by time, so indexes stay compact, and not guessable."""
    return str(uuid_utils.uuid7())


def monotonic() -> float:
    """Seconds for measuring spans; never for dates."""
    return time.monotonic()


def uptime() -> float:
    """Seconds since the machine was started, those of its sleep included; no correction of the date moves it."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def wall_now() -> datetime:
    """The host's time: for token expiry and skew reports only, never for a clock of a ticket."""
    return datetime.now(UTC)


def worker_name() -> str:
    """Who this process is, among all that ever ran: host, process id and a random part."""
    return f"{socket.gethostname()}/{os.getpid()}/{os.urandom(4).hex()}"


def jitter(seconds: float) -> float:
    """A random share of `seconds`, so that several processes do not wake together."""
    return random.uniform(0.0, seconds)  # noqa: S311  # spreads load; nothing secret
