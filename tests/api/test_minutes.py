"""Minutes over HTTP: steps, both texts, files, numbers without gaps, correction, and alteration that is found."""

from __future__ import annotations

import asyncio
import json
from io import BytesIO
from typing import Any

import asyncpg
import pypdfium2
import pytest
from docx import Document

from service.core import minutes as rules
from service.db.session import connect_arguments
from service.usecases import audit, integrity, minutes_check
from tests.api.sittings import EXTRACT, convened, decided, issued, now, ok, on_the_docket, sat, step
from tests.conftest import City

OTHER = "山东另一家医药有限公司"
PHONE = "13800001234"


async def test_minutes_go_from_draft_to_issue_and_the_reply_is_due_from_then(city: City) -> None:
    meeting, review = await sat(city)
    assert (await city.get(f"/v1/meetings/{meeting}/minutes", "reviewer")).status_code == 404
    made = await step(city, meeting, "draft", status=201)
    assert (made["state"], made["number"], made["findings"], made["late"]) == ("draft", None, [], False)
    assert made["actions"] == ["draft", "check"]
    assert made["issue_due_at"] is not None
    assert (await step(city, meeting, "check"))["state"] == "checked"
    signed = await step(city, meeting, "sign")
    assert (signed["state"], signed["document"]["signature"]["name"]) == ("signed", "张建国")
    told = await step(city, meeting, "issue")
    year = (await now(city)).year
    assert (told["state"], told["number"], told["actions"]) == ("issued", f"〔{year}〕1号", ["correct"])
    assert [v["step"] for v in told["versions"]] == ["draft", "check", "sign", "issue"]
    assert [v["prev"] for v in told["versions"]][1:] == [v["sha256"] for v in told["versions"]][:-1]
    shown = await ok(await city.get(f"/v1/reviews/{review}", "reviewer"))
    ticket = await city.show(shown["ticket"]["id"])
    clocks = {c["name"]: c["state"] for c in ticket["clocks"]}
    assert (clocks["review_minutes"], clocks["review_reply"]) == ("met", "running")
    events = (await ok(await city.get(f"/v1/tickets/{ticket['id']}/events?limit=200", "supervisor")))["items"]
    [event] = [e for e in events if e["type"] == "review.minutes_issued"]
    assert event["data"]["sha256"] == told["sha256"]
    await ok(await city.post(f"/v1/reviews/{review}/actions/reply", {}, "reviewer"))


async def test_an_empty_body_drafts_and_the_steps_have_addresses_too(city: City) -> None:
    meeting, _ = await sat(city)
    path = f"/v1/meetings/{meeting}/minutes"
    assert (await ok(await city.post(path, {}, "reviewer"), 201))["state"] == "draft"
    for name, state in (("check", "checked"), ("sign", "signed"), ("issue", "issued")):
        assert (await ok(await city.post(f"{path}/actions/{name}", {}, "reviewer")))["state"] == state
    assert (await city.post(f"{path}/actions/burn", {}, "reviewer")).status_code == 404


async def test_steps_out_of_order_are_refused_and_say_what_is_possible(city: City) -> None:
    meeting, _ = await sat(city)
    assert (await city.post(f"/v1/meetings/{meeting}/minutes", {"step": "sign"}, "reviewer")).status_code == 404
    await step(city, meeting, "draft", status=201)
    refused = await step(city, meeting, "sign", status=409)
    assert (refused["type"], refused["actions"]) == ("/problems/action-not-possible", ["draft", "check"])
    await step(city, meeting, "check")
    await step(city, meeting, "sign")
    assert (await step(city, meeting, "draft", status=409))["actions"] == ["issue"]
    await step(city, meeting, "issue")
    for name in ("draft", "check", "sign", "issue"):
        assert (await step(city, meeting, name, status=409))["actions"] == ["correct"]


async def test_nothing_is_drafted_before_the_meeting_decided_something(city: City) -> None:
    review = await on_the_docket(city, "甲公司")
    meeting = await convened(city, review)
    assert (await step(city, meeting, "draft", status=409))["stage"] == "planned"
    assert (
        await city.post("/v1/meetings/0190a000-0000-7000-8000-000000000000/minutes", {}, "reviewer")
    ).status_code == 404


