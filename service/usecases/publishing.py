"""Files of the workflows folder become published versions; a file that did not change publishes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.core import definitions
from service.core.errors import DefinitionError
from service.core.model import SYSTEM
from service.core.routing import NO_UNIT, Matter, check_codes, check_matters, parse_routing, with_rulings
from service.core.yaml_files import line_of, read_yaml
from service.db import definitions as stored
from service.usecases.calendars import publish_version
from service.usecases.house import House

WEIGHTS = "routing_weights.yaml"
"""Word weights learned from labelled texts: a part of the routing catalogue, published with it."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Everything a workflows folder holds, read, checked and merged."""

    workflows: Mapping[str, Mapping[str, Any]]
    calendars: Mapping[str, Mapping[str, Any]]
    routing: Mapping[str, Any]
    matters: Mapping[str, Any]
    departments: Mapping[str, Any]


def read_folder(folder: Path) -> Folder:
    """Read and check a workflows folder; raises DefinitionError with file, line and path."""
    if not folder.is_dir():
        raise DefinitionError(f"there is no folder {folder}; set JIEBAN_WORKFLOWS_DIR", (), str(folder))
    departments = read_yaml(folder / "departments.yaml")
    matters = read_yaml(folder / "matters.yaml")
    routing = read_yaml(folder / "routing.yaml")
    if (folder / WEIGHTS).is_file():
        routing = {**routing, "learned": read_yaml(folder / WEIGHTS)}
    codes = [d["code"] for d in departments["departments"]]
    _unique(codes, "departments.yaml", "department")
    known = [m["code"] for m in matters["matters"]]
    _unique(known, "matters.yaml", "matter")
    for n, matter in enumerate(matters["matters"]):
        if matter["lead"] not in {*NO_UNIT, *codes}:
            raise _at(folder / "matters.yaml", f"there is no department {matter['lead']!r}", ("matters", n, "lead"))
        if matter.get("parent") not in {None, *known}:
            raise _at(folder / "matters.yaml", f"there is no matter {matter['parent']!r}", ("matters", n, "parent"))
    try:
        check_matters({m["code"]: Matter(m["code"], m.get("parent"), m["lead"]) for m in matters["matters"]})
    except DefinitionError as error:
        raise _at(folder / "matters.yaml", error.detail, ("matters", known.index(str(error.path[0])))) from None
    for n, unit in enumerate(departments["departments"]):
        if unit.get("complaints_to") not in {None, *codes} or unit.get("complaints_to") == unit["code"]:
            path = ("departments", n, "complaints_to")
            raise _at(folder / "departments.yaml", f"no other department {unit['complaints_to']!r} is listed", path)
    try:
        check_codes(parse_routing(routing), codes, known)
    except DefinitionError as error:
        if error.path[:1] == ("learned",):
            raise _at(folder / WEIGHTS, error.detail, error.path[1:]) from None
        raise _at(folder / "routing.yaml", error.detail, error.path) from None
    calendars = definitions.read_calendars(folder)
    workflows = definitions.read_workflows(folder)
    for key, plain in workflows.items():
        if plain["calendar"] not in calendars:
            raise DefinitionError(f"there is no calendar {plain['calendar']!r}", (key, "calendar"))
    departments["district_units"] = {str(k): v for k, v in departments["district_units"].items()}
    return Folder(workflows, calendars, routing, matters, departments)


async def publish_folder(house: House, folder: Folder, by: str, reason: str) -> list[str]:
    """Publish what changed, in one transaction; gives `kind key version` of each new version."""
    published = []
    async with house.db.transaction(SYSTEM) as tx:
        entries: list[tuple[str, str, Mapping[str, Any]]]
        entries = [("calendar", k, v) for k, v in folder.calendars.items()]
        entries += [("workflow", k, v) for k, v in folder.workflows.items()]
        entries += [("routing", "city", folder.routing), ("matters", "city", folder.matters)]
        entries += [("departments", "city", folder.departments)]
        for kind, key, given in entries:
            body = with_rulings(given, await stored.newest_body(tx, kind, key)) if kind == "routing" else given
            version = (
                await publish_version(tx, body, by, reason)
                if kind == "calendar"
                else await stored.publish(tx, kind, key, body, by, reason)
            )
            if version is not None:
                published.append(f"{kind} {key} {version}")
        rows = [{"district": None, **d} for d in folder.departments["departments"]]
        await stored.store_departments(tx, rows)
    await house.refresh()
    return published


def _unique(codes: list[str], file: str, what: str) -> None:
    seen: set[str] = set()
    for code in codes:
        if code in seen:
            raise DefinitionError(f"the {what} {code!r} stands twice", (), file)
        seen.add(code)


def _at(path: Path, detail: str, keys: tuple[str | int, ...]) -> DefinitionError:
    return DefinitionError(detail, keys, path.name, line_of(path, keys))
