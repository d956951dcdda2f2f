"""Tables for spreadsheets: CSV (RFC 4180, with a byte order mark) and XLSX, with nothing that a cell could run.

Text that a spreadsheet would take for a formula gets an apostrophe, full-width signs included; in XLSX every text is written as
text, never as a formula or a link.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import BytesIO, StringIO
from typing import Any

import xlsxwriter

Cell = str | int | float | None
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
MAX_TEXT = 32_767
"""What one cell of XLSX holds."""
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def harmless(text: str | None) -> str:
    text = text or ""
    return f"'{text}" if text.startswith(FORMULA) else text


def as_csv(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> bytes:
    out = StringIO()
    table = csv.writer(out, lineterminator="\r\n")
    table.writerow(header)
    table.writerows([harmless(c) if isinstance(c, str) else c for c in row] for row in rows)
    return ("\ufeff" + out.getvalue()).encode()


def as_xlsx(title: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> bytes:
    """One sheet: a bold, frozen header with a filter, then the rows."""
    out = BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with xlsxwriter.Workbook(out, options) as book:
        sheet = book.add_worksheet(title[:31])
        bold = book.add_format({"bold": True})
        for n, name in enumerate(header):
            sheet.write_string(0, n, name, bold)
        for r, row in enumerate(rows, 1):
            for n, cell in enumerate(row):
                if isinstance(cell, str):
                    sheet.write_string(r, n, harmless(cell)[:MAX_TEXT])
                elif cell is not None:
                    sheet.write_number(r, n, cell)
        sheet.freeze_panes(1, 0)
        sheet.autofilter(0, 0, max(len(rows), 1), max(len(header) - 1, 0))
    return out.getvalue()


def sheet(format_: str, name: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> tuple[bytes, str, str]:
    """Content, media type and file name of a table as `csv` or `xlsx`."""
    if format_ == "csv":
        return as_csv(header, rows), "text/csv; charset=utf-8", f"{name}.csv"
    return as_xlsx(name, header, rows), XLSX, f"{name}.xlsx"


def flat(items: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[Cell]]]:
    """Items of one shape as a table: a mapping's fields become columns `outer.inner`, lists are left out."""
    rows = [_flattened(item) for item in items]
    header = list(dict.fromkeys(name for row in rows for name in row))
    return header, [[row.get(name) for name in header] for row in rows]


def _flattened(item: dict[str, Any], prefix: str = "") -> dict[str, Cell]:
    out: dict[str, Cell] = {}
    for name, value in item.items():
        if isinstance(value, dict):
            out |= _flattened(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            out[prefix + name] = int(value)
        elif isinstance(value, (str, int, float)) or value is None:
            out[prefix + name] = value
    return out
