"""The state space of a workflow: every configuration that a ticket can come to, and by which steps.

A configuration is what the workflow's rules can tell apart: stage, lead and its leg, co-handlers, review, pending requests
with their level, each clock's state, and those counters that are told apart. Time is left out: whatever is running may
fire at any moment, so every real history has its path here (and some paths have no history). What a form holds and what
the facts of a ticket are is taken both ways (`conditions`). The effects are those of `effects` and `review`; a test
walks both together.

What does not touch any of this (titles, budgets, notices, records) is cut away first (`structure`), so that workflows
which differ in their figures only are explored once.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from service.core.conditions import Choice, Outcomes, Read, Shape, choice, numbers_around, shape, texts_of, whole_shape
from service.core.definitions import Branch, Rung, Workflow
from service.core.model import Phase, Role, Ticket

# --- the bones of a workflow ---------------------------------------------------------------------------------------

Effects = tuple[tuple[str, Any], ...]


class Way(NamedTuple):
    """A branch, rung or breach as far as it changes a configuration. `times`: rungs of a series count as one."""

    name: str
    kind: str
    when: str | None
    effects: Effects
    to: str | None


_PROPOSED_BY_HAND = Way("", "review", None, (("propose_review", "manual"),), None)


class Act(NamedTuple):
    name: str
    stages: tuple[str, ...]
    roles: tuple[str, ...]
    guard: str | None
    ways: tuple[Way, ...]
    form: str | None
    anywhere: bool
    """Done in every open stage (a withdrawal), or to several tickets (a merge): no way out of a stage of its own."""


class Timer(NamedTuple):
    """A clock. `graded`: whether it matters that it is breached."""

    name: str
    family: str
    continues: bool
    rungs: tuple[Way, ...]
    graded: bool


class Ruling(NamedTuple):
    """An approval. `optional`: of each level, whether it is passed over for some requests."""

    kind: str
    clock: str
    delays: tuple[str, ...]
    optional: tuple[bool, ...]
    approve: Way
    deny: Way


class Bones(NamedTuple):
    stages: tuple[tuple[str, str], ...]
    clocks: tuple[Timer, ...]
    acts: tuple[Act, ...]
    rulings: tuple[Ruling, ...]
    opened: tuple[Way, ...]
    review: tuple[tuple[str, tuple[Way, ...]], ...]
    domains: frozenset[str]


_MOVING = frozenset(
    {
        "accept", "add_co_handlers", "assign_lead", "assign_to", "cancel", "clear_lead", "close", "count", "end_leg",
        "excuse", "extend", "hold", "meet", "new_round", "pause", "propose_review", "release", "reopen", "replace",
        "request", "resume", "settle", "sign_off", "start", "submit_leg", "substitute", "withdraw_open",
    }
)  # fmt: skip
"""The effects that change a configuration; the others (notify, record, card, outcome, …) do not."""
_OF_CLOCKS = frozenset({"start", "meet", "cancel", "hold", "release", "settle", "extend", "replace"})
_QUIET = frozenset({"count"})
_NAMED_LEAD = re.compile(r"ticket\.lead\s*(?:[!=]=\s*[\"'][^\"']|in\b)")
JOINING = frozenset({"merge", "split"})
GIVEN_BY_HAND = frozenset({"yellow_cards", "red_cards"})
"""Counters that also grow beside the workflow: supervisors give cards at any time."""


def structure(flow: Workflow, clocks: frozenset[str]) -> Bones:
    """What the state space depends on, with these clocks only: one that is left out counts as never running."""
    read = {r for s in _sources(flow) for r in shape(s).reads}
    timers = []
    for clock in flow.clocks.values():
        if clock.name not in clocks:
            continue
        rungs = tuple(
            dict.fromkeys(
                _way(rung, clocks, rung.time.series or rung.name, rung.time.kind) for rung in clock.rungs.values()
            )
        )
        moving = tuple(w for w in rungs if w.kind == "due" or _moves(w))
        late = any(_moves(w) for w in moving if w.kind in {"due", "after"})
        graded = late or any(r[0] == "clocks" and r[1] == clock.name and r[2:] != ("open",) for r in read)
        graded = graded or (clock.name.startswith("co_") and any(r[0] == "legs" and r[1] != "waiting" for r in read))
        continues = "continue" in {clock.rounds, clock.reopened, clock.reopened_late}
        timers.append(Timer(clock.name, clock.family, continues, moving, graded))
    acts = []
    for action in flow.actions.values():
        branches = action.branches[:1] if action.name in JOINING else action.branches
        ways = tuple(_way(b, clocks, str(n), "act") for n, b in enumerate(branches))
        form = json.dumps(action.form, sort_keys=True) if any(w.when for w in ways) else None
        roles = tuple(sorted(action.roles))
        anywhere = action.everywhere or action.name in JOINING
        acts.append(Act(action.name, tuple(sorted(action.stages)), roles, _source(action.guard), ways, form, anywhere))
    return Bones(
        stages=tuple((name, str(phase)) for name, (phase, _) in flow.stages.items()),
        clocks=tuple(timers),
        acts=tuple(acts),
        rulings=tuple(
            Ruling(
                a.kind,
                a.clock,
                a.delays,
                tuple(level.when is not None for level in a.levels),
                _way(a.approve, clocks, "approve", "ruling"),
                _way(a.deny, clocks, "deny", "ruling"),
            )
            for a in flow.approvals.values()
        ),
        opened=tuple(_way(b, clocks, how, "open") for how, b in flow.opened.items()),
        review=tuple(
            (step, tuple(_way(b, clocks, str(n), "review") for n, b in enumerate(branches)))
            for step, branches in flow.review.items()
        ),
        domains=flow.domains if ("ticket", "domain") in read else frozenset(),
    )


def telling_clocks(flow: Workflow) -> frozenset[str]:
    """The clocks without which the rest is no longer the same: read by a condition, moving the ticket, or the centre's."""
    read = {r[1] for s in _sources(flow) for r in shape(s).reads if r[0] == "clocks"}
    if any(r[0] == "legs" for s in _sources(flow) for r in shape(s).reads):
        read |= {name for name in flow.clocks if name.startswith("co_")}
    every = frozenset(flow.clocks)
    return frozenset(
        name
        for name, clock in flow.clocks.items()
        # one that is not started for every ticket proves nothing: it counts as never running
        if clock.contacts is False
        and (
            name in read
            or clock.family == "centre"
            or any(_moves(_way(r, every, "", "")) for r in clock.rungs.values())
        )
    )


