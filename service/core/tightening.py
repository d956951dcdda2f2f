"""An overlay may only tighten what it extends: `loosened` names the first thing that it loosens.

The rules, as workflows/README.md tells them to process owners:

  clocks    none is removed; family, anchor and calendar stay. A budget is not longer: in the same measure by number, in
            another only if it cannot be longer on any calendar. Cycles begin no more generously (continue, new, restart)
  rungs     each is still there, by what it does: another that comes no later and tells, cards and proposes at least as
            much will do. The breach does at least what it did, and leads where it led
  laws      a statutory limit is not removed or raised
  stages    none is removed, none changes its phase; more may be added
  actions   what the hotline may do for the enterprise stays as it is: action, stages, guard. Of the others only a request
            (an extension, a pause, a return) may be taken away. Roles are not widened, `not_by` is kept, a guard keeps
            what it asked (a number that it compares with may be lowered) and may ask more
  forms     what was required still is; a choice, a maximum, a number of items is not raised
  effects   what was done is still done, in some branch; no pause, extension, excuse or end of an enterprise's clock is added
  approvals roles are not widened, levels not fewer, none that grants time is added; delays are not more
  the rest  `oldest_received_days` not more, `callback_window_days` not fewer, `split` not from inherit to restart
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from service.core.budgets import DAY_US, HOUR_US, Budget, Measure
from service.core.checking import Fault
from service.core.definitions import (
    ActionDef,
    ApprovalDef,
    Branch,
    ClockDef,
    Level,
    Path,
    Rung,
    Workflow,
    rungs_with_paths,
)
from service.core.model import Role

SHORTEST_DAY_HOURS = 16
"""A limit of one day, set at any time before midnight, leaves at least this long: to the close of the next day's office."""
_CYCLES = ("continue", "new", "restart")
_GENEROUS = frozenset({"extend", "pause", "excuse", "replace"})
_ENDING = frozenset({"meet", "settle", "cancel"})


def loosened(base: Workflow, over: Workflow) -> Iterator[Fault]:
    """Everything in which `over`, which extends `base`, is more generous than it."""
    if over.calendar != base.calendar:
        yield _fault(("calendar",), f"the calendar {base.calendar} is changed", "工作日历被更换", base.calendar)
    if over.oldest_received_days > base.oldest_received_days:
        yield _more(("oldest_received_days",), over.oldest_received_days, base.oldest_received_days)
    if over.callback_window_days < base.callback_window_days:
        yield _fault(
            ("callback_window_days",),
            f"{over.callback_window_days} is fewer than {base.callback_window_days}: "
            "later reopenings begin the clocks again",
            "回访期缩短",
            f"at least {base.callback_window_days}",
        )
    if (base.split, over.split) == ("inherit", "restart"):
        yield _fault(("split",), "parts that are split off begin their clocks again", "拆分后重新计时", "inherit")
    for name, (phase, _) in base.stages.items():
        if name not in over.stages:
            yield _gone(("stages", name))
        elif over.phase(name) is not phase:
            yield _fault(("stages", name, "phase"), f"the phase of {name!r} is changed", "环节类别被更改", phase.value)
    for name, clock in base.clocks.items():
        yield from _clock(clock, over.clocks.get(name))
    for name, action in base.actions.items():
        yield from _action(base, action, over.actions.get(name))
    for kind, approval in base.approvals.items():
        if kind in over.approvals:
            yield from _approval(base, approval, over.approvals[kind])
    for kind in over.approvals.keys() - base.approvals.keys():
        for key, branch in (("approve", over.approvals[kind].approve), ("deny", over.approvals[kind].deny)):
            yield from _added(base, ("approvals", kind, key), [], [branch])
        if over.approvals[kind].delays:
            yield _fault(
                ("approvals", kind, "delays"),
                "clocks wait for a request that the base does not know",
                "增加了会推迟到期的申请",
                "no `delays`",
            )
    for name in over.actions.keys() - base.actions.keys():
        action = over.actions[name]
        for n, branch in enumerate(action.branches):
            yield from _added(base, _branch_path(action, n), [], [branch])
    for how, branch in base.opened.items():
        if how in over.opened:
            yield from _effects(base, ("open", how), [branch], [over.opened[how]])
    for step, branches in base.review.items():
        yield from _effects(base, ("review", step), branches, over.review[step])


def _fault(path: Path, en: str, zh: str, expected: object) -> Fault:
    return Fault(path, f"放宽了上级流程：{zh}", f"it loosens what it extends: {en}", str(expected))


def _gone(path: Path) -> Fault:
    return _fault(path, f"{path[-1]!r} is removed", f"删除了 {path[-1]}", f"{path[-1]} as in what it extends")


def _more(path: Path, given: object, most: object) -> Fault:
    return _fault(path, f"{given} is more than {most}", f"{given} 超过 {most}", f"at most {most}")


