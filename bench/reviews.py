"""How fast board, precedent search and year's figures answer over 10,000 reviews and 50,000 measures; p95 at most 100 ms.

    python3 -m service bench reviews           # or: .venv/bin/python -m bench.reviews --help

The reviews are spread over a year: most are carried out, one in five is open in some stage, each decided one has five
measures, and every decision that was issued is a precedent with a text of its own. They are written as rows, since only
reading is measured. The questions go through the whole HTTP application (no socket), by one client and by four at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import httpx

from service import clock
from service.api.app import Parts, create_app
from service.core.model import Role
from service.core.precedents import grams
from service.db import migrate
from service.db.session import Database, connect_arguments
from service.db.vault import Vault
from service.embedded import throwaway_servers
from service.integrations.identity_provider import BuiltinIssuer, Verifier
from service.usecases import folders, publishing
from service.usecases.house import House

ROOT = Path(__file__).resolve().parent.parent
LIMIT_MS = 100
UNITS = ("tax", "finance", "housing", "water", "natural_resources", "market_supervision", "human_resources", "lixia")
STATES = (
    ["completed"] * 70 + ["refused"] * 8 + ["withdrawn"] * 2 + ["proposed"] * 4 + ["preparing"] * 6 + ["decided"] * 10
)
QUESTIONS = (
    "用地指标不足", "企业申请增加发票额度一直没有答复", "危险废物转移审批超期", "项目二期供电增容", "拖欠工程款", "人才公寓",
    "跨区迁移注册地址被两个区来回推诿，希望明确由哪个部门负责办理", "厂区门口道路破损影响货车通行", "环评批复时间过长",
)  # fmt: skip


def requests() -> list[dict[str, Any]]:
    lines = (ROOT / "workflows" / "demo" / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


async def seed(dsn: str, reviews: int, measures: int) -> None:
    """Everything that the questions touch, as rows, by the tables' owner."""
    chance, now, bodies = random.Random(1), datetime.now(UTC), requests()
    connection = await asyncpg.connect(**connect_arguments(dsn))
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    tables: dict[str, list[dict[str, Any]]] = {
        name: []
        for name in ("enterprises", "tickets", "meetings", "minutes", "reviews", "agenda_items", "clocks", "measures",
                     "precedents", "precedent_grams")
    }  # fmt: skip
    firm = {"id": clock.new_id(), "match_key": "bench", "name": "测试企业", "created_at": now}
    tables["enterprises"].append(firm)
    meetings = [_meeting(n, now) for n in range(max(reviews // 5, 1))]
    tables["meetings"] = [m for m, _ in meetings]
    tables["minutes"] = [d for _, d in meetings]
    decided = sum(s in {"completed", "decided"} for s in (STATES[n % 100] for n in range(reviews)))
    per_review = measures / max(decided, 1)
    made = 0.0
    for n in range(reviews):
        made += per_review if STATES[n % 100] in {"completed", "decided"} else 0
        _one(n, bodies[n % len(bodies)], tables, firm["id"], meetings, chance, now, int(made) - len(tables["measures"]))
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        for name, rows in tables.items():
            for start in range(0, len(rows), 5000):
                columns = ", ".join(rows[0])
                await connection.execute(
                    f"INSERT INTO {name} ({columns}) SELECT {columns} FROM jsonb_populate_recordset(NULL::{name}, $1)",
                    json.loads(json.dumps(rows[start : start + 5000], default=str)),
                )
    await connection.execute("ANALYZE")
    await connection.close()


def _meeting(n: int, now: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
    at = now - timedelta(days=(n * 7) % 360)
    meeting = {
        "id": clock.new_id(), "number": f"HY{n}", "tier": 1 + n % 3, "title": "会议", "place": "", "extra_reason": "",
        "state": "planned" if n % 7 == 0 else "held", "departments": [], "held_at": at, "agenda_closes_at": at,
        "adjournments": [], "created_by": "bench", "created_at": at, "updated_at": at, "version": 1,
    }  # fmt: skip
    document = {
        "id": clock.new_id(), "meeting_id": meeting["id"], "state": "issued", "series": "centre", "year": at.year,
        "serial": n, "number": f"〔{at.year}〕{n}号", "departments": ["tax"], "version": 4, "sha256": "", "created_at": at,
        "updated_at": at, "signed_at": at, "issued_at": at,
    }  # fmt: skip
    return meeting, document


def _one(
    n: int,
    body: dict[str, Any],
    tables: dict[str, list[dict[str, Any]]],
    firm: str,
    meetings: list[tuple[dict[str, Any], dict[str, Any]]],
    chance: random.Random,
    now: datetime,
    wanted: int,
) -> None:
    state, unit = STATES[n % 100], UNITS[n % len(UNITS)]
    proposed = now - timedelta(days=chance.uniform(1, 360))
    decided = proposed + timedelta(days=12) if state in {"completed", "decided"} else None
    issued = decided + timedelta(days=2) if decided and n % 11 else None
    meeting, document = meetings[n % len(meetings)]
    ticket, review = clock.new_id(), clock.new_id()
    subject = f"{body['title']}（{n}）"
    tables["tickets"].append({
        "id": ticket, "number": f"QY2026{n:011d}", "source_system": "bench", "source_reference": str(n),
        "content_sha256": "\\x00", "enterprise_id": firm, "workflow_key": "business_development", "workflow_version": 1,
        "domain": body.get("domain", "business_development"), "matter": body.get("matter"), "urgency": "normal", "title": subject,
        "description": body["description"], "content": {"enterprise": {"name": f"测试企业{n}"}}, "warnings": [],
        "stage": "reviewing", "phase": "review" if state in {"proposed", "preparing", "decided"} else "closed", "round": 1,
        "lead": unit, "counters": {}, "facts": {}, "visible_to": [unit], "received_at": proposed, "created_at": proposed,
        "updated_at": proposed, "version": 1, "last_seq": 0, "head_hash": "",
    })  # fmt: skip
    tables["reviews"].append({
        "id": review, "ticket_id": ticket, "number": f"YS{n}", "kind": "investment_project" if n % 6 == 0 else
        "enterprise_problem", "state": state, "grounds": [("overdue", "rounds", "cluster", "manual")[n % 4]],
        "summary": body["description"], "proposed_by": "bench", "proposed_at": proposed,
        "tier": None if state == "proposed" else 1 + n % 3, "clock_effect": "runs",
        "screened_at": None if state == "proposed" else proposed + timedelta(days=2), "screen_reason": "",
        "decision": "approve" if decided else None, "decision_text": "", "enterprise_extract": "", "dissent": "",
        "decided_at": decided, "completed_at": proposed + timedelta(days=40) if state in {"completed", "refused",
        "withdrawn"} else None, "asked": "", "tried": "", "options": [], "signed_by": "", "history": {}, "returns": 0,
        "meeting_id": meeting["id"] if decided or (state == "preparing" and n % 2) else None, "major": False,
        "confidentiality": "internal", "gates": {}, "conditions": "", "votes": {}, "dissents": [], "recused": [],
        "issued_at": issued, "reply": "",
    })  # fmt: skip
    for name in {"proposed": ["review_screen"], "preparing": ["review_decision", "review_opinion"]}.get(state, ()):
        tables["clocks"].append(_clock(name, 1, ticket, review, proposed + timedelta(days=12), "running"))
    done = state == "completed"
    for m in range(wanted if decided else 0):
        due = (decided or now) + timedelta(days=20 + m)
        task = clock.new_id()
        tables["clocks"].append(_clock("review_measure", m + 1, ticket, task, due, "met" if done else "running"))
        tables["measures"].append({
            "id": task, "ticket_id": ticket, "review_id": review, "title": "落实", "department": unit,
            "due_on": due.date().isoformat(), "mandatory": True, "state": "struck_off" if done else "open", "progress": [],
            "evidence": "", "struck_off_at": due - timedelta(days=1) if done else None, "reason": "", "co_units": [],
            "deliverable": "", "evidence_type": "", "quantity": "", "enterprise_opinion": {"opinion": "satisfied"},
        })  # fmt: skip
    if issued:
        precedent = clock.new_id()
        tables["precedents"].append({
            "id": precedent, "minutes_id": document["id"], "review_id": review, "ticket_id": ticket,
            "number": document["number"], "kind": "enterprise_problem", "matter": body.get("matter"), "subject": subject,
            "asked": body["description"], "decision": "approve", "text": f"同意由{unit}牵头办理：{body['title']}",
            "conditions": "", "legal_grounds": [f"《优化营商环境条例》第{n % 70}条"], "departments": [unit],
            "issued_on": issued.date().isoformat(), "state": "valid", "reason": "",
        })  # fmt: skip
        told = grams(f"{subject}\n{body['description']}\n同意由{unit}牵头办理")
        tables["precedent_grams"] += [{"gram": gram, "precedent_id": precedent} for gram in told]


def _clock(name: str, cycle: int, ticket: str, subject: str, due: datetime, state: str) -> dict[str, Any]:
    return {
        "id": clock.new_id(), "ticket_id": ticket, "name": name, "cycle": cycle, "family": "centre",
        "measure": "natural_days", "budget": 20, "anchor_name": "dispatched_at", "anchor": due - timedelta(days=20),
        "calendar_key": "cn-jinan", "calendar_version": 1, "state": state, "due_at": due, "original_due_at": due,
        "segments": [], "extensions": [], "fired": [], "provisional": False, "end_reason": "", "subject_id": subject,
        "changes": [], "attempts": 0, "crashes": 0,
    }  # fmt: skip


class NoBell:
    """No workers: nothing is written here."""

    reachable = True

    def ring(self) -> None:
        return

    async def run(self) -> None:
        await asyncio.Event().wait()


@asynccontextmanager
async def served(dsn: str, keys: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The application itself, asked by a supervisor."""
    issuer = BuiltinIssuer.open(keys)
    db = await Database.connect(dsn, 8, sandbox=False)
    house = House(db, Vault(bytes(32)), clock.new_id, ZoneInfo("Asia/Shanghai"))
    await publishing.publish_folder(house, folders.read_folder(ROOT / "workflows"), "bench", "the shipped set")
    await house.refresh()

    @asynccontextmanager
    async def parts() -> AsyncIterator[Parts]:
        yield Parts(house, Verifier(builtin=issuer), issuer, NoBell())

    app = create_app(parts, with_sandbox=False)
    token = issuer.issue("supervisor", Role.SUPERVISOR, (), 3600, datetime.now(UTC))
    async with app.router.lifespan_context(app):
        headers = {"Authorization": f"Bearer {token}"}
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://bench", headers=headers, timeout=60) as http:
            yield http
    await db.close()


def paths() -> dict[str, list[str]]:
    """What is asked, by what it is called."""
    return {
        "board": ["/v1/reviews/board"],
        "board of a tier": [f"/v1/reviews/board?tier={tier}" for tier in (1, 2, 3)],
        "precedents by text": [f"/v1/precedents?q={q}" for q in QUESTIONS],
        "precedents by text, valid only": [f"/v1/precedents?valid=true&q={q}" for q in QUESTIONS],
        "precedents by legal ground": [f"/v1/precedents?legal_ground=第{n}条" for n in range(10, 60, 7)],
        "precedents by matter": ["/v1/precedents?matter=land_use", "/v1/precedents?matter=invoice"],
        "figures of the year": ["/v1/reports/reviews"],
    }


async def ask(http: httpx.AsyncClient, asked: list[str], rounds: int, clients: int) -> list[float]:
    """Milliseconds of each answer."""
    spent: list[float] = []
    todo = iter(range(rounds))

    async def client() -> None:
        for n in todo:
            began = time.perf_counter()
            answer = await http.get(asked[n % len(asked)])
            spent.append((time.perf_counter() - began) * 1000)
            assert answer.status_code == 200, answer.text

    await asyncio.gather(*(client() for _ in range(clients)))
    return sorted(spent)


async def measure(dsn: str, reviews: int, measures: int, rounds: int) -> bool:
    began = time.perf_counter()
    await seed(dsn, reviews, measures)
    print(f"seeded {reviews} reviews and {measures} measures in {time.perf_counter() - began:.0f} s", flush=True)
    within = True
    with TemporaryDirectory() as keys:
        async with served(dsn, Path(keys)) as http:
            found = (await http.get("/v1/precedents?q=用地指标不足")).json()["items"]
            board = (await http.get("/v1/reviews/board")).json()["stages"]
            print(
                f"  load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores: a limit means something on a quiet machine"
            )
            print("  on the board:", ", ".join(f"{s['stage']} {s['count']}" for s in board))
            print(f"  the best precedent for 用地指标不足: {found[0]['subject']} ({found[0]['likeness']})")
            for name, asked in paths().items():
                await ask(http, asked, 5, 1)
                for clients in (1, 4):
                    spent = await ask(http, asked, rounds, clients)
                    p50, p95 = (spent[min(int(len(spent) * p), len(spent) - 1)] for p in (0.5, 0.95))
                    limited = name.startswith(("board", "precedents")) and clients == 1
                    within = within and (not limited or p95 <= LIMIT_MS)
                    mark = "" if not limited else " ok" if p95 <= LIMIT_MS else f" OVER {LIMIT_MS} ms"
                    print(f"  {name:32} {clients} client(s): p50 {p50:6.1f} ms, p95 {p95:6.1f} ms{mark}", flush=True)
    return within


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=int, default=10_000)
    parser.add_argument("--measures", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=200, help="questions of each kind")
    given = parser.parse_args()
    with throwaway_servers() as servers:
        dsn = servers.start_postgres()
        migrate.upgrade(dsn)
        if not asyncio.run(measure(dsn, given.reviews, given.measures, given.rounds)):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
