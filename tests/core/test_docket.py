"""The docket's own rules: the shipped file, what it may say, and the dates that follow from it."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from service.core.docket import Docket, parse_docket
from service.core.errors import DefinitionError
from tests.builders import WORKFLOWS, at, calendar, docket, folder

README = (WORKFLOWS / "README.md").read_text("utf-8")


def test_each_key_of_the_docket_is_explained() -> None:
    part = README[README.index("## docket.yaml") : README.index("## Workflows\n")]
    nested = {
        key
        for name, field in Docket.model_json_schema()["$defs"].items()
        if name != "TextDoc"
        for key in field.get("properties", {})
    }
    missing = [key for key in {*Docket.model_fields, *nested} - {"title", "weekday", "at"} if f"`{key}`" not in part]
    assert missing == []


@pytest.mark.parametrize(
    ("where", "value", "path"),
    [
        (("tiers", 4), {"title": {"zh": "四", "en": "4"}, "chair": {"zh": "主任", "en": "Head"}}, ("tiers",)),
        (("gates", "courage"), {"title": {"zh": "勇气", "en": "Courage"}, "needed": ["always"]}, ()),
        (("gates", "budget", "needed"), ["sometimes"], ("gates", "budget", "needed", 0)),
        (("criteria", "rounds", "check"), "moods", ("criteria", "rounds", "check")),
        (("meeting", "agenda_closes", "weekday"), 8, ("meeting", "agenda_closes", "weekday")),
        (("screening", "returns"), 9, ("screening", "returns")),
        (("nothing",), 1, ("nothing",)),
    ],
)
def test_what_the_file_may_not_say_is_named_by_its_place(
    where: tuple[Any, ...], value: Any, path: tuple[Any, ...]
) -> None:
    import copy

    plain = copy.deepcopy(dict(folder().docket))
    inner = plain
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    with pytest.raises(DefinitionError) as refused:
        parse_docket(plain)
    assert refused.value.path[: len(path)] == path


@pytest.mark.parametrize(
    ("held", "closes"),
    [
        ("2026-09-16 14:30", "2026-09-11 12:00"),  # a Wednesday: the Friday before
        ("2026-09-18 14:30", "2026-09-11 12:00"),  # a Friday: not the same day's noon
        ("2026-09-19 09:00", "2026-09-18 12:00"),
    ],
)
def test_the_agenda_closes_on_the_last_friday_noon_before(held: str, closes: str) -> None:
    assert docket().agenda_closes_at(at(held), calendar()) == at(closes)


@pytest.mark.parametrize(
    ("last", "due"),
    [
        ("2026-09-15", "2026-10-15"),
        ("2026-12-31", "2027-01-31"),
        ("2027-01-31", "2027-02-28"),
        ("2026-11-30", "2026-12-30"),
    ],
)
def test_progress_is_due_a_month_after_the_last_report(last: str, due: str) -> None:
    assert docket().progress_due_on(date.fromisoformat(last)) == date.fromisoformat(due)
