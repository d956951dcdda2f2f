"""A real city's own clock engine, reproduced: 311 requests with the due time its system recorded."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.core.calendar import Budget, Calendar, Measure

LOGS = Path(__file__).resolve().parents[3] / "shared" / "data" / "logs"

if not LOGS.is_dir():
    pytest.skip("the recorded log is not part of the project", allow_module_level=True)

BUDGET = Budget.parse(Measure.working_hours, "PT8H30M")


def _calendar(rule: dict[str, Any], name: str) -> Calendar:
    """Wall clock of Boston, taken as a zone without summer time, as the log's rule says."""
    years: dict[str, Any] = {}
    for day in rule[name]:
        year = years.setdefault(day[:4], {"status": "official", "notice": {"title": name}, "off": {}})
        year["off"][day] = "public holiday"
    title = {"zh": "波士顿", "en": "Boston"}
    data = {"key": name, "title": title, "zone": "UTC", "week": rule["weekly"], "years": years}
    return Calendar.compile(data)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_recorded_due_times_of_boston_are_reproduced() -> None:
    rule = json.loads((LOGS / "boston_311_calendars.json").read_text(encoding="utf-8"))
    calendars = {name: _calendar(rule, name) for name in ("ma_holidays", "no_holidays")}
    with (LOGS / "boston_311_due_2016_2017.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["recorded_agrees"] == "1"]
    wrong = [
        row["case_id"]
        for row in rows
        if calendars[row["calendar"]].add(_instant(row["opened"]), BUDGET) != _instant(row["due_earliest"])
    ]
    assert len(rows) > 6_000
    assert wrong == []
