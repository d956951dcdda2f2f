"""Workflow and calendar files: read, laid over what they extend, and compiled; each error with its file and line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.core.calendar import Calendar, CalendarError
from service.core.calendar_data import overlay
from service.core.definitions import Workflow, compile_workflow
from service.core.errors import DefinitionError
from service.core.yaml_files import depth_of, line_of, read_mapping, read_yaml

_STEP = re.compile(r"\[([0-9]+)\]|([^.\[\]]+)")
"""One step of a path as calendars name it: `week.mon[0]`."""


@dataclass(frozen=True, slots=True)
class Source:
    """A workflow as its file gives it. `files`: its own, then those that it extends, nearest first."""

    key: str
    parent: str | None
    abstract: bool
    files: tuple[Path, ...]
    plain: Mapping[str, Any]
    flow: Workflow

    def error(self, error: DefinitionError, own: bool = False) -> DefinitionError:
        """The error with the file and line that say most of its path; `own`: of the file itself in any case."""
        return _placed(error, self.files[:1] if own else self.files)


def _deepest(files: tuple[Path, ...], path: tuple[str | int, ...]) -> Path:
    return max(files, key=lambda f: depth_of(f, path))  # of equals the nearest


def _placed(error: DefinitionError, files: tuple[Path, ...]) -> DefinitionError:
    file = _deepest(files, error.path)
    return DefinitionError(error.detail, error.path, file.name, line_of(file, error.path), error.steps)


def _made_here(error: DefinitionError, files: tuple[Path, ...]) -> DefinitionError:
    """A fault that the first of `files` makes of what the others say, which hold without it."""
    own, met = files[0], _deepest(files, error.path)
    where = "" if met == own else f" (with what {met.name}:{line_of(met, error.path)} says)"
    said = error.path
    if not depth_of(own, said):
        # what it takes away or renames is named by the fault, whose path it does not have
        said = next((p for p in _places(read_yaml(own)) if f"{p[-1]!r}" in error.detail), said)
    return DefinitionError(f"{error.detail}{where}", error.path, own.name, line_of(own, said), error.steps)


def _places(plain: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of a mapping and of the mappings in it, with those that lead there."""
    for key, value in plain.items() if isinstance(plain, dict) else ():
        yield (*path, key)
        yield from _places(value, (*path, key))


Keyed = dict[str, tuple[Path, dict[str, Any]]]
"""Files with their plain data, by the key that each says it has."""


def _keyed(paths: list[Path], what: str) -> Keyed:
    files: Keyed = {}
    for path in paths:
        data = read_mapping(path)
        key = data.get("key")
        if not isinstance(key, str):
            told = f"a {what} file has a `key` that is a text; got {key!r}"
            raise DefinitionError(told, ("key",), path.name, line_of(path, ["key"]))
        if key in files:
            raise DefinitionError(f"the key {key!r} is used twice", ("key",), path.name, line_of(path, ["key"]))
        files[key] = (path, data)
    return files


def _workflow_files(folder: Path) -> list[Path]:
    return [path for part in ("city", "departments") for path in sorted((folder / part).glob("*.yaml"))]


def _calendar_files(folder: Path) -> list[Path]:
    return sorted((folder / "calendars").glob("*.yaml"))


# --- workflows -------------------------------------------------------------------------------------------------


def read_workflows(folder: Path) -> dict[str, Source]:
    """All workflow files under `folder`/city and `folder`/departments, with `extends` resolved, by key."""
    files = _keyed(_workflow_files(folder), "workflow")
    calendars = _keyed(_calendar_files(folder), "calendar")
    resolved = {key: _resolve(key, files, ()) for key in files}
    chains = {key: tuple(files[k][0] for k in _lineage(key, files)) for key in files}
    merged = {}
    for key in sorted(files, key=lambda k: len(chains[k])):  # what others extend first: its faults are its own
        plain = resolved[key]
        try:
            flow = compile_workflow(plain)
            if flow.calendar not in calendars:
                told = f"there is no calendar {flow.calendar!r}; there are: {', '.join(sorted(calendars))}"
                raise DefinitionError(told, ("calendar",))
        except DefinitionError as error:
            raise _made_here(error, chains[key]) from None
        parent = files[key][1].get("extends")
        merged[key] = Source(key, parent, bool(plain.get("abstract")), chains[key], plain, flow)
    return {key: merged[key] for key in files}


def _lineage(key: str, files: Keyed) -> list[str]:
    """The workflow and those that it extends, nearest first; `extends` goes round in no circle."""
    parent = files[key][1].get("extends")
    return [key] if parent is None else [key, *_lineage(parent, files)]


