"""A workflows folder: read, checked and merged, and each of its workflows proved. No database is needed for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from time import process_time
from typing import Any

from service.core.catalogue import check_catalogue, parse_routing
from service.core.checking import Fault, Proof, check
from service.core.definitions import Workflow, branches_of
from service.core.desk import parse_desk
from service.core.docket import parse_docket
from service.core.errors import DefinitionError
from service.core.exploring import Bones, structure, telling_clocks
from service.core.organisation import parse_departments, parse_matters
from service.core.policies import Policies
from service.core.scoring import parse_scorecard
from service.core.sources import Source, read_calendars, read_workflows
from service.core.tightening import loosened
from service.core.yaml_files import line_of, read_mapping, read_yaml

WEIGHTS = "routing_weights.yaml"
"""Word weights learned from labelled texts: a part of the routing catalogue, published with it."""

VOCABULARY = "vocabulary.yaml"
"""What people call the matters of each unit: a part of the catalogue too."""

SHIPPED = Path(__file__).resolve().parents[2] / "workflows"


@dataclass(frozen=True, slots=True)
class Folder:
    """Everything a workflows folder holds, read, checked and merged."""

    workflows: Mapping[str, Mapping[str, Any]]
    calendars: Mapping[str, Mapping[str, Any]]
    routing: Mapping[str, Any]
    matters: Mapping[str, Any]
    departments: Mapping[str, Any]
    docket: Mapping[str, Any]
    scorecards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    desk: Mapping[str, Any] = field(default_factory=dict)


def read_folder(folder: Path) -> Folder:
    """Read a workflows folder and prove its workflows; raises DefinitionError with file, line and path."""
    read, sources, codes = read_unproved(folder)
    for checked in prove(sources, codes):
        if checked.errors:
            raise checked.errors[0]
    return read


def read_unproved(
    folder: Path, sources: Mapping[str, Source] | None = None
) -> tuple[Folder, Mapping[str, Source], list[str]]:
    """The folder with everything checked but the proof of its workflows; these as read, and the codes of the units.

    `sources`: its workflows, if they have been read already.
    """
    if not folder.is_dir():
        raise DefinitionError(f"there is no folder {folder}; set JIEBAN_WORKFLOWS_DIR", (), str(folder))
    departments, codes = _read_departments(folder)
    matters, known = _read_matters(folder, codes)
    routing = _read_routing(folder, codes, known)
    calendars = read_calendars(folder)
    sources = read_workflows(folder) if sources is None else sources
    docket = _read_docket(folder, sources, calendars)
    workflows = {key: source.plain for key, source in sources.items() if not source.abstract}
    desk = _read_desk(folder / "desk.yaml", known)
    read = Folder(workflows, calendars, routing, matters, departments, docket, _scorecards(folder), desk)
    return read, sources, codes


def check_covered(flows: Mapping[str, Workflow]) -> None:
    """Raise DefinitionError for domains of which a ticket would have no workflow."""
    if gaps := Policies(flows, {}).gaps():
        told = f"no workflow takes these domains, so their requests would be refused: {', '.join(gaps)}"
        raise DefinitionError(f"{told} / 这些诉求类型没有流程", ("domains",), "city/*.yaml", 1)


def _read_departments(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The units as their file says them, and their codes."""
    path = folder / "departments.yaml"
    plain = read_mapping(path)
    with _in(path):
        doc = parse_departments(plain)
    return plain, [unit.code for unit in doc.departments]


