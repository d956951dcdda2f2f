"""Workflows as immutable versions over HTTP: publish, compare, retire; running tickets stay, or are moved and moved back."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.core.errors import DefinitionError
from service.core.model import SYSTEM
from service.usecases import clocks, folders, integrity, migrations, publishing
from service.usecases.folders import Folder
from tests.builders import renamed
from tests.conftest import WORKFLOWS, City, opened_city, opened_house
from tests.worker.stage import sql

KEY, BOSS, TAX = "business_development", "supervisor", "handler:tax"
NAMES = {"handling": "working", "resolve": "settle"}
MAPPING = {"stage_mapping": {"handling": "working"}, "clock_mapping": {"resolve": "settle"}}


def changed(folder: Folder, key: str = KEY, names: Mapping[str, str] | None = None, **clock: Any) -> dict[str, Any]:
    """A workflow that differs: names of stages and clocks, and what the enterprise's promise says."""
    plain: dict[str, Any] = renamed(deepcopy(folder.workflows[key]), names or {})
    plain["clocks"][(names or {}).get("resolve", "resolve")] |= clock
    return plain


async def publish(city: City, plain: Any, who: str = BOSS, status: int = 201, headers: Any = None, **more: Any) -> Any:
    body = {"workflow": plain, "reason": "new rules", **more}
    answer = await city.post("/v1/workflows", body, who, headers=headers or {})
    assert answer.status_code == status, answer.text
    return answer.json()


async def order(city: City, key: str = KEY, status: int = 202, **body: Any) -> Any:
    answer = await city.post(
        f"/v1/workflows/{key}/migrations", {"from_version": 1, "reason": "new rules", **body}, BOSS
    )
    assert answer.status_code == status, answer.text
    return answer.json()


async def carry_out(city: City) -> int:
    done = 0
    while n := await migrations.move_some(city.house):
        done += n
    return done


async def shown(city: City, migration: str) -> dict[str, Any]:
    told: dict[str, Any] = (await city.get(f"/v1/workflows/migrations/{migration}")).json()
    return told


async def sound(city: City) -> None:
    report = await integrity.check(city.house)
    assert [f for f in report.findings if f.offending] == []


async def version_of(city: City, ticket: str) -> tuple[str, int]:
    found = (await city.show(ticket))["workflow"]
    return found["key"], found["version"]


async def events(city: City, ticket: str, type_: str) -> list[dict[str, Any]]:
    items = (await city.get(f"/v1/tickets/{ticket}/events?limit=200")).json()["items"]
    return [e for e in items if e["type"] == type_]


# --- versions -----------------------------------------------------------------------------------------------------------


async def test_a_version_is_published_with_author_reason_and_differences_and_tickets_stay_on_theirs(
    city: City, folder: Folder
) -> None:
    old = (await city.ticket())["id"]
    plain = changed(folder, budget=12)
    tried = await publish(city, plain, status=200, dry_run=True)
    assert tried["changed"] and tried["dry_run"] and (await city.get(f"/v1/workflows/{KEY}")).json()["version"] == 1
    made = await publish(city, plain)
    assert (made["version"], [d["path"] for d in made["differences"]]) == (2, ["clocks.resolve.budget"])
    assert made["differences"][0]["text"]["zh"] == "时限“办结”的 budget：15 → 12"
    again = await publish(city, plain, status=200)
    assert (again["version"], again["changed"]) == (2, False)
    new = (await city.ticket())["id"]
    assert [await version_of(city, t) for t in (old, new)] == [(KEY, 1), (KEY, 2)]
    listed = {w["key"]: w for w in (await city.get("/v1/workflows")).json()["items"]}[KEY]
    assert (listed["author"], listed["reason"], listed["status"]) == (BOSS, "new rules", "in_force")
    assert [(v["version"], v["running_tickets"]) for v in listed["versions"]] == [(2, 1), (1, 1)]
    own, others = [(await city.get(f"/v1/workflows/{KEY}", f"handler:{unit}")).json() for unit in ("tax", "water")]
    assert [sum(v["running_tickets"] for v in w["versions"]) for w in (own, others)] == [2, 0], "own tickets only"
    first = await city.get(f"/v1/workflows/{KEY}/versions/1")
    assert first.json()["workflow"] == folder.workflows[KEY] and first.headers["etag"] == '"1"'
    assert (await city.get(f"/v1/workflows/{KEY}")).json()["workflow"] == plain
    diff = (await city.get(f"/v1/workflows/{KEY}/diff?from=2&to=1")).json()
    assert [(d["before"], d["after"]) for d in diff["differences"]] == [(12, 15)]
    assert (await city.get(f"/v1/workflows/{KEY}/diff?from=7")).status_code == 404
    assert (await city.get("/v1/workflows/nowhere")).status_code == 404
    async with city.house.db.transaction(SYSTEM, readonly=True) as tx:
        audit = await tx.rows("SELECT actor ->> 'subject' AS who, data FROM audit WHERE action = 'workflow.published'")
    assert [(a["who"], a["data"]["version"]) for a in audit] == [(BOSS, 2)]


