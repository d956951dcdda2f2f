"""What every use case is handed: the database, the compiled definitions, the vault, a source of ids."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from opencc import OpenCC

from service.core import confidence
from service.core.calendar import Calendar
from service.core.definitions import ClockDef, Workflow, compile_workflow
from service.core.desk import Desk, parse_desk
from service.core.docket import Docket, parse_docket
from service.core.draft import Env
from service.core.errors import NotFound
from service.core.model import SYSTEM, Actor, Clock, Ticket
from service.core.policies import Policies
from service.core.receivers import Allowed
from service.core.routing import Router, make_router
from service.db import definitions as stored
from service.db import quarantine, units
from service.db.session import Database, Tx
from service.db.vault import Vault
from service.integrations.attachments import FileStore
from service.usecases import views

Ring = Callable[[], None]
ROUTED = (("routing", "city"), ("matters", "city"), ("departments", "city"))
"""What a router is made of."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """What was decided since the lists were published: changes of units, oldest first, and meanings of foreign codes."""

    changes: tuple[Mapping[str, Any], ...] = ()
    mappings: Mapping[tuple[str, str, str], str] = field(default_factory=dict)

    @property
    def successors(self) -> dict[str, str]:
        """Units that are no more -> those that have their duties today."""
        out: dict[str, str] = {}
        for change in self.changes:
            if change["successor"] is not None:
                out = {old: change["successor"] if new == change["code"] else new for old, new in out.items()}
                out[change["code"]] = change["successor"]
        return out

    def applied(self, units: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The list of units as it is today: names that changed (the old ones stay as aliases), units that are no more."""
        listed = {u["code"]: {**u, "active": True, "successor": None} for u in units}
        for change in self.changes:
            unit = listed.get(change["code"])
            if unit is not None and change["title"] is not None:
                aliases = dict.fromkeys([*unit.get("aliases", ()), unit["title"]["zh"]])
                unit |= {"title": dict(change["title"]), "aliases": list(aliases)}
        for code, successor in self.successors.items():
            if code in listed:
                listed[code] |= {"active": False, "successor": successor}
        return list(listed.values())


@dataclass(frozen=True, slots=True)
class Catalog:
    """One consistent set of compiled definitions; `stamp` tells whether a newer one exists."""

    stamp: int
    policies: Policies
    router: Router
    departments: Mapping[str, Mapping[str, Any]]
    matters: Mapping[str, Mapping[str, Any]]
    district_units: Mapping[str, str]
    bodies: Mapping[tuple[str, str], tuple[int, Mapping[str, Any]]]
    """Version and body of each definition as it was published, by kind and key."""
    department_codes: frozenset[str]
    """Every unit that is listed, also those that are no more: definitions and old tickets name them."""
    active_codes: frozenset[str]
    """Units that tickets can be sent to."""
    matter_codes: frozenset[str]
    overlay: Overlay = field(default_factory=Overlay)
    desk: Desk = field(default_factory=Desk)
    docket: Docket | None = None
    """The docket's rules; None until they are published."""

    def meaning(self, system: str, field: str, code: str | None) -> str | None:
        """What a code of a source was found to mean in our lists; itself where nothing was found."""
        return self.overlay.mappings.get((system, field, code), code) if code is not None else None

    @property
    def routing_version(self) -> int:
        return self.bodies["routing", "city"][0]

    @property
    def newest(self) -> Mapping[str, Workflow]:
        return self.policies.flows

    @property
    def newest_bodies(self) -> Mapping[str, Mapping[str, Any]]:
        """The workflows in force as plain data, by key."""
        return {key: self.bodies["workflow", key][1] for key in self.newest}

    @property
    def newest_calendars(self) -> Mapping[str, Calendar]:
        return self.policies.calendars


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
    receivers: Allowed = field(default_factory=Allowed)
    """Where clients may have events sent to."""
    files: FileStore | None = None
    """Where attachments lie."""
    catalog: Catalog | None = None
    _workflows: dict[tuple[str, int], Workflow] = field(default_factory=dict)
    _calendars: dict[tuple[str, int], Calendar] = field(default_factory=dict)

    @property
    def rules(self) -> Catalog:
        if self.catalog is None:
            raise NotFound("Nothing is published yet; run `python3 -m service migrate`.")
        return self.catalog

    @property
    def workflows(self) -> Mapping[tuple[str, int], Workflow]:
        """Every version that was asked for so far, compiled, by key and version."""
        return self._workflows

    def missing_years(self, now: datetime) -> dict[str, int]:
        """Calendar -> the year whose notice is missing and by now is an alarm."""
        return self.rules.policies.missing_years(now.astimezone(self.zone).date())

    @property
    def docket(self) -> Docket:
        """The rules of one matter, one discussion."""
        if self.rules.docket is None:
            raise NotFound("The docket's rules are not published yet; run `python3 -m service migrate`.")
        return self.rules.docket

    async def refresh(self) -> None:
        """Load what was published since; called at start and every few seconds by the processes that run on."""
        async with self.db.transaction(SYSTEM, readonly=True) as tx:
            stamp = await stored.stamp(tx)
            if self.catalog is not None and self.catalog.stamp == stamp:
                return
            rows = await stored.newest(tx)
            overlay = Overlay(tuple(map(dict, await units.changes(tx))), await quarantine.mappings(tx))
        self.catalog = compile_catalog(rows, stamp, self._workflows, self._calendars, self.catalog, overlay)
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
        """The ticket's own workflow version; what its clocks were bound to is at hand afterwards."""
        for clock in ticket.clocks:
            if (clock.calendar_key, clock.calendar_version) not in self._calendars:
                await self.calendar_version(tx, clock.calendar_key, clock.calendar_version)
            if (clock.workflow_key, clock.workflow_version) not in self._workflows:
                await self.workflow(tx, clock.workflow_key, clock.workflow_version)
        return await self.workflow(tx, ticket.workflow_key, ticket.workflow_version)

    def flow_of(self, ticket: Ticket) -> Workflow:
        """The workflow that a loaded or just decided ticket is bound to."""
        return self._workflows[ticket.workflow_key, ticket.workflow_version]

    def show(self, ticket: Ticket, row: Mapping[str, Any], now: datetime, actor: Actor | None = None) -> dict[str, Any]:
        """The ticket as it looks outside, to `actor`; a confidential one to nobody in particular tells nothing.

        `row`: the stored columns that intake wrote.
        """
        flow = self.flow_of(ticket)
        shown = views.ticket(ticket, row, flow, self.definition_of, self.calendar_of, now, self.zone)
        return confidence.masked(shown, confidence.sees(actor, ticket)) if shown["confidential"] else shown

    def definition_of(self, clock: Clock) -> ClockDef:
        """What the policy that a clock was last bound to says of it (T2)."""
        return self._workflows[clock.workflow_key, clock.workflow_version].clocks[clock.name]

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

    def env(self, tx: Tx, flow: Workflow, district: str | None, *, punctual: bool = False) -> Env:
        """What a decision about a ticket of this workflow and district may look at."""
        rules = self.rules
        return Env(
            workflow=flow,
            calendar=rules.policies.calendar_for(flow, district),
            actor=tx.actor,
            now=tx.now,
            new_id=self.new_id,
            departments=rules.active_codes,
            punctual=punctual,
            calendars=self._calendars,
            matters=rules.matter_codes,
            policies=rules.policies,
            docket=rules.docket,
        )


