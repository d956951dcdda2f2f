"""Keeps a set of processes running: the embedded servers and the service's own (API, pump, worker).

    with EmbeddedServers(folder) as servers:
        urls = servers.start_postgres(), servers.start_redis()
        Supervisor(servers, [Child("api", [sys.executable, "-m", "service.cli", "api"], env)]).run(on_ready)

`run` stays in the foreground until Ctrl-C, SIGTERM or SIGHUP. Work of one's own goes into a `with` instead:

        with Supervisor(servers, children) as supervisor:
            wait_http("http://127.0.0.1:8000/healthz", 30)
            ...

What dies is started again, after 0.2 s at first, then after twice as long each time up to 5 s. To stop: the
children first (SIGTERM, SIGKILL after 12 s), then the servers. A second Ctrl-C makes all of that hasty. When this
process is killed outright, the children are killed with it and the servers stop by themselves (see `spawn`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from service.embedded import EmbeddedError, EmbeddedServers, default_data_dir
from service.processes import spawn

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0
HEALTHY_AFTER_SECONDS = 10.0
CHILD_STOP_SECONDS = 12.0
POLL_SECONDS = 0.05
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """Raised in the main thread by the first Ctrl-C, SIGTERM or SIGHUP."""


@dataclass(frozen=True)
class Child:
    """A process to keep running. `env` is added to our own environment.

    It is killed when the launcher is killed: a child that finishes its work at leisure would hold the port that
    the next launcher needs. One that has processes of its own may want SIGTERM as its `death_signal`.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    death_signal: signal.Signals = signal.SIGKILL


