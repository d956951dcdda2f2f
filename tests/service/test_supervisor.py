"""The supervisor, for real: children and servers are killed, launchers interrupted, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.embedded import EmbeddedServers, throwaway_servers
from service.supervisor import Child, Supervisor, _Watched, wait_http

ROOT = Path(__file__).resolve().parents[2]
SLEEPER = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
)
WITH_CHILD = (
    "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)', sys.argv[1]])"
)

LAUNCHER = """
import json, sys
from pathlib import Path
from service.embedded import EmbeddedServers
from service.supervisor import Child, Supervisor
folder, code = sys.argv[1:]
with EmbeddedServers(Path(folder)) as servers:
    url = servers.start_postgres()
    servers.start_redis()
    supervisor = Supervisor(servers, [Child("child", [sys.executable, "-c", code, folder])])
    names = ("postgres", "redis", "child")
    supervisor.run(lambda: print(json.dumps([url, servers.name, [supervisor.pid(n) for n in names]]), flush=True))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the servers' account can reach; pytest's own is closed to it."""
    made = Path(tempfile.mkdtemp(prefix="jieban-test-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def poll(condition: Callable[[], object], timeout_seconds: float = 15.0) -> None:
    give_up = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < give_up, "this did not become true in time"
        time.sleep(0.01)


def sql(url: str, statement: str) -> Any:
    async def run() -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def answers(url: str, statement: str, expected: object) -> bool:
    try:
        return bool(sql(url, statement) == expected)
    except (OSError, asyncpg.PostgresError):
        return False


def processes_with(*marks: str) -> list[str]:
    """Command lines of the processes that show one of these marks, our own excepted."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if int(entry.name) != os.getpid() and any(mark in line for mark in marks):
            found.append(line)
    return found


class Launcher:
    """A launcher in a process of its own, with both servers and one child."""

    def __init__(self, folder: Path, code: str = SLEEPER) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(folder), code],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url, self.name, self.pids = json.loads(self.process.stdout.readline())

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> tuple[int, str]:
        _, told = self.process.communicate(timeout=30)
        return self.process.returncode, told

    def leftovers(self) -> list[str]:
        return processes_with(self.name, str(self.folder))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_stops_everything_and_the_data_stay(number: signal.Signals, folder: Path) -> None:
    launcher = Launcher(folder)
    sql(launcher.url, "create table kept as select 1 as n")
    launcher.signal(number)
    code, told = launcher.wait()
    assert code == 0, told
    assert told == "stopping\n"
    assert launcher.leftovers() == []
    if number is signal.SIGINT:
        with EmbeddedServers(folder) as servers:
            assert sql(servers.start_postgres(), "select n from kept") == 1


def test_a_killed_launcher_takes_everything_with_it_and_loses_no_committed_row(folder: Path) -> None:
    launcher = Launcher(folder, STUBBORN)
    sql(launcher.url, "create table kept as select generate_series(1, 1000) as n")
    launcher.signal(signal.SIGKILL)
    launcher.wait()
    again = Launcher(folder)  # at once: it waits for what is still stopping
    assert sql(again.url, "select count(*) from kept") == 1000
    assert len(processes_with(f"{folder}/servers/pg")) == 1
    again.signal(signal.SIGKILL)
    again.wait()
    poll(lambda: not again.leftovers())
    with EmbeddedServers(folder) as servers:  # tidies up what a killed one must leave: the folder of its sockets
        assert servers.start_redis()


def test_every_killed_process_comes_back_under_a_new_number(folder: Path) -> None:
    launcher = Launcher(folder)
    sql(launcher.url, "create table kept as select 1 as n")
    for pid in launcher.pids:
        os.kill(pid, signal.SIGKILL)
    poll(lambda: answers(launcher.url, "select n from kept", 1))
    poll(lambda: len(launcher.leftovers()) > 5)
    launcher.signal(signal.SIGINT)
    code, told = launcher.wait()
    assert code == 0
    for name in ("postgres", "redis", "child"):
        assert f"{name} was killed by SIGKILL; starting it again in 0.2 s" in told
    assert launcher.leftovers() == []


