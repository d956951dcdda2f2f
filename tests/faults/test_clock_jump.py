"""T6: PostgreSQL's clock jumps. Nothing fires by a clock that cannot be believed, and nothing twice when it is right again.

The server runs under libfaketime, which reads its offset from a file; monotonic time stays true.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.programs import pick_account, postgres_for
from tests.faults.stage import Stage, opened_stage
from tests.faults.test_chaos import nothing_offends, posted, until

pytestmark = pytest.mark.slow
ALERT_SECONDS = 15


def faketime_library() -> Path:
    """The library of the development dependency `libfaketime`; skips, visibly, where it cannot be had."""
    if importlib.util.find_spec("service.core.gate") is None:
        pytest.skip("there is no clock gate yet")
    found = importlib.util.find_spec("libfaketime")
    if found is None or found.origin is None:
        pytest.skip("libfaketime is not installed (no wheel for this machine): clocks cannot be made to jump")
    [library] = Path(found.origin).parent.glob("vendor/libfaketime/src/libfaketime.so.1")
    return library


class Watch:
    """The offset of the server's clock from the true one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set(0)

    def set(self, seconds: int) -> None:
        draft = self.path.with_suffix(".new")
        draft.write_text(f"{seconds:+d}\n")
        draft.chmod(0o644)
        draft.rename(self.path)


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """PostgreSQL's programs wrapped so that they run under the library, in a folder that every account can read."""
    library = faketime_library()
    folder = Path("/tmp") / f"jieban-faketime-{os.getpid()}"
    programs = folder / "bin"
    programs.mkdir(parents=True, mode=0o755)
    shutil.copy(library, folder / "libfaketime.so.1")
    (folder / "libfaketime.so.1").chmod(0o755)
    real = postgres_for(folder / "none", pick_account(folder / "none"), folder)
    fake = f"LD_PRELOAD={folder}/libfaketime.so.1 FAKETIME_TIMESTAMP_FILE={folder}/offset"
    fake += " FAKETIME_CACHE_DURATION=1 DONT_FAKE_MONOTONIC=1"
    (programs / "postgres").write_text(f'#!/bin/sh\nexport {fake}\nexec {real}/postgres "$@"\n')
    (programs / "initdb").write_text(f'#!/bin/sh\nexec {real}/initdb "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JIEBAN_PG_BIN", str(programs))
        yield Watch(folder / "offset")
    shutil.rmtree(folder)


@pytest.fixture
async def stage(watch: Watch) -> AsyncIterator[Stage]:
    async with opened_stage(seed=6) as opened:
        watch.set(7200)
        ahead = await _ahead(opened, 7000, 5)
        watch.set(0)
        if not ahead:
            pytest.skip("libfaketime does not work on this machine: clocks cannot be made to jump")
        await until(opened, "SELECT bool_and(held IS NULL) FROM pump_runs", 30)
        yield opened


async def _ahead(stage: Stage, seconds: int, patience_seconds: float) -> bool:
    give_up = time.monotonic() + patience_seconds
    while time.monotonic() < give_up:
        if (await stage.rows("SELECT extract(epoch FROM clock_timestamp())::float AS now"))[0]["now"] > (
            time.time() + seconds
        ):
            return True
        await asyncio.sleep(0.1)
    return False


@pytest.mark.parametrize("jump", [7200, -3600])
async def test_t6_a_jump_of_the_servers_clock_fires_nothing_and_is_told_within_seconds(
    stage: Stage, watch: Watch, jump: int
) -> None:
    tickets = await posted(stage, f"t6{jump}", 20)
    [before] = await stage.rows("SELECT count(*) AS n FROM firings")
    watch.set(jump)
    await until(stage, "SELECT count(*) = 2 AND bool_and(held IS NOT NULL) FROM pump_runs", ALERT_SECONDS)
    [held] = await stage.rows("SELECT count(*) AS n FROM firings")
    await asyncio.sleep(6)
    [after] = await stage.rows("SELECT count(*) AS n FROM firings")
    assert after["n"] == held["n"], "while the clock cannot be believed nothing fires"
    wrong = "fired_at > to_timestamp($1) + interval '1 hour' OR fired_at < to_timestamp($1) - interval '30 minutes'"
    assert (await stage.rows(f"SELECT count(*) AS n FROM firings WHERE {wrong}", time.time()))[0]["n"] == 0
    watch.set(0)
    await until(stage, "SELECT bool_and(held IS NULL) FROM pump_runs", ALERT_SECONDS)
    await until(stage, f"SELECT count(*) > {before['n']} + 20 FROM firings")
    await stage.wait_ready(20, late_seconds=1.0)
    assert len(tickets) == 20
    await nothing_offends(stage)
