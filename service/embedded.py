"""The embedded PostgreSQL and Valkey: real servers from wheels, in a private folder, behind private sockets.

    with EmbeddedServers(default_data_dir()) as servers:
        database_url = servers.start_postgres()   # postgresql://jieban@/jieban?host=/tmp/jieban-…&port=5432
        redis_url = servers.start_redis()         # unix:///tmp/jieban-…/redis.sock?db=0

The data folder holds `.lock` (taken while a launcher lives), `logs/`, and `servers/` with `pg/` and `redis/`.

Three facts shape this module:
- PostgreSQL refuses to run as root. Root starts both servers under the account `postgres` or `nobody`; where
  that account cannot reach the data folder, `servers` is a symbolic link to a folder under /var/lib/jieban.
- A launcher can be killed at any moment. The servers go with it (see `service.processes`); the next launcher
  waits for the last of them, so that two never work on the same data.
- The servers listen only on sockets, in a folder that nobody else may enter: no password, no port to clash.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from service.processes import kill, mortal, processes_named, spawn
from service.programs import (
    EmbeddedError,
    folder_elsewhere,
    lend,
    pick_account,
    postgres_bins,
    postgres_for,
    redis_for,
    short_hash,
    within_reach,
)

__all__ = ["EmbeddedError", "EmbeddedServers", "default_data_dir", "postgres_bins", "throwaway_servers"]

PROJECT_ROOT = Path(__file__).resolve().parent.parent
READY_TIMEOUT_SECONDS = 120.0  # crash recovery after a power cut may take a while
STOP_TIMEOUT_SECONDS = 20.0
HASTY_STOP_TIMEOUT_SECONDS = 5.0
LOCK_TIMEOUT_SECONDS = 0.5
POLL_SECONDS = 0.01

POSTGRES_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": "5432",  # only the name of the socket file
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "max_wal_size": "4GB",  # a burst of timers is no reason for a checkpoint
    "checkpoint_timeout": "2min",  # little to replay after a kill
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",  # short statements: compiling costs more than it saves
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "log_lock_waits": "on",
    "log_min_duration_statement": "2s",
    "log_parameter_max_length": "0",  # callers' words and telephone numbers do not belong in a log
    "log_line_prefix": "%m [%p] ",
}
MOST_BUFFERS, LEAST_BUFFERS = 2048, 128
"""MiB of `shared_buffers`: a quarter of the memory within these, where fewer make a burst of timers write the same pages
again and again (PostgreSQL's manual, 19.4.1)."""
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
FORGETFUL_SETTINGS: Mapping[str, str] = {
    "shared_buffers": "256MB",
    "fsync": "off",
    "full_page_writes": "off",
}


def default_data_dir() -> Path:
    """`JIEBAN_DATA_DIR`, else `.jieban` in the project, else (not writable) a folder in the user's home."""
    if named := os.environ.get("JIEBAN_DATA_DIR"):
        return Path(named).expanduser().absolute()
    beside = PROJECT_ROOT / ".jieban"
    if os.access(beside if beside.exists() else PROJECT_ROOT, os.W_OK):
        return beside
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "jieban" / short_hash(str(PROJECT_ROOT))


def buffers_mib() -> int:
    """How much memory PostgreSQL keeps pages in: a share of what this machine, or this container, has."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # no such limit here, or "max"
            memory = min(memory, int(limit.read_text()))
    return max(LEAST_BUFFERS, min(MOST_BUFFERS, memory // 4 // 1024**2))


# ------------------------------------------------------------------------------
# The servers


@dataclass
class _Server:
    """How to start a server, how to tell that it answers, and the process that runs now."""

    argv: list[str]
    folder: Path
    ready: Callable[[int], bool]  # of the process id
    death_signal: signal.Signals  # also the one that stops it in good order
    hasty_signal: signal.Signals
    process: subprocess.Popen[bytes] | None = None


class EmbeddedServers:
    """PostgreSQL and Valkey on one data folder, for one launcher at a time.

    `durable=False` gives up every promise about power cuts for speed: for tests only.
    Raises EmbeddedError when the folder is in use, or something on the machine is not as it must be.
    """

    def __init__(self, base: Path, *, durable: bool = True) -> None:
        self.base = base.expanduser().absolute()
        self.durable = durable
        self.name = f"jieban-{os.getuid()}-{short_hash(str(self.base.resolve()))}"
        self._servers: dict[str, _Server] = {}
        self._lock_fd: int | None = None
        try:
            self._prepare()
        except OSError as problem:
            self._unlock()
            raise EmbeddedError(f"Cannot use the data folder {self.base}: {problem}") from problem
        except BaseException:
            self._unlock()
            raise

    def __enter__(self) -> EmbeddedServers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def logs(self) -> Path:
        return self.base / "logs"

    # -- what callers use

    def start_postgres(self) -> str:
        """Start PostgreSQL, making its data once; returns the URL of the database `jieban`, user `jieban`."""
        data = self.home / "pg"
        programs = postgres_for(data, self.account, self.sockets)
        if not data.exists():
            self._make_cluster(programs, data)
        server = _Server(
            argv=[str(programs / "postgres"), "-D", str(data), *self._postgres_options()],
            folder=data,
            ready=lambda pid: _postgres_says_ready(data, pid),
            death_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
            hasty_signal=signal.SIGQUIT,  # "immediate": recovery at the next start
        )
        self._start("postgres", server)
        return f"postgresql://jieban@/jieban?host={quote(str(self.sockets))}&port=5432"

    def start_redis(self) -> str:
        """Start Valkey (or Redis); returns its URL. Append-only file, so that queued jobs survive a kill."""
        data, path = self.home / "redis", self.sockets / "redis.sock"
        data.mkdir(mode=0o700, exist_ok=True)
        lend(data, self.account)
        options = ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--dir", str(data)]
        options += ["--save", "", "--appendonly", "yes" if self.durable else "no"]
        options += ["--maxmemory-policy", "noeviction", "--daemonize", "no"]
        server = _Server(
            argv=[str(redis_for(self.account)), *options],
            folder=data,
            ready=lambda _pid: _redis_answers(path),
            death_signal=signal.SIGTERM,
            hasty_signal=signal.SIGKILL,
        )
        self._start("redis", server)
        return f"unix://{quote(str(path))}?db=0"

    def exit_code(self, name: str) -> int | None:
        """None while the server runs; the process is reaped when it does not."""
        process = self._servers[name].process
        return None if process is None else process.poll()

    def started(self) -> list[str]:
        return list(self._servers)

    def pid(self, name: str) -> int:
        process = self._servers[name].process
        assert process is not None, name
        return process.pid

    def restart(self, name: str) -> None:
        """Start a dead server again, on the same data; returns before it answers, so that nobody hangs."""
        if self.exit_code(name) is not None:
            self._launch(name, patience_seconds=0.3)

    def ensure_running(self) -> list[str]:
        """Start again whatever died; returns the names."""
        dead = [name for name in self._servers if self.exit_code(name) is not None]
        for name in dead:
            self.restart(name)
        return dead

    def wait_ready(self, timeout_seconds: float = READY_TIMEOUT_SECONDS) -> None:
        """Wait until every started server answers."""
        for name in self._servers:
            self._wait_ready(name, timeout_seconds)

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop all in good order and free the folder; may be called twice. `hurry` is asked while waiting."""
        servers = list(self._servers.values())
        _signal_all(servers, [server.death_signal for server in servers])
        if not _wait_for_end(servers, STOP_TIMEOUT_SECONDS, hurry):
            _signal_all(servers, [server.hasty_signal for server in servers])
            if not _wait_for_end(servers, HASTY_STOP_TIMEOUT_SECONDS):
                _signal_all(servers, [signal.SIGKILL for _ in servers])
                _wait_for_end(servers, STOP_TIMEOUT_SECONDS)
        self._servers.clear()
        if self._lock_fd is not None:
            shutil.rmtree(self.sockets, ignore_errors=True)
            self._unlock()

    # -- the folder

    def _prepare(self) -> None:
        if not self.base.exists():
            self.base.mkdir(parents=True)
            self.base.chmod(0o711 if os.geteuid() == 0 else 0o700)  # root's servers must pass through it
        self._lock()
        self.account = pick_account(self.base / "servers")
        self.home = self._make_home()
        self.sockets = self._make_socket_folder()

    def _lock(self) -> None:
        # Not inheritable (as every descriptor Python opens), so no server can hold it beyond our own life.
        self._lock_fd = os.open(self.base / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        give_up = time.monotonic() + LOCK_TIMEOUT_SECONDS
        while True:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise EmbeddedError(self._in_use()) from None
                time.sleep(POLL_SECONDS)
        os.truncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, str(os.getpid()).encode(), 0)

    def _in_use(self) -> str:
        holder = (self.base / ".lock").read_text().strip() or "unknown"
        return (
            f"The data folder {self.base} is in use by another Jieban (process {holder}). Stop that one "
            "first (Ctrl-C where it runs), or give this one its own: JIEBAN_DATA_DIR=/some/other/folder"
        )

    def _unlock(self) -> None:
        if self._lock_fd is not None:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)  # also for copies that a fork may hold
            os.close(self._lock_fd)
            self._lock_fd = None

    def _make_home(self) -> Path:
        """The real folder of the servers' data. Where it was once made, it stays."""
        home = self.base / "servers"
        if home.is_symlink() and not home.exists():
            home.unlink()  # what it pointed to was removed by hand
        if not home.exists():
            home.mkdir(mode=0o700)
            lend(home, self.account)
            if self.account and not within_reach(self.account, home):
                home.rmdir()
                home.symlink_to(folder_elsewhere("data-"), target_is_directory=True)
        home = home.resolve()
        if self.account and home.stat().st_uid == 0:
            lend(home, self.account)
        if not within_reach(self.account, home):
            who = f"The account {self.account.name}" if self.account else "This user"
            raise EmbeddedError(
                f"{who} cannot enter {home}, where the data are. Allow it to pass through the folders above "
                f"(chmod o+x), start as the owner of the data, or choose another folder with JIEBAN_DATA_DIR."
            )
        return home

    def _make_socket_folder(self) -> Path:
        parent = Path(tempfile.gettempdir()).resolve()
        too_long = len(str(parent / self.name / ".s.PGSQL.5432")) > 100  # the kernel allows 107 bytes
        if too_long or not within_reach(self.account, parent):
            parent = Path("/tmp")  # noqa: S108 - its mode and owner are checked below
        folder = parent / self.name
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
        owners = {os.geteuid(), self.account.uid if self.account else os.geteuid()}
        if not stat.S_ISDIR(state.st_mode) or state.st_mode & 0o077 or state.st_uid not in owners:
            raise EmbeddedError(
                f"{folder} is not a private folder of this user: sockets would not be safe there. "
                "Somebody else may have made it. Look at it, remove it, and start again."
            )
        lend(folder, self.account)
        return folder

    # -- PostgreSQL

    def _postgres_options(self) -> list[str]:
        own = {"shared_buffers": f"{buffers_mib()}MB"} if self.durable else FORGETFUL_SETTINGS
        settings = {**POSTGRES_SETTINGS, **own}
        # Every process of the cluster shows this name: so the strays of a killed one can be told from others.
        settings |= {"cluster_name": self.name, "unix_socket_directories": str(self.sockets)}
        return [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]

    def _make_cluster(self, programs: Path, data: Path) -> None:
        """initdb and the database `jieban` under a draft name, renamed at last: never half a cluster."""
        draft = data.with_name("pg.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        lend(draft, self.account)
        # The locale matters: under plain C, pg_trgm finds no trigram in Chinese text.
        initdb = [str(programs / "initdb"), "-D", str(draft), "-U", "jieban", "-A", "trust", "-E", "UTF8"]
        initdb += ["--locale=C.UTF-8", "--data-checksums", *([] if self.durable else ["--no-sync"])]
        self._run(initdb, draft)
        single = [str(programs / "postgres"), "--single", "-D", str(draft), "-c", "exit_on_error=on"]
        single += [] if self.durable else ["-c", "fsync=off"]
        self._run([*single, "postgres"], draft, b"CREATE DATABASE jieban\n")
        draft.rename(data)

    def _run(self, argv: list[str], cwd: Path, text: bytes = b"") -> None:
        line = mortal(argv, signal.SIGKILL, self.account)
        done = subprocess.run(line, input=text, cwd=cwd, env=_plain_env(), capture_output=True, check=False)
        if done.returncode:
            told = (done.stdout + done.stderr).decode(errors="replace")[-800:]
            raise EmbeddedError(f"{Path(argv[0]).name} could not prepare {cwd}:\n{told}")

    # -- processes

    def _start(self, name: str, server: _Server) -> None:
        if name in self._servers:
            raise EmbeddedError(f"{name} was started already")
        self._servers[name] = server
        self._launch(name, patience_seconds=10.0)
        self._wait_ready(name, READY_TIMEOUT_SECONDS)

    def _launch(self, name: str, patience_seconds: float) -> None:
        server = self._servers[name]
        self._end_strays(server, patience_seconds)
        if name == "postgres":
            _forget_dead_postmaster(server.folder, self.sockets)
        server.process = spawn(
            server.argv,
            log=self.logs / f"{name}.log",
            death_signal=server.death_signal,
            env=_plain_env(),
            cwd=server.folder,
            account=self.account,
        )

    def _wait_ready(self, name: str, timeout_seconds: float) -> None:
        server, give_up = self._servers[name], time.monotonic() + timeout_seconds
        while not server.ready(self.pid(name)):
            code = self.exit_code(name)
            if code is not None or time.monotonic() > give_up:
                what = "does not answer" if code is None else f"ended at once (code {code})"
                raise EmbeddedError(f"{name} {what}. The end of {self.logs / name}.log:\n{self._tail(name)}")
            time.sleep(POLL_SECONDS)

    def _tail(self, name: str) -> str:
        return (self.logs / f"{name}.log").read_text(errors="replace")[-800:]

    def _end_strays(self, server: _Server, patience_seconds: float) -> None:
        """Wait for what a killed server or launcher left behind, then end it: never two on the same data."""
        program = Path(server.argv[0]).name
        for signum, seconds in ((0, patience_seconds), (signal.SIGQUIT, 1.0), (signal.SIGKILL, 10.0)):
            give_up = time.monotonic() + seconds
            while strays := list(processes_named(self.name, program)):
                if time.monotonic() > give_up:
                    break
                for pid in strays if signum else []:
                    kill(pid, signum)
                time.sleep(POLL_SECONDS)
            else:
                return
        raise EmbeddedError(
            f"Processes of an earlier start still work on {server.folder} and cannot be ended from here: "
            f"{', '.join(map(str, strays))}. End them (kill -9) and start again."
        )


@contextmanager
def throwaway_servers() -> Iterator[EmbeddedServers]:
    """Servers for tests: fast, forgetful, in a temporary folder that is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="jieban-test-"))
    folder.chmod(0o711)  # the servers' account must pass through it
    try:
        with EmbeddedServers(folder, durable=False) as servers:
            yield servers
        shutil.rmtree(servers.home)  # it may lie elsewhere
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _plain_env() -> dict[str, str]:
    """The servers see nothing of our environment, except what our own Python may need to start them."""
    kept = {key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ}
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", **kept}


def _postgres_says_ready(data: Path, pid: int) -> bool:
    # As pg_ctl does it. The process id tells our server from one whose file was left behind.
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _redis_answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _forget_dead_postmaster(data: Path, sockets: Path) -> None:
    """Remove what a killed server left: PostgreSQL could take a stranger that now has its number for it."""
    for left in sockets.glob(".s.PGSQL.*"):
        left.unlink()
    pid_file = data / "postmaster.pid"
    if not pid_file.exists():
        return
    pid = abs(int(pid_file.read_text().split("\n", 1)[0] or 0))
    if _works_in(pid, data):
        raise EmbeddedError(
            f"PostgreSQL (process {pid}) already runs on {data}, started by other means. "
            f"Stop it (kill -INT {pid}) and start again."
        )
    pid_file.unlink()


def _works_in(pid: int, data: Path) -> bool:
    process = Path("/proc") / str(pid)
    try:
        if (process / "comm").read_text().strip() not in ("postgres", "postmaster"):
            return False
        words = (process / "cmdline").read_bytes()
    except OSError:
        return False
    try:
        return (process / "cwd").readlink() == data
    except OSError:
        return str(data).encode() in words


def _signal_all(servers: Sequence[_Server], signums: Sequence[signal.Signals]) -> None:
    for server, signum in zip(servers, signums, strict=True):
        if server.process and server.process.poll() is None:
            kill(server.process.pid, signum)


def _wait_for_end(
    servers: Sequence[_Server], timeout_seconds: float, hurry: Callable[[], bool] = lambda: False
) -> bool:
    """True when all have ended; False when the time is over or somebody is in a hurry."""
    give_up = time.monotonic() + timeout_seconds
    while any(server.process and server.process.poll() is None for server in servers):
        if time.monotonic() > give_up or hurry():
            return False
        time.sleep(POLL_SECONDS)
    return True
