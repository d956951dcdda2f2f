"""Workflows: plain data -> the compiled form that the engine reads.

What the data may say is `language`'s. An error names the path and what was expected there; file and line are known to
`sources`, which reads the files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cel
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from service.core.calendar import Budget, CalendarError, Measure
from service.core.clocks import RungTime
from service.core.documents import TextDoc, parsed
from service.core.errors import DefinitionError
from service.core.language import (
    ActionDoc,
    ApprovalDoc,
    BranchDoc,
    BreachDoc,
    ClockDoc,
    Effect,
    OpenDoc,
    ReviewDoc,
    RungDoc,
    WorkflowDoc,
)
from service.core.model import Phase, Role

MAX_CONDITION_CHARACTERS = 2000
CONTEXT = frozenset({"form", "ticket", "leg", "legs", "counters", "pending", "clocks", "review"})
"""What a condition may read (`Draft.context` provides it)."""

Path = tuple[str | int, ...]
"""Where something stands in a file: its keys, from the outside in."""


@dataclass(frozen=True, slots=True)
class Branch:
    when: Any
    effects: tuple[tuple[str, Any], ...]
    to: str | None


@dataclass(frozen=True, slots=True)
class Rung:
    name: str
    time: RungTime
    when: Any
    effects: tuple[tuple[str, Any], ...]
    to: str | None

    @property
    def only_tells(self) -> bool:
        """Whether it does nothing but tell people, whatever the ticket is like."""
        return self.when is None and self.to is None and all(verb == "notify" for verb, _ in self.effects)


@dataclass(frozen=True, slots=True)
class Statutory:
    """What a law allows: the limit and the longest extension of it (None: none), and where that is written."""

    limit: Budget
    extension: Budget | None
    source: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ClockDef:
    name: str
    title: Mapping[str, str]
    family: str
    anchor: str
    budget: Budget
    rework: Budget
    statutory: Statutory | None
    rounds: str
    reopened: str
    reopened_late: str
    rungs: Mapping[str, Rung]
    times: tuple[tuple[str, RungTime], ...]
    contacts: bool = False
    """A promise to speak with the enterprise: not made where it asked for no reply."""


@dataclass(frozen=True, slots=True)
class ActionDef:
    name: str
    title: Mapping[str, str]
    stages: frozenset[str]
    roles: frozenset[Role]
    form: Mapping[str, Any]
    validator: Draft202012Validator
    guard: Any
    guard_message: Mapping[str, str] | None
    not_by: tuple[str, ...]
    branches: tuple[Branch, ...]
    everywhere: bool
    """Whether its stages were written as `open`."""
    renews: bool
    """Whether it binds the ticket to the newest policy: offered only where there is a newer one."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level of an approval; `when`: on which requests it is needed, None for all."""

    title: Mapping[str, str]
    roles: frozenset[Role]
    when: Any


@dataclass(frozen=True, slots=True)
class ApprovalDef:
    kind: str
    title: Mapping[str, str]
    levels: tuple[Level, ...]
    clock: str
    delays: tuple[str, ...]
    approve: Branch
    deny: Branch


@dataclass(frozen=True, slots=True)
class Workflow:
    """A compiled workflow. Immutable; a ticket keeps the version it was accepted under (P7)."""

    key: str
    version: int
    title: Mapping[str, str]
    calendar: str
    oldest_received_days: int
    callback_window_days: int
    split: str
    domains: frozenset[str]
    urgency: frozenset[str]
    departments: frozenset[str]
    stages: Mapping[str, tuple[Phase, Mapping[str, str]]]
    clocks: Mapping[str, ClockDef]
    actions: Mapping[str, ActionDef]
    approvals: Mapping[str, ApprovalDef]
    opened: Mapping[str, Branch]
    review: Mapping[str, tuple[Branch, ...]]
    counters: frozenset[str]
    """Those that its effects count: 0 until they do."""

    def phase(self, stage: str) -> Phase:
        return self.stages[stage][0]


