"""Bring a database to the newest schema, and hold the tables of the code against it."""

from __future__ import annotations

from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import SQLAlchemyError

from service.db.session import Unavailable

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
