"""The demonstration, as it is started by hand: one command, everything with it, and nothing left afterwards."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import demo
from service.api.schemas import NewTicket

ROOT = Path(__file__).resolve().parent.parent.parent
FOREIGN = [
    {"id": "r-1", "source": "open-data", "title": "道路照明故障", "text": "该路口路灯三盏不亮，影响企业夜间发货。",
     "original_category": "路灯", "received_at": "2017-08-21T10:34:25+08:00", "body_chars": 19, "original_unit": None},
    {"id": "r-2", "question": "公司迁址后税务登记如何变更？", "enterprise": "济南某某商贸有限公司"},
    {"id": "r-2", "text": "园区污水管网堵塞，请协调疏通。"},
]  # fmt: skip


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the servers' own account can pass through."""
    made = Path(tempfile.mkdtemp(prefix="jieban-demo-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def requests_file(folder: Path, shipped: int) -> Path:
    lines = demo.SHIPPED.read_text(encoding="utf-8").splitlines()[:shipped]
    path = folder / "requests.jsonl"
    path.write_text("\n".join([*lines, "", *(json.dumps(row) for row in FOREIGN)]), encoding="utf-8")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def processes_with(text: str) -> list[str]:
    """Command lines that name the folder; what ends while we look does not count."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def start_demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("JIEBAN_")}
    env |= {"JIEBAN_DATA_DIR": str(folder / "data"), "JIEBAN_PORT": str(free_port())}
    return subprocess.run(
        [sys.executable, "-m", "service.cli", "demo", "--exit", *options],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.slow
def test_the_demo_makes_a_ticket_of_every_line_and_ends_with_the_tables(folder: Path) -> None:
    path = requests_file(folder, 25)
    done = start_demo(folder, "--weeks", "3", "--requests", str(path))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "28 requests 诉求 → 28 tickets 工单" in done.stdout
    assert re.search(r"28 tickets, \d+ clocks, 0 offending", done.stdout), "every clock is what its ledger gives (C7)"
    total = re.search(r"total 合计\s*│\s*(\d+) │", done.stdout)
    assert total is not None
    assert int(total[1]) > 0
    assert re.search(r"requests that became tickets 受理\s*│\s*28 │\s*100.0% │", done.stdout)
    assert len(re.findall(r"^week +\d", done.stdout, re.MULTILINE)) == 3
    assert "Docket" in done.stdout
    for link in ("/docs", "/explanation", "/v1/reports/sla?group_by=department&format=csv", "token --as supervisor"):
        assert link in done.stdout
    assert processes_with(str(folder)) == []


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"title": "a"}\n\n{"title": \n', encoding="utf-8")
    with pytest.raises(demo.DemoFailed, match=r"bad\.jsonl, line 3: not JSON"):
        list(demo.read_requests(path))


def test_a_file_that_is_absent_or_empty_is_told(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n \n")
    with pytest.raises(demo.DemoFailed, match="no requests"):
        list(demo.read_requests(empty))
    with pytest.raises(demo.DemoFailed, match="cannot be read"):
        list(demo.read_requests(tmp_path / "none.jsonl"))


def test_a_foreign_row_becomes_a_body_of_the_contract(tmp_path: Path) -> None:
    first, second, third = list(demo.read_requests(requests_file(tmp_path, 0)))
    assert first["source"] == {"system": "open-data", "reference": "r-1", "channel": "file"}
    assert first["enterprise"]["name"].startswith("未具名企业")
    assert first["extra"]["original_category"] == "路灯"
    assert first["extra"]["received_at"] == "2017-08-21T10:34:25+08:00"
    assert second["title"] == second["description"] == "公司迁址后税务登记如何变更？"
    assert second["enterprise"]["name"] == "济南某某商贸有限公司"
    assert second["source"]["reference"] == "r-2"
    assert third["source"]["reference"] == "r-2-line4"
    assert third["title"] == third["description"]


def test_a_row_in_the_form_of_the_contract_is_taken_as_it_is() -> None:
    row = {
        "source": {"system": "jn12345", "reference": "2026"},
        "title": "t",
        "description": "d",
        "enterprise": {"name": "n"},
        "urgency": "urgent",
    }
    assert demo.as_body(row, 1) == row
    assert demo.as_body({**row, "note": 1}, 1)["extra"] == {"note": 1}
    del row["source"]["reference"]  # type: ignore[attr-defined]
    assert demo.as_body(row, 7)["source"]["reference"] == "line-00007"


def test_what_json_or_utf8_cannot_carry_does_not_stop_the_demo(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text(
        '\ufeff{"title": "a\\u0000b\\ud800", "n": NaN, "big": 1e999, "deep": [[1]], "huge": 123456789012345678901}\n{"x": 1}\n',
        encoding="utf-8",
    )
    odd, bare = demo.read_requests(path)
    assert odd["title"] == "ab?"
    assert odd["extra"] == {"n": "NaN", "big": "1e999", "deep": "[[1]]", "huge": "123456789012345678901"}
    assert bare["title"] == bare["description"] == '{"x": 1}'
    for body in (odd, bare):
        NewTicket.model_validate_json(json.dumps(body, allow_nan=False))


def test_chance_is_the_same_whatever_came_before() -> None:
    one, other = (demo.City(None, 1, 8) for _ in range(2))  # type: ignore[arg-type]
    other.chance("something else")
    assert one.chance("ref", "mood") == other.chance("ref", "mood")
    drawn = [one.chance(n) for n in range(2000)]
    assert 0.45 < sum(drawn) / len(drawn) < 0.55
    assert min(drawn) >= 0
    assert max(drawn) < 1
