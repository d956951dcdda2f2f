"""The clock gate (T18): timers fire by the database's clock only while that clock can be believed.

A clock that jumps two hours ahead would breach every promise of those two hours at once. So each reading is compared with
what the one before it and the machine's own uptime lead to expect, and with the host's clock. Pure values: who reads the
clocks stands in `usecases.runs`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

LIMIT = timedelta(seconds=60)
"""A difference beyond this holds the timers: far more than the network, a pause of the process or NTP's slewing."""
BACK = timedelta(seconds=5)
"""Within this of what was expected, the clock is taken to be right again."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The database's clock (not a sandbox's), the host's, and seconds of the host's uptime, taken together."""

    database: datetime
    host: datetime
    uptime_seconds: float

    @property
    def skew(self) -> timedelta:
        """How far the host is ahead of the database."""
        return self.host - self.database


@dataclass(frozen=True, slots=True)
class Gate:
    """Open unless `held` says why not. `seen` is the last reading that was believed."""

    seen: Reading | None = None
    held: str | None = None
    accepted: timedelta = timedelta()
    """The skew that whoever released the gate has accepted."""

    def look(self, reading: Reading) -> Gate:
        """The gate after one more reading."""
        jump, skew = self._jump(reading), reading.skew - self.accepted
        if self.held is None:
            held = _why(jump, skew)
            return replace(self, held=held) if held else replace(self, seen=reading)
        if abs(jump) <= BACK and abs(skew) <= BACK:
            return replace(self, held=None, seen=reading)
        return self

    def released(self, reading: Reading) -> Gate:
        """Somebody looked and says that the database's clock is right as it is."""
        return Gate(reading, None, reading.skew)

    def _jump(self, reading: Reading) -> timedelta:
        if self.seen is None:
            return timedelta()
        passed = timedelta(seconds=reading.uptime_seconds - self.seen.uptime_seconds)
        return reading.database - (self.seen.database + passed)


def _why(jump: timedelta, skew: timedelta) -> str | None:
    if abs(jump) > LIMIT:
        return f"the database's clock jumped by {jump.total_seconds():+.0f} s"
    if abs(skew) > LIMIT:
        return f"the host's clock is {skew.total_seconds():+.0f} s from the database's"
    return None
