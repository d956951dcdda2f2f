"""The proof that a workflow can forget nothing: `check` gives what is wrong with it, or how long a ticket can lawfully live.

What is proved, over every configuration that can be reached (`exploring`):

  stages    every stage can be reached, and from every open configuration a closed one can: people may choose what they
            do and write, but not what has happened before or what the ticket is about
  clocks    an open configuration has a running clock (P3). A pause counts only while the clock that ends it runs
  loops     nobody can go round without end while every promise is kept: each loop is held by a clock that runs on
            through it, or counted and limited
  actions   somebody can do each action in each of its stages; a request is not made twice; no step fails by itself
  life      from the loops that are counted, how often each clock can begin: the longest lawful life

And without exploring: names and fields that conditions and effects read, breaches and ladders, four eyes, and the limits
of laws. A fault names the path in the file, what was expected, and the shortest way to it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from service.core import exploring
from service.core.access import OPERATIONS
from service.core.budgets import DAY_US, HOUR_US, Budget, Measure
from service.core.catalogue import DOMAINS, URGENCIES
from service.core.conditions import shape
from service.core.definitions import ActionDef, Branch, ClockDef, Path, Rung, Workflow, branches_of, rungs_with_paths
from service.core.draft import COUNTERS
from service.core.errors import DefinitionError
from service.core.exploring import Label, Space
from service.core.model import Phase, Role

LONGEST_MEASURE_DAYS = 730
"""The latest date that a review may set for a measure, in natural days from the day it is set (`review`).

A convenor who sets a new date again and again makes it longer: no rule of a workflow limits that.
"""

_TICKET = frozenset({"round", "stage", "phase", "domain", "matter", "urgency", "district", "lead", "outcome", "reply"})
_FIELDS: Mapping[str, frozenset[str]] = {
    "ticket": _TICKET,
    "leg": frozenset({"role", "state", "department"}),
    "legs": frozenset({"co_handlers", "replied", "late", "waiting"}),
    "review": frozenset({"open"}),
}
_NEEDED_CLOCKS = ("review_screen", "review_opinion", "review_decision", "review_measure")
"""Clocks that one matter, one discussion starts and ends by itself."""
Edges = Sequence[Sequence[exploring.Step]]
"""Steps by the configuration that they lead from."""
_BY_THE_DOCKET = frozenset(exploring.BY_THE_DOCKET)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: where, what, what was expected, and the shortest way to it."""

    path: Path
    zh: str
    en: str
    expected: str
    steps: tuple[str, ...] = ()

    def error(self, file: str = "", line: int = 0) -> DefinitionError:
        told = f"{self.en} / {self.zh}; expected: {self.expected}"
        return DefinitionError(told, self.path, file, line, self.steps)


