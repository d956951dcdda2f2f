"""What every configuration file stands on: strict parts, labels for people, and errors that name the path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

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
        found = error.errors(include_input=False, include_url=False)
        # a key that is misspelt is missing too: its own fault says what was written
        first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
        path = _path_in(plain, first["loc"], first["type"] == "missing")
        raise DefinitionError(_told(model, first), path) from None


def _told(model: type[BaseModel], error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        there = ", ".join(fields_at(model, error["loc"][:-1]))
        return f"unknown key; there are: {there}" if there else "unknown key"
    known = {"model_type": "expected a mapping of keys", "missing": "this key is missing"}
    return known.get(error["type"], error["msg"]).removeprefix("Value error, ")


def fields_at(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The fields of the object at a path of such a value; none where it may be one of several kinds."""
    at: Any = model
    for step in path:
        at = _bare(at)
        if _is_model(at):
            field = at.model_fields.get(str(step))
            at = field.annotation if field is not None else None
        elif get_origin(at) is not None and len(get_args(at)) >= 1:  # an entry of a list, or of a mapping
            at = get_args(at)[-1 if issubclass(get_origin(at), Mapping) else 0]
        else:
            return []
    at = _bare(at)
    return [field.alias or name for name, field in at.model_fields.items()] if _is_model(at) else []


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel)


def _bare(annotation: Any) -> Any:
    """The one kind that an annotation allows besides None; None where there are several."""
    while get_origin(annotation) in (Annotated, Union, UnionType):
        kinds = [a for a in get_args(annotation) if a is not NoneType]
        annotation = kinds[0] if get_origin(annotation) is Annotated or len(kinds) == 1 else None
    return annotation


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