def compile_workflow(plain: Mapping[str, Any], version: int = 1) -> Workflow:
    """Plain data -> `Workflow`; raises DefinitionError with the path of what is wrong and what was expected."""
    doc = parsed(WorkflowDoc, plain)
    flow = Workflow(
        key=doc.key,
        version=version,
        title=_text(doc.title),
        calendar=doc.calendar,
        oldest_received_days=doc.oldest_received_days,
        callback_window_days=doc.callback_window_days,
        split=doc.split,
        domains=frozenset(doc.domains),
        urgency=frozenset(doc.urgency),
        departments=frozenset(doc.departments),
        stages={name: (s.phase, _text(s.title)) for name, s in doc.stages.items()},
        clocks={name: _clock(name, c) for name, c in doc.clocks.items()},
        actions={name: _action(name, a, doc) for name, a in doc.actions.items()},
        approvals={name: _approval(name, a) for name, a in doc.approvals.items()},
        opened={
            name: _branch(branch, ("open", name))
            for name in OpenDoc.model_fields
            if (branch := getattr(doc.open, name)) is not None
        },
        review={
            k: tuple(_branch(b, ("review", k, n)) for n, b in enumerate(getattr(doc.review, k)))
            for k in ReviewDoc.model_fields
        },
        counters=frozenset(),
    )
    _check_names(flow)
    counted = (arg for _, branch in branches_of(flow) for verb, arg in branch.effects if verb == "count")
    return replace(flow, counters=frozenset(counted))


def _text(doc: TextDoc) -> dict[str, str]:
    return {"zh": doc.zh, "en": doc.en}


def _cel(source: str | None, path: Path) -> Any:
    if source is None:
        return None
    if len(source) > MAX_CONDITION_CHARACTERS:
        raise DefinitionError(f"a condition has at most {MAX_CONDITION_CHARACTERS} characters", path)
    try:
        program = cel.compile(source)
    except ValueError as error:
        raise DefinitionError(f"not a CEL expression: {error}", path) from None
    bound = re.findall(r"\.(?:all|exists|exists_one|filter|map)\(\s*([A-Za-z_][A-Za-z0-9_]*)\s*,", source)
    unknown = sorted(set(program.variables()) - CONTEXT - set(bound))
    if unknown:
        raise DefinitionError(f"a condition cannot read {unknown[0]!r}; it can: {', '.join(sorted(CONTEXT))}", path)
    return program


def holds(program: Any, context: Mapping[str, Any]) -> bool:
    """Whether a compiled condition is true; a missing condition always is."""
    return True if program is None else bool(program.execute(dict(context)))


def _effects(effects: Sequence[Effect], path: Path) -> tuple[tuple[str, Any], ...]:
    out = []
    for n, effect in enumerate(effects):
        if isinstance(effect, str):
            out.append((effect, None))
        elif len(effect) == 1:
            out.append(next(iter(effect.items())))
        else:
            raise DefinitionError("an effect has exactly one name, such as `start: resolve`", (*path, n))
    return tuple(out)


def _branch(doc: BranchDoc | BreachDoc, path: Path) -> Branch:
    when = _cel(getattr(doc, "when", None), (*path, "when"))
    return Branch(when, _effects(doc.effects, (*path, "effects")), doc.to)


def _budget(measure: Measure, value: str | int, path: Path) -> Budget:
    try:
        return Budget.parse(measure, value)
    except CalendarError as error:
        raise DefinitionError(str(error), path) from None


