"""Jobs that arq runs: a few lines each around a use case."""

from __future__ import annotations

from typing import Any


async def wake(ctx: dict[str, Any]) -> int:
    """Something was committed: let the pump look now, and carry what waits in the outbox."""
    ctx["wake"]()
    delivered: int = await ctx["deliver"]()
    return delivered