# --- clocks --------------------------------------------------------------------------------------------------------------


def not_longer(budget: Budget, than: Budget) -> bool:
    """Whether a budget is never longer than another, on any calendar; False also where that cannot be said."""
    if budget.measure is than.measure:
        return budget.amount <= than.amount
    if budget.measure is Measure.natural_days and than.measure is Measure.working_days:
        return budget.amount <= than.amount
    if budget.measure is not Measure.natural_hours:
        return False
    if than.measure is Measure.working_hours:
        return budget.amount <= than.amount
    return budget.amount <= (than.amount - 1) * DAY_US + SHORTEST_DAY_HOURS * HOUR_US


def _clock(base: ClockDef, over: ClockDef | None) -> Iterator[Fault]:
    path: Path = ("clocks", base.name)
    if over is None:
        yield _gone(path)
        return
    if over.family != base.family:
        yield _fault((*path, "family"), f"the family {base.family} is changed", "时钟类别被更改", base.family)
    if over.anchor not in {base.anchor, "received_at"}:
        yield _fault(
            (*path, "anchor"), f"it counts from {over.anchor}, not from {base.anchor}", "起算时刻被推后", base.anchor
        )
    if over.contacts and not base.contacts:
        yield _fault((*path, "contacts"), "a promise is no longer made to all", "不再对所有诉求承诺", "left out")
    for key, given, most in (("budget", over.budget, base.budget), ("rework_budget", over.rework, base.rework)):
        if not not_longer(given, most):
            unlike = given.measure is not most.measure
            told = f"{given.text()} {given.measure} may be longer than {most.text()} {most.measure}"
            yield _fault(
                (*path, "measure" if unlike else key), told, "时限可能更长", f"at most {most.text()} {most.measure}"
            )
    for key in ("rounds", "reopened", "reopened_late"):
        if _CYCLES.index(getattr(over, key)) > _CYCLES.index(getattr(base, key)):
            yield _fault(
                (*path, key),
                f"{getattr(over, key)} gives more than {getattr(base, key)}",
                "重新计时更宽",
                getattr(base, key),
            )
    if base.statutory is not None:
        law, now = base.statutory, over.statutory
        if now is None:
            yield _gone((*path, "statutory"))
        elif not not_longer(now.limit, law.limit):
            yield _more((*path, "statutory", "limit"), now.limit.text(), law.limit.text())
        elif now.extension is not None and (law.extension is None or now.extension.amount > law.extension.amount):
            yield _more(
                (*path, "statutory", "extension"), now.extension.text(), law.extension.text() if law.extension else 0
            )
    own = rungs_with_paths(over)
    for where, rung in rungs_with_paths(base):
        if where == ("breach",):
            breach = over.rungs["breach"]
            if breach.to != rung.to or not _does_as_much(breach, rung):
                yield _fault(
                    (*path, "breach"), "the breach does less, or leads elsewhere", "到期后的处理减少", _does(rung)
                )
        elif not any(_no_later(over, r, base, rung) and _does_as_much(r, rung) for w, r in own if w != ("breach",)):
            yield _fault(
                (*path, "rungs"),
                f"the step {rung.name!r} is removed, later or does less",
                f"升级步骤 {rung.name} 被删除、推后或减少",
                f"a rung no later that does: {_does(rung)}",
            )


def _does(rung: Rung) -> str:
    return ", ".join(f"{verb}: {arg}" if arg is not None else verb for verb, arg in rung.effects) or "nothing"


def _does_as_much(rung: Rung, than: Rung) -> bool:
    """Everything that the other does, and it does it as often or more; somebody more may be told."""
    if rung.when is not None and (than.when is None or rung.when.source != than.when.source):
        return False
    told = {to for verb, arg in rung.effects if verb == "notify" for to in arg}
    rest = [e for e in rung.effects if e[0] != "notify"]
    return all(set(arg) <= told if verb == "notify" else (verb, arg) in rest for verb, arg in than.effects)


def _no_later(over: ClockDef, rung: Rung, base: ClockDef, than: Rung) -> bool:
    """Whether a rung comes no later than another one, each counted from its clock's anchor."""
    mine, other = rung.time, than.time
    if other.kind == "after":
        if mine.kind != "after":
            return mine.series is None and other.series is None
        assert mine.offset is not None and other.offset is not None
        repeated = sum(r.time.series == mine.series for r in over.rungs.values()) if mine.series else 1
        wanted = sum(r.time.series == other.series for r in base.rungs.values()) if other.series else 1
        return not_longer(mine.offset, other.offset) and repeated >= wanted
    if mine.kind == "after":
        return False
    if mine.kind == other.kind == "before" and mine.offset is not None and other.offset is not None:
        sooner = mine.offset.measure is other.offset.measure and mine.offset.amount >= other.offset.amount
        if sooner and not_longer(over.budget, base.budget):
            return True
    latest, earliest = _from_anchor(over, rung), _from_anchor(base, than)
    if latest is None or earliest is None:
        # steps of unlike measures: no later if the whole budget is used up by then
        shortened = _from_anchor(base, than, whole=False)
        return shortened is not None and not_longer(over.budget, shortened)
    if mine.kind == other.kind == "before" and over.budget.measure is not base.budget.measure:
        return False
    return not_longer(latest, earliest)


