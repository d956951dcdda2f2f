"""What a city sets about the desks its people work at (workflows/desk.yaml): repeats, contacts, attachments, progress, texts.

Each class is a part of the file with its defaults; `workflows/README.md` explains every key.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from service.core.documents import Part, TextDoc, parsed
from service.core.errors import DefinitionError
from service.core.model import Phase

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Share = Annotated[float, Field(ge=0, le=1)]


class Similar(Part):
    """When two requests of one enterprise are taken for the same (重复诉求)."""

    lookback_days: int = Field(180, ge=1, le=3660)
    most: int = Field(20, ge=1, le=100)
    propose_from: Share = 0.5
    same_matter: Share = 0.15
    no_new_fact_below: Share = 0.25
    repeat_days: int = Field(30, ge=1, le=3660)


class Contacts(Part):
    """How often an enterprise is contacted in a week, by all units together (无事不扰)."""

    per_week: int = Field(3, ge=0, le=1000)
    over: Literal["refuse", "warn"] = "warn"
    actions: tuple[str, ...] = ("log_contact",)
    owed: str | None = "contact"
    count_unreached: bool = False


class FileType(Part):
    """A kind of file: what its name may end with, and how its bytes begin (in hex; `contains`: what stands further on)."""

    endings: tuple[str, ...] = Field(min_length=1)
    media_type: Annotated[str, StringConstraints(pattern=r"^[a-z]+/[a-z0-9.+-]+$")]
    starts: tuple[str, ...] = ()
    at: int = Field(0, ge=0, le=512)
    contains: tuple[str, ...] = ()
    text: bool = False

    @field_validator("starts", "contains")
    @classmethod
    def _hex(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(signature and bytes.fromhex(signature) for signature in value):
            raise ValueError("expected bytes in hex")
        return value

    @model_validator(mode="after")
    def _told_by_its_bytes(self) -> FileType:
        if bool(self.starts) == self.text:
            raise ValueError("expected `starts`, or `text: true`")
        return self

    def fits(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes is of this kind."""
        if self.text:
            return _is_text(head)
        begins = any(head[self.at :].startswith(bytes.fromhex(s)) for s in self.starts)
        return begins and (not self.contains or any(bytes.fromhex(c) in head for c in self.contains))


HEAD_BYTES = 64 * 1024
"""How much of a file is looked at to tell its kind."""


def _is_text(head: bytes) -> bool:
    """Chinese or other text, and nothing a browser would take for a page."""
    if b"\x00" in head:
        return False
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:512].lower()
    if start.startswith((b"<", b"%!", b"%pdf", b"{\\rtf")):
        return False
    for encoding in ("utf-8", "gb18030"):
        try:
            head.decode(encoding)
        except UnicodeDecodeError as error:
            # the last character may be cut by the end of what is looked at
            if len(head) < HEAD_BYTES or error.start < len(head) - 4:
                continue
        return True
    return False


class Attachments(Part):
    max_bytes: int = Field(50 * 2**20, ge=1, le=2**33)
    per_ticket: int = Field(100, ge=1, le=10_000)
    unfinished_minutes: int = Field(60, ge=5, le=1440)
    types: Mapping[str, FileType] = {}

    def kind_of(self, name: str) -> FileType | None:
        """The kind that a file of this name claims to be."""
        ending = name.rpartition(".")[2].lower() if "." in name else ""
        return next((t for t in self.types.values() if ending in t.endings), None)


class Progress(Part):
    """What an enterprise sees of its own request by a link."""

    days: int = Field(30, ge=1, le=366)
    longest_days: int = Field(90, ge=1, le=366)
    stages: Mapping[Phase, TextDoc] = {}
    answered_in: tuple[Phase, ...] = (Phase.CALLBACK, Phase.CLOSED)
    phone: str | None = None


class Template(Part):
    """A text to begin with; `{…}` names what is put in."""

    title: Name
    text: Annotated[str, StringConstraints(min_length=1, max_length=5000)]
    action: str = "submit_reply"
    matter: str | None = None


class Desk(Part):
    similar: Similar = Similar()
    contacts: Contacts = Contacts()
    attachments: Attachments = Attachments()
    progress: Progress = Progress()
    templates: Mapping[str, Template] = {}


def parse_desk(plain: Mapping[str, Any]) -> Desk:
    """Raises DefinitionError with the path of the first fault."""
    desk = parsed(Desk, plain)
    for key, template in desk.templates.items():
        if unknown := unknown_places(template.text):
            told = f"there is nothing called {unknown[0]!r} to put in; there are: {', '.join(PLACES)}"
            raise DefinitionError(told, ("templates", key, "text"))
    return desk


# --- texts with places ---------------------------------------------------------------------------------------------------

PLACES = ("number", "title", "enterprise", "department", "received_on", "today", "due_on")
"""What `{…}` in a template may name."""


def unknown_places(text: str) -> list[str]:
    return [name for name, known in _places(text) if not known]


def filled(text: str, values: Mapping[str, str | None]) -> str:
    """The text with its places filled; one of which nothing is known stays, for a person to see."""
    for name, known in _places(text):
        if known and values.get(name):
            text = text.replace("{" + name + "}", str(values[name]))
    return text


def _places(text: str) -> list[tuple[str, bool]]:
    names = dict.fromkeys(part.partition("}")[0] for part in text.split("{")[1:] if "}" in part)
    return [(name, name in PLACES) for name in names]


def monday_of(day: date) -> date:
    """The week that a day belongs to."""
    return day - timedelta(days=day.weekday())