def _sources(flow: Workflow) -> Iterator[str]:
    conditions = [a.guard for a in flow.actions.values()]
    conditions += [b.when for a in flow.actions.values() for b in a.branches]
    conditions += [r.when for c in flow.clocks.values() for r in c.rungs.values()]
    conditions += [b.when for branches in flow.review.values() for b in branches]
    return (c.source for c in conditions if c is not None)


def _source(program: Any) -> str | None:
    return None if program is None else str(program.source)


def _moves(way: Way) -> bool:
    return way.to is not None or any(verb not in _QUIET for verb, _ in way.effects)


def _way(branch: Branch | Rung, clocks: frozenset[str], name: str, kind: str) -> Way:
    effects = tuple(e for verb, arg in branch.effects if verb in _MOVING for e in _effect(verb, arg, clocks))
    return Way(name, kind, _source(branch.when), effects, branch.to)


def _effect(verb: str, arg: Any, clocks: frozenset[str]) -> Effects:
    if verb in _OF_CLOCKS:
        return ((verb, arg),) if arg in clocks else ()
    if verb in {"pause", "resume", "excuse"}:
        names = arg if verb == "excuse" else arg["clocks"]
        kept = tuple(name for name in names if name in clocks)
        return ((verb, kept),) if kept else ()
    return ((verb, arg if isinstance(arg, str) else None),)


# --- configurations ------------------------------------------------------------------------------------------------

NEVER, OFF, RUNNING, LATE, PAUSED, PAUSED_LATE, HELD, HELD_LATE, ENDED = range(9)
"""States of a clock. OFF: none of this name in this cycle. NEVER: none at all yet (a condition that reads it fails)."""
OPEN = frozenset({RUNNING, LATE, PAUSED, PAUSED_LATE, HELD, HELD_LATE})
STOPPED = frozenset({PAUSED, PAUSED_LATE})
HOLDING = frozenset({HELD, HELD_LATE})
_RUNS = frozenset({RUNNING, LATE})
_PAUSE = {RUNNING: PAUSED, LATE: PAUSED_LATE}
_HOLD = {RUNNING: HELD, LATE: HELD_LATE, PAUSED: HELD, PAUSED_LATE: HELD_LATE, HELD: HELD, HELD_LATE: HELD_LATE}
_RESUME = {PAUSED: RUNNING, PAUSED_LATE: LATE}
_RELEASE = {HELD: RUNNING, HELD_LATE: LATE, **_RESUME, RUNNING: RUNNING, LATE: LATE}
_NAMES = {RUNNING: "running", LATE: "breached_running", PAUSED: "paused", PAUSED_LATE: "paused", HELD: "held",
          HELD_LATE: "held", OFF: "met", ENDED: "met"}  # fmt: skip

NO_LEG, PENDING, ACCEPTED, SUBMITTED = range(4)
_LEG = ("", "pending", "accepted", "submitted")
NONE, WAITING, REPLIED, SOME_LATE = range(4)
"""Co-handlers: none, one is waited for, all have replied, none is waited for but one is late."""
NO_REVIEW, PROPOSED, PREPARING, DECIDED = range(4)
POSTPONED, REFERRED, RETURNED = "a review's one postponement", "a review's referrals up", "a proposal's returns"
BY_THE_DOCKET = {POSTPONED: 1, REFERRED: 2, RETURNED: 2}
"""Stand for counters: the docket itself sees to it that a matter is postponed once, referred up to the third tier at
most, and that its proposal is sent back for more work twice at most."""
LEAD, CO, STALE, NOBODY = "lead", "co_handler", "stale", ""
"""For which leg somebody acts; STALE: a leg that has ended since the request was made."""


class Config(NamedTuple):
    stage: str
    lead: bool
    leg: int
    co: int
    review: int
    pending: tuple[tuple[int, str], ...]
    """Of each approval: the level that decides now (0: none), and for which leg it was asked."""
    clocks: tuple[int, ...]
    counters: tuple[int, ...]

    def at(self, clocks: tuple[int, ...]) -> Config:
        """With other clocks: `_replace` in half its time, for what is done most often."""
        return Config(self[0], self[1], self[2], self[3], self[4], self[5], clocks, self[7])


class Label(NamedTuple):
    """What leads from one configuration to another. `kind`: open, action, approval, review, timer."""

    kind: str
    name: str
    detail: str
    branch: int = 0
    role: str = ""


class Step(NamedTuple):
    label: Label
    target: int
    begun: frozenset[str]
    """Clocks that begin with this step."""
    favoured: frozenset[str]
    """Clocks that are paused, extended or excused with it."""
    counted: tuple[tuple[str, int], ...]
    """Counters that bound this step: how often it is possible at most."""

    @property
    def granted(self) -> frozenset[str]:
        """Clocks that give more time after it than before."""
        return self.begun | self.favoured


@dataclass(frozen=True, slots=True)
class Trouble:
    """A step that goes wrong by itself: what, at which label, in which configuration."""

    kind: str
    detail: str
    label: Label
    at: int


@dataclass(slots=True)
class Space:
    """All that can be reached. `certain`: of each configuration the moves that somebody can always make, each as the
    targets for every course of fate; a move leads on if one target of each does."""

    bones: Bones
    counters: tuple[str, ...]
    configs: list[Config] = field(default_factory=list)
    index: dict[Config, int] = field(default_factory=dict)
    came_by: list[tuple[int, Label]] = field(default_factory=list)
    steps: list[list[Step]] = field(default_factory=list)
    certain: list[list[tuple[frozenset[int], ...]]] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    done: set[tuple[str, str]] = field(default_factory=set)
    """(action, stage) that somebody can do."""
    complete: bool = True
    memo: dict[str, Any] = field(default_factory=dict)
    """What was concluded from it: workflows that differ in figures only share a space."""
    open_in: dict[frozenset[int], dict[tuple[int, ...], frozenset[str]]] = field(default_factory=dict)
    """Which clocks are in one of these states, by the states of all."""
    phases: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.phases = dict(self.bones.stages)

    def open(self, n: int) -> bool:
        return self.phase(n) != Phase.CLOSED

    def phase(self, n: int) -> str:
        return self.phases[self.configs[n].stage]

    def path(self, n: int) -> list[Label]:
        """The shortest way to a configuration."""
        labels = []
        while n >= 0:
            n, label = self.came_by[n]
            labels.append(label)
        return labels[::-1]

    def running(self, n: int) -> list[str]:
        config = self.configs[n]
        return [t.name for t, state in zip(self.bones.clocks, config.clocks, strict=True) if state in _RUNS]


class _Impossible(Exception):
    """The engine would refuse this step, and says why to who tries."""


