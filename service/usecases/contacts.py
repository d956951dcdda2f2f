"""无事不扰: how often an enterprise is contacted in a week, counted for all units together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.core.desk import monday_of
from service.core.errors import Conflict
from service.core.model import Role
from service.db import desk
from service.db.session import Tx
from service.db.tickets import Stored
from service.usecases.house import House


async def count(house: House, tx: Tx, stored: Stored, action: str, form: Mapping[str, Any]) -> dict[str, Any] | None:
    """Count a contact that was just logged (`stored`: the ticket before); what is to be said of it, if it was one too many.

    Raises Conflict where the city refuses what goes beyond the cap. A contact that the ticket is still owed is counted and
    never refused: the cap breaks no promise.
    """
    rules = house.rules.desk.contacts
    if action not in rules.actions or tx.actor.role is not Role.HANDLER:
        return None
    if not form.get("reached", True) and not rules.count_unreached:
        return None
    week = monday_of(tx.now.astimezone(house.zone).date())
    contacts = await desk.count_contact(tx, stored.row["enterprise_id"], week)
    if contacts <= rules.per_week:
        return None
    told = {
        "code": "contact_cap",
        "detail": f"This enterprise was contacted {contacts} times in the week of {week} by all units; the cap is"
        f" {rules.per_week}. / 本周（{week}起）各单位已联系该企业{contacts}次，上限{rules.per_week}次。",
        "contacts": contacts,
        "per_week": rules.per_week,
        "week": week.isoformat(),
    }
    owed = any(c.name == rules.owed and c.open for c in stored.ticket.clocks)
    if rules.over == "refuse" and not owed:
        raise Conflict(str(told.pop("detail")), **told)
    return told


async def of_week(house: House, tx: Tx, enterprise_id: str) -> dict[str, Any]:
    """How often the enterprise was contacted this week, and how often it may be."""
    week = monday_of(tx.now.astimezone(house.zone).date())
    used = await desk.contacts(tx, enterprise_id, week)
    return {"week": week.isoformat(), "contacts": used, "per_week": house.rules.desk.contacts.per_week}