def _read_matters(folder: Path, departments: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """The tree of matters as its file says it, and their codes."""
    path = folder / "matters.yaml"
    plain = read_mapping(path)
    with _in(path):
        doc = parse_matters(plain, departments)
    return plain, [matter.code for matter in doc.matters]


def _read_routing(folder: Path, departments: Sequence[str], matters: Sequence[str]) -> dict[str, Any]:
    """The dispatch catalogue, with the parts of it that have files of their own."""
    path = folder / "routing.yaml"
    plain = read_mapping(path)
    parts = {part: folder / name for part, name in (("learned", WEIGHTS), ("vocabulary", VOCABULARY))}
    parts = {part: file for part, file in parts.items() if file.is_file()}
    for part, file in parts.items():
        if part in plain:
            raise _at(path, f"{file.name} says this too: keep one of them", (part,))
        plain[part] = read_mapping(file)
    try:
        check_catalogue(parse_routing(plain), departments, matters)
    except DefinitionError as error:
        part = str(error.path[0]) if error.path else ""
        if part in parts:
            raise _at(parts[part], error.detail, error.path[1:]) from None
        raise _at(path, error.detail, error.path) from None
    return plain


def read_draft_routing(path: Path) -> dict[str, Any]:
    """A draft of the hand-written rules, as plain data."""
    plain = read_mapping(path)
    with _in(path):
        parse_routing(plain)
    return plain


def _scorecards(folder: Path) -> dict[str, Mapping[str, Any]]:
    """The scorecards of `folder`/scorecards by key; a folder without any has none."""
    out: dict[str, Mapping[str, Any]] = {}
    for path in sorted((folder / "scorecards").glob("*.yaml")):
        body = read_yaml(path)
        with _in(path):
            card = parse_scorecard(body)
            if card.key in out:
                raise DefinitionError(f"the key {card.key!r} is used twice", ("key",))
        out[card.key] = body
    return out


def _read_desk(path: Path, matters: Collection[str]) -> Mapping[str, Any]:
    """What the desks are set to; a folder without the file has the defaults."""
    if not path.is_file():
        return {}
    plain: Mapping[str, Any] = read_yaml(path)
    with _in(path):
        for key, template in parse_desk(plain).templates.items():
            if template.matter not in {None, *matters}:
                raise DefinitionError(f"there is no matter {template.matter!r}", ("templates", key, "matter"))
    return plain


def _read_docket(folder: Path, sources: Mapping[str, Source], calendars: Collection[str]) -> dict[str, Any]:
    """The docket's rules; what workflows propose by themselves must be among its criteria. A folder that was made before
    there was a docket goes by the shipped rules."""
    path = folder / "docket.yaml"
    path = path if path.is_file() else SHIPPED / "docket.yaml"
    plain: dict[str, Any] = read_yaml(path)
    with _in(path):
        docket = parse_docket(plain)
        if docket.calendar not in calendars:
            raise DefinitionError(f"there is no calendar {docket.calendar!r}", ("calendar",))
    for source in sources.values():
        for where, branch in branches_of(source.flow):
            for verb, ground in branch.effects:
                if verb == "propose_review" and ground not in docket.criteria:
                    told = f"there is no criterion {ground!r} in docket.yaml; there are: {', '.join(docket.criteria)}"
                    raise source.error(DefinitionError(told, where))
    return plain


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check found out about one workflow: its faults, each with file and line, or its proof."""

    source: Source
    proof: Proof
    errors: tuple[DefinitionError, ...]
    seconds: float
    """CPU time of the check."""


def prove(sources: Mapping[str, Source], departments: Collection[str], processes: int = 1) -> Iterator[Checked]:
    """Check every workflow, those that others extend first; what an overlay inherits is told once, of its base.

    With more `processes` they are proved side by side: for a caller that has no threads, as it is forked. One that is
    killed raises BrokenProcessPool.
    """
    told: dict[str, set[tuple[Any, str]]] = {}
    proved = _proved(sources, processes)
    for key in sorted(sources, key=lambda k: len(sources[k].files)):
        source, (proof, seconds), start = sources[key], proved(key), process_time()
        told[key] = {(fault.path, fault.en) for fault in proof.faults}
        inherited = told.get(source.parent or "", set())
        errors = [source.error(f.error()) for f in proof.faults if (f.path, f.en) not in inherited]
        if source.parent is not None:
            base = sources[source.parent].flow
            errors += [source.error(f.error(), own=True) for f in loosened(base, source.flow)]
        errors += [source.error(f.error(), own=True) for f in misplaced(key, sources, departments)]
        yield Checked(source, proof, tuple(errors), seconds + process_time() - start)


Timed = tuple[Proof, float]
"""A proof and the CPU time that it took, in seconds."""


def _proved(sources: Mapping[str, Source], processes: int) -> Callable[[str], Timed]:
    """The proof of each by its key. Those that share a state space go to the same process: it is explored once."""

    def timed(key: str) -> Timed:
        start = process_time()
        return check(sources[key].flow), process_time() - start

    if processes == 1 or "fork" not in get_all_start_methods():
        return timed
    alike: dict[Bones, list[str]] = {}
    for key, source in sources.items():
        alike.setdefault(structure(source.flow, telling_clocks(source.flow)), []).append(key)
    # what has more clocks and actions takes longer: it begins first
    order = sorted(alike, key=lambda bones: (len(bones.clocks), len(bones.acts)), reverse=True)
    with ProcessPoolExecutor(processes, get_context("fork"), initializer=_inherit, initargs=(timed,)) as pool:
        found = dict(pair for part in pool.map(_each, [alike[bones] for bones in order]) for pair in part)
    return found.__getitem__


_timed: Callable[[str], Timed]
"""In a forked process: how to prove the workflows that it has inherited (they are not sent: compiled conditions cannot be)."""


def _inherit(timed: Callable[[str], Timed]) -> None:
    global _timed
    _timed = timed


def _each(keys: Sequence[str]) -> list[tuple[str, Timed]]:
    return [(key, _timed(key)) for key in keys]


def misplaced(key: str, sources: Mapping[str, Source], departments: Collection[str]) -> Iterator[Fault]:
    """Units that do not exist, or for which another workflow is chosen as well."""
    flow = sources[key].flow
    for code in sorted(flow.departments - set(departments)):
        yield no_department(code)
    for other in sources.values():
        if other.key >= key or other.abstract or sources[key].abstract:
            continue
        shared = flow.departments & other.flow.departments
        domains = flow.domains & other.flow.domains if flow.domains and other.flow.domains else {"any domain"}
        urgent = flow.urgency & other.flow.urgency
        plain = not flow.departments and not other.flow.departments and flow.domains & other.flow.domains
        if (shared and domains and not flow.urgency and not other.flow.urgency) or urgent or plain:
            what = ", ".join(sorted(shared or urgent or flow.domains))
            yield Fault(
                ("departments",) if shared else ("urgency",) if urgent else ("domains",),
                f"与 {other.key} 重复：{what}", f"{other.key!r} takes the same tickets: {what}",
                "each ticket is taken by one workflow",
            )  # fmt: skip


def no_department(code: str) -> Fault:
    return Fault(("departments",), f"没有单位 {code}", f"there is no department {code!r}", "a code of departments.yaml")


def check_folder(folder: Path, processes: int = 1) -> list[Checked]:
    """Prove each workflow of a folder. Raises DefinitionError where it cannot even be read."""
    _, codes = _read_departments(folder)
    return list(prove(read_workflows(folder), codes, processes))


def told(checked: Checked) -> dict[str, Any]:
    """A proof for readers: how much was explored, and the longest lawful life with what it is made of."""
    flow, life = checked.source.flow, checked.proof.life
    parts = [
        {"of": name, "times": times, "measure": budget.measure, "budget": budget.text()}
        for name, times, budget in life.parts
    ]
    return {
        "key": flow.key,
        "title": flow.title["zh"],
        "title_en": flow.title["en"],
        "configurations": checked.proof.configurations,
        "longest_life": {"text": str(life), "parts": parts},
    }


def _at(path: Path, detail: str, keys: tuple[str | int, ...]) -> DefinitionError:
    return DefinitionError(detail, keys, path.name, line_of(path, keys))


@contextmanager
def _in(path: Path) -> Iterator[None]:
    """Faults of what was read from this file, with its name and the line."""
    try:
        yield
    except DefinitionError as error:
        raise _at(path, error.detail, error.path) from None