@dataclass(frozen=True, slots=True)
class Life:
    """The longest lawful life of a ticket: no promise broken, every loop gone as often as its counter lets.

    `parts`: (what, how often at most, of how much each). A bound: a real ticket cannot do all of it.
    """

    parts: tuple[tuple[str, int, Budget], ...]

    def totals(self) -> dict[Measure, int]:
        """Whole days of the day measures, microseconds of the hour measures."""
        out: dict[Measure, int] = {}
        for _, times, budget in self.parts:
            out[budget.measure] = out.get(budget.measure, 0) + times * budget.amount
        return out

    def __str__(self) -> str:
        """`172 working days + 1460 natural days`."""
        words = {m: m.value.replace("_", " ") for m in Measure}
        told = []
        for measure in sorted(self.totals()):
            amount = self.totals()[measure]
            told.append(f"{amount if measure.counts_days else f'{amount / HOUR_US:g}'} {words[measure]}")
        return " + ".join(told)


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found: nothing, or the faults in the order of the file. `configurations`: how many were explored."""

    faults: tuple[Fault, ...]
    configurations: int
    life: Life


def check(flow: Workflow) -> Proof:
    """Prove a workflow, or say what is wrong with it."""
    faults = [*_scope(flow), *_conditions(flow), *_effects(flow), *_promises(flow), *_four_eyes(flow)]
    if faults:  # what the engine itself would refuse cannot be explored
        return Proof(tuple(faults), 0, Life(()))
    space = _explored(flow)
    faults = [*_space_faults(flow, space), *_lawful_extensions(flow, space)]
    life = Life(()) if faults else _life(flow, space)
    return Proof(tuple(faults), len(space.configs), life)


def _scope(flow: Workflow) -> Iterator[Fault]:
    """The tickets that it says it takes must be ones that can come."""
    for path, named, known in (("domains", flow.domains, DOMAINS), ("urgency", flow.urgency, URGENCIES)):
        for name in sorted(named - set(known)):
            yield Fault((path,), f"没有 {name}", f"there is no {name!r} among {path}", f"any of {', '.join(known)}")


# --- conditions and forms ----------------------------------------------------------------------------------------------


def _conditions(flow: Workflow) -> Iterator[Fault]:
    """Everything that a condition reads must be there when it is looked at."""
    counted = {arg for _, b in branches_of(flow) for verb, arg in b.effects if verb == "count"}
    names = {"counters": {*COUNTERS, *counted}, "pending": set(flow.approvals), "clocks": set(flow.clocks)}
    for path, source, fields in _sources(flow):
        for read in sorted(shape(source).reads):
            root, name = read[0], read[1]
            if root == "form":
                if fields is None:
                    yield Fault(
                        path,
                        f"此处尚无表单，不能读取 form.{name}",
                        f"no form is there yet, so form.{name} cannot be read",
                        "form is read in a branch's `when` and in a level's, after it was filled in",
                    )
                elif name not in fields:
                    yield Fault(
                        path,
                        f"表单没有字段 {name}",
                        f"the form has no field {name!r}",
                        f"one of its fields: {', '.join(fields) or 'none'}",
                    )
                continue
            known = _FIELDS.get(root) or names[root]
            if name not in known:
                what = {"counters": "counter", "pending": "approval", "clocks": "clock"}.get(root, f"`{root}` field")
                yield Fault(
                    path,
                    f"没有名为 {root}.{name} 的内容",
                    f"there is no {what} {name!r}",
                    f"one of: {', '.join(sorted(known))}",
                )
            elif root == "clocks" and read[2:] not in {("open",), ("breached",), ("state",)}:
                yield Fault(
                    path,
                    f"时钟没有 {'.'.join(read)}",
                    f"a clock has no {'.'.join(read[2:]) or 'value by itself'!r}",
                    f"clocks.{name}.open, .breached or .state",
                )


def _sources(flow: Workflow) -> Iterator[tuple[Path, str, Sequence[str] | None]]:
    """Every condition with its place and the fields of the form that it may read (None: there is none)."""
    for name, action in flow.actions.items():
        if action.guard is not None:
            yield ("actions", name, "guard"), action.guard.source, None
        fields = list(action.form.get("properties", {}))
        for n, branch in enumerate(action.branches):
            if branch.when is not None:
                yield ("actions", name, "branches", n, "when"), branch.when.source, fields
    for kind, approval in flow.approvals.items():
        fields = sorted({f for a in _askers(flow, kind) for f in a.form.get("properties", {})})
        for n, level in enumerate(approval.levels):
            if level.when is not None:
                yield ("approvals", kind, "levels", n, "when"), level.when.source, fields
    for path, way in branches_of(flow):
        if path[0] in {"clocks", "review"} and way.when is not None:
            yield (*path, "when"), way.when.source, None


def _askers(flow: Workflow, kind: str) -> list[ActionDef]:
    return [a for a in flow.actions.values() if any(("request", kind) in b.effects for b in a.branches)]


def _effects(flow: Workflow) -> Iterator[Fault]:
    """What an effect needs must be given by where it stands: a field of the form, a leg, a closed ticket."""
    for name in _NEEDED_CLOCKS:
        if name not in flow.clocks:
            yield Fault(
                ("clocks",),
                f"缺少一事一议所需的时钟 {name}",
                f"the clock {name!r} is missing",
                "the review starts and ends it by itself",
            )
        elif name in {"review_opinion", "review_measure"}:
            for where, rung in _of_clock(flow, name):
                if rung.to is not None:
                    yield Fault(
                        (*where, "to"),
                        "意见和议定事项的时钟只作提醒，不移动工单",
                        f"{name!r} moves the ticket",
                        "it only tells: the docket itself leads on",
                    )
    for path, branch in branches_of(flow):
        yield from _misplaced_when(flow, path, branch)
        for n, (verb, arg) in enumerate(branch.effects):
            yield from _misplaced(flow, path, branch, (*path, "effects", n), verb, arg)
    for name, action in flow.actions.items():
        yield from _deaf_branches(action)
        closed = {s for s in action.stages if flow.phase(s) is Phase.CLOSED}
        for n, branch in enumerate(action.branches):
            path = _branch_path(action, n)
            reopens = any(verb == "reopen" for verb, _ in branch.effects)
            leaves = branch.to is not None and flow.phase(branch.to) is not Phase.CLOSED
            if reopens and (closed != set(action.stages) or not leaves):
                yield Fault(
                    path,
                    "只有已办结的工单可以重新办理，并须进入未办结环节",
                    f"{name!r} reopens what may be open, or leads to no open stage",
                    "`reopen` only in actions of closed stages, with `to` an open one",
                )
            elif closed and leaves and not reopens:
                yield Fault(
                    path,
                    "从办结环节回到办理必须写 reopen",
                    f"{name!r} takes a closed ticket up again without `reopen`",
                    "the effect `reopen`, so that its clocks go on as they should",
                )


def _misplaced_when(flow: Workflow, path: Path, branch: Branch | Rung) -> Iterator[Fault]:
    if branch.when is None:
        return
    first = path[:2] == ("review", "proposed") and path[2] == 0
    if path[0] in {"open", "approvals"} or first:
        yield Fault(
            (*path, "when"),
            "此处的条件不会被判断",
            "a condition that stands here is never looked at",
            "no `when`: this happens in any case",
        )


def _misplaced(flow: Workflow, path: Path, branch: Branch | Rung, where: Path, verb: str, arg: Any) -> Iterator[Fault]:
    root = path[0]
    action = flow.actions[str(path[1])] if root == "actions" else None
    form = action.form if action is not None else None
    needed = {"assign_to": "assignee", "add_co_handlers": "department"}.get(verb)
    if verb == "assign_lead":
        needed = "department" if arg == "form" else None
        if arg == "routed" and path != ("open", "routed"):
            yield Fault(
                where,
                "只有受理时才有自动派单结果",
                "there is a route only when a ticket is opened",
                "`routed` only in open.routed; `form` or `again` elsewhere",
            )
    if needed is not None:
        if form is None:
            yield Fault(
                where,
                f"{verb} 需要表单字段 {needed}",
                f"{verb!r} needs a form with the field {needed!r}",
                "it stands in an action",
            )
        elif needed not in form.get("required", ()) or needed not in form.get("properties", {}):
            yield Fault(
                (*path[:2], "form"),
                f"表单缺少必填字段 {needed}",
                f"the form lacks the required field {needed!r}",
                f"{needed}, which {verb!r} reads",
            )
    if verb == "submit_leg" and (action is None or action.roles != {Role.HANDLER}):
        yield Fault(
            where,
            "只有承办单位可以提交",
            "`submit_leg` is done by somebody who acts for no department",
            "an action of the role handler only",
        )
    if verb == "reopen" and action is None:
        yield Fault(where, "重新办理只能由人发起", "`reopen` stands outside an action", "an action of a closed stage")
    if verb == "close" and (branch.to is None or flow.phase(branch.to) is not Phase.CLOSED):
        yield Fault(
            where,
            "办结后须进入办结环节",
            "`close` leaves the ticket in an open stage",
            "`to` a stage of the phase closed",
        )
    if verb == "extend":
        for asker in _askers(flow, str(path[1])):
            days = asker.form.get("properties", {}).get("days", {})
            if "days" not in asker.form.get("required", ()) or days.get("type") != "integer":
                yield Fault(
                    ("actions", asker.name, "form"),
                    "延期申请须写明天数",
                    "the form lacks the required number of days",
                    "days: {type: integer, minimum: 1, maximum: …}, which `extend` adds",
                )
            elif not isinstance(days.get("maximum"), int) or not 1 <= days.get("minimum", 0) <= days["maximum"]:
                yield Fault(
                    ("actions", asker.name, "form", "properties", "days"),
                    "延期天数没有上下限",
                    "an extension without a limit",
                    "minimum: 1 and a maximum",
                )
    if verb == "pause":
        yield from _capless(flow, path, where, arg)


def _capless(flow: Workflow, path: Path, where: Path, arg: Mapping[str, Any]) -> Iterator[Fault]:
    """A pause ends by itself: its cap's breach resumes what was paused. While a request is undecided its own clock runs."""
    cap = arg.get("cap", "pause_cap" if path[0] == "approvals" and "pause_cap" in flow.clocks else None)
    if cap is None:
        enterprise = [name for name in arg["clocks"] if flow.clocks[name].family == "enterprise"]
        if enterprise:
            yield Fault(
                where,
                f"对企业承诺的时钟 {enterprise[0]} 暂停没有上限",
                f"a pause of {enterprise[0]!r} without a cap",
                "`cap:` with the clock at whose due time it ends by itself",
            )
        return
    breach = flow.clocks[cap].rungs["breach"]
    resumed = {name for verb, names in breach.effects if verb == "resume" for name in names["clocks"]}
    for name in arg["clocks"]:
        if name not in resumed:
            yield Fault(
                ("clocks", cap, "breach"),
                f"暂停上限届满后 {name} 没有恢复",
                f"{name!r} stays paused when its cap is over",
                f"{{resume: {{clocks: [{name}]}}}} at the breach of {cap!r}",
            )