def test_a_second_interrupt_does_not_wait_for_a_stubborn_child(folder: Path) -> None:
    launcher = Launcher(folder, STUBBORN)
    poll(lambda: (folder / "logs" / "child.log").read_text() == "deaf\n")
    began = time.monotonic()
    launcher.signal(signal.SIGINT)
    assert launcher.process.stderr is not None
    assert launcher.process.stderr.readline() == "stopping\n"
    launcher.signal(signal.SIGINT)
    code, _ = launcher.wait()
    assert code == 0
    assert time.monotonic() - began < 6  # twelve without the second one
    assert launcher.leftovers() == []


def test_a_killed_postgres_serves_again_within_three_seconds() -> None:
    with throwaway_servers() as servers:
        url = servers.start_postgres()
        sql(url, "create table kept as select 1 as n")
        told: list[str] = []
        with Supervisor(servers, [], tell=told.append):
            os.kill(servers.pid("postgres"), signal.SIGKILL)
            poll(lambda: "postgres was started again" in told)
            poll(lambda: answers(url, "select n from kept", 1), timeout_seconds=3)


def test_what_a_killed_child_had_started_is_ended_before_it_starts_again(tmp_path: Path) -> None:
    mark = f"{tmp_path}/grandchild"
    child = Child("parent", [sys.executable, "-c", WITH_CHILD, mark])
    told: list[str] = []
    with Supervisor(None, [child], logs=tmp_path, tell=told.append) as supervisor:
        poll(lambda: len(processes_with(mark)) == 2)
        os.kill(supervisor.pid("parent"), signal.SIGKILL)
        poll(lambda: "parent was started again" in told)
        poll(lambda: len(processes_with(mark)) == 2)
    assert processes_with(mark) == []


def test_a_childs_words_go_to_its_log_and_its_environment_is_added_to_ours(tmp_path: Path) -> None:
    code = "import os; print(os.environ['MINE'], os.environ['PATH'], flush=True); " + SLEEPER
    child = Child("talker", [sys.executable, "-c", code], {"MINE": "通过"})
    with Supervisor(None, [child], logs=tmp_path, tell=lambda _: None):
        poll(lambda: (tmp_path / "talker.log").read_text() == f"通过 {os.environ['PATH']}\n")


def test_a_program_that_is_not_there_is_tried_again_and_harms_nobody(tmp_path: Path) -> None:
    children = [Child("lost", ["/nothing/here"]), Child("sound", [sys.executable, "-c", SLEEPER])]
    told: list[str] = []
    with Supervisor(None, children, logs=tmp_path, tell=told.append) as supervisor:
        sound = supervisor.pid("sound")
        poll(lambda: sum(line.startswith("lost ended with code 1") for line in told) == 2)
        assert supervisor.pid("sound") == sound
    assert "cannot start /nothing/here: " in (tmp_path / "lost.log").read_text()


def test_the_delay_doubles_up_to_five_seconds_and_health_resets_it() -> None:
    state: dict[str, int | None] = {"code": 1}
    told: list[str] = []
    watched = _Watched("api", Path("api.log"), lambda: state["code"], lambda: None)
    now = time.monotonic()
    for _ in range(7):
        watched.step(now, told.append)  # sees it dead
        now += 10
        watched.step(now, told.append)  # starts it again
    delays = [line.split(" in ")[1].split(" s")[0] for line in told if "starting" in line]
    assert delays == ["0.2", "0.4", "0.8", "1.6", "3.2", "5.0", "5.0"]
    state["code"] = None
    watched.step(time.monotonic() + 11, told.append)
    state["code"] = 1
    watched.step(now, told.append)
    assert "in 0.2 s" in told[-1]


def test_an_error_in_the_foreground_work_is_raised_after_everything_has_stopped(tmp_path: Path) -> None:
    mark = f"{tmp_path}/child"
    children = [Child("child", [sys.executable, "-c", SLEEPER, mark])]

    def fail() -> None:
        raise LookupError("the demo's own trouble")

    with pytest.raises(LookupError, match="own trouble"):
        Supervisor(None, children, logs=tmp_path, tell=lambda _: None).run(fail)
    assert processes_with(mark) == []


def test_waiting_for_http_ends_when_the_server_answers_or_the_time_is_over(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    with pytest.raises(TimeoutError, match=f"{url} did not answer within 0 s"):
        wait_http(url, 0.1)
    server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    with Supervisor(None, [Child("http", server, cwd=tmp_path)], logs=tmp_path / "logs", tell=lambda _: None):
        wait_http(url, 10)
