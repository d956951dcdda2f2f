"""Which workflow and which calendar a ticket lives by: the newest published ones, and why one of them fits.

A ticket keeps the version it was accepted under (P7). It changes to another policy only by a recorded act: its urgency,
domain or lead changed so that another workflow fits, or somebody re-binds it to the newest version (time rule T8).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import product
from typing import Any

from service.core.calendar import Calendar
from service.core.catalogue import DOMAINS, URGENCIES
from service.core.definitions import Workflow
from service.core.errors import NotFound


@dataclass(frozen=True, slots=True)
class Choice:
    """The workflow that fits, the rule that says so, and the workflows that were tried before it and why not they."""

    flow: Workflow
    rule: str
    tried: tuple[Mapping[str, Any], ...]

    def told(self) -> dict[str, Any]:
        """For the ticket's facts: JSON-able."""
        return {
            "workflow": {"key": self.flow.key, "version": self.flow.version},
            "rule": self.rule,
            "tried": [dict(t) for t in self.tried],
        }


@dataclass(frozen=True, slots=True)
class Policies:
    """The newest published workflows and calendars, by key."""

    flows: Mapping[str, Workflow]
    calendars: Mapping[str, Calendar]

    def choose(self, domain: str, urgency: str, lead: str | None) -> Choice:
        """By urgency first, then the lead's own overlay, then the domain's. Raises NotFound when none fits."""
        tried: list[Mapping[str, Any]] = []
        for rule, flow, fits in self._candidates(domain, urgency, lead):
            if fits:
                return Choice(flow, rule, tuple(tried))
            tried.append({"workflow": flow.key, "rule": rule, "matched": False})
        raise NotFound(f"No published workflow takes the domain {domain!r}.")

    def _candidates(self, domain: str, urgency: str, lead: str | None) -> Iterator[tuple[str, Workflow, bool]]:
        for flow in self.flows.values():
            if flow.urgency:
                yield f"urgency: {', '.join(sorted(flow.urgency))}", flow, urgency in flow.urgency
        for flow in self.flows.values():
            if flow.departments:
                fits = lead in flow.departments and (not flow.domains or domain in flow.domains)
                yield f"departments: {', '.join(sorted(flow.departments))}", flow, fits
        for flow in self.flows.values():
            if flow.domains and not flow.departments:
                yield f"domains: {', '.join(sorted(flow.domains))}", flow, domain in flow.domains

    def uncovered(self, others: Policies) -> list[str]:
        """What new tickets of these policies would have no workflow by the `others`: domains, some with an urgency."""
        leads: set[str | None] = {None}.union(*(flow.departments for flow in self.flows.values()))
        missing = {
            domain if urgency == "normal" else f"{domain} ({urgency})"
            for domain, urgency, lead in product(DOMAINS, URGENCIES, leads)
            if self._takes(domain, urgency, lead) and not others._takes(domain, urgency, lead)
        }
        return sorted(missing)

    def gaps(self) -> list[str]:
        """Domains, some with an urgency, of which a ticket would have no workflow."""
        pairs = product(DOMAINS, URGENCIES)
        missing = [(domain, urgency) for domain, urgency in pairs if not self._takes(domain, urgency, None)]
        return [domain if urgency == "normal" else f"{domain} ({urgency})" for domain, urgency in missing]

    def _takes(self, domain: str, urgency: str, lead: str | None) -> bool:
        return any(fits for _, _, fits in self._candidates(domain, urgency, lead))

    def calendar_for(self, flow: Workflow, district: str | None) -> Calendar:
        """The workflow's calendar, or the one of the ticket's district that extends it."""
        for calendar in self.calendars.values():
            if calendar.extends == flow.calendar and district in calendar.districts:
                return calendar
        return self.calendars[flow.calendar]

    def missing_years(self, today: date) -> dict[str, int]:
        """Calendar -> the year whose notice is missing: next year's from 1 December on, this year's at any time.

        The State Council publishes a year in November of the one before; from December on its absence is an alarm,
        because due times already reach into it.
        """
        wanted = today.year + 1 if today.month == 12 else today.year
        missing = {}
        for calendar in self.calendars.values():
            known = calendar.horizon.year if calendar.horizon else today.year - 1
            if known < wanted:
                missing[calendar.key] = known + 1
        return missing
