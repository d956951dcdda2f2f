"""Bring a database to the newest schema, or ask whether it is there."""

from __future__ import annotations

from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from service.db.session import Unavailable, connect_arguments

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "migrations"


def _config(dsn: str = "") -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["dsn"] = dsn
    return config


def upgrade(dsn: str, revision: str = "head") -> None:
    """Run the missing revisions. Not to be called inside a running event loop."""
    try:
        command.upgrade(_config(dsn), revision)
    except (OSError, ValueError, asyncpg.PostgresError, SQLAlchemyError) as error:
        raise Unavailable(f"The database of JIEBAN_DATABASE_URL cannot be used: {_brief(error)}") from error


def _brief(error: BaseException) -> str:
    """The first line of what the driver says; addresses of servers, never passwords."""
    return f"{type(error).__name__}: {str(getattr(error, 'orig', None) or error).splitlines()[0][:300]}"


def downgrade(dsn: str, revision: str) -> None:
    command.downgrade(_config(dsn), revision)


def check(dsn: str) -> None:
    """Raise if the tables in `db.tables` and the migrated schema differ."""
    command.check(_config(dsn))


def head() -> str:
    """The newest revision that the code knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None, "the project ships at least one revision"
    return revision


async def current(dsn: str) -> str | None:
    """The revision of a database, or None when it was never migrated."""
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        exists = await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL")
        return await connection.fetchval("SELECT version_num FROM alembic_version") if exists else None
    finally:
        await connection.close()
