"""Finding tickets: Chinese words, numbers, parts of them; what a department may see; the queue, its filters and pages."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.core.model import SYSTEM
from service.db import finding
from service.usecases import integrity
from tests.conftest import UNROUTED, City, request_body

TAX, WATER = "handler:tax", "handler:water"


async def found(city: City, q: str, who: str = "dispatcher", path: str = "/v1/tickets", **more: Any) -> list[str]:
    answer = await city.get(path, who, params={"q": q, **more})
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


async def water_ticket(city: City, **changes: Any) -> dict[str, Any]:
    made = await city.ticket(**{**UNROUTED, **changes})
    await city.act(made["id"], "dispatch", "dispatcher", department="water")
    return made


@pytest.mark.parametrize(
    "q",
    ["发票", "額度", "发票额度", "票额", "增加 发票", "ＱＹ", "zb-7781", "ZB-7781", "7781", "测试机械", "91370100MA3C8K1D2X",
     "MA3C8K1D2X", "370100MA", "历下区", "电", "DN200", "智能 产业园"],
)  # fmt: skip
async def test_a_ticket_is_found_by_any_of_its_words(shared_city: City, q: str) -> None:
    if not await found(shared_city, "产业园"):
        await shared_city.ticket(
            title="发票额度不够用（DN200管件）", description="申请增加额度，单号ZB-7781，电话多次未果。",
            enterprise={"name": "济南测试机械有限公司", "uscc": "91370100MA3C8K1D2X"},
            project={"name": "智能产业园", "code": "2406-370116"}, location={"address": "历下区经十路1号"},
        )  # fmt: skip
    q = {"ＱＹ": (await found_numbers(shared_city))[0]}.get(q, q)
    assert len(await found(shared_city, q)) == 1, q
    assert len(await found(shared_city, q, TAX)) == 1, q
    assert await found(shared_city, q, WATER) == []
    assert len(await found(shared_city, q, TAX, "/v1/queue")) == 1


async def found_numbers(city: City) -> list[str]:
    return [item["number"] for item in (await city.get("/v1/tickets")).json()["items"]]


@pytest.mark.parametrize(
    "q", ["发放", "额票", "77810", "测试公司", "发票 土地", "%", "_", "\\", "'", "发票%", "x" * 200]
)
async def test_what_a_ticket_does_not_say_does_not_find_it(city: City, q: str) -> None:
    await city.ticket(description="发票额度，单号ZB-7781")
    assert await found(city, q) == []
    assert await found(city, q, TAX, "/v1/queue") == []


async def test_characters_that_stand_apart_are_no_word(city: City) -> None:
    """Bigrams alone would find them: 土地-地税-税务 says each pair of 土地税务, and so does this."""
    await city.ticket(title="土地和地税", description="税务")
    assert await found(city, "土地税务") == []
    assert len(await found(city, "地税")) == 1


async def test_numbers_and_references_are_found_whole_and_by_their_ends(city: City) -> None:
    one = await city.ticket(source={"reference": "2026112300012345"})
    await city.ticket(source={"reference": "2026112300099999"})
    for q in (one["number"], one["number"][-5:], one["number"].lower(), "2026112300012345", "012345"):
        assert await found(city, q) == [one["id"]], q


async def test_a_blank_search_is_no_search(city: City) -> None:
    ticket = await city.ticket()
    assert await found(city, "   ") == [ticket["id"]]
    assert (await city.get("/v1/tickets", params={"q": "x" * 201})).status_code == 422
    assert (await city.get("/v1/tickets", params={"q": "a\x00b"})).status_code == 422
    assert (await city.get("/v1/queue", params={"q": "a\x00b"})).status_code == 422


async def test_what_was_found_shows_where_it_stands(city: City) -> None:
    await city.ticket(description="厂区东门外的雨水井盖破损，车辆无法通行，请尽快修复。" * 3)
    [item] = (await city.get("/v1/tickets", params={"q": "井盖"})).json()["items"]
    assert "井盖" in item["excerpt"] and item["excerpt"].endswith("…") and len(item["excerpt"]) < 90
    assert "description" not in item


async def test_a_department_finds_what_reaches_it_and_no_longer_what_left_it(city: City) -> None:
    ticket = await city.ticket()
    assert await found(city, "发票", WATER) == []
    await city.act(ticket["id"], "add_co_handler", "dispatcher", department="water")
    assert await found(city, "发票", WATER) == [ticket["id"]]
    await city.act(ticket["id"], "request_return", TAX, ground="not_our_duty", reason="r")
    approval = (await city.get("/v1/approvals?state=pending")).json()["items"][0]["id"]
    await city.post(f"/v1/approvals/{approval}/decision", {"decision": "approve", "reason": "r"})
    assert await found(city, "发票", TAX) == []
    assert await found(city, "发票", "handler:tax,water") == [ticket["id"]]
    assert await found(city, "发票") == [ticket["id"]]


async def test_what_was_said_later_is_found_too(city: City) -> None:
    ticket = (await city.ticket())["id"]
    await city.post(f"/v1/tickets/{ticket}/amendments", {"text": "另外仓库也漏水"}, "hotline")
    assert await found(city, "漏水", TAX) == [ticket]
    await city.act(ticket, "accept", TAX)
    await city.act(ticket, "submit_reply", TAX, public_reply="已协调园区整改排水沟")
    assert await found(city, "排水沟", TAX) == [ticket]


async def test_parts_that_were_split_off_are_found_by_their_own_words(city: City) -> None:
    whole = await city.ticket()
    parts = [{"title": "供水中断", "description": "厂区停水两天", "department": "water"}]
    split = await city.act(whole["id"], "split", "dispatcher", reason="r", parts=parts)
    assert await found(city, "停水", WATER) == [split["parts"][0]["id"]]


async def test_pages_of_a_search_hold_each_ticket_once_however_many_there_are(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few are taken from the index, many by walking the newest first; both give the same, page by page."""
    made = [(await city.ticket(title=f"发票第{n}号"))["id"] for n in range(9)]
    made += [(await water_ticket(city, title="供水"))["id"] for _ in range(4)]
    expected = sorted(made[:9], reverse=True)
    for most, near, steps, few in (
        (3000, 1000, 20_000, 10), (3000, 1, 20_000, 10), (2, 1, 20_000, 10), (2, 2, 3, 1), (0, 1, 1, 0),
    ):  # fmt: skip
        monkeypatch.setattr(finding, "MOST_FOUND", most)
        monkeypatch.setattr(finding, "FEW", few)
        for suffix in ("", "_IN_QUEUE"):
            monkeypatch.setattr(finding, f"NEAR{suffix}", near)
            monkeypatch.setattr(finding, f"STEPS{suffix}", steps)
        for who in (TAX, "dispatcher"):
            assert await all_pages(city, "/v1/tickets", who, q="发票", limit=2) == expected, (most, near, steps, who)
        assert await all_pages(city, "/v1/tickets", WATER, q="发票", limit=2) == []
        in_due_order = [i["id"] for i in (await city.get("/v1/queue", TAX)).json()["items"]]
        for limit in (4, 50):
            assert await all_pages(city, "/v1/queue", TAX, q="发票", limit=limit) == in_due_order
        assert sorted(in_due_order, reverse=True) == expected


