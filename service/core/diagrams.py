"""A workflow as a picture: its stages with their clocks, and what leads from one to the next. Mermaid text and SVG.

The stages stand below each other in the order of their phases. What leads to the next stage goes straight down; what
leads further runs down on the right, what leads back runs up on the left. Each of these has a line of its own at either
end and a lane of its own between, so no text ever stands on another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from service.core.budgets import Budget
from service.core.definitions import Branch, Rung, Workflow
from service.core.model import Clock, ClockState, Phase
from service.core.svg import Box, Drawing, width, wrapped

Language = Literal["zh", "en"]
Kind = Literal["open", "act", "decision", "timer", "review"]
START: Final = "(start)"
MANY: Final = 4
"""What leads to a stage from so many others is told in words instead of lines."""
_BY_THE_DOCKET = frozenset({"review_opinion", "review_decision", "review_measure", "review_minutes", "review_reply"})
"""Clocks that `review` starts by itself."""

_COLOURS: Mapping[str, tuple[str, str]] = {
    "open": ("#64748b", ""), "act": ("#1d4ed8", ""), "decision": ("#0f766e", ""), "timer": ("#b45309", "5,4"),
    "review": ("#7e22ce", ""),
}  # fmt: skip
_WORDS: Mapping[str, Mapping[str, str]] = {
    "zh": {
        "start": "新诉求",
        "routed": "已自动分派", "unrouted": "未能自动分派", "answered": "当场答复", "approve": "同意", "deny": "不同意",
        "any": "从多个环节均可：", "open": "受理", "act": "人员操作", "decision": "审批决定", "timer": "到期自动",
        "review": "一事一议", "due": "到期", "accepted": "议题受理", "refused": "议题不予受理", "decided": "议题议定",
        "completed": "议定事项完成", "withdrawn": "议题撤回", "proposed": "提出议题", "replaced": "改按议定时限",
        "path": "办理经过", "clocks": "时限",
    },
    "en": {
        "start": "New request",
        "routed": "routed by a rule", "unrouted": "no rule found a lead", "answered": "answered at once",
        "approve": "approved", "deny": "denied", "any": "From several stages:", "open": "intake", "act": "done by people",
        "decision": "decision on a request", "timer": "by itself when due", "review": "one matter, one discussion",
        "due": "due", "accepted": "review accepted", "refused": "review refused", "decided": "review decided",
        "completed": "measures completed", "withdrawn": "review withdrawn", "proposed": "review proposed",
        "replaced": "replaced by the review's dates", "path": "What happened", "clocks": "Clocks",
    },
}  # fmt: skip
_UNITS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "zh": {"working_days": ("{}个工作日", ""), "natural_days": ("{}个自然日", ""), "working_hours": ("办公时间{}", "h"),
           "natural_hours": ("{}", "h")},
    "en": {"working_days": ("{} working days", ""), "natural_days": ("{} days", ""),
           "working_hours": ("{} of office time", "h"), "natural_hours": ("{}", "h")},
}  # fmt: skip
_STATES: Mapping[str, Mapping[ClockState, str]] = {
    "zh": {ClockState.RUNNING: "计时中", ClockState.PAUSED: "已暂停", ClockState.HELD: "待审核", ClockState.MET: "按时",
           ClockState.BREACHED_RUNNING: "超期未结", ClockState.BREACHED_MET: "超期完成", ClockState.CANCELLED: "已取消"},
    "en": {ClockState.RUNNING: "running", ClockState.PAUSED: "paused", ClockState.HELD: "held", ClockState.MET: "met",
           ClockState.BREACHED_RUNNING: "late, running", ClockState.BREACHED_MET: "met late",
           ClockState.CANCELLED: "cancelled"},
}  # fmt: skip


# --- what is drawn ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Node:
    """One stage; `clocks` are the lines of those that begin in it."""

    name: str
    title: str
    phase: Phase
    clocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    source: str
    target: str
    kind: Kind
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """Stages in the order in which they are drawn. `notes`: what leads to a stage from many others, in words."""

    key: str
    version: int
    title: str
    language: Language
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    notes: tuple[str, ...]
    clocks: Mapping[str, str]
    """Titles of all clocks, by name."""


@dataclass(frozen=True, slots=True)
class Visit:
    """The ticket came to a stage, and by what."""

    stage: str
    at: datetime
    by: str


@dataclass(slots=True)
class Path:
    """One ticket's way. `moves`: pairs of stages that it went between."""

    visits: list[Visit] = field(default_factory=list)

    @property
    def moves(self) -> set[tuple[str, str]]:
        stages = [START, *(v.stage for v in self.visits)]
        return set(pairwise(stages))


