"""What a condition (CEL) can come to when only a part of what it reads is known.

A condition is not interpreted here: the real program is run on every combination of the values that what it reads can
have. Values that no literal of the condition tells apart count as one, so the combinations are few. What is read falls
into three kinds: known (a stage, a clock), fate (counters, the round, facts of the ticket: nobody chooses them) and the
form (the person who acts chooses it). A condition of another build than comparisons of fields with literals is
`opaque`: it is taken to come to anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from typing import Any

import cel
from jsonschema import Draft202012Validator

Read = tuple[str, ...]
"""What a condition reads: ("counters", "pauses"), ("clocks", "resolve", "open")."""

MOST_COMBINATIONS = 12_000
MOST_SAMPLED = 1000
"""Characters of a text, entries of a list: no form that people fill in wants more."""
_STRING = re.compile(r'"([^"\\]*)"|\'([^\'\\]*)\'')
_READ = re.compile(r"\b(form|ticket|leg|legs|counters|pending|clocks|review)((?:\.[A-Za-z_][A-Za-z0-9_]*)+)")
_NUMBER = re.compile(r"(?<![\w.])[0-9]+(?![\w.])")
_PLAIN = re.compile(r"(?:\s|has\(|\(|\)|\[|\]|,|&&|\|\||!=|==|<=|>=|<|>|!|\?|:|\bin\b|\btrue\b|\bfalse\b|@)*")
_CALL = re.compile(r"\.[A-Za-z_][A-Za-z0-9_]*\s*\(")
_OTHER = "another"


@dataclass(frozen=True, slots=True)
class Shape:
    """What stands in a condition: what it reads, the literals it compares with, and whether it is opaque."""

    reads: frozenset[Read]
    texts: frozenset[str]
    numbers: frozenset[int]
    opaque: bool


@cache
def shape(source: str) -> Shape:
    texts = frozenset(a or b for a, b in _STRING.findall(source))
    rest = _STRING.sub("@", source)
    called = _CALL.search(rest) is not None
    rest = _CALL.sub("(", rest)
    reads = frozenset((root, *path[1:].split(".")) for root, path in _READ.findall(rest))
    numbers = frozenset(int(n) for n in _NUMBER.findall(rest))
    opaque = called or _PLAIN.fullmatch(_NUMBER.sub("@", _READ.sub("@", rest))) is None
    return Shape(reads, texts, numbers, opaque)


@cache
def _program(source: str) -> Any:
    return cel.compile(source)


@dataclass(frozen=True, slots=True)
class Broken:
    """A condition that cannot be computed: which (None: the guard, else the branch), and what it read in vain."""

    branch: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Outcomes:
    """`by_fate`: for each course of what nobody chooses, the branches that a form can lead to (none: not possible)."""

    by_fate: tuple[tuple[Mapping[Read, Any], frozenset[int]], ...]
    broken: tuple[Broken, ...]
    possible: tuple[int, ...]
    """Every branch that can be taken in some course of fate."""


def _outcomes(by_fate: list[tuple[Mapping[Read, Any], frozenset[int]]], broken: Iterable[Broken]) -> Outcomes:
    possible = frozenset[int]().union(*(branches for _, branches in by_fate))
    return Outcomes(tuple(by_fate), tuple(dict.fromkeys(broken)), tuple(sorted(possible)))


def whole_shape(sources: Iterable[str]) -> Shape:
    """Of several conditions that are looked at together."""
    shapes = [shape(s) for s in sources]
    return Shape(
        frozenset[Read]().union(*(s.reads for s in shapes)),
        frozenset[str]().union(*(s.texts for s in shapes)),
        frozenset[int]().union(*(s.numbers for s in shapes)),
        any(s.opaque for s in shapes),
    )


@lru_cache(maxsize=4096)
def choice(
    guard: str | None,
    whens: tuple[str | None, ...],
    form: str | None,
    known: tuple[Read, ...],
    fates: tuple[tuple[Read, tuple[Any, ...]], ...],
) -> Choice:
    """Workflows share most of their conditions: what was found out once is kept."""
    return Choice(guard, whens, form, known, fates)


class Choice:
    """A guard with the branches that follow it: which of them can be taken.

    `known`: what is read and known; `fates`: what is read and nobody chooses, each with the values it can have.
    """

    def __init__(
        self,
        guard: str | None,
        whens: tuple[str | None, ...],
        form: str | None,
        known: tuple[Read, ...],
        fates: tuple[tuple[Read, tuple[Any, ...]], ...],
    ) -> None:
        self._guard, self._whens, self.known = guard, whens, known
        whole = whole_shape(s for s in (guard, *whens) if s is not None)
        self.opaque = whole.opaque
        fated = [read for read, _ in fates]
        self._fates = [dict(zip(fated, values, strict=True)) for values in product(*(ways for _, ways in fates))]
        asked = tuple(sorted({r[1] for r in whole.reads if r[0] == "form"}))
        self._forms: Sequence[Mapping[str, Any]] = _forms(form, asked, whole.texts, whole.numbers)
        if len(self._fates) * len(self._forms) > MOST_COMBINATIONS:
            self.opaque = True
        self._cache: dict[tuple[Any, ...], Outcomes] = {}
        self._guarded, self._taken = [
            [] if self.opaque else [_Condition(c, self._fates, self._forms) for c in conditions]
            for conditions in ((guard,), whens)
        ]

    def outcomes(self, values: tuple[Any, ...]) -> Outcomes:
        """`values`: of `known`, in its order."""
        found = self._cache.get(values)
        if found is None:
            found = self._cache[values] = self._compute(dict(zip(self.known, values, strict=True)))
        return found

    def _compute(self, known: Mapping[Read, Any]) -> Outcomes:
        everything = frozenset(range(len(self._whens)))
        if self.opaque:
            return _outcomes([({}, everything), ({}, frozenset())], ())
        by_fate: list[tuple[Mapping[Read, Any], frozenset[int]]] = []
        broken: list[Broken] = []
        for condition in (*self._guarded, *self._taken):
            condition.know(known)
        for f, fate in enumerate(self._fates):
            taken = set()
            guarded = all(_noted(guard.came_to(f, 0), None, broken) for guard in self._guarded)
            for m in range(len(self._forms)) if guarded else ():
                for n, when in enumerate(self._taken):
                    if _noted(when.came_to(f, m), n, broken):
                        taken.add(n)
                        break
                if len(taken) == len(everything):
                    break
            by_fate.append((fate, frozenset(taken)))
        return _outcomes(by_fate, broken)


def _noted(came_to: bool | str, branch: int | None, broken: list[Broken]) -> bool:
    if isinstance(came_to, str):
        broken.append(Broken(branch, came_to))
    return came_to is True


class _Condition:
    """A condition under every fate and form, and under what is `known` for a while.

    Each operand of its `&&` reads little of all that, so it comes to the same under many of them and is run once for these.
    """

    def __init__(
        self, source: str | None, fates: Sequence[Mapping[Read, Any]], forms: Sequence[Mapping[str, Any]]
    ) -> None:
        self._fates, self._forms = fates, forms
        self._parts = [(part, _reads(part)) for part in conjuncts(source)] if source is not None else []
        self._alike = [(_numbered(fates, reads), _numbered(forms, [r[1] for r in reads if r[0] == "form"]))
                       for _, reads in self._parts]  # fmt: skip
        self._known: Mapping[Read, Any] = {}
        self._found: list[dict[tuple[int, int], bool | str]] = []

    def know(self, known: Mapping[Read, Any]) -> None:
        self._known, self._found = known, [{} for _ in self._parts]

    def came_to(self, fate: int, form: int) -> bool | str:
        """As the conjunction of CEL: one operand that does not hold decides, whatever fails beside it."""
        failed: str | None = None
        for (part, reads), (fates, forms), found in zip(self._parts, self._alike, self._found, strict=True):
            key = fates[fate], forms[form]
            held = found.get(key)
            if held is None:
                values, filled = {**self._known, **self._fates[fate]}, self._forms[form]
                read = tuple((r, _frozen(filled.get(r[1])) if r[0] == "form" else values[r]) for r in reads)
                held = found[key] = _came_to(part, read)
            if held is False:
                return False
            if held is not True:
                failed = failed or held
        return True if failed is None else failed


def _numbered(values: Sequence[Mapping[Any, Any]], reads: Sequence[Any]) -> list[int]:
    """A number for each: the same for those that do not differ in what is read."""
    seen: dict[tuple[Any, ...], int] = {}
    return [seen.setdefault(tuple(_frozen(v.get(r)) for r in reads), len(seen)) for v in values]


@cache
def conjuncts(source: str) -> tuple[str, ...]:
    """The operands of the `&&` at the top of a condition; the whole where it is built otherwise.

    Each is again joined with `true`, as an operand that is no boolean is an error and not its truth value.
    """
    if "'''" in source or '"""' in source:
        return (source,)
    plain = _STRING.sub(lambda text: "@" * len(text.group()), source)
    depth, start, parts = 0, 0, []
    for n, sign in enumerate(plain):
        depth += (sign in "([{") - (sign in ")]}")
        if sign in "\"'\\?" or plain.startswith("//", n) or (depth == 0 and plain.startswith("||", n)):
            return (source,)
        if depth == 0 and plain.startswith("&&", n):
            parts.append(source[start:n])
            start = n + 2
    parts.append(source[start:])
    return (source,) if len(parts) == 1 else tuple(f"({part.strip()}) && true" for part in parts)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