class _Wrong(Exception):
    """The engine would fail at this step: a fault of the workflow."""


@dataclass(slots=True)
class _Moment:
    """What effects look at besides the configuration, and what they tell."""

    leg: str = NOBODY
    ruling: str | None = None
    begun: frozenset[str] = frozenset()
    favoured: frozenset[str] = frozenset()
    counted: frozenset[str] = frozenset()
    asked_twice: str | None = None


Alternatives = list[list[Config]]
"""For each course of fate what can come of a step, of which the better happens in the end."""


class Machine:
    """Carries out the steps of a workflow's bones on configurations."""

    def __init__(self, bones: Bones, counters: tuple[str, ...]) -> None:
        self.bones, self.counters = bones, counters
        self.phases = dict(bones.stages)
        self.clock = {t.name: n for n, t in enumerate(bones.clocks)}
        self.ruling = {r.kind: n for n, r in enumerate(bones.rulings)}
        self.review = dict(bones.review)
        ways = [w for a in bones.acts for w in a.ways]
        ways += [w for t in bones.clocks for w in t.rungs] + [w for _, ws in bones.review for w in ws]
        ways += [w for r in bones.rulings for w in (r.approve, r.deny)] + list(bones.opened)
        self.counts = {arg for w in ways for verb, arg in w.effects if verb == "count"}
        self.rounds = any(verb == "new_round" for w in ways for verb, _ in w.effects)
        sources = [s for a in bones.acts for s in (a.guard, *(w.when for w in a.ways)) if s]
        sources += [w.when for t in bones.clocks for w in t.rungs if w.when]
        sources += [w.when for _, ws in bones.review for w in ws if w.when]
        shapes = [shape(s) for s in sources]
        reads = {r for s in shapes for r in s.reads}
        self.literals: dict[str, frozenset[int]] = {}
        for s in shapes:
            for read in s.reads:
                self.literals[".".join(read)] = self.literals.get(".".join(read), frozenset()) | s.numbers
        self.clocks_read = {r[1] for r in reads if r[0] == "clocks"}
        self.names_a_lead = any(_NAMED_LEAD.search(s) for s in sources)
        self._getters: dict[Choice, tuple[Callable[[Config, tuple[str, str]], Any], ...]] = {}
        self.choices = {a.name: self._choice(a.guard, tuple(w.when for w in a.ways), a.form) for a in bones.acts}
        self.rung_choices = {
            (t.name, w.name): self._choice(w.when, (None,)) for t in bones.clocks for w in t.rungs if w.when
        }
        self.review_choices = {step: self._choice(None, tuple(w.when for w in ws)) for step, ws in bones.review}
        co = [t.name for t in bones.clocks if t.family == "assignment" and t.name.startswith("co_")]
        self.co_clocks = [self.clock[name] for name in co]
        moving = any(_moves(w) for t in bones.clocks if t.name in co for w in t.rungs)
        told = {r[1] for r in reads if r[0] == "legs"} - {"waiting"} or self.clocks_read & set(co)
        self.co_coarse = not (moving or told)
        """Whether it matters only if a co-handler is waited for: those that replied or are late count as none."""
        self.co_tracked = bool(co) or any(r[0] == "legs" for r in reads)
        self.lead_clocks = [n for n, t in enumerate(bones.clocks) if t.family == "assignment" and t.name not in co]
        self._kept = [tuple(_told_apart(t, state) for state in range(ENDED + 1)) for t in bones.clocks]
        """Of each clock, by its state: `_told_apart`."""
        self._idle = ((0, NOBODY),) * len(bones.rulings)
        self._steps: dict[int, tuple[Way, list[tuple[Any, Any]]]] = {}
        """By identity: the hash of a way is that of all that it holds."""

    # -- what conditions read ----------------------------------------------------------------------------------------

    def _choice(self, guard: str | None, whens: tuple[str | None, ...], form: str | None = None) -> Choice:
        whole = whole_shape(s for s in (guard, *whens) if s is not None)
        reads = sorted(r for r in whole.reads if r[0] != "form")
        known = tuple(r for r in reads if self._known(r))
        fates = tuple((r, tuple(self._fate(r, whole))) for r in reads if not self._known(r))
        made = choice(guard, whens, form, known, fates)
        self._getters[made] = tuple(self._getter(read) for read in known)
        return made

    def outcomes(self, choice: Choice, config: Config, leg: tuple[str, str] = (NOBODY, "")) -> Outcomes:
        """What a choice can come to in a configuration, for who acts for this leg (role, state)."""
        return choice.outcomes(self.values(choice, config, leg))

    def values(self, choice: Choice, config: Config, leg: tuple[str, str]) -> tuple[Any, ...]:
        """Of what a choice reads and is known, in its order."""
        return tuple([get(config, leg) for get in self._getters[choice]])

    def _known(self, read: Read) -> bool:
        root, *path = read
        if read == ("ticket", "lead"):
            return not self.names_a_lead
        if root == "ticket":
            return path[0] in {"stage", "phase"} or (path[0] == "round" and "ticket.round" in self.counters)
        if root == "leg":
            return path[0] in {"role", "state"}
        if root == "legs":
            return self.literals[".".join(read)] <= {0}
        if root == "counters":
            return path[0] in self.counters
        if root == "clocks":
            return path[0] in self.clock
        return root in {"pending", "review"}

    def _fate(self, read: Read, whole: Shape) -> Sequence[Any]:
        root, name = read[0], read[1]
        if root == "counters":
            given = name in self.counts or name in GIVEN_BY_HAND
            return numbers_around(whole.numbers, 0) if given else [0]
        if read == ("ticket", "round"):
            return numbers_around(whole.numbers, 1) if self.rounds else [1]
        if read == ("ticket", "domain") and self.bones.domains:
            return [t for t in texts_of(whole.texts) if t in self.bones.domains] or ["another"]
        if root == "legs":
            return numbers_around(whole.numbers, 0)
        if root == "clocks":
            return [True, False] if read[2:] != ("state",) else texts_of(whole.texts)
        return sorted({"", *texts_of(whole.texts)}) if name != "lead" else ["", *texts_of(whole.texts - {""})]

    def _getter(self, read: Read) -> Callable[[Config, tuple[str, str]], Any]:
        """What tells of a configuration what is known of `read`; None where a condition that reads it finds nothing."""
        root, name = read[0], read[1]
        if root == "ticket":
            if name == "lead":
                return lambda config, leg: "another" if config.lead else ""
            if name == "round":
                at = self.counters.index("ticket.round")
                return lambda config, leg: config.counters[at]
            phases = self.phases
            return lambda config, leg: config.stage if name == "stage" else phases[config.stage]
        if root == "leg":
            part = 0 if name == "role" else 1
            return lambda config, leg: leg[part]
        if root == "legs":
            if name == "co_handlers":
                return lambda config, leg: int(config.co != NONE)
            told = {"waiting": WAITING, "replied": REPLIED, "late": SOME_LATE}[name]
            return lambda config, leg: int(config.co == told)
        if root == "counters":
            n = self.counters.index(name)
            return lambda config, leg: config.counters[n]
        if root == "pending":
            asked = self.ruling[name]
            return lambda config, leg: config.pending[asked][0] > 0
        if root == "review":
            return lambda config, leg: config.review != NO_REVIEW
        clock, part_read = self.clock[name], read[2:]
        says = {
            state: state in OPEN if part_read == ("open",)
            else state in {LATE, PAUSED_LATE, HELD_LATE} if part_read == ("breached",) else _NAMES[state]
            for state in range(OFF, ENDED + 1)
        }  # fmt: skip
        return lambda config, leg: says.get(config.clocks[clock])

    def coarse(self, config: Config) -> Config:
        if not self.co_coarse or config.co == WAITING:
            return config
        for n in self.co_clocks:
            if config.clocks[n] != OFF:
                config = config.at((*config.clocks[:n], OFF, *config.clocks[n + 1 :]))
        return config if config.co == NONE else config._replace(co=NONE)

    # -- effects -----------------------------------------------------------------------------------------------------

    def run(self, way: Way, config: Config, moment: _Moment) -> Alternatives:
        """Carry out a branch. Raises _Impossible or _Wrong."""
        known = self._steps.get(id(way))
        if known is None:
            # of the class: a machine that held its own methods would wait for the collector of garbage
            known = (way, [(getattr(Machine, f"_do_{verb}"), arg) for verb, arg in way.effects])
            self._steps[id(way)] = known
        steps = known[1]
        for done, (handler, arg) in enumerate(steps, 1):
            one = handler(self, config, arg, moment)
            if not isinstance(one, Config):
                current = self._fork(steps[done:], one, moment)
                break
            config = one
        else:
            current = [[config]]
        if way.to is None:
            return current
        return [[self._move(c, way.to, moment) for c in together] for together in current]

    def _fork(self, steps: list[tuple[Any, Any]], current: Alternatives, moment: _Moment) -> Alternatives:
        """What is left of a branch from where it can come to several configurations."""
        for handler, arg in steps:
            following: Alternatives = []
            for together in current:
                made = [self._apply(handler, arg, c, moment) for c in together]
                if any(len(m) > 1 for m in made):
                    following += [list(one) for m in made for one in m]
                else:
                    following.append([c for m in made for c in m[0]])
            current = following
        return current

    def _move(self, config: Config, to: str, moment: _Moment) -> Config:
        config = config._replace(stage=to)
        return self._close(config, moment) if self.phases[to] == Phase.CLOSED else config

    def _apply(self, handler: Any, arg: Any, config: Config, moment: _Moment) -> Alternatives:
        made: Config | Alternatives = handler(self, config, arg, moment)
        return [[made]] if isinstance(made, Config) else made

    def _set(self, config: Config, clock: int, state: int) -> Config:
        state = self._kept[clock][state]
        clocks = config.clocks
        return config if clocks[clock] == state else config.at((*clocks[:clock], state, *clocks[clock + 1 :]))

    def _do_start(self, config: Config, name: str, moment: _Moment) -> Config | Alternatives:
        n = self.clock[name]
        timer, state = self.bones.clocks[n], config.clocks[n]
        if timer.family == "assignment":
            has_leg = config.co != NONE if n in self.co_clocks else config.leg != NO_LEG
            if not has_leg or (state in OPEN and n not in self.co_clocks) or state == ENDED:
                return config
        elif timer.family == "enterprise" and state not in {OFF, NEVER}:
            return config
        moment.begun |= {name}
        started = self._set(config, n, RUNNING)
        if timer.family == "enterprise" and timer.continues and state == OFF and timer.graded:
            return [[started], [self._set(config, n, LATE)]]
        return started

    def _end(self, config: Config, n: int, moment: _Moment) -> Config:
        return self._set(config, n, ENDED) if config.clocks[n] in OPEN else config

    def _do_meet(self, config: Config, name: str, moment: _Moment) -> Config | Alternatives:
        n = self.clock[name]
        if self.bones.clocks[n].family == "assignment" and moment.leg != NOBODY:
            if n in self.co_clocks and moment.leg == CO:
                return [[self._end(config, n, moment), config]]
            if n in self.co_clocks or moment.leg != LEAD:
                return config
        return self._end(config, n, moment)

    def _do_cancel(self, config: Config, name: str, moment: _Moment) -> Config:
        return self._end(config, self.clock[name], moment)

    _do_settle = _do_replace = _do_cancel

    def _turn(self, config: Config, names: Sequence[str], into: Mapping[int, int]) -> Config:
        for name in names:
            n = self.clock[name]
            if config.clocks[n] in into:
                config = self._set(config, n, into[config.clocks[n]])
        return config

    def _do_hold(self, config: Config, name: str, moment: _Moment) -> Config:
        return self._turn(config, [name], _HOLD)

    def _do_release(self, config: Config, name: str, moment: _Moment) -> Config:
        return self._turn(config, [name], _RELEASE)

    def _do_pause(self, config: Config, names: Sequence[str], moment: _Moment) -> Config:
        moment.favoured |= frozenset(names)
        return self._turn(config, names, _PAUSE)

    def _do_resume(self, config: Config, names: Sequence[str], moment: _Moment) -> Config:
        return self._turn(config, names, _RESUME)

    def _do_extend(self, config: Config, name: str, moment: _Moment) -> Config:
        moment.favoured |= {name}
        return config

    def _do_excuse(self, config: Config, names: Sequence[str], moment: _Moment) -> Config:
        moment.favoured |= frozenset(names)
        return config

    def _do_request(self, config: Config, kind: str, moment: _Moment) -> Config | Alternatives:
        n = self.ruling[kind]
        if config.pending[n][0]:
            moment.asked_twice = kind
        config = self._pend(config, n, (1, moment.leg))
        clock = self.bones.rulings[n].clock
        return self._do_start(config, clock, moment) if clock in self.clock else config

    def _pend(self, config: Config, n: int, state: tuple[int, str]) -> Config:
        return config._replace(pending=(*config.pending[:n], state, *config.pending[n + 1 :]))

    def _unpend(self, config: Config, n: int, moment: _Moment) -> Config:
        """The request is over, and its own clock with it."""
        config = self._pend(config, n, (0, NOBODY))
        clock = self.bones.rulings[n].clock
        others = any(r.clock == clock and config.pending[m][0] for m, r in enumerate(self.bones.rulings))
        return config if others or clock not in self.clock else self._end(config, self.clock[clock], moment)

    def _do_withdraw_open(self, config: Config, _: Any, moment: _Moment) -> Config:
        for n, ruling in enumerate(self.bones.rulings):
            if config.pending[n][0]:
                config = self._unpend(config, n, moment)
                moment.favoured |= frozenset(d for d in ruling.delays if d in self.clock)
        return config

    def _do_assign_lead(self, config: Config, source: str, moment: _Moment) -> Config | Alternatives:
        if source == "again" and not config.lead:
            raise _Wrong("it assigns the lead again where there is none")
        config = self._without_leg(config, moment)._replace(leg=PENDING, lead=True)
        if source == "again" or not self.co_tracked:
            return config
        new = [] if config.co == WAITING else [self._with_co(config, WAITING)]
        # a co-handler that becomes the lead is one fewer: of those left none, or none that is waited for
        fewer = [self._with_co(config, NONE)] if config.co != NONE else []
        fewer += [self._with_co(config, co) for co in (REPLIED, SOME_LATE) if config.co in {WAITING, SOME_LATE}]
        return [[config], *([c] for c in (*new, *fewer))]

    def _with_co(self, config: Config, co: int) -> Config:
        for n in self.co_clocks if co in {NONE, REPLIED} else ():
            config = self._set(config, n, OFF)
        return config._replace(co=co)

    def _without_leg(self, config: Config, moment: _Moment) -> Config:
        if config.leg == NO_LEG:
            return config
        for n in self.lead_clocks:
            if config.clocks[n] != NEVER:
                config = self._set(config, n, OFF)
        stale = tuple((level, STALE if leg == LEAD else leg) for level, leg in config.pending)
        if moment.leg == LEAD:
            moment.leg = STALE
        return config._replace(leg=NO_LEG, pending=stale)

    def _do_add_co_handlers(self, config: Config, _: Any, moment: _Moment) -> Config:
        return config._replace(co=WAITING) if self.co_tracked and config.co != WAITING else config

    _do_substitute = _do_add_co_handlers

    def _do_sign_off(self, config: Config, verdict: str, moment: _Moment) -> Config:
        """Sent back, a co-handler is waited for anew, and its clock begins."""
        if verdict == "accepted":
            return config
        for n in self.co_clocks:
            config = self._set(config, n, RUNNING)
            moment.begun |= {self.bones.clocks[n].name}
        return self._do_substitute(config, None, moment)

    def _do_end_leg(self, config: Config, _: Any, moment: _Moment) -> Config | Alternatives:
        if moment.leg == CO:
            return [[config], [self._with_co(config, NONE)]] if self.co_tracked else config
        return config if moment.leg == STALE else self._without_leg(config, moment)

    def _do_clear_lead(self, config: Config, _: Any, moment: _Moment) -> Config:
        return config._replace(lead=False)

    def _do_assign_to(self, config: Config, _: Any, moment: _Moment) -> Config:
        if moment.leg == NOBODY and config.leg == NO_LEG:
            raise _Impossible
        return config

    def _do_accept(self, config: Config, _: Any, moment: _Moment) -> Config:
        return config if config.leg == NO_LEG or moment.leg == STALE else config._replace(leg=ACCEPTED)

    def _do_submit_leg(self, config: Config, _: Any, moment: _Moment) -> Config | Alternatives:
        if moment.leg == LEAD:
            return config._replace(leg=SUBMITTED)
        if moment.leg != CO:
            raise _Wrong("`submit_leg` is done for a department's leg, and who does this acts for none")
        if not self.co_tracked:
            return config
        done = [config._replace(co=co) for co in (REPLIED, SOME_LATE) if co != SOME_LATE or config.co == SOME_LATE]
        return [[config, *done]]

    def _do_count(self, config: Config, name: str, moment: _Moment) -> Config:
        moment.counted |= {name}
        return self._counted(config, name)

    def _counted(self, config: Config, name: str) -> Config:
        if name not in self.counters:
            return config
        n, key = self.counters.index(name), name if "." in name else f"counters.{name}"
        most = numbers_around(self.literals[key], 0)[-1]
        value = min(config.counters[n] + 1, most)
        return config._replace(counters=(*config.counters[:n], value, *config.counters[n + 1 :]))

    def _do_new_round(self, config: Config, _: Any, moment: _Moment) -> Config:
        moment.counted |= {"ticket.round"}
        config = self._counted(config, "ticket.round")
        if "callback_attempts" in self.counters:
            n = self.counters.index("callback_attempts")
            config = config._replace(counters=(*config.counters[:n], 0, *config.counters[n + 1 :]))
        for n, timer in enumerate(self.bones.clocks):
            if timer.family == "enterprise" and config.clocks[n] == ENDED:
                config = self._set(config, n, OFF)
        return config

    def _do_propose_review(self, config: Config, _: Any, moment: _Moment) -> Config | Alternatives:
        if config.review != NO_REVIEW:
            return config
        return self.run(self.review["proposed"][0], config._replace(review=PROPOSED), moment)

    def _do_reopen(self, config: Config, _: Any, moment: _Moment) -> Config:
        return config

    def _do_close(self, config: Config, _: Any, moment: _Moment) -> Config:
        return self._close(config, moment)

    def _close(self, config: Config, moment: _Moment) -> Config:
        if config.review == DECIDED:
            raise _Impossible  # mandatory measures are open
        clocks = [
            kept[ENDED] if state in OPEN else state for state, kept in zip(config.clocks, self._kept, strict=True)
        ]
        for n in (*self.lead_clocks, *self.co_clocks):
            if clocks[n] != NEVER:
                clocks[n] = OFF
        return Config(config.stage, config.lead, NO_LEG, NONE, NO_REVIEW, self._idle, tuple(clocks), config.counters)


