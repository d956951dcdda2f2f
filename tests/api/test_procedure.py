"""One matter, one discussion over HTTP: two matters from the unresolved ticket to strike-off and callback, and what is refused.

The sandbox's clock starts on a Monday morning, so that cut-offs and limits fall where the tests say.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service.db.session import connect_arguments
from service.usecases import integrity
from tests.api.sittings import issued
from tests.builders import ordinary_monday
from tests.conftest import City

TAX, WATER, FINANCE, LAND = "handler:tax", "handler:water", "handler:finance", "handler:natural_resources"
CENTRE = "reviewer"
GLAD = {"reached": True, "solved": "yes", "satisfaction": "satisfied"}
CHAIR = {"name": "王秘书长", "title": "市政府副秘书长"}


@pytest.fixture
async def town(city: City) -> City:
    """The city on a Monday at 09:30, in a week of ordinary working days."""
    await city.advance(advance_to=ordinary_monday(await now_of(city)).isoformat())
    return city


async def now_of(city: City) -> datetime:
    return datetime.fromisoformat((await city.get("/v1/sandbox/clock")).json()["now"])


async def day(city: City, days: int) -> str:
    return (await now_of(city) + timedelta(days=days)).date().isoformat()


async def do(city: City, path: str, who: str, status: int = 200, **form: Any) -> dict[str, Any]:
    answer = await city.post(path, form, who)
    assert answer.status_code == status, answer.text
    done: dict[str, Any] = answer.json()
    return done


async def proposed(city: City, ticket: str, **form: Any) -> str:
    made = await do(city, "/v1/reviews", TAX, 201, ticket=ticket, **{"reason": "涉及多部门，单独协调未果", **form})
    return f"/v1/reviews/{made['id']}"


async def accepted(city: City, tier: int = 2, asked: tuple[str, ...] = ("water",), **form: Any) -> str:
    """A matter that is being prepared, its units asked."""
    t = (await city.ticket())["id"]
    await city.act(t, "accept", TAX)
    review = await proposed(city, t, **form)
    await do(city, f"{review}/actions/screen", CENTRE, decision="accept", tier=tier)
    await do(city, f"{review}/actions/request_opinions", CENTRE, departments=list(asked))
    return review


async def settle(city: City, review: str, *gates: str) -> None:
    for gate in gates or ("competence", "confidentiality", "recusal"):
        await do(city, f"{review}/actions/pass_gate", CENTRE, gate=gate)


async def scheduled(city: City, review: str, **meeting: Any) -> str:
    """On the agenda of a new meeting in nine days, at which the clock then stands."""
    held_at = (await now_of(city) + timedelta(days=9)).replace(hour=14, minute=30)
    tier = meeting.pop("tier", 2)
    made = await do(city, "/v1/meetings", CENTRE, 201, tier=tier, held_at=held_at.isoformat(), **meeting)
    await do(city, f"{review}/actions/schedule", CENTRE, meeting=made["id"])
    return f"/v1/meetings/{made['id']}"


async def begins(city: City, meeting: str) -> None:
    held_at = (await city.get(meeting, CENTRE)).json()["held_at"]
    await city.advance(advance_to=held_at)


async def issue_minutes(city: City, meeting: str) -> dict[str, Any]:
    """The minutes of a meeting, issued: with what they say to everybody who was there."""
    return await issued(city, meeting.rpartition("/")[2])


async def sound(city: City) -> None:
    report = await integrity.check(city.house)
    assert [(f.code, f.first) for f in report.findings if f.offending] == []


def gates_missing(refusal: dict[str, Any]) -> list[str]:
    return [m["gate"] for m in refusal["missing"] if m["what"] == "gate"]


# --- R1: two whole ways ------------------------------------------------------------------------------------------------


async def test_an_enterprise_problem_goes_from_the_unresolved_ticket_to_strike_off_and_callback(town: City) -> None:
    city = town
    t = (await city.ticket())["id"]
    await city.act(t, "accept", TAX)
    refused = await do(
        city, "/v1/reviews", TAX, 422, ticket=t, reason="难", grounds=["rounds", "head_signs", "because"]
    )
    assert {e["pointer"] for e in refused["errors"]} == {"/grounds/0", "/grounds/2", "/signed_by"}
    review = await proposed(
        city,
        t,
        grounds=["head_signs"],
        signed_by="李局长",
        asked="明确牵头单位",
        tried="两次协调",
        options=["甲案", "乙案"],
    )
    shown = (await city.get(review, CENTRE)).json()
    assert (shown["grounds"], shown["history"]["rounds"], shown["options"]) == (["head_signs"], 1, ["甲案", "乙案"])
    assert {a["name"] for a in shown["actions"]} == {"screen", "withdraw"}
    assert all(a["form"]["type"] == "object" for a in shown["actions"])

    # --- screening: sent back once, then accepted
    await do(city, f"{review}/actions/screen", CENTRE, decision="return", reason="缺少企业意见")
    waiting = await do(city, f"{review}/actions/screen", CENTRE, 409, decision="accept", tier=2)
    assert waiting["missing"] == [{"what": "supplement", "settle": "supplement"}]
    await do(city, f"{review}/actions/supplement", TAX, text="企业同意甲案")
    await do(city, f"{review}/actions/screen", CENTRE, decision="accept", tier=2, reason="同意上会")
    await do(city, f"{review}/actions/request_opinions", CENTRE, departments=["water", "finance"])
    await do(city, f"{review}/actions/give_opinion", WATER, position="disagree", text="管网容量不足")

    # --- a matter of tier 2 is not decided in writing; the agenda, a late paper
    measures = [{"title": "扩容", "department": "water", "co_units": ["finance"], "due_on": await day(city, 20)}]
    resolution = {
        "decision": "approve",
        "text": "由水务牵头扩容",
        "enterprise_extract": "管网将扩容",
        "measures": measures,
    }
    written = await do(city, f"{review}/actions/decide", CENTRE, 409, **resolution)
    assert written["missing"] == [{"what": "meeting", "tier": 2, "settle": "schedule"}]
    assert (await do(city, f"{review}/actions/schedule", CENTRE, 409))["missing"][0]["what"] == "meeting"
    meeting = await scheduled(city, review, chair=CHAIR)
    docket = (await city.get(meeting, CENTRE)).json()
    closes = datetime.fromisoformat(docket["agenda_closes_at"])
    assert (closes.isoweekday(), closes.hour, closes.minute) == (5, 12, 0)
    assert [a["department"] for a in docket["attendees"]] == [None, "tax", "water", "finance"]
    await do(city, f"{meeting}/actions/notify", CENTRE)
    assert (await do(city, f"{meeting}/actions/acknowledge", WATER))["attendees"][2]["state"] == "acknowledged"
    await do(city, f"{meeting}/actions/acknowledge", WATER, 409)
    assert any(n["kind"] == "meeting" for n in (await city.get("/v1/notices", WATER)).json()["items"])
    early = await do(city, f"{review}/actions/decide", CENTRE, 409, **resolution)
    assert early["until"] == docket["held_at"]
    await begins(city, meeting)
    silent = {o["department"]: o["state"] for o in (await city.get(review, CENTRE)).json()["opinions"]}
    assert silent == {"water": "given", "finance": "silent"}, "silence is no opinion, and no consent"

    # --- no quorum: finance did not come; nothing is settled yet either
    refused = await do(city, f"{review}/actions/decide", CENTRE, 409, **resolution, present=["tax", "water"])
    assert [m.get("department") for m in refused["missing"] if m["what"] == "unit"] == ["finance"]
    assert gates_missing(refused) == ["competence", "confidentiality", "recusal"]
    again = (await now_of(city) + timedelta(days=2)).isoformat()
    moved = await do(city, f"{meeting}/actions/adjourn", CENTRE, held_at=again, reason="财政局未到会")
    assert "finance" in moved["adjournments"][0]["missing"]

    # --- a refused gate: nothing that favours one enterprise passes without its legal basis, and it is never skipped
    gate = f"{review}/actions/pass_gate"
    unfounded = await do(city, gate, CENTRE, 422, gate="fair_competition", favours=["tax"])
    assert unfounded["errors"][0]["pointer"] == "/legal_basis"
    await do(city, gate, CENTRE, 409, gate="fair_competition", result="waived", ground="时间紧")
    await do(city, gate, CENTRE, 422, gate="competence", result="waived")
    await do(city, gate, CENTRE, gate="fair_competition", result="failed", favours=["tax"], ground="无法律依据")
    await settle(city, review)
    await city.advance(advance_to=again)
    favour = {**resolution, "measures": [{**measures[0], "favour": "tax"}]}
    refused = await do(city, f"{review}/actions/decide", CENTRE, 409, **favour, present=["tax", "water", "finance"])
    assert [(m["gate"], m["state"]) for m in refused["missing"]] == [("fair_competition", "failed")]

    # --- postponed, once
    to = await day(city, 9)
    postponed = await do(
        city, f"{review}/actions/decide", CENTRE, decision="postpone", text="待补充测算", postponed_to=to,
        present=["tax", "water", "finance"],
    )  # fmt: skip
    assert (postponed["state"], postponed["postponed_to"], postponed["meeting"]) == ("preparing", to, None)
    await do(city, f"{meeting}/actions/close", CENTRE)
    second = await scheduled(city, review, chair=CHAIR)
    await begins(city, second)
    entry = [{"department": u, "present": True} for u in ("tax", "water")]
    substitute = {"department": "finance", "present": True, "substitute": "张副局长"}
    await do(city, f"{second}/actions/attend", CENTRE, attendance=[*entry, substitute, {"chair": True}])
    await do(city, f"{review}/actions/decide", CENTRE, 409, decision="postpone", text="再议")

    # --- the enterprise is heard, and nothing is decided before it has left; then decided with dissent
    ref = review.rpartition("/")[2]
    await do(city, f"{second}/actions/hear", CENTRE, review=ref, statement="请尽快扩容")
    inside = await do(city, f"{review}/actions/decide", CENTRE, 409, **resolution)
    assert [m["what"] for m in inside["missing"]] == ["enterprise_excused"]
    await do(city, f"{second}/actions/hear", CENTRE, review=ref, excused=True)
    resolution["measures"] = [{**measures[0], "due_on": await day(city, 20)}]
    decided = await do(
        city, f"{review}/actions/decide", CENTRE, **resolution,
        votes={"for": ["tax", "finance"], "against": ["water"]},
    )  # fmt: skip
    assert [(d["department"], d["from"], d["text"]) for d in decided["dissents"]] == [
        ("water", "opinion", "管网容量不足")
    ], "what was said in writing is not left out"
    [item] = (await do(city, f"{second}/actions/close", CENTRE))["agenda"]
    assert (item["state"], item["decision"], item["measures"]) == ("decided", "approve", [decided["measures"][0]["id"]])
    assert [a["substitute"] for a in (await city.get(second, FINANCE)).json()["attendees"]][-1] == "张副局长"

    # --- the reply waits for the minutes; the measure comes late: yellow and red card, supervision
    assert (await do(city, f"{review}/actions/reply", CENTRE, 409))["missing"][0]["what"] == "minutes"
    minutes = await issue_minutes(city, second)
    internal, extract = [
        (await city.get(f"{second}/minutes?text={text}", CENTRE)).json()["plain"] for text in ("internal", "extract")
    ]
    assert minutes["number"] in internal and "管网容量不足" in internal, "the dissent stands in the minutes"
    assert "管网将扩容" in extract and "管网容量不足" not in extract and "由水务牵头扩容" not in extract
    [due] = [c for c in (await city.get(review, CENTRE)).json()["clocks"] if c["name"] == "review_reply"]
    assert due["state"] == "running"
    measure = f"/v1/measures/{decided['measures'][0]['id']}"
    await do(city, f"{measure}/actions/report", FINANCE, text="资金已拨付")
    await do(city, f"{measure}/actions/submit_evidence", FINANCE, 403, evidence="不是牵头单位")
    await city.advance(advance_by="P35D")
    late_one = (await city.get(measure, WATER)).json()
    assert [c["level"] for c in late_one["cards"]] == ["yellow", "red", "slip"] and late_one["late"]
    assert late_one["progress_late"], "a month without a report"
    await do(city, f"{measure}/actions/strike_off", CENTRE, 409)
    await do(city, f"{measure}/actions/submit_evidence", WATER, evidence="竣工验收报告")
    unheard = await do(city, f"{measure}/actions/strike_off", CENTRE, 422)
    assert unheard["errors"][0]["pointer"] == "/enterprise_opinion"
    unsigned = await do(city, f"{measure}/actions/strike_off", CENTRE, 422, enterprise_opinion="satisfied")
    assert unsigned["errors"][0]["pointer"] == "/signed_by"
    struck = await do(
        city, f"{measure}/actions/strike_off", CENTRE, enterprise_opinion="dissatisfied", opinion_text="太慢",
        signed_by="王秘书长",
    )  # fmt: skip
    assert (struck["state"], struck["enterprise_opinion"]["opinion"]) == ("struck_off", "dissatisfied")

    # --- back to the ticket: the breach stays, the callback closes it only once the enterprise has its reply
    back = await city.show(t)
    assert (back["phase"], back["review"]["state"]) == ("callback", "completed")
    resolve = next(c for c in back["clocks"] if c["name"] == "resolve")
    assert resolve["state"] == "breached_met", "what was late stays late"
    owed = await city.act(t, "record_callback", "hotline", 409, **GLAD)
    assert owed["missing"] == ["reply"]
    replied = await do(city, f"{review}/actions/reply", CENTRE)
    assert replied["reply"] == "管网将扩容"
    assert (await city.act(t, "record_callback", "hotline", **GLAD))["phase"] == "closed"
    await sound(city)


async def test_an_investment_project_commits_resources_of_several_units_and_goes_the_whole_way(town: City) -> None:
    city = town
    review = await accepted(city, 3, ("natural_resources", "finance"), kind="investment_project")
    ticket = (await city.get(review, CENTRE)).json()["ticket"]["id"]
    await do(
        city, f"{review}/actions/give_opinion", LAND, position="condition", text="指标须调剂", legal_basis="土地管理法"
    )
    await do(city, f"{review}/actions/give_opinion", FINANCE, position="agree")
    due = await day(city, 60)
    land = {"resource": "land", "quantity": "120亩", "title": "保障用地指标", "department": "natural_resources",
            "co_units": ["development_reform"], "due_on": due}  # fmt: skip
    funds = {"resource": "funds", "quantity": "300万元", "title": "落实配套资金", "department": "finance",
             "due_on": due, "favour": "subsidy"}  # fmt: skip
    resolution = {
        "decision": "approve_with_conditions", "text": "同意", "commitments": [land, funds], "clock_effect": "replaced",
        "present": ["tax", "natural_resources", "finance"], "conditions": "当年开工",
    }  # fmt: skip
    meeting = await scheduled(city, review, tier=3, title="重点项目会")
    await begins(city, meeting)
    refused = await do(city, f"{review}/actions/decide", CENTRE, 409, **resolution)
    assert set(gates_missing(refused)) == {"competence", "fair_competition", "budget", "confidentiality", "recusal"}
    await settle(city, review, "competence", "budget", "confidentiality", "recusal")
    basis = {"legal_basis": "公平竞争审查条例第十二条", "favours": ["land"]}
    await do(city, f"{review}/actions/pass_gate", CENTRE, gate="fair_competition", **basis)
    refused = await do(city, f"{review}/actions/decide", CENTRE, 409, **resolution)
    assert refused["missing"] == [
        {"what": "legal_basis", "gate": "fair_competition", "favour": "subsidy", "settle": "pass_gate"}
    ], "the basis of one favour is not that of another"
    basis["favours"] = ["subsidy"]
    await do(city, f"{review}/actions/pass_gate", CENTRE, gate="fair_competition", **basis)
    vague = await do(city, f"{review}/actions/decide", CENTRE, 422, **{**resolution, "conditions": ""})
    assert vague["errors"][0]["pointer"] == "/conditions"
    decided = await do(city, f"{review}/actions/decide", CENTRE, **resolution)
    committed = {m["resource"]: m for m in decided["measures"]}
    assert (committed["land"]["quantity"], committed["land"]["co_units"]) == ("120亩", ["development_reform"])
    shown = await city.show(ticket)
    replaced = next(c for c in shown["clocks"] if c["name"] == "resolve")
    assert replaced["state"] == "cancelled", "T12: by a recorded decision the commitments' dates take its place"
    await do(
        city, f"/v1/measures/{committed['land']['id']}/actions/report", "handler:development_reform", text="已调剂"
    )
    await issue_minutes(city, meeting)
    await do(city, f"{review}/actions/reply", CENTRE, text="项目用地和资金已议定")
    for unit, who in (("land", LAND), ("funds", FINANCE)):
        measure = f"/v1/measures/{committed[unit]['id']}/actions"
        await do(city, f"{measure}/submit_evidence", who, evidence="批复")
        await do(city, f"{measure}/strike_off", CENTRE, enterprise_opinion="satisfied", signed_by="副市长")
    assert (await city.show(ticket))["phase"] == "callback"
    assert (await city.act(ticket, "record_callback", "hotline", **GLAD))["phase"] == "closed"
    await sound(city)


async def test_a_small_matter_is_decided_in_writing_once_all_have_answered_or_been_silent(town: City) -> None:
    city = town
    review = await accepted(city, 1, ("water", "finance"))
    await do(city, f"{review}/actions/give_opinion", WATER, position="agree")
    await settle(city, review)
    form = {"decision": "approve", "text": "同意",
            "measures": [{"title": "办理", "department": "tax", "due_on": await day(city, 20)}]}  # fmt: skip
    early = await do(city, f"{review}/actions/decide", CENTRE, 409, **form)
    assert [(m["what"], m["department"]) for m in early["missing"]] == [("opinion", "finance")]
    await city.advance(advance_by="P4D")
    decided = await do(city, f"{review}/actions/decide", CENTRE, **form)
    measure = f"/v1/measures/{decided['measures'][0]['id']}/actions"
    await do(city, f"{measure}/submit_evidence", TAX, evidence="凭证")
    await do(city, f"{measure}/strike_off", CENTRE, enterprise_opinion="satisfied")
    closed = await city.act(decided["ticket"]["id"], "record_callback", "hotline", **GLAD)
    assert closed["phase"] == "closed"


# --- R2: refused or detected -------------------------------------------------------------------------------------------


async def test_of_two_conveners_who_decide_at_once_one_does(town: City) -> None:
    city = town
    review = await accepted(city)
    await settle(city, review)
    meeting = await scheduled(city, review)
    await begins(city, meeting)
    seen = (await city.get(review, CENTRE)).headers["etag"]
    forms = [{"decision": decision, "text": "议定", "present": ["tax", "water"]} for decision in ("approve", "refuse")]
    path = f"{review}/actions/decide"
    both = await asyncio.gather(*(city.post(path, f, f"{who}@reviewer") for f, who in zip(forms, "ab", strict=True)))
    assert sorted(a.status_code for a in both) == [200, 409], [a.text for a in both]
    winner = next(a.json() for a in both if a.status_code == 200)
    assert (await city.get(review, CENTRE)).json()["decision"] == winner["decision"]
    assert [i["decision"] for i in (await city.get(meeting, CENTRE)).json()["agenda"]] == [winner["decision"]]
    stale = await city.post(path, forms[0], CENTRE, headers={"If-Match": seen})
    assert stale.status_code == 412
    old = await city.post(f"{meeting}/actions/close", {}, CENTRE, headers={"If-Match": '"1"'})
    assert old.status_code == 412
    second = {"attendees": [{"role": "chair", "name": "赵主任"}]}
    await do(city, f"{await scheduled(city, await accepted(city))}/actions/invite", CENTRE, 409, **second)
    await sound(city)


async def test_who_has_a_stake_neither_decides_nor_votes_nor_makes_the_quorum(town: City) -> None:
    city = town
    review = await accepted(city)
    stakes = [
        {"subject": "a@reviewer", "reason": "持有该企业股份"},
        {"subject": "li@handler:water", "name": "李工", "department": "water", "reason": "亲属任职"},
    ]
    await settle(city, review, "competence", "confidentiality")
    await do(city, f"{review}/actions/pass_gate", CENTRE, gate="recusal", recused=stakes)
    await do(city, f"{review}/actions/give_opinion", "li@handler:water", 403, position="agree")
    people = [{"department": "water", "name": "李工"}, {"department": "tax"}]
    meeting = await scheduled(city, review, attendees=people)
    await begins(city, meeting)
    form = {"decision": "approve", "text": "同意", "present": ["tax", "water"]}
    await do(city, f"{review}/actions/decide", "a@reviewer", 403, **form)
    refused = await do(city, f"{review}/actions/decide", CENTRE, 409, **form)
    assert [(m["what"], m["department"], m["state"]) for m in refused["missing"]] == [("unit", "water", "recused")]
    await do(city, f"{meeting}/actions/invite", CENTRE, attendees=[{"department": "water", "name": "陈工"}])
    await do(city, f"{meeting}/actions/recuse", CENTRE, review=review.rpartition("/")[2], department="tax", reason="同")
    refused = await do(city, f"{review}/actions/decide", CENTRE, 409, **form)
    assert [m["department"] for m in refused["missing"] if m["what"] == "unit"] == ["tax"]
    await do(city, f"{meeting}/actions/invite", CENTRE, attendees=[{"department": "tax", "name": "周处长"}])
    outsider = await do(city, f"{review}/actions/decide", CENTRE, 422, **form, votes={"for": ["customs"]})
    assert outsider["errors"][0]["pointer"] == "/votes/for/0"
    decided = await do(city, f"{review}/actions/decide", CENTRE, **form, votes={"for": ["tax", "water"]})
    assert (decided["state"], len(decided["recused"])) == ("completed", 2)
    assert (await city.get(review, TAX)).json()["recused"] == [], "who was recused stays with the convenor"


async def test_a_measure_is_waived_by_right_only(town: City) -> None:
    city = town
    review = await accepted(city)
    await settle(city, review)
    await begins(city, await scheduled(city, review))
    measures = [{"title": "扩容", "department": "water", "due_on": await day(city, 20)}]
    decided = await do(
        city, f"{review}/actions/decide", CENTRE, decision="approve", text="t", measures=measures,
        present=["tax", "water"],
    )  # fmt: skip
    path = f"/v1/measures/{decided['measures'][0]['id']}/actions"
    for who in (WATER, TAX, "dispatcher", "supervisor"):
        await do(city, f"{path}/strike_off", who, 403, waive=True, reason="不需要了")
        await do(city, f"{path}/reschedule", who, 403, due_on=await day(city, 30), reason="来不及")
    assert (await do(city, f"{path}/strike_off", CENTRE, 422, waive=True))["errors"][0]["pointer"] == "/reason"
    unsigned = await do(city, f"{path}/strike_off", CENTRE, 422, waive=True, reason="企业搬迁")
    assert unsigned["errors"][0]["pointer"] == "/signed_by"
    await do(city, f"{path}/strike_off", CENTRE, waive=True, reason="企业搬迁", signed_by="王秘书长")
    await sound(city)


# --- the docket's other ways ---------------------------------------------------------------------------------------------


async def test_what_is_in_a_legal_track_is_never_discussed(town: City) -> None:
    city = town
    t = (await city.ticket())["id"]
    await city.act(t, "accept", TAX)
    told = await do(city, "/v1/reviews", TAX, 422, ticket=t, reason="r", track="litigation")
    assert told["errors"][0]["pointer"] == "/track"
    review = await proposed(city, t)
    await do(city, f"{review}/actions/screen", CENTRE, 422, decision="refuse")
    await do(city, f"{review}/actions/screen", CENTRE, decision="refuse", reason="已起诉", exclusion="litigation")
    again = await do(city, "/v1/reviews", TAX, 409, ticket=t, reason="r")
    assert again["track"] == "litigation"
    # its clocks go on, and at the end of the ladder it is screened again: nobody's timer stands still over it
    await city.advance(advance_by="P60D")
    states = [r["state"] for r in (await city.get("/v1/reviews", CENTRE)).json()["items"] if r["ticket"]["id"] == t]
    assert sorted(states) == ["proposed", "refused"]
    await sound(city)


async def test_a_callback_that_leads_to_the_docket_is_recorded_although_the_matter_was_excluded(town: City) -> None:
    city = town
    t = (await city.ticket())["id"]
    await city.act(t, "accept", TAX)
    review = await proposed(city, t)
    await do(city, f"{review}/actions/screen", CENTRE, decision="refuse", reason="已起诉", exclusion="litigation")
    sad = {"reached": True, "solved": "no", "satisfaction": "dissatisfied", "reason": "result"}
    for _ in range(3):
        await city.act(t, "submit_reply", TAX, public_reply="已答复", outcome="solved")
        await city.act(t, "approve_reply", "dispatcher")
        shown = await city.act(t, "record_callback", "hotline", **sad)
    assert shown["phase"] == "review" and shown["review"]["state"] == "proposed"


async def test_a_proposal_is_sent_back_twice_at_most(town: City) -> None:
    city = town
    t = (await city.ticket())["id"]
    await city.act(t, "accept", TAX)
    review = await proposed(city, t)
    for _ in range(2):
        await do(city, f"{review}/actions/screen", CENTRE, decision="return", reason="材料不全")
        await do(city, f"{review}/actions/supplement", TAX, tried="又协调一次")
    await do(city, f"{review}/actions/screen", CENTRE, 409, decision="return", reason="仍不全")
    clocks = [c["cycle"] for c in (await city.get(review, CENTRE)).json()["clocks"] if c["name"] == "review_screen"]
    assert clocks == [1, 2, 3]
    await sound(city)


async def test_a_major_decision_waits_for_the_legal_review(town: City) -> None:
    city = town
    t = (await city.ticket())["id"]
    await city.act(t, "accept", TAX)
    review = await proposed(city, t)
    await do(city, f"{review}/actions/screen", CENTRE, decision="accept", tier=2, major=True)
    gate = f"{review}/actions/pass_gate"
    await do(city, gate, CENTRE, 409, gate="legality")
    await do(city, gate, CENTRE, gate="legality", result="requested")
    early = await do(city, gate, CENTRE, 409, gate="legality")
    days = datetime.fromisoformat(early["until"]) - await now_of(city)
    assert days > timedelta(days=8), "seven working days"
    await city.advance(advance_to=early["until"])
    await do(city, gate, CENTRE, gate="legality", legal_basis="重大行政决策程序暂行条例")
    states = {g["gate"]: g["state"] for g in (await city.get(review, CENTRE)).json()["gates"]}
    assert states == {"competence": "open", "fair_competition": "not_needed", "legality": "passed",
                      "budget": "not_needed", "confidentiality": "open", "recusal": "open"}  # fmt: skip


async def test_what_this_tier_cannot_decide_goes_up_and_at_last_out(town: City) -> None:
    city = town
    review = await accepted(city, 2)
    await settle(city, review)
    await begins(city, await scheduled(city, review))
    present = {"present": ["tax", "water"]}
    up = await do(city, f"{review}/actions/decide", CENTRE, decision="refer_up", text="超出权限", **present)
    assert (up["state"], up["tier"], up["meeting"]) == ("preparing", 3, None)
    low = (await now_of(city) + timedelta(days=9)).isoformat()
    lower = await do(city, "/v1/meetings", CENTRE, 201, tier=2, held_at=low)
    await do(city, f"{review}/actions/schedule", CENTRE, 409, meeting=lower["id"])
    await begins(city, await scheduled(city, review, tier=3))
    await do(city, f"{review}/actions/decide", CENTRE, 409, decision="refer_up", text="再上", **present)
    out = {"decision": "refer_out", "text": "需省级审批", **present}
    assert (await do(city, f"{review}/actions/decide", CENTRE, 422, **out))["errors"][0]["pointer"] == "/referred_to"
    out["referred_to"] = "province"
    assert (await do(city, f"{review}/actions/decide", CENTRE, 422, **out))["errors"][0]["pointer"] == "/measures"
    out["measures"] = [{"title": "上报并跟踪", "department": "tax", "due_on": await day(city, 30)}]
    assert (await do(city, f"{review}/actions/decide", CENTRE, **out))["referred_to"] == "province"
    await sound(city)


async def test_the_agenda_closes_on_friday_noon_and_later_needs_the_chairs_ground(town: City) -> None:
    city = town
    review = await accepted(city)
    now = await now_of(city)
    tomorrow = (now + timedelta(days=1)).isoformat()
    closed = await do(city, "/v1/meetings", CENTRE, 422, tier=2, held_at=tomorrow)
    assert closed["errors"][0]["pointer"] == "/held_at"
    await do(city, "/v1/meetings", CENTRE, 422, tier=2, held_at=tomorrow, extra=True)
    far = await do(city, "/v1/meetings", CENTRE, 422, tier=2, held_at="2099-12-20T10:00:00+08:00")
    assert far["errors"][0]["pointer"] == "/held_at", "beyond the calendar's horizon"
    next_week = (now + timedelta(days=8)).isoformat()
    meeting = (await do(city, "/v1/meetings", CENTRE, 201, tier=2, held_at=next_week))["id"]
    await city.advance(advance_to=(now + timedelta(days=4)).replace(hour=12, minute=0, second=1).isoformat())
    late = await do(city, f"{review}/actions/schedule", CENTRE, 409, meeting=meeting)
    assert late["missing"][0]["what"] == "late_ground"
    await do(city, f"{review}/actions/schedule", CENTRE, meeting=meeting, late_ground="主持人同意临时增加")
    [item] = (await city.get(f"/v1/meetings/{meeting}", CENTRE)).json()["agenda"]
    assert item["late_ground"] == "主持人同意临时增加"
    extra = (await now_of(city) + timedelta(days=2)).isoformat()
    moved = await do(city, f"{review}/actions/schedule", CENTRE, held_at=extra, extra=True, reason="企业停产")
    assert moved["meeting"] != meeting
    [item] = (await city.get(f"/v1/meetings/{meeting}", CENTRE)).json()["agenda"]
    assert item["state"] == "withdrawn", "a matter stands on one agenda"


async def test_a_unit_sees_the_meetings_it_is_invited_to_and_of_them_its_own_matters(town: City) -> None:
    city = town
    review = await accepted(city)
    meeting = await scheduled(city, review)
    other = await accepted(city, asked=("finance",))
    await do(city, f"{other}/actions/schedule", CENTRE, meeting=meeting.rpartition("/")[2])
    paper = {"review": review.rpartition("/")[2], "title": "情况说明"}
    await do(city, f"{meeting}/actions/add_paper", CENTRE, **paper)
    await do(city, f"{meeting}/actions/add_paper", CENTRE, **{**paper, "title": "内部测算", "secret": True})
    seen = (await city.get(meeting, WATER)).json()
    assert [i["review"]["id"] for i in seen["agenda"]] == [review.rpartition("/")[2]]
    assert [p["title"] for p in seen["agenda"][0]["papers"]] == ["情况说明"]
    assert len((await city.get(meeting, CENTRE)).json()["agenda"]) == 2
    assert (await city.get(meeting, "handler:customs")).status_code == 404
    assert (await city.get("/v1/meetings", "handler:customs")).json()["items"] == []
    assert len((await city.get("/v1/meetings", WATER)).json()["items"]) == 1
    await do(city, f"{meeting}/actions/cancel", WATER, 403, reason="x")
    await do(city, "/v1/meetings", WATER, 403, tier=1, held_at=(await now_of(city)).isoformat())


async def test_many_requests_of_one_matter_become_a_thematic_study(town: City) -> None:
    city = town
    tickets = [(await city.ticket(enterprise={"name": f"企业{n}"}))["id"] for n in range(3)]
    [cluster] = (await city.get("/v1/studies/clusters", CENTRE)).json()["items"]
    assert (cluster["matter"], cluster["tickets"], cluster["enterprises"]) == ("invoice", 3, 3)
    found = []
    for t in tickets:
        await city.act(t, "accept", TAX)
        found.append(await proposed(city, t, grounds=["cluster"]))
    await do(city, f"{found[0]}/actions/screen", CENTRE, 422, decision="study")
    first = await do(city, f"{found[0]}/actions/screen", CENTRE, decision="study", theme="发票额度", matter="invoice")
    await do(city, f"{found[1]}/actions/screen", CENTRE, decision="study", study=first["study"])
    study = f"/v1/studies/{first['study']}"
    assert len((await city.get(study, CENTRE)).json()["reviews"]) == 2
    await do(city, f"{study}/close", CENTRE, 409, closing="出台办法")
    for review in found[:2]:
        await do(city, f"{review}/actions/withdraw", CENTRE, reason="另案处理")
    closed = await do(city, f"{study}/close", CENTRE, closing="出台办法")
    assert (closed["state"], closed["closing"]) == ("closed", "出台办法")
    await do(city, f"{found[2]}/actions/screen", CENTRE, 409, decision="study", study=first["study"])
    alone = (await city.ticket(matter="land_use", domain="project_landing"))["id"]
    told = await do(city, "/v1/reviews", CENTRE, 422, ticket=alone, reason="r", grounds=["cluster"])
    assert told["errors"][0]["pointer"] == "/grounds/0"


async def test_a_decision_that_was_altered_on_the_agenda_is_detected(town: City) -> None:
    city = town
    review = await accepted(city)
    await settle(city, review)
    await begins(city, await scheduled(city, review))
    form = {"decision": "refuse", "text": "不予支持", "present": ["tax", "water"]}
    await do(city, f"{review}/actions/decide", CENTRE, **form)
    await sound(city)
    connection = await asyncpg.connect(**connect_arguments(city.dsn))
    await connection.execute("UPDATE agenda_items SET decision = 'approve'")
    await connection.close()
    found = {f.code: f.first for f in (await integrity.check(city.house)).findings if f.offending}
    assert list(found) == ["I15"] and "different decisions" in found["I15"][0][1]


async def test_what_is_proposed_by_the_ticket_says_why_as_well(town: City) -> None:
    city = town
    t = (await city.ticket())["id"]
    await city.act(t, "accept", TAX)
    await city.act(t, "escalate", TAX, 422, reason="r", grounds=["nothing_known"])
    raised = await city.act(
        t, "escalate", TAX, reason="r", kind="investment_project", grounds=["cross_department"], options=["甲"]
    )
    shown = (await city.get(f"/v1/reviews/{raised['review']['id']}", CENTRE)).json()
    assert (shown["kind"], shown["grounds"], shown["options"]) == ("investment_project", ["cross_department"], ["甲"])
