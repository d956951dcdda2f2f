"""Timers that need somebody, and notices, over HTTP."""

from __future__ import annotations

from service.usecases import clocks
from tests.conftest import City
from tests.worker.stage import count, jump, sql

DAY = 86_400


async def dead(city: City) -> tuple[str, str]:
    """A ticket whose timers were given up, and the id of one of its clocks."""
    t = (await city.ticket())["id"]
    await sql(city.dsn, "UPDATE clocks SET segments = '[1]' WHERE ticket_id = $1", t)
    await jump(city.dsn, DAY)
    for _ in range(11):
        await clocks.fire_due(city.house)
        await jump(city.dsn, 1000)
    [row, *_] = await sql(city.dsn, "SELECT id::text FROM clocks WHERE dead_at IS NOT NULL ORDER BY dead_at, id")
    return t, row["id"]


async def test_dead_timers_are_listed_and_armed_anew_in_one_call(city: City) -> None:
    t, clock = await dead(city)
    shown = (await city.get("/v1/timers?state=dead", "dispatcher")).json()["items"]
    assert {item["ticket"]["id"] for item in shown} == {t}
    assert all(item["attempts"] == 10 and item["last_error"] and item["dead_at"] for item in shown)
    still = await city.post(f"/v1/timers/{clock}/requeue", {}, "supervisor")
    assert still.status_code == 409, "its rows still make no ticket"
    assert still.json()["detail"].startswith("The timer still cannot fire")
    await sql(city.dsn, "UPDATE clocks SET segments = '[]' WHERE ticket_id = $1", t)
    again = await city.post(f"/v1/timers/{clock}/requeue", {}, "supervisor", headers={"Idempotency-Key": "k"})
    assert again.status_code == 200, again.text
    assert again.json()["next_fire_at"] is not None
    twice = await city.post(f"/v1/timers/{clock}/requeue", {}, "supervisor", headers={"Idempotency-Key": "k"})
    assert twice.json() == again.json()
    assert (await city.post(f"/v1/timers/{clock}/requeue", {}, "supervisor")).status_code == 409
    [entry] = await sql(city.dsn, "SELECT ticket_id::text, data FROM audit WHERE action = 'timer.requeued'")
    assert entry["ticket_id"] == t and clock in entry["data"]
    while (await clocks.fire_due(city.house)).tickets:
        pass
    assert await count(city.dsn, "firings WHERE clock_id = $1", clock) > 0
    assert (await city.get("/readyz", None)).json()["timers_dead"] == len(shown) - 1


async def test_lists_of_timers_are_paged_by_key(city: City) -> None:
    for _ in range(5):
        await city.ticket()
    await jump(city.dsn, 30 * DAY)
    whole = [i["id"] for i in (await city.get("/v1/timers?state=due&limit=200", "supervisor")).json()["items"]]
    assert len(whole) == 20
    paged, cursor = [], ""
    while cursor is not None:
        answer = (await city.get(f"/v1/timers?state=due&limit=3{cursor and '&cursor=' + cursor}", "supervisor")).json()
        paged += [i["id"] for i in answer["items"]]
        cursor = answer["next_cursor"]
    assert paged == whole
    assert (await city.get("/v1/timers?state=aside", "auditor")).json()["items"] == []
    assert (await city.get("/v1/timers?state=nonsense", "auditor")).status_code == 422


async def test_each_reads_his_or_her_own_notices_newest_first(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.advance(advance_by="P40D")
    mine = (await city.get("/v1/notices", "handler:tax")).json()["items"]
    assert mine[-1]["kind"] == "dispatched" and mine[-1]["ticket"]["id"] == t
    assert {n["recipient"] for n in mine} == {"department:tax"}
    assert (await city.get("/v1/notices", "handler:water")).json()["items"] == []
    told = (await city.get("/v1/notices", "supervisor")).json()["items"]
    assert told and {n["recipient"] for n in told} == {"supervisor"}
    first = (await city.get("/v1/notices?limit=1", "handler:tax")).json()
    second = (await city.get(f"/v1/notices?limit=1&cursor={first['next_cursor']}", "handler:tax")).json()
    assert [first["items"][0], second["items"][0]] == mine[:2]


async def test_metrics_show_what_stands_in_the_database(city: City) -> None:
    await dead(city)
    text = (await city.get("/metrics", None)).text
    for name in (
        "timers_due",
        "timers_oldest_due_seconds",
        "timers_aside",
        "clock_skew_seconds",
        "notices_waiting",
        "pumps_held",
    ):
        assert f"\njieban_{name} " in text, name
    assert "\njieban_timers_dead " in text and "\njieban_timers_dead 0.0" not in text
    assert 'jieban_outbox_age_seconds{queue="outbox"}' in text
    assert "jieban_requests_total" in text
