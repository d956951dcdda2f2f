"""What-if over what is stored: nothing is written, the same answer twice, and nothing differs for the rules in force."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from service.core.errors import DefinitionError, Forbidden, Invalid, JiebanError, NotFound
from service.core.model import Actor, Role
from service.usecases import simulation
from service.usecases.house import House
from service.usecases.simulation import Wanted, simulate
from tests import builders
from tests.conftest import City, actor
from tests.stored import store

BOSS = Actor("boss", Role.SUPERVISOR)
SPAN = {"start": "2026-01-01", "end": "2028-12-31"}


async def told(house: House, key: str = "project_landing", **how: Any) -> dict[str, Any]:
    return await simulate(house, BOSS, Wanted(key, **{**SPAN, **how}))


def draft(house: House, key: str, **clocks: Any) -> dict[str, Any]:
    body = deepcopy(dict(house.rules.bodies["workflow", key][1]))
    for name, values in clocks.items():
        body["clocks"][name] |= values
    return body


@pytest.fixture
async def lived(house: House) -> House:
    """120 random lives of several workflows, stored as the house stores them."""
    cases = [builders.a_history(Random(seed), length=14)[0] for seed in range(120)]
    today = max(case.now for case in cases)
    await store(house, [case.pump(today) for case in cases])
    return house


async def test_the_rules_in_force_change_nothing(lived: House) -> None:
    for key in ("project_landing", "consultation", "complaint_report", "emergency"):
        found = await told(lived, key, check_all=True)
        assert found["tickets"]["recorded"] == 120 and found["tickets"]["replayed"] > 20
        assert found["check"] == {"checked": 120, "differ": 0, "first": []}
        assert found["not_comparable"]["tickets"] == 0 and found["not_comparable"]["acts"] == []
        breaches = found["breaches"]
        assert breaches["tickets"]["newly"] == breaches["tickets"]["no_longer"] == 0
        assert breaches["tickets"]["before"] > 20
        for rows in (breaches["clocks"], *(w.values() for w in found["weeks"])):
            assert all(r["before"] == r["after"] for r in rows if isinstance(r, dict))
        for unit in found["load"]:
            assert all(d[what]["before"] == d[what]["after"] for d in unit["days"] for what in ("in_hand", "due"))


async def test_the_same_draft_gives_the_same_bytes_and_writes_nothing(lived: House, monkeypatch: Any) -> None:
    body = draft(lived, "complaint_report", resolve={"budget": 2})

    async def stamp() -> list[Any]:
        async with lived.db.transaction(BOSS, readonly=True) as tx:
            return await tx.rows(
                """SELECT (SELECT count(*) FROM events) e, (SELECT count(*) FROM definitions) d,
                   (SELECT max(xmin::text::bigint) FROM tickets) t, (SELECT max(xmin::text::bigint) FROM clocks) c"""
            )

    before = await stamp()
    first = await told(lived, "complaint_report", workflow=body)
    assert first["breaches"]["tickets"]["newly"] > 0
    monkeypatch.setattr(simulation, "SMALL", 0)
    monkeypatch.setattr(simulation, "PAGE", 17)
    second = await told(lived, "complaint_report", workflow=body)
    assert json.dumps(first).encode() == json.dumps(second).encode(), "in this process or in two others"
    assert await stamp() == before


async def test_a_shorter_limit_names_who_would_breach(lived: House) -> None:
    found = await told(lived, "complaint_report", workflow=draft(lived, "complaint_report", resolve={"budget": 1}))
    assert found["workflow"] == {"key": "complaint_report", "version": 2, "draft": True}
    [resolve] = [c for c in found["breaches"]["clocks"] if c["clock"] == "resolve"]
    assert resolve["newly"] > 0 and resolve["after"] == resolve["before"] + resolve["newly"] - resolve["no_longer"]
    named = [row for row in found["breaches"]["newly"] if row["clock"] == "resolve"]
    assert len(named) == resolve["newly"]
    numbers = {row["ticket"]["number"] for row in named}
    longer = await told(lived, "complaint_report", workflow=draft(lived, "complaint_report", resolve={"budget": 60}))
    assert not numbers & {row["ticket"]["number"] for row in longer["breaches"]["newly"] if row["clock"] == "resolve"}
    reds = [sum(w["red"][side] for w in found["weeks"]) for side in ("before", "after")]
    assert reds[1] > reds[0]


async def test_a_draft_calendar_concerns_every_ticket(lived: House) -> None:
    body = deepcopy(dict(lived.rules.bodies["calendar", "cn-jinan"][1]))
    body["day_end"] = "office_close"
    found = await told(lived, calendar=body)
    assert found["workflow"] is None and found["calendar"] == {"key": "cn-jinan", "version": 2, "draft": True}
    assert found["tickets"]["replayed"] == 120
    assert found["breaches"]["tickets"]["newly"] > 0, "a day ends at half past five, not at midnight"


async def test_a_draft_routing_shows_who_would_have_got_another_lead(city: City) -> None:
    house = city.house
    ticket = await city.ticket(matter=None)
    assert ticket["lead"]["department"] == "tax"
    body = deepcopy(dict(house.rules.bodies["routing", "city"][1]))
    for rule in body["rules"]:
        if rule["lead"] == "tax":
            rule["lead"] = "finance"
    found = await simulate(house, BOSS, Wanted("business_development", routing=body))
    assert found["routing"]["moves"] == [{"before": "tax", "after": "finance", "tickets": 1}]
    assert found["routing"]["first"][0]["ticket"]["number"] == ticket["number"]
    hands = {row["department"]: row["days"][0]["in_hand"] for row in found["load"]}
    assert hands == {"finance": {"before": 0, "after": 1}, "tax": {"before": 1, "after": 0}}


async def test_a_department_narrows_it_to_its_tickets(lived: House) -> None:
    everything, finance = await told(lived), await told(lived, department="finance")
    assert 0 < finance["tickets"]["recorded"] < everything["tickets"]["recorded"]


async def test_progress_is_told_up_to_the_end(lived: House, monkeypatch: Any) -> None:
    monkeypatch.setattr(simulation, "PAGE", 50)
    heard: list[tuple[int, int]] = []
    await simulate(
        lived, BOSS, Wanted("consultation", **SPAN), progress=lambda done, total: heard.append((done, total))
    )
    assert heard == [(50, 120), (100, 120), (120, 120)]


@pytest.mark.parametrize(
    ("how", "error", "where"),
    [
        ({"key": "nobody"}, NotFound, "no such workflow"),
        ({"version": 7}, NotFound, "version 7"),
        ({"start": "2026-13-01"}, Invalid, "/from"),
        ({"start": "2027-01-01", "end": "2026-01-01"}, Invalid, "/from"),
        ({"department": "nobody"}, Invalid, "/department"),
        ({"workflow": {"key": "project_landing"}}, DefinitionError, "title"),
        ({"workflow": {"extends": "base"}}, DefinitionError, "extends"),
        ({"calendar": {"key": "x"}}, DefinitionError, "calendar"),
        ({"calendar": {"extends": "nowhere", "key": "x"}}, DefinitionError, "calendar"),
        ({"routing": {"rules": 1}}, DefinitionError, "domains"),
    ],
)
async def test_what_cannot_be_tried_is_refused_by_name(
    house: House, how: dict[str, Any], error: type[JiebanError], where: str
) -> None:
    key = how.pop("key", "project_landing")
    with pytest.raises(error) as refused:
        await told(house, key, **how)
    named = [e.pointer for e in refused.value.errors] if isinstance(refused.value, Invalid) else [str(refused.value)]
    assert any(where in text for text in named)


async def test_a_draft_of_another_workflow_or_on_no_calendar_is_refused(house: House) -> None:
    with pytest.raises(DefinitionError, match="key: expected 'consultation'"):
        await told(house, "consultation", workflow=draft(house, "project_landing"))
    body = draft(house, "project_landing") | {"calendar": "nowhere"}
    with pytest.raises(DefinitionError, match="calendar: there is no calendar"):
        await told(house, workflow=body)


async def test_only_a_supervisor_simulates(house: House) -> None:
    for who in ("dispatcher", "handler:tax", "admin", "auditor", "hotline"):
        with pytest.raises(Forbidden):
            await simulate(house, actor(who), Wanted("consultation"))


async def test_so_many_are_refused_where_there_is_a_limit(lived: House) -> None:
    with pytest.raises(Invalid) as refused:
        await simulate(lived, BOSS, Wanted("consultation", **SPAN), most=100)
    assert "at most 100" in refused.value.errors[0].detail


async def test_a_new_version_of_the_calendar_is_part_of_the_record(city: City) -> None:
    """Open clocks were re-projected in the middle of their lives; the replay finds the same."""
    from service.core.calendar import Calendar
    from service.usecases import calendars

    house = city.house
    ticket = await city.ticket()
    await city.act(ticket["id"], "accept", "handler:tax")
    await city.advance(advance_by="P3D")
    body = deepcopy(dict(house.rules.bodies["calendar", "cn-jinan"][1]))
    body["day_end"] = "office_close"
    Calendar.compile(body)
    preview = await city.post("/v1/calendars", {"calendar": body, "reason": "r", "dry_run": True}, "admin")
    word = preview.json()["preview"]
    made = await city.post("/v1/calendars", {"calendar": body, "reason": "r", "preview": word}, "admin")
    assert made.status_code == 201, made.text
    walk = calendars.Walk()
    while await calendars.recount_some(house, walk):
        pass
    await city.advance(advance_by="P40D")
    found = await simulate(house, BOSS, Wanted("business_development", check_all=True))
    assert found["check"]["differ"] == 0, found["check"]
    assert found["check"]["checked"] == 1


def test_the_default_span_is_ninety_days() -> None:
    assert timedelta(days=90) == simulation.USUAL