async def test_nobody_overwrites_what_somebody_else_published_meanwhile(city: City, folder: Folder) -> None:
    await publish(city, changed(folder, budget=12), expected_version=1)
    refused = await publish(city, changed(folder, budget=13), status=412, expected_version=1)
    assert refused["type"] == "/problems/stale-version" and "diff?from=1&to=2" in refused["detail"]
    assert refused["current"] == '"2"'
    await publish(city, changed(folder, budget=13), status=412, headers={"If-Match": '"1"'})
    await publish(city, changed(folder, budget=13), status=422, headers={"If-Match": "W/x"})
    assert (await publish(city, changed(folder, budget=13), headers={"If-Match": '"2"'}))["version"] == 3
    spare = {**changed(folder), "key": "spare", "domains": [], "departments": ["tax"]}
    assert (await publish(city, spare, expected_version=0))["version"] == 1
    # of ten at once made from one version, one is published
    answers = await asyncio.gather(
        *(city.post("/v1/workflows", {"workflow": changed(folder, budget=20 + n), "reason": "r", "expected_version": 3},
                    BOSS) for n in range(10))
    )  # fmt: skip
    assert sorted(a.status_code for a in answers) == [201] + [412] * 9


async def test_a_publication_with_a_key_is_carried_out_once(city: City, folder: Folder) -> None:
    key = {"Idempotency-Key": "p-1"}
    one = await city.post("/v1/workflows", {"workflow": changed(folder, budget=9), "reason": "r"}, BOSS, headers=key)
    two = await city.post("/v1/workflows", {"workflow": changed(folder, budget=9), "reason": "r"}, BOSS, headers=key)
    assert (one.status_code, two.status_code, two.content) == (201, 201, one.content)
    other = await city.post("/v1/workflows", {"workflow": changed(folder, budget=8), "reason": "r"}, BOSS, headers=key)
    assert other.status_code == 422


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"key": "Not A Key"}, "/workflow/key"),
        ({"key": "migrations"}, "/workflow/key"),
        ({"title": "文"}, "/workflow/title"),
        ({"title": {"zh": "\u0000", "en": "x"}}, "/workflow/title/zh"),
        ({"calendar": "none"}, "/workflow/calendar"),
        ({"departments": ["tax", "nobody"]}, "/workflow/departments/1"),
        ({"extends": "base"}, "/workflow/extends"),
        ({"abstract": True}, "/workflow/abstract"),
        ({"stages": {}}, "/workflow/open/routed/to"),
        ({"other": 1}, "/workflow/other"),
        ({"domains": 7}, "/workflow/domains"),
    ],
)
async def test_a_workflow_that_is_not_well_formed_is_refused_with_its_place(
    shared_city: City, folder: Folder, change: dict[str, Any], pointer: str
) -> None:
    told = await publish(shared_city, {**changed(folder), **change}, status=422)
    assert told["errors"][0]["pointer"] == pointer
    assert (await shared_city.get(f"/v1/workflows/{KEY}")).json()["version"] == 1