def budget_text(budget: Budget, language: Language) -> str:
    """An amount of time for people."""
    pattern, unit = _UNITS[language][budget.measure]
    if not unit:
        plural = language == "zh" or budget.amount != 1
        return pattern.format(budget.amount) if plural else pattern.format(budget.amount).removesuffix("s")
    minutes = budget.amount // 60_000_000
    hours, rest = divmod(minutes, 60)
    words = {"zh": (f"{hours}小时", f"{rest}分钟"), "en": (f"{hours} h", f"{rest} min")}[language]
    parts = [word for word, amount in zip(words, (hours, rest), strict=True) if amount]
    return pattern.format(("" if language == "zh" else " ").join(parts) or words[1])


def graph_of(flow: Workflow, language: Language) -> Graph:
    """Stages, clocks and moves of a workflow."""
    order = sorted(flow.stages, key=lambda s: (_RANK[flow.phase(s)], list(flow.stages).index(s)))
    moves = list(_moves(flow, language))
    begins = {name: _begins_in(flow, name) for name in flow.clocks}
    nodes = tuple(
        Node(name, flow.stages[name][1][language], flow.phase(name),
             tuple(f"{c.title[language]} {budget_text(c.budget, language)}"
                   for c in flow.clocks.values() if name in begins[c.name]))
        for name in order
    )  # fmt: skip
    edges: dict[tuple[str, str, Kind], list[str]] = {}
    sources: dict[tuple[str, str, Kind], set[str]] = defaultdict(set)
    for move in moves:
        if move.source != move.target:
            sources[move.label, move.target, move.kind].add(move.source)
    notes: dict[str, list[str]] = {}
    for move in moves:
        if move.source == move.target:
            continue
        if len(sources[move.label, move.target, move.kind]) >= MANY:
            told = notes.setdefault(flow.stages[move.target][1][language], [])
            if move.label not in told:
                told.append(move.label)
            continue
        labels = edges.setdefault((move.source, move.target, move.kind), [])
        if move.label not in labels:
            labels.append(move.label)
    comma = "、" if language == "zh" else ", "
    return Graph(
        flow.key, flow.version, flow.title[language], language, nodes,
        tuple(Edge(*key, tuple(labels)) for key, labels in edges.items()),
        tuple(f"{comma.join(labels)} → {target}" for target, labels in notes.items()),
        {name: clock.title[language] for name, clock in flow.clocks.items()},
    )  # fmt: skip


_RANK = {phase: n for n, phase in enumerate(Phase)}


@dataclass(frozen=True, slots=True)
class _Move:
    source: str
    target: str
    kind: Kind
    label: str


def _moves(flow: Workflow, language: Language) -> Iterable[_Move]:
    """Everything that may happen in a stage, with where it leads: the stage itself where it does not move."""
    words = _WORDS[language]
    for how, branch in flow.opened.items():
        yield _move(START, branch, "open", words[how])
    for action in flow.actions.values():
        for branch in action.branches:
            for stage in _in_order(flow, action.stages):
                yield _move(stage, branch, "act", action.title[language])
    for kind, approval in flow.approvals.items():
        for word, branch in (("approve", approval.approve), ("deny", approval.deny)):
            for stage in _in_order(flow, _asked_in(flow, kind)):
                yield _move(stage, branch, "decision", f"{approval.title[language]} {words[word]}")
    docketed = [s for s in flow.stages if flow.phase(s) not in {Phase.AUDIT, Phase.CALLBACK, Phase.CLOSED}]
    reviewing = [s for s in flow.stages if flow.phase(s) is Phase.REVIEW]
    for step, branches in flow.review.items():
        stages = docketed if step in {"proposed", "accepted", "withdrawn", "refused"} else reviewing
        for branch in branches:
            only = reviewing if branch.to is not None and step in {"withdrawn", "refused"} else stages
            for stage in only:
                yield _move(stage, branch, "review", words[step])
    for clock in flow.clocks.values():
        for rung in clock.rungs.values():
            if rung.to is not None:
                label = f"{clock.title[language]} {words['due'] if rung.name == 'breach' else rung.name}"
                for stage in _begins_in(flow, clock.name):
                    yield _move(stage, rung, "timer", label)


def _move(stage: str, branch: Branch | Rung, kind: Kind, label: str) -> _Move:
    return _Move(stage, branch.to or stage, kind, label)


