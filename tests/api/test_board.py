"""The board: every open matter in its stage, with age and next date; the year's figures open into their matters."""

from __future__ import annotations

from typing import Any

from tests.api.sittings import convened, decided, issued, now, ok, on_the_docket
from tests.conftest import City


async def board(city: City, query: str = "", who: str = "reviewer") -> dict[str, Any]:
    told = await ok(await city.get(f"/v1/reviews/board{query}", who))
    return {s["stage"]: s for s in told["stages"]} | {"tiers": told["tiers"]}


def reviews(stage: dict[str, Any]) -> list[str]:
    return [item["review"] for item in stage["items"]]


async def test_a_matter_moves_over_the_board_with_its_age_and_next_date(city: City) -> None:
    ticket = await city.ticket()
    form = {"ticket": ticket["id"], "reason": "两次派单未解决"}
    proposed = (await ok(await city.post("/v1/reviews", form, "dispatcher"), 201))["id"]
    seen = await board(city)
    assert reviews(seen["proposed"]) == [proposed]
    [card] = seen["proposed"]["items"]
    assert (card["age_days"], card["next"]["what"], card["late"], card["tier"]) == (0, "review_screen", False, None)
    assert seen["tiers"][0]["tier"] is None
    await city.advance(advance_by="P10D")
    [card] = (await board(city))["proposed"]["items"]
    assert (card["age_days"], card["late"]) == (10, True)
    assert (await board(city))["proposed"]["late"] == 1
    review = await on_the_docket(city, "乙公司")
    assert reviews((await board(city))["preparing"]) == [review]
    meeting = await convened(city, review)
    seen = await board(city)
    assert (reviews(seen["preparing"]), reviews(seen["scheduled"])) == ([], [review])
    [card] = seen["scheduled"]["items"]
    assert (card["next"]["what"], card["meeting"]) == ("meeting", meeting)
    await decided(city, review)
    [card] = (await board(city))["minutes"]["items"]
    assert card["next"]["what"] == "review_minutes"
    await issued(city, meeting)
    seen = await board(city)
    assert (seen["minutes"]["count"], reviews(seen["executing"])) == (0, [review])
    assert seen["executing"]["items"][0]["next"]["what"] == "review_reply"
    of_one = next(t for t in seen["tiers"] if t["tier"] == 1)
    assert of_one["enterprise_problem"]["executing"] == 1


async def test_the_board_is_narrowed_by_tier_and_kind_and_by_who_looks(city: City) -> None:
    review = await on_the_docket(city, "甲公司")
    assert reviews((await board(city, "?tier=1"))["preparing"]) == [review]
    assert (await board(city, "?tier=2"))["preparing"]["count"] == 0
    assert (await board(city, "?kind=investment_project"))["preparing"]["count"] == 0
    assert reviews((await board(city, who="handler:tax"))["preparing"]) == [review]
    assert (await board(city, who="handler:water"))["preparing"]["count"] == 0
    assert (await city.get("/v1/reviews/board", "hotline")).status_code == 403
    for query in ("tier=4", "tier=x", "kind=x", "limit=0", "limit=201"):
        assert (await city.get(f"/v1/reviews/board?{query}", "reviewer")).status_code == 422, query


async def test_the_years_figures_keep_the_kinds_apart_and_open_into_their_matters(city: City) -> None:
    first, second = await on_the_docket(city, "甲公司"), await on_the_docket(city, "乙公司")
    meeting = await convened(city, first, second)
    await decided(city, first)
    await decided(city, second, decision="refuse", measures=[], text="没有依据")
    await issued(city, meeting)
    refused = await city.ticket()
    form = {"ticket": refused["id"], "reason": "x", "kind": "investment_project"}
    third = (await ok(await city.post("/v1/reviews", form, "dispatcher"), 201))["id"]
    screen = {"decision": "refuse", "reason": "不属于议事范围"}
    await ok(await city.post(f"/v1/reviews/{third}/actions/screen", screen, "reviewer"))
    year = (await now(city)).year
    told = await ok(await city.get(f"/v1/reports/reviews?year={year}", "supervisor"))
    problems, projects = told["kinds"]["enterprise_problem"], told["kinds"]["investment_project"]
    counts = ("proposed", "accepted", "refused", "withdrawn", "decided", "executed")
    assert [problems[name]["count"] for name in counts] == [2, 2, 0, 0, 2, 1]
    assert [projects[name]["count"] for name in counts] == [1, 0, 1, 0, 0, 0]
    assert problems["by_decision"] == {"approve": 1, "refuse": 1}
    assert [(c["criterion"], c["decided"]["count"]) for c in problems["by_criterion"]] == [("manual", 2)]
    assert problems["decided_on_time"] == {"numerator": 2, "denominator": 2, "value": 1.0}
    assert projects["decided_on_time"]["value"] is None
    assert problems["measures"]["on_time_rate"]["value"] is None
    assert told["minutes"] == [{"series": "centre", "issued": 1, "corrections": 0}]
    assert told["precedents"] == 2
    for kind, figures in told["kinds"].items():
        for name in counts:
            listed = (await ok(await city.get(figures[name]["matters"], "supervisor")))["items"]
            assert len(listed) == figures[name]["count"], (kind, name)
    assert {m["review"] for m in (await ok(await city.get(problems["decided"]["matters"], "supervisor")))["items"]} == {
        first, second
    }  # fmt: skip


async def test_a_year_to_come_is_refused(city: City) -> None:
    for query in ("year=2099", "year=1999", "year=x"):
        assert (await city.get(f"/v1/reports/reviews?{query}", "supervisor")).status_code == 422, query
    assert (await city.get("/v1/reports/reviews", "hotline")).status_code == 403
    bad = await city.get("/v1/reports/reviews/matters?figure=x&kind=enterprise_problem&year=2026", "supervisor")
    assert bad.status_code == 422