async def test_a_version_can_be_neither_changed_nor_removed_by_anybody(city: City) -> None:
    for statement in (
        "UPDATE definitions SET body = '{}' WHERE key = 'consultation'",
        "UPDATE definitions SET reason = 'another' WHERE key = 'consultation'",
        "UPDATE definitions SET retired_at = now(), published_by = 'me' WHERE key = 'consultation'",
        "DELETE FROM definitions WHERE key = 'consultation'",
        "TRUNCATE definitions",
    ):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await sql(city.dsn, statement)  # as the owner of the table
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.IntegrityConstraintViolationError)):
            async with city.house.db.transaction(SYSTEM) as tx:
                await tx.execute(statement)
    await sql(city.dsn, "UPDATE definitions SET retired_at = now() WHERE key = 'emergency'")
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await sql(city.dsn, "UPDATE definitions SET retired_at = NULL WHERE key = 'emergency'")


# --- retirement ---------------------------------------------------------------------------------------------------------


async def test_a_workflow_out_of_use_takes_no_new_tickets_and_its_running_ones_go_on(
    city: City, folder: Folder
) -> None:
    own = {**changed(folder, budget=7), "key": "tax_own", "departments": ["tax"]}
    await publish(city, own)
    ticket = (await city.ticket())["id"]
    assert await version_of(city, ticket) == ("tax_own", 1)
    body = {"reason": "folded into the city's"}
    retired = await city.post("/v1/workflows/tax_own/retire", body, BOSS)
    assert (retired.status_code, retired.json()["status"], retired.json()["running_tickets"]) == (200, "retired", 1)
    assert (await city.post("/v1/workflows/tax_own/retire", body, BOSS)).status_code == 200, "again is the same"
    assert await version_of(city, (await city.ticket())["id"]) == (KEY, 1)
    await city.act(ticket, "accept", TAX)
    assert await version_of(city, ticket) == ("tax_own", 1)
    assert (await city.post("/v1/workflows/nowhere/retire", body, BOSS)).status_code == 404
    assert (await order(city, from_version=1, to_key="tax_own", status=409))["type"] == "/problems/conflict"
    assert (await publish(city, own))["version"] == 2, "published again it is a further version"
    await sound(city)


async def test_an_overlay_is_published_over_http_and_may_only_tighten(city: City, folder: Folder) -> None:
    own = {"key": "water_own", "extends": KEY, "domains": None, "departments": ["water"],
           "title": {"zh": "水务局流程", "en": "Of the water bureau"}}  # fmt: skip
    told = await publish(city, {**own, "clocks": {"resolve": {"budget": 400}}}, status=422)
    assert told["errors"][0]["pointer"] == "/workflow/clocks/resolve/budget"
    assert "may be longer than 15" in told["errors"][0]["detail"]
    tighter = {**own, "clocks": {"resolve": {"budget": 7}}}
    assert (await publish(city, tighter))["version"] == 1
    assert not (await publish(city, tighter, status=200))["changed"], "the same said again"
    shown = (await city.get("/v1/workflows/water_own")).json()["workflow"]
    assert shown["clocks"]["resolve"]["budget"] == 7 and "extends" not in shown and shown["departments"] == ["water"]
    draft = {**tighter, "clocks": {"resolve": {"budget": 4}}}
    found = await city.post("/v1/workflows/water_own/simulate", {"workflow": draft}, BOSS)
    assert found.status_code == 200, found.text
    key, other = {"Idempotency-Key": "own-1"}, {**tighter, "key": "o2"}
    first = await city.post("/v1/workflows", {"workflow": other, "reason": "r"}, BOSS, headers=key)
    assert first.status_code == 201, first.text
    await publish(city, changed(folder, budget=5))
    again = await city.post("/v1/workflows", {"workflow": other, "reason": "r"}, BOSS, headers=key)
    assert (again.status_code, again.content) == (201, first.content), "a repeat is answered as the first time"
    refused = await publish(city, {**tighter, "key": "o3"}, status=422)
    assert "7 working_days may be longer than 5" in refused["errors"][0]["detail"]