def _deaf_branches(action: ActionDef) -> Iterator[Fault]:
    for n, branch in enumerate(action.branches[:-1]):
        if branch.when is None:
            yield Fault(
                ("actions", action.name, "branches", n + 1),
                "前一分支没有条件，此分支永远走不到",
                "a branch that is never taken: the one before it has no `when`",
                "`when` in each branch but the last",
            )
    if action.name in exploring.JOINING and (len(action.branches) > 1 or action.branches[0].when is not None):
        yield Fault(
            ("actions", action.name, "branches"),
            "并单、拆分没有分支",
            f"{action.name!r} takes no branches",
            "`effects` and `to`: what concerns several tickets has one outcome",
        )


def _branch_path(action: ActionDef, n: int) -> Path:
    return ("actions", action.name, "branches", n) if len(action.branches) > 1 else ("actions", action.name)


# --- promises: breaches, ladders, laws -----------------------------------------------------------------------------------


def _promises(flow: Workflow) -> Iterator[Fault]:
    for name, clock in flow.clocks.items():
        yield from _breach(name, clock)
        yield from _ladder(name, clock)
        yield from _law(name, clock)
    ladders = {n for n, c in flow.clocks.items() if c.family == "enterprise" and _review_rung(c) is not None}
    for how in ("routed", "unrouted"):
        started = {arg for verb, arg in flow.opened[how].effects if verb == "start"}
        if (
            flow.phase(flow.opened[how].to or "") is not Phase.CLOSED and not started & ladders
            if flow.opened[how].to
            else True
        ):
            yield Fault(
                ("open", how),
                "新工单没有通向一事一议的承诺时钟",
                "a new ticket has no promise whose ladder ends in the review",
                "start an enterprise clock with a rung that has `propose_review`",
            )


def _breach(name: str, clock: ClockDef) -> Iterator[Fault]:
    breach = clock.rungs["breach"]
    if breach.to is None and not breach.effects:
        yield Fault(
            ("clocks", name, "breach"),
            f"时钟 {name} 到期后无人知晓",
            f"the breach of {name!r} leads nowhere",
            "at least `notify`, so that somebody is told",
        )


def _after(clock: ClockDef) -> list[tuple[int, Rung]]:
    """The rungs after the due time, by their first instants (a rough one: a working day as a day)."""
    seen: dict[str, tuple[int, Rung]] = {}
    for rung in clock.rungs.values():
        if rung.time.kind == "after" and rung.time.offset is not None:
            amount = rung.time.offset.amount * (DAY_US if rung.time.offset.measure.counts_days else 1)
            seen.setdefault(rung.time.series or rung.name, (amount, rung))
    return sorted(seen.values(), key=lambda found: found[0])


def _review_rung(clock: ClockDef) -> Rung | None:
    return next((r for _, r in _after(clock) if any(v == "propose_review" for v, _ in r.effects)), None)


def _tells_supervision(rung: Rung) -> bool:
    return any((v == "notify" and "supervisor" in arg) or (v == "card" and arg == "slip") for v, arg in rung.effects)


