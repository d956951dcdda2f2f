"""YAML files as plain data with the line of every key: what the workflow, routing and organisation files stand on.

The parser is libyaml's, by PyYAML (a pure one needs seconds for the routing rules); its events are built up here,
because what a process owner writes is less than YAML allows: one document of mappings with text keys, lists and plain
scalars of the core schema (YAML 1.2.2, section 10.3.2). Anchors, aliases, tags, keys said twice and deep nesting are
refused: a short file could otherwise unfold to gigabytes, or a key silently win over another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from service.core.errors import DefinitionError

MAX_FILE_BYTES = 1_000_000
MAX_DEPTH = 50

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTANTS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_CONSTANTS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OTHER_INTEGER = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""What neither PostgreSQL nor JSON keeps."""

Place = tuple[int, dict[str | int, Any]]
"""A line (from 1) and the places of what lies below it."""


def read_yaml(path: Path) -> Any:
    """One file as plain data, with text keys. Raises DefinitionError with the line of what is wrong."""
    return _read(path)[0]


def read_mapping(path: Path) -> dict[str, Any]:
    """One file of keys. Raises DefinitionError where it is empty or holds anything else."""
    plain = read_yaml(path)
    if not isinstance(plain, dict):
        raise DefinitionError(f"expected a mapping of keys; the file holds {_kind(plain)}", (), path.name, 1)
    return plain


def _kind(plain: Any) -> str:
    return "nothing" if plain is None else "a list" if isinstance(plain, list) else f"only {plain!r}"[:100]


def line_of(path: Path, keys: Sequence[str | int]) -> int:
    """The line (from 1) of the deepest of `keys` that the file holds."""
    return line_in((1, _read(path)[1][1]), keys)


def depth_of(path: Path, keys: Sequence[str | int]) -> int:
    """How many of `keys`, from the first on, the file holds."""
    depth, below = 0, _read(path)[1][1]
    while depth < len(keys) and keys[depth] in below:
        below = below[keys[depth]][1]
        depth += 1
    return depth


def _read(path: Path) -> tuple[Any, Place]:
    return read_text(_bounded(path), path.name)


def read_text(text: str, name: str) -> tuple[Any, Place]:
    """The value and the places of a text in YAML; `name` stands for its file in errors."""
    try:
        return _Reader(name, yaml.parse(text, Loader=_LOADER)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DefinitionError(str(error.problem), (), name, mark.line + 1 if mark else 1) from None
    except yaml.YAMLError as error:  # a control character
        raise DefinitionError(f"not readable as YAML: {str(error).splitlines()[0]}", (), name, 1) from None


def line_in(place: Place, keys: Sequence[str | int]) -> int:
    """The line (from 1) of the deepest of `keys` that lies below a place."""
    line, below = place
    for key in keys:
        if key not in below:
            break
        line, below = below[key]
    return line


def _bounded(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DefinitionError(f"the file is larger than {MAX_FILE_BYTES:,} bytes", (), path.name, 1)
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DefinitionError(f"cannot be read: {error.strerror}", (), path.name) from None
    except UnicodeDecodeError as error:
        line = 1 + error.object.count(b"\n", 0, error.start)
        raise DefinitionError("the file is not UTF-8", (), path.name, line) from None


class _Reader:
    """Builds the value and the places of one file's events."""

    def __init__(self, name: str, events: Iterator[Event]) -> None:
        self.name, self.events = name, events

    def document(self) -> tuple[Any, Place]:
        read: tuple[Any, Place] | None = None
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                if read is not None:
                    raise self._wrong("a file holds one document", event)
                read = self._node(next(self.events), MAX_DEPTH)
        return read or (None, (1, {}))

    def _node(self, event: Event, depth: int) -> tuple[Any, Place]:
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor is not None):
            raise self._wrong("anchors and aliases are not allowed: write the value out", event)
        if getattr(event, "tag", None) is not None:
            raise self._wrong("tags are not allowed: write the plain value", event)
        line = _line(event)
        if isinstance(event, ScalarEvent):
            return self._scalar(event), (line, {})
        if depth == 0:
            raise self._wrong(f"nested deeper than {MAX_DEPTH} levels", event)
        places: dict[str | int, Any] = {}
        if isinstance(event, SequenceStartEvent):
            items: list[Any] = []
            for item in self.events:
                if isinstance(item, SequenceEndEvent):
                    break
                value, places[len(items)] = self._node(item, depth - 1)
                items.append(value)
            return items, (line, places)
        assert isinstance(event, MappingStartEvent)
        pairs: dict[str, Any] = {}
        for key in self.events:
            if isinstance(key, MappingEndEvent):
                break
            if not isinstance(key, ScalarEvent) or key.anchor is not None or key.tag is not None:
                raise self._wrong("a key is plain text, without anchor, alias or tag", key)
            name = self._text(key)
            if name in pairs:
                raise self._wrong(f"the key {name!r} stands twice", key)
            pairs[name], (_, below) = self._node(next(self.events), depth - 1)
            places[name] = (_line(key), below)
        return pairs, (line, places)

    def _scalar(self, event: ScalarEvent) -> Any:
        text = self._text(event)
        if not event.implicit[0]:  # quoted, or a block of text
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if len(text) > 100 or (text[0] not in "+-." and not text[0].isdigit()):
            return text
        if _INTEGER.fullmatch(text):
            return int(text)
        if _OTHER_INTEGER.fullmatch(text):
            return int(text, 0)
        if not _FLOAT.fullmatch(text):
            return text
        if math.isinf(number := float(text)):
            raise self._wrong("a number that is larger than any that can be kept", event)
        return number

    def _text(self, event: ScalarEvent) -> str:
        text: str = event.value
        if _UNSTORABLE.search(text):
            raise self._wrong("a text holds no NUL and no half of a surrogate pair", event)
        return text

    def _wrong(self, detail: str, event: Event) -> DefinitionError:
        return DefinitionError(detail, (), self.name, _line(event))


def _line(event: Event) -> int:
    assert event.start_mark is not None  # the parsers always set it
    return event.start_mark.line + 1
