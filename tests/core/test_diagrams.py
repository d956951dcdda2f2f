"""Pictures: whole, valid, deterministic, and no text on another."""

from __future__ import annotations

import re
from copy import deepcopy
from itertools import combinations
from random import Random
from typing import Any
from xml.etree import ElementTree

import pytest

from service.core import charts
from service.core.definitions import compile_workflow
from service.core.diagrams import Language, draw, graph_of, mermaid, path_of
from service.core.svg import Box, Drawing, cut, width, wrapped
from tests import builders
from tests.builders import folder

KEYS = (
    "business_development",
    "complaint_report",
    "consultation",
    "emergency",
    "government_service",
    "project_landing",
)
LANGUAGES: tuple[Language, ...] = ("zh", "en")
SVG = "{http://www.w3.org/2000/svg}"


def texts_of(svg: str) -> list[str]:
    return [e.text or "" for e in ElementTree.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314  # our own


def assert_clear(drawing: Drawing) -> None:
    """No two texts meet, and all of them are inside the picture."""
    for (one, a), (other, b) in combinations(drawing.texts, 2):
        assert not a.meets(b), f"{one!r} at {a} meets {other!r} at {b}"
    for text, box in drawing.texts:
        assert box.x >= 0 and box.y >= 0, text
        assert box.x + box.w <= drawing.right + 16 and box.y + box.h <= drawing.bottom + 16, text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("key", KEYS)
def test_a_workflow_is_drawn_whole(key: str, language: Language) -> None:
    flow = builders.flow(key)
    drawing = draw(graph_of(flow, language))
    told = texts_of(drawing.svg())
    whole = " ".join(told)
    for _, title in flow.stages.values():
        assert title[language] in told
    for clock in flow.clocks.values():
        begun = clock.name != "extension_decision" or "extension" in flow.approvals
        assert (clock.title[language].split()[0] in whole) or not begun, clock.name
    for action in flow.actions.values():
        if any(b.to is not None and {b.to} != action.stages for b in action.branches):
            assert action.title[language] in whole.replace("  ", " "), action.name
    assert_clear(drawing)


def test_the_same_workflow_gives_the_same_bytes() -> None:
    first, second = (draw(graph_of(compile_workflow(folder().workflows["consultation"]), "zh")).svg() for _ in range(2))
    assert first == second


def test_labels_are_escaped_and_chinese_stays_as_it_is() -> None:
    plain = deepcopy(dict(folder().workflows["consultation"]))
    plain["stages"]["handling"]["title"] = {"zh": '<b>办理 & "中"</b>\x01', "en": "a -->|x| b"}
    flow = compile_workflow(plain)
    told = texts_of(draw(graph_of(flow, "zh")).svg())
    assert '<b>办理 & "中"</b>' in told
    text = mermaid(graph_of(flow, "zh"))
    assert "<b>" not in text and "#60;b#62;办理 #38; #34;中#34;#60;/b#62;" in text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("key", KEYS)
def test_mermaid_names_what_it_joins(key: str, language: Language) -> None:
    """Each line is a comment, a node or an edge between nodes; no bare sign that Mermaid would read stands in a label."""
    text = mermaid(graph_of(builders.flow(key), language))
    first, kind, *lines = text.splitlines()
    assert first.startswith("%% ") and kind == "flowchart TD"
    node = re.compile(r'  (s_\w+)(?:\["[^"]*"\]|\(\["[^"]*"\]\))')
    edge = re.compile(r'  (s_\w+) (?:-->|-\.->)\|"([^"]*)"\| (s_\w+)')
    nodes = {m[1] for line in lines if (m := node.fullmatch(line))}
    edges = [m for line in lines if (m := edge.fullmatch(line))]
    styles = [line for line in lines if line.startswith("  style ")]
    assert len(nodes) + len(edges) + len(styles) == len(lines)
    assert {"s_" + stage for stage in builders.flow(key).stages} <= nodes
    for m in edges:
        assert {m[1], m[3]} <= nodes
        assert not set(m[2].replace("<br/>", "")) & set('"<>|{}[]()`\\')


def test_a_stage_called_end_is_no_word_of_mermaid() -> None:
    plain = deepcopy(dict(folder().workflows["consultation"]))
    plain["stages"]["end"] = {"phase": "handling", "title": {"zh": "末", "en": "End"}}
    assert '  s_end["末"]' in mermaid(graph_of(compile_workflow(plain), "zh"))


@pytest.mark.parametrize("seed", range(30))
def test_random_long_and_many_labels_never_meet(seed: int) -> None:
    rng = Random(seed)
    plain: dict[str, Any] = deepcopy(dict(folder().workflows[rng.choice(KEYS)]))
    for part in ("stages", "clocks", "actions", "approvals"):
        for what in plain[part].values():
            zh = "长标签办理事项" * rng.randint(1, 5)
            what["title"] = {"zh": zh[: rng.randint(1, 30)], "en": "long words " * rng.randint(1, 6) + "end"}
    stages = list(plain["stages"])
    for n in range(rng.randint(1, 8)):
        plain["actions"][f"extra_{n}"] = {
            "title": {"zh": f"另一操作{n}", "en": f"another {n}"}, "stages": rng.sample(stages, rng.randint(1, 3)),
            "roles": ["handler"], "to": rng.choice(stages),
        }  # fmt: skip
    for language in LANGUAGES:
        drawing = draw(graph_of(compile_workflow(plain), language))
        ElementTree.fromstring(drawing.svg())  # noqa: S314
        assert_clear(drawing)


# --- one ticket's way ------------------------------------------------------------------------------------------------


def history(case: builders.Case) -> list[dict[str, Any]]:
    return [{"type": e.type, "occurred_at": e.occurred_at, "data": e.data} for e in case.events]


def test_a_way_is_told_with_what_led_on() -> None:
    case = builders.Case.opened("consultation", "2026-09-14 10:00").pump("2026-09-14 18:00")
    case.on("2026-09-15 09:00").act(builders.LEAD, "submit_reply", **builders.REPLY)
    case.on("2026-09-15 10:00").act(builders.DISPATCHER, "approve_reply")
    path = path_of(case.flow, history(case), case.ticket.stage, "zh")
    assert [(v.stage, v.by) for v in path.visits] == [
        ("accepting", "已自动分派"), ("handling", "签收 到期"), ("auditing", "提交答复"), ("callback", "审核通过"),
    ]  # fmt: skip
    assert path.visits[1].at == builders.at("2026-09-14 12:00"), "accepted by silence, at the due instant"
    assert ("accepting", "handling") in path.moves
    drawing = draw(graph_of(case.flow, "zh"), path, case.ticket.clocks, builders.SHANGHAI)
    assert_clear(drawing)
    told = " ".join(texts_of(drawing.svg()))
    assert "1. 2026-09-14 10:00  待签收  (已自动分派)" in told and "超期完成" in told


def test_a_ticket_that_nobody_touched_has_one_step() -> None:
    case = builders.Case.opened("consultation", "2026-09-14 10:00", lead=None)
    path = path_of(case.flow, history(case), case.ticket.stage, "en")
    assert [(v.stage, v.by) for v in path.visits] == [("dispatching", "no rule found a lead")]


@pytest.mark.parametrize("seed", range(40))
def test_the_way_of_any_life_ends_where_the_ticket_is(seed: int) -> None:
    case, _ = builders.a_history(Random(seed), length=14)
    flow = builders.flow(case.ticket.workflow_key)
    path = path_of(flow, history(case), case.ticket.stage, "zh")
    assert path.visits[-1].stage == case.ticket.stage
    assert all(a.stage != b.stage for a, b in zip(path.visits, path.visits[1:], strict=False))
    assert_clear(draw(graph_of(flow, "zh"), path, case.ticket.clocks, builders.SHANGHAI))


# --- texts, and the picture of a what-if -----------------------------------------------------------------------------


def test_widths_count_full_characters_as_whole() -> None:
    assert width("办结", 10) == 20 and width("ab", 10) == 12
    assert cut("办结时限", 10, 25) == "办…" and cut("ab", 10, 25) == "ab"
    assert wrapped("一二三四五六", 10, 30) == ["一二三", "四五六"]
    assert wrapped("the working days", 10, 72) == ["the working", "days"]
    assert all(width(line, 10) <= 60 for line in wrapped("办结，先行联系，回访", 10, 60))
    assert Box(0, 0, 2, 2).meets(Box(1, 1, 2, 2)) and not Box(0, 0, 2, 2).meets(Box(2, 0, 1, 1))


def a_result(weeks: int) -> dict[str, Any]:
    pair = {"before": 3, "after": 7}
    return {
        "workflow": {"key": "consultation", "version": 2, "draft": True}, "calendar": None,
        "tickets": {"recorded": 9, "compared": 8, "replayed": 7, "set_aside": 1},
        "breaches": {"tickets": {"newly": 4, "no_longer": 0}, "clocks": [
            {"clock": "resolve", **pair}, {"clock": "a_clock_with_a_very_long_name_of_its_own", **pair}]},
        "weeks": [{"week": f"2026-W{n:02d}", "yellow": pair, "red": pair, "reviews": {"before": 0, "after": 0}}
                  for n in range(1, weeks + 1)],
        "load": [{"department": "tax", "days": [
            {"day": f"2026-09-{n:02d}", "in_hand": pair, "due": pair} for n in range(1, 31)]}],
    }  # fmt: skip


@pytest.mark.parametrize("weeks", [0, 1, 13, 53])
def test_the_comparison_is_drawn_clear(weeks: int) -> None:
    for language in LANGUAGES:
        drawing = charts.picture(a_result(weeks), {"resolve": "办结"}, language)
        told = texts_of(drawing.svg())
        assert "办结" in told and ("2026-W01" in told) == (weeks > 0)
        assert_clear(drawing)