def _ladder(name: str, clock: ClockDef) -> Iterator[Fault]:
    """Notice, urge, yellow, red, supervision slip, review: in this order, and after the review only supervision."""
    after = _after(clock)
    if clock.family == "enterprise" and after:
        review = [n for n, (_, r) in enumerate(after) if any(v == "propose_review" for v, _ in r.effects)]
        rest = after if not review else after[review[-1] + 1 :]
        last = after[-1][1]
        path = _rung_path(clock, last)
        if not review:
            yield Fault(
                path,
                f"{name} 的升级阶梯没有通向一事一议",
                f"the ladder of {name!r} does not end in the review",
                "a last rung with `propose_review`, or supervision repeated after it",
            )
        elif any(not _tells_supervision(r) for _, r in rest):
            rung = next(r for _, r in rest if not _tells_supervision(r))
            yield Fault(
                _rung_path(clock, rung),
                "一事一议之后只能是督办",
                f"the rung {rung.name!r} after the review is no supervision",
                "`notify` of the supervisor, or a supervision slip",
            )
    grades = {"yellow": 1, "red": 2, "slip": 3}
    before = [r for r in clock.rungs.values() if r.time.kind in {"share", "before"}]
    order = [(r, arg) for r in [*before, *(r for _, r in after)] for v, arg in r.effects if v == "card"]
    for (_, earlier), (rung, later) in pairwise(order):
        if grades[later] < grades[earlier]:
            yield Fault(
                _rung_path(clock, rung),
                f"{later} 牌在 {earlier} 牌之后",
                f"a {later} card after a {earlier} one",
                "yellow, then red, then the supervision slip",
            )


def _rung_path(clock: ClockDef, rung: Rung) -> Path:
    return next(("clocks", clock.name, *where) for where, r in _of(clock) if r is rung)


def _of(clock: ClockDef) -> list[tuple[Path, Rung]]:
    return rungs_with_paths(clock)


def _of_clock(flow: Workflow, name: str) -> Iterator[tuple[Path, Rung]]:
    return ((("clocks", name, *where), rung) for where, rung in _of(flow.clocks[name]))


def _law(name: str, clock: ClockDef) -> Iterator[Fault]:
    """The limit of a law is kept, counted as the law counts."""
    law, path = clock.statutory, ("clocks", name)
    if law is None:
        return
    source = f"{law.source['zh']} / {law.source['en']}"
    for key, budget in (("budget", clock.budget), ("rework_budget", clock.rework)):
        if budget.measure is not law.limit.measure:
            yield Fault(
                (*path, "measure"),
                f"法定期限按 {law.limit.measure} 计，此处按 {budget.measure} 计",
                f"counted in {budget.measure}, but the law counts {law.limit.measure}",
                source,
            )
            return
        if budget.amount > law.limit.amount:
            yield Fault(
                (*path, key),
                f"超过法定期限 {law.limit.text()}",
                f"longer than the law's {law.limit.text()} {law.limit.measure}",
                source,
            )


def _lawful_extensions(flow: Workflow, space: Space) -> Iterator[Fault]:
    """All extensions together add no more than the law allows."""
    for kind, approval in flow.approvals.items():
        laws = {
            arg: law
            for verb, arg in approval.approve.effects
            if verb == "extend" and (law := flow.clocks[arg].statutory) is not None
        }
        for law in laws.values():
            allowed = law.extension.amount if law.extension else 0
            most = 0
            for asker in _askers(flow, kind):
                most += asker.form["properties"]["days"]["maximum"] * _times_granted(flow, space, kind, asker)
                if most > allowed:
                    yield Fault(
                        ("actions", asker.name, "form", "properties", "days"),
                        f"延期合计 {most}，超过法定可延长的 {allowed}",
                        f"extensions of {most} days together, more than the law's {allowed}",
                        f"{law.source['zh']} / {law.source['en']}",
                    )


def _times_granted(flow: Workflow, space: Space, kind: str, asker: ActionDef) -> int:
    """How often this action's requests can be granted at most: as they are counted and guarded (`counters.x < n`)."""
    bounds = [
        n
        for steps in space.steps
        for step in steps
        for c, n in step.counted
        if step.label.kind == "action" and step.label.name == asker.name
    ]
    granted = next((arg for verb, arg in flow.approvals[kind].approve.effects if verb == "count"), None)
    limits = _values(asker.guard.source, granted) if granted and asker.guard is not None else []
    return min([*bounds, *limits], default=1)


def _values(guard: str, counter: str) -> list[int]:
    """Under how many values of a counter a guard can hold, by each of its comparisons with a literal."""
    out = [int(n) for n in re.findall(rf"counters\.{counter}\s*<\s*(\d+)", guard)]
    out += [int(n) + 1 for n in re.findall(rf"counters\.{counter}\s*<=\s*(\d+)", guard)]
    return out + [1 for _ in re.findall(rf"counters\.{counter}\s*==\s*\d+", guard)]


def _four_eyes(flow: Workflow) -> Iterator[Fault]:
    """Whoever brings a ticket into an audit does not decide it (roles change, persons stay)."""
    audits = {s for s, (phase, _) in flow.stages.items() if phase is Phase.AUDIT}
    replies = {n for n, a in flow.actions.items() if any(b.to in audits for b in a.branches)}
    for name, action in flow.actions.items():
        inside = action.stages <= audits and any(b.to not in {None, *action.stages} for b in action.branches)
        verbs = {v for b in action.branches for v, _ in b.effects}
        if not (action.stages & audits and (inside or verbs & {"settle", "release"})):
            continue
        missing = sorted(replies - set(action.not_by) - {name})
        if missing:
            where: Path = ("actions", name, "not_by") if action.not_by else ("actions", name)
            yield Fault(
                where,
                f"提交人可以审核自己的答复（{missing[0]}）",
                f"who did {missing[0]!r} may audit his or her own work",
                f"not_by: {missing[0] if len(missing) == 1 else missing}",
            )
    acting, deciding = OPERATIONS["tickets:act"], OPERATIONS["approvals:decide"]
    for name, action in flow.actions.items():
        for role in sorted(action.roles - acting):
            yield Fault(
                ("actions", name, "roles"),
                f"角色 {role} 不能办理工单",
                f"nobody who is {role} can act on a ticket",
                f"one of: {', '.join(sorted(acting))}",
            )
    for kind, approval in flow.approvals.items():
        for n, level in enumerate(approval.levels):
            for role in sorted(level.roles - deciding):
                where = (
                    ("approvals", kind, "levels", n, "roles")
                    if len(approval.levels) > 1
                    else ("approvals", kind, "roles")
                )
                yield Fault(
                    where,
                    f"角色 {role} 不能审批",
                    f"nobody who is {role} can decide a request",
                    f"one of: {', '.join(sorted(deciding))}",
                )
        if not _askers(flow, kind):
            yield Fault(
                ("approvals", kind),
                f"没有人可以提出 {kind}",
                f"nobody can ask for {kind!r}",
                f"an action with the effect `request: {kind}`",
            )


