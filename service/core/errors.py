"""Every way in which the domain can say no. No HTTP here: `service.api.errors` maps the tree to problems.

JiebanError
├── Invalid             the request's content is wrong; names each field and what was expected
├── NotFound            absent, or not visible to this actor (never told apart)
├── Forbidden           the actor may see it, but this act is not for this role
├── Conflict            right request, wrong moment
│   ├── ActionNotPossible   names the stage and the actions that are possible
│   ├── Duplicate           the source reference is known with other content
│   ├── PreviewRequired     what this would change has not been looked at
│   ├── KeyReused           an idempotency key came back with another body
│   └── Busy                the same key, or the row, is being worked on right now
├── TooLarge            more was sent than is taken
├── WrongKind           a file of a kind that is not taken, or that is not what it says
├── Stale               If-Match named an older version
└── DefinitionError     a workflow, calendar or routing file is wrong; names file, line and path
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field. `pointer` is a JSON Pointer (RFC 6901) into the request's body, `detail` what was expected."""

    pointer: str
    detail: str


class JiebanError(Exception):
    """Base of all domain errors. `slug` names the problem type for ever; `detail` is for people."""

    slug = "internal"
    title = "Something went wrong"

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class Invalid(JiebanError):
    slug = "invalid-request"
    title = "The request is not valid"

    def __init__(self, detail: str, errors: Sequence[FieldError] = (), **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.errors = tuple(errors)

    @classmethod
    def field(cls, pointer: str, detail: str) -> Invalid:
        return cls("One field is not as expected.", [FieldError(pointer, detail)])


class TooLarge(JiebanError):
    slug = "too-large"
    title = "The request is too large"


class WrongKind(JiebanError):
    slug = "unsupported-media-type"
    title = "A file of this kind is not taken"


class NotFound(JiebanError):
    slug = "not-found"
    title = "Not found"


class Forbidden(JiebanError):
    slug = "forbidden"
    title = "Not allowed for this role"


class Conflict(JiebanError):
    slug = "conflict"
    title = "Not possible now"


class ActionNotPossible(Conflict):
    """Carries `stage`, `phase` and `actions` (names possible for this actor now) as extra members."""

    slug = "action-not-possible"
    title = "This action is not possible now"


class Duplicate(Conflict):
    slug = "duplicate-reference"
    title = "This source reference is already known with other content"


class PreviewRequired(Conflict):
    """Carries the preview: what would be moved, and the word that publishes it."""

    slug = "preview-required"
    title = "This moves due times: look at the preview and repeat with its word"


class KeyReused(JiebanError):
    slug = "idempotency-key-reused"
    title = "This Idempotency-Key was used with another body"


class Busy(Conflict):
    slug = "still-running"
    title = "The same request is still being carried out"


class Stale(JiebanError):
    slug = "stale-version"
    title = "It has changed since it was read"


class DefinitionError(JiebanError):
    """A configuration file is wrong. `path` is a tuple of keys; `file` and `line` are added by the loader.

    `steps`: the shortest way in which a ticket meets the fault, for people.
    """

    slug = "definition-invalid"
    title = "The definition is not valid"

    def __init__(
        self,
        detail: str,
        path: tuple[str | int, ...] = (),
        file: str = "",
        line: int = 0,
        steps: tuple[str, ...] = (),
    ) -> None:
        super().__init__(detail)
        self.path, self.file, self.line, self.steps = path, file, line, steps

    def __str__(self) -> str:
        where = ".".join(str(p) for p in self.path)
        at = f"{self.file}:{self.line}: " if self.file else ""
        return f"{at}{where}: {self.detail}" if where else f"{at}{self.detail}"
