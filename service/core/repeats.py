"""The same enterprise says much the same again: what that is, how sure it is, and what is proposed (重复诉求).

Proposed, never done: whether two requests are one is for a person to say. Open before: the further call is an urge on
that ticket (or the new one is merged into it). Closed before and nothing new said: what was answered is explained again
(art. 25 of Jinan's regulation of the hotline). Closed before with new facts: it is taken up again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from service.core.desk import Similar
from service.core.model import Phase
from service.core.words import likeness, novelty

EXPLAIN = "explain_repeat"
"""The action by which a repeat without a new fact is answered."""


@dataclass(frozen=True, slots=True)
class Before:
    """An earlier ticket of the same enterprise; `terms`: of what it tells, without the enterprise's own names."""

    id: str
    number: str
    matter: str | None
    phase: str
    outcome: str | None
    created_at: datetime
    closed_at: datetime | None
    public_reply: str | None
    terms: frozenset[int]


@dataclass(frozen=True, slots=True)
class Likeness:
    """`relation`: urge, explain, reopen, or related (alike, but closed too long ago). `score`, `new`: 0 to 1."""

    before: Before
    relation: str
    score: float
    new: float
    same_matter: bool

    def reason(self) -> tuple[str, str]:
        """Why, in Chinese and English."""
        matter_zh, matter_en = ("，事项相同", ", the same matter") if self.same_matter else ("", "")
        zh = f"同一企业，文字相似度{self.score:.2f}{matter_zh}；{_SAID_ZH[self.relation]}（新增内容{self.new:.0%}）"
        en = f"the same enterprise, {self.score:.2f} alike{matter_en}; {_SAID_EN[self.relation]} ({self.new:.0%} new)"
        return zh, en


_SAID_ZH = {
    "urge": "原工单在办，建议按催办处理或并入",
    "explain": "原工单已办结且无新的事实，建议说明解释",
    "reopen": "原工单已办结，有新的事实，建议重新办理",
    "related": "原工单办结已久，供参考",
}
_SAID_EN = {
    "urge": "that ticket is open: an urge, or to be merged into it",
    "explain": "that ticket is closed and nothing new is said: to be explained",
    "reopen": "that ticket is closed and there are new facts: to be taken up again",
    "related": "that ticket was closed long ago: for information",
}


def alike(
    terms: frozenset[int], matter: str | None, earlier: Iterable[Before], rules: Similar, now: datetime
) -> list[Likeness]:
    """Earlier tickets that are likely the same, the likeliest first."""
    found = []
    for before in earlier:
        same = matter is not None and matter == before.matter
        score = min(1.0, likeness(terms, before.terms) + (rules.same_matter if same else 0.0))
        # the same matter alone makes nothing alike
        if score >= rules.propose_from and terms & before.terms:
            new = novelty(terms, before.terms)
            found.append(Likeness(before, _relation(before, new, rules, now), round(score, 3), round(new, 3), same))
    return sorted(found, key=lambda f: (f.score, f.before.id), reverse=True)


def _relation(before: Before, new: float, rules: Similar, now: datetime) -> str:
    if before.phase != Phase.CLOSED:
        return "urge"
    if before.closed_at is None or now > before.closed_at + timedelta(days=rules.repeat_days):
        return "related"
    return "explain" if new < rules.no_new_fact_below else "reopen"


def proposals(ticket: str, one: Likeness) -> list[dict[str, Any]]:
    """The requests that would carry out what is proposed, ready to be sent by whoever may."""
    before, (zh, en) = one.before, one.reason()
    reason = f"{zh} / {en}"

    def act(on: str, action: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"action": action, "method": "POST", "path": f"/v1/tickets/{on}/actions/{action}", "body": dict(body)}

    if one.relation == "urge":
        return [
            act(before.id, "urge", {"note": reason}),
            act(ticket, "merge", {"into": before.number, "reason": reason}),
        ]
    if one.relation == "explain":
        return [act(ticket, EXPLAIN, {"of": before.number, "public_reply": before.public_reply or ""})]
    if one.relation == "reopen" and before.outcome not in {"merged", "withdrawn"}:
        return [act(before.id, "reopen", {"reason": reason})]
    return []