# --- what the state space shows ------------------------------------------------------------------------------------------


def _explored(flow: Workflow) -> Space:
    """With the clocks that matter; with more of them, and with counters told apart, only where less cannot prove it."""
    clocks = exploring.telling_clocks(flow)
    space = exploring.explore(exploring.structure(flow, clocks))
    if _forgotten(space) is not None:
        more = clocks | {n for n, c in flow.clocks.items() if not n.startswith("co_") and not c.contacts}
        fuller = exploring.explore(exploring.structure(flow, more))
        if fuller.complete:
            clocks, space = more, fuller
    if _stuck(space):
        told = exploring.explore(exploring.structure(flow, clocks), _counters(flow))
        return told if told.complete else space
    return space


def _counters(flow: Workflow) -> tuple[str, ...]:
    read = {r for _, source, _ in _sources(flow) for r in shape(source).reads}
    counted = {arg for _, b in branches_of(flow) for verb, arg in b.effects if verb == "count"}
    names = {r[1] for r in read if r[0] == "counters" and r[1] in counted}
    return tuple(sorted(names | ({"ticket.round"} if ("ticket", "round") in read else set())))


def _space_faults(flow: Workflow, space: Space) -> Iterator[Fault]:
    if not space.complete:
        yield Fault(
            ("stages",),
            "流程过于复杂，无法证明",
            f"more than {len(space.configs)} configurations: it cannot be proved",
            "fewer counters, requests or clocks that conditions read",
        )
        return
    seen: set[tuple[Path, str]] = set()
    for fault in (*_unreached(flow, space), *_troubles(flow, space), *_configurations(flow, space)):
        if (fault.path, fault.en) not in seen:
            seen.add((fault.path, fault.en))
            yield fault


def _unreached(flow: Workflow, space: Space) -> Iterator[Fault]:
    reached = {c.stage for c in space.configs}
    for stage in flow.stages:
        if stage not in reached:
            yield Fault(
                ("stages", stage),
                f"环节 {stage} 永远到不了",
                f"the stage {stage!r} is never reached",
                "an action, approval or timer that leads `to` it",
            )
    for name, action in flow.actions.items():
        for stage in sorted(action.stages & reached):
            if (name, stage) in space.done:
                continue
            every = all((name, other) not in space.done for other in action.stages)
            if not every and action.everywhere:
                continue
            # a guard that never holds, or people whose role can have no leg here
            where = "guard" if every and action.guard is not None else "stages"
            example = next(n for n, c in enumerate(space.configs) if c.stage == stage)
            yield Fault(
                ("actions", name, where),
                f"在环节 {stage} 没有人能够执行 {name}",
                f"nobody can ever do {name!r} in {stage!r}",
                "a role that somebody can hold there, and a guard that can hold",
                _told(flow, space, example),
            )
            if every:
                break


_TROUBLES = {
    "wrong": ("此步骤无法执行", "this step cannot be carried out: {0}", "effects that fit where they stand"),
    "refused": (
        "到期动作可能因议定事项未完成而无法办结",
        "a timer closes a ticket that may have open measures of a review",
        "a timer that leads to an open stage",
    ),
    "twice": ("同一申请可重复提出", "{0!r} can be asked for while it is undecided", "!pending.{0} in the guard"),
    "condition": (
        "条件无法计算",
        "the condition cannot be computed: {0}",
        "has(form.…) first for a field that may be left out; a clock that has run",
    ),
}


def _troubles(flow: Workflow, space: Space) -> Iterator[Fault]:
    for trouble in space.troubles:
        zh, en, expected = _TROUBLES[trouble.kind]
        path = _path_of(flow, trouble.label)
        if trouble.kind == "condition":
            if trouble.label.detail == "guard":
                path = ("actions", trouble.label.name, "guard")
            else:
                path = (*path, "when")
        yield Fault(
            path,
            f"{zh}：{trouble.detail}" if trouble.detail else zh,
            en.format(trouble.detail),
            expected.format(trouble.detail),
            _told(flow, space, trouble.at),
        )


