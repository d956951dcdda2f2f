"""What every use case is handed: the database, the compiled definitions, the vault, a source of ids."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from opencc import OpenCC

from service.core.calendar import Calendar
from service.core.definitions import Workflow, compile_workflow
from service.core.draft import Env
from service.core.errors import NotFound
from service.core.model import SYSTEM, Actor, Clock, Ticket
from service.core.routing import Matter, Router, parse_routing
from service.db import definitions as stored
from service.db.session import Database, Tx
from service.db.vault import Vault

Ring = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Catalog:
    """One consistent set of compiled definitions; `stamp` tells whether a newer one exists."""

    stamp: int
    newest: Mapping[str, Workflow]
    newest_calendars: Mapping[str, Calendar]
    router: Router
    departments: Mapping[str, Mapping[str, Any]]
    matters: Mapping[str, Mapping[str, Any]]
    district_units: Mapping[str, str]

    def choose(self, domain: str, urgency: str, lead: str | None) -> Workflow:
        """The workflow of a new ticket: by urgency first, then the lead's own overlay, then the domain's."""
        flows = self.newest.values()
        for flow in flows:
            if urgency in flow.urgency:
                return flow
        for flow in flows:
            if lead in flow.departments and (not flow.domains or domain in flow.domains):
                return flow
        for flow in flows:
            if domain in flow.domains and not flow.departments:
                return flow
        raise NotFound(f"No published workflow takes the domain {domain!r}.")


@dataclass(slots=True)
class House:
    db: Database
    vault: Vault
    new_id: Callable[[], str]
    zone: ZoneInfo
    sandbox: bool = False
    door: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2 * (os.cpu_count() or 2)))
    """How many requests are taken in at once: more than the cores can carry only make each other late. First come,
    first served, so that the last of a burst waits no longer than its turn."""
    ring: Ring = lambda: None
    catalog: Catalog | None = None
    _workflows: dict[tuple[str, int], Workflow] = field(default_factory=dict)
    _calendars: dict[tuple[str, int], Calendar] = field(default_factory=dict)

    @property
    def rules(self) -> Catalog:
        if self.catalog is None:
            raise NotFound("Nothing is published yet; run `python3 -m service migrate`.")
        return self.catalog

    async def refresh(self) -> None:
        """Load what was published since; called at start and every few seconds by the processes that run on."""
        async with self.db.transaction(SYSTEM, readonly=True) as tx:
            stamp = await stored.stamp(tx)
            if self.catalog is not None and self.catalog.stamp == stamp:
                return
            rows = await stored.newest(tx)
        self.catalog = compile_catalog(rows, stamp)
        for flow in self.catalog.newest.values():
            self._workflows[flow.key, flow.version] = flow
        for calendar in self.catalog.newest_calendars.values():
            self._calendars[calendar.key, calendar.version] = calendar

    async def workflow(self, tx: Tx, key: str, version: int) -> Workflow:
        """The very version a ticket was accepted under (P7)."""
        if (key, version) not in self._workflows:
            body = await stored.get(tx, "workflow", key, version)
            if body is None:
                raise NotFound(f"There is no workflow {key} version {version}.")
            self._workflows[key, version] = compile_workflow(body, version)
        return self._workflows[key, version]

    async def rules_of(self, tx: Tx, ticket: Ticket) -> Workflow:
        """The ticket's own workflow version; its clocks' calendar versions are at hand afterwards."""
        for clock in ticket.clocks:
            if (clock.calendar_key, clock.calendar_version) not in self._calendars:
                await self.calendar_version(tx, clock.calendar_key, clock.calendar_version)
        return await self.workflow(tx, ticket.workflow_key, ticket.workflow_version)

    def calendar(self, key: str) -> Calendar:
        return self.rules.newest_calendars[key]

    def calendar_of(self, clock: Clock) -> Calendar:
        """The calendar version a clock was started under (T2)."""
        return self._calendars[clock.calendar_key, clock.calendar_version]

    async def calendar_version(self, tx: Tx, key: str, version: int) -> Calendar:
        """The very version a clock was counted by (T2)."""
        if (key, version) not in self._calendars:
            body = await stored.get(tx, "calendar", key, version)
            if body is None:
                raise NotFound(f"There is no calendar {key} version {version}.")
            self._calendars[key, version] = Calendar.compile(body, version)
        return self._calendars[key, version]

    async def env(self, tx: Tx, flow: Workflow, actor: Actor | None = None, *, punctual: bool = False) -> Env:
        return Env(
            workflow=flow,
            calendar=self.calendar(flow.calendar),
            actor=actor or tx.actor,
            now=tx.now,
            new_id=self.new_id,
            departments=frozenset(self.rules.departments),
            punctual=punctual,
            calendars=self._calendars,
        )


def compile_catalog(rows: list[Any], stamp: int) -> Catalog:
    """Newest stored definitions -> compiled values."""
    by_kind: dict[str, dict[str, tuple[int, Any]]] = {}
    for row in rows:
        by_kind.setdefault(row["kind"], {})[row["key"]] = (row["version"], row["body"])
    flows = {k: compile_workflow(body, v) for k, (v, body) in by_kind.get("workflow", {}).items()}
    calendars = {k: Calendar.compile(body, v) for k, (v, body) in by_kind.get("calendar", {}).items()}
    departments = by_kind["departments"]["city"][1]
    matters = {m["code"]: m for m in by_kind["matters"]["city"][1]["matters"]}
    router = Router(
        parse_routing(by_kind["routing"]["city"][1]),
        {code: Matter(code, m.get("parent"), m["lead"]) for code, m in matters.items()},
        departments["district_units"],
        OpenCC("t2s").convert,
    )
    listed = {d["code"]: d for d in departments["departments"]}
    return Catalog(stamp, flows, calendars, router, listed, matters, departments["district_units"])
