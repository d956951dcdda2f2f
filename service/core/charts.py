"""The comparison of a what-if as one picture: breaches by clock, cards and reviews by week, promises due by day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final, Literal

from service.core.svg import Box, Drawing, cut

Language = Literal["zh", "en"]
_INK: Final[Mapping[str, str]] = {"before": "#94a3b8", "after": "#1d4ed8"}
_W, _LEFT, _TOP = 760.0, 150.0, 66.0
_SIDES: Final = ("before", "after")
_WORDS: Mapping[Language, Mapping[str, str]] = {
    "zh": {
        "title": "推演对比", "before": "实际", "after": "草案", "breaches": "超期工单数（按时限）", "yellow": "每周黄牌",
        "red": "每周红牌", "reviews": "每周提请一事一议", "due": "每日到期事项", "none": "无",
        "tickets": "工单 {compared} 件，推演 {replayed} 件，不可比 {set_aside} 件；新增超期 {newly} 件，不再超期 {no_longer} 件",
    },
    "en": {
        "title": "What if", "before": "as it was", "after": "under the draft", "breaches": "Tickets late, by clock",
        "yellow": "Yellow cards a week", "red": "Red cards a week", "reviews": "Reviews proposed a week",
        "due": "Promises due a day", "none": "none",
        "tickets": "{compared} tickets, {replayed} replayed, {set_aside} not comparable; {newly} would newly be late,"
                   " {no_longer} no longer",
    },
}  # fmt: skip


def picture(found: Mapping[str, Any], titles: Mapping[str, str], language: Language) -> Drawing:
    """`found`: what `simulate` gave; `titles`: of clocks, by name."""
    words = _WORDS[language]
    tried = [f"{what['key']} {what['version']}" for what in (found["workflow"], found["calendar"]) if what]
    drawing = Drawing(f"{words['title']}: {', '.join(tried) or words['after']}")
    drawing.text(16, 30, drawing.title, 16, bold=True)
    counts = {**found["tickets"], **found["breaches"]["tickets"]}
    drawing.text(16, 50, words["tickets"].format(**counts), 12, fill="#475569")
    x = 16.0
    for side in _SIDES:
        drawing.rect(Box(x, _TOP - 6, 12, 12), _INK[side])
        box = drawing.text(x + 18, _TOP + 4, words[side], 12)
        x = box.x + box.w + 20
    y = _bars(drawing, words["breaches"], found["breaches"]["clocks"], titles, words["none"], _TOP + 40)
    for kind in ("yellow", "red", "reviews"):
        rows = [(week["week"], week[kind]) for week in found["weeks"]]
        y = _columns(drawing, words[kind], rows, words["none"], y)
    _columns(drawing, words["due"], _by_day(found["load"]), words["none"], y)
    return drawing


def _by_day(load: Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[str, int]]]:
    """All departments together, with the days between on which nothing was due."""
    sums: dict[str, Counter[str]] = {}
    for unit in load:
        for row in unit["days"]:
            if any(row["due"].values()):
                sums.setdefault(row["day"], Counter()).update(row["due"])
    if not sums:
        return []
    first, last = date.fromisoformat(min(sums)), date.fromisoformat(max(sums))
    days = [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
    return [(day, {side: sums.get(day, Counter())[side] for side in _SIDES}) for day in days]


def _bars(
    drawing: Drawing, title: str, rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str], none: str, y: float
) -> float:
    drawing.text(16, y, title, 13, bold=True)
    y += 14
    rows = [r for r in rows if r["before"] or r["after"]]
    if not rows:
        drawing.text(28, y + 10, none, 12, fill="#64748b")
        return y + 44
    most = max(max(r["before"], r["after"]) for r in rows)
    for row in rows:
        name = titles.get(row["clock"], row["clock"])
        drawing.text(_LEFT - 8, y + 17, cut(name, 12, _LEFT - 28), 12, anchor="end")
        for n, side in enumerate(_SIDES):
            wide = (_W - _LEFT - 60) * row[side] / most
            drawing.rect(Box(_LEFT, y + 2 + 12 * n, max(wide, 0.5), 10), _INK[side])
            drawing.text(_LEFT + wide + 6, y + 11 + 12 * n, str(row[side]), 10, fill="#475569")
        y += 32
    return y + 26


def _columns(drawing: Drawing, title: str, rows: Sequence[tuple[str, Mapping[str, int]]], none: str, y: float) -> float:
    drawing.text(16, y, title, 13, bold=True)
    most = max((max(values[side] for side in _SIDES) for _, values in rows), default=0)
    if not most:
        drawing.text(28, y + 24, none, 12, fill="#64748b")
        return y + 58
    high, base = 90.0, y + 108
    step = (_W - 60) / len(rows)
    drawing.text(44, base - high + 4, str(most), 10, anchor="end", fill="#64748b")
    drawing.text(44, base + 3, "0", 10, anchor="end", fill="#64748b")
    drawing.line([(50, base), (50 + step * len(rows), base)], "#cbd5e1")
    every = max(1, -(-len(rows) * 74 // int(_W - 60)))
    for n, (label, values) in enumerate(rows):
        for k, side in enumerate(_SIDES):
            tall = high * values[side] / most
            if tall:
                wide = max(0.8, step * 0.42)
                drawing.rect(Box(50 + step * n + k * wide, base - tall, wide, tall), _INK[side])
        if n % every == 0:
            drawing.text(50 + step * n, base + 14, label, 10, fill="#64748b")
    return base + 48
