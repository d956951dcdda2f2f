"""Starting processes that go when we go, under another account if need be, and finding those that stayed.

A launcher can be killed at any moment. What it spawned carries PR_SET_PDEATHSIG, so it goes with it. Linux sends that
signal when the *thread* that started the process ends; so one thread starts them all.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

LOG_BYTES_MAX = 10_000_000


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


def processes_named(name: str, program: str) -> Iterator[int]:
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


def kill(pid: int, signum: int) -> None:
    """Send a signal; nothing happens when the process has gone or is not ours."""
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return