async def all_pages(city: City, path: str, who: str, **params: Any) -> list[str]:
    ids: list[str] = []
    for _ in range(200):
        page = (await city.get(path, who, params=params)).json()
        ids += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            return ids
        params["cursor"] = page["next_cursor"]
    raise AssertionError("the list has no end")


async def test_a_search_with_filters_narrows(city: City) -> None:
    one, other = await city.ticket(), await water_ticket(city, title="发票", description="水费发票")
    assert sorted(await found(city, "发票")) == sorted([one["id"], other["id"]])
    assert await found(city, "发票", department="water") == [other["id"]]
    assert await found(city, "发票", domain="complaint_report") == [other["id"]]
    await city.act(one["id"], "withdraw", "hotline", reason="r")
    assert await found(city, "发票", phase="closed") == [one["id"]]
    assert await found(city, "发票", path="/v1/queue") == [other["id"]]


async def test_tickets_of_before_there_were_texts_become_findable(city: City) -> None:
    ticket = (await city.ticket())["id"]
    async with city.house.db.pool.acquire() as connection:
        await connection.execute("RESET ROLE; DELETE FROM ticket_texts; SET ROLE jieban_app")
    assert await found(city, "发票") == []
    report = await integrity.check(city.house)
    assert [f.code for f in report.findings if f.offending] == ["texts"]
    from service.usecases import finding as texts

    assert await texts.fill(city.house, page=1) == 1
    assert await found(city, "发票", TAX) == [ticket]
    report = await integrity.check(city.house)
    assert [f.code for f in report.findings if f.offending] == []