def _clock(name: str, doc: ClockDoc) -> ClockDef:
    path = ("clocks", name)
    budget = _budget(doc.measure, doc.budget, (*path, "budget"))
    rework = budget if doc.rework_budget is None else _budget(doc.measure, doc.rework_budget, (*path, "rework_budget"))
    rungs: dict[str, Rung] = {}
    for n, rung in enumerate(doc.rungs):
        for made in _rungs(rung, doc.measure, (*path, "rungs", n)):
            if made.name in rungs or made.name == "breach":
                raise DefinitionError(f"the rung {made.name!r} stands twice", (*path, "rungs", n, "name"))
            rungs[made.name] = made
    breach = _branch(doc.breach, (*path, "breach"))
    rungs["breach"] = Rung("breach", RungTime("due"), None, breach.effects, breach.to)
    times = tuple((r.name, r.time) for r in rungs.values())
    cycles = (doc.rounds, doc.reopened, doc.reopened_late)
    law = _statutory(doc, (*path, "statutory"))
    return ClockDef(
        name, _text(doc.title), doc.family, doc.anchor, budget, rework, law, *cycles, rungs, times, doc.contacts
    )


def _statutory(doc: ClockDoc, path: Path) -> Statutory | None:
    law = doc.statutory
    if law is None:
        return None
    extension = None if law.extension is None else _budget(law.measure, law.extension, (*path, "extension"))
    return Statutory(_budget(law.measure, law.limit, (*path, "limit")), extension, _text(law.source))


def _rungs(doc: RungDoc, measure: Measure, path: Path) -> list[Rung]:
    given = [k for k in ("share", "before", "after") if getattr(doc, k) is not None]
    if len(given) != 1:
        raise DefinitionError("a rung has exactly one of `share`, `before` and `after`", path)
    kind = given[0]
    effects, when = _effects(doc.effects, (*path, "effects")), _cel(doc.when, (*path, "when"))
    if kind == "share":
        return [Rung(doc.name, RungTime("share", percent=doc.share or 0), when, effects, doc.to)]
    value = doc.before if kind == "before" else doc.after
    assert value is not None
    step = _budget(doc.measure or measure, value, (*path, kind))
    out = []
    for n in range(1, doc.times + 1):
        name = doc.name if doc.times == 1 else f"{doc.name}_{n}"
        time = RungTime(kind, offset=Budget(step.measure, step.amount * n), series=doc.name if doc.times > 1 else None)
        out.append(Rung(name, time, when, effects, doc.to))
    return out


def _action(name: str, doc: ActionDoc, flow: WorkflowDoc) -> ActionDef:
    path = ("actions", name)
    if doc.stages == "open":
        stages = frozenset(s for s, d in flow.stages.items() if d.phase is not Phase.CLOSED)
    else:
        stages = frozenset(doc.stages)
    form = {"type": "object", "additionalProperties": False, **doc.form}
    reference = _reference(doc.form)
    if reference is not None:
        raise DefinitionError(f"a form refers to nothing else: {reference!r} is not read", (*path, "form"))
    for field, schema in form["properties"].items() if isinstance(form.get("properties"), Mapping) else ():
        if not isinstance(schema, Mapping) or not isinstance(schema.get("items", {}), Mapping):
            raise DefinitionError(
                "a field is described by a mapping such as {type: string}", (*path, "form", "properties", field)
            )
    try:
        validator = _validator(json.dumps(form, sort_keys=True))
    except (SchemaError, ValueError) as error:
        raise DefinitionError(
            f"the form is not a JSON Schema: {getattr(error, 'message', error)}", (*path, "form")
        ) from None
    branches = [_branch(b, (*path, "branches", n)) for n, b in enumerate(doc.branches)]
    if not branches:
        branches = [Branch(None, _effects(doc.effects, (*path, "effects")), doc.to)]
    elif doc.effects or doc.to:
        raise DefinitionError("an action has either `branches` or `effects` and `to`", path)
    return ActionDef(
        name=name,
        title=_text(doc.title),
        stages=stages,
        roles=frozenset(doc.roles),
        form=form,
        validator=validator,
        guard=_cel(doc.guard, (*path, "guard")),
        guard_message=_text(doc.guard_message) if doc.guard_message else None,
        not_by=(doc.not_by,) if isinstance(doc.not_by, str) else tuple(doc.not_by or ()),
        branches=tuple(branches),
        everywhere=doc.stages == "open",
        renews=all(("rebind", "newest") in b.effects for b in branches),
    )


