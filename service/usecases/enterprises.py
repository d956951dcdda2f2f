"""Which firm is meant: the register knows it by its credit code, or by a name it has or had; what is new is learned.

code known, another name      the firm was renamed: the old name goes into its history
code new, name known          a firm that had no code yet (a project company, before it was registered) has one now
no code, one firm of the name that firm, with a warning if it is known by its code
else                          a firm not heard of before
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stdnum.cn import uscc
from stdnum.exceptions import ValidationError

from service.core.access import require
from service.core.errors import NotFound
from service.core.model import Actor, Role
from service.db import enterprises
from service.db.session import Tx
from service.usecases import views
from service.usecases.house import House

Warnings = list[dict[str, str]]
KNOWS_CONFIDENTIAL = frozenset({Role.HOTLINE, Role.DISPATCHER})
RECENT = 50


def warning(code: str, pointer: str, detail: str) -> dict[str, str]:
    return {"code": code, "pointer": pointer, "detail": detail}


def fold(name: str) -> str:
    """A name as it is compared: one form of each character, small letters, no spaces."""
    return "".join(unicodedata.normalize("NFKC", name).lower().split())


def credit_code(given: str | None, warnings: Warnings, pointer: str = "/enterprise/uscc") -> str | None:
    """The unified social credit code (GB 32100-2015), folded; a failing check is a warning, never a refusal."""
    if not given:
        return None
    code = "".join(unicodedata.normalize("NFKC", given).split()).upper()
    try:
        return str(uscc.validate(code))
    except ValidationError:
        warnings.append(warning("invalid_uscc", pointer, "fails the check of GB 32100-2015; kept as given"))
        return None


@dataclass(frozen=True, slots=True)
class Keys:
    """By what a firm is looked up: `match` its code or else its name, `name`, and the name it says it had."""

    match: str
    name: str
    former: str | None
    code: str | None

    @classmethod
    def of(cls, given: Mapping[str, Any], warnings: Warnings, pointer: str = "/enterprise") -> Keys:
        code, name = credit_code(given.get("uscc"), warnings, f"{pointer}/uscc"), fold(given["name"])
        former = fold(given["formerly"]) if given.get("formerly") else None
        return cls(f"uscc:{code}" if code else f"name:{name}", name, former, code)


async def settle(
    tx: Tx, keys: Keys, found: Mapping[str, Any], given: Mapping[str, Any], warnings: Warnings
) -> str | None:
    """The id of the firm that is meant, brought up to date; None: it was not heard of before.

    `found`: what the register says of the keys (`enterprises.find`).
    """
    named: Sequence[str] = found["by_name"] or ()
    former: Sequence[str] = found["by_former"] or ()
    known = found["id"]
    if known is None and len(named) == 1:
        known = await _same_by_name(tx, keys, named[0], warnings)
    if known is None and len(former) == 1:
        known = await _same_by_name(tx, keys, former[0], [])
    if known is None:
        return None
    row = found if known == found["id"] else await enterprises.get(tx, known)
    if row["name_key"] != keys.name and (keys.code or keys.former):
        await enterprises.rename(tx, known, given["name"], keys.name)
        warnings.append(warning("enterprise_renamed", "/enterprise/name", "known by another name before"))
    return str(known)


async def _same_by_name(tx: Tx, keys: Keys, enterprise_id: str, warnings: Warnings) -> str | None:
    """The firm of this name, unless both have codes that differ."""
    row = await enterprises.get(tx, enterprise_id)
    if row is None:
        return None
    if keys.code is None:
        if row["uscc"]:
            text = "no valid credit code; taken as the registered firm of this name"
            warnings.append(warning("matched_by_name", "/enterprise/name", text))
        return str(row["id"])
    if row["uscc"]:
        return None
    await enterprises.adopt(tx, row["id"], keys.match, keys.code)
    return str(row["id"])


def row_of(house: House, keys: Keys, given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The row of a firm not heard of before."""
    return {
        "id": house.new_id(),
        "match_key": keys.match,
        "name": given["name"],
        "name_key": keys.name,
        "kind": given.get("kind"),
        "parent_id": None,
        "uscc": keys.code,
        "district": given.get("district"),
        "industry": given.get("industry"),
        "tier": given.get("tier"),
        "created_at": now,
    }


async def known_or_new(house: House, tx: Tx, given: Mapping[str, Any], warnings: Warnings, pointer: str) -> str:
    """The id of a firm that is spoken of beside the one that asks; entered into the register if it is new."""
    keys = Keys.of(given, warnings, pointer)
    found = await enterprises.find(tx, keys.match, keys.name, keys.former)
    known = await settle(tx, keys, found, given, [])
    if known is not None:
        return known
    row = row_of(house, keys, given, tx.now)
    await enterprises.add(tx, row)
    return str(row["id"])


async def belongs_to(house: House, tx: Tx, enterprise_id: str, given: Mapping[str, Any], warnings: Warnings) -> None:
    """What was said of the firm's kind and parent. Asked for only where something was said."""
    parent = given.get("parent")
    parent_id = await known_or_new(house, tx, parent, warnings, "/enterprise/parent") if parent else None
    await enterprises.place(tx, enterprise_id, given.get("kind"), parent_id)


# --- looking -----------------------------------------------------------------------------------------------------------


async def listed(
    house: House, actor: Actor, name: str | None, code: str | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """Firms by a part of any name they have or had, or by credit code."""
    require(actor, "enterprises:read")
    key = fold(name).replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") if name else None
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await enterprises.listed(tx, key, code, after, actor.role in KNOWS_CONFIDENTIAL, limit + 1)
    items = [dict(row) for row in rows[:limit]]
    return items, rows[limit - 1]["id"] if len(rows) > limit else None


async def get(house: House, actor: Actor, enterprise_id: str) -> dict[str, Any]:
    """One firm: its names over time, whom it belongs to, what it asked. Raises NotFound."""
    require(actor, "enterprises:read")
    knows = actor.role in KNOWS_CONFIDENTIAL
    async with house.db.transaction(actor, readonly=True) as tx:
        row = await enterprises.get(tx, enterprise_id)
        if row is None:
            raise NotFound("There is no such enterprise.")
        asked = await enterprises.tickets_of(tx, enterprise_id, knows, RECENT)
        names = await enterprises.names_of(tx, enterprise_id)
        relatives = await enterprises.relatives(tx, enterprise_id)
        only_confidential = not knows and not asked and await enterprises.tickets_of(tx, enterprise_id, True, 1)
    if only_confidential:
        raise NotFound("There is no such enterprise.")
    shown = {k: row[k] for k in ("id", "name", "uscc", "kind", "district", "industry", "tier", "created_at")}
    current = {"name": row["name"], "since": names[-1]["until"] if names else row["created_at"], "until": None}
    told: dict[str, Any] = views.localised(
        {
            **shown,
            "names": [*map(dict, names), current],
            "parent": next((_relative(r) for r in relatives if r["is"] == "parent"), None),
            "branches": [_relative(r) for r in relatives if r["is"] == "child"],
            "tickets": [dict(t) for t in asked],
        },
        house.zone,
    )
    return told


def _relative(row: Any) -> dict[str, Any]:
    return {"id": row["id"], "name": row["name"], "kind": row["kind"]}