def _told_apart(timer: Timer, state: int) -> int:
    """What is kept of a state of this clock: whether it is late only if that matters, its end only if it has cycles."""
    if state == ENDED and timer.family != "enterprise":
        return OFF
    return state if timer.graded else {LATE: RUNNING, PAUSED_LATE: PAUSED, HELD_LATE: HELD}.get(state, state)


# --- exploring -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def explore(bones: Bones, counters: tuple[str, ...] = (), most: int = 5_000) -> Space:
    """Everything that can be reached, breadth first, so that the first way found is a shortest one.

    `counters` are told apart; all others are fate. Stops after `most` configurations (`complete` says so).
    """
    return _Exploration(bones, counters, most).done()


class _Exploration:
    def __init__(self, bones: Bones, counters: tuple[str, ...], most: int) -> None:
        self.machine = Machine(bones, counters)
        self.space = Space(bones, counters)
        self.most, self.queue = most, deque[int]()
        self.bounds: dict[tuple[Any, ...], dict[str, int]] = {}
        self.acting: dict[tuple[str, int, int], list[tuple[str, tuple[str, str]]]] = {}
        self.only: list[frozenset[int]] = []
        """Of each configuration the set of it alone."""
        self.acts = {stage: [a for a in bones.acts if stage in a.stages] for stage, _ in bones.stages}

    def done(self) -> Space:
        machine, space = self.machine, self.space
        never = tuple(NEVER if t.name in machine.clocks_read else OFF for t in space.bones.clocks)
        first = Config(
            "", False, NO_LEG, NONE, NO_REVIEW, ((0, NOBODY),) * len(space.bones.rulings), never,
            tuple(int(c == "ticket.round") for c in space.counters),
        )  # fmt: skip
        for way in space.bones.opened:
            label, moment = Label("open", way.name, ""), _Moment()
            try:
                for config in _flat(machine.run(way, first, moment)):
                    self._reach(config, -1, label)
            except _Wrong as wrong:
                space.troubles.append(Trouble("wrong", str(wrong), label, -1))
        while self.queue:
            if len(space.configs) > self.most:
                space.complete = False
                break
            self._expand(self.queue.popleft())
        return space

    def _reach(self, config: Config, origin: int, label: Label) -> int:
        config = self.machine.coarse(config)
        n = self.space.index.get(config)
        if n is None:
            n = self.space.index[config] = len(self.space.configs)
            self.space.configs.append(config)
            self.space.came_by.append((origin, label))
            self.space.steps.append([])
            self.space.certain.append([])
            self.only.append(frozenset((n,)))
            self.queue.append(n)
        return n

    def _expand(self, n: int) -> None:
        config = self.space.configs[n]
        for act in self.acts[config.stage]:
            self._act(n, config, act)
        if not self.space.open(n):
            return
        for ruling in self.space.bones.rulings:
            self._rule(n, config, ruling)
        self._review(n, config)
        self._timers(n, config)

    # -- one step ------------------------------------------------------------------------------------------------------

    def _take(
        self, n: int, config: Config, way: Way, label: Label, moment: _Moment, bounds: Mapping[str, int] | None = None
    ) -> list[frozenset[int]]:
        """Run a branch from a configuration; gives the targets by course of fate (none: it is refused)."""
        try:
            made = self.machine.run(way, config, moment)
        except _Impossible:
            if label.kind == "timer":
                self.space.troubles.append(Trouble("refused", "", label, n))
            return []
        except _Wrong as wrong:
            self.space.troubles.append(Trouble("wrong", str(wrong), label, n))
            return []
        if moment.asked_twice:
            self.space.troubles.append(Trouble("twice", moment.asked_twice, label, n))
        begun, favoured = moment.begun, moment.favoured
        if made == [[config]] and config is self.space.configs[n] and not (begun or favoured):
            return [self.only[n]]
        counted = tuple((c, bounds[c]) for c in sorted(moment.counted) if bounds and c in bounds)
        out = []
        for together in made:
            if len(together) == 1:
                targets = self.only[self._reach(together[0], n, label)]
            else:
                targets = frozenset([self._reach(c, n, label) for c in together])
            out.append(targets)
            for target in targets:
                if target != n or begun or favoured:
                    self.space.steps[n].append(Step(label, target, begun, favoured, counted))
        return out

    def _legs(self, config: Config, role: str) -> list[tuple[str, str]]:
        """For which legs somebody of this role can act, with the leg's state."""
        if role != Role.HANDLER:
            return [(NOBODY, "")]
        legs = [(LEAD, _LEG[config.leg])] if config.leg != NO_LEG else []
        if not self.machine.co_tracked or (self.machine.co_coarse and config.co == NONE):
            return [*legs, (CO, "pending"), (CO, "submitted")]
        if config.co in {WAITING, SOME_LATE}:
            legs += [(CO, "pending")]
        return legs + ([(CO, "submitted")] if config.co != NONE else [])

    def _acting(self, config: Config, act: Act) -> list[tuple[str, tuple[str, str]]]:
        """Who can do this (of several roles for the same leg the first), and for which leg."""
        key = (act.name, config.leg, config.co)
        found = self.acting.get(key)
        if found is None:
            legs: dict[tuple[str, str], str] = {}
            for role in act.roles:
                for leg in self._legs(config, role):
                    legs.setdefault(leg, role)
            found = self.acting[key] = [(role, leg) for leg, role in legs.items()]
        return found

    def _act(self, n: int, config: Config, act: Act) -> None:
        choice = self.machine.choices[act.name]
        for role, leg in self._acting(config, act):
            values = self.machine.values(choice, config, leg)
            outcomes = choice.outcomes(values)
            for broken in outcomes.broken:
                label = Label("action", act.name, "guard" if broken.branch is None else "", broken.branch or 0)
                self.space.troubles.append(Trouble("condition", broken.reason, label, n))
            results: dict[int, list[frozenset[int]]] = {}
            for b in outcomes.possible:
                way = act.ways[b]
                if not way.effects and way.to is None:
                    results[b] = [self.only[n]]
                else:
                    label = Label("action", act.name, leg[0], b, role)
                    bounds = self._bounds(act, b, values, outcomes) if not choice.opaque else None
                    results[b] = self._take(n, config, way, label, _Moment(leg[0]), bounds)
                if results[b]:
                    self.space.done.add((act.name, config.stage))
            if not results:
                continue
            if not act.anywhere and (leg[0] != CO or config.co != NONE):
                self._always(n, [(branches, results) for _, branches in outcomes.by_fate])

    def _bounds(self, act: Act, branch: int, values: tuple[Any, ...], outcomes: Outcomes) -> dict[str, int]:
        key = (act.name, branch, values)
        if key not in self.bounds:
            self.bounds[key] = _bounds(act.ways[branch], branch, outcomes)
        return self.bounds[key]

    def _always(self, n: int, fates: Sequence[tuple[frozenset[int], Mapping[int, list[frozenset[int]]]]]) -> None:
        """A move that is possible whatever fate has done: for each course of it, where it can lead."""
        demanded: set[frozenset[int]] = set()
        for branches, results in fates:
            # of the branches one is chosen by the form; each branch leads to one target for each course of fate of its own
            ways = [results[b] for b in branches if results[b]]
            if not ways:
                return
            demanded.add(frozenset(t for way in ways if len(way) == 1 for t in way[0]) or ways[0][0])
            if all(len(way) > 1 for way in ways):
                demanded.update(ways[0])
        if demanded and any(targets != {n} for targets in demanded):
            self.space.certain[n].append(tuple(demanded))

    def _rule(self, n: int, config: Config, ruling: Ruling) -> None:
        m = self.machine.ruling[ruling.kind]
        level, leg = config.pending[m]
        if not level:
            return
        moment = _Moment(leg, ruling.kind)
        over = self.machine._unpend(config, m, moment)
        above = list(enumerate(ruling.optional[level:], level + 1))
        for higher, optional in above:
            label = Label("approval", ruling.kind, f"level {higher}")
            waiting = self.machine._pend(config, m, (higher, leg))
            begun = frozenset({ruling.clock} & set(self.machine.clock))
            self.space.steps[n].append(Step(label, self._reach(waiting, n, label), begun, frozenset(), ()))
            if not optional:
                break
        else:
            self._take(n, over, ruling.approve, Label("approval", ruling.kind, "approve"), _Moment(leg, ruling.kind))
        if not above:
            label = Label("approval", ruling.kind, "approve")
            self._always(n, [(frozenset({0}), {0: self._again(over, ruling.approve, leg, ruling.kind, label)})])
        label = Label("approval", ruling.kind, "deny")
        denied = self._take(n, over, ruling.deny, label, _Moment(leg, ruling.kind))
        self._always(n, [(frozenset({0}), {0: denied})])

    def _again(self, config: Config, way: Way, leg: str, kind: str, label: Label) -> list[frozenset[int]]:
        try:
            made = self.machine.run(way, config, _Moment(leg, kind))
        except (_Impossible, _Wrong):
            return []
        return [frozenset(self.space.index[self.machine.coarse(c)] for c in together) for together in made]

    def _review(self, n: int, config: Config) -> None:
        machine, phase = self.machine, self.space.phase(n)
        replied = phase in {Phase.AUDIT, Phase.CALLBACK}
        if config.review == NO_REVIEW and not replied and phase != Phase.REVIEW:
            self._take(n, config, _PROPOSED_BY_HAND, Label("review", "propose", ""), _Moment())
        if config.review == PROPOSED:
            if not replied:
                self._docket(n, config._replace(review=PREPARING), "accepted", "screen: accept")
            self._docket(n, config._replace(review=NO_REVIEW), "refused", "screen: refuse")
            self._anew(n, config, "review_screen", Label("review", "screen", "return"), RETURNED)
        if config.review in {PROPOSED, PREPARING}:
            ended = config._replace(review=NO_REVIEW)
            for name in ("review_screen", "review_decision", "review_opinion"):
                if name in machine.clock:
                    ended = machine._end(ended, machine.clock[name], _Moment())
            self._docket(n, ended, "withdrawn", "withdraw")
        if config.review == PREPARING:
            self._decide(n, config)
            self._anew(n, config, "review_decision", Label("review", "decide", "postpone"), POSTPONED)
            self._anew(n, config, "review_decision", Label("review", "decide", "refer_up"), REFERRED)
            if "review_opinion" in machine.clock:
                label = Label("review", "request_opinions", "")
                asked = machine._set(config, machine.clock["review_opinion"], RUNNING)
                self._plain(n, asked, label)
                given = machine._end(config, machine.clock["review_opinion"], _Moment())
                self._plain(n, given, Label("review", "give_opinion", ""))
        if config.review == DECIDED:
            done = config._replace(review=NO_REVIEW)
            if "review_measure" in machine.clock:
                done = machine._end(done, machine.clock["review_measure"], _Moment())
            self._docket(n, done, "completed", "strike_off")

    def _anew(self, n: int, config: Config, clock: str, label: Label, bound: str) -> None:
        """A step that begins a clock of the docket anew, so often as the docket itself allows."""
        if clock not in self.machine.clock:
            return
        target = self._reach(self.machine._set(config, self.machine.clock[clock], RUNNING), n, label)
        counted = ((bound, BY_THE_DOCKET[bound]),)
        self.space.steps[n].append(Step(label, target, frozenset({clock}), frozenset(), counted))

    def _plain(self, n: int, config: Config, label: Label) -> None:
        target = self._reach(config, n, label)
        if target != n:
            self.space.steps[n].append(Step(label, target, frozenset(), frozenset(), ()))

    def _decide(self, n: int, config: Config) -> None:
        """With a mandatory measure the matter stays on the docket until it is struck off; without, it is completed."""
        machine = self.machine
        for measures in (True, False):
            for replaced in (False, True) if measures and machine.review["replaced"] else (False,):
                label = Label("review", "decide", "replaced" if replaced else "measures" if measures else "no measures")
                made = [config._replace(review=DECIDED)]
                moment = _Moment()
                made = self._stepped(n, made, "decided", moment, label)
                if measures:
                    if "review_measure" in machine.clock:
                        made = [machine._set(c, machine.clock["review_measure"], RUNNING) for c in made]
                    made = self._stepped(n, made, "replaced", moment, label) if replaced else made
                else:
                    made = [c._replace(review=NO_REVIEW) for c in made]
                    made = self._stepped(n, made, "completed", moment, label)
                targets = frozenset(self._reach(c, n, label) for c in made)
                begun = moment.begun | ({"review_measure"} if measures else set())
                for target in targets:
                    self.space.steps[n].append(Step(label, target, begun, moment.favoured, ()))
                if targets:
                    self.space.certain[n].append(tuple(frozenset({t}) for t in targets))

    def _stepped(self, n: int, configs: list[Config], step: str, moment: _Moment, label: Label) -> list[Config]:
        out = []
        for config in configs:
            ways = self._review_ways(n, config, step, label)
            for way in ways:
                try:
                    out += _flat(self.machine.run(way, config, moment)) if way else [config]
                except _Impossible:
                    continue
        return out

    def _review_ways(self, n: int, config: Config, step: str, label: Label) -> list[Way | None]:
        """The branches of a step of the review that may be taken; None: no one holds, nothing is done."""
        choice = self.machine.review_choices[step]
        outcomes = self.machine.outcomes(choice, config)
        for broken in outcomes.broken:
            self.space.troubles.append(
                Trouble("condition", broken.reason, Label("review", step, "", broken.branch or 0), n)
            )
        ways: list[Way | None] = [self.machine.review[step][b] for b in outcomes.possible]
        return ways + ([None] if any(not branches for _, branches in outcomes.by_fate) else [])

    def _docket(self, n: int, config: Config, step: str, what: str) -> None:
        results: list[frozenset[int]] = []
        label = Label("review", step, what)
        for way in self._review_ways(n, config, step, label):
            if way is None:
                self._plain(n, config, label)
                results.append(frozenset({self._reach(config, n, label)}))
            else:
                results += self._take(n, config, way, label._replace(branch=int(way.name)), _Moment())
        if results and {n} not in results:
            self.space.certain[n].append(tuple(results))

    def _timers(self, n: int, config: Config) -> None:
        machine = self.machine
        for m, timer in enumerate(self.space.bones.clocks):
            state = config.clocks[m]
            if state not in _RUNS:
                continue
            leg = NOBODY
            if timer.family == "assignment":
                leg = CO if m in machine.co_clocks else LEAD
            for way in timer.rungs:
                late = state == LATE
                waited_for = m in machine.co_clocks and config.co == WAITING
                if way.kind == "due" and (late or not (timer.graded or waited_for or _moves(way))):
                    continue
                if way.kind == "after" and timer.graded and not late:
                    continue
                if way.kind in {"share", "before"} and late:
                    continue
                self._ring(n, config, m, timer, way, leg)

    def _ring(self, n: int, config: Config, m: int, timer: Timer, way: Way, leg: str) -> None:
        machine, label = self.machine, Label("timer", timer.name, way.name)
        fired = config
        if way.kind == "due":
            fired = machine._set(config, m, LATE)
            if m in machine.co_clocks and fired.co == WAITING:
                one_of_several = fired
                self._plain(n, one_of_several, label)
                fired = fired._replace(co=SOME_LATE)
        choice = machine.rung_choices.get((timer.name, way.name))
        always = True
        if choice is not None:
            outcomes = machine.outcomes(choice, fired)
            for broken in outcomes.broken:
                self.space.troubles.append(Trouble("condition", broken.reason, label, n))
            always = all(branches for _, branches in outcomes.by_fate)
            if not always:
                self._plain(n, fired, label)
            if not outcomes.possible:
                return
        results = self._take(n, fired, way, label, _Moment(leg))
        waiting = any(timer.name in r.delays and config.pending[k][0] for k, r in enumerate(self.space.bones.rulings))
        if results and way.kind == "due" and always and not waiting and {n} not in results:
            self.space.certain[n].append(tuple(results))