@pytest.mark.parametrize("reason", ["", "   ", "\n\t", "　"])
async def test_a_reason_says_something(shared_city: City, folder: Folder, reason: str) -> None:
    body = {"workflow": changed(folder, budget=9), "reason": reason}
    answer = await shared_city.post("/v1/workflows", body, BOSS)
    assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == "/reason"


async def test_the_last_workflow_of_a_domain_neither_goes_out_of_use_nor_gives_its_domain_up(
    city: City, folder: Folder
) -> None:
    refused = await city.post("/v1/workflows/consultation/retire", {"reason": "r"}, BOSS)
    assert (refused.status_code, refused.json()["uncovered"]) == (409, ["consultation", "consultation (urgent)"])
    told = await publish(city, {**changed(folder, "consultation"), "domains": []}, status=409)
    assert told["uncovered"] == ["consultation", "consultation (urgent)"]
    # once another takes what it takes, it may go; of two that go at once one stays
    await publish(city, {**changed(folder, "consultation"), "key": "consultation_new"})
    body = {"reason": "r"}
    both = await asyncio.gather(
        *(city.post(f"/v1/workflows/{key}/retire", body, BOSS) for key in ("consultation", "consultation_new"))
    )
    assert sorted(a.status_code for a in both) == [200, 409]


async def test_other_processes_use_a_new_version_without_a_restart(city: City, folder: Folder, issuer: Any) -> None:
    async with opened_city(city.dsn, issuer) as other, opened_house(city.dsn, sandbox=True) as worker:
        await publish(city, changed(folder, budget=11))
        async with asyncio.timeout(10):
            while True:
                made = (await other.ticket())["id"]
                if await version_of(other, made) == (KEY, 2):
                    break
                await asyncio.sleep(0.2)
        # a worker that has not looked yet handles it all the same
        await other.advance(advance_by="P1D")
        assert worker.rules.newest[KEY].version == 1
        await clocks.fire_due(worker)
        assert await version_of(other, made) == (KEY, 2)


# --- the folder ---------------------------------------------------------------------------------------------------------


async def test_a_restart_publishes_changed_files_and_takes_nothing_back(city: City, tmp_path: Path) -> None:
    where = tmp_path / "workflows"
    shutil.copytree(WORKFLOWS, where)

    async def restart() -> list[str]:
        return await publishing.publish_folder(city.house, folders.read_folder(where), publishing.FILES, "changed")

    path = where / "city" / "consultation.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("en: Consultation and help", "en: Questions"))
    assert await restart() == ["workflow consultation 2"]
    told = (await city.get("/v1/workflows/consultation")).json()
    assert (told["author"], told["reason"]) == ("system", "changed")
    plain = {**told["workflow"], "callback_window_days": 20}
    assert (await publish(city, plain))["version"] == 3
    assert await restart() == [], "the file did not change: what was published over HTTP stays in force"
    assert (await city.get("/v1/workflows/consultation")).json()["workflow"] == plain
    (where / "city" / "emergency.yaml").unlink()
    assert await restart() == []
    assert "emergency" in city.house.rules.newest, "a file that is gone retires nothing"
    path.write_text(path.read_text(encoding="utf-8").replace("en: Questions", "en: Questions and help"))
    assert await restart() == ["workflow consultation 4"]


async def test_a_folder_that_leaves_a_domain_without_a_workflow_publishes_nothing(
    city: City, folder: Folder, tmp_path: Path
) -> None:
    where = tmp_path / "workflows"
    shutil.copytree(WORKFLOWS, where)
    path, urgent = where / "city" / "consultation.yaml", where / "city" / "emergency.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("domains: [consultation]", "domains: []"), encoding="utf-8")
    with pytest.raises(DefinitionError, match="refused: consultation"):
        await publishing.publish_folder(city.house, folders.read_folder(where), publishing.FILES, "changed")
    assert city.house.rules.newest["consultation"].version == 1
    # what was replaced over HTTP needs no file
    await publish(city, {**changed(folder, "consultation"), "key": "consultation_new"})
    assert (await city.post("/v1/workflows/consultation/retire", {"reason": "replaced"}, BOSS)).status_code == 200
    path.unlink()
    (where / "departments" / "tax.yaml").unlink()
    urgent.write_text(
        urgent.read_text(encoding="utf-8").replace("en: Emergency", "en: Urgent matter"), encoding="utf-8"
    )
    told = await publishing.publish_folder(city.house, folders.read_folder(where), publishing.FILES, "changed")
    assert told == ["workflow emergency 2"]


