"""Each rate of the field: its definition in words, and how a value is made of two counts.

Definitions follow the usage of published bulletins (the limit *falls* in the period, not "closed in the period", so a
backlog cannot hide). A rate with an empty denominator is null, never 0 or 100 %: a unit without requests has no rate.
Percentages are floored at four digits: 99.995 % is never shown as 100 % (time rule T19).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rate:
    """`denominator` and `numerator` say in words which tickets are counted."""

    name: str
    zh: str
    denominator: str
    numerator: str


RATES: tuple[Rate, ...] = (
    Rate("on_time_sign_rate", "按时签收率", "acceptance limit fell in the period", "accepted by hand within the limit"),
    Rate("response_rate", "响应率", "first-contact limit fell in the period", "valid first contact within the limit"),
    Rate("on_time_completion_rate", "按时办结率", "resolution limit fell in the period",
         "reply submitted within the limit and later accepted"),
    Rate("completion_rate", "办结率", "resolution limit fell in the period", "reply accepted, late ones included"),
    Rate("on_time_after_extension_rate", "延期后按时率", "resolution limit fell in the period",
         "within the limit only thanks to an approved extension"),
    Rate("overdue_rate", "超期率", "resolution limit fell in the period", "limit passed before a reply was accepted"),
    Rate("first_time_completion_rate", "一次办结率", "resolution limit of round 1 fell in the period",
         "closed in round 1"),
    Rate("resolution_rate", "解决率", "valid callback in the period", "callback says solved"),
    Rate("partly_solved_rate", "部分解决率", "valid callback in the period", "callback says partly solved"),
    Rate("satisfaction_rate", "满意率", "rated in the period", "very satisfied, satisfied or basically satisfied"),
    Rate("unreachable_rate", "未联系上率", "closed by callback in the period", "closed without reaching the enterprise"),
    Rate("return_rate", "退单率", "dispatched to a lead in the period", "that department asked to send it back"),
    Rate("invalid_return_rate", "无效退单率", "return asked in the period and ruled on", "ruled against the department"),
    Rate("rework_rate", "重办率", "closed in the period", "needed a second round or more"),
    Rate("repeat_rate", "重复诉求率", "closed in the period",
         "same enterprise and matter came again within 30 days after closing"),
    Rate("extension_rate", "延期率", "resolution limit fell in the period", "extension approved"),
    Rate("audit_failure_rate", "答复不规范率", "reply submitted in the period", "reply was sent back by the audit"),
    Rate("review_rate", "提请议事率", "created in the period", "put on the docket of one matter, one discussion"),
)  # fmt: skip

NAMES = tuple(r.name for r in RATES)


def value(numerator: int, denominator: int) -> float | None:
    """Share, floored to four decimals; None when nothing was to be counted."""
    if denominator == 0:
        return None
    return (numerator * 10_000 // denominator) / 10_000


def figures(counts: Mapping[str, tuple[int, int]], link: str) -> dict[str, dict[str, Any]]:
    """Counts per rate -> the report's figures. `link` is a template with `{figure}` that lists the tickets counted."""
    out = {}
    for name in NAMES:
        numerator, denominator = counts.get(name, (0, 0))
        out[name] = {
            "numerator": numerator,
            "denominator": denominator,
            "value": value(numerator, denominator),
            "tickets": link.replace("{figure}", name),
        }
    return out


def percentile(ordered: Sequence[int], share: float) -> int | None:
    """Nearest-rank percentile of an ascending sequence; None when it is empty."""
    if not ordered:
        return None
    rank = max(1, -(-int(share * 1000) * len(ordered) // 1000))
    return ordered[min(rank, len(ordered)) - 1]