def _configurations(flow: Workflow, space: Space) -> Iterator[Fault]:
    forgotten = _forgotten(space)
    if forgotten is not None:
        stage = space.configs[forgotten].stage
        _, label = space.came_by[forgotten]
        yield Fault(
            _path_of(flow, label),
            f"未办结的工单没有任何时钟在走（{stage}）",
            f"an open ticket without a running clock, in {stage!r}",
            "a clock that is started here, or a pause with a cap",
            _told(flow, space, forgotten),
        )
    for n in range(len(space.configs)):
        left = (
            [
                t.name
                for t, state in zip(space.bones.clocks, space.configs[n].clocks, strict=True)
                if state in exploring.OPEN
            ]
            if not space.open(n)
            else []
        )
        if left:
            yield Fault(
                _path_of(flow, space.came_by[n][1]),
                f"已办结的工单仍有时钟 {left[0]}",
                f"a closed ticket whose clock {left[0]!r} is open",
                "no clock is started where the ticket is closed",
                _told(flow, space, n),
            )
            break
    stuck = _stuck(space)
    if stuck:
        n = _deepest(space, stuck)
        stage = space.configs[n].stage
        yield Fault(
            ("stages", stage),
            f"环节 {stage} 可能没有出路，工单无法办结",
            f"a dead end in {stage!r}: from here no closed stage can be reached",
            "an action, approval or timer that always leads on",
            _told(flow, space, n),
        )
    looping = _looping(space)
    if looping is not None and forgotten is None:
        n, cycle = looping
        label = _culprit(space, cycle)
        round_ = tuple(_step(flow, step.label) for step in cycle)
        yield Fault(
            _path_of(flow, label),
            "循环没有上限",
            "a loop without a limit: it can go round for ever, each promise kept",
            "a counter in the guard (counters.… < n) that this step counts, or a clock that runs on through it",
            (*_told(flow, space, n), *round_),
        )


def _forgotten(space: Space) -> int | None:
    return next((n for n in range(len(space.configs)) if space.open(n) and not space.running(n)), None)


def _stuck(space: Space) -> list[int]:
    """Configurations from which nobody can be sure to reach a closed stage, nearest first.

    A move leads on if, whatever fate has done, one of its targets leads on (a step's least fixed point).
    """
    if not space.complete:
        return []
    good = {n for n in range(len(space.configs)) if not space.open(n)}
    back: dict[int, set[int]] = {}
    for n, moves in enumerate(space.certain):
        for move in moves:
            for targets in move:
                for target in targets:
                    back.setdefault(target, set()).add(n)
    todo = deque(good)
    while todo:
        for n in back.get(todo.popleft(), ()):
            if n not in good and any(all(targets & good for targets in move) for move in space.certain[n]):
                good.add(n)
                todo.append(n)
    return [n for n in range(len(space.configs)) if n not in good]


def _deepest(space: Space, stuck: Sequence[int]) -> int:
    """Of the stuck configurations the nearest that is stuck by its own stage: nothing certain leads out of it."""
    left = {
        space.configs[n].stage
        for n in stuck
        if any(space.configs[t].stage != space.configs[n].stage for move in space.certain[n] for ts in move for t in ts)
    }
    return next((n for n in stuck if space.configs[n].stage not in left), stuck[0])


# --- loops -----------------------------------------------------------------------------------------------------------------


def _unlimited(space: Space) -> Edges:
    """The steps that nothing limits: those that a counter limits are left out, as they come to an end.

    A counter that a new round sets back limits only where new rounds are limited themselves.
    """
    reset = {"callback_attempts"}
    anew = {
        (act.name, n)
        for act in space.bones.acts
        for n, way in enumerate(act.ways)
        if any(verb == "new_round" for verb, _ in way.effects)
    }
    rounds_limited = all(
        any(c not in reset for c, _ in step.counted)
        for steps in space.steps
        for step in steps
        if step.label.kind == "action" and (step.label.name, step.label.branch) in anew
    )
    every = {c for steps in space.steps for s in steps for c, _ in s.counted}
    return _steps_without(space.steps, every if rounds_limited else every - reset)


def _components(edges: Edges) -> list[int]:
    """For each configuration the number of its strongly connected component (Tarjan, without recursion)."""
    index, low, of = [-1] * len(edges), [0] * len(edges), [-1] * len(edges)
    stack: list[int] = []
    on, counter, components = [False] * len(edges), 0, 0
    for root in range(len(edges)):
        if index[root] != -1:
            continue
        work = [(root, 0)]
        while work:
            n, i = work.pop()
            if i == 0:
                index[n] = low[n] = counter
                counter += 1
                stack.append(n)
                on[n] = True
            descended = False
            for j in range(i, len(edges[n])):
                target = edges[n][j].target
                if index[target] == -1:
                    work += [(n, j + 1), (target, 0)]
                    descended = True
                    break
                if on[target]:
                    low[n] = min(low[n], index[target])
            if descended:
                continue
            if low[n] == index[n]:
                while True:
                    member = stack.pop()
                    on[member], of[member] = False, components
                    if member == n:
                        break
                components += 1
            if work:
                parent = work[-1][0]
                low[parent] = min(low[parent], low[n])
    return of


def _open_in(space: Space, n: int, states: frozenset[int]) -> frozenset[str]:
    known = space.open_in.setdefault(states, {})
    clocks = space.configs[n].clocks
    if clocks not in known:
        known[clocks] = frozenset(t.name for t, s in zip(space.bones.clocks, clocks, strict=True) if s in states)
    return known[clocks]


def _looping(space: Space) -> tuple[int, list[exploring.Step]] | None:
    """A loop that no counter limits and no clock runs through: where it begins, and the steps of one round.

    A held clock goes on counting if the reply is sent back; a paused one does not.
    """
    return _loop_in(space, _unlimited(space), lambda step: step.granted, exploring.OPEN - exploring.STOPPED)


def _loop_in(
    space: Space,
    edges: Edges,
    granted: Callable[[exploring.Step], frozenset[str]],
    holding: frozenset[int],
) -> tuple[int, list[exploring.Step]] | None:
    """A loop in which every clock begins anew (or is granted time) somewhere, or is not there all the way round."""
    of = _components(edges)
    members: dict[int, list[int]] = {}
    for n, component in enumerate(of):
        members.setdefault(component, []).append(n)
    for nodes in sorted(members.values()):
        inside = [(n, s) for n in nodes for s in edges[n] if of[s.target] == of[n]]
        if not inside or not any(space.open(n) for n in nodes):
            continue
        through = frozenset.intersection(*(_open_in(space, n, holding) for n in nodes))
        if not through - {name for _, step in inside for name in granted(step)}:
            return _one_round(space, nodes, inside)
    return None