async def test_an_item_without_a_decision_stands_against_signing(city: City) -> None:
    first, second = await on_the_docket(city, "甲公司"), await on_the_docket(city, "乙公司")
    meeting = await convened(city, first, second)
    await decided(city, first)
    drafted = await step(city, meeting, "draft", status=201)
    assert [f["pointer"] for f in drafted["findings"]] == ["/items/1/decision"]
    refused = await step(city, meeting, "check", status=409)
    assert [f["pointer"] for f in refused["findings"]] == ["/items/1/decision"]
    await decided(city, second, decision="postpone", measures=[], text="补充材料后再议")
    await step(city, meeting, "draft")
    told = await step(city, meeting, "check")
    assert "会议决定延期审议至" in told["plain"]


async def test_contact_data_in_the_enterprises_text_stands_against_signing(city: City) -> None:
    meeting, review = await sat(city, enterprise_extract=f"请联系王科长{PHONE}")
    await step(city, meeting, "draft", status=201)
    refused = await step(city, meeting, "check", status=409)
    assert [f["pointer"] for f in refused["findings"]] == ["/items/0/extract"]
    assert PHONE not in str(refused["findings"])
    await step(city, meeting, "draft", items=[{"review": review, "extract": "请到办税大厅办理"}])
    await step(city, meeting, "check")


async def test_each_enterprise_gets_its_own_matter_and_the_units_get_the_whole(city: City) -> None:
    first, second = await on_the_docket(city, "甲机械公司"), await on_the_docket(city, OTHER)
    meeting = await convened(city, first, second)
    dissent = [{"department": "tax", "text": "额度偏高"}]
    await decided(city, first, dissents=dissent, votes={"for": ["tax"]})
    await decided(city, second)
    await issued(city, meeting)
    path = f"/v1/meetings/{meeting}/minutes"
    whole = (await ok(await city.get(f"{path}?text=internal", "reviewer")))["plain"]
    assert "额度偏高" in whole
    assert OTHER in whole
    assert "同意1个单位" in whole
    told = (await ok(await city.get(f"{path}?text=extract&review={first}", "reviewer")))["plain"]
    assert EXTRACT in told
    assert [s for s in (OTHER, "额度偏高", "同意1个单位", "张建国", "王小明") if s in told] == []
    refused = await city.get(f"{path}?text=extract", "reviewer")
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/review")
    other = await on_the_docket(city, "丙公司")
    assert (await city.get(f"{path}?text=extract&review={other}", "reviewer")).status_code == 404


async def test_files_hold_the_texts_and_leaving_the_house_is_on_record(city: City) -> None:
    meeting, _ = await sat(city)
    told = await issued(city, meeting)
    path = f"/v1/meetings/{meeting}/minutes"
    pdf = await city.get(f"{path}.pdf", "reviewer")
    assert (pdf.status_code, pdf.headers["content-type"]) == (200, "application/pdf")
    text = "".join(page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(pdf.content))
    assert told["number"] in text
    assert "市企业服务中心" in text
    word = await city.get(f"{path}.docx?text=extract", "reviewer")
    assert word.headers["content-disposition"].endswith('-extract.docx"')
    said = "\n".join(p.text for p in Document(BytesIO(word.content)).paragraphs)
    assert EXTRACT in said
    assert "张建国" not in said
    connection = await asyncpg.connect(**connect_arguments(city.dsn))
    rows = await connection.fetch("SELECT data ->> 'form' AS form FROM audit WHERE action = 'minutes.exported'")
    await connection.close()
    assert sorted(r["form"] for r in rows) == ["docx", "pdf"]