def wait_http(url: str, timeout_seconds: float) -> None:
    """Wait until `url` answers with 2xx; TimeoutError names the last problem."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would not find our port
    give_up = time.monotonic() + timeout_seconds
    while True:
        try:
            with opener.open(url, timeout=max(0.1, min(5.0, give_up - time.monotonic()))):
                return
        except (OSError, ValueError) as problem:  # URLError and HTTPError are OSErrors
            if time.monotonic() > give_up:
                told = f"{url} did not answer within {timeout_seconds:.0f} s: {problem}"
                raise TimeoutError(told) from None
        time.sleep(POLL_SECONDS)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Watched:
    """One thing that is kept running, and the delay before it is started the next time."""

    def __init__(self, name: str, log: Path, exit_code: Callable[[], int | None], start: Callable[[], None]) -> None:
        self.name, self.log = name, log
        self.exit_code, self._start = exit_code, start
        self._started = time.monotonic()
        self._delay = FIRST_DELAY_SECONDS
        self._due: float | None = None

    def step(self, now: float, tell: Callable[[str], None]) -> None:
        if self._due is None:
            self._look(now, tell)
        elif now >= self._due:
            self._start_again(tell)

    def _look(self, now: float, tell: Callable[[str], None]) -> None:
        code = self.exit_code()
        if code is None:
            if now - self._started > HEALTHY_AFTER_SECONDS:
                self._delay = FIRST_DELAY_SECONDS
            return
        tell(f"{self.name} {_how_it_ended(code)}; starting it again in {self._delay:.1f} s (log: {self.log})")
        self._postpone(now)

    def _start_again(self, tell: Callable[[str], None]) -> None:
        try:
            self._start()
        except (OSError, EmbeddedError) as problem:
            tell(f"{self.name} cannot be started, trying again in {self._delay:.1f} s: {problem}")
            self._postpone(time.monotonic())
            return
        self._started, self._due = time.monotonic(), None
        tell(f"{self.name} was started again")

    def _postpone(self, now: float) -> None:
        self._due = now + self._delay
        self._delay = min(self._delay * 2, LONGEST_DELAY_SECONDS)


def _how_it_ended(code: int) -> str:
    if -code in set(signal.Signals):
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"


class Supervisor:
    """Starts the children and keeps them and the servers running, until stopped. Not to be used twice."""

    def __init__(
        self,
        servers: EmbeddedServers | None,
        children: Sequence[Child],
        *,
        logs: Path | None = None,
        tell: Callable[[str], None] = say,
    ) -> None:
        self._servers, self._children, self._tell = servers, children, tell
        self.logs = logs or (servers.logs if servers else default_data_dir() / "logs")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._watched: list[_Watched] = []
        self._stopping = self._interrupted = self._hurried = False
        self._busy = threading.Lock()  # a step and the stop exclude each other
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._handlers: dict[signal.Signals, Any] = {}

    def run(self, on_ready: Callable[[], None] | None = None) -> None:
        """Start, call `on_ready`, stay until told to stop, stop. An error of `on_ready` is raised after stopping."""
        try:
            with self:
                if on_ready:
                    on_ready()
                while True:
                    time.sleep(3600)
        except Stopped:
            return

    def __enter__(self) -> Supervisor:
        self._take_signals()
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self._give_signals_back()

    def start(self) -> None:
        """Start the children and the watching thread; takes no signals (`run` and `with` do)."""
        for name in self._servers.started() if self._servers else []:
            self._watched.append(self._watch_server(name))
        for child in self._children:
            self._start_child(child)
            self._watched.append(self._watch_child(child))
        self._thread.start()

    def poll(self) -> None:
        """One look at everything; what died is started again when its time has come."""
        with self._busy:
            for watched in self._watched:
                if self._stopping:
                    return
                watched.step(time.monotonic(), self._tell)

    def pid(self, name: str) -> int:
        """The process id that a child or server has now; it changes when it is started again."""
        if name in self._processes:
            return self._processes[name].pid
        assert self._servers is not None, name
        return self._servers.pid(name)

    def stop(self) -> None:
        """Children first, then servers; returns when nothing runs any more. May be called twice."""
        if not self._stopping:
            self._tell("stopping")
        self._stopping = True
        with self._busy:
            self._stop_children()
            if self._servers:
                self._servers.stop(lambda: self._hurried)
        if self._thread.is_alive():
            self._thread.join()

    # -- what is watched

    def _watch(self) -> None:
        while not self._stopping:
            self.poll()
            time.sleep(POLL_SECONDS)

    def _watch_server(self, name: str) -> _Watched:
        servers = self._servers
        assert servers is not None
        log = servers.logs / f"{name}.log"
        return _Watched(name, log, lambda: servers.exit_code(name), lambda: servers.restart(name))

    def _watch_child(self, child: Child) -> _Watched:
        def exit_code() -> int | None:
            return _exit_code(self._processes[child.name])

        return _Watched(child.name, self._log(child), exit_code, lambda: self._start_child(child))

    def _start_child(self, child: Child) -> None:
        self._processes[child.name] = spawn(
            child.argv,
            log=self._log(child),
            death_signal=child.death_signal,
            env={**os.environ, **child.env},
            cwd=child.cwd,
        )

    def _log(self, child: Child) -> Path:
        return self.logs / f"{child.name}.log"

    def _stop_children(self) -> None:
        processes = list(self._processes.values())
        for process in processes:
            process.terminate()  # does nothing to one that has ended
        give_up = time.monotonic() + CHILD_STOP_SECONDS
        while processes and not self._hurried and time.monotonic() < give_up:
            processes = [process for process in processes if _exit_code(process) is None]
            time.sleep(POLL_SECONDS / 5)
        for process in processes:
            _kill_group(process)
            process.wait()

    # -- signals

    def _take_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in STOP_SIGNALS:
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # started with nohup
            self._handlers[number] = signal.signal(number, self._on_signal)

    def _give_signals_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # The first one ends the work in the foreground; while all stops, a further one only makes it hasty.
        if self._interrupted or self._stopping:
            self._hurried = True
            return
        self._interrupted = True
        raise Stopped


def _exit_code(process: subprocess.Popen[bytes]) -> int | None:
    """None while the child runs. Of one that has ended, whatever it started itself is ended too."""
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    if process.returncode is None and os.waitid(os.P_PID, process.pid, look):
        _kill_group(process)  # now, while nobody has its number: it is not reaped yet
    return process.poll()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # Each child leads a group of its own, which may outlive it.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
