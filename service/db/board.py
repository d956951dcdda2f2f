"""The docket as a board, and its figures of a year. Each is one named statement."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

from service.db.session import Tx

SQL = Path(__file__).parent / "sql"
BOARD = (SQL / "review_board.sql").read_text(encoding="utf-8")
TIERS = (SQL / "review_tiers.sql").read_text(encoding="utf-8")
YEAR = (SQL / "review_year.sql").read_text(encoding="utf-8")
MEASURES = (SQL / "review_measures_year.sql").read_text(encoding="utf-8")


async def board(tx: Tx, tier: int | None, kind: str | None, per_stage: int) -> list[Any]:
    """Per stage those that are due first; each row says how many the stage has."""
    return await tx.rows(BOARD, tx.now, tier, per_stage, kind)


async def tiers(tx: Tx, tier: int | None, kind: str | None) -> list[Any]:
    return await tx.rows(TIERS, tier, kind)


async def year(tx: Tx, start: datetime, end: datetime) -> list[Any]:
    return await tx.rows(YEAR, start, end, tx.now)


async def measures_of_year(tx: Tx, first: date, last: date, today: date, zone: str) -> list[Any]:
    return await tx.rows(MEASURES, first.isoformat(), last.isoformat(), today.isoformat(), zone)


async def minutes_of_year(tx: Tx, start: datetime, end: datetime) -> list[Any]:
    """Documents issued in the year by series: how many, how many of them corrections."""
    return await tx.rows(
        """SELECT series, count(*) AS issued, count(corrects) AS corrections FROM minutes
           WHERE issued_at >= $1 AND issued_at < $2 GROUP BY series ORDER BY series""",
        start, end,
    )  # fmt: skip


async def precedents_of_year(tx: Tx, first: date, last: date) -> int:
    return await tx.value(  # type: ignore[no-any-return]
        "SELECT count(*) FROM precedents WHERE issued_on BETWEEN $1 AND $2", first.isoformat(), last.isoformat()
    )