async def test_a_correction_is_another_document_with_its_own_number(city: City) -> None:
    meeting, review = await sat(city)
    first = await issued(city, meeting)
    missing = await city.post(f"/v1/meetings/{meeting}/minutes", {"step": "correct"}, "reviewer")
    assert (missing.status_code, missing.json()["errors"][0]["pointer"]) == (422, "/reason")
    items = [{"review": review, "extract": "更正：请于本月二十日前办理"}]
    begun = await step(city, meeting, "correct", status=201, reason="办理期限有误", items=items)
    assert begun["corrects"]["number"] == first["number"]
    for name in ("check", "sign"):
        await step(city, meeting, name)
    second = await step(city, meeting, "issue")
    assert second["number"] == first["number"].replace("1号", "2号")
    assert f"{first['number']}会议纪要有误，现予更正：办理期限有误。" in second["plain"]
    assert (
        "请于本月二十日前办理"
        in (await ok(await city.get(f"/v1/meetings/{meeting}/minutes?text=extract", "reviewer")))["plain"]
    )
    before = await ok(await city.get(f"/v1/meetings/{meeting}/minutes?document={first['id']}", "reviewer"))
    assert (before["sha256"], before["corrected_by"]["number"]) == (first["sha256"], second["number"])
    states = [p["state"] for p in (await ok(await city.get("/v1/precedents", "reviewer")))["items"]]
    assert sorted(states) == ["superseded", "valid"]
    assert (await integrity.check(city.house)).offending == 0


async def test_only_who_presided_signs_where_the_chair_has_an_account(city: City) -> None:
    review = await on_the_docket(city, "甲公司")
    meeting = await convened(city, review, chair={"name": "张建国", "subject": "supervisor"})
    await decided(city, review)
    await step(city, meeting, "draft", status=201)
    await step(city, meeting, "check")
    assert (await step(city, meeting, "sign", status=403))["type"] == "/problems/forbidden"
    signed = await step(city, meeting, "sign", who="supervisor")
    assert signed["document"]["signature"]["by"] == "supervisor"


async def test_nobody_else_writes_minutes(city: City) -> None:
    meeting, _ = await sat(city)
    for who in ("dispatcher", "handler:tax", "hotline", "auditor", "admin"):
        assert (await city.post(f"/v1/meetings/{meeting}/minutes", {}, who)).status_code == 403, who


async def test_a_unit_reads_what_was_issued_and_sent_to_it_and_no_draft(city: City) -> None:
    meeting, _ = await sat(city)
    path = f"/v1/meetings/{meeting}/minutes"
    await step(city, meeting, "draft", status=201)
    assert (await city.get(path, "handler:tax")).status_code == 404
    for name in ("check", "sign", "issue"):
        await step(city, meeting, name)
    assert (await ok(await city.get(f"{path}?text=internal", "handler:tax")))["number"]
    shown = await ok(await city.get(path, "handler:tax"))
    assert [v["step"] for v in shown["versions"]] == ["issue"]
    assert shown["actions"] == []
    for suffix in ("", ".pdf", ".docx"):
        assert (await city.get(f"{path}{suffix}", "handler:water")).status_code == 404


async def test_a_late_issue_is_marked(city: City) -> None:
    meeting, _ = await sat(city)
    await step(city, meeting, "draft", status=201)
    await city.advance(advance_by="P10D")
    assert (await ok(await city.get(f"/v1/meetings/{meeting}/minutes", "reviewer")))["late"] is True
    for name in ("check", "sign"):
        await step(city, meeting, name)
    assert (await step(city, meeting, "issue"))["late"] is True


async def test_numbers_have_no_gap_when_many_issue_at_once_and_one_fails(city: City) -> None:
    meetings = [(await sat(city, f"第{n}家公司"))[0] for n in range(4)]
    for meeting in meetings:
        await step(city, meeting, "draft", status=201)
        await step(city, meeting, "check")
        await step(city, meeting, "sign")
    asked = [city.post(f"/v1/meetings/{m}/minutes", {"step": "issue"}, "reviewer") for m in (*meetings, *meetings)]
    answers = await asyncio.gather(*asked)
    assert sorted(a.status_code for a in answers) == [200] * 4 + [409] * 4
    numbers = sorted(a.json()["number"] for a in answers if a.status_code == 200)
    year = (await now(city)).year
    assert numbers == [f"〔{year}〕{n}号" for n in (1, 2, 3, 4)]
    assert (await minutes_check.verify(city.house)).broken == ()


async def test_the_same_request_again_gives_the_same_answer(city: City) -> None:
    meeting, _ = await sat(city)
    key = {"Idempotency-Key": "draft-1"}
    path = f"/v1/meetings/{meeting}/minutes"
    first = await city.post(path, {}, "reviewer", headers=key)
    again = await city.post(path, {}, "reviewer", headers=key)
    assert (again.headers["Idempotent-Replayed"], again.json()) == ("true", first.json())


