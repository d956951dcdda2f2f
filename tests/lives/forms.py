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
    """A value that this schema allows, as far as a schema tells. Raises NotImplementedError for a word unknown here."""
    kind = schema.get("x-kind", name)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if kind in known and known[kind] and schema.get("type") == "string":
        return rng.choice(known[kind])
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            offered = [s for s in schema[choice] if s.get("type") != "null"]
            return filled(rng.choice(offered), rng, known, now, name)
    given = schema.get("type", "object")
    given = next(t for t in given if t != "null") if isinstance(given, list) else given
    if given == "object":
        return _object(schema, rng, known, now)
    if given == "array":
        least, most = schema.get("minItems", 0), schema.get("maxItems", 3)
        size = rng.randint(least, max(least, min(most, least + 2)))
        items = [filled(schema.get("items", {"type": "string"}), rng, known, now, name) for _ in range(size)]
        return [item for n, item in enumerate(items) if item not in items[:n]] if schema.get("uniqueItems") else items
    if given == "boolean":
        return rng.random() < 0.7
    if given in {"integer", "number"}:
        least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in schema))
        return rng.randint(least, min(schema.get("maximum", least + 20), least + 20))
    if given == "string":
        return _text(schema, rng, now, name)
    raise NotImplementedError(f"a form has a {given!r}")


def _object(schema: Mapping[str, Any], rng: Random, known: Known, now: datetime) -> dict[str, Any]:
    parts: Mapping[str, Any] = schema.get("properties", {})
    required = set(schema.get("required", ()))
    made = {n: filled(part, rng, known, now, n) for n, part in parts.items() if n in required or rng.random() < OFTEN}
    if "if" in schema:
        branch = schema.get("then" if Draft202012Validator(schema["if"]).is_valid(made) else "else", {})
        missing = set(branch.get("required", ())) - made.keys()
        made |= {n: filled(parts[n], rng, known, now, n) for n in sorted(missing)}
    return made


def _text(schema: Mapping[str, Any], rng: Random, now: datetime, name: str) -> str:
    form = schema.get("format")
    if form == "date" or name.endswith(("_on", "date")):
        return (now + timedelta(days=rng.randint(1, 90))).date().isoformat()
    if form == "date-time" or name.endswith("_at"):
        return (now + timedelta(days=rng.randint(-2, 40))).isoformat()
    least, most = schema.get("minLength", 0), schema.get("maxLength", 2000)
    text = rng.choice(TEXTS)
    return (text * (1 + least // len(text)))[: max(least, most)]