def _from_anchor(clock: ClockDef, rung: Rung, whole: bool = True) -> Budget | None:
    """How much of the budget is used up at a rung before the due time; None: it is told in another measure."""
    budget, time = clock.budget, rung.time
    if time.kind == "share":
        used = -(-budget.amount * time.percent // 100)
        return Budget(budget.measure, max(1, used))
    assert time.offset is not None
    if time.offset.measure is not budget.measure:
        return None
    left = budget.amount - time.offset.amount
    return Budget(budget.measure, left) if left > 0 else Budget(budget.measure, 1)


# --- actions, forms, approvals ----------------------------------------------------------------------------------------------


def _action(flow: Workflow, base: ActionDef, over: ActionDef | None) -> Iterator[Fault]:
    path: Path = ("actions", base.name)
    of_enterprise = Role.HOTLINE in base.roles
    if over is None:
        asks = any(verb == "request" for b in base.branches for verb, _ in b.effects)
        if of_enterprise or not asks:
            yield _gone(path)
        return
    if over.roles - base.roles:
        yield _fault(
            (*path, "roles"),
            f"{', '.join(sorted(over.roles - base.roles))} may do it too",
            "扩大了可办理的角色",
            ", ".join(sorted(base.roles)),
        )
    if of_enterprise and (Role.HOTLINE not in over.roles or base.stages - over.stages):
        yield _fault(
            (*path, "stages" if base.stages - over.stages else "roles"),
            "the hotline could do it for the enterprise",
            "减少了企业的权利",
            f"{', '.join(sorted(base.stages))} by hotline",
        )
    if set(base.not_by) - set(over.not_by):
        yield _fault((*path, "not_by"), "four eyes are given up", "取消了四眼原则", f"not_by: {', '.join(base.not_by)}")
    before, after = (a.guard.source if a.guard is not None else None for a in (base, over))
    if of_enterprise and after is not None and not _guards_as(after, before or "", alike=True):
        yield _fault(
            (*path, "guard"), "the enterprise's right is made harder", "企业权利的条件更严", before or "no guard"
        )
    if before is not None and (after is None or not _guards_as(after, before)):
        yield _fault((*path, "guard"), "the guard asks less", "条件放宽", f"{before} && more")
    yield from _form((*path, "form"), base.form, over.form)
    yield from _effects(flow, path, base.branches, over.branches, action=over)


def _guards_as(guard: str, base: str, alike: bool = False) -> bool:
    """Whether a guard asks everything that another asks; numbers it compares with may be lower. `alike`: and no more."""
    asked, given = _conjuncts(base), _conjuncts(guard)
    covered = all(any(_implies(mine, other) for mine in given) for other in asked)
    return covered and (not alike or len(given) <= len(asked))


def _conjuncts(source: str) -> list[str]:
    """The parts of a guard that are joined by && outside of brackets; one with an outer || is one part."""
    parts, depth, start, either = [], 0, 0, False
    for n, char in enumerate(source):
        depth += (char in "([") - (char in ")]")
        if depth == 0 and source.startswith("||", n):
            either = True
        if depth == 0 and source.startswith("&&", n):
            parts.append(source[start:n])
            start = n + 2
    parts.append(source[start:])
    return [p for part in ([source] if either else parts) if (p := re.sub(r"\s+", "", part))]


_LIMIT = re.compile(r"(counters\.\w+|ticket\.round)(<=|<)(\d+)")


def _implies(mine: str, other: str) -> bool:
    if mine == other:
        return True
    a, b = _LIMIT.fullmatch(mine), _LIMIT.fullmatch(other)
    exact = re.fullmatch(r"(counters\.\w+)==0", mine)
    if exact and b:
        return exact[1] == b[1] and (b[2] == "<=" or int(b[3]) > 0)
    return a is not None and b is not None and a[1] == b[1] and _most(a) <= _most(b)


def _most(limit: re.Match[str]) -> int:
    return int(limit[3]) - (limit[2] == "<")


_LIMITS = ("maximum", "exclusiveMaximum", "maxItems", "maxLength")
_LEAST = ("minimum", "exclusiveMinimum", "minItems", "minLength")


def _form(path: Path, base: Mapping[str, Any], over: Mapping[str, Any]) -> Iterator[Fault]:
    missing = [name for name in base.get("required", ()) if name not in over.get("required", ())]
    if missing:
        yield _fault((*path, "required"), f"{missing[0]!r} need not be given", "减少了必填内容", missing[0])
    for name, field in base.get("properties", {}).items():
        if name not in over.get("properties", {}):
            continue
        yield from _field((*path, "properties", name), field, over["properties"][name])


def _field(path: Path, base: Mapping[str, Any], over: Mapping[str, Any]) -> Iterator[Fault]:
    for key in _LIMITS:
        if key in base and (key not in over or over[key] > base[key]):
            yield _more((*path, key), over.get(key, "no limit"), base[key])
    for key in _LEAST:
        if key in base and over.get(key, 0) < base[key]:
            yield _fault((*path, key), f"{over.get(key, 'no limit')} is less than {base[key]}", "下限降低", base[key])
    if "enum" in base and set(map(str, over.get("enum", ["anything"]))) - set(map(str, base["enum"])):
        yield _fault((*path, "enum"), "more can be chosen", "增加了可选项", ", ".join(map(str, base["enum"])))
    if base.get("type") != over.get("type") or base.get("x-kind") != over.get("x-kind"):
        yield _fault(
            path, "the field is of another kind", "字段类型被更改", base.get("x-kind") or base.get("type") or "enum"
        )


def _approval(flow: Workflow, base: ApprovalDef, over: ApprovalDef) -> Iterator[Fault]:
    path: Path = ("approvals", base.kind)
    left = list(over.levels)
    for level in base.levels:
        as_strict = [o for o in left if o.roles <= level.roles and (o.when is None or _when(level) in _alternatives(o))]
        if not as_strict:
            where = (*path, "levels" if len(over.levels) > 1 or len(base.levels) > 1 else "roles")
            yield _fault(
                where,
                f"it need not be decided by: {', '.join(sorted(level.roles))}",
                "扩大了审批角色或减少了审批层级",
                f"a level of {', '.join(sorted(level.roles))} for every request that had one",
            )
            return
        left.remove(as_strict[0])
    if set(over.delays) - set(base.delays):
        yield _fault(
            (*path, "delays"),
            "more clocks wait for its decision",
            "更多时钟因审批推迟",
            ", ".join(base.delays) or "none",
        )
    yield from _effects(flow, (*path, "approve"), [base.approve], [over.approve])
    yield from _effects(flow, (*path, "deny"), [base.deny], [over.deny])


# --- effects -----------------------------------------------------------------------------------------------------------------


def _effects(
    flow: Workflow, path: Path, base: Sequence[Branch], over: Sequence[Branch], action: ActionDef | None = None
) -> Iterator[Fault]:
    if _same(base, over):
        return
    done = {_plain(e) for b in over for e in b.effects}
    for branch in base:
        for verb, arg in branch.effects:
            enough = any(v == "notify" and set(arg) <= set(a) for v, a in _pairs(over)) if verb == "notify" else False
            if not enough and _plain((verb, arg)) not in done:
                where = (*path, "branches") if action is not None and len(action.branches) > 1 else path
                yield _fault(where, f"the effect {verb!r} ({arg}) is left out", f"去掉了 {verb}", f"{verb}: {arg}")
                return
    yield from _added(flow, path, base, over)


def _same(base: Sequence[Branch], over: Sequence[Branch]) -> bool:
    return [(b.effects, b.to, _when(b)) for b in base] == [(b.effects, b.to, _when(b)) for b in over]


def _when(branch: Branch | Level) -> str | None:
    return None if branch.when is None else str(branch.when.source)


def _alternatives(level: Level) -> list[str]:
    """The conditions of which each alone makes a level needed; one in brackets stays as it is."""
    source = _when(level) or ""
    return [source] if "(" in source else [source, *(part.strip() for part in source.split("||"))]


def _pairs(branches: Iterable[Branch]) -> Iterator[tuple[str, Any]]:
    return (effect for branch in branches for effect in branch.effects)


def _plain(effect: tuple[str, Any]) -> str:
    return repr(effect)


def _added(flow: Workflow, path: Path, base: Sequence[Branch], over: Sequence[Branch]) -> Iterator[Fault]:
    """No time is granted that the base did not grant, and no promise to an enterprise ended."""
    known = {_plain(e) for e in _pairs(base)}
    for verb, arg in _pairs(over):
        ends = verb in _ENDING and arg in flow.clocks and flow.clocks[arg].family == "enterprise"
        if (verb in _GENEROUS or ends) and _plain((verb, arg)) not in known:
            yield _fault(path, f"{verb!r} ({arg}) is added", f"增加了 {verb}", "no more time, and no promise ended")
            return


def _branch_path(action: ActionDef, n: int) -> Path:
    return ("actions", action.name, "branches", n) if len(action.branches) > 1 else ("actions", action.name)
