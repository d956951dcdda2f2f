"""The units of a city and the tree of its matters, as departments.yaml and matters.yaml of the workflows folder give them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from service.core.catalogue import LEVELS, NO_UNIT, Domain
from service.core.documents import Code, Part, TextDoc, parsed
from service.core.errors import DefinitionError
from service.core.parties import tells_apart

AreaCode = Annotated[str, Field(pattern=r"^[0-9]{6}$")]
"""A county, district or area by GB/T 2260."""

TOO_SHORT = "expected a name of two characters or more besides a 市 in front: it is looked for in texts"


def _name(name: str) -> str:
    if not tells_apart(name):
        raise ValueError(TOO_SHORT)
    return name


OfficeName = Annotated[str, Field(max_length=100), AfterValidator(_name)]


class ContactDoc(Part):
    """Who is named to enterprises."""

    name: str | None = None
    phone: str | None = None


class UnitDoc(Part):
    """A unit that a ticket can be sent to. `note`: what is to be confirmed before it is used in earnest."""

    code: Code
    title: TextDoc
    kind: Code
    source: Annotated[str, Field(min_length=1, max_length=200)]
    note: str | None = None
    district: AreaCode | None = None
    complaints_to: Code | None = None
    contact: ContactDoc | None = None
    aliases: list[OfficeName] = Field([])
    offices: list[OfficeName] = Field([])


class DepartmentsDoc(Part):
    """`district_units`: area code -> the unit that "@district" means there."""

    departments: list[UnitDoc] = Field(min_length=1)
    district_units: dict[AreaCode, Code]


class MatterDoc(Part):
    """A node of the tree. `lead`: the unit that usually leads, "@district" or "@dispatcher"."""

    code: Code
    parent: Code | None = None
    title: TextDoc
    lead: str
    domain: Domain | None = None
    note: str | None = None


class MattersDoc(Part):
    matters: list[MatterDoc]


def parse_departments(plain: Any) -> DepartmentsDoc:
    """Raises DefinitionError with the path of what is wrong."""
    doc = parsed(DepartmentsDoc, plain)
    codes = {unit.code for unit in doc.departments}
    _once("departments", "department", [unit.code for unit in doc.departments])
    for n, unit in enumerate(doc.departments):
        if unit.complaints_to is not None and unit.complaints_to not in codes - {unit.code}:
            told = f"no other department {unit.complaints_to!r} is listed"
            raise DefinitionError(told, ("departments", n, "complaints_to"))
        if not tells_apart(unit.title.zh):
            raise DefinitionError(TOO_SHORT, ("departments", n, "title", "zh"))
    for area, code in doc.district_units.items():
        if code not in codes:
            raise DefinitionError(f"there is no department {code!r}", ("district_units", area))
    return doc


def parse_matters(plain: Any, departments: Collection[str]) -> MattersDoc:
    """Raises DefinitionError with the path of what is wrong, a unit that is not among `departments` included."""
    doc = parsed(MattersDoc, plain)
    parents = {matter.code: matter.parent for matter in doc.matters}
    _once("matters", "matter", [matter.code for matter in doc.matters])
    for n, matter in enumerate(doc.matters):
        if matter.lead not in {*NO_UNIT, *departments}:
            told = f"there is no department {matter.lead!r}; besides those there are: {', '.join(sorted(NO_UNIT))}"
            raise DefinitionError(told, ("matters", n, "lead"))
        if matter.parent is not None and matter.parent not in parents:
            raise DefinitionError(f"there is no matter {matter.parent!r}", ("matters", n, "parent"))
    for n, matter in enumerate(doc.matters):
        depth, above = 1, matter.parent
        while above is not None:
            depth, above = depth + 1, parents[above]
            if depth > LEVELS:
                told = f"the matter {matter.code!r} lies deeper than {LEVELS} levels, or in a circle"
                raise DefinitionError(told, ("matters", n, "parent"))
    return doc


def _once(part: str, what: str, codes: Iterable[str]) -> None:
    seen: set[str] = set()
    for n, code in enumerate(codes):
        if code in seen:
            raise DefinitionError(f"the {what} {code!r} stands twice", (part, n, "code"))
        seen.add(code)