def read_draft(path: Path, folder: Path) -> dict[str, Any]:
    """One workflow file as whole plain data, with what it extends among the files of `folder` merged in."""
    draft = _keyed([path], "workflow")
    [key] = draft
    files: Keyed = {}
    for other in _workflow_files(folder):
        # a file of the folder that cannot be read is no fault of the draft, unless the draft extends it
        with suppress(DefinitionError):
            files |= _keyed([other], "workflow")
    files |= draft
    plain = _resolve(key, files, ())
    try:
        compile_workflow(plain)
    except DefinitionError as error:
        raise _placed(error, tuple(files[k][0] for k in _lineage(key, files))) from None
    return plain


def laid_over(value: Mapping[str, Any], published: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Plain data over the published workflow that it `extends`, or itself. Raises DefinitionError if there is none."""
    parent = value.get("extends")
    if parent is None:
        return {k: v for k, v in value.items() if k != "extends"}
    base = published.get(parent) if isinstance(parent, str) else None
    if base is None:
        told = f"there is no published workflow {parent!r}; there are: {', '.join(sorted(published))}"
        raise DefinitionError(told, ("extends",))
    return extended(base, value)


def extended(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """An overlay laid over the plain data that it extends."""
    return _merge(
        {k: v for k, v in base.items() if k not in {"abstract", "extends"}},
        {k: v for k, v in over.items() if k != "extends"},
    )


def _resolve(key: str, files: Keyed, seen: tuple[str, ...]) -> dict[str, Any]:
    path, data = files[key]
    parent = data.get("extends")
    if parent is None:
        return dict(data)
    wrong = (
        "`extends` goes round in a circle" if parent in seen or parent == key
        else f"there is no workflow {parent!r}" if not isinstance(parent, str) or parent not in files
        else None
    )  # fmt: skip
    if wrong is not None:
        raise DefinitionError(wrong, ("extends",), path.name, line_of(path, ["extends"]))
    return extended(_resolve(parent, files, (*seen, key)), data)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merge key by key; a null removes the key; anything else replaces."""
    out = dict(base)
    for key, value in over.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = _merge(out[key], value)
        else:
            out[key] = value
    return out


# --- calendars -------------------------------------------------------------------------------------------------


def read_calendars(folder: Path) -> dict[str, dict[str, Any]]:
    """All calendars under `folder`/calendars: `holidays` files merged in as `years`, overlays laid over their base."""
    given = _keyed(_calendar_files(folder), "calendar")
    files = {key: (path, *_with_years(path, data, (path.parent,))) for key, (path, data) in given.items()}
    out = {}
    for key, (path, holidays, data) in files.items():
        base = data.get("extends")
        under = files.get(base) if isinstance(base, str) else None
        try:
            body = overlay(under[2] if under else None, data) if base else data
            Calendar.compile(body)
        except CalendarError as error:
            raise _of_calendar(error, [path, *holidays, *((under[0], *under[1]) if under else ())]) from None
        out[key] = body
    return out


def read_draft_calendar(path: Path, folder: Path) -> dict[str, Any]:
    """One calendar file as plain data; its `holidays` are looked for beside it, then among those of `folder`."""
    holidays, data = _with_years(path, read_mapping(path), (path.parent, folder / "calendars"))
    try:
        if data.get("extends") is None:  # what it extends is not a file's but what is published
            Calendar.compile(data)
    except CalendarError as error:
        raise _of_calendar(error, [path, *holidays]) from None
    return data


def _with_years(path: Path, data: dict[str, Any], folders: tuple[Path, ...]) -> tuple[list[Path], dict[str, Any]]:
    """A calendar with the years of its `holidays` file, which is looked for in each of `folders`; and that file."""
    name = data.get("holidays")
    plain = {k: v for k, v in data.items() if k != "holidays"}
    if name is None:
        return [], plain
    at = line_of(path, ["holidays"])
    if "years" in plain:
        raise DefinitionError(
            "`years` stand in the file of `holidays`: leave one of them out", ("years",), path.name, at
        )
    try:
        file = next((f for folder in folders if (f := folder / str(name)).is_file()), None)
    except OSError:  # a name longer than any
        file = None
    if file is None:
        raise DefinitionError(f"there is no file {str(name)[:200]}", ("holidays",), path.name, at)
    years = read_mapping(file)
    if set(years) != {"years"} or not isinstance(years["years"], dict):
        wrong = next((key for key in years if key != "years"), "years")
        told = f"expected `years`, a mapping of years, and no other key; got {', '.join(years) or 'nothing'}"
        raise DefinitionError(told, (wrong,), file.name, line_of(file, [wrong]))
    return [file], {**plain, **years}


def _of_calendar(error: CalendarError, files: list[Path]) -> DefinitionError:
    """A calendar's error with its place: it begins with the path, in the calendar or in the years of its holidays."""
    where, _, expected = str(error).partition(": ")
    keys = tuple(int(n) if n else key for n, key in _STEP.findall(where))
    keys = keys[1:] if keys[:1] == ("calendar",) else keys
    return _placed(DefinitionError(expected, keys), tuple(files))