def _flat(alternatives: Alternatives) -> list[Config]:
    return [config for together in alternatives for config in together]


def _bounds(way: Way, branch: int, outcomes: Outcomes) -> dict[str, int]:
    """How often a branch that counts is possible at most, by each counter that it counts and is held to."""
    out = {}
    for name in {arg if verb == "count" else "ticket.round" for verb, arg in way.effects
                 if verb in {"count", "new_round"}}:  # fmt: skip
        read = ("ticket", "round") if name == "ticket.round" else ("counters", name)
        values = {fate[read] for fate, _ in outcomes.by_fate if read in fate}
        possible = {fate[read] for fate, branches in outcomes.by_fate if read in fate and branch in branches}
        if possible and max(values) not in possible:
            out[name] = max(possible) + (0 if name == "ticket.round" else 1)
    return out


# --- real tickets ----------------------------------------------------------------------------------------------------


def config_of(ticket: Ticket, bones: Bones, counters: tuple[str, ...] = ()) -> Config:
    """The configuration that a real ticket is in; for the test that walks the engine and the machine together."""
    machine = Machine(bones, counters)
    leg, review = ticket.lead_leg(), ticket.open_review()
    legs = {"pending": PENDING, "accepted": ACCEPTED, "submitted": SUBMITTED}
    standing = {"proposed": PROPOSED, "preparing": PREPARING, "decided": DECIDED}
    pending = []
    for ruling in bones.rulings:
        asked = [a for a in ticket.approvals if a.kind == ruling.kind and a.state == "pending"]
        by = next((a for a in ticket.assignments if asked and a.id == asked[-1].assignment_id), None)
        of = NOBODY if by is None else CO if by.role == CO else LEAD if by.open else STALE
        pending.append((asked[-1].level, of) if asked else (0, NOBODY))
    config = Config(
        ticket.stage, ticket.lead is not None, legs[leg.state] if leg else NO_LEG, _co_of(ticket, machine),
        standing[review.state] if review else NO_REVIEW, tuple(pending), (OFF,) * len(bones.clocks),
        tuple(ticket.round if c == "ticket.round" else ticket.counters.get(c, 0) for c in counters),
    )  # fmt: skip
    for n, timer in enumerate(bones.clocks):
        config = machine._set(config, n, _state_of(ticket, timer, n in machine.co_clocks, machine))
    return machine.coarse(config)