def _one_round(
    space: Space, nodes: list[int], inside: Sequence[tuple[int, exploring.Step]]
) -> tuple[int, list[exploring.Step]]:
    """A short closed walk from the first configuration that passes a step which gives time anew."""
    start = min(nodes)
    out: dict[int, list[exploring.Step]] = {}
    for n, step in inside:
        out.setdefault(n, []).append(step)

    def walk(origin: int, goal: int) -> list[exploring.Step]:
        came: dict[int, tuple[int, exploring.Step]] = {}
        todo = deque([origin])
        while todo:
            n = todo.popleft()
            for step in out.get(n, ()):
                if step.target not in came:
                    came[step.target] = (n, step)
                    todo.append(step.target)
            if goal in came:
                break
        steps: list[exploring.Step] = []
        at = goal
        while goal in came and (not steps or at != origin):
            at, step = came[at]
            steps.append(step)
        return steps[::-1]

    promises = _promised(space)
    granting = [(n, s) for n, s in inside if s.granted & promises] or [(n, s) for n, s in inside if s.granted]
    if not granting:
        return start, walk(start, start)
    n, step = min(granting, key=lambda found: found[0])
    back = [] if step.target == n else walk(step.target, n)
    return n, [step, *back]


def _promised(space: Space) -> set[str]:
    return {t.name for t in space.bones.clocks if t.family == "enterprise"}


def _culprit(space: Space, cycle: Sequence[exploring.Step]) -> Label:
    """The step of a loop that lacks its counter: the one that gives time, or that asks for what gives it."""
    by_hand = [s for s in cycle if s.label.kind in {"action", "approval"}]
    asking = {a.name for a in space.bones.acts for w in a.ways if any(verb == "request" for verb, _ in w.effects)}
    begun = [s for s in by_hand if s.begun & _promised(space)]
    asked = [s for s in by_hand if s.label.kind == "action" and s.label.name in asking]
    granting = [s for s in by_hand if s.granted]
    return (begun or asked or granting or by_hand or list(cycle))[0].label


# --- the longest life --------------------------------------------------------------------------------------------------------


def _life(flow: Workflow, space: Space) -> Life:
    """How often each clock that holds the ticket can begin, times its budget; pauses and extensions beside it.

    Steps that a counter limits divide a life into stretches. Within one stretch no loop begins a clock that holds it anew,
    so what is begun outside of such a loop is begun once in it.
    """
    if "times" not in space.memo:
        space.memo["times"] = _times(space, flow)
    parts = []
    for name, times in space.memo["times"].items():
        clock = flow.clocks[name]
        most = max(clock.budget, clock.rework, key=lambda b: b.amount)
        if name == "review_measure":
            most = Budget(Measure.natural_days, LONGEST_MEASURE_DAYS)
        parts.append((name, times, most))
    return Life((*parts, *_favours(flow, space, frozenset(space.memo["times"]))))


_AGAIN = {
    "review_decision": exploring.BY_THE_DOCKET[exploring.POSTPONED] + exploring.BY_THE_DOCKET[exploring.REFERRED],
    "review_screen": exploring.BY_THE_DOCKET[exploring.RETURNED],
}
"""How often the docket begins a clock of its own anew: a matter is postponed or referred up, a proposal sent back."""


def _times(space: Space, flow: Workflow) -> dict[str, int]:
    """The clocks that together hold every open configuration, and how often each can begin at most."""
    dividing = _dividing(space)
    edges = _steps_without(space.steps, dividing | _BY_THE_DOCKET)
    of = _components(edges)
    covering, audits = _covering(flow, space, edges, of)
    covering |= audits
    reach = _reachable(edges, of)
    divisions = [(s, c, times) for steps in space.steps for s in steps for c, times in s.counted if c in dividing]
    times = {}
    for name in sorted(covering, key=list(flow.clocks).index):
        first = any(arg == name for b in flow.opened.values() for verb, arg in b.effects if verb == "start")
        by_counter: dict[str, int] = {}
        once = 0
        carried: dict[int, bool] = {}
        for n, steps in enumerate(space.steps):
            for step in steps:
                if name not in step.begun:
                    continue
                own = [(most, c) for c, most in step.counted if c in dividing]
                if own:
                    most, counter = min(own)
                    by_counter[counter] = max(by_counter.get(counter, 0), most)
                else:
                    inside = name not in audits and of[n] == of[step.target]
                    if inside and of[n] not in carried:
                        carried[of[n]] = _carried(space, edges, of, of[n], name)
                    if inside and carried[of[n]]:
                        continue
                    once = 1
                    for division, counter, most in divisions:
                        if reach[of[division.target]] >> of[n] & 1:
                            by_counter[counter] = max(by_counter.get(counter, 0), most)
        total = max(1, max(once, int(first)) + sum(by_counter.values()))
        times[name] = total * (1 + _AGAIN.get(name, 0))
    return times


def _steps_without(every: Edges, counters: Set[str]) -> Edges:
    """The steps that none of these counters limits."""
    return [[s for s in steps if not s.counted or not any(c in counters for c, _ in s.counted)] for steps in every]


def _dividing(space: Space) -> frozenset[str]:
    """The counters without which some loop could begin the clocks that hold it again and again: as few as will do."""
    dividing = frozenset(c for steps in space.steps for s in steps for c, _ in s.counted) - _BY_THE_DOCKET
    # many steps are alike for this: of several roles, by several branches
    unlike: Edges = [list({(s.target, s.begun, s.counted): s for s in steps}.values()) for steps in space.steps]
    unlike = _steps_without(unlike, _BY_THE_DOCKET)
    for counter in sorted(dividing):
        fewer = dividing - {counter}
        edges = _steps_without(unlike, fewer)
        if _loop_in(space, edges, lambda step: step.begun, exploring.OPEN) is None:
            dividing = fewer
    return dividing


