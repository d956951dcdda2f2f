"""The workflow language: what a workflow file may say.

These classes are strict (an unknown key is refused) and give the JSON Schema with which editors complete and check;
`definitions` compiles them into what the engine reads. workflows/README.md explains each key to a process owner.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from service.core.calendar import Measure
from service.core.documents import Code, Name, Part, TextDoc
from service.core.model import Phase, Role

Effect = dict[Name, Any] | Name


class RungDoc(Part):
    """One step of a clock's ladder, at a share of the budget (percent), or before / after the due time."""

    name: Name
    share: int | None = Field(None, ge=1, le=99)
    before: str | int | None = None
    after: str | int | None = None
    measure: Measure | None = None
    times: int = Field(1, ge=1, le=60)
    when: str | None = None
    effects: list[Effect] = []
    to: Name | None = None


class BreachDoc(Part):
    """What happens at the due instant, besides the breach itself."""

    effects: list[Effect] = []
    to: Name | None = None


Anchor = Literal["received_at", "dispatched_at", "accepted_at", "ruling_at", "submitted_at", "started_at"]


class StatutoryDoc(Part):
    """The limit of a law, in the law's own measure: neither the budget nor an extension may exceed it.

    `extension` absent: the law knows none. `source` names the law and its article.
    """

    measure: Measure
    limit: str | int
    extension: str | int | None = None
    source: TextDoc


Cycle = Literal["continue", "restart", "new"]
"""How the next cycle of a clock begins (T3): the closed span does not count and the rest of the budget goes on; the
whole budget again; the budget of rework."""


class ClockDoc(Part):
    """One SLA promise."""

    title: TextDoc
    family: Literal["enterprise", "assignment", "centre"]
    anchor: Anchor = "started_at"
    contacts: bool = False
    measure: Measure
    budget: str | int
    rework_budget: str | int | None = None
    statutory: StatutoryDoc | None = None
    rounds: Cycle = "new"
    reopened: Cycle = "continue"
    reopened_late: Cycle = "restart"
    rungs: list[RungDoc] = []
    breach: BreachDoc = BreachDoc()


class StageDoc(Part):
    title: TextDoc
    phase: Phase


class BranchDoc(Part):
    """One way an action can go: the first branch whose `when` (CEL) holds is taken."""

    when: str | None = None
    effects: list[Effect] = []
    to: Name | None = None


class ActionDoc(Part):
    """What somebody may do: in which stages, by which roles, with which form."""

    title: TextDoc
    stages: list[Name] | Literal["open"]
    roles: list[Role] = Field(min_length=1)
    form: dict[str, Any] = {}
    guard: str | None = None
    guard_message: TextDoc | None = None
    not_by: Name | list[Name] | None = None
    effects: list[Effect] = []
    to: Name | None = None
    branches: list[BranchDoc] = []


class LevelDoc(Part):
    """One level of an approval. It is passed over where `when` (CEL) does not hold of the request."""

    title: TextDoc
    roles: list[Role] = Field(min_length=1)
    when: str | None = None


class ApprovalDoc(Part):
    """A request that somebody else decides: who, within which clock, and what follows.

    Either `roles` (one level) or up to three `levels`, each decided by another person within the clock anew; a denial at
    any level denies.
    """

    title: TextDoc
    roles: list[Role] = []
    levels: list[LevelDoc] = Field([], max_length=3)
    clock: Name
    delays: list[Name] = []
    approve: BranchDoc
    deny: BranchDoc


class OpenDoc(Part):
    """Where a new ticket starts, depending on whether a rule found its lead."""

    routed: BranchDoc
    unrouted: BranchDoc
    answered: BranchDoc | None = None


class ReviewDoc(Part):
    """What one matter, one discussion does to the ticket."""

    proposed: list[BranchDoc] = Field(min_length=1)
    accepted: list[BranchDoc] = Field(min_length=1)
    refused: list[BranchDoc] = Field(min_length=1)
    decided: list[BranchDoc] = Field(min_length=1)
    completed: list[BranchDoc] = Field(min_length=1)
    withdrawn: list[BranchDoc] = Field(min_length=1)
    replaced: list[BranchDoc] = []


class WorkflowDoc(Part):
    """A department process: stages, clocks, actions, approvals and the review."""

    key: Name
    title: TextDoc
    extends: Name | None = None
    abstract: bool = False
    calendar: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")
    oldest_received_days: int = Field(30, ge=1, le=365)
    callback_window_days: int = Field(15, ge=1, le=365)
    split: Literal["inherit", "restart"] = "inherit"
    domains: list[Name] = []
    urgency: list[Name] = []
    departments: list[Code] = []
    open: OpenDoc
    stages: dict[Name, StageDoc]
    clocks: dict[Name, ClockDoc]
    actions: dict[Name, ActionDoc]
    approvals: dict[Name, ApprovalDoc] = {}
    review: ReviewDoc


def json_schema() -> dict[str, Any]:
    """The JSON Schema of workflow files, for editors. A file that extends another says only what differs.

    In an overlay nothing is required but what names it, and null removes a key; a list replaces the whole list, so the
    entries of lists are whole in either case.
    """
    whole = WorkflowDoc.model_json_schema()
    definitions: dict[str, Any] = whole.pop("$defs")
    overlay = _partial({k: v for k, v in whole.items() if k != "required"})
    partial = {f"{name}Overlay": _partial(body) for name, body in definitions.items() if body.get("type") == "object"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Jieban workflow 接办流程",
        "description": "workflows/README.md explains each key with an example",
        "type": "object",
        "if": {"required": ["extends"]},
        "then": overlay | {"required": ["key", "extends", "title"]},
        "else": whole,
        "$defs": dict(sorted((definitions | partial).items())),
    }


def _partial(schema: Any) -> Any:
    """The schema of what is laid over: no key is required, and each may be null."""
    if not isinstance(schema, dict):
        return schema
    out = {key: value for key, value in schema.items() if key not in {"required", "default"}}
    if "$ref" in out:
        name = out["$ref"].rpartition("/")[2]
        out["$ref"] = f"#/$defs/{name}Overlay" if name.endswith("Doc") else out["$ref"]
    for key in ("properties", "patternProperties"):
        if key in out:
            out[key] = {name: _or_null(_partial(field)) for name, field in out[key].items()}
    if isinstance(out.get("additionalProperties"), dict):
        out["additionalProperties"] = _or_null(_partial(out["additionalProperties"]))
    if "anyOf" in out:
        out["anyOf"] = [_partial(one) for one in out["anyOf"]]
    return out


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}