def _co_of(ticket: Ticket, machine: Machine) -> int:
    legs = [a for a in ticket.assignments if a.open and a.role == CO]
    if not legs or not machine.co_tracked:
        return NONE
    late = {c.assignment_id for c in ticket.clocks if c.open and c.breached_at is not None}
    late = late if any(machine.bones.clocks[n].graded for n in machine.co_clocks) else set()
    left = [a for a in legs if a.state != "submitted"]
    return REPLIED if not left else SOME_LATE if all(a.id in late for a in left) else WAITING


def _state_of(ticket: Ticket, timer: Timer, of_co_handler: bool, machine: Machine) -> int:
    own = [c for c in ticket.clocks if c.name == timer.name]
    if timer.name == "review_measure":  # an optional one may outlive its review; nothing waits for it
        due = {m.id for m in ticket.measures if m.mandatory and m.open}
        own = [c for c in own if c.subject_id in due]
    open_ones = [c for c in own if c.open]
    if timer.family == "assignment" and not of_co_handler:
        leg = ticket.lead_leg()
        own = [c for c in own if leg is not None and c.assignment_id == leg.id]
        open_ones = [c for c in own if c.open]
    if open_ones:
        clock = open_ones[-1]
        late = all(c.breached_at is not None for c in (open_ones if of_co_handler else [clock]))
        states = {"paused": PAUSED, "held": HELD}
        state = states.get(str(clock.state), RUNNING)
        return {RUNNING: LATE, PAUSED: PAUSED_LATE, HELD: HELD_LATE}[state] if late else state
    if not any(c.name == timer.name for c in ticket.clocks):
        return NEVER if timer.name in machine.clocks_read else OFF
    if timer.family == "enterprise" and any(c.cycle == ticket.round for c in own):
        return ENDED
    return OFF
