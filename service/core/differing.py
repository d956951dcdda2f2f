"""What two versions of a workflow say differently, told so that its owner can read it aloud.

Paths are those of the file (`clocks.resolve.budget`); a step of a ladder is named, not counted (`rungs.yellow`). Each
difference carries the titles of the nearest thing that has any, and a line in Chinese and English.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SECTIONS = {
    "stages": ("环节", "stage"),
    "clocks": ("时限", "clock"),
    "actions": ("操作", "action"),
    "approvals": ("审批", "approval"),
    "review": ("一事一议", "review"),
    "open": ("新工单", "new ticket"),
}
ABSENT: Any = object()
SHOWN = 120
"""Longer values are cut in the line for people; `before` and `after` have them whole."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not the same. `kind`: added, removed or changed. `title`: of the clock, stage … it belongs to."""

    path: str
    kind: str
    before: Any
    after: Any
    title: Mapping[str, str] | None
    zh: str
    en: str

    def as_dict(self) -> dict[str, Any]:
        text = {"zh": self.zh, "en": self.en}
        told = {"path": self.path, "kind": self.kind, "before": self.before, "after": self.after}
        return {**told, "title": dict(self.title) if self.title else None, "text": text}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """What `after` says that `before` does not, and the reverse, in the order of the paths. Both: plain data of a workflow."""
    return [_told(path, a, b, titles) for path, a, b, titles in _walk((), before, after, ())]


_Step = tuple[tuple[str, ...], Any, Any, tuple[Mapping[str, str], ...]]


def _walk(path: tuple[str, ...], before: Any, after: Any, titles: tuple[Mapping[str, str], ...]) -> Iterator[_Step]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        title = _title(after) or _title(before)
        own = (*titles, title) if title else titles
        for key in sorted({*before, *after}):
            yield from _walk((*path, key), before.get(key, ABSENT), after.get(key, ABSENT), own)
        return
    old, new = _by_name(before), _by_name(after)
    if old is not None and new is not None:
        if list(old) != list(new) and set(old) == set(new):
            yield path, list(old), list(new), titles
        for key in dict.fromkeys([*old, *new]):
            yield from _walk((*path, key), old.get(key, ABSENT), new.get(key, ABSENT), titles)
        return
    found = [t for t in (_title(after), _title(before)) if t]
    yield path, before, after, (*titles, *found[:1])


def _title(value: Any) -> Mapping[str, str] | None:
    title = value.get("title") if isinstance(value, Mapping) else None
    return title if isinstance(title, Mapping) and {"zh", "en"} <= set(title) else None


def _by_name(value: Any) -> dict[str, Any] | None:
    """A list whose entries all have a name of their own, by that name."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return None
    named = {e["name"]: e for e in value if isinstance(e, Mapping) and isinstance(e.get("name"), str)}
    return named if len(named) == len(value) else None


def _told(path: tuple[str, ...], before: Any, after: Any, titles: Sequence[Mapping[str, str]]) -> Difference:
    kind = "added" if before is ABSENT else "removed" if after is ABSENT else "changed"
    title = titles[-1] if titles else None
    zh, en = SECTIONS.get(path[0], ("流程", "workflow"))
    # the section's own entry (`clocks.resolve`) is said by its title
    whole = path[0] in SECTIONS and len(path) == 2
    rest = ".".join(path[2:] if path[0] in SECTIONS and len(path) > 2 else path)
    name_zh = f"{zh}“{title['zh'] if title else path[-1]}”"
    name_en = f'{en} "{title["en"] if title else path[-1]}"'
    if whole and kind != "changed":
        told = (f"{'新增' if kind == 'added' else '删除'}{name_zh}", f"{kind} {name_en}")
    else:
        old, new = _short(before), _short(after)
        told = (
            f"{name_zh}的 {rest}：{old or '（无）'} → {new or '（无）'}",
            f"{name_en}: {rest}: {old or 'none'} -> {new or 'none'}",
        )
    return Difference(
        ".".join(path), kind, None if before is ABSENT else before, None if after is ABSENT else after, title, *told
    )


def _short(value: Any) -> str:
    if value is ABSENT:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
