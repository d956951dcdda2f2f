"""What somebody wants to see of the queue: the filters of `GET /v1/queue`, of its counts, and of saved views."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Filter:
    """Every field narrows; None does not. `assignee`: a subject, or `me`. `card`: tickets that carry one of this colour."""

    department: str | None = None
    phase: str | None = None
    assignee: str | None = None
    due_before: datetime | None = None
    q: str | None = None
    matter: str | None = None
    urgency: str | None = None
    domain: str | None = None
    card: str | None = None

    def over(self, base: Filter) -> Filter:
        """These filters, and those of a saved view where this one says nothing."""
        said = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return replace(base, **said)

    def as_dict(self) -> dict[str, Any]:
        """What is said, JSON-able."""
        told = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return {k: v.isoformat() if isinstance(v, datetime) else str(v) for k, v in told.items()}
