"""Lead and co-handlers: own clocks, partial answers, sign-off, substitution, and whose lateness it is."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.core import legs
from service.core.calendar import Calendar
from tests.api.test_life import check_history, clock_of
from tests.api.test_procedure_supervision import SUP, TAX, WATER, called_back, handled
from tests.builders import a_history
from tests.conftest import City

GLAD = {"reached": True, "solved": "yes", "satisfaction": "satisfied"}


async def with_water(city: City) -> str:
    t = await handled(city)
    await city.act(t, "add_co_handler", TAX, department="water")
    return t


async def legs_of(city: City, t: str, who: str = SUP) -> dict[str, Any]:
    answer = await city.get(f"/v1/tickets/{t}/legs", who)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    for unit in ("gross_us", "working_us"):
        assert sum(s[unit] for s in told["spans"]) == told["whole"][unit]
        assert sum(c[unit] for c in told["charged"]) == told["whole"][unit]
    ends = [(s["from"], s["to"]) for s in told["spans"]]
    assert [e for _, e in ends[:-1]] == [s for s, _ in ends[1:]], "without gap or overlap"
    return told


async def test_a_partial_answer_is_kept_and_the_co_handlers_clock_runs_on(city: City) -> None:
    t = await with_water(city)
    shown = await city.act(t, "submit_reply", WATER, public_reply="已完成现场核查", partial=True)
    assert clock_of(shown, "co_reply")["state"] == "running"
    assert [(r["department"], r["partial"]) for r in shown["co_replies"]] == [("water", True)]
    done = await city.act(t, "submit_reply", WATER, public_reply="管网已接通")
    assert clock_of(done, "co_reply")["state"] == "met"
    assert [r["partial"] for r in done["co_replies"]] == [True, False]


async def test_the_lead_signs_a_co_handlers_answer_off_or_sends_it_back_with_a_clock_anew(city: City) -> None:
    t = await with_water(city)
    await city.act(t, "sign_off", TAX, 409, department="water", decision="accept")
    await city.act(t, "submit_reply", WATER, public_reply="已处理")
    await city.act(t, "sign_off", WATER, 409, department="water", decision="accept")
    await city.act(t, "sign_off", TAX, 422, department="water", decision="send_back")
    await city.act(t, "sign_off", TAX, 409, department="finance", decision="accept")
    back = await city.act(t, "sign_off", TAX, department="water", decision="send_back", reason="没有回答问题")
    clocks = [c for c in back["clocks"] if c["name"] == "co_reply"]
    assert [c["state"] for c in clocks] == ["met", "running"]
    again = await city.act(t, "submit_reply", WATER, public_reply="补充如下")
    assert clock_of(again, "co_reply")["state"] == "met"
    await city.act(t, "sign_off", TAX, department="water", decision="accept")
    await city.act(t, "submit_reply", TAX, public_reply="已办理", outcome="solved")
    await check_history(city, t)


async def test_a_co_handler_is_substituted_and_the_first_keeps_its_lateness(city: City) -> None:
    t = await with_water(city)
    await city.advance(advance_by="P6D")
    await city.act(t, "substitute", TAX, 409, instead_of="finance", department="customs", reason="x")
    await city.act(t, "substitute", WATER, 409, instead_of="water", department="customs", reason="x")
    shown = await city.act(t, "substitute", TAX, instead_of="water", department="customs", reason="职责调整")
    assert shown["co_handlers"] == ["customs"]
    first, second = (c for c in shown["clocks"] if c["name"] == "co_reply")
    assert (first["department"], first["breached_at"] is not None) == ("water", True)
    assert (second["department"], second["state"]) == ("customs", "running")
    assert (await city.get(f"/v1/tickets/{t}", WATER)).status_code == 404
    await check_history(city, t)


async def test_g20_a_co_handler_that_never_answers_is_late_itself_and_not_the_lead(city: City) -> None:
    t = await with_water(city)
    await city.advance(advance_by="P8D")
    told = await legs_of(city, t)
    water = next(leg for leg in told["legs"] if leg["department"] == "water")
    tax = next(leg for leg in told["legs"] if leg["department"] == "tax")
    assert [late["clock"] for late in water["late"]] == ["co_reply"]
    assert tax["late"] == []
    late = next(s for s in told["spans"] if s["because"] == "co_handler_late")
    assert (late["charged_to"], late["from"]) == ("water", water["late"][0]["due_at"])
    shown = await city.act(t, "submit_reply", TAX, public_reply="水务部门逾期未答复，本单位先行答复", outcome="solved")
    assert shown["phase"] == "audit", "the lead answers without it"
    after = await legs_of(city, t)
    assert [s["charged_to"] for s in after["spans"]][-1] == "centre"
    listed = (await city.get("/v1/reports/breaches", SUP, params={"clock": "co_reply"})).json()["items"]
    assert [b["charged_to"] for b in listed] == ["water"]
    await check_history(city, t)


async def test_the_split_of_a_whole_life_adds_up_and_names_each_holder(city: City) -> None:
    t = await handled(city)
    await city.advance(advance_by="PT20H")
    await called_back(city, t, reached=True, solved="no", satisfaction="dissatisfied", reason="result")
    await city.advance(advance_by="PT3H")
    closed = await called_back(city, t, **GLAD)
    assert closed["phase"] == "closed"
    told = await legs_of(city, t)
    assert (told["open"], told["to"]) == (False, closed["closed_at"])
    assert {c["to"] for c in told["charged"]} == {"tax", "centre"}
    assert [s["because"] for s in told["spans"]][:3] == ["lead", "audit", "callback"]
    assert (await city.get(f"/v1/tickets/{t}/legs", "handler:finance")).status_code == 404


@given(st.randoms(use_true_random=False))
def test_any_life_is_split_without_gap_or_overlap_and_adds_up_exactly(rng: Any) -> None:
    case, _ = a_history(rng)
    spans = legs.split(case.ticket, case.now)
    if not spans:
        return
    assert all(a.end == b.start for a, b in pairwise(spans))
    whole = legs.Span(spans[0].start, spans[-1].end, "", "")
    calendar: Calendar = case.calendar
    assert legs.amount(spans, calendar) == legs.amount([whole], calendar)
    assert whole.end == (case.ticket.closed_at or case.now)