async def test_a_queue_that_an_older_process_left_behind_is_put_right(city: City) -> None:
    one, two, three = [(await city.ticket())["id"] for _ in range(3)]
    await city.act(three, "withdraw", "hotline", reason="r")
    async with city.house.db.transaction(SYSTEM) as tx:
        await tx.execute(
            "UPDATE open_tickets SET hands = '{}', departments = '{water}', due = now() WHERE ticket_id = $1", one
        )
        await tx.execute("DELETE FROM open_tickets WHERE ticket_id = $1", two)
        await tx.execute(
            """INSERT INTO open_tickets (ticket_id, due, visible_to, departments, hands, phase, urgency, domain, cards)
               VALUES ($1, now(), '{tax}', '{tax}', '{}', 'handling', 'normal', 'consultation', '{}')""",
            three,
        )
    report = await integrity.check(city.house)
    assert [(f.code, f.offending) for f in report.findings if f.offending] == [("queue", 3)]
    from service.usecases import finding as queues

    assert await queues.repair_queue(city.house) == 3 and await queues.repair_queue(city.house) == 0
    assert sorted(await queue(city)) == sorted([one, two])
    report = await integrity.check(city.house)
    assert [f.code for f in report.findings if f.offending] == []


# --- the queue -------------------------------------------------------------------------------------------------------------


async def queue(city: City, who: str = TAX, **params: Any) -> list[str]:
    answer = await city.get("/v1/queue", who, params=params)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


async def test_the_queue_is_narrowed_by_each_filter(city: City) -> None:
    plain = (await city.ticket())["id"]
    urgent = (await city.ticket(urgency="urgent", matter="tax_registration"))["id"]
    await city.act(plain, "accept", TAX)
    await city.act(plain, "assign", TAX, assignee=TAX)
    assert await queue(city, phase="handling") == [plain]
    assert await queue(city, urgency="urgent") == [urgent]
    assert await queue(city, matter="invoice") == [plain]
    assert await queue(city, domain="consultation") == []
    assert await queue(city, assignee="me") == [plain]
    assert await queue(city, "dispatcher", assignee=TAX) == [plain]
    assert await queue(city, "dispatcher", department="tax", assignee=TAX) == [plain]
    assert await queue(city, "dispatcher", department="water", assignee=TAX) == []
    assert await queue(city, cards="red") == []
    await city.advance(advance_by="P60D")
    assert sorted(await queue(city, cards="red")) == sorted([plain, urgent])
    assert sorted(await queue(city, cards="red", due_before="2026-01-01T00:00:00+08:00")) == []
    assert (await city.get("/v1/queue?cards=green", TAX)).status_code == 422
    assert (await city.get("/v1/queue?department=water", TAX)).status_code == 403


async def test_the_queue_in_numbers_agrees_with_the_queue(city: City) -> None:
    for n in range(3):
        ticket = (await city.ticket())["id"]
        if n:
            await city.act(ticket, "accept", ("", "lisi@handler:tax", TAX)[n])
    await water_ticket(city)
    counts = (await city.get("/v1/queue/counts", TAX)).json()
    assert (counts["total"]["tickets"], counts["total"]["mine"], counts["total"]["unassigned"]) == (3, 1, 1)
    assert {k: v["tickets"] for k, v in counts["phases"].items()} == {"acceptance": 1, "handling": 2}
    city_wide = (await city.get("/v1/queue/counts")).json()
    assert city_wide["total"]["tickets"] == 4 and city_wide["total"]["overdue"] == 0
    assert (await city.get("/v1/queue/counts?phase=handling&q=发票", TAX)).json()["total"]["tickets"] == 2
    await city.advance(advance_by="P60D")
    counts = (await city.get("/v1/queue/counts", TAX)).json()["total"]
    assert counts["overdue"] == counts["red"] == len(await queue(city, cards="red")) == 3
    assert (await city.get("/v1/queue/counts?department=water", TAX)).status_code == 403