def _in_order(flow: Workflow, stages: Iterable[str]) -> list[str]:
    wanted = set(stages)
    return [s for s in flow.stages if s in wanted]


def _begins_in(flow: Workflow, clock: str) -> list[str]:
    """Stages in which this clock begins: those entered by what starts it, or else those in which that is done.

    The clock of a request begins where it is asked for, those of the docket in the review; others may begin nowhere.
    """
    kinds = {kind for kind, approval in flow.approvals.items() if approval.clock == clock}
    starting = {("start", clock), *(("request", kind) for kind in kinds)}
    asked = {kind: _asked_in(flow, kind) for kind in flow.approvals}
    reviewing = frozenset(s for s in flow.stages if flow.phase(s) is Phase.REVIEW)
    found: set[str] = set()
    branches: list[tuple[Iterable[str], Branch]] = [((), b) for b in flow.opened.values()]
    branches += [(a.stages, b) for a in flow.actions.values() for b in a.branches]
    branches += [(asked[kind], b) for kind, a in flow.approvals.items() for b in (a.approve, a.deny)]
    branches += [(reviewing, b) for many in flow.review.values() for b in many]
    for stages, branch in branches:
        if any(effect in starting for effect in branch.effects if isinstance(effect[1], str)):
            found |= {branch.to} if branch.to is not None else {*stages}
    open_ones = [s for s in flow.stages if s in found and flow.phase(s) is not Phase.CLOSED]
    return open_ones or (_in_order(flow, reviewing) if clock in _BY_THE_DOCKET else [])


def _asked_in(flow: Workflow, kind: str) -> set[str]:
    asking = [a for a in flow.actions.values() if any(("request", kind) in b.effects for b in a.branches)]
    return {stage for action in asking for stage in action.stages}


# --- one ticket's way ------------------------------------------------------------------------------------------------


def path_of(flow: Workflow, events: Sequence[Mapping[str, Any]], stage: str, language: Language) -> Path:
    """The stages that a ticket went through. `events`: its history in order (type, occurred_at, data); `stage`: where it is.

    Timers and reviews do not say where they led: the workflow does, or what is said next.
    """
    path = Path()
    mute = events[0]

    def go(target: str | None, event: Mapping[str, Any]) -> None:
        if target is not None and (not path.visits or path.visits[-1].stage != target):
            path.visits.append(_visit(flow, target, event, language))

    for event in events:
        data = event["data"]
        if "from" in data and "to" in data:
            go(data["from"], mute)
            go(data["to"], event)
        else:
            go(_led_to(flow, event), event)
            mute = event if event["type"].startswith(("clock.", "review.", "measure.")) else mute
    go(stage, mute)
    return path


def _led_to(flow: Workflow, event: Mapping[str, Any]) -> str | None:
    """Where the opening or a timer leads by the workflow; None for what leads nowhere, or not always to one stage."""
    data = event["data"]
    if event["type"] == "ticket.opened":
        branch = flow.opened.get(_how(data))
        return branch.to if branch is not None else None
    if event["type"] in {"clock.fired", "clock.breached"} and data["clock"] in flow.clocks:
        rung = flow.clocks[data["clock"]].rungs.get(data["rung"])
        return rung.to if rung is not None and rung.when is None else None
    return None


def _how(opened: Mapping[str, Any]) -> str:
    return "answered" if opened.get("answered") else "routed" if opened.get("lead") else "unrouted"


def _visit(flow: Workflow, stage: str, event: Mapping[str, Any], language: Language) -> Visit:
    kind, _, name = event["type"].partition(".")
    words, data = _WORDS[language], event["data"]
    label = str(event["type"])
    if event["type"] == "ticket.opened":
        label = words[_how(data)]
    elif kind == "ticket" and name in flow.actions:
        label = flow.actions[name].title[language]
    elif kind == "approval" and data.get("kind") in flow.approvals:
        decided = words["approve" if name == "approved" else "deny"]
        label = f"{flow.approvals[data['kind']].title[language]} {decided}"
    elif kind == "clock" and data.get("clock") in flow.clocks:
        label = (
            f"{flow.clocks[data['clock']].title[language]} {data.get('rung', '') if name == 'fired' else words['due']}"
        )
    elif kind == "review":
        label = words.get(name, label)
    return Visit(stage, event["occurred_at"], label)


# --- Mermaid -----------------------------------------------------------------------------------------------------------


