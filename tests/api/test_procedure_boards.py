"""Supervisors' boards over HTTP: breaches, ages, loads, trends, scorecards, lists, and the files they can be had as."""

from __future__ import annotations

import csv
from decimal import Decimal
from io import BytesIO, StringIO
from typing import Any

import pytest
from python_calamine import CalamineWorkbook

from service.core.scoring import MetricDoc, points_of
from tests.conftest import UNROUTED, City

TAX = "handler:tax"
SUP = "supervisor"
GLAD = {"reached": True, "solved": "yes", "satisfaction": "satisfied"}


async def read(city: City, path: str, who: str = SUP, status: int = 200, **query: Any) -> dict[str, Any]:
    answer = await city.get(path, who, params=query)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def follow(city: City, link: str, who: str = SUP) -> list[dict[str, Any]]:
    """Everything that a link lists, one a page."""
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        answer = await city.get(f"{link}&limit=1" + (f"&cursor={cursor}" if cursor else ""), who)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items


async def test_breaches_name_the_unit_the_clock_and_how_late_it_is(city: City) -> None:
    late = (await city.ticket())["id"]
    await city.advance(advance_by="P40D")
    told = await read(city, "/v1/reports/breaches", clock="resolve")
    [breach] = told["items"]
    assert (breach["ticket"]["id"], breach["charged_to"], breach["state"]) == (late, "tax", "breached_running")
    assert breach["overdue_hours"] > 24 * 5
    assert told["total"] == {"breaches": 1, "running": 1, "excluded": 0}
    every = await follow(city, "/v1/reports/breaches?department=tax")
    assert {b["clock"] for b in every} == {"accept", "contact", "opinion", "resolve"}
    groups = (await read(city, "/v1/reports/breaches"))["groups"]
    assert {(g["key"]["department"], g["key"]["clock"]): g["breaches"] for g in groups} == {
        **{("tax", name): 1 for name in ("accept", "contact", "opinion", "resolve")}, (None, "review_screen"): 1,
    }  # fmt: skip


async def test_a_duty_of_the_centre_is_charged_to_the_centre(city: City) -> None:
    await city.ticket(**UNROUTED)
    await city.advance(advance_by="P3D")
    [breach] = (await read(city, "/v1/reports/breaches", clock="dispatch"))["items"]
    assert breach["charged_to"] == "centre"


async def test_ages_open_into_exactly_the_tickets_of_each_bucket(city: City) -> None:
    old = (await city.ticket())["id"]
    await city.advance(advance_by="P4D")
    new = (await city.ticket())["id"]
    other = (await city.ticket(**UNROUTED))["id"]
    told = await read(city, "/v1/reports/aging")
    assert told["total"]["tickets"] == 3
    tax, nobody = told["groups"]
    assert (tax["key"], nobody["key"]) == ({"department": "tax"}, {"department": None})
    filled = {(b["from_days"], b["to_days"]): b for b in tax["buckets"] if b["tickets"]}
    assert {k: b["tickets"] for k, b in filled.items()} == {(0, 1): 1, (3, 5): 1}
    assert [t["id"] for t in await follow(city, filled[3, 5]["listed"])] == [old]
    assert [t["id"] for t in await follow(city, filled[0, 1]["listed"])] == [new]
    assert [t["id"] for t in await follow(city, nobody["buckets"][0]["listed"])] == [other]


async def test_a_handler_sees_the_boards_of_the_own_unit_only(city: City) -> None:
    await city.ticket()
    await city.advance(advance_by="P40D")
    for path in ("breaches", "aging", "workload", "due"):
        told = await read(city, f"/v1/reports/{path}", "handler:water")
        assert not told.get("groups") and not told.get("items"), path
    assert (await read(city, "/v1/reports/aging", TAX))["total"]["tickets"] == 1
    await read(city, "/v1/reports/trend", "handler:water", 403, department="tax")
    assert (await city.get("/v1/reports/breaches", "hotline")).status_code == 403


async def test_the_load_of_a_unit_says_what_it_has_in_hand_and_who_of_it(city: City) -> None:
    first, second = (await city.ticket())["id"], (await city.ticket())["id"]
    await city.act(first, "accept", TAX)
    await city.act(first, "add_co_handler", TAX, department="water")
    told = await read(city, "/v1/reports/workload")
    water = next(g for g in told["groups"] if g["key"]["department"] == "water")
    tax = next(g for g in told["groups"] if g["key"]["department"] == "tax")
    assert (tax["leading"], tax["unsigned"], tax["received"], tax["replied"]) == (2, 1, 2, 0)
    assert (water["leading"], water["helping"]) == (0, 1)
    assert {p["assignee"]: p["tickets"] for p in tax["people"]} == {TAX: 1, None: 1}
    assert second


