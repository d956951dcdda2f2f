"""Scorecards (考核评分): a unit's figures -> points, each metric piecewise linear with a target, a slope and a floor.

    points = max - slope x (percentage points short of the target), never under the floor, never over the maximum

A metric whose figure counts fewer things than its `min_sample` is not scored (seven tickets say nothing): it is left out
of the points and of the maximum alike, and shown with the reason. What is scored, and how, is data (workflows/scorecards).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal

from pydantic import Field

from service.core.documents import Name, Part, TextDoc, parsed
from service.core.errors import DefinitionError
from service.core.rates import RATE_NAMES

_CENT = Decimal("0.01")


class MetricDoc(Part):
    """`target` in percent, `slope` in points a percentage point; `better: low` for rates that should be small."""

    figure: Name
    max: Decimal = Field(gt=0, le=1000)
    target: Decimal = Field(ge=0, le=100)
    slope: Decimal = Field(gt=0, le=100)
    floor: Decimal = Field(Decimal(0), ge=0)
    better: Literal["high", "low"] = "high"
    min_sample: int | None = Field(None, ge=1, le=1_000_000)


class ScorecardDoc(Part):
    """`classes`: name -> kinds of units that are looked at together; a kind that no class names has no card."""

    key: Name
    title: TextDoc
    min_sample: int = Field(5, ge=1, le=1_000_000)
    ranked: bool = False
    classes: dict[Name, list[Name]] = Field(min_length=1)
    metrics: list[MetricDoc] = Field(min_length=1, max_length=50)


@dataclass(frozen=True, slots=True)
class Scored:
    """Points of one metric; None where it was not scored, and why."""

    figure: str
    points: Decimal | None
    most: Decimal
    because: str


def parse_scorecard(body: Any) -> ScorecardDoc:
    """Raises DefinitionError with the path of what is wrong."""
    card = parsed(ScorecardDoc, body)
    for n, metric in enumerate(card.metrics):
        if metric.figure not in RATE_NAMES:
            raise DefinitionError(f"there is no rate {metric.figure!r}", ("metrics", n, "figure"))
        if metric.floor > metric.max:
            raise DefinitionError("the floor lies above the maximum", ("metrics", n, "floor"))
    kinds = [kind for listed in card.classes.values() for kind in listed]
    if len(kinds) != len(set(kinds)):
        raise DefinitionError("a kind of unit stands in two classes", ("classes",))
    return card


def points_of(metric: MetricDoc, percent: Decimal) -> Decimal:
    """Points for a rate in percent, to the hundredth."""
    short = metric.target - percent if metric.better == "high" else percent - metric.target
    points = metric.max - metric.slope * max(short, Decimal(0))
    return max(points, metric.floor).quantize(_CENT, ROUND_HALF_UP)


def score(card: ScorecardDoc, figures: Mapping[str, Mapping[str, Any]]) -> list[Scored]:
    """Each metric of the card; `figures` as the SLA report gives them."""
    out = []
    for metric in card.metrics:
        figure = figures[metric.figure]
        least = metric.min_sample or card.min_sample
        if not figure["denominator"]:
            out.append(Scored(metric.figure, None, metric.max, "nothing to count"))
        elif figure["denominator"] < least:
            out.append(Scored(metric.figure, None, metric.max, f"fewer than {least} counted"))
        else:
            percent = Decimal(str(figure["value"])) * 100
            out.append(Scored(metric.figure, points_of(metric, percent), metric.max, ""))
    return out
