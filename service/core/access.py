"""Who may do what, and whose data an actor sees. PostgreSQL enforces the same scope again (row-level security)."""

from __future__ import annotations

from service.core.errors import Forbidden
from service.core.model import Actor, Role

CITY_WIDE = frozenset(
    {Role.HOTLINE, Role.DISPATCHER, Role.SUPERVISOR, Role.REVIEWER, Role.AUDITOR, Role.ADMIN, Role.SYSTEM}
)
"""Roles that see every ticket. A handler sees the tickets of his or her departments only."""

OPERATIONS: dict[str, frozenset[Role]] = {
    "tickets:write": frozenset({Role.HOTLINE}),
    "tickets:read": frozenset(Role) - {Role.SYSTEM, Role.ADMIN},
    "tickets:act": frozenset({Role.HOTLINE, Role.HANDLER, Role.DISPATCHER, Role.SUPERVISOR, Role.REVIEWER}),
    "events:read": frozenset(Role) - {Role.SYSTEM, Role.ADMIN},
    "webhooks:write": frozenset({Role.HOTLINE, Role.ADMIN}),
    "reconciliation:read": frozenset({Role.HOTLINE, Role.DISPATCHER, Role.SUPERVISOR, Role.AUDITOR}),
    "tickets:reveal": frozenset({Role.HOTLINE, Role.DISPATCHER, Role.SUPERVISOR, Role.REVIEWER, Role.AUDITOR}),
    "recusals:read": frozenset({Role.DISPATCHER, Role.SUPERVISOR, Role.AUDITOR}),
    "enterprises:read": frozenset({Role.HOTLINE, Role.DISPATCHER, Role.SUPERVISOR, Role.REVIEWER, Role.AUDITOR}),
    "quarantine:read": frozenset({Role.DISPATCHER, Role.SUPERVISOR, Role.AUDITOR}),
    "quarantine:fix": frozenset({Role.DISPATCHER, Role.SUPERVISOR}),
    "incidents:read": frozenset({Role.DISPATCHER, Role.SUPERVISOR, Role.REVIEWER, Role.AUDITOR}),
    "units:read": frozenset(Role) - {Role.SYSTEM},
    "units:change": frozenset({Role.SUPERVISOR, Role.ADMIN}),
    "rosters:write": frozenset({Role.DISPATCHER, Role.SUPERVISOR, Role.ADMIN}),
    "users:leave": frozenset({Role.DISPATCHER, Role.SUPERVISOR, Role.ADMIN}),
    "contact:reveal": frozenset({Role.HOTLINE, Role.HANDLER, Role.DISPATCHER}),
    "approvals:read": frozenset({Role.HANDLER, Role.DISPATCHER, Role.SUPERVISOR, Role.AUDITOR}),
    "approvals:decide": frozenset({Role.HANDLER, Role.DISPATCHER, Role.SUPERVISOR}),
    "reviews:read": frozenset({Role.HANDLER, Role.DISPATCHER, Role.SUPERVISOR, Role.REVIEWER, Role.AUDITOR}),
    "reviews:act": frozenset({Role.HANDLER, Role.DISPATCHER, Role.REVIEWER, Role.SUPERVISOR}),
    "minutes:write": frozenset({Role.REVIEWER, Role.SUPERVISOR}),
    "precedents:propose": frozenset({Role.REVIEWER, Role.SUPERVISOR, Role.DISPATCHER, Role.ADMIN}),
    "precedents:decide": frozenset({Role.SUPERVISOR, Role.ADMIN}),
    "meetings:write": frozenset({Role.REVIEWER}),
    "studies:read": frozenset({Role.DISPATCHER, Role.SUPERVISOR, Role.REVIEWER, Role.AUDITOR}),
    "studies:write": frozenset({Role.REVIEWER}),
    "reports:read": frozenset({Role.SUPERVISOR, Role.DISPATCHER, Role.REVIEWER, Role.AUDITOR, Role.HANDLER}),
    "supervision:read": frozenset(
        {Role.SUPERVISOR, Role.DISPATCHER, Role.REVIEWER, Role.AUDITOR, Role.HANDLER, Role.HOTLINE}
    ),
    "supervision:act": frozenset({Role.SUPERVISOR}),
    "supervision:answer": frozenset({Role.HANDLER}),
    "exemptions:ask": frozenset({Role.HANDLER, Role.DISPATCHER, Role.SUPERVISOR, Role.REVIEWER}),
    "exemptions:decide": frozenset({Role.SUPERVISOR}),
    "ratings:appeal": frozenset({Role.HANDLER, Role.DISPATCHER, Role.SUPERVISOR}),
    "callbacks:read": frozenset({Role.HOTLINE, Role.DISPATCHER, Role.SUPERVISOR, Role.AUDITOR}),
    "callbacks:act": frozenset({Role.HOTLINE, Role.DISPATCHER}),
    "delegations:read": frozenset({Role.HANDLER, Role.DISPATCHER, Role.SUPERVISOR, Role.AUDITOR, Role.ADMIN}),
    "delegations:act": frozenset({Role.HANDLER, Role.DISPATCHER, Role.SUPERVISOR, Role.ADMIN}),
    "attachments:write": frozenset({Role.HOTLINE, Role.HANDLER, Role.DISPATCHER, Role.SUPERVISOR, Role.REVIEWER}),
    "progress:link": frozenset({Role.HOTLINE, Role.HANDLER, Role.DISPATCHER}),
    "templates:read": frozenset({Role.HOTLINE, Role.HANDLER, Role.DISPATCHER, Role.SUPERVISOR, Role.REVIEWER}),
    "templates:write": frozenset({Role.HANDLER, Role.DISPATCHER}),
    "notices:read": frozenset(Role) - {Role.SYSTEM},
    "timers:read": frozenset({Role.DISPATCHER, Role.SUPERVISOR, Role.AUDITOR, Role.ADMIN}),
    "timers:act": frozenset({Role.DISPATCHER, Role.SUPERVISOR, Role.ADMIN}),
    "timers:release": frozenset({Role.ADMIN}),
    "routing:report": frozenset({Role.SUPERVISOR, Role.DISPATCHER, Role.AUDITOR, Role.ADMIN}),
    "routing:propose": frozenset({Role.SUPERVISOR, Role.DISPATCHER, Role.ADMIN}),
    "definitions:read": frozenset(Role) - {Role.SYSTEM},
    "definitions:check": frozenset({Role.DISPATCHER, Role.SUPERVISOR, Role.ADMIN}),
    "definitions:write": frozenset({Role.ADMIN}),
    "migrations:read": frozenset({Role.DISPATCHER, Role.SUPERVISOR, Role.AUDITOR, Role.ADMIN}),
    "workflows:write": frozenset({Role.SUPERVISOR, Role.ADMIN}),
    "definitions:simulate": frozenset({Role.SUPERVISOR}),
    "sandbox": frozenset(Role) - {Role.SYSTEM},
}
"""Operation -> roles. What exactly an action needs is said by the workflow; this is the outer wall."""


def require(actor: Actor, operation: str) -> None:
    """Raise Forbidden unless the actor's role may do this at all."""
    allowed = OPERATIONS[operation]
    if actor.role not in allowed:
        raise Forbidden(f"This is for: {', '.join(sorted(allowed))}; you are {actor.role}.")


def sees_everything(actor: Actor) -> bool:
    return actor.role in CITY_WIDE


def scope_of(actor: Actor) -> tuple[str, ...] | None:
    """The departments whose tickets the actor sees; None means all."""
    return None if sees_everything(actor) else actor.departments