def mermaid(graph: Graph) -> str:
    """A flow chart in Mermaid's language; paste it where Markdown shows diagrams."""
    lines = [f"%% {graph.key} {graph.version}", "flowchart TD", f'  s_start(["{_WORDS[graph.language]["start"]}"])']
    for node in graph.nodes:
        told = "<br/>".join(_quoted(text) for text in (node.title, *node.clocks))
        shape = ('(["', '"])') if node.phase is Phase.CLOSED else ('["', '"]')
        lines.append(f"  {_id(node.name)}{shape[0]}{told}{shape[1]}")
    for edge in graph.edges:
        arrow = "-.->" if edge.kind == "timer" else "-->"
        labels = "<br/>".join(_quoted(label) for label in edge.labels)
        lines.append(f'  {_id(edge.source)} {arrow}|"{labels}"| {_id(edge.target)}')
    if graph.notes:
        told = "<br/>".join(_quoted(text) for text in (_WORDS[graph.language]["any"], *graph.notes))
        lines.append(f'  s_notes["{told}"]')
        lines.append("  style s_notes fill:none,stroke-dasharray:3")
    return "\n".join(lines) + "\n"


def _id(stage: str) -> str:
    """Never a word of the language, such as `end`."""
    return "s_start" if stage == START else f"s_{stage}"


def _quoted(text: str) -> str:
    """Text inside double quotes: the signs that Mermaid or HTML would read become entities."""
    told = "".join(f"#{ord(c)};" if c in '#"<>&;`\\|{}[]()' else c for c in text)
    return " ".join(told.split())


# --- SVG ---------------------------------------------------------------------------------------------------------------

_W, _TITLE, _LINE, _SMALL = 250.0, 14.0, 17.0, 11.5
_ROW, _LANE, _PAD = 20.0, 13.0, 10.0
_LABEL = 190.0
_FILLS: Mapping[Phase, str] = {
    Phase.INTAKE: "#f1f5f9", Phase.DISPATCH: "#f1f5f9", Phase.ACCEPTANCE: "#eff6ff", Phase.HANDLING: "#ecfdf5",
    Phase.WAITING: "#fefce8", Phase.AUDIT: "#eff6ff", Phase.CALLBACK: "#eff6ff", Phase.REVIEW: "#faf5ff",
    Phase.CLOSED: "#f1f5f9",
}  # fmt: skip


@dataclass(slots=True)
class _Side:
    """Lines that leave and reach the boxes on one side, and the lanes between."""

    edges: list[Edge] = field(default_factory=list)
    lanes: dict[int, int] = field(default_factory=dict)
    """Number of the edge -> number of its lane, 0 the nearest."""
    out: float = 0.0
    """How wide the column of labels is."""


def draw(
    graph: Graph,
    path: Path | None = None,
    clocks: Sequence[Clock] = (),
    zone: ZoneInfo | None = None,
    number: str = "",
) -> Drawing:
    """The picture. With a `path`, the ticket's own way stands out and is told step by step beside it."""
    drawing = Drawing(f"{number} {graph.title} ({graph.key} {graph.version})".strip())
    names = [START, *(n.name for n in graph.nodes)]
    place = {name: n for n, name in enumerate(names)}
    down: dict[str, list[Edge]] = defaultdict(list)
    right, left = _Side(), _Side()
    for edge in graph.edges:
        step = place[edge.target] - place[edge.source]
        if step == 1:
            down[edge.source].append(edge)
        else:
            (right if step > 1 else left).edges.append(edge)
    for side in (right, left):
        _assign_lanes(side, place)
        side.out = max((width(t, _SMALL) for e in side.edges for t in _told(e)), default=0.0)
    x = 16 + (left.out + 24 + _LANE * (1 + max(left.lanes.values(), default=-1)) if left.edges else 0)
    drawing.text(16, 30, drawing.title, 16, bold=True)
    boxes, ports = _stacked(graph, names, down, (right, left), x, 48)
    moves = path.moves if path is not None else set()
    for name in names[1:]:
        visits = [v for v in path.visits if v.stage == name] if path is not None else []
        _paint(drawing, next(n for n in graph.nodes if n.name == name), boxes[name], bool(visits), path is not None)
    drawing.rect(boxes[START], "#334155", r=12)
    middle = boxes[START].y + boxes[START].h / 2 + 4
    drawing.text(x + _W / 2, middle, _WORDS[graph.language]["start"], 13, anchor="middle", fill="#fff")
    for name, edges in down.items():
        _paint_down(drawing, edges, boxes[name], boxes[names[place[name] + 1]], moves, path is not None)
    for side, sign in ((right, 1), (left, -1)):
        for n, edge in enumerate(side.edges):
            _paint_round(drawing, n, edge, side, sign, boxes, ports, moves, path is not None)
    drawing.right = max(drawing.right, x + _W + right.out + 30 + _LANE * (1 + max(right.lanes.values(), default=0)))
    foot = max(b.y + b.h for b in boxes.values()) + 30
    foot = _legend(drawing, graph, foot)
    if path is not None:
        _tell(drawing, graph, path, clocks, zone or ZoneInfo("UTC"), foot + 10)
    return drawing


