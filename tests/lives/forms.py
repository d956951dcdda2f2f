"""Forms as somebody would fill them in: drawn from the JSON Schema that the API itself offers for an action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

from jsonschema import Draft202012Validator

Known = Mapping[str, Sequence[Any]]
"""Kind of a value (`x-kind` of a schema, or the name of a field) -> values that exist in the city."""
OFTEN = 0.4
"""How often a field that may be left out is filled in."""
TEXTS = ("已与企业电话沟通", "请按政策尽快办理", "The firm was told by phone.", "材料已收到，正在核实", "无")


def filled(schema: Mapping[str, Any], rng: Random, known: Known, now: datetime, name: str = "") -> Any:
    """A value that this schema allows, as far as a schema tells. Raises ValueError for a type that no form has had yet."""
    kind = schema.get("x-kind", name)
    if "enum" in schema:
        return rng.choice(schema["enum"])
    match schema["type"]:
        case "object":
            return _object(schema, rng, known, now)
        case "array":
            least = schema.get("minItems", 0)
            size = rng.randint(least, max(least, min(schema["maxItems"], least + 2)))
            items = [filled(schema["items"], rng, known, now, name) for _ in range(size)]
            return list(dict.fromkeys(items)) if schema.get("uniqueItems") else items
        case "boolean":
            return rng.random() < 0.7
        case "integer":
            return rng.randint(schema["minimum"], min(schema["maximum"], schema["minimum"] + 20))
        case "string":
            return rng.choice(known[kind]) if known.get(kind) else _text(schema, rng, now)
    raise ValueError(f"a form has a {schema['type']!r}")


def _object(schema: Mapping[str, Any], rng: Random, known: Known, now: datetime) -> dict[str, Any]:
    parts: Mapping[str, Any] = schema.get("properties", {})
    required = set(schema.get("required", ()))
    made = {n: filled(part, rng, known, now, n) for n, part in parts.items() if n in required or rng.random() < OFTEN}
    if "if" in schema:
        branch = schema.get("then" if Draft202012Validator(schema["if"]).is_valid(made) else "else", {})
        missing = set(branch.get("required", ())) - made.keys()
        made |= {n: filled(parts[n], rng, known, now, n) for n in sorted(missing)}
    return made


def _text(schema: Mapping[str, Any], rng: Random, now: datetime) -> str:
    if schema.get("format") == "date":
        return (now + timedelta(days=rng.randint(1, 90))).date().isoformat()
    text = rng.choice(TEXTS)
    return (text * (1 + schema.get("minLength", 0) // len(text)))[: schema["maxLength"]]