@cache
def _reads(source: str) -> tuple[Read, ...]:
    return tuple(sorted(shape(source).reads))


@lru_cache(maxsize=1 << 16)
def _came_to(source: str, read: tuple[tuple[Read, Any], ...]) -> bool | str:
    """Whether the condition holds of what it reads (None: not there), or why that cannot be said."""
    try:
        return bool(_program(source).execute(_context(dict(read))))
    except KeyError as error:
        return f"it reads {error.args[0]!r}, which need not be there"
    except (TypeError, ValueError):
        return "it compares values of different kinds"


def _context(values: Mapping[Read, Any]) -> dict[str, Any]:
    context: dict[str, Any] = {
        root: {} for root in ("form", "ticket", "leg", "legs", "counters", "pending", "clocks", "review")
    }
    for path, value in values.items():
        if value is None:
            continue  # not there: reading it is the fault to be found
        inner = context
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = list(value) if isinstance(value, tuple) else value
    return context


def numbers_around(literals: frozenset[int], least: int) -> list[int]:
    """One number for each class that comparisons with the literals tell apart, the greatest standing for all above."""
    around = {least, *(n + d for n in literals for d in (-1, 0, 1))}
    return sorted(n for n in around if n >= least)


def texts_of(literals: frozenset[str]) -> list[str]:
    return sorted({*literals, _OTHER})