# --- migration ----------------------------------------------------------------------------------------------------------


async def test_a_dry_run_says_who_moves_who_cannot_and_what_becomes_due_when(city: City, folder: Folder) -> None:
    fresh, taken = [(await city.ticket())["id"] for _ in range(2)]
    waiting = (await city.ticket())["id"]
    for t in (taken, waiting):
        await city.act(t, "accept", TAX)
    await city.act(waiting, "request_extension", TAX, ground="waiting_enterprise", days=3, reason="r")
    plain = changed(folder, names=NAMES, budget=10)
    del plain["approvals"]["extension"]
    for asked in ("request_extension", "request_exceptional_extension"):
        del plain["actions"][asked]
    await publish(city, plain)
    told = await order(city, status=200, dry_run=True)
    assert (told["tickets"], told["can_move"], told["cannot_move"]) == (3, 0, 3)
    found = {(o["code"], o["name"]): o for o in told["obstacles"]}
    assert found["clock", "resolve"]["tickets"] == 3 and found["stage", "handling"]["tickets"] == 2
    assert [t["id"] for t in found["approval", "extension"]["first"]] == [waiting]
    assert "extension" in found["approval", "extension"]["zh"]
    told = await order(city, status=200, dry_run=True, **MAPPING)
    assert (told["can_move"], told["cannot_move"], told["stuck_in"]) == (2, 1, {"handling": 1})
    assert [(s["stage"], s["to"], s["tickets"]) for s in told["stages"]] == [
        ("accepting", "accepting", 1), ("handling", "working", 1),
    ]  # fmt: skip
    assert told["stages"][1]["to_title"]["zh"] == "办理中"
    due = told["due_times"]
    assert (due["moved"], due["earlier"], told["breaches"]["clocks"]) == (2, 2, 0)
    assert due["first"][0]["clock"] == "settle" and due["first"][0]["after"] < due["first"][0]["before"]
    assert {await version_of(city, t) for t in (fresh, taken, waiting)} == {(KEY, 1)}
    # twelve days on, ten of the new promise are over
    await city.advance(advance_by="P18D")
    late = await order(city, status=200, dry_run=True, **MAPPING)
    assert late["breaches"]["clocks"] == late["due_times"]["already_past"] == 2
    assert (await city.get("/v1/workflows/migrations")).json()["items"] == []


