"""Bodies of the steps of minutes and of what is done with precedents."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from service.api.schemas import Body, Code, Filled2000, Filled5000, Text500, Text2000, Text5000, Text20000


class MinutesItem(Body):
    """Wording of one matter. What is left out is kept from the draft before; what was decided is never typed here."""

    review: str = Field(min_length=36, max_length=36)
    considered: Text20000 | None = Field(None, description="what the meeting considered")
    extract: Text20000 | None = Field(None, description="what the enterprise is told instead of the decision's text")
    valid_until: date | None = Field(None, description="how long the decision is a precedent; absent: until withdrawn")


class MinutesWording(Body):
    title: Text500 | None = None
    opening: Text5000 | None = None
    items: list[MinutesItem] = Field(default=[], max_length=100)
    reason: Text2000 = Field("", description="what was wrong (of a correction)")


class MinutesStep(MinutesWording):
    """One step of minutes. `correct` begins another document that names the issued one."""

    step: Literal["draft", "check", "sign", "issue", "correct"] = Field("draft", examples=["draft"])


class NoWording(Body):
    """Nothing: what is checked, signed or issued is the document as it stands."""


class ChangePrecedent(Body):
    valid_until: date
    reason: Filled2000


class PrecedentProposal(Body):
    """A change that a precedent suggests: of a `rule` (`target`: a workflow) or of the `catalogue` (`target`: a matter)."""

    kind: Literal["rule", "catalogue"]
    target: Code
    text: Filled5000


MINUTES_FORMS: dict[str, type[Body]] = {
    "draft": MinutesWording,
    "check": NoWording,
    "sign": NoWording,
    "issue": NoWording,
    "correct": MinutesWording,
}
