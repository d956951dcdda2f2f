"""What every configuration file stands on: strict parts, labels for people, and errors that name the path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.core.errors import DefinitionError

NAME = r"^[a-z][a-z0-9_]{0,39}$"
Name = Annotated[str, Field(pattern=NAME)]
Code = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
"""What others call a unit or a matter; the same of units in tokens."""


class Part(BaseModel):
    """A mapping of a file: a key that is not among its fields is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TextDoc(Part):
    """A label for people, in Chinese and English."""

    zh: str = Field(min_length=1, max_length=200)
    en: str = Field(min_length=1, max_length=200)


Model = TypeVar("Model", bound=BaseModel)


def parsed(model: type[Model], plain: Any) -> Model:
    """Plain data -> checked; raises DefinitionError with the path of the first fault and what was expected there."""
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        told = "expected a mapping of keys" if first["type"] == "model_type" else first["msg"]
        path = _path_in(plain, first["loc"], first["type"] == "missing")
        raise DefinitionError(told.removeprefix("Value error, "), path) from None


def _path_in(plain: Any, where: Sequence[str | int], missing: bool) -> tuple[str | int, ...]:
    """The steps that the data has, and a last one that is missing: those that only name an alternative tried are left out."""
    path: list[str | int] = []
    for n, key in enumerate(where):
        here = key in plain if isinstance(plain, Mapping) else isinstance(plain, list) and isinstance(key, int)
        if here:
            path.append(key)
            plain = plain[key] if isinstance(plain, Mapping) or (isinstance(key, int) and key < len(plain)) else None
        elif missing and n == len(where) - 1:
            path.append(key)
    return tuple(path)