async def test_tickets_are_moved_once_each_failures_are_listed_and_retried_and_an_undo_moves_back(
    city: City, folder: Folder
) -> None:
    made = [(await city.ticket())["id"] for _ in range(6)]
    for t in made[:3]:
        await city.act(t, "accept", TAX)
    stuck, acted, closed = made[0], made[1], made[5]
    await city.act(stuck, "request_extension", TAX, ground="waiting_enterprise", days=3, reason="r")
    plain = changed(folder, names=NAMES, budget=20)
    del plain["approvals"]["extension"]
    for asked in ("request_extension", "request_exceptional_extension"):
        del plain["actions"][asked]
    await publish(city, plain)
    due = {t: (await city.show(t))["due_at"] for t in made}
    started = await order(city, **MAPPING)
    assert (started["state"], started["total"], started["ordered_by"]) == ("running", 6, BOSS)
    assert (await order(city, status=409, **MAPPING))["migration"] == started["id"]
    await city.act(closed, "withdraw", "hotline", reason="r")
    assert await carry_out(city) == 6
    told = await shown(city, started["id"])
    counts = {state: n for state, n in told["tickets"].items() if n}
    assert (counts, told["done"]) == ({"moved": 4, "failed": 1, "skipped": 1}, 6)
    assert [w["state"] for w in told["why"]] == ["failed", "skipped"] and "extension" in told["why"][0]["reason"]
    listed = (await city.get(f"/v1/workflows/migrations/{started['id']}/tickets?state=failed", BOSS)).json()["items"]
    assert [i["ticket"]["id"] for i in listed] == [stuck]
    [event] = await events(city, acted, "workflow.migrated")
    assert (event["actor"]["subject"], event["data"]["reason"]) == (BOSS, "new rules")
    assert (event["data"]["from"], event["data"]["to"], event["data"]["migration"]) == (
        "handling", "working", started["id"],
    )  # fmt: skip
    await sound(city)
    # who could not be moved is judged again when asked
    pending = (await city.get("/v1/approvals?state=pending")).json()["items"][0]["id"]
    await city.post(f"/v1/approvals/{pending}/decision", {"decision": "deny", "reason": "r"})
    assert (await city.post(f"/v1/workflows/migrations/{started['id']}/retry", {}, BOSS)).status_code == 202
    assert await carry_out(city) == 1 and await version_of(city, stuck) == (KEY, 2)
    # ten seconds later no process can bind a ticket to the old version any more: it is done
    await city.advance(advance_by="PT1M")
    await carry_out(city)
    told = await shown(city, started["id"])
    assert (told["state"], told["tickets"]["moved"]) == ("done", 5) and told["finished_at"]
    await city.act(acted, "log_contact", TAX, reached=True)
    undone = await city.post(f"/v1/workflows/migrations/{started['id']}/undo", {"reason": "a mistake"}, "admin")
    assert (undone.status_code, undone.json()["state"]) == (202, "undoing")
    assert await carry_out(city) == 5
    await carry_out(city)
    told = await shown(city, started["id"])
    assert (told["state"], told["undo"]["by"], told["undo"]["reason"]) == ("undone", "admin", "a mistake")
    assert (told["tickets"]["undone"], told["tickets"]["kept"]) == (4, 1)
    assert [w["example"] for w in told["why"] if w["state"] == "kept"] == [(await city.show(acted))["number"]]
    for t in made:
        back = t not in {acted, closed}
        assert await version_of(city, t) == (KEY, 2 if t == acted else 1)
        assert len(await events(city, t, "workflow.migrated_back")) == back
        assert not back or (await city.show(t))["due_at"] == due[t]
    refused = await city.post(f"/v1/workflows/migrations/{started['id']}/undo", {"reason": "again"}, BOSS)
    assert (refused.status_code, refused.json()["state"]) == (409, "undone")
    await city.advance(advance_by="P40D")
    await sound(city)
    # and once more, this time for good
    again = await order(city, **MAPPING)
    await carry_out(city)
    assert (await shown(city, again["id"]))["tickets"]["moved"] == 4
    await sound(city)


async def test_a_ticket_that_changes_meanwhile_is_judged_as_it_is_then(city: City, folder: Folder) -> None:
    gone, accepted = [(await city.ticket())["id"] for _ in range(2)]
    await publish(city, changed(folder, names=NAMES))
    started = await order(city, **MAPPING)
    await city.act(gone, "reclassify", "dispatcher", urgency="emergency", reason="r")
    await city.act(accepted, "accept", TAX)
    await carry_out(city)
    told = await shown(city, started["id"])
    assert (told["tickets"]["moved"], told["tickets"]["skipped"]) == (1, 1)
    assert "emergency version 1" in told["why"][0]["reason"]
    assert ((await city.show(accepted))["stage"], await version_of(city, gone)) == ("working", ("emergency", 1))
    await city.act(accepted, "submit_reply", TAX, public_reply="已办理")
    await sound(city)