def _reference(schema: Any) -> str | None:
    """The first key of a form that would lead out of it or back into it (`$ref` and its like)."""
    todo = [schema]
    while todo:
        item = todo.pop()
        if isinstance(item, Mapping):
            found = next((k for k in item if isinstance(k, str) and k.startswith("$")), None)
            if found is not None:
                return found
            todo += item.values()
        elif isinstance(item, list):
            todo += item
    return None


@lru_cache(maxsize=1024)
def _validator(form: str) -> Draft202012Validator:
    """Of a form as JSON: workflows that extend one another share most of theirs. Raises SchemaError."""
    schema = json.loads(form)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def _approval(kind: str, doc: ApprovalDoc) -> ApprovalDef:
    path = ("approvals", kind)
    approve, deny = _branch(doc.approve, (*path, "approve")), _branch(doc.deny, (*path, "deny"))
    if bool(doc.roles) == bool(doc.levels):
        raise DefinitionError("an approval has either `roles` or `levels`: who decides, or who decides in turn", path)
    levels = [
        Level(_text(level.title), frozenset(level.roles), _cel(level.when, (*path, "levels", n, "when")))
        for n, level in enumerate(doc.levels)
    ] or [Level(_text(doc.title), frozenset(doc.roles), None)]
    if levels[0].when is not None:
        raise DefinitionError("the first level decides every request: it has no `when`", (*path, "levels", 0, "when"))
    return ApprovalDef(kind, _text(doc.title), tuple(levels), doc.clock, tuple(doc.delays), approve, deny)


_CLOCK_EFFECTS = frozenset({"start", "meet", "cancel", "hold", "release", "settle", "extend", "replace"})
_WORDS = {
    "accept": ("by_hand", "automatic", "again"),
    "assign_lead": ("form", "routed", "again"),
    "card": ("yellow", "red", "slip"),
    "rebind": ("fitting", "newest"),
    "sign_off": ("accepted", "sent_back"),
}
_NAMED = frozenset({"count", "record", "outcome", "end_leg", "propose_review", "leave_out", "tell_enterprise"})
_TARGETS = ("department", *(role.value for role in Role if role is not Role.SYSTEM))


def _check_names(flow: Workflow) -> None:
    """Names that are used must exist. (The state space itself is explored by the checker.)"""
    for path, branch in branches_of(flow):
        if branch.to is not None and branch.to not in flow.stages:
            raise DefinitionError(
                f"there is no stage {branch.to!r}; there are: {', '.join(flow.stages)}", (*path, "to")
            )
        for n, (verb, arg) in enumerate(branch.effects):
            where = (*path, "effects", n)
            if verb not in EFFECTS:
                raise DefinitionError(f"there is no effect {verb!r}; there are: {', '.join(sorted(EFFECTS))}", where)
            for name in _clocks_named(verb, arg, where):
                if name not in flow.clocks:
                    raise DefinitionError(f"there is no clock {name!r}; there are: {', '.join(flow.clocks)}", where)
            if verb == "request" and arg not in list(flow.approvals):
                raise DefinitionError(f"there is no approval {arg!r}; there are: {', '.join(flow.approvals)}", where)
            if verb in _NAMED and not isinstance(arg, str):
                raise DefinitionError(f"{verb!r} takes one name, such as `{verb}: something`; got {arg!r}", where)
            if verb in _WORDS and arg not in list(_WORDS[verb]):
                raise DefinitionError(f"{verb!r} takes one of: {', '.join(_WORDS[verb])}; got {arg!r}", where)
            if verb == "notify" and not (isinstance(arg, list) and all(to in _TARGETS for to in arg)):
                raise DefinitionError(f"`notify` takes a list of: {', '.join(_TARGETS)}; got {arg!r}", where)
            if verb in {"extend", "excuse"} and path[0] != "approvals":
                raise DefinitionError(f"{verb!r} stands in an approval only: it needs the request that was made", where)
            if verb == "extend" and not flow.clocks[arg].budget.measure.counts_days:
                raise DefinitionError(f"{arg!r} counts hours; an extension is days, which never turn into hours", where)
    for name, action in flow.actions.items():
        for stage in action.stages - set(flow.stages):
            raise DefinitionError(f"there is no stage {stage!r}", ("actions", name, "stages"))
        for other in action.not_by:
            if other not in flow.actions:
                raise DefinitionError(f"there is no action {other!r}", ("actions", name, "not_by"))
    for kind, approval in flow.approvals.items():
        for clock in (approval.clock, *approval.delays):
            if clock not in flow.clocks:
                raise DefinitionError(f"there is no clock {clock!r}", ("approvals", kind, "clock"))