# --- forms ---------------------------------------------------------------------------------------------------------


def _forms(
    form: str | None, asked: tuple[str, ...], texts: frozenset[str], numbers: frozenset[int]
) -> list[dict[str, Any]]:
    """The forms that conditions can tell apart: the fields they read, each in each of its ways, as the schema allows."""
    if not asked or form is None:
        return [{}]
    schema = json.loads(form)
    fields, required = schema.get("properties", {}), set(schema.get("required", ()))
    ways = [_ways(fields.get(name, {}), name in required, texts, numbers) for name in asked]
    size = 1
    for way in ways:
        size *= len(way)
    if size > MOST_COMBINATIONS:
        return [{}] * (MOST_COMBINATIONS + 1)
    validator = Draft202012Validator(schema)
    rest = {name: sample(fields.get(name, {})) for name in required - set(asked)}
    out = []
    for values in product(*ways):
        chosen = {name: value for name, value in zip(asked, values, strict=True) if value is not None}
        if validator.is_valid({**rest, **chosen}) or not validator.is_valid(rest | _filled(schema, chosen)):
            out.append(chosen)
    return out


def _filled(schema: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """A form that the schema takes, if samples can make one; a schema beyond them rules nothing out."""
    fields = schema.get("properties", {})
    return {**{n: sample(s) for n, s in fields.items()}, **{n: sample(fields.get(n, {})) for n in chosen}}


def _ways(schema: Mapping[str, Any], required: bool, texts: frozenset[str], numbers: frozenset[int]) -> list[Any]:
    ways: list[Any] = [] if required else [None]
    if "enum" in schema:
        named = [v for v in schema["enum"] if v in texts or v in numbers]
        return ways + named + [v for v in schema["enum"] if v not in named][:1]
    kind = schema.get("type")
    if kind == "boolean":
        return [*ways, True, False]
    if kind in {"integer", "number"}:
        least, most = schema.get("minimum", 0), schema.get("maximum")
        return ways + [n for n in numbers_around(numbers | {least}, least) if most is None or n <= most]
    if kind == "array":
        return [*ways, sample(schema)]
    return [*ways, *texts_of(texts)]


def sample(schema: Any) -> Any:
    """One value that a field's schema takes, for the kinds of fields that forms are made of."""
    if not isinstance(schema, Mapping):
        return "x"
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if kind in {"integer", "number"}:
        return schema.get("minimum", 1)
    if kind == "boolean":
        return True
    if kind == "array":
        return [sample(schema.get("items", {}))] * min(int(schema.get("minItems", 0)), MOST_SAMPLED)
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: sample(fields.get(name, {})) for name in schema.get("required", ())}
    if schema.get("format") == "date":
        return "2026-01-05"
    return "x" * min(max(1, int(schema.get("minLength", 1))), MOST_SAMPLED)
