"""Minutes of a meeting (会议纪要): the document as a value, what must hold of it before it is signed, and its hash.

    draft --check--> checked --sign--> signed --issue (numbered)--> issued
      ^-- draft again --+

A document is never changed: each step writes a further version, and each version holds the hash of the one before (P5).
What was issued is only corrected by another document that names it. Two texts are made of one document: the internal
one and, for each matter, the extract for its enterprise (`core.papers`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date
from typing import Any

from pydantic import TypeAdapter

from service.core.history import canonical

STEPS = ("draft", "check", "sign", "issue")
STATES = {"draft": "draft", "check": "checked", "sign": "signed", "issue": "issued"}
"""Step -> the state that it leads to."""
FROM = {
    "draft": frozenset({"draft", "checked"}),
    "check": frozenset({"draft", "checked"}),
    "sign": frozenset({"checked"}),
    "issue": frozenset({"signed"}),
}
"""Step -> the states in which it is possible."""
BINDING = frozenset({"approve", "approve_with_conditions", "refuse"})
"""Decisions that settle the matter, and so can be a precedent."""
OPEN_ITEM = "listed"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody at the table. `unit` is a title such as 市税务局; `substitute`: who came in his or her place."""

    name: str
    unit: str = ""
    position: str = ""
    substitute: str = ""
    reason: str = ""
    department: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Attendance:
    chair: Person | None = None
    recorder: Person | None = None
    present: tuple[Person, ...] = ()
    absent: tuple[Person, ...] = ()
    observers: tuple[Person, ...] = ()
    undecided: tuple[Person, ...] = ()
    """Of whom nobody wrote down whether they came."""


@dataclass(frozen=True, slots=True)
class Stance:
    """A unit's written opinion. `position`: agree, disagree, condition; None: it was asked and kept silent."""

    unit: str
    position: str | None
    text: str = ""
    legal_basis: str = ""


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition for deciding at all. `result`: requested, passed, failed, waived."""

    name: str
    result: str
    ground: str = ""
    legal_basis: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A measure as the meeting decided it (议定事项). `due_on`: ISO date."""

    title: str
    owner: str | None
    owner_title: str
    due_on: str | None
    co_units: tuple[str, ...] = ()
    deliverable: str = ""
    evidence_type: str = ""
    mandatory: bool = True
    resource: str | None = None
    quantity: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One matter of the agenda. `state`: listed (nothing decided), decided, postponed, referred, withdrawn."""

    review_id: str
    number: str
    kind: str
    enterprise: str
    subject: str
    state: str
    decision: str | None = None
    matter: str | None = None
    asked: str = ""
    considered: str = ""
    text: str = ""
    extract: str = ""
    """What the enterprise is told instead of `text`."""
    conditions: str = ""
    postponed_to: str | None = None
    referred_to: str | None = None
    stances: tuple[Stance, ...] = ()
    gates: tuple[Gate, ...] = ()
    votes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """for, against, abstain -> titles of units; empty where the chair summed up."""
    dissents: tuple[Mapping[str, str], ...] = ()
    recused: tuple[Mapping[str, str], ...] = ()
    measures: tuple[Task, ...] = ()
    legal_grounds: tuple[str, ...] = ()
    valid_until: str | None = None
    """How long the decision is a precedent; None: until it is withdrawn."""


@dataclass(frozen=True, slots=True)
class Minutes:
    """The whole document. Instants are ISO text in the city's zone; `number` is None until it is issued.

    `mark` is the red head (纪要标志), `office` who issues it, `series` whose numbers it takes. `quorum`: None where nobody
    said whether there was one. `corrects`: {number, sha256, reason} of the issued document that this one corrects.
    """

    meeting: str
    tier: int
    held_at: str
    place: str
    mark: str
    office: str
    series: str
    title: str
    attendance: Attendance
    items: tuple[Item, ...]
    opening: str = ""
    quorum: bool | None = None
    number: str | None = None
    issued_on: str | None = None
    signature: Mapping[str, str] | None = None
    corrects: Mapping[str, str] | None = None
    follows: str | None = None
    """Hash of the document that has the number before in its series and year; "" for the first."""


_AS_JSON = TypeAdapter(Minutes)


def to_body(document: Minutes) -> dict[str, Any]:
    """The document as it is stored and hashed: JSON values only."""
    body: dict[str, Any] = _AS_JSON.dump_python(document, mode="json")
    return body


def of_body(body: Mapping[str, Any]) -> Minutes:
    return _AS_JSON.validate_python(body)


# --- what must hold before somebody signs ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """What stands against signing. `pointer` is a JSON Pointer into the document."""

    pointer: str
    zh: str
    en: str


def findings(document: Minutes) -> tuple[Finding, ...]:
    """Everything that is missing or contradicts itself; empty: it can be signed."""
    found = [*_of_the_meeting(document)]
    if not document.items:
        found.append(Finding("/items", "没有议题", "there is no item on the agenda"))
    for n, item in enumerate(document.items):
        others = tuple({i.enterprise for i in document.items if i.enterprise} - {item.enterprise})
        found += _of_an_item(f"/items/{n}", item, others)
    return tuple(found)


def _of_the_meeting(document: Minutes) -> Iterator[Finding]:
    attendance = document.attendance
    if attendance.chair is None:
        yield Finding("/attendance/chair", "没有记录主持人", "nobody is recorded as having chaired it")
    if attendance.undecided:
        yield Finding(
            "/attendance", "有人未记录到会情况", "of somebody who was invited it is not recorded whether he came"
        )
    if document.quorum is None:
        yield Finding("/quorum", "没有记录是否达到法定人数", "it is not recorded whether there was a quorum")
    elif not document.quorum:
        yield Finding("/quorum", "未达到法定人数", "there was no quorum")


def _of_an_item(at: str, item: Item, others: tuple[str, ...]) -> Iterator[Finding]:
    if item.state == OPEN_ITEM or (item.decision is None and item.state != "withdrawn"):
        yield Finding(f"{at}/decision", f"{item.number} 没有作出决定", f"nothing is decided on {item.number}")
    if item.state == "decided" and not item.text.strip():
        yield Finding(f"{at}/text", "没有写明决定内容", "the decision is not written out")
    if item.decision == "approve_with_conditions" and not item.conditions.strip():
        yield Finding(
            f"{at}/conditions", "附条件同意但没有写明条件", "it is approved with conditions, and none is named"
        )
    if item.decision == "postpone" and not item.postponed_to:
        yield Finding(f"{at}/postponed_to", "延期审议但没有写明日期", "it is postponed without a date")
    if item.state == "decided" and item.decision in {"approve", "approve_with_conditions"}:
        for gate in item.gates:
            if gate.result == "waived" and not gate.ground.strip():
                yield Finding(f"{at}/gates", f"{gate.name} 免审没有依据", f"{gate.name} was waived without a ground")
            elif gate.result not in {"passed", "waived"}:
                yield Finding(f"{at}/gates", f"{gate.name} 未通过", f"{gate.name} is {gate.result}, not passed")
    voted = {unit for units in item.votes.values() for unit in units}
    for person in item.recused:
        if person.get("unit") and person["unit"] in voted:
            yield Finding(f"{at}/votes", "应回避的单位参加了表决", "a unit that stood aside is among those that voted")
    for n, task in enumerate(item.measures):
        if not task.owner:
            yield Finding(f"{at}/measures/{n}/owner", "议定事项没有责任单位", "a measure has no owner")
        if not task.due_on or not _is_date(task.due_on):
            yield Finding(f"{at}/measures/{n}/due_on", "议定事项没有完成时限", "a measure has no due date")
    tasks = (text for t in item.measures for text in (t.title, t.deliverable))
    told = "\n".join((item.subject, item.extract or item.text, item.conditions, *tasks))
    for what in leaks(told, others):
        yield Finding(f"{at}/extract", f"发给企业的文本含有{what[0]}", f"the enterprise's text holds {what[1]}")


_PRIVATE = (
    (re.compile(r"(?<!\d)1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?!\d)"), ("手机号码", "a mobile number")),
    (re.compile(r"(?<!\d)0\d{2,3}[- ]?\d{7,8}(?!\d)"), ("电话号码", "a telephone number")),
    (re.compile(r"(?<![0-9A-Za-z])\d{17}[0-9Xx](?![0-9A-Za-z])"), ("身份证号码", "an identity number")),
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+"), ("电子邮箱", "an e-mail address")),
)


def leaks(text: str, others: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What the enterprise's text may not hold: contact data, and the names of other enterprises. (zh, en)."""
    for pattern, what in _PRIVATE:
        if pattern.search(text):
            yield what
    if any(name in text for name in others):
        yield "其他企业的名称", "the name of another enterprise"


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


