"""The callers' queue, attempts on different days, who rated, disputes, and one call about several tickets."""

from __future__ import annotations

from typing import Any

from tests.api.test_life import check_history, clock_of
from tests.api.test_procedure_supervision import SUP, TAX, called_back, figure, handled, send
from tests.conftest import City

GLAD = {"reached": True, "solved": "yes", "satisfaction": "satisfied"}
POLICY = {"reached": True, "solved": "no", "satisfaction": "dissatisfied", "reason": "policy_itself"}
VEXED = {"solved": "yes", "satisfaction": "very_dissatisfied", "reason": "attitude"}


async def replied(city: City, **changes: Any) -> str:
    t = await handled(city, **changes)
    await city.act(t, "submit_reply", TAX, public_reply="已办理", outcome="solved")
    await city.act(t, "approve_reply", "dispatcher")
    return t


async def waiting(city: City, who: str = "hotline", **query: Any) -> list[dict[str, Any]]:
    answer = await city.get("/v1/callbacks", who, params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_g26_the_callers_queue_has_one_entry_an_enterprise_with_all_its_tickets(city: City) -> None:
    one, two = await replied(city), await replied(city, title="另一件事")
    other = await replied(city, enterprise={"name": "济南另一家公司"})
    await handled(city)
    firms = await waiting(city)
    assert [{t["id"] for t in f["tickets"]} for f in firms] == [{one, two}, {other}]
    assert firms[0]["tickets"][0]["contact"]["phone"] == "138****1234"
    assert (await city.get("/v1/callbacks", TAX)).status_code == 403
    page = (await city.get("/v1/callbacks", "hotline", params={"limit": 1})).json()
    rest = await waiting(city, limit=1, cursor=page["next_cursor"])
    assert [f["enterprise"]["name"] for f in page["items"] + rest] == [f["enterprise"]["name"] for f in firms]


async def test_special_case_5_a_recused_caller_is_given_other_calls_only(city: City) -> None:
    kin, other = await replied(city), await replied(city, title="另一件事")
    recusal = {"subject": "zhou@hotline", "reason": "亲属"}
    assert (await city.post(f"/v1/tickets/{kin}/recusals", recusal, "supervisor")).status_code == 201
    for who, calls in (("zhou@hotline", {other}), ("wu@hotline", {kin, other})):
        assert {t["id"] for f in await waiting(city, who) for t in f["tickets"]} == calls
    await send(
        city, "callbacks", "zhou@hotline", 422, results=[{"ticket": kin, "solved": "yes", "satisfaction": "satisfied"}]
    )


async def test_g26_one_call_records_the_results_of_several_tickets_of_one_enterprise_or_none(city: City) -> None:
    one, two = await replied(city), await replied(city, title="另一件事")
    other = await replied(city, enterprise={"name": "济南另一家公司"})
    good = {"solved": "yes", "satisfaction": "satisfied"}
    await send(city, "callbacks", "hotline", 409, results=[{"ticket": one, **good}, {"ticket": other, **good}])
    wrong = await city.post("/v1/callbacks", {"results": [{"ticket": one, **good}, {"ticket": two}]}, "hotline")
    assert wrong.status_code == 422
    assert {e["pointer"] for e in wrong.json()["errors"]} == {"/results/1/solved", "/results/1/satisfaction"}
    assert (await city.show(one))["phase"] == "callback", "nothing half done"
    await send(city, "callbacks", "hotline", 422, results=[{"ticket": one, **good}, {"ticket": one, **good}])
    await send(city, "callbacks", TAX, 403, results=[{"ticket": one, **good}])
    done = await send(city, "callbacks", "hotline", 200, results=[{"ticket": one, **good}, {"ticket": two, **VEXED}],
                      rated_from="0531-66601234")  # fmt: skip
    assert [(r["id"], r["phase"], r["round"]) for r in done["results"]] == [(one, "closed", 1), (two, "handling", 2)]
    event = (await check_history(city, one))[-1]
    assert (event["data"]["form"]["call"], event["data"]["form"]["rated_from"]) == (done["call"], "0531-66601234")


async def test_g26_a_call_that_reached_nobody_counts_for_all_tickets_and_once_a_day(city: City) -> None:
    one, two = await replied(city), await replied(city, title="另一件事")
    body = {"reached": False, "results": [{"ticket": one}, {"ticket": two}]}
    for _ in range(4):
        done = await send(city, "callbacks", "hotline", 200, **body)
        assert {r["phase"] for r in done["results"]} == {"callback"}, "four calls on one day are one attempt"
    assert [t["attempts"] for t in (await waiting(city))[0]["tickets"]] == [1, 1]
    assert await waiting(city, today="true") == []
    for _ in range(2):
        await city.advance(advance_by="P1D")
        assert len(await waiting(city, today="true")) == 1
        done = await send(city, "callbacks", "hotline", 200, **body)
    assert {(r["phase"], r["outcome"]) for r in done["results"]} == {("closed", "unrated")}
    rate = await figure(city, "unreachable_rate")
    assert (rate["numerator"], rate["denominator"]) == (2, 2)
    assert (await figure(city, "satisfaction_rate"))["denominator"] == 0
    await check_history(city, one)


async def test_g21_solved_and_satisfied_are_two_independent_fields(city: City) -> None:
    glad_unsolved, vexed_solved, partly = await replied(city), await replied(city), await replied(city)
    first = await city.act(glad_unsolved, "record_callback", "hotline", solved="no", satisfaction="satisfied")
    second = await city.act(vexed_solved, "record_callback", "hotline", **VEXED)
    third = await city.act(partly, "record_callback", "hotline", solved="partly", satisfaction="basically_satisfied")
    assert [(t["round"], t["phase"]) for t in (first, second, third)] == [
        (2, "handling"),
        (2, "handling"),
        (1, "closed"),
    ]
    rates = {name: await figure(city, name) for name in ("resolution_rate", "satisfaction_rate", "partly_solved_rate")}
    told = {name: (r["numerator"], r["denominator"]) for name, r in rates.items()}
    assert told == {"resolution_rate": (1, 3), "satisfaction_rate": (2, 3), "partly_solved_rate": (1, 3)}


async def test_g31_only_the_centre_or_a_verified_link_rates_and_who_rated_is_kept(city: City) -> None:
    t = await replied(city)
    await city.act(t, "record_callback", "hotline", 422, **GLAD, rated_by="unit")
    await city.act(t, "record_callback", TAX, 403, **GLAD)
    noted = await city.act(
        t, "note_rating", TAX, rated_by="unit", satisfaction="very_satisfied", rated_from="13900000000"
    )
    assert noted["phase"] == "callback", "what a unit says for the enterprise ends nothing"
    assert (await figure(city, "satisfaction_rate"))["denominator"] == 0
    closed = await city.act(t, "record_callback", "hotline", **GLAD, rated_by="verified_link", rated_from="link 7f3a")
    assert closed["phase"] == "closed"
    form = (await check_history(city, t))[-1]["data"]["form"]
    assert (form["rated_by"], form["rated_from"]) == ("verified_link", "link 7f3a")
    assert (await figure(city, "satisfaction_rate"))["denominator"] == 1


async def test_g22_dissatisfied_with_the_law_only_is_decided_by_a_third_party_and_the_rating_is_kept(
    city: City,
) -> None:
    t = await replied(city)
    disputed = await city.act(t, "record_callback", "hotline", **POLICY)
    assert (disputed["stage"], clock_of(disputed, "dispute")["state"]) == ("disputed", "running")
    assert await waiting(city) == [], "not to be called again"
    form = {"decision": "lawful_and_done", "reason": "依法办理，企业对政策不满"}
    await city.act(t, "decide_dispute", TAX, 403, **form)
    await city.act(t, "decide_dispute", "dispatcher", 403, **form)
    closed = await city.act(t, "decide_dispute", SUP, **form)
    assert (closed["phase"], closed["outcome"]) == ("closed", "explained_no_basis")
    [left_out] = (await city.get(f"/v1/tickets/{t}/exemptions", SUP)).json()["items"]
    assert (left_out["scope"], left_out["round"], left_out["code"]) == ("rating", 1, "policy_only")
    assert (left_out["state"], left_out["decided_by"]) == ("approved", SUP)
    await city.advance(advance_by="PT1M")
    rate = await figure(city, "satisfaction_rate")
    assert (rate["denominator"], rate["excluded"]) == (0, 1)
    callback = next(e for e in await check_history(city, t) if e["type"] == "ticket.record_callback")
    assert callback["data"]["form"]["satisfaction"] == "dissatisfied"


async def test_g22_a_dispute_that_is_found_to_be_the_units_own_is_reworked_with_the_limit_of_rework(city: City) -> None:
    t = await replied(city)
    await city.act(t, "record_callback", "hotline", **POLICY)
    again = await city.act(t, "decide_dispute", "reviewer", decision="rework", reason="解释不到位")
    assert (again["round"], again["phase"], clock_of(again, "resolve")["budget"]) == (2, "handling", 8)
    assert (await city.get(f"/v1/tickets/{t}/exemptions", SUP)).json()["items"] == []
    await check_history(city, t)


async def test_first_time_completion_is_known_in_the_figures(city: City) -> None:
    first, second = await handled(city), await handled(city)
    await called_back(city, first, **GLAD)
    await called_back(city, second, reached=True, **VEXED)
    await called_back(city, second, **GLAD)
    await city.advance(advance_by="P40D")
    one, two = await figure(city, "first_time_completion_rate"), await figure(city, "second_time_completion_rate")
    assert [(r["numerator"], r["denominator"]) for r in (one, two)] == [(1, 2), (1, 2)]


async def test_g19_a_reply_in_time_whose_audit_fails_after_the_limit_is_late(city: City) -> None:
    t = await handled(city)
    due = clock_of(await city.show(t), "resolve")["due_at"]
    await city.act(t, "submit_reply", TAX, public_reply="正在研究")
    await city.advance(advance_by="P40D")
    held = clock_of(await city.show(t), "resolve")
    assert (held["state"], held["breached_at"]) == ("held", None)
    back = clock_of(await city.act(t, "reject_reply", "dispatcher", reason="没有答复"), "resolve")
    assert back["due_at"] == due
    await city.advance(advance_by="PT1S")
    later = clock_of(await city.show(t), "resolve")
    assert (later["state"], later["breached_at"]) == ("breached_running", due), "as if it had never been held"