async def test_workers_people_and_timers_at_once_lose_no_ticket_and_move_each_once(city: City, folder: Folder) -> None:
    made = [(await city.ticket())["id"] for _ in range(40)]
    await publish(city, changed(folder, names=NAMES))
    started = await order(city, **MAPPING)

    async def worker(house: Any) -> None:
        while await migrations.move_some(house, limit=5):
            pass

    async with opened_house(city.dsn, sandbox=True) as other:
        await asyncio.gather(
            worker(city.house), worker(other), *(city.act(t, "accept", TAX) for t in made), clocks.fire_due(other)
        )
    await carry_out(city)
    assert (await shown(city, started["id"]))["tickets"]["moved"] == 40
    rows = await sql(city.dsn, "SELECT count(*) AS n FROM events WHERE type = 'workflow.migrated' GROUP BY ticket_id")
    assert [r["n"] for r in rows] == [1] * 40
    assert {(await city.show(t))["stage"] for t in made} == {"working"}
    await sound(city)


async def test_a_ticket_that_makes_no_sense_keeps_no_other_from_moving(city: City, folder: Folder) -> None:
    bad, *good = [(await city.ticket())["id"] for _ in range(4)]
    await publish(city, changed(folder, budget=12))
    started = await order(city)
    await sql(city.dsn, "UPDATE clocks SET segments = '[1]' WHERE ticket_id = $1", bad)
    await carry_out(city)
    told = await shown(city, started["id"])
    assert (told["tickets"]["moved"], told["tickets"]["failed"]) == (3, 1)
    assert [await version_of(city, t) for t in good] == [(KEY, 2)] * 3
    await sql(city.dsn, "UPDATE clocks SET segments = '[]' WHERE ticket_id = $1", bad)
    await city.post(f"/v1/workflows/migrations/{started['id']}/retry", {}, BOSS)
    await carry_out(city)
    assert await version_of(city, bad) == (KEY, 2)


async def test_tickets_move_to_another_workflow_and_an_order_with_a_key_is_given_once(
    city: City, folder: Folder
) -> None:
    await publish(city, {**changed(folder, budget=7), "key": "tax_own", "departments": ["tax"], "domains": []})
    ticket = await city.ticket()
    assert ticket["workflow"]["key"] == "tax_own"
    body = {"from_version": 1, "to_key": KEY, "reason": "r"}
    key = {"Idempotency-Key": "m-1"}
    one, two = [await city.post("/v1/workflows/tax_own/migrations", body, BOSS, headers=key) for _ in range(2)]
    assert (one.status_code, two.content) == (202, one.content)
    assert one.headers["location"] == f"/v1/workflows/migrations/{one.json()['id']}"
    await carry_out(city)
    assert await version_of(city, ticket["id"]) == (KEY, 1)
    clock = next(c for c in (await city.show(ticket["id"]))["clocks"] if c["name"] == "resolve")
    told = (await city.get(f"/v1/tickets/{ticket['id']}/clocks/{clock['id']}/explanation")).json()
    assert told["changes"][-1]["kind"] == "migration" and told["policy"]["rule"] == "migration: r"
    await sound(city)


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"from_version": 7}, 422, "/from_version"),
        ({"to_version": 7}, 422, "/to_version"),
        ({"to_version": 1}, 422, "/to_version"),
        ({"to_key": "nowhere"}, 422, "/to_key"),
        ({"to_key": "emergency", "stage_mapping": {"handling": "auditing"}}, 422, "/stage_mapping/handling"),
        ({"to_key": "emergency", "clock_mapping": {"resolve": "accept"}}, 422, "/clock_mapping/resolve"),
        ({"to_key": "emergency", "clock_mapping": {"resolve": 1}}, 422, "/clock_mapping/resolve"),
        ({"reason": ""}, 422, "/reason"),
        ({"other": 1}, 422, "/other"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
async def test_an_order_that_makes_no_sense_is_refused_with_its_place(
    shared_city: City, body: dict[str, Any], status: int, pointer: str, dry_run: bool
) -> None:
    told = await order(shared_city, status=status, dry_run=dry_run, **body)
    assert told["errors"][0]["pointer"] == pointer
    assert (await shared_city.get("/v1/workflows/migrations")).json()["items"] == []
    missing = await shared_city.post("/v1/workflows/nowhere/migrations", {"from_version": 1, "reason": "r"}, BOSS)
    assert missing.status_code == 404