# --- nothing is rewritten ----------------------------------------------------------------------------------------------


async def altered(city: City, *statements: str) -> None:
    """As the database's owner, past every trigger."""
    connection = await asyncpg.connect(**connect_arguments(city.dsn))
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        for statement in statements:
            await connection.execute(statement)
    await connection.close()


ALTERATIONS = {
    "a word of the signed text": """UPDATE minutes_versions SET body = jsonb_set(body, '{items,0,text}', '"同意减免全部税款"')
                                    WHERE step = 'sign'""",
    "a word of the issued text": """UPDATE minutes_versions SET body = jsonb_set(body, '{items,0,text}', '"同意减免全部税款"')
                                    WHERE step = 'issue'""",
    "who signed": """UPDATE minutes_versions SET body = jsonb_set(body, '{signature,name}', '"李四"') WHERE step = 'sign'""",
    "when it was issued": "UPDATE minutes_versions SET at = at - interval '1 day' WHERE step = 'issue'",
    "the last version": "DELETE FROM minutes_versions WHERE step = 'issue'",
    "its number": "UPDATE minutes SET number = '〔2026〕9号'",
    "its serial": "UPDATE minutes SET serial = 2",
    "its hash": "UPDATE minutes SET sha256 = repeat('0', 64)",
    "its state": "UPDATE minutes SET state = 'draft', number = NULL, issued_at = NULL",
    "the whole document": "DELETE FROM minutes",
}


KEEP = ("CREATE TABLE kept AS TABLE minutes", "CREATE TABLE kept_versions AS TABLE minutes_versions")
PUT_BACK = (
    "DELETE FROM minutes_versions", "DELETE FROM minutes", "INSERT INTO minutes TABLE kept",
    "INSERT INTO minutes_versions TABLE kept_versions",
)  # fmt: skip


async def test_every_alteration_in_the_database_is_refused_by_it_or_else_found(city: City) -> None:
    meeting, _ = await sat(city)
    await issued(city, meeting)
    await altered(city, *KEEP)
    assert (await integrity.check(city.house)).offending == 0
    for what, statement in ALTERATIONS.items():
        connection = await asyncpg.connect(**connect_arguments(city.dsn))
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await connection.execute(statement)
        await connection.close()
        await altered(city, statement)
        found = {f.code: f.offending for f in (await integrity.check(city.house)).findings}
        assert found["M1"] >= 1, what
        assert (await audit.verify(city.house)).minutes.broken != (), what
        await altered(city, *PUT_BACK)
        assert (await minutes_check.verify(city.house)).broken == (), what


async def test_a_switched_off_trigger_is_found(city: City) -> None:
    await altered(city, "ALTER TABLE minutes DISABLE TRIGGER immutable")
    found = {f.code: f.first for f in (await integrity.check(city.house)).findings}
    assert found["schema"] == (("minutes", "the trigger immutable is missing or switched off"),)


async def test_a_forger_who_renews_every_hash_of_a_document_is_found_by_the_tickets_history(city: City) -> None:
    meeting, _ = await sat(city)
    told = await issued(city, meeting)
    connection = await asyncpg.connect(**connect_arguments(city.dsn))
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    [row] = await connection.fetch("SELECT * FROM minutes_versions WHERE step = 'issue'")
    forged: dict[str, Any] = {**dict(row), "minutes_id": str(row["minutes_id"])}
    forged["body"]["items"][0]["text"] = "同意减免全部税款"
    forged["sha256"] = rules.digest(forged)
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            "UPDATE minutes_versions SET body = $1, sha256 = $2 WHERE step = 'issue'", forged["body"], forged["sha256"]
        )
        await connection.execute("UPDATE minutes SET sha256 = $1", forged["sha256"])
        await connection.execute("UPDATE minutes_series SET sha256 = $1", forged["sha256"])
    await connection.close()
    verdict = await minutes_check.verify(city.house)
    assert verdict.broken == ((told["number"], "the history of a ticket names another hash"),)
