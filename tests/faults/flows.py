"""The load: requests that go their ways by careful clients, and what each of them was told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from tests.conftest import request_body
from tests.faults.stage import Stage

TAX = "handler:tax"
GLAD = {"reached": True, "solved": "yes", "satisfaction": "satisfied"}
SAD = {"reached": True, "solved": "no", "satisfaction": "dissatisfied", "reason": "result"}
GIVE_UP_SECONDS = 60.0
WAYS = ("straight", "paused", "extended", "return denied", "second round", "rejected", "withdrawn", "silent", "review")


@dataclass(slots=True)
class Told:
    """What the service answered. Every write carries a mark of its own in one of its texts, which its event repeats."""

    tickets: dict[str, str] = field(default_factory=dict)
    """Source reference -> id of the ticket that was acknowledged."""
    done: set[str] = field(default_factory=set)
    """Marks of acknowledged actions: each must be in exactly one event."""
    refused: set[str] = field(default_factory=set)
    """Marks of actions that were answered with a refusal: they must be in none."""
    answers: Counter[int] = field(default_factory=Counter)
    repeats: int = 0


class CarefulClient:
    """Sends a write with its key again and again, to whichever API answers, until it is acknowledged or refused."""

    def __init__(self, stage: Stage, http: httpx.AsyncClient, told: Told, random: Random) -> None:
        self._stage, self._http, self._told, self._random = stage, http, told, random

    async def send(self, path: str, body: Mapping[str, Any], who: str, key: str) -> dict[str, Any] | None:
        """The acknowledged answer, or None when it was refused."""
        headers = {"Authorization": f"Bearer {self._stage.token(who)}", "Idempotency-Key": key}
        give_up, urls = time.monotonic() + GIVE_UP_SECONDS, self._stage.urls()
        self._random.shuffle(urls)
        for n in range(10_000):
            try:
                answer = await self._http.post(urls[n % len(urls)] + path, json=body, headers=headers)
                self._told.answers[answer.status_code] += 1
                if answer.is_success:
                    acknowledged: dict[str, Any] = answer.json()
                    return acknowledged
                if answer.status_code == 409 and "retry-after" not in answer.headers:
                    return None
                assert answer.status_code in {409, 429, 503}, (path, answer.status_code, answer.text)
                assert answer.headers["retry-after"]
            except httpx.TransportError:
                self._told.answers[0] += 1
            self._told.repeats += 1
            assert time.monotonic() < give_up, f"never answered: {path}"
            await asyncio.sleep(0.1 + self._random.random() * 0.2)
        raise AssertionError("unreachable")

    async def get(self, path: str, who: str) -> dict[str, Any]:
        give_up, urls = time.monotonic() + GIVE_UP_SECONDS, self._stage.urls()
        while time.monotonic() < give_up:
            for url in urls:
                try:
                    answer = await self._http.get(
                        url + path, headers={"Authorization": f"Bearer {self._stage.token(who)}"}
                    )
                    if answer.is_success:
                        shown: dict[str, Any] = answer.json()
                        return shown
                    assert answer.status_code in {429, 503}, (path, answer.status_code, answer.text)
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)
        raise AssertionError(f"never answered: {path}")


class Flow:
    """One request on its way. `leisure`: the longest pause between two steps, in seconds."""

    def __init__(self, client: CarefulClient, told: Told, name: str, random: Random, leisure: float) -> None:
        self._client, self._told, self.name, self._random, self._leisure = client, told, name, random, leisure
        self._steps, self.ticket = 0, ""

    async def run(self, way: str) -> None:
        body = request_body(
            source={"reference": self.name}, title=f"{way} {self.name}", enterprise={"name": f"企业{self.name}"}
        )
        made = await self._client.send("/v1/tickets", body, "hotline", self.name)
        assert made is not None, "a new request is never refused"
        self.ticket = made["id"]
        self._told.tickets[self.name] = made["id"]
        await getattr(self, f"_{way.replace(' ', '_')}")()

    async def act(self, action: str, who: str, field: str, **form: Any) -> dict[str, Any] | None:
        """One action, with a mark in its text `field`."""
        return await self._write(f"/v1/tickets/{self.ticket}/actions/{action}", who, field, form)

    async def _write(self, path: str, who: str, field: str, form: dict[str, Any]) -> dict[str, Any] | None:
        await asyncio.sleep(self._random.random() * self._leisure)
        self._steps += 1
        mark = f"{self.name}.{self._steps}"
        answer = await self._client.send(path, {**form, field: mark}, who, mark)
        (self._told.refused if answer is None else self._told.done).add(mark)
        return answer

    async def _decide(self, kind: str, decision: str) -> None:
        path: str | None = f"/v1/approvals?state=pending&kind={kind}&limit=200"
        listed = await self._client.get(str(path), "dispatcher")
        mine = [a["id"] for a in listed["items"] if a["ticket"]["id"] == self.ticket]
        if mine:
            await self._write(f"/v1/approvals/{mine[0]}/decision", "dispatcher", "reason", {"decision": decision})

    # -- the ways

    async def _silent(self) -> None:
        return

    async def _straight(self) -> None:
        await self.act("accept", TAX, "note")
        await self.act("log_contact", TAX, "note", reached=True)
        await self.act("submit_plan", TAX, "plan")
        await self._reply(GLAD)

    async def _reply(self, callback: dict[str, Any]) -> None:
        await self.act("submit_reply", TAX, "public_reply", outcome="solved")
        await self.act("approve_reply", "dispatcher", "note")
        await self.act("record_callback", "hotline", "comment", **callback)

    async def _paused(self) -> None:
        await self.act("accept", TAX, "note")
        if await self.act("request_pause", TAX, "reason", kind="waiting_enterprise"):
            await self._decide("pause", self._random.choice(["approve", "approve", "deny"]))
            if self._random.random() < 0.5:
                await self.act("resume", TAX, "note")
        await self.act("comment", TAX, "text")

    async def _extended(self) -> None:
        await self.act("accept", TAX, "note")
        if await self.act("request_extension", TAX, "reason", ground="funds_or_season", days=2):
            await self._decide("extension", self._random.choice(["approve", "deny"]))
        await self._reply(GLAD)

    async def _return_denied(self) -> None:
        if await self.act("request_return", TAX, "reason", ground="not_our_duty"):
            await self._decide("return", "deny")
        await self.act("accept", TAX, "note")

    async def _second_round(self) -> None:
        await self.act("accept", TAX, "note")
        await self._reply(SAD)
        await self._reply(GLAD)

    async def _rejected(self) -> None:
        await self.act("accept", TAX, "note")
        await self.act("submit_reply", TAX, "public_reply")
        await self.act("reject_reply", "supervisor", "reason")
        await self._reply(GLAD)

    async def _withdrawn(self) -> None:
        await self.act("comment", "dispatcher", "text")
        await self.act("withdraw", "hotline", "reason")

    async def _review(self) -> None:
        await self.act("accept", TAX, "note")
        await self.act("escalate", TAX, "reason")
        await self.act("comment", "reviewer", "text")


async def load(stage: Stage, told: Told, seed: int, flows: int, seconds: float) -> None:
    """`flows` requests begin within `seconds`, each on a way chosen by the seed; returns when all have gone it."""
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(timeout=10, trust_env=False, limits=limits) as http:

        async def one(n: int) -> None:
            random = Random(seed * 1_000_003 + n)
            await asyncio.sleep(random.random() * seconds)
            client = CarefulClient(stage, http, told, random)
            await Flow(client, told, f"{seed}-{n}", random, leisure=1.5).run(WAYS[n % len(WAYS)])

        async with asyncio.TaskGroup() as group:
            for n in range(flows):
                group.create_task(one(n))
