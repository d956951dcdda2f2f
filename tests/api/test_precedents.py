"""Precedents are made by the issue, found by likeness, matter and ground, and decide nothing."""

from __future__ import annotations

from datetime import timedelta

from tests.api.sittings import convened, decided, issued, now, ok, on_the_docket, sat
from tests.conftest import City

LAND = {
    "title": "二期厂房用地指标不足",
    "description": "公司二期厂房用地指标不足，无法开工，请协调用地。",
    "matter": "invoice",
}


async def found(city: City, query: str, who: str = "reviewer") -> list[str]:
    return [p["subject"] for p in (await ok(await city.get(f"/v1/precedents?{query}", who)))["items"]]


async def test_an_issued_decision_is_found_by_a_similar_text(city: City) -> None:
    first = await on_the_docket(city, "甲公司", **LAND)
    second = await on_the_docket(city, "乙公司")
    third = await on_the_docket(city, "丙公司", title="厂区门口道路破损")
    meeting = await convened(city, first, second, third)
    text = "同意统筹调剂26亩工业用地指标"
    await decided(city, first, text=text, enterprise_extract="")
    await decided(city, second)
    await decided(city, third, decision="postpone", measures=[], text="再议")
    assert await found(city, "q=用地指标") == []
    await issued(city, meeting)
    assert (await found(city, "q=企业缺少建设用地指标怎么办"))[0] == "二期厂房用地指标不足"
    assert await found(city, "q=缺少用地指标") == ["二期厂房用地指标不足"]
    assert (await found(city, "q=发票额度"))[0] == "发票额度不够用"
    assert await found(city, "q=道路破损") == []
    assert len(await found(city, "")) == 2
    [best] = (await ok(await city.get("/v1/precedents?q=用地指标", "reviewer")))["items"]
    assert (best["decision"], best["binding"], best["valid"], best["text"]) == ("approve", False, True, text)
    assert 0 < best["likeness"] <= 1
    assert best["review"] == first


async def test_it_is_found_by_matter_ground_decision_and_validity(city: City) -> None:
    review = await on_the_docket(city, "甲公司")
    path = f"/v1/reviews/{review}/actions"
    await ok(await city.post(f"{path}/request_opinions", {"departments": ["tax"]}, "reviewer"))
    opinion = {"position": "agree", "text": "可以", "legal_basis": "《税收征收管理法》第二十一条"}
    await ok(await city.post(f"{path}/give_opinion", opinion, "handler:tax"))
    meeting = await convened(city, review)
    await decided(city, review)
    await issued(city, meeting)
    assert len(await found(city, "matter=invoice")) == 1
    assert await found(city, "matter=land_use") == []
    assert len(await found(city, "legal_ground=税收征收管理法")) == 1
    assert len(await found(city, "q=发票&legal_ground=第二十一条&decision=approve&valid=true")) == 1
    assert await found(city, "legal_ground=土地管理法") == []
    assert await found(city, "decision=refuse") == []
    [made] = (await ok(await city.get("/v1/precedents", "reviewer")))["items"]
    today = (await now(city)).date()
    limit = {"valid_until": (today + timedelta(days=5)).isoformat(), "reason": "政策将调整"}
    await ok(await city.post(f"/v1/precedents/{made['id']}/actions/limit", limit, "reviewer"))
    assert len(await found(city, "valid=true")) == 1
    await city.advance(advance_by="P7D")
    assert await found(city, "valid=true") == []
    assert (await ok(await city.get(f"/v1/precedents/{made['id']}", "reviewer")))["valid"] is False
    withdraw = f"/v1/precedents/{made['id']}/actions/withdraw"
    assert (await ok(await city.post(withdraw, {"reason": "政策已调整"}, "reviewer")))["state"] == "withdrawn"
    assert (await city.post(withdraw, {"reason": "再次"}, "reviewer")).status_code == 409
    early = {"valid_until": "2001-01-01", "reason": "x"}
    assert (await city.post(f"/v1/precedents/{made['id']}/actions/limit", early, "reviewer")).status_code == 409


async def test_a_unit_sees_precedents_of_its_own_matters_only(city: City) -> None:
    meeting, _ = await sat(city)
    await issued(city, meeting)
    assert await found(city, "q=发票额度", "handler:tax") == ["发票额度不够用"]
    [own] = (await ok(await city.get("/v1/precedents", "handler:tax")))["items"]
    assert "ticket" not in own
    assert await found(city, "q=发票额度", "handler:water") == []
    assert (await city.get(f"/v1/precedents/{own['id']}", "handler:water")).status_code == 404
    assert (await city.get("/v1/precedents", "hotline")).status_code == 403


async def test_a_precedent_may_propose_a_change_which_somebody_else_decides(city: City) -> None:
    meeting, _ = await sat(city)
    await issued(city, meeting)
    [made] = (await ok(await city.get("/v1/precedents", "reviewer")))["items"]
    path = f"/v1/precedents/{made['id']}/proposals"
    wrong = await city.post(path, {"kind": "rule", "target": "nothing", "text": "x"}, "reviewer")
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/target")
    body = {"kind": "rule", "target": "business_development", "text": "发票额度类诉求增加核定环节"}
    proposal = await ok(await city.post(path, body, "reviewer"), 201)
    assert (proposal["state"], proposal["precedent"]["id"]) == ("open", made["id"])
    catalogue = {"kind": "catalogue", "target": "invoice", "text": "发票额度直接派税务部门"}
    await ok(await city.post(path, catalogue, "supervisor"), 201)
    decision = f"/v1/precedents/proposals/{proposal['id']}/decision"
    accept = {"decision": "accept", "reason": "合理"}
    assert (await city.post(decision, accept, "reviewer")).status_code == 403
    assert (await ok(await city.post(decision, accept, "supervisor")))["state"] == "accepted"
    assert (await city.post(decision, accept, "supervisor")).status_code == 409
    left = (await ok(await city.get("/v1/precedents/proposals?state=open", "supervisor")))["items"]
    assert [p["kind"] for p in left] == ["catalogue"]
    own = f"/v1/precedents/proposals/{left[0]['id']}/decision"
    assert (await city.post(own, accept, "supervisor")).status_code == 403


async def test_pages_follow_each_other_and_bad_questions_are_refused(city: City) -> None:
    reviews = [await on_the_docket(city, f"第{n}公司") for n in range(3)]
    meeting = await convened(city, *reviews)
    for review in reviews:
        await decided(city, review)
    await issued(city, meeting)
    seen, path = [], "/v1/precedents?q=发票额度&limit=1"
    while path:
        page = await ok(await city.get(path, "reviewer"))
        seen += [p["id"] for p in page["items"]]
        path = f"/v1/precedents?q=发票额度&limit=1&cursor={page['next_cursor']}" if page["next_cursor"] else ""
    assert len(seen) == len(set(seen)) == 3
    for query in (
        "q=，。",
        "q=%00",
        "limit=0",
        "cursor=x",
        "cursor=LTE",
        "decision=x",
        "legal_ground=%00",
        "matter=%00",
    ):
        assert (await city.get(f"/v1/precedents?{query}", "reviewer")).status_code == 422, query
    for ref in ("x", "0190a000-0000-7000-8000-000000000000"):
        assert (await city.get(f"/v1/precedents/{ref}", "reviewer")).status_code == 404
