"""What every configuration file stands on: strict parts, labels for people, and errors that name the path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.core.errors import DefinitionError

NAME = r"^[a-z][a-z0-9_]{0,39}$"
Name = Annotated[str, Field(pattern=NAME)]


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
        raise DefinitionError(told, _path_in(plain, first["loc"])) from None


def _path_in(plain: Any, where: Sequence[str | int]) -> tuple[str | int, ...]:
    """A union's error path carries the name of the alternative tried, which is no key of the file: left out."""
    path: list[str | int] = []
    for key in where:
        if isinstance(plain, Mapping) and not (isinstance(key, str) and ("[" in key or key.startswith("literal"))):
            path.append(key)
            plain = plain.get(key)
        elif isinstance(plain, list) and isinstance(key, int):
            path.append(key)
            plain = plain[key] if key < len(plain) else None
    return tuple(path)
