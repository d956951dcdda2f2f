"""Requests from a file: each line becomes a body of POST /v1/tickets, whatever form it has."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from service.demo.errors import DemoFailed

SHIPPED = Path(__file__).resolve().parents[2] / "workflows" / "demo" / "requests.jsonl"
UNNAMED = "未具名企业"
CONTRACT = frozenset(
    {"source", "domain", "request_type", "matter", "title", "description", "urgency", "confidential",
     "reply_required", "enterprise", "contact", "location", "project", "extra"}
)  # fmt: skip
TITLE_KEYS = ("title", "subject", "标题", "question", "问题")
TEXT_KEYS = ("description", "text", "body", "content", "内容", "question", "问题", "title")
NAME_KEYS = ("enterprise", "enterprise_name", "company", "企业名称", "企业")
REFERENCE_KEYS = ("id", "reference", "number", "编号")


def read_requests(path: Path) -> Iterator[dict[str, Any]]:
    """Bodies of POST /v1/tickets, one a line; a file of another form is mapped. Raises DemoFailed naming the line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DemoFailed(f"{path} cannot be read: {error}") from None
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            # NaN, Infinity and 1e999 are nothing that JSON can carry on; as words they still reach the ticket
            row = _clean(json.loads(line, parse_constant=str, parse_float=_finite))
        except (ValueError, RecursionError) as error:
            raise DemoFailed(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise DemoFailed(f"{path}, line {number}: expected a JSON object, not a {type(row).__name__}")
        body = as_body(row, number)
        source = body["source"]
        if (source["system"], source["reference"]) in seen:
            source["reference"] = f"{source['reference'][:110]}-line{number}"
        seen.add((source["system"], source["reference"]))
        yield body
    if not seen:
        raise DemoFailed(f"{path} holds no requests")


def _finite(text: str) -> float | str:
    return float(text) if math.isfinite(float(text)) else text


def _clean(value: Any) -> Any:
    """Without what no text in UTF-8 or in the database can hold: NUL and halves of surrogate pairs."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_clean(v) for v in value]
    if isinstance(value, dict):
        return {_clean(k): _clean(v) for k, v in value.items()}
    return value


def as_body(row: Mapping[str, Any], line: int) -> dict[str, Any]:
    """A row in the contract's form is taken as it is; of any other, the fields that mean the same are found."""
    if isinstance(row.get("source"), dict) and isinstance(row.get("enterprise"), dict):
        source = {"system": "file", **row["source"]}
        source["reference"] = str(source.get("reference") or f"line-{line:05d}")
        body = {**{k: v for k, v in row.items() if k in CONTRACT}, "source": source}
        unknown = {k: v for k, v in row.items() if k not in CONTRACT}
        return {**body, "extra": {**unknown, **(row.get("extra") or {})}} if unknown else body
    text = _first(row, TEXT_KEYS) or json.dumps(row, ensure_ascii=False)
    title = _first(row, TITLE_KEYS) or text.strip()[:60]
    reference = _first(row, REFERENCE_KEYS) or f"line-{line:05d}"
    system = re.sub(r"[^\x21-\x7e]+", "-", _first(row, ("source", "system", "来源"))).strip("-")
    # each row an enterprise of its own: two callers nobody knows are not the same caller
    name = _first(row, NAME_KEYS) or f"{UNNAMED}（{reference}）"
    used = {"title", "description", "text", "id", "source"}
    kept = {k: v for k, v in row.items() if k not in used or not isinstance(v, str)}
    # received_at stays among these: the original came years ago, and as the ticket's own it would be overdue at once
    extra = {k[:200]: v if _small(v) else json.dumps(v, ensure_ascii=False)[:2000] for k, v in list(kept.items())[:200]}
    return {
        "source": {"system": system[:64] or "file", "reference": reference[:110], "channel": "file"},
        "title": title[:500],
        "description": text[:20_000],
        "enterprise": {"name": name[:200]},
        "extra": extra,
    }


def _small(value: Any) -> bool:
    return not isinstance(value, list | dict) and (not isinstance(value, int) or abs(value) < 2**53)


def _first(row: Mapping[str, Any], keys: Iterable[str]) -> str:
    for key in keys:
        value = row.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""
