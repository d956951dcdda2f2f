"""`workflows …` on a real database: list, show, compare, publish, retire, migrate with its dry run, undo."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from service.usecases import migrations
from tests.conftest import WORKFLOWS, City

ROOT = Path(__file__).resolve().parents[2]
KEY = "business_development"


async def run(city: City, *words: str, code: int = 0, folder: Path = WORKFLOWS) -> str:
    """What the command prints, its errors included."""
    env = {**os.environ, "JIEBAN_DATABASE_URL": city.dsn, "JIEBAN_SANDBOX": "1", "JIEBAN_WORKFLOWS_DIR": str(folder),
           "JIEBAN_SECRET_KEY": "A" * 43 + "=", "COLUMNS": "200"}  # fmt: skip
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "service.cli", "workflows", *words], cwd=ROOT, env=env,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@asynccontextmanager
async def worker(city: City) -> AsyncIterator[None]:
    async def work() -> None:
        while True:
            await migrations.move_some(city.house)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()


async def test_a_process_owner_publishes_compares_migrates_and_takes_back(city: City, tmp_path: Path) -> None:
    folder = tmp_path / "workflows"
    shutil.copytree(WORKFLOWS, folder)
    base = folder / "city" / "base.yaml"
    text = base.read_text(encoding="utf-8")
    base.write_text(text.replace("    budget: 15\n", "    budget: 12\n"), encoding="utf-8")
    ticket = (await city.ticket())["id"]
    told = await run(city, "publish", KEY, "--reason", "十二天", "--dry-run", folder=folder)
    assert "时限“办结”的 budget：15 → 12" in told and "version 2 would be published" in told
    await run(city, "publish", KEY, "--reason", "十二天", "--expected", "7", folder=folder, code=2)
    told = await run(city, "publish", KEY, "--reason", "十二天", "--as", "王主任", folder=folder)
    assert "version 2 is published" in told
    assert "already" in await run(city, "publish", KEY, "--reason", "again", folder=folder)
    listed = await run(city, "list")
    assert "王主任" in listed and "十二天" in listed and "1 on version 1" in listed
    shown = await run(city, "show", KEY, "--version", "2")
    assert yaml.safe_load(shown.split("\n", 1)[1] if shown.startswith(KEY) else shown.rpartition(KEY + " version")[0])
    assert 'clock "Resolution": budget: 15 -> 12' in await run(city, "diff", KEY, "--lang", "en")

    order = ("migrate", KEY, "--from", "1", "--reason", "十二天")
    dry = await run(city, *order, "--dry-run")
    assert "1 running tickets, 1 can move, 0 cannot" in dry and "1 of 4 clocks move, 1 of them" in dry
    assert (await city.show(ticket))["workflow"]["version"] == 1
    assert "/stage_mapping/nowhere" in await run(city, *order, "--stage", "nowhere=handling", code=2)
    assert "expected OLD=NEW" in await run(city, *order, "--stage", "handling", code=2)
    async with worker(city):
        assert "1 moved" in await run(city, *order)
        assert (await city.show(ticket))["workflow"]["version"] == 2
        migration = (await city.get("/v1/workflows/migrations")).json()["items"][0]["id"]
        assert migration in await run(city, "migrations")
        assert "1 undone" in await run(city, "undo", migration, "--reason", "a mistake")
    assert (await city.show(ticket))["workflow"]["version"] == 1
    assert "not the id of a migration" in await run(city, "retry", "x", code=2)


async def test_what_stands_against_a_command_is_said_in_a_line(city: City) -> None:
    assert "consultation" in await run(city, "retire", "consultation", "--reason", "r", code=2)
    assert "0 tickets run on" in await run(city, "retire", "emergency", "--reason", "r")
    assert "say why" in await run(city, "retire", "emergency", "--reason", " ", code=2)
    assert "There is no workflow 'nowhere'" in await run(city, "publish", "nowhere", "--reason", "r", code=2)
    assert "no such workflow" in await run(city, "show", "nowhere", code=2)
    for word in ("list", "show", "diff", "publish", "retire", "migrate", "migrations", "retry", "undo"):
        assert len(await run(city, word, "--help")) > 100