def _assign_lanes(side: _Side, place: Mapping[str, int]) -> None:
    """The shortest nearest; two share a lane where they do not pass each other."""
    taken: list[list[tuple[int, int]]] = []
    spans = {n: tuple(sorted((place[e.source], place[e.target]))) for n, e in enumerate(side.edges)}
    for n in sorted(spans, key=lambda n: (spans[n][1] - spans[n][0], spans[n], n)):
        low, high = spans[n]
        lane = next((k for k, used in enumerate(taken) if all(high < a or b < low for a, b in used)), len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append((low, high))
        side.lanes[n] = lane


def _told(edge: Edge) -> list[str]:
    """The label of a line at the side: one line of text per what leads there."""
    return [line for label in edge.labels for line in wrapped(label, _SMALL, _LABEL)]


def _rows(edge: Edge) -> int:
    return len(_told(edge))


def _stacked(
    graph: Graph,
    names: Sequence[str],
    down: Mapping[str, Sequence[Edge]],
    sides: tuple[_Side, _Side],
    x: float,
    y: float,
) -> tuple[dict[str, Box], dict[tuple[int, int, str], float]]:
    """Where each box stands, and the height at which each line at its sides begins or ends."""
    boxes: dict[str, Box] = {}
    ports: dict[tuple[int, int, str], float] = {}
    content = {
        n.name: 2 * _PAD + _TITLE + 4 + _LINE * (len(_title_lines(n)) - 1 + len(_clock_lines(n))) for n in graph.nodes
    }
    for name in names:
        tallest = 30.0 if name == START else content[name]
        for s, side in enumerate(sides):
            row = y + _PAD
            for n, edge in enumerate(side.edges):
                for end in ("source", "target"):
                    if getattr(edge, end) == name:
                        ports[s, n, end] = row + (_rows(edge) - 1) * _LINE * (end == "source") + _LINE / 2 + 3
                        row += _ROW + (_rows(edge) - 1) * _LINE * (end == "source")
            tallest = max(tallest, row + _PAD - y)
        boxes[name] = Box(x, y, _W, tallest)
        gap = sum(len(_down_lines(e)) for e in down.get(name, ()))
        y += tallest + max(26.0, 22.0 + gap * _LINE)
    return boxes, ports


def _title_lines(node: Node) -> list[str]:
    return wrapped(node.title, _TITLE, _W - 2 * _PAD)


def _clock_lines(node: Node) -> list[str]:
    return [line for text in node.clocks for line in wrapped(text, _SMALL, _W - 2 * _PAD)]


def _down_lines(edge: Edge) -> list[str]:
    return [line for label in edge.labels for line in wrapped(label, _SMALL, _W)]


def _paint(drawing: Drawing, node: Node, box: Box, visited: bool, faded: bool) -> None:
    stroke = "#0f172a" if visited or not faded else "#cbd5e1"
    drawing.rect(box, _FILLS[node.phase] if visited or not faded else "#fff", stroke, r=8)
    ink = "#0f172a" if visited or not faded else "#94a3b8"
    y = box.y + _PAD + _TITLE - _LINE
    for line in _title_lines(node):
        y += _LINE
        drawing.text(box.x + _PAD, y, line, _TITLE, fill=ink, bold=True)
    for line in _clock_lines(node):
        y += _LINE
        drawing.text(box.x + _PAD, y + 2, line, _SMALL, fill="#475569" if ink != "#94a3b8" else ink)


def _ink(edge: Edge, moves: set[tuple[str, str]], faded: bool) -> tuple[str, str, float]:
    colour, dash = _COLOURS[edge.kind]
    if not faded:
        return colour, dash, 1.3
    return (colour, dash, 2.6) if (edge.source, edge.target) in moves else ("#d5dbe3", dash, 1.0)


def _paint_down(
    drawing: Drawing, edges: Sequence[Edge], box: Box, below: Box, moves: set[tuple[str, str]], faded: bool
) -> None:
    x, y = box.x + 22, box.y + box.h
    for n, edge in enumerate(edges):
        colour, dash, thick = _ink(edge, moves, faded)
        drawing.path(f"M{x + 7 * n:.1f},{y:.1f} L{x + 7 * n:.1f},{below.y:.1f}", colour, thick=thick, dash=dash)
    at, left = y + 18, x + 7 * len(edges) + 6
    for edge in edges:
        for line in _down_lines(edge):
            drawing.text(left, at, line, _SMALL, fill=_ink(edge, moves, faded)[0] if not faded else "#475569")
            at += _LINE


def _paint_round(
    drawing: Drawing, n: int, edge: Edge, side: _Side, sign: int, boxes: Mapping[str, Box],
    ports: Mapping[tuple[int, int, str], float], moves: set[tuple[str, str]], faded: bool,
) -> None:  # fmt: skip
    s = 0 if sign > 0 else 1
    begin, end = ports[s, n, "source"], ports[s, n, "target"]
    a, b = boxes[edge.source], boxes[edge.target]
    lane = _side_of(a, sign) + sign * (side.out + 20 + _LANE * side.lanes[n])
    colour, dash, thick = _ink(edge, moves, faded)
    r = 6 * (1 if end > begin else -1)
    near, far = _side_of(a, sign), _side_of(b, sign)
    drawing.path(
        f"M{near:.1f},{begin:.1f} L{lane - sign * 6:.1f},{begin:.1f} Q{lane:.1f},{begin:.1f} {lane:.1f},{begin + r:.1f}"
        f" L{lane:.1f},{end - r:.1f} Q{lane:.1f},{end:.1f} {lane - sign * 6:.1f},{end:.1f} L{far:.1f},{end:.1f}",
        colour, thick=thick, dash=dash,
    )  # fmt: skip
    lines = _told(edge)
    for k, line in enumerate(lines):
        y = begin - 4 - (len(lines) - 1 - k) * _LINE
        ink = colour if not faded or (edge.source, edge.target) in moves else "#94a3b8"
        drawing.text(_side_of(a, sign) + sign * 6, y, line, _SMALL, anchor="start" if sign > 0 else "end", fill=ink)


def _side_of(box: Box, sign: int) -> float:
    return box.x + box.w if sign > 0 else box.x


def _legend(drawing: Drawing, graph: Graph, y: float) -> float:
    words = _WORDS[graph.language]
    x = 16.0
    for kind in dict.fromkeys(e.kind for e in graph.edges):
        colour, dash = _COLOURS[kind]
        drawing.line([(x, y - 4), (x + 24, y - 4)], colour, thick=1.6, dash=dash)
        box = drawing.text(x + 30, y, words[kind], _SMALL, fill="#475569")
        x = box.x + box.w + 18
    y += 24
    if graph.notes:
        drawing.text(16, y, words["any"], _SMALL, fill="#475569", bold=True)
        for note in graph.notes:
            for line in wrapped(note, _SMALL, max(drawing.right - 48, 300)):
                y += _LINE
                drawing.text(28, y, line, _SMALL, fill="#475569")
        y += 24
    return y


def _tell(drawing: Drawing, graph: Graph, path: Path, clocks: Sequence[Clock], zone: ZoneInfo, y: float) -> None:
    words, titles = _WORDS[graph.language], {n.name: n.title for n in graph.nodes}
    drawing.text(16, y, words["path"], 13, bold=True)
    for n, visit in enumerate(path.visits, 1):
        y += _LINE
        when = visit.at.astimezone(zone).strftime("%Y-%m-%d %H:%M")
        drawing.text(28, y, f"{n}. {when}  {titles.get(visit.stage, visit.stage)}  ({visit.by})", _SMALL)
    y += 28
    if clocks:
        drawing.text(16, y, words["clocks"], 13, bold=True)
    for clock in clocks:
        y += _LINE
        due = clock.due_at.astimezone(zone).strftime("%Y-%m-%d %H:%M")
        late = clock.breached_at is not None
        amount = budget_text(Budget(clock.measure, clock.budget), graph.language)
        told = f"{graph.clocks.get(clock.name, clock.name)} {amount}  {words['due']} {due}"
        drawing.text(
            28, y, f"{told}  {_STATES[graph.language][clock.state]}", _SMALL, fill="#b91c1c" if late else "#223"
        )