def compile_catalog(
    rows: list[Any],
    stamp: int,
    workflows: Mapping[tuple[str, int], Workflow],
    known: Mapping[tuple[str, int], Calendar],
    before: Catalog | None = None,
    overlay: Overlay = Overlay(),
) -> Catalog:
    """Newest stored definitions -> compiled values; `workflows` and `known` calendars are not compiled again.

    The router of the catalog `before` is kept unless what it is made of changed: making one takes longer than all the rest.
    """
    by_kind: dict[str, dict[str, tuple[int, Any]]] = {}
    for row in rows:
        by_kind.setdefault(row["kind"], {})[row["key"]] = (row["version"], row["body"])
    bodies = {(kind, key): one for kind, keys in by_kind.items() for key, one in keys.items()}
    flows = {
        k: workflows.get((k, v)) or compile_workflow(body, v) for k, (v, body) in by_kind.get("workflow", {}).items()
    }
    calendars = {
        k: known.get((k, v)) or Calendar.compile(body, v) for k, (v, body) in by_kind.get("calendar", {}).items()
    }
    departments = by_kind["departments"]["city"][1]
    departments = {**departments, "departments": overlay.applied(departments["departments"])}
    matters = {m["code"]: m for m in by_kind["matters"]["city"][1]["matters"]}
    same = before is not None and all(before.bodies.get(k, (0,))[0] == bodies[k][0] for k in ROUTED)
    same = same and before is not None and before.overlay.changes == overlay.changes
    router = (
        before.router
        if before is not None and same
        else make_router(by_kind["routing"]["city"][1], matters, departments, OpenCC("t2s").convert, overlay.successors)
    )
    listed = {d["code"]: d for d in departments["departments"]}
    return Catalog(
        stamp=stamp,
        policies=Policies(flows, calendars),
        router=router,
        departments=listed,
        matters=matters,
        district_units=departments["district_units"],
        bodies=bodies,
        department_codes=frozenset(listed),
        active_codes=frozenset(code for code, unit in listed.items() if unit["active"]),
        matter_codes=frozenset(matters),
        overlay=overlay,
        desk=parse_desk(by_kind["desk"]["city"][1]) if "desk" in by_kind else Desk(),
        docket=parse_docket(by_kind["docket"]["city"][1]) if "docket" in by_kind else None,
    )
