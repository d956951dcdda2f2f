"""Alembic's environment: one transaction per revision, under a short lock timeout and an advisory lock.

Called by `python3 -m service migrate` (which passes the address) or by alembic itself with `-x dsn=postgresql://…`.
"""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from service.db import tables

LOCK = 0x4A494542  # "JIEB": two migrations of one database never run at once


def _run(connection: Connection) -> None:
    connection.execute(text(f"SELECT pg_advisory_lock({LOCK})"))
    connection.execute(text("SET lock_timeout = '2s'"))
    connection.commit()
    context.configure(connection=connection, target_metadata=tables.metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.execute(text(f"SELECT pg_advisory_unlock({LOCK})"))
    connection.commit()


async def _online(dsn: str) -> None:
    engine = create_async_engine(dsn, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


if context.is_offline_mode():
    context.configure(url="postgresql://", target_metadata=tables.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    given = context.config.attributes.get("dsn") or context.get_x_argument(as_dictionary=True).get("dsn")
    if not given:
        raise SystemExit(
            "Say which database: python3 -m service migrate, or alembic -x dsn=postgresql://… upgrade head"
        )
    asyncio.run(_online(given.replace("postgresql://", "postgresql+asyncpg://", 1)))
