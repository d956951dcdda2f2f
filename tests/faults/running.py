"""Parts of the service as real processes, and how to look at them from outside."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]


def poll(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    give_up = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < give_up, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return found


def processes_with(*marks: str) -> dict[int, str]:
    """Processes whose command line or environment's data folder shows one of these marks, our own excepted."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if int(entry.name) != os.getpid() and any(mark in line for mark in marks):
            found[int(entry.name)] = line
    return found


class Running:
    """`python -m service.cli up` in a process of its own, on a data folder and a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("JIEBAN_")}
        own = {"JIEBAN_DATA_DIR": str(folder), "JIEBAN_PORT": str(self.port), "PYTHONPATH": str(ROOT)}
        self.env = {**inherited, **own}
        self.log = (folder.parent / "launcher.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "up"], cwd=ROOT, env=self.env, stdout=self.log, stderr=self.log
        )

    def told(self) -> str:
        return (self.folder.parent / "launcher.log").read_text()

    def errors(self) -> list[str]:
        """What the API's log says went wrong in an unforeseen way."""
        lines = (self.folder / "logs" / "api.log").read_text(errors="replace").splitlines()
        return [line[:2000] for line in lines if "unforeseen" in line]

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.told()
            try:
                return httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == 200
            except httpx.HTTPError:
                return False

        poll(ready, 90, "ready")

    def children(self) -> dict[str, int]:
        """Name -> process id of what the launcher keeps running."""
        found: dict[str, int] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                status = (entry / "status").read_text()
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"PPid:\t{self.process.pid}\n" not in status or b"-I" in words[:3]:
                continue  # not a child, or one that is only about to become the server
            name = Path(words[0].decode()).name
            last = words[-2].decode() if len(words) > 1 else ""
            if name == "postgres":
                found["postgres"] = int(entry.name)
            elif "valkey" in name or "redis" in name:
                found["redis"] = int(entry.name)
            elif last in {"api", "worker"}:
                found[last] = int(entry.name)
        return found

    def token(self, who: str) -> str:
        made = subprocess.run(
            [sys.executable, "-m", "service.cli", "token", "--as", who],
            cwd=ROOT, env=self.env, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return made.stdout.strip()

    def socket_folder(self) -> str:
        pid = self.children()["postgres"]
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        return next(w for w in words if w.startswith("unix_socket_directories=")).partition("=")[2]
