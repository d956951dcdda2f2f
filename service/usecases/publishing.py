"""Files of the workflows folder become published versions; a file that did not change publishes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from time import process_time
from typing import Any

from service.core.catalogue import with_rulings
from service.core.checking import Fault, check
from service.core.definitions import compile_workflow
from service.core.errors import DefinitionError
from service.core.model import SYSTEM
from service.core.sources import Source, laid_over
from service.core.tightening import loosened
from service.core.yaml_files import line_in, read_text
from service.db import definitions as stored
from service.db import units
from service.usecases.calendars import publish_version
from service.usecases.folders import Checked, Folder, check_covered, no_department
from service.usecases.house import House

FILES = "system"
"""The author of what the folder publishes when the service starts."""


def check_plain(house: House, given: str | Mapping[str, Any]) -> Checked:
    """Prove one workflow that is published nowhere yet: the text of a file, or its data.

    `extends` names a published workflow. Raises DefinitionError (with the line, where a text was given) where it cannot
    be read; what the proof finds is in the answer's errors.
    """
    value, place = read_text(given, "workflow.yaml") if isinstance(given, str) else (given, (0, {}))
    if not isinstance(value, Mapping):
        raise DefinitionError("a workflow file is a mapping with a `key`", (), "workflow.yaml", line_in(place, ()))
    start, parent = process_time(), value.get("extends")

    def at(error: DefinitionError) -> DefinitionError:
        return DefinitionError(
            error.detail,
            error.path,
            "workflow.yaml",
            line_in(place, error.path) if isinstance(given, str) else 0,
            error.steps,
        )

    try:
        plain = laid_over(value, house.rules.newest_bodies)
        flow = compile_workflow(plain)
    except DefinitionError as error:
        raise at(error) from None
    base = house.rules.newest.get(parent) if parent is not None else None
    proof = check(flow)
    faults = [*proof.faults, *(loosened(base, flow) if base is not None else ())]
    if flow.calendar not in house.rules.newest_calendars:
        faults.append(Fault(("calendar",), f"没有日历 {flow.calendar}", f"there is no calendar {flow.calendar!r}",
                            ", ".join(sorted(house.rules.newest_calendars))))  # fmt: skip
    faults += [no_department(code) for code in sorted(flow.departments - house.rules.department_codes)]
    source = Source(flow.key, base.key if base is not None else None, bool(plain.get("abstract")), (), plain, flow)
    return Checked(source, proof, tuple(at(f.error()) for f in faults), process_time() - start)


async def publish_folder(house: House, folder: Folder, by: str, reason: str) -> list[str]:
    """Publish what changed in the folder since `by` published it, in one transaction; gives `kind key version` of each,
    and what was left out of it.

    A file that did not change publishes nothing, whatever somebody else published or retired since: a restart takes
    nothing back. A file that vanished retires nothing: that is an act of its own, which says who and why.
    """
    published = []
    known = {unit["code"] for unit in folder.departments["departments"]}
    matters = {matter["code"] for matter in folder.matters["matters"]}
    async with house.db.transaction(SYSTEM) as tx:
        succeeded = [change["code"] for change in await units.changes(tx) if change["successor"] is not None]
        entries: list[tuple[str, str, Mapping[str, Any]]]
        entries = [("calendar", k, v) for k, v in folder.calendars.items()]
        entries += [("workflow", k, v) for k, v in folder.workflows.items()]
        entries += [("routing", "city", folder.routing), ("matters", "city", folder.matters)]
        entries += [("scorecard", k, v) for k, v in folder.scorecards.items()]
        entries += [("desk", "city", folder.desk)] if folder.desk else []
        entries += [("departments", "city", folder.departments), ("docket", "city", folder.docket)]
        for kind, key, given in entries:
            body, left_out = given, list[str]()
            if kind == "routing":  # of it others publish rulings only, and those are kept
                before = await stored.newest_body(tx, kind, key)
                body, left_out = with_rulings(given, before, known | set(succeeded), matters)
            if kind != "routing" and await stored.latest_by(tx, kind, key, by, body):
                continue
            version = (
                await publish_version(tx, body, by, reason)
                if kind == "calendar"
                else await stored.publish(tx, kind, key, body, by, reason)
            )
            if version is not None:
                published.append(f"{kind} {key} {version}")
                published += [f"  without {rule}: it names a unit or matter that is no more" for rule in left_out]
        if published:
            # compiled here and not kept by the house: none of it is published until this transaction is
            rows = [row for row in await stored.newest(tx) if row["kind"] == "workflow"]
            check_covered({row["key"]: compile_workflow(row["body"], row["version"]) for row in rows})
        await stored.store_departments(tx, [{"district": None, **d} for d in folder.departments["departments"]])
    await house.refresh()
    return published