def _reachable(edges: Edges, of: Sequence[int]) -> list[int]:
    """For each component the components that it leads to, as bits."""
    count = max(of, default=-1) + 1
    following: list[set[int]] = [set() for _ in range(count)]
    for n, steps in enumerate(edges):
        following[of[n]].update(of[s.target] for s in steps)
    reach = [0] * count
    for c in range(count):  # Tarjan numbers a component after all those it leads to
        reach[c] = 1 << c
        for other in following[c] - {c}:
            reach[c] |= reach[other]
    return reach


def _carried(space: Space, edges: Edges, of: Sequence[int], component: int, name: str) -> bool:
    """Whether another clock runs through the whole loop, so that beginning this one in it gives no time."""
    nodes = [n for n in range(len(of)) if of[n] == component]
    through = frozenset.intersection(*(_open_in(space, n, exploring.OPEN) for n in nodes))
    inside = [s for n in nodes for s in edges[n] if of[s.target] == component]
    return bool(through - {g for s in inside for g in s.begun} - {name})


def _covering(flow: Workflow, space: Space, edges: Edges, of: Sequence[int]) -> tuple[frozenset[str], frozenset[str]]:
    """Clocks that together hold every open configuration: of each loop the enterprise's own if it has one.

    And those that run while a reply waits for its audit: the promise is held meanwhile, their time comes on top.
    """
    chosen: set[str] = set()
    order = list(flow.clocks)
    by_component: dict[int, list[int]] = {}
    for n in range(len(space.configs)):
        if space.open(n):
            by_component.setdefault(of[n], []).append(n)
    for component, nodes in by_component.items():
        through = frozenset.intersection(*(_open_in(space, n, exploring.OPEN) for n in nodes))
        through -= {g for n in nodes for s in edges[n] if of[s.target] == component for g in s.begun}
        if not through & chosen:
            chosen.add(min(through, key=lambda c: (flow.clocks[c].family != "enterprise", order.index(c))))
    audits = set()
    for n, config in enumerate(space.configs):
        if space.open(n) and any(state in exploring.HOLDING for state in config.clocks):
            audits.update(space.running(n)[:1])
    return frozenset(chosen), frozenset(audits)


def _favours(flow: Workflow, space: Space, covering: frozenset[str]) -> Iterator[tuple[str, int, Budget]]:
    """What can be granted on top, and the time of deciding it."""
    for kind, approval in flow.approvals.items():
        askers = _askers(flow, kind)
        names = {asker.name for asker in askers}
        times = {asker.name: _times_granted(flow, space, kind, asker) for asker in askers}
        for verb, arg in approval.approve.effects:
            if verb == "extend" and arg in covering:
                for asker in askers:
                    days = asker.form["properties"]["days"]["maximum"]
                    yield kind, times[asker.name], Budget(flow.clocks[arg].budget.measure, days)
            if verb == "pause" and set(arg["clocks"]) & covering:
                yield kind, sum(times.values()), flow.clocks[arg.get("cap", "pause_cap")].budget
        if set(approval.delays) & covering:
            asked = max(
                [
                    n
                    for steps in space.steps
                    for s in steps
                    for c, n in s.counted
                    if s.label.kind == "action" and s.label.name in names
                ],
                default=1,
            )
            yield approval.clock, asked * len(approval.levels), flow.clocks[approval.clock].budget


# --- telling -------------------------------------------------------------------------------------------------------------------


def _told(flow: Workflow, space: Space, n: int) -> tuple[str, ...]:
    return tuple(_step(flow, label) for label in space.path(n)) if n >= 0 else ()


_REVIEW_WORDS = {
    "propose": "提请一事一议 propose a review",
    "screen": "初审 the proposal is screened",
    "accepted": "初审通过 the review is accepted",
    "refused": "不予上会 the review is refused",
    "withdrawn": "撤回议题 the review is withdrawn",
    "decide": "议定 the review decides",
    "completed": "议定事项完成 the last measure is struck off",
    "request_opinions": "征求意见 opinions are asked for",
    "give_opinion": "提交意见 an opinion is given",
}


def _step(flow: Workflow, label: Label) -> str:
    """One step for people: what happens, in both languages and by its name in the file."""
    if label.kind == "open":
        return f"新工单 a new ticket ({label.name})"
    if label.kind == "action":
        title = flow.actions[label.name].title
        return f"{title['zh']} {title['en']} ({label.name} by {label.role or 'somebody'})"
    if label.kind == "approval":
        title = flow.approvals[label.name].title
        return f"{title['zh']} {title['en']}: {label.detail} ({label.name})"
    if label.kind == "timer":
        title = flow.clocks[label.name].title
        return f"{title['zh']} {title['en']}: the timer {label.detail} ({label.name})"
    words = _REVIEW_WORDS[label.name]
    return f"{words} ({label.detail})" if label.detail else words


def _path_of(flow: Workflow, label: Label) -> Path:
    """Where the rule of a step stands in the file."""
    if label.kind == "open":
        return ("open", label.name)
    if label.kind == "action":
        return _branch_path(flow.actions[label.name], label.branch)
    if label.kind == "approval":
        return ("approvals", label.name, label.detail if label.detail in {"approve", "deny"} else "levels")
    if label.kind == "timer":
        for where, rung in _of(flow.clocks[label.name]):
            if (rung.time.series or rung.name) == label.detail:
                return ("clocks", label.name, *where)
        return ("clocks", label.name)
    step = {"decide": "decided", "propose": "proposed"}.get(label.name, label.name)
    return ("review", step, label.branch) if flow.review.get(step) else ("review",)
