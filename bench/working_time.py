"""Operations per second of the working-time calendar.

Run it from the project's root as a module, `python -m bench.working_time`: run as a file, it would stand in the
way of the standard library's `calendar`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from service.core.calendar import Budget, Calendar, Measure

CALENDARS = Path(__file__).resolve().parents[1] / "workflows" / "calendars"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
SPAN_MINUTES = 6 * 365 * 24 * 60
BUDGETS = (
    Budget.parse(Measure.natural_hours, "PT4H"),
    Budget.parse(Measure.working_hours, "PT14H"),
    Budget.parse(Measure.natural_days, 15),
    Budget.parse(Measure.working_days, 5),
)


def load(name: str) -> dict[str, Any]:
    yaml = YAML(typ="safe", pure=True)
    data: dict[str, Any] = yaml.load(CALENDARS / f"{name}.yaml")
    data["years"] = yaml.load(CALENDARS / data.pop("holidays"))["years"]
    return data


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The best of several runs: the one least disturbed by others."""
    best = float("inf")
    for _ in range(repeats):
        begin = perf_counter()
        work()
        best = min(best, perf_counter() - begin)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description="Operations per second of the working-time calendar.")
    parser.add_argument("--count", type=int, default=100_000, help="single questions per run (%(default)s)")
    parser.add_argument("--many", type=int, default=1_000_000, help="anchors of add_many (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs, of which the best counts (%(default)s)")
    options = parser.parse_args()
    data = load("cn-jinan")
    calendar = Calendar.compile(data)
    print(f"compile        {seconds(lambda: Calendar.compile(data), options.repeats) * 1000:8.1f} ms")
    chance = np.random.default_rng(12345)
    minutes = chance.integers(0, SPAN_MINUTES, options.count).tolist()
    anchors = [BEGIN + timedelta(minutes=minute) for minute in minutes]
    first_us = (BEGIN - EPOCH) // timedelta(microseconds=1)
    many = first_us + chance.integers(0, SPAN_MINUTES, options.many) * 60_000_000
    for budget in BUDGETS:
        report(calendar, budget, anchors, many, options.repeats)


def report(calendar: Calendar, budget: Budget, anchors: list[datetime], many: Any, repeats: int) -> None:
    dues = [calendar.add(anchor, budget) for anchor in anchors]
    pairs = list(zip(anchors, dues, strict=True))
    measure = budget.measure
    add = seconds(lambda: [calendar.add(anchor, budget) for anchor in anchors], repeats)
    between = seconds(lambda: [calendar.between(start, stop, measure) for start, stop in pairs], repeats)
    add_many = seconds(lambda: calendar.add_many(many, budget), repeats)
    print(
        f"{measure:<14} {len(anchors) / add:12,.0f} add/s {len(anchors) / between:12,.0f} between/s"
        f" {len(many) / add_many:14,.0f} add_many/s"
    )


if __name__ == "__main__":
    main()