# --- numbers and hashes ----------------------------------------------------------------------------------------------


def number_of(year: int, serial: int) -> str:
    """GB/T 9704-2012, 7.2.5: the year in full in hexagonal brackets, the serial without leading zeros."""
    return f"〔{year}〕{serial}号"


def digest(row: Mapping[str, Any]) -> str:
    """SHA-256 over everything that a version says, with the hash before it. `row`: as stored, `at` an aware instant."""
    said = {name: row[name] for name in ("minutes_id", "version", "step", "body", "by", "prev")}
    return hashlib.sha256(canonical({**said, "at": row["at"].astimezone(UTC).isoformat()})).hexdigest()


def verify(document: Mapping[str, Any], versions: Iterable[Mapping[str, Any]]) -> str | None:
    """What was altered in a stored document, or None. `versions` in their order, as stored."""
    head, expected, last = "", 1, None
    for row in versions:
        where = f"version {row['version']} ({row['step']})"
        if row["version"] != expected or row["prev"] != head:
            return f"{where} does not follow version {expected - 1}"
        if row["sha256"] != digest(row):
            return f"{where} is not what was written: its hash differs"
        expected, head, last = expected + 1, row["sha256"], row
    if last is None or head != document["sha256"]:
        return "its last version is missing or another one"
    if document["state"] != STATES[last["step"]]:
        return f"it says {document['state']}, its last version {STATES[last['step']]}"
    if document["number"] != last["body"]["number"]:
        return "its number is not the one of its text"
    return None


def verify_series(issued: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Gaps and breaks among the issued documents of one series and year: (where, what). In the order of their serials.

    `issued`: serial, number, sha256 and `follows`, the hash of the document that has the number before.
    """
    before, expected = "", 1
    for row in issued:
        if row["serial"] != expected:
            yield row["number"], f"number {expected} of the year is missing"
        elif row["follows"] != before:
            yield row["number"], "it does not follow the document that has the number before"
        before, expected = row["sha256"], row["serial"] + 1