async def test_pages_of_the_queue_are_stable_while_tickets_change(city: City) -> None:
    """What keeps its due time is seen once and only once, however much moves, comes and goes between the pages."""
    made = [(await city.ticket())["id"] for _ in range(30)]
    moving, still = made[::3], [t for n, t in enumerate(made) if n % 3]
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 4}
    for n in range(100):
        page = (await city.get("/v1/queue", TAX, params=params)).json()
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
        if n < len(moving):
            await asyncio.gather(
                city.post(f"/v1/tickets/{moving[n]}/actions/log_contact", {"reached": False}, TAX),
                city.post("/v1/tickets", request_body(), "hotline"),
            )
    assert [t for t in seen if t in still] and sorted(t for t in seen if t in still) == sorted(still)
    assert len(seen) == len(set(seen))


async def test_a_view_keeps_filters_under_a_name(city: City) -> None:
    plain, urgent = (await city.ticket())["id"], (await city.ticket(urgency="urgent"))["id"]
    body = {"name": "急件", "filters": {"urgency": "urgent", "phase": "acceptance"}}
    key = {"Idempotency-Key": "view-1"}
    made = [await city.post("/v1/views", body, TAX, headers=key) for _ in range(2)]
    assert made[0].status_code == 201 and made[0].content == made[1].content
    view = made[0].json()["id"]
    assert await queue(city, view=view) == [urgent]
    assert await queue(city, view=view, urgency="normal") == [plain], "what is said beside a view goes first"
    assert (await city.get(f"/v1/queue/counts?view={view}", TAX)).json()["total"]["tickets"] == 1
    again = await city.post("/v1/views", {**body, "filters": {}}, TAX)
    assert again.json()["id"] == view and len(await queue(city, view=view)) == 2
    for who in ("lisi@handler:tax", WATER, "dispatcher"):
        assert (await city.get("/v1/views", who)).json()["items"] == []
        assert (await city.get(f"/v1/queue?view={view}", who)).status_code == 404
        assert (await city.request("DELETE", f"/v1/views/{view}", who)).status_code == 404
    assert (await city.request("DELETE", f"/v1/views/{view}", TAX)).status_code == 204
    assert (await city.get(f"/v1/queue?view={view}", TAX)).status_code == 404
    assert (await city.get("/v1/queue?view=x", TAX)).status_code == 404


async def test_a_view_of_a_unit_is_for_its_people(city: City) -> None:
    ticket = (await city.ticket())["id"]
    await city.act(ticket, "assign", TAX, assignee="lisi@handler:tax")
    body = {"name": "我的", "department": "tax", "filters": {"assignee": "me"}}
    view = (await city.post("/v1/views", body, TAX)).json()["id"]
    assert await queue(city, "lisi@handler:tax", view=view) == [ticket], "`me` is whoever looks"
    assert await queue(city, TAX, view=view) == []
    assert (await city.get(f"/v1/queue?view={view}", WATER)).status_code == 404
    assert (await city.request("DELETE", f"/v1/views/{view}", "lisi@handler:tax")).status_code == 404
    for wrong, pointer in (
        ({**body, "department": "water"}, "/department"),
        ({**body, "filters": {"department": "water"}}, "/filters/department"),
        ({**body, "filters": {"colour": "red"}}, "/filters/colour"),
        ({**body, "name": ""}, "/name"),
    ):
        refused = await city.post("/v1/views", wrong, TAX)
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_a_text_follows_its_ticket_whoever_moves_it(city: City) -> None:
    ticket = (await city.ticket())["id"]
    await city.act(ticket, "escalate", TAX, reason="r")
    async with city.house.db.transaction(SYSTEM) as tx:
        same = await tx.value(
            "SELECT bool_and(x.visible_to = t.visible_to) FROM ticket_texts x JOIN tickets t ON id = ticket_id"
        )
    assert same