def _clocks_named(verb: str, arg: Any, where: Path) -> list[str]:
    """The clocks that an effect names; refuses an argument of another shape."""
    names: Any
    if verb in _CLOCK_EFFECTS:
        names = [arg]
    elif verb == "excuse":
        names = arg
    elif verb in {"pause", "resume"}:
        names = arg.get("clocks") if isinstance(arg, Mapping) else None
        names = [*names, arg["cap"]] if isinstance(names, list) and "cap" in arg else names
    else:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DefinitionError(f"{verb!r} names clocks, as workflows/README.md shows; got {arg!r}", where)
    return names


def branches_of(flow: Workflow) -> list[tuple[Path, Branch | Rung]]:
    """Every branch, rung and breach with its place in the file."""
    out: list[tuple[Path, Branch | Rung]] = []
    out += [(("open", k), b) for k, b in flow.opened.items()]
    out += [(("review", k, n), b) for k, branches in flow.review.items() for n, b in enumerate(branches)]
    for name, action in flow.actions.items():
        several = len(action.branches) > 1
        out += [
            (("actions", name, "branches", n) if several else ("actions", name), b)
            for n, b in enumerate(action.branches)
        ]
    for kind, approval in flow.approvals.items():
        out += [(("approvals", kind, "approve"), approval.approve), (("approvals", kind, "deny"), approval.deny)]
    for name, clock in flow.clocks.items():
        out += [(("clocks", name, *where), r) for where, r in rungs_with_paths(clock)]
    return out


def rungs_with_paths(clock: ClockDef) -> list[tuple[Path, Rung]]:
    """Each compiled rung with its place in the file: those that repeat stand there once, the breach by itself."""
    out: list[tuple[Path, Rung]] = []
    names: list[str] = []
    for rung in clock.rungs.values():
        if rung.time.kind == "due":
            out.append((("breach",), rung))
            continue
        name = rung.time.series or rung.name
        if name not in names:
            names.append(name)
        out.append((("rungs", names.index(name)), rung))
    return out


EFFECTS = frozenset(
    {
        "accept",
        "add_co_handlers",
        "assign_lead",
        "assign_to",
        "cancel",
        "card",
        "clear_lead",
        "close",
        "count",
        "end_leg",
        "excuse",
        "extend",
        "hold",
        "leave_out",
        "meet",
        "new_round",
        "notify",
        "outcome",
        "pause",
        "propose_review",
        "rebind",
        "reclassify",
        "record",
        "release",
        "reopen",
        "replace",
        "request",
        "resume",
        "settle",
        "sign_off",
        "start",
        "submit_leg",
        "substitute",
        "tell_enterprise",
        "withdraw_open",
    }
)
"""Every effect the engine knows; `workflow.HANDLERS` implements each (a test holds the two together)."""