async def test_a_trend_shows_every_month_also_one_without_tickets(city: City) -> None:
    t = (await city.ticket(source={"received_at": None}))["id"]
    await city.act(t, "accept", TAX)
    await city.act(t, "submit_reply", TAX, public_reply="已办理", outcome="solved")
    await city.act(t, "approve_reply", "dispatcher")
    await city.act(t, "record_callback", "hotline", **GLAD)
    told = await read(city, "/v1/reports/trend", figures="new,satisfaction_rate")
    assert len(told["series"]) >= 3
    assert [m["figures"]["new"]["numerator"] for m in told["series"]] == [0] * (len(told["series"]) - 1) + [1]
    last = told["series"][-1]["figures"]["satisfaction_rate"]
    assert (last["numerator"], last["denominator"], last["value"]) == (1, 1, 1.0)
    assert [i["id"] for i in await follow(city, last["tickets"])] == [t]
    weeks = await read(city, "/v1/reports/trend", figures="new", by="week", department="tax")
    assert weeks["series"][-1]["week"][:4].isdigit() and "-W" in weeks["series"][-1]["week"]
    await read(city, "/v1/reports/trend", SUP, 422, figures="no_such")


async def test_a_scorecard_scores_what_has_enough_tickets_and_says_why_it_does_not_score_the_rest(city: City) -> None:
    for _ in range(5):
        await city.ticket()
    await city.advance(advance_by="P2D")
    told = await read(city, "/v1/reports/scorecards")
    [tax] = [u for c in told["classes"] for u in c["units"] if u["department"] == "tax"]
    metrics = {m["figure"]: m for m in tax["metrics"]}
    assert metrics["response_rate"]["denominator"] == 5
    assert (metrics["response_rate"]["points"], metrics["response_rate"]["value"]) == (0.0, 0.0)
    assert metrics["satisfaction_rate"]["not_scored_because"] == "nothing to count"
    assert tax["of"] == 15.0, "only what was scored counts"
    assert not told["ranked"] and "rank" not in tax
    assert len(await follow(city, metrics["response_rate"]["tickets"])) == 5
    await read(city, "/v1/reports/scorecards", SUP, 404, scorecard="none")


@pytest.mark.parametrize(
    ("figure", "target", "slope", "floor", "percent", "points"),
    [
        ("on_time_completion_rate", 100, "1", "0", "89.82", "14.82"),
        ("on_time_completion_rate", 100, "1", "0", "80", "5.00"),
        ("on_time_completion_rate", 100, "1", "0", "66.67", "0.00"),
        ("satisfaction_rate", 98, "0.5", "12.5", "87.5", "19.75"),
        ("satisfaction_rate", 98, "0.5", "12.5", "83.33", "17.67"),
        ("satisfaction_rate", 98, "0.5", "12.5", "75", "13.50"),
        ("satisfaction_rate", 95, "0.5", "12.5", "70.59", "12.80"),
        ("satisfaction_rate", 98, "0.5", "12.5", "50", "12.50"),
        ("satisfaction_rate", 95, "0.5", "12.5", "100", "25.00"),
    ],
)
def test_points_are_those_that_a_city_published(
    figure: str, target: int, slope: str, floor: str, percent: str, points: str
) -> None:
    metric = MetricDoc(figure=figure, max=25, target=target, slope=Decimal(slope), floor=Decimal(floor))
    assert points_of(metric, Decimal(percent)) == Decimal(points)


async def test_the_daily_lists_count_what_they_show(city: City) -> None:
    await city.ticket()
    told = await read(city, "/v1/reports/due")
    assert set(told["lists"]) == {
        "due_today", "due_next_working_day", "red", "unsigned", "return_loops", "unreachable",
    }  # fmt: skip
    assert told["lists"]["unsigned"]["tickets"] == 1
    for name, listed in told["lists"].items():
        assert len(await follow(city, listed["listed"])) == listed["tickets"], name
    await city.advance(advance_by="P45D")
    told = await read(city, "/v1/reports/due")
    assert (told["lists"]["red"]["tickets"], told["lists"]["unsigned"]["tickets"]) == (1, 0)
    await read(city, "/v1/reports/due", SUP, 422, list="everything")


@pytest.mark.parametrize("path", ["sla", "breaches", "aging", "workload", "scorecards", "trend"])
async def test_every_board_can_be_had_as_a_file_in_which_nothing_runs(city: City, path: str) -> None:
    await city.ticket(title="=HYPERLINK(1)")
    await city.advance(advance_by="P40D")
    text = await city.get(f"/v1/reports/{path}", SUP, params={"format": "csv"})
    assert text.status_code == 200 and text.headers["content-disposition"] == f'attachment; filename="{path}.csv"'
    rows = list(csv.reader(StringIO(text.text.removeprefix("\ufeff"), newline="")))
    book = await city.get(f"/v1/reports/{path}", SUP, params={"format": "xlsx"})
    assert book.status_code == 200 and book.headers["content-disposition"] == f'attachment; filename="{path}.xlsx"'
    sheet = CalamineWorkbook.from_filelike(BytesIO(book.content)).get_sheet_by_index(0).to_python()
    assert sheet[0] == rows[0] and len(sheet) == len(rows) > 1
    cells = [c for row in (*rows, *sheet) for c in row if isinstance(c, str)]
    assert not [c for c in cells if c.startswith("=")]
    if path == "breaches":
        assert "'=HYPERLINK(1)" in cells
