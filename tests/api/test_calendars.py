"""Calendars as versioned data over HTTP: preview, publication, re-projection, years, districts, retirement, alarms."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from service.core.model import SYSTEM
from service.usecases import calendars, clocks, integrity
from service.usecases.folders import Folder
from tests.conftest import City, opened_house

WHAT_IF = "/v1/clocks/what-if?anchor=2026-09-18T10:00:00%2B08:00&measure=working_days&budget=5"


def next_working_days(folder: Folder, count: int, after: date) -> list[date]:
    from service.core.calendar import Calendar, Measure

    calendar = Calendar.compile(folder.calendars["cn-jinan"])
    return [calendar.nth_day(after, n, Measure.working_days) for n in range(1, count + 1)]


def with_days_off(folder: Folder, *days: date) -> dict[str, Any]:
    data = deepcopy(dict(folder.calendars["cn-jinan"]))
    data["overrides"] = {d.isoformat(): {"off": True, "name": "大雪", "source": "市政府令第7号"} for d in days}
    return data


async def recount(city: City) -> int:
    done, walk = 0, calendars.Walk()
    while n := await calendars.recount_some(city.house, walk):
        done += n
    return done


async def sound(city: City) -> None:
    """Everything stored agrees with itself."""
    report = await integrity.check(city.house)
    assert [f for f in report.findings if f.offending] == []


async def publish(city: City, data: dict[str, Any], **more: Any) -> Any:
    return await city.post("/v1/calendars", {"calendar": data, "reason": "storm", **more}, "admin")


async def today(city: City) -> date:
    return datetime.fromisoformat((await city.get("/v1/sandbox/clock")).json()["now"]).date()


async def test_a_version_that_moves_due_times_is_published_only_by_who_has_seen_which(
    city: City, folder: Folder
) -> None:
    tickets = [await city.ticket() for _ in range(3)]
    storm = with_days_off(folder, *next_working_days(folder, 2, await today(city)))
    refused = await publish(city, storm)
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/preview-required")
    preview = (await publish(city, storm, dry_run=True)).json()
    assert preview["moved"] == refused.json()["moved"] > 0 and preview["earlier"] == 0
    assert [(d["date"], d["before"]["works"], d["after"]["works"], d["after"]["notice"]) for d in preview["days"]] == [
        (day, True, False, "市政府令第7号") for day in storm["overrides"]
    ]
    # resolve, opinion and acceptance of each; contact counts natural hours and moves for nobody
    assert preview["clocks"] == 4 * len(tickets)
    shown = preview["first"][0]
    assert datetime.fromisoformat(shown["after"]) - datetime.fromisoformat(shown["before"]) == timedelta(
        seconds=shown["seconds"]
    )
    wrong = await publish(city, storm, preview="another")
    assert wrong.status_code == 409
    made = await publish(city, storm, preview=preview["preview"])
    assert (made.status_code, made.json()["version"]) == (201, 2)
    listed = (await city.get("/v1/calendars/cn-jinan")).json()
    assert (listed["version"], listed["projection"]["state"], listed["projection"]["total"]) == (2, "running", 12)
    assert [v["reason"] for v in listed["versions"]] == ["storm", "the shipped set"]
    again = await publish(city, storm)
    assert (again.status_code, again.json()["changed"], again.json()["version"]) == (200, False, 2)


async def test_open_clocks_are_counted_anew_in_the_background_and_finished_ones_are_not(
    city: City, folder: Folder
) -> None:
    ids = [(await city.ticket())["id"] for _ in range(5)]
    done = ids[0]
    await city.act(done, "withdraw", "hotline", reason="r")
    before = {t: await city.show(t) for t in ids}
    storm = with_days_off(folder, *next_working_days(folder, 3, await today(city)))
    preview = (await publish(city, storm, dry_run=True)).json()
    await publish(city, storm, preview=preview["preview"])
    assert await recount(city) == 4
    progress = (await city.get("/v1/calendars/cn-jinan")).json()["projection"]
    assert (progress["done"], progress["moved"], progress["total"]) == (16, preview["moved"], 16)
    for t in ids[1:]:
        after = await city.show(t)
        clock = next(c for c in after["clocks"] if c["name"] == "resolve")
        old = next(c for c in before[t]["clocks"] if c["name"] == "resolve")
        assert clock["due_at"] > old["due_at"] and clock["changes"] == 1
        told = (await city.get(f"/v1/tickets/{t}/clocks/{clock['id']}/explanation")).json()
        assert (told["due_at"], told["calendar"]["version"]) == (clock["due_at"], 2)
        assert told["changes"][0]["before"]["due_at"] == old["due_at"]
        off = [d for part in told["counted"] for d in part["days"] if d["rule"] == "override"]
        assert len(off) == 3 and {d["notice"] for d in off} == {"市政府令第7号"}
        events = (await city.get(f"/v1/tickets/{t}/events")).json()["items"]
        assert [e["data"]["kind"] for e in events if e["type"] == "clock.rebound"].count("calendar") >= 1
    assert {c["id"]: c["due_at"] for c in (await city.show(done))["clocks"]} == {
        c["id"]: c["due_at"] for c in before[done]["clocks"]
    }
    await sound(city)
    # ten seconds later no process can start a clock by the old version any more: it is done
    await city.advance(advance_by="PT1M")
    await recount(city)
    assert (await city.get("/v1/calendars/cn-jinan")).json()["projection"]["state"] == "done"


async def test_people_and_two_workers_at_once_leave_every_clock_on_the_newest_version(
    city: City, folder: Folder
) -> None:
    ids = [(await city.ticket())["id"] for _ in range(30)]
    storm = with_days_off(folder, *next_working_days(folder, 2, await today(city)))
    preview = (await publish(city, storm, dry_run=True)).json()
    await publish(city, storm, preview=preview["preview"])

    async def worker(house: Any) -> None:
        walk = calendars.Walk()
        while await calendars.recount_some(house, walk, limit=4):
            pass

    async with opened_house(city.dsn, sandbox=True) as other:
        await asyncio.gather(
            worker(city.house), worker(other), *(city.act(t, "accept", "handler:tax") for t in ids),
            clocks.fire_due(other),
        )  # fmt: skip
    await recount(city)
    async with city.house.db.transaction(SYSTEM) as tx:
        rows = await tx.rows(
            """SELECT c.calendar_version, count(*) FROM clocks c
               WHERE c.state NOT IN ('met', 'breached_met', 'cancelled') GROUP BY 1"""
        )
    assert [r["calendar_version"] for r in rows] == [2]
    await sound(city)


async def test_a_ticket_that_cannot_be_read_does_not_keep_the_others_from_being_counted(
    city: City, folder: Folder
) -> None:
    bad, *good = [(await city.ticket())["id"] for _ in range(4)]
    storm = with_days_off(folder, *next_working_days(folder, 2, await today(city)))
    preview = (await publish(city, storm, dry_run=True)).json()
    await publish(city, storm, preview=preview["preview"])
    async with city.house.db.transaction(SYSTEM) as tx:
        await tx.execute("UPDATE clocks SET segments = '[1]' WHERE ticket_id = $1", bad)
    walk = calendars.Walk()
    while await calendars.recount_some(city.house, walk, limit=2):
        pass
    assert walk.unreadable == {bad}
    assert [await calendar_of(city, t) for t in good] == [("cn-jinan", 2)] * 3


async def test_a_publication_with_a_key_is_carried_out_once_and_its_answer_given_again(
    city: City, folder: Folder
) -> None:
    body = {"calendar": {**folder.calendars["cn-jinan"], "key": "spare"}, "reason": "r"}
    key = {"Idempotency-Key": "publish-1"}
    one, two = [await city.post("/v1/calendars", body, "admin", headers=key) for _ in range(2)]
    assert (one.status_code, two.status_code, two.content) == (201, 201, one.content)
    assert two.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"week": {}}, "/calendar/week"),
        ({"week": {"mon": []}}, "/calendar/week"),
        ({"zone": "Mars/Base"}, "/calendar/zone"),
        ({"day_end": "25:00"}, "/calendar/day_end"),
        ({"week": {"mon": [["12:00", "09:00"]]}}, "/calendar/week/mon/0"),
        ({"overrides": {"2026-01-05": {"off": True}}}, "/calendar/overrides/2026-01-05/source"),
        ({"years": {"2026": {"status": "official"}}}, "/calendar/years/2026/notice"),
        ({"extends": "nowhere"}, "/calendar/extends"),
        ({"key": "cn-jinan", "extends": "cn-jinan"}, "/calendar/extends"),
        ({"title": {"zh": "日历\0", "en": "x"}}, "/calendar/title/zh"),
        ({"week": ["mon"], "extends": "cn-jinan", "key": "own"}, "/calendar/week"),
        ({"key": "Not A Key"}, "/calendar/key"),
        ({"districts": ["370116"]}, "/calendar/districts"),
        ({"other": 1}, "/calendar/calendar/other"),
    ],
)
async def test_a_calendar_that_is_not_well_formed_is_refused_with_its_place(
    shared_city: City, folder: Folder, change: dict[str, Any], pointer: str
) -> None:
    answer = await publish(shared_city, {**folder.calendars["cn-jinan"], **change})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert (await shared_city.get("/v1/calendars/cn-jinan")).json()["version"] == 1


async def test_a_calendar_in_use_is_not_retired_and_the_dependants_are_named(city: City, folder: Folder) -> None:
    await city.ticket()
    answer = await city.request("DELETE", "/v1/calendars/cn-jinan", "admin")
    assert answer.status_code == 409
    told = answer.json()
    assert "project_landing" in told["workflows"] and told["open_clocks"] == 4
    spare = {**folder.calendars["cn-jinan"], "key": "spare"}
    assert (await publish(city, spare)).status_code == 201
    assert (await city.request("DELETE", "/v1/calendars/spare", "admin")).status_code == 204
    assert "spare" not in {c["key"] for c in (await city.get("/v1/calendars")).json()["items"]}
    assert (await city.request("DELETE", "/v1/calendars/spare", "admin")).status_code == 404
    assert (await publish(city, spare)).json()["version"] == 2, "published again it is a further version"


async def test_a_districts_calendar_counts_its_tickets_and_follows_its_citys_versions(
    city: City, folder: Folder
) -> None:
    far = (await city.ticket(location={"district": "370116"}))["id"]
    near = (await city.ticket())["id"]
    [day] = next_working_days(folder, 1, await today(city))
    own = {"key": "cn-laiwu", "title": {"zh": "莱芜区", "en": "Laiwu"}, "extends": "cn-jinan", "districts": ["370116"],
           "overrides": {day.isoformat(): {"off": True, "source": "区政府通知"}}}  # fmt: skip
    preview = (await publish(city, own, dry_run=True)).json()
    assert 0 < preview["moved"] <= preview["clocks"] == 4
    assert (await publish(city, own, preview=preview["preview"])).status_code == 201
    await recount(city)
    keys = {t: await calendar_of(city, t) for t in (far, near)}
    assert keys == {far: ("cn-laiwu", 1), near: ("cn-jinan", 1)}
    fresh = (await city.ticket(location={"district": "370116"}))["id"]
    assert await calendar_of(city, fresh) == ("cn-laiwu", 1)
    storm = with_days_off(folder, *next_working_days(folder, 3, await today(city))[1:])
    preview = (await publish(city, storm, dry_run=True)).json()
    await publish(city, storm, preview=preview["preview"])
    await recount(city)
    assert (await calendar_of(city, far), await calendar_of(city, near)) == (("cn-laiwu", 2), ("cn-jinan", 2))
    body = (await city.get("/v1/calendars/cn-laiwu")).json()["calendar"]
    assert len(body["overrides"]) == 3, "its own day and its city's two"
    refused = await publish(city, {**own, "key": "cn-jinan", "extends": "cn-laiwu"})
    assert refused.status_code == 422 and "/calendar" in refused.text
    spare = {**folder.calendars["cn-jinan"], "key": "spare"}
    await publish(city, spare)
    refused = await publish(city, {**own, "key": "cn-jinan", "extends": "spare", "districts": []})
    assert refused.status_code == 422 and "cn-laiwu can be laid" in refused.text, "an overlay lies over no overlay"


async def calendar_of(city: City, ticket: str) -> tuple[str, int]:
    clock = next(c for c in (await city.show(ticket))["clocks"] if c["name"] == "resolve")
    told = (await city.get(f"/v1/tickets/{ticket}/clocks/{clock['id']}/explanation")).json()
    return told["calendar"]["key"], told["calendar"]["version"]


async def test_a_year_is_shown_day_by_day_with_its_notice(shared_city: City) -> None:
    shown = (await shared_city.get("/v1/calendars/cn-jinan/years/2026")).json()
    assert (shown["status"], shown["provisional"], len(shown["days"])) == ("official", False, 365)
    assert shown["notice"]["title"] and shown["notice"]["published"]
    day = next(d for d in shown["days"] if d["date"] == "2026-09-20")
    assert (day["works"], day["rule"]) == (True, "make_up") and day["notice"] == shown["notice"]["title"]
    beyond = (await shared_city.get("/v1/calendars/cn-jinan/years/2040")).json()
    assert beyond["provisional"] and beyond["notice"] is None
    assert (await shared_city.get("/v1/calendars/cn-jinan/years/1066")).status_code == 422
    assert (await shared_city.get("/v1/calendars/none/years/2026")).status_code == 404
    assert (await shared_city.get("/v1/calendars/cn-jinan/years/2026?version=99")).status_code == 404
    assert (await shared_city.get("/v1/calendars/cn%00")).status_code == 404


async def test_provisional_due_times_are_listed_and_from_december_on_the_missing_year_is_an_alarm(
    city: City, folder: Folder
) -> None:
    year = max(int(y) for y, told in folder.calendars["cn-jinan"]["years"].items() if told["status"] == "official")
    start = datetime.fromisoformat(f"{year}-11-25T10:00:00+08:00")
    if start > datetime.fromisoformat((await city.get("/v1/sandbox/clock")).json()["now"]):
        await city.advance(advance_to=start.isoformat())
        assert (await city.get("/v1/calendars")).json()["items"][0]["alarm"] is None
    await city.advance(advance_to=f"{year}-12-15T10:00:00+08:00")
    ticket = await city.ticket(domain="project_landing", matter="land_use")
    clock = next(c for c in ticket["clocks"] if c["name"] == "resolve")
    assert clock["provisional"] and clock["due_at"].startswith(str(year + 1))
    listed = (await city.get("/v1/clocks?provisional=true")).json()["items"]
    assert [(c["id"], c["ticket"]["number"]) for c in listed] == [(clock["id"], ticket["number"])]
    alarm = (await city.get("/v1/calendars")).json()["items"][0]["alarm"]
    assert alarm["year"] == year + 1 and str(year + 1) in alarm["zh"]
    # the year is published: nothing is provisional any more, and the due times are counted by it
    data = deepcopy(dict(folder.calendars["cn-jinan"]))
    data["years"][str(year + 1)] = {
        "status": "official", "notice": {"title": "国办明年通知", "published": f"{year}-12-15"},
        "off": {f"{year + 1}-01-01": "元旦", f"{year + 1}-01-04": "元旦", f"{year + 1}-01-05": "元旦"},
    }  # fmt: skip
    preview = (await publish(city, data, dry_run=True)).json()
    assert (await publish(city, data, preview=preview["preview"])).status_code == 201
    await recount(city)
    assert (await city.get("/v1/clocks?provisional=true")).json()["items"] == []
    assert (await city.get("/v1/calendars")).json()["items"][0]["alarm"] is None
    after = next(c for c in (await city.show(ticket["id"]))["clocks"] if c["name"] == "resolve")
    assert not after["provisional"]


async def test_the_calculator_explains_in_words_in_two_languages(shared_city: City) -> None:
    zh = (await shared_city.get(WHAT_IF + "&format=text", None)).text
    assert "到期：2026-09-25T00:00:00+08:00" in zh and "2026-09-20 周日 计入 1 日" in zh
    assert "2026-09-19 周六 不计（非工作日）" in zh and "国务院办公厅" in zh
    assert zh.count("计入 1 日") == 5 and "合计 5 日" in zh
    en = (await shared_city.get(WHAT_IF + "&format=text&lang=en", None)).text
    assert "2026-09-20 Sun counted 1 day(s)" in en and "Sum 5 day(s)" in en
    hours = WHAT_IF.replace("working_days&budget=5", "working_hours&budget=PT2.5S") + "&format=text"
    assert "0:00:02.5" in (await shared_city.get(hours, None)).text
    assert (await shared_city.get(WHAT_IF + "&format=xml", None)).status_code == 422


async def test_a_clock_of_a_ticket_is_explained_in_words_with_its_policy_and_what_was_tried(shared_city: City) -> None:
    ticket = await shared_city.ticket()
    clock = next(c for c in ticket["clocks"] if c["name"] == "resolve")
    path = f"/v1/tickets/{ticket['id']}/clocks/{clock['id']}/explanation"
    told = (await shared_city.get(path)).json()
    assert told["policy"]["rule"] == "domains: business_development"
    assert {"workflow": "emergency", "rule": "urgency: emergency"} in told["policy"]["tried"]
    text = (await shared_city.get(path + "?format=text", "handler:tax")).text
    assert "规则：流程 business_development 第1版" in text and "先行比对而未适用：emergency" in text
    assert text.count("计入 1 日") == 15 and f"到期：{clock['due_at']}" in text
    english = (await shared_city.get(path + "?format=text&lang=en", "handler:tax")).text
    assert "Policy: workflow business_development version 1" in english
