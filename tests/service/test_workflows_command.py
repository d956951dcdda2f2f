"""`workflows check` and `workflows schema` as a process owner meets them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.core.language import json_schema
from tests.builders import WORKFLOWS


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["workflows", *arguments])
    return done.exit_code, done.stdout


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs the tests has threads and must not be forked; a test below starts the command as people do."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WORKFLOWS, tmp_path / "workflows", ignore=shutil.ignore_patterns("demo")))


def test_the_shipped_set_holds_and_each_workflow_tells_its_longest_life(copied: Path) -> None:
    code, told = run("check", str(copied))
    assert code == 0, told
    lines = told.splitlines()
    assert len(lines) == 16 and lines[-1].startswith("ok 全部通过: 14 workflows")
    for line in lines[:-1]:
        assert (
            "configurations 种状态" in line and "longest lawful life 最长合法时长: " in line and "working days" in line
        )


def test_a_fault_is_told_with_its_place_what_was_expected_and_the_way_to_it(copied: Path) -> None:
    path = copied / "city" / "base.yaml"
    text = path.read_text("utf-8").replace("{record: reply}, {start: audit}, {notify", "{record: reply}, {notify")
    path.write_text(text, "utf-8")
    code, told = run("check", str(copied))
    assert code == 1
    number = next(n for n, line in enumerate(text.splitlines(), 1) if "{hold: resolve}, {meet: opinion}" in line)
    [first] = [line for line in told.splitlines() if line.startswith(f"base.yaml:{number}: ")]
    assert (
        "actions.submit_reply.branches.3" in first
        and "without a running clock" in first
        and "没有任何时钟在走" in first
    )
    assert "expected: a clock that is started here" in first
    steps = [line.strip() for line in told.splitlines() if line.startswith("    ")]
    assert steps[0].startswith("1. 新工单 a new ticket") and steps[-1].startswith("3. 提交答复 Submit the reply")
    assert told.count("without a running clock") == 1  # what overlays inherit is told once


def test_processes_side_by_side_tell_what_one_tells(copied: Path) -> None:
    path = copied / "city" / "base.yaml"
    path.write_text(path.read_text("utf-8").replace("{start: audit}, ", ""), "utf-8")
    command = [
        sys.executable, "-c",
        "import os, sys; os.cpu_count = lambda: 3; from service.cli import main; main()",
        "workflows", "check", str(copied),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    code, told = run("check", str(copied))
    assert done.returncode == code == 1, done.stderr

    def without_figures(text: str) -> str:
        return re.sub(r"[0-9]+ ms CPU", "", text)

    assert without_figures(done.stdout) == without_figures(told)
    assert "fault(s)" in told


def test_a_proving_process_that_is_killed_is_told_in_one_line(copied: Path) -> None:
    command = [
        sys.executable, "-c",
        "import os; os.cpu_count = lambda: 3; from service.cli import main; main()",
        "workflows", "check", str(copied),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as checking:
        children = Path(f"/proc/{checking.pid}/task/{checking.pid}/children")
        deadline = time.monotonic() + 60
        while not (found := children.read_text().split()) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(int(found[0]), signal.SIGKILL)
        _, told = checking.communicate(timeout=60)
    assert checking.returncode == 2
    assert "run it again" in told and "Traceback" not in told


def test_a_domain_that_no_workflow_takes_is_told(copied: Path) -> None:
    path = copied / "city" / "project_landing.yaml"
    path.write_text(path.read_text("utf-8").replace("domains: [project_landing]", "domains: []"), "utf-8")
    code, told = run("check", str(copied))
    assert code == 1 and "refused: project_landing, project_landing (urgent)" in told.splitlines()[-1]


def test_what_cannot_be_read_is_told_too(copied: Path) -> None:
    (copied / "city" / "consultation.yaml").write_text(
        "key: consultation\nextends: base\nclocks: {resolve: {budget: 2h}}\n"
    )
    code, told = run("check", str(copied))
    assert code == 1 and told.startswith("consultation.yaml:")
    assert run("check", str(copied / "nowhere"))[0] == 2


def test_the_schema_is_printed() -> None:
    code, told = run("schema")
    assert code == 0 and json.loads(told) == json_schema()
