"""The special cases of intake, of confidential requests and of units that change: each a behaviour with its number in
SPECIAL_CASES.md."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from stdnum.cn import uscc

from service.db.session import connect_arguments
from service.usecases import incidents, integrity, receivers, units
from tests.conftest import UNROUTED, City, request_body
from tests.db.test_row_level_security import app_login as app_login  # a fixture

ENTERPRISE = "济南测试机械有限公司"


def a_code() -> str:
    """A credit code with a right check digit."""
    body = "91370100" + "".join(str(b % 10) for b in os.urandom(9))
    return next(body + c for c in "0123456789ABCDEFGHJKLMNPQRTUWXY" if uscc.is_valid(body + c))


def codes(ticket: dict[str, Any]) -> set[str]:
    return {w["code"] for w in ticket["warnings"]}


async def history(city: City, ticket: str, who: str = "dispatcher") -> list[dict[str, Any]]:
    answer = await city.get(f"/v1/tickets/{ticket}/events", who, params={"limit": 200})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def kinds_of_notices(city: City, who: str) -> set[str]:
    return {n["kind"] for n in (await city.get("/v1/notices", who)).json()["items"]}


async def sound(city: City) -> None:
    """Everything stored agrees with itself."""
    report = await integrity.check(city.house)
    assert report.offending == 0, [f for f in report.findings if f.offending]


# --- 2: codes of another catalogue version ---------------------------------------------------------------------------


async def test_special_case_2_an_unknown_code_waits_in_quarantine_with_its_clock_running(city: City) -> None:
    t = await city.ticket(matter="invoice_v2")
    assert (t["phase"], t["lead"]) == ("dispatch", None)
    assert {"unknown_matter"} <= codes(t)
    running = {c["name"] for c in t["clocks"] if c["state"] == "running"}
    assert running == {"resolve", "dispatch"}
    [waiting] = (await city.get("/v1/quarantine")).json()["items"]
    assert waiting.items() >= {"number": t["number"], "field": "matter", "code": "invoice_v2", "state": "open",
                               "source_system": "jn12345", "suggested_lead": "tax"}.items()  # fmt: skip
    fixed = await city.post(f"/v1/quarantine/{t['id']}/fix", {"means": "invoice", "reason": "新版目录"})
    assert fixed.status_code == 200, fixed.text
    shown = await city.show(t["id"])
    assert (shown["matter"], shown["lead"]["department"], shown["phase"]) == ("invoice", "tax", "acceptance")
    assert codes(shown) == set()
    started = {c["name"]: c["started_at"] for c in t["clocks"]}
    assert {c["name"]: c["started_at"] for c in shown["clocks"]}["resolve"] == started["resolve"], "its clock ran on"
    assert (await city.get("/v1/quarantine")).json()["items"] == []
    again = await city.post(f"/v1/quarantine/{t['id']}/fix", {"means": "invoice", "reason": "x"})
    assert again.status_code == 409
    await sound(city)


async def test_special_case_2_a_meaning_given_for_all_frees_the_others_and_those_to_come(city: City) -> None:
    waiting = [await city.ticket(matter="invoice_v2") for _ in range(3)]
    other = await city.ticket(matter="invoice_v2", source={"system": "another"})
    asked = {"means": "invoice", "reason": "新版目录", "for_all": True}
    fixed = await city.post(f"/v1/quarantine/{waiting[0]['id']}/fix", asked)
    assert fixed.json()["also"] == 2
    for t in waiting:
        assert (await city.show(t["id"]))["lead"]["department"] == "tax"
    later = await city.ticket(matter="invoice_v2")
    assert (later["matter"], later["lead"]["department"]) == ("invoice", "tax")
    assert [w["number"] for w in (await city.get("/v1/quarantine")).json()["items"]] == [other["number"]]


@pytest.mark.parametrize(("body", "pointer"), [
    ({"means": "no_such", "reason": "x"}, "/means"), ({"means": "invoice"}, "/reason"),
    ({"field": "unit", "means": "tax", "reason": "x"}, "/field"),
])  # fmt: skip
async def test_a_fix_that_says_nothing_is_refused(shared_city: City, body: dict[str, Any], pointer: str) -> None:
    t = await shared_city.ticket(matter="invoice_v9")
    answer = await shared_city.post(f"/v1/quarantine/{t['id']}/fix", body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


# --- 6: agents, groups, anonymous, no reply --------------------------------------------------------------------------


async def test_special_case_6_a_group_request_is_one_ticket_of_many_firms(city: City) -> None:
    firms = [{"name": f"济南第{n}机械厂"} for n in range(50)]
    t = await city.ticket(group=firms, title="园区停电影响生产")
    assert len((await city.show(t["id"]))["group"]) == 50
    assert "group_request" in await kinds_of_notices(city, "supervisor")
    [found] = (await city.get("/v1/enterprises", params={"name": "济南第7机械厂"})).json()["items"]
    one = (await city.get(f"/v1/enterprises/{found['id']}")).json()
    assert [(x["number"], x["own"]) for x in one["tickets"]] == [(t["number"], False)]


async def test_special_case_6_an_agent_without_authority_is_a_warning_and_known(city: City) -> None:
    t = await city.ticket(agent={"name": "济南市机械商会", "kind": "chamber"})
    assert "agent_without_authority" in codes(t)
    assert t["agent"]["kind"] == "chamber"
    fine = await city.ticket(agent={"name": "济南市机械商会", "kind": "chamber", "authorised": True})
    assert "agent_without_authority" not in codes(fine)


async def test_special_case_6_of_an_anonymous_request_nobody_is_kept(city: City) -> None:
    name = "绝密机械有限公司"
    t = await city.ticket(anonymous=True, enterprise={"name": name, "uscc": a_code()},
                          contact={"name": "赵匿名", "phone": "13700009999"})  # fmt: skip
    assert (t["enterprise"]["name"], t["contact"], t["anonymous"]) == ("匿名", None, True)
    assert "anonymous_dropped" in codes(t)
    connection = await asyncpg.connect(**connect_arguments(city.dsn))
    for table in ("tickets", "enterprises", "ticket_texts", "events", "outbox"):
        text = await connection.fetchval(f"SELECT string_agg(x::text, ' ') FROM {table} x")
        assert name not in (text or "") and "13700009999" not in (text or ""), table
    await connection.close()
    second = await city.ticket(anonymous=True)
    assert "similar_request" not in codes(second), "nothing joins two anonymous requests"
    assert (await city.get("/v1/enterprises")).json()["items"] == []


async def no_reply(city: City, **changes: Any) -> dict[str, Any]:
    return await city.ticket(reply_required=False, **changes)


async def test_special_case_6_do_not_reply_closes_without_contacting_the_enterprise(city: City) -> None:
    t = await no_reply(city)
    assert "contact" not in {c["name"] for c in t["clocks"]}, "nobody is late with a call that nobody wants"
    await city.act(t["id"], "accept", "handler:tax")
    refused = await city.act(t["id"], "log_contact", "handler:tax", 409)
    assert "log_contact" not in refused["actions"]
    await city.act(t["id"], "submit_reply", "handler:tax", public_reply="已办理", outcome="solved")
    closed = await city.act(t["id"], "approve_reply", "dispatcher")
    assert (closed["phase"], closed["outcome"]) == ("closed", "solved"), "no callback"
    assert "callback" not in {c["name"] for c in closed["clocks"]}
    await sound(city)


# --- 7: the register of firms ----------------------------------------------------------------------------------------


async def the_firm(city: City, **asked: str) -> dict[str, Any]:
    [found] = (await city.get("/v1/enterprises", params=asked)).json()["items"]
    one: dict[str, Any] = (await city.get(f"/v1/enterprises/{found['id']}")).json()
    return one


async def test_special_case_7_a_renamed_firm_is_the_same_firm_and_keeps_its_old_name(city: City) -> None:
    code = a_code()
    first = await city.ticket(enterprise={"name": "济南旧名机械有限公司", "uscc": code})
    second = await city.ticket(enterprise={"name": "济南新名科技有限公司", "uscc": code})
    assert "enterprise_renamed" in codes(second)
    firm = await the_firm(city, uscc=code)
    assert [(n["name"], n["until"] is None) for n in firm["names"]] == [
        ("济南旧名机械有限公司", False), ("济南新名科技有限公司", True)]  # fmt: skip
    assert firm["names"][0]["until"] == firm["names"][1]["since"]
    assert [t["number"] for t in firm["tickets"]] == [second["number"], first["number"]]
    assert (await the_firm(city, name="旧名机械"))["id"] == firm["id"], "found by a name it had"
    third = await city.ticket(enterprise={"name": "济南旧名机械有限公司"})
    assert "matched_by_name" in codes(third), "without a code, by a name it had"
    assert len((await the_firm(city, uscc=code))["tickets"]) == 3


async def test_special_case_7_a_project_company_has_its_code_once_it_is_registered(city: City) -> None:
    before = await city.ticket(enterprise={"name": "山东某某新能源有限公司（筹）", "kind": "unregistered"},
                               project={"name": "新能源一期"})  # fmt: skip
    code = a_code()
    after = await city.ticket(enterprise={"name": "山东某某新能源有限公司", "uscc": code,
                                          "formerly": "山东某某新能源有限公司（筹）"})  # fmt: skip
    firm = await the_firm(city, uscc=code)
    assert firm["kind"] is None
    assert {t["number"] for t in firm["tickets"]} == {before["number"], after["number"]}
    assert [n["name"] for n in firm["names"]] == ["山东某某新能源有限公司（筹）", "山东某某新能源有限公司"]


async def test_special_case_7_a_branch_belongs_to_its_parent(city: City) -> None:
    code = a_code()
    parent = {"name": "山东总部集团有限公司", "uscc": code}
    await city.ticket(enterprise={"name": "山东总部集团济南分公司", "kind": "branch", "parent": parent})
    await city.ticket(enterprise={"name": "山东总部集团章丘分公司", "kind": "branch", "parent": parent})
    whole = await the_firm(city, uscc=code)
    assert {b["name"] for b in whole["branches"]} == {"山东总部集团济南分公司", "山东总部集团章丘分公司"}
    branch = await the_firm(city, name="章丘分公司")
    assert (branch["parent"]["id"], branch["kind"]) == (whole["id"], "branch")


async def test_special_case_7_two_firms_with_codes_of_their_own_are_not_one_for_a_name(city: City) -> None:
    one, two = a_code(), a_code()
    await city.ticket(enterprise={"name": "同名有限公司", "uscc": one})
    await city.ticket(enterprise={"name": "同名有限公司", "uscc": two})
    third = await city.ticket(enterprise={"name": "同名有限公司"})
    assert "matched_by_name" not in codes(third)
    assert len((await city.get("/v1/enterprises", params={"name": "同名有限公司"})).json()["items"]) == 3


async def test_special_case_7_many_posts_of_one_new_firm_at_once_make_one_firm(city: City) -> None:
    code = a_code()
    await asyncio.gather(*(city.ticket(enterprise={"name": "并发有限公司", "uscc": code}) for _ in range(12)))
    assert len((await the_firm(city, uscc=code))["tickets"]) == 12


# --- 8: several matters ----------------------------------------------------------------------------------------------


async def test_special_case_8_several_matters_of_one_call_are_linked_tickets(city: City) -> None:
    t = await city.ticket(parts=[
        {"title": "厂区门口路灯不亮", "description": "夜间路灯坏了", "matter": "street_order"},
        {"title": "社保缴费证明打不出来", "description": "人社大厅打印不了社保缴费证明", "domain": "consultation"},
    ])  # fmt: skip
    assert len(t["parts"]) == 2
    shown = [await city.show(p["id"]) for p in t["parts"]]
    for n, part in enumerate(shown, 1):
        assert part["split_from"] == t["id"]
        assert part["source"]["reference"] == f"{t['source']['reference']}#{n}"
        assert part["contact"] == t["contact"]
        resolve = {c["name"]: c for c in part["clocks"]}["resolve"]
        assert resolve["started_at"] == {c["name"]: c for c in t["clocks"]}["resolve"]["started_at"]
    assert shown[0]["lead"] != t["lead"], "each goes its own way"
    first = (await history(city, shown[1]["id"]))[0]
    assert first["data"]["split"]["of"]["number"] == t["number"]
    await sound(city)


# --- 10, 11: not accepted --------------------------------------------------------------------------------------------

GROUNDS = ["out_of_city", "emergency_line", "litigation_arbitration_etc", "petition_track", "discipline",
           "secrets_privacy", "unlawful_or_immoral", "no_content_or_abuse", "same_facts_closed",
           "party_npc_court_military", "private_civil_dispute"]  # fmt: skip


@pytest.mark.parametrize("ground", GROUNDS)
async def test_special_cases_10_and_11_a_rejection_names_its_ground_and_the_legal_route(
    shared_city: City, ground: str
) -> None:
    t = (await shared_city.ticket(**UNROUTED))["id"]
    told = await shared_city.act(t, "reject", "dispatcher", ground=ground, explanation="已说明",
                                 legal_route="向有管辖权的机关反映")  # fmt: skip
    assert (told["phase"], told["outcome"]) == ("closed", "rejected")
    seen = await shared_city.show(t, "hotline")
    assert seen["rejection"].items() >= {"ground": ground, "legal_route": "向有管辖权的机关反映"}.items()


async def test_special_case_10_nothing_is_rejected_bare_or_for_another_reason(shared_city: City) -> None:
    t = (await shared_city.ticket(**UNROUTED))["id"]
    for form, pointer in (
        ({"ground": "too_hard", "explanation": "x", "legal_route": "y"}, "/ground"),
        ({"ground": "discipline", "explanation": "x"}, "/legal_route"),
        ({"ground": "discipline", "explanation": "x", "legal_route": ""}, "/legal_route"),
        ({"ground": "discipline", "legal_route": "x"}, "/explanation"),
    ):
        refused = await shared_city.act(t, "reject", "dispatcher", 422, **form)
        assert pointer in {e["pointer"] for e in refused["errors"]}
    await shared_city.act(t, "reject", "handler:tax", 404, ground="discipline", explanation="x", legal_route="y")
    await shared_city.act(t, "reject", "hotline", 403, ground="discipline", explanation="x", legal_route="y")
    possible = (await shared_city.get(f"/v1/tickets/{t}/actions")).json()["items"]
    routes = next(a for a in possible if a["name"] == "reject")["form"]["properties"]["ground"]["x-routes"]
    assert set(routes) == set(GROUNDS), "for each ground the way that is usually named"


async def test_a_rejected_request_is_told_apart_in_the_reports(city: City) -> None:
    t = (await city.ticket(**UNROUTED))["id"]
    await city.act(t, "reject", "dispatcher", ground="discipline", explanation="x", legal_route="12388")
    total = (await city.get("/v1/reports/sla", "supervisor")).json()["total"]["figures"]
    counted = {name: total[name]["numerator"] for name in ("closed", "completed", "not_accepted")}
    assert counted == {"closed": 1, "completed": 0, "not_accepted": 1}


async def test_special_case_10_a_matter_that_enters_a_legal_track_while_open_is_terminated(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "accept", "handler:tax")
    possible = (await city.get(f"/v1/tickets/{t}/actions", "handler:tax")).json()["items"]
    form = next(a for a in possible if a["name"] == "request_terminate")["form"]
    assert "ground" in form["required"] or "reason" in form["required"]


# --- 12: emergencies -------------------------------------------------------------------------------------------------


async def test_special_case_12_an_emergency_handed_over_at_once_is_logged_and_closed(city: City) -> None:
    t = await city.ticket(handed_over={"line": "119", "note": "已三方通话"}, title="车间起火了", urgency="emergency")
    assert (t["phase"], t["outcome"], t["handed_over"]["line"]) == ("closed", "transferred", "119")
    assert [e["type"] for e in await history(city, t["id"])] == ["ticket.opened", "ticket.hand_over"]
    body = request_body(handed_over={"line": "110"})
    headers = {"Idempotency-Key": "e1"}
    one = await city.post("/v1/tickets", body, "hotline", headers=headers)
    two = await city.post("/v1/tickets", body, "hotline", headers=headers)
    assert (one.status_code, one.json()["outcome"], two.content) == (201, "transferred", one.content)
    await sound(city)


async def test_special_case_12_words_that_call_for_an_emergency_line_are_told_at_once_and_hand_nothing_over(
    city: City,
) -> None:
    t = await city.ticket(title="锅炉房燃气泄漏", description="现在有很浓的味道")
    assert t["phase"] != "closed"
    assert next(w for w in t["warnings"] if w["code"] == "emergency_line")["detail"].count("119") == 1
    assert "emergency" in await kinds_of_notices(city, "dispatcher")
    handed = await city.act(t["id"], "hand_over", "dispatcher", line="119")
    assert (handed["phase"], handed["outcome"]) == ("closed", "transferred")
    calm = await city.ticket(title="消防演练咨询", description="想组织燃气泄漏应急演练，需要备案吗")
    assert "emergency_line" not in codes(calm)


async def put_on_duty(city: City, department: str, subject: str, hours: int = 12) -> dict[str, Any]:
    now = (await city.get("/v1/sandbox/clock", "admin")).json()["now"]
    from datetime import datetime, timedelta

    start = datetime.fromisoformat(now)
    body = {"department": department, "kind": "night", "subject": subject, "name": "周值班", "phone": "13600001111",
            "since": (start - timedelta(hours=1)).isoformat(), "until": (start + timedelta(hours=hours)).isoformat()}  # fmt: skip
    answer = await city.post("/v1/rosters", body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_special_case_12_whoever_is_on_duty_is_told_of_an_emergency(city: City) -> None:
    await put_on_duty(city, "tax", "zhou@handler:tax")
    await put_on_duty(city, "city", "general@dispatcher")
    await city.ticket(urgency="emergency")
    assert "emergency" in await kinds_of_notices(city, "zhou@handler:tax")
    assert "emergency" not in await kinds_of_notices(city, "wang@handler:tax")
    assert "emergency" not in await kinds_of_notices(city, "general@dispatcher"), "the unit has somebody of its own"
    await city.ticket(**{**UNROUTED, "urgency": "emergency"})
    assert "emergency" in await kinds_of_notices(city, "general@dispatcher")


# --- 14: withdrawn under pressure -----------------------------------------------------------------------------------------


async def test_special_case_14_a_withdrawal_under_pressure_is_found_by_another_and_taken_up_again(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "accept", "handler:tax")
    await city.act(t, "check_withdrawal", "supervisor", 409, reached=True, own_will=True)  # nothing was withdrawn
    await city.act(t, "withdraw", "hotline", reason="单位来电称企业撤诉")
    await city.act(
        t, "check_withdrawal", "hotline", 403, reached=True, own_will=True
    )  # who recorded it does not check it
    await city.act(t, "reopen", "dispatcher", 409, reason="再看")
    unreached = await city.act(t, "check_withdrawal", "supervisor", reached=False)
    assert (unreached["phase"], unreached["outcome"]) == ("closed", "withdrawn")
    again = await city.act(t, "check_withdrawal", "supervisor", reached=True, own_will=False, note="受单位要求撤单")
    assert (again["phase"], again["round"], again["lead"]["department"]) == ("acceptance", 2, "tax")
    assert "resolve" in {c["name"] for c in again["clocks"] if c["state"] == "running"}
    await sound(city)


async def test_special_case_14_a_free_withdrawal_is_confirmed_once(city: City) -> None:
    t = (await city.ticket(**UNROUTED))["id"]
    await city.act(t, "withdraw", "hotline", reason="企业自行解决")
    await city.ticket()
    found = (await city.get("/v1/tickets?outcome=withdrawn", "supervisor")).json()["items"]
    assert [row["id"] for row in found] == [t], "what is to be asked about is listed"
    shown = await city.act(t, "check_withdrawal", "dispatcher", reached=True, own_will=True)
    assert (shown["phase"], shown["outcome"]) == ("closed", "withdrawn")
    await city.act(t, "check_withdrawal", "dispatcher", 409, reached=True, own_will=False)
    other = (await city.ticket(**UNROUTED))["id"]
    await city.act(other, "withdraw", "hotline", reason="企业自行解决")
    assert (await city.act(other, "check_withdrawal", "dispatcher", reached=True, own_will=False))[
        "phase"
    ] == "dispatch"
    await sound(city)


# --- 13: sudden clusters ---------------------------------------------------------------------------------------------


async def test_special_case_13_the_same_matter_from_many_firms_within_hours_is_an_incident(city: City) -> None:
    for n in range(4):
        await city.ticket(enterprise={"name": f"停电企业{n}"})
        await city.ticket(enterprise={"name": f"停电企业{n}"})
    assert await incidents.notice(city.house) == {"begun": 0, "grown": 0, "ended": 0}, "four firms are not five"
    await city.ticket(enterprise={"name": "停电企业4"})
    assert (await incidents.notice(city.house))["begun"] == 1
    assert (await incidents.notice(city.house))["begun"] == 0, "told once"
    [one] = (await city.get("/v1/incidents", "supervisor")).json()["items"]
    assert (one["matter"], one["firms"], one["tickets"], one["state"]) == ("invoice", 5, 9, "open")
    assert "incident" in await kinds_of_notices(city, "supervisor")
    assert len((await city.get(f"/v1/incidents/{one['id']}")).json()["items"]) == 9
    for n in range(5, 10):
        await city.ticket(enterprise={"name": f"停电企业{n}"})
    assert (await incidents.notice(city.house))["grown"] == 1, "twice as many: told again"
    await city.advance(advance_by="PT7H")
    assert (await incidents.notice(city.house))["ended"] == 1
    assert (await city.get("/v1/incidents", params={"state": "open"})).json()["items"] == []


async def test_special_case_13_two_workers_that_look_at_once_begin_one_incident(city: City) -> None:
    await city.ticket(group=[{"name": f"园区企业{n}"} for n in range(6)])
    told = await asyncio.gather(*(incidents.notice(city.house) for _ in range(4)))
    assert sum(t["begun"] for t in told) == 1, "the firms of a group count too"


# --- 6, 27: confidential ---------------------------------------------------------------------------------------------

SECRET = {"title": "举报某科室刁难", "description": "我公司在某窗口被反复刁难，请保密",
          "enterprise": {"name": "不愿具名机械厂"}, "confidential": True}  # fmt: skip


def leaks(answer: Any) -> bool:
    text = json.dumps(answer, ensure_ascii=False)
    return any(word in text for word in ("不愿具名", "刁难", "王*", "13800001234"))


async def test_special_case_6_a_confidential_request_is_masked_for_whoever_has_no_need(city: City) -> None:
    t = (await city.ticket(**SECRET))["id"]
    for who in ("hotline", "dispatcher"):
        assert (await city.show(t, who))["enterprise"]["name"] == "不愿具名机械厂", who
    for who in ("supervisor", "auditor", "reviewer"):
        seen = await city.show(t, who)
        assert not leaks(seen), who
        assert {"title", "description", "enterprise", "contact"} <= set(seen["masked"])
        assert seen["due_at"] is not None, "where it stands and when it is due is seen"
    nobody_has_it = await city.show(t, "li@handler:tax")
    assert nobody_has_it["description"] == SECRET["description"]
    assert nobody_has_it["enterprise"]["name"] == "（保密）" and nobody_has_it["contact"] is None
    await city.act(t, "accept", "li@handler:tax")
    assert (await city.show(t, "li@handler:tax"))["enterprise"]["name"] == "不愿具名机械厂", "who has it sees it whole"
    assert not leaks(await city.show(t, "wang@handler:tax")), "and the colleague does not any more"
    assert not leaks(await city.act(t, "comment", "wang@handler:tax", text="x")), "nor by acting"


async def test_special_case_27_every_view_of_a_confidential_ticket_is_an_event(city: City) -> None:
    made = await city.ticket(**SECRET)
    t, version = made["id"], made["version"]
    for who in ("dispatcher", "auditor", "li@handler:tax"):
        await city.show(t, who)
    await history(city, t, "auditor")
    views = [e for e in await history(city, t) if e["type"] == "ticket.viewed"]
    assert [(e["actor"]["subject"], e["data"]["what"]) for e in views] == [
        ("dispatcher", "ticket"), ("auditor", "ticket"), ("li@handler:tax", "ticket"), ("auditor", "history"),
    ]  # fmt: skip
    assert views[0]["data"]["masked"] == [] and "description" in views[1]["data"]["masked"]
    assert (await city.show(t))["version"] == version, "a look changes nothing: an ETag holds"
    plain = (await city.ticket())["id"]
    await city.show(plain)
    assert [e["type"] for e in await history(city, plain)] == ["ticket.opened"]
    await city.advance(advance_by="P2D")
    await city.show(t)
    await sound(city)


async def test_special_case_27_views_at_once_are_each_an_event_of_one_whole_chain(city: City) -> None:
    t = (await city.ticket(**SECRET))["id"]
    await asyncio.gather(*(city.show(t, f"p{n}@auditor") for n in range(12)))
    assert sum(e["type"] == "ticket.viewed" for e in await history(city, t)) == 12
    await sound(city)


async def test_special_case_27_the_history_of_a_confidential_ticket_tells_the_unneeding_no_words(city: City) -> None:
    t = (await city.ticket(**SECRET))["id"]
    await city.act(t, "comment", "dispatcher", text="不愿具名机械厂来电")
    assert not leaks(await history(city, t, "auditor"))
    assert leaks(await history(city, t))


async def test_special_case_27_a_confidential_ticket_is_found_by_its_number_and_not_by_its_words(city: City) -> None:
    made = await city.ticket(**SECRET)
    for who in ("handler:tax", "supervisor", "dispatcher"):
        for path in ("/v1/queue", "/v1/tickets"):
            for word in ("刁难", "不愿具名"):
                found = (await city.get(path, who, params={"q": word})).json()["items"]
                assert found == [], (who, path, word)
            by_number = (await city.get(path, who, params={"q": made["number"]})).json()["items"]
            assert [row["id"] for row in by_number] == [made["id"]]
            assert not leaks(by_number) and not leaks((await city.get(path, who)).json())
    await city.act(made["id"], "amend", "hotline", text="补充：不愿具名机械厂再次来电")
    assert (await city.get("/v1/tickets", params={"q": "再次来电"})).json()["items"] == []


async def test_special_case_27_who_must_know_reveals_with_a_reason_that_is_audited(city: City) -> None:
    t = (await city.ticket(**SECRET))["id"]
    refused = await city.post(f"/v1/tickets/{t}/reveal", {"reason": "x"}, "handler:tax")
    assert refused.status_code == 403
    told = await city.post(f"/v1/tickets/{t}/reveal", {"reason": "督查核实"}, "supervisor")
    assert told.json()["enterprise"]["name"] == "不愿具名机械厂"
    assert (await history(city, t))[1].items() >= {"type": "ticket.revealed", "data": {"reason": "督查核实"}}.items()
    contact = await city.post(f"/v1/tickets/{t}/contact/reveal", {"reason": "x"}, "li@handler:tax")
    assert contact.status_code == 403, "nobody has the ticket yet: nobody needs the number"
    await city.act(t, "accept", "li@handler:tax")
    contact = await city.post(f"/v1/tickets/{t}/contact/reveal", {"reason": "核实"}, "li@handler:tax")
    assert contact.status_code == 200
    other = await city.post(f"/v1/tickets/{t}/contact/reveal", {"reason": "x"}, "wang@handler:tax")
    assert other.status_code == 403
    await sound(city)


async def test_special_case_27_a_template_filled_in_tells_no_name_either(city: City) -> None:
    made = await city.ticket(**SECRET)
    path = f"/v1/templates?ticket={made['number']}"
    for who, told in (("supervisor", False), ("wang@handler:tax", False), ("dispatcher", True)):
        filled = [t["filled"] for t in (await city.get(path, who)).json()["items"]]
        assert filled and any("不愿具名" in text for text in filled) == told, who


async def test_special_case_27_the_register_of_firms_does_not_tell_who_asked_in_confidence(city: City) -> None:
    await city.ticket(**SECRET)
    asked = {"name": "不愿具名"}
    assert len((await city.get("/v1/enterprises", params=asked)).json()["items"]) == 1
    for who in ("supervisor", "auditor", "reviewer"):
        assert (await city.get("/v1/enterprises", who, params=asked)).json()["items"] == []
        found = (await city.get("/v1/enterprises", params=asked)).json()["items"][0]["id"]
        assert (await city.get(f"/v1/enterprises/{found}", who)).status_code == 404
    assert (await city.get("/v1/enterprises", "handler:tax")).status_code == 403


# --- 5: conflict of interest -----------------------------------------------------------------------------------------

ACCUSING = {"domain": "complaint_report", "matter": None, "title": "投诉税务局刁难企业",
            "description": "市税务局窗口人员刁难我公司，发票业务拒不办理"}  # fmt: skip


async def accusing(city: City) -> dict[str, Any]:
    t = await city.ticket(**ACCUSING)
    told = (await city.get(f"/v1/tickets/{t['id']}/recusals", "supervisor")).json()
    assert told["recused"] == ["unit:tax"]
    return t


async def test_special_case_5_a_request_never_reaches_the_unit_it_complains_of(city: City) -> None:
    t = await accusing(city)
    assert (t["lead"] or {}).get("department") != "tax"
    lead = (t["lead"] or {}).get("department")
    if lead is None:
        refused = await city.act(t["id"], "dispatch", "dispatcher", 409, department="tax")
        assert "recused" in refused["detail"]
        await city.act(t["id"], "dispatch", "dispatcher", department="government_general_office")
        lead = "government_general_office"
    refused = await city.act(t["id"], "add_co_handler", "dispatcher", 409, department="tax")
    assert "recused" in refused["detail"]
    await city.act(t["id"], "escalate", f"handler:{lead}", reason="难")
    review = (await city.show(t["id"]))["review"]["id"]
    screened = await city.post(f"/v1/reviews/{review}/actions/screen", {"decision": "accept"}, "reviewer")
    assert screened.status_code == 200
    asked = await city.post(f"/v1/reviews/{review}/actions/request_opinions", {"departments": ["tax"]}, "reviewer")
    assert asked.status_code == 409, "nor is it asked for an opinion"
    assert (await city.get(f"/v1/tickets/{t['id']}", "handler:tax")).status_code == 404
    for path in ("/v1/queue", "/v1/tickets", "/v1/reviews", "/v1/events", "/v1/notices"):
        assert (await city.get(path, "handler:tax")).json()["items"] == [], path
    for path in ("/v1/queue", "/v1/tickets", "/v1/events"):
        assert (await city.get(path, f"handler:tax,{lead}")).json()["items"] == [], "nor somebody who works for both"


async def test_special_case_5_a_request_does_not_come_to_the_accused_by_being_merged(city: City) -> None:
    t = (await city.ticket(**UNROUTED))["id"]
    answer = await city.post(f"/v1/tickets/{t}/recusals", {"department": "tax", "reason": "被投诉单位"})
    assert answer.status_code == 201
    led_by_tax, led_by_water = await city.ticket(), (await city.ticket(**UNROUTED))["id"]
    refused = await city.act(t, "merge", "dispatcher", 409, into=led_by_tax["number"], reason="同一事项")
    assert "recused" in refused["detail"]
    await city.act(led_by_water, "dispatch", "dispatcher", department="water")
    await city.act(t, "merge", "dispatcher", into=led_by_water, reason="同一事项")
    refused = await city.act(led_by_water, "add_co_handler", "dispatcher", 409, department="tax")
    assert "recused" in refused["detail"], "what was merged keeps the accused out of where it went"


async def test_special_case_5_a_part_split_off_does_not_come_to_the_accused(city: City) -> None:
    accusing = {
        "title": "投诉市税务局刁难",
        "description": "税务局工作人员刁难，发票领不到",
        "domain": "complaint_report",
    }
    t = (await city.ticket(**UNROUTED))["id"]
    await city.post(f"/v1/tickets/{t}/recusals", {"department": "water", "reason": "被投诉单位"})
    refused = await city.act(t, "split", "dispatcher", 409, reason="r", parts=[{**accusing, "department": "tax"}])
    assert "recused" in refused["detail"]
    parts = [accusing, {"title": "供水中断", "description": "厂区停水", "department": "water"},
             {"title": "供水中断", "description": "自来水厂区停水两天", "matter": "water_supply"}]  # fmt: skip
    made = (await city.act(t, "split", "dispatcher", reason="r", parts=parts))["parts"]
    shown = [await city.show(part["id"]) for part in made]
    assert [s["lead"] and s["lead"]["department"] for s in shown] == [None, "water", None]
    assert [[w["code"] for w in s["warnings"]] for s in shown] == [["not_routed"], [], ["not_routed"]]
    kept = [(await city.get(f"/v1/tickets/{p['id']}/recusals", "supervisor")).json()["recused"] for p in made]
    assert kept == [["unit:water", "unit:tax"], [], ["unit:water"]]
    assert (await city.get(f"/v1/tickets/{made[0]['id']}", "handler:tax")).status_code == 404


async def test_special_case_5_the_database_itself_keeps_the_recused_out(city: City, app_login: str) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "add_co_handler", "dispatcher", department="water")
    answer = await city.post(f"/v1/tickets/{t}/recusals", {"subject": "li@handler:tax", "reason": "亲属"})
    assert answer.status_code == 201
    connection = await asyncpg.connect(**{**connect_arguments(city.dsn), "user": app_login})
    for client, departments, seen in (("li@handler:tax", "tax", 0), ("wang@handler:tax", "tax", 1),
                                      ("li@handler:tax", "tax,water", 0)):  # fmt: skip
        async with connection.transaction():
            await connection.execute("SET LOCAL ROLE jieban_app")
            await connection.execute("SELECT set_config('jieban.departments', $1, true)", departments)
            await connection.execute("SELECT set_config('jieban.client', $1, true)", client)
            for table in ("tickets", "events", "clocks", "assignments"):
                found = await connection.fetchval(f"SELECT count(*) > 0 FROM {table}")
                assert found == bool(seen), (client, departments, table)
    await connection.close()


async def test_special_case_5_who_recuses_himself_sees_and_does_nothing_more(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "accept", "li@handler:tax")
    told = await city.post(f"/v1/tickets/{t}/recusals", {"reason": "与来电企业有利害关系"}, "li@handler:tax")
    assert told.status_code == 201, told.text
    assert told.json()["recused"] == ["person:li@handler:tax"]
    assert (await city.get(f"/v1/tickets/{t}", "li@handler:tax")).status_code == 404
    await city.act(t, "comment", "li@handler:tax", 404, text="x")
    assert (await city.get("/v1/queue", "li@handler:tax")).json()["items"] == []
    assert (await city.show(t))["lead"] == {"department": "tax", "assignee": None}
    assert "recused" in await kinds_of_notices(city, "wang@handler:tax")
    await city.act(t, "assign", "dispatcher", 409, assignee="li@handler:tax")
    await city.act(t, "assign", "wang@handler:tax", assignee="wang@handler:tax")
    mine = await city.post(f"/v1/tickets/{t}/recusals/person:li@handler:tax/lift", {"reason": "x"}, "li@handler:tax")
    assert mine.status_code == 404, "nobody lifts the own one"
    lifted = await city.post(f"/v1/tickets/{t}/recusals/person:li@handler:tax/lift", {"reason": "误报"}, "supervisor")
    assert lifted.json()["recused"] == []
    assert (await city.get(f"/v1/tickets/{t}", "li@handler:tax")).status_code == 200
    await sound(city)


async def test_special_case_5_a_recused_dispatcher_neither_sees_nor_rules(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "request_return", "handler:tax", ground="not_our_duty", reason="x")
    [asked] = (await city.get("/v1/approvals")).json()["items"]
    told = await city.post(f"/v1/tickets/{t}/recusals", {"subject": "chen@dispatcher", "reason": "配偶"}, "supervisor")
    assert told.status_code == 201
    assert (await city.get(f"/v1/tickets/{t}", "chen@dispatcher")).status_code == 404
    for path in ("/v1/tickets", "/v1/queue"):
        assert (await city.get(path, "chen@dispatcher")).json()["items"] == [], path
    ruled = await city.post(f"/v1/approvals/{asked['id']}/decision", {"decision": "deny"}, "chen@dispatcher")
    assert ruled.status_code == 404
    assert (await city.post(f"/v1/approvals/{asked['id']}/decision", {"decision": "deny"})).status_code == 200


async def test_special_case_5_a_recused_reviewer_finds_the_matter_in_no_list(city: City) -> None:
    made = await city.ticket()
    t, number = made["id"], made["number"]
    await city.act(t, "accept", "handler:tax")
    proposed = {"ticket": t, "reason": "涉及多部门，单独协调未果"}
    answer = await city.post("/v1/reviews", proposed, "handler:tax")
    assert answer.status_code == 201, answer.text
    review = answer.json()["id"]
    await city.act(t, "request_return", "handler:tax", ground="not_our_duty", reason="x")
    ways = {"/v1/reviews": "reviewer", "/v1/reviews/board": "reviewer", "/v1/approvals": "supervisor"}
    urge = {"kind": "urge", "ground": "should_have_been_solved", "reason": "x"}
    assert (await city.post(f"/v1/tickets/{t}/supervisions", urge, "supervisor")).status_code == 201
    await city.advance(advance_by="P30D")
    lists = ("/v1/supervisions", "/v1/notices", "/v1/reports/sla/tickets?figure=new", "/v1/reports/breaches",
             "/v1/reports/aging/tickets", "/v1/reports/due?list=red")  # fmt: skip
    ways |= dict.fromkeys(lists, "supervisor")
    for path, role in ways.items():
        assert number in (await city.get(path, f"qian@{role}")).text, path
    for role in ("reviewer", "supervisor"):
        recusal = {"subject": f"qian@{role}", "reason": "利害关系"}
        assert (await city.post(f"/v1/tickets/{t}/recusals", recusal, "supervisor")).status_code == 201
    for path, role in ways.items():
        assert number in (await city.get(path, f"zhao@{role}")).text, path
        assert number not in (await city.get(path, f"qian@{role}")).text, path
    assert (await city.get(f"/v1/reviews/{review}", "qian@reviewer")).status_code == 404
    refused = await city.post(f"/v1/reviews/{review}/screen", {"decision": "refuse", "reason": "x"}, "qian@reviewer")
    assert refused.status_code == 404


async def test_special_case_5_others_are_recused_by_the_centre_only_and_a_leading_unit_not_at_all(city: City) -> None:
    t = (await city.ticket())["id"]
    path = f"/v1/tickets/{t}/recusals"
    assert (await city.post(path, {"subject": "x", "reason": "x"}, "handler:tax")).status_code == 403
    assert (await city.post(path, {"department": "tax", "reason": "x"})).status_code == 409
    assert (await city.post(path, {"department": "nowhere", "reason": "x"})).status_code == 422
    assert (await city.post(path, {"department": "water", "subject": "x", "reason": "x"})).status_code == 422
    assert (await city.post(path, {"department": "water", "reason": "被投诉"})).status_code == 201
    assert (await city.post(path, {"department": "water", "reason": "x"})).status_code == 409


# --- 3: units over time ----------------------------------------------------------------------------------------------


async def changed(city: City, code: str, status: int = 202, **asked: Any) -> dict[str, Any]:
    answer = await city.post(f"/v1/departments/{code}/changes", {"reason": "机构改革", **asked}, "admin")
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def moved(city: City) -> None:
    while await units.move_some(city.house):
        pass


async def test_special_case_3_open_tickets_of_an_abolished_unit_move_to_its_successor_with_history(city: City) -> None:
    waiting = (await city.ticket())["id"]
    accepted = (await city.ticket())["id"]
    await city.act(accepted, "accept", "li@handler:tax")
    await city.act(accepted, "submit_plan", "li@handler:tax", plan="先核实")
    asked = (await city.ticket())["id"]
    await city.act(asked, "accept", "handler:tax")
    await city.act(asked, "request_extension", "handler:tax", ground="waiting_enterprise", days=2, reason="x")
    closed = (await city.ticket())["id"]
    await city.act(closed, "withdraw", "hotline", reason="x")
    due = {t: (await city.show(t))["due_at"] for t in (accepted, asked)}
    told = await changed(city, "tax", kind="abolish", successor="finance")
    assert (told["state"], told["total"]) == ("running", 3)
    await moved(city)
    [one] = (await city.get("/v1/departments/tax/changes", "admin")).json()["items"]
    assert (one["state"], one["done"], one["failed"]) == ("done", 3, {})
    for t in (waiting, accepted, asked):
        shown = await city.show(t, "handler:finance")
        assert shown["lead"]["department"] == "finance"
        assert (await city.get(f"/v1/tickets/{t}", "handler:tax")).status_code == 404
        event = next(e for e in await history(city, t) if e["type"] == "ticket.succeeded")
        assert event["data"].items() >= {"unit": "tax", "successor": "finance", "reason": "机构改革"}.items()
    assert (await city.show(accepted))["phase"] == "handling", "what was signed stays signed"
    resolve = {t: {c["name"]: c for c in (await city.show(t))["clocks"]}["resolve"] for t in (accepted, asked)}
    assert all(c["state"] in {"running", "paused"} for c in resolve.values()), "the enterprise's clock runs on"
    assert due[accepted] == (await city.show(accepted))["due_at"]
    accept = [c for c in (await city.show(waiting))["clocks"] if c["name"] == "accept"]
    assert [(c["department"], c["state"]) for c in accept] == [("tax", "cancelled"), ("finance", "running")]
    [approval] = (await city.get("/v1/approvals")).json()["items"]
    assert approval["department"] == "finance"
    decided = await city.post(f"/v1/approvals/{approval['id']}/decision", {"decision": "approve"})
    assert decided.status_code == 200
    assert (await city.show(closed))["lead"]["department"] == "tax", "what is over keeps its unit"
    assert "succeeded" in await kinds_of_notices(city, "handler:finance")
    await sound(city)


async def test_special_case_3_nothing_is_sent_to_a_unit_that_is_no_more(city: City) -> None:
    await changed(city, "tax", kind="merge", successor="finance")
    t = await city.ticket()
    assert t["lead"]["department"] == "finance", "the rules lead to the successor"
    other = await city.ticket(**UNROUTED)
    refused = await city.act(other["id"], "dispatch", "dispatcher", 422, department="tax")
    assert refused["errors"][0]["pointer"] == "/department"
    listed = {d["code"]: d for d in (await city.get("/v1/departments")).json()["items"]}
    assert (listed["tax"]["active"], listed["tax"]["successor"]) == (False, "finance")
    assert listed["finance"]["active"]
    tried = (await city.post("/v1/routing/try", {"title": "发票", "matter": "invoice"})).json()
    assert tried["lead"] == "finance"


async def test_special_case_3_a_successor_that_is_abolished_in_its_turn_hands_on(city: City) -> None:
    t = (await city.ticket())["id"]
    await changed(city, "tax", kind="merge", successor="finance")
    await changed(city, "finance", kind="abolish", successor="industry_it")
    await moved(city)
    assert (await city.show(t))["lead"]["department"] == "industry_it"
    assert (await city.ticket())["lead"]["department"] == "industry_it"
    await sound(city)


async def test_special_case_3_a_renamed_unit_keeps_its_tickets_and_is_found_by_both_names(city: City) -> None:
    t = (await city.ticket())["id"]
    told = await changed(city, "tax", kind="rename", title={"zh": "市税务服务局", "en": "Tax Service Bureau"})
    assert (told["state"], told["total"]) == ("done", 0)
    listed = {d["code"]: d for d in (await city.get("/v1/departments")).json()["items"]}
    assert listed["tax"]["title"]["zh"] == "市税务服务局"
    assert any("税务局" in alias for alias in listed["tax"]["aliases"])
    assert (await city.show(t))["lead"]["department"] == "tax"


async def test_special_case_3_a_co_handler_that_merges_into_the_lead_has_no_second_leg(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "add_co_handler", "dispatcher", department="finance")
    await changed(city, "finance", kind="merge", successor="tax")
    await moved(city)
    shown = await city.show(t)
    assert (shown["lead"]["department"], shown["co_handlers"]) == ("tax", [])
    second = (await city.ticket(**UNROUTED))["id"]
    await city.act(second, "dispatch", "dispatcher", department="water", co_handlers=["tax"])
    await changed(city, "water", kind="merge", successor="tax")
    await moved(city)
    shown = await city.show(second)
    assert (shown["lead"]["department"], shown["co_handlers"]) == ("tax", [])
    await sound(city)


async def test_special_case_3_a_ticket_the_successor_must_not_see_stays_and_is_named(city: City) -> None:
    t = await city.ticket()
    await city.post(f"/v1/tickets/{t['id']}/recusals", {"department": "finance", "reason": "被投诉"})
    await changed(city, "tax", kind="merge", successor="finance")
    await moved(city)
    [one] = (await city.get("/v1/departments/tax/changes", "admin")).json()["items"]
    assert (one["state"], one["done"]) == ("done", 0)
    assert "recused" in one["failed"][t["id"]]
    assert (await city.show(t["id"]))["lead"]["department"] == "tax"


@pytest.mark.parametrize(("code", "asked", "status"), [
    ("nowhere", {"kind": "abolish", "successor": "finance"}, 404), ("tax", {"kind": "abolish"}, 422),
    ("tax", {"kind": "abolish", "successor": "tax"}, 422), ("tax", {"kind": "abolish", "successor": "nowhere"}, 422),
    ("tax", {"kind": "rename"}, 422), ("tax", {"kind": "rename", "title": {"zh": "市", "en": "City"}}, 422),
    ("tax", {"kind": "rename", "successor": "finance"}, 422),
    ("tax", {"kind": "merge", "successor": "finance", "title": {"zh": "x", "en": "x"}}, 422),
    ("tax", {"kind": "sell", "successor": "finance"}, 422),
])  # fmt: skip
async def test_a_change_that_makes_no_sense_is_refused(
    shared_city: City, code: str, asked: dict[str, Any], status: int
) -> None:
    await changed(shared_city, code, status, **asked)


async def test_a_unit_is_abolished_once_whoever_asks_at_the_same_time(city: City) -> None:
    body = {"kind": "abolish", "successor": "finance", "reason": "x"}
    answers = await asyncio.gather(*(city.post("/v1/departments/tax/changes", body, "admin") for _ in range(4)))
    assert sorted(a.status_code for a in answers) == [202, 409, 409, 409]


async def test_special_case_3_figures_of_the_past_keep_the_old_unit(city: City) -> None:
    t = (await city.ticket())["id"]
    await city.act(t, "accept", "handler:tax")
    await city.act(t, "submit_reply", "handler:tax", public_reply="x", outcome="solved")
    await city.act(t, "approve_reply", "dispatcher")
    await city.act(t, "record_callback", "hotline", solved="yes", satisfaction="satisfied")
    asked = {"group_by": "department"}
    before = (await city.get("/v1/reports/sla", "supervisor", params=asked)).json()["groups"]
    await changed(city, "tax", kind="abolish", successor="finance")
    await moved(city)
    after = (await city.get("/v1/reports/sla", "supervisor", params=asked)).json()["groups"]
    assert [g["key"] for g in after] == [g["key"] for g in before]


# --- 12, 29: rosters, people who go ----------------------------------------------------------------------------------


async def test_special_case_29_what_somebody_who_is_gone_had_goes_to_another_with_history(city: City) -> None:
    mine = [(await city.ticket())["id"] for _ in range(3)]
    for t in mine:
        await city.act(t, "accept", "li@handler:tax")
    await city.act(mine[2], "withdraw", "hotline", reason="x")
    asked = {"to": "wang@handler:tax", "reason": "离职"}
    assert (await city.post("/v1/users/li@handler:tax/leave", asked, "handler:tax")).status_code == 403
    told = (await city.post("/v1/users/li@handler:tax/leave", asked)).json()
    assert (told["moved"], told["failed"]) == (2, {})
    for t in mine[:2]:
        assert (await city.show(t))["lead"]["assignee"] == "wang@handler:tax"
        event = (await history(city, t))[-1]
        assert event.items() >= {"type": "ticket.handed_on"}.items()
        assert event["data"].items() >= {"subject": "li@handler:tax", "successor": "wang@handler:tax"}.items()
    assert (await city.post("/v1/users/li@handler:tax/leave", asked)).json()["moved"] == 0, "repeated: nothing left"
    back = (await city.post("/v1/users/wang@handler:tax/leave", {"reason": "调岗"})).json()
    assert back["moved"] == 2
    assert (await city.show(mine[0]))["lead"]["assignee"] is None, "back in the unit's queue"
    await sound(city)


async def test_special_case_3_a_roster_says_who_is_on_duty_when(city: City) -> None:
    made = await put_on_duty(city, "tax", "zhou@handler:tax")
    other = await put_on_duty(city, "water", "sun@handler:water")
    now = (await city.get("/v1/sandbox/clock", "admin")).json()["now"]
    on = (await city.get("/v1/rosters", params={"department": "tax", "at": now})).json()["items"]
    assert [(d["subject"], d["phone"]) for d in on] == [("zhou@handler:tax", "13600001111")]
    seen = (await city.get("/v1/rosters", "handler:tax")).json()["items"]
    assert [d["id"] for d in seen] == [made["id"]], "a unit sees its own"
    assert (await city.request("DELETE", f"/v1/rosters/{other['id']}", "handler:tax")).status_code == 403
    assert (await city.request("DELETE", f"/v1/rosters/{other['id']}", "dispatcher")).status_code == 204
    await city.advance(advance_by="P1D")
    later = (await city.get("/v1/sandbox/clock", "admin")).json()["now"]
    assert (await city.get("/v1/rosters", params={"at": later})).json()["items"] == []
    for wrong in ({"department": "nowhere"}, {"until": made["since"]}, {"subject": ""}):
        body = {"department": "tax", "subject": "a", "since": made["since"], "until": made["until"], **wrong}
        assert (await city.post("/v1/rosters", body)).status_code == 422, wrong


# --- 28, 30 ----------------------------------------------------------------------------------------------------------


async def test_special_case_28_nothing_of_a_ticket_is_ever_deleted_by_what_is_done_here(city: City) -> None:
    connection = await asyncpg.connect(**connect_arguments(city.dsn))
    for table in ("tickets", "events", "source_versions", "quarantine", "enterprise_names", "department_changes"):
        for role in ("jieban_app", "jieban_city"):
            may = await connection.fetchval("SELECT has_table_privilege($1, $2, 'DELETE')", role, table)
            assert not may, (role, table)
    await connection.close()


async def test_special_case_30_a_receiver_that_lost_messages_has_them_again(city: City) -> None:
    start = (await city.get("/v1/events", "hotline")).json()["next_cursor"]
    t = (await city.ticket())["id"]
    await city.act(t, "accept", "handler:tax")
    page = (await city.get("/v1/events", "hotline", params={"after": start})).json()
    again = (await city.get("/v1/events", "hotline", params={"after": start})).json()
    assert page == again and len(page["items"]) == 2, "the same cursor gives the same events"
    assert receivers.MOST > 0


def test_each_case_of_the_table_names_a_test_that_is_there() -> None:
    root = Path(__file__).resolve().parents[1]
    table = (root / "SPECIAL_CASES.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", table))
    there = {
        name for path in root.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))
    }
    assert len(named) > 70
    listed = {int(n) for row in re.findall(r"^\| ([\d, and]+)", table, re.M) for n in re.findall(r"\d+", row)}
    assert listed == set(range(1, 33))
    assert sorted(named - there) == []
