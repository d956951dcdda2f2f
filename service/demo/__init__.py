"""The demonstration: a city at work for some weeks, over HTTP alone.

Requests are posted day by day by several clients while the sandbox's clock moves from one working hour to the next.
Scripted people act on them through the same API as everybody: a dispatcher, a hotline caller, a reviewer, and one
handler for each department that has tickets. What each of them does is a hash of the seed, the request's own key and
the question ("is this one late?"), so it does not depend on which answer came first: the same seed, the same city.

    requests            bodies from a file of any form
    http                the client
    city                what the script knows: tickets, agenda, chance, time
    handlers, offices, docket   the people: departments; hotline, dispatcher, auditor; reviewer
    play                whose hour it is
    show                the terminal
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console

from service.demo import play, show
from service.demo.city import City
from service.demo.errors import DemoFailed
from service.demo.http import ROLES, Api
from service.demo.requests import SHIPPED, as_body, read_requests

__all__ = ["ROLES", "SHIPPED", "City", "DemoFailed", "as_body", "read_requests", "run"]

AT_ONCE = 16


def run(
    url: str,
    tokens: Mapping[str, str],
    mint: Callable[[str], str],
    bodies: Sequence[dict[str, Any]],
    weeks: int,
    clients: int,
    seed: int,
) -> None:
    """Drive the running sandbox at `url`. `tokens`: one for each of ROLES; `mint` makes those of the handlers.

    `bodies`: what `read_requests` gave. Raises DemoFailed when the service gives an answer that nothing explains.
    """
    asyncio.run(_run(show.terminal(), url, tokens, mint, bodies, weeks, clients, seed))


async def _run(
    console: Console,
    url: str,
    tokens: Mapping[str, str],
    mint: Callable[[str], str],
    bodies: Sequence[dict[str, Any]],
    weeks: int,
    clients: int,
    seed: int,
) -> None:
    async with Api.open(url, max(AT_ONCE, clients), tokens, mint) as api:
        city = City(api, seed, clients)
        await city.prepare(bodies, weeks)
        if city.prefix:
            console.print(f"[yellow]This data folder holds tickets already:[/] references of this run begin with "
                          f"{city.prefix}; the tables below include the earlier ones.")  # fmt: skip
        with show.progress(console, city, weeks) as tell:
            await play.live(city, tell)
        await show.tables(console, api, city, weeks)
        await show.links(console, api, city, url)
    show.verdict(console, api, city)
