"""The house's rules as tests: what CI obeys, anybody can run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from service.core import errors as domain
from service.db import migrate, tables
from service.db.session import connect_arguments

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent


def run(*command: str) -> None:
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_imports_go_down_the_stairs_only() -> None:
    run("lint-imports")


def test_the_linter_finds_nothing() -> None:
    run("ruff", "check", "service", "tests", "bench", "migrations")


def test_the_code_is_formatted() -> None:
    run("ruff", "format", "--check", "service", "tests", "bench", "migrations")


def test_types_hold() -> None:
    run("mypy")


def test_migrations_and_tables_agree(server_dsn: str, template: str) -> None:
    migrate.check(server_dsn.replace("@/jieban?", f"@/{template}?"))


def test_migrations_pass_squawk(tmp_path: Path) -> None:
    sql = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(ROOT / "migrations" / "alembic.ini"), "upgrade", "head", "--sql"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert sql.returncode == 0, sql.stderr[-2000:]
    (tmp_path / "all.sql").write_text(sql.stdout)
    run("squawk", "--config", str(ROOT / "migrations" / "squawk.toml"), str(tmp_path / "all.sql"))


async def test_every_table_with_tickets_data_forces_row_level_security(dsn: str) -> None:
    connection = await asyncpg.connect(**connect_arguments(dsn))
    rows = await connection.fetch(
        """SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS forced,
                  c.relname = 'tickets' OR EXISTS (
                    SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'ticket_id') AS of_ticket
           FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace"""
    )
    await connection.close()
    assert {r["relname"] for r in rows if r["of_ticket"]} == {*tables.TICKET_TABLES, "audit"}
    assert [r["relname"] for r in rows if r["of_ticket"] and not r["forced"]] == []


async def test_the_application_roles_own_nothing_and_bypass_nothing(dsn: str) -> None:
    connection = await asyncpg.connect(**connect_arguments(dsn))
    roles = await connection.fetch(
        "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname LIKE 'jieban\\_%'"
    )
    owned = await connection.fetchval(
        "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname LIKE 'jieban\\_%'"
    )
    native_enums = await connection.fetchval("SELECT count(*) FROM pg_type WHERE typtype = 'e'")
    await connection.close()
    assert len(roles) == 2
    assert not any(r["rolsuper"] or r["rolbypassrls"] or r["rolcreaterole"] for r in roles)
    assert (owned, native_enums) == (0, 0)


def test_every_domain_error_has_a_status_and_a_documented_problem() -> None:
    from service.api.deps import Malformed
    from service.api.errors import PROBLEMS, STATUS

    def tree(cls: type[domain.JiebanError]) -> list[type[domain.JiebanError]]:
        return [cls, *(found for child in cls.__subclasses__() for found in tree(child))]

    assert Malformed in STATUS
    unmapped = [c for c in tree(domain.JiebanError)[1:] if not any(base in STATUS for base in c.__mro__)]
    assert unmapped == []
    assert {c.slug for c in tree(domain.JiebanError)} <= set(PROBLEMS)


def test_every_setting_is_documented_in_the_readme() -> None:
    from service.settings import Settings

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [n for n in Settings.model_fields if f"JIEBAN_{n.upper()}" not in text]
    assert missing == []


def test_every_command_is_named_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    source = (ROOT / "service" / "cli" / "__init__.py").read_text(encoding="utf-8")
    commands = {
        re.sub("_", "-", node.name).strip("-")
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
        and any("app.command" in ast.unparse(d) and "_app" not in ast.unparse(d) for d in node.decorator_list)
    }
    commands = {"settings" if c == "show-settings" else c for c in commands} - {"api", "worker"}
    assert [c for c in sorted(commands) if f"service {c}" not in text] == []


@pytest.mark.parametrize("path", ["README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"])
def test_the_papers_are_there(path: str) -> None:
    assert (ROOT / path).stat().st_size > 500


def test_nothing_names_a_package_registry() -> None:
    pattern = re.compile(r"https?://\S*(?:/simple\b|pythonhost|npmjs|deb\.debian)|--(?:extra-)?index-url[ =]")
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    found = []
    for name in names:
        path = ROOT / name
        if path.is_file() and path.stat().st_size < 1_000_000 and path != Path(__file__):
            text = path.read_text(encoding="utf-8", errors="ignore")
            if pattern.search(text.replace("--no-emit-index-url", "")):
                found.append(name)
    assert found == []
