"""Bodies of the HTTP contract. Strict: unknown fields are refused, numbers are not texts, times carry an offset."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from service.core.catalogue import Domain
from service.core.model import Phase

MAX_EXTRA_NODES = 1000


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("no_nul", "expected text without NUL characters")
    return text


def filled(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "expected words, not only blanks")
    return text


def _within(instant: datetime) -> datetime:
    if not 1970 <= instant.year <= 2100:
        raise PydanticCustomError("year", "expected a time between 1970 and 2100")
    return instant


def _plain_json(value: dict[str, Any]) -> dict[str, Any]:
    """`extra` and forms are kept as they are: bounded in size, without NUL, and without numbers that JSON cannot carry back."""
    nodes = 0
    todo: list[tuple[Any, int]] = [(value, 1)]
    while todo:
        item, depth = todo.pop()
        nodes += 1
        if nodes > MAX_EXTRA_NODES or depth > 16:
            raise PydanticCustomError("extra_size", "expected at most 1000 values, at most 16 levels deep")
        if isinstance(item, dict):
            for key in item:
                _no_nul(key)
            todo += [(v, depth + 1) for v in item.values()]
        elif isinstance(item, list):
            todo += [(v, depth + 1) for v in item]
        elif isinstance(item, str):
            _no_nul(item)
        elif isinstance(item, int) and abs(item) >= 10**30:
            raise PydanticCustomError("extra_number", "expected numbers of at most 30 digits")
        elif isinstance(item, float) and not math.isfinite(item):
            raise PydanticCustomError("extra_number", "expected finite numbers: no NaN, no infinity")
    return value


_NoNul = AfterValidator(_no_nul)
Code = Annotated[str, StringConstraints(min_length=1, max_length=64), _NoNul]
Short = Annotated[str, StringConstraints(max_length=200), _NoNul]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200), _NoNul]
Text500 = Annotated[str, StringConstraints(max_length=500), _NoNul]
Filled500 = Annotated[str, StringConstraints(min_length=1, max_length=500), _NoNul]
Text2000 = Annotated[str, StringConstraints(max_length=2000), _NoNul]
Filled2000 = Annotated[str, StringConstraints(min_length=1, max_length=2000), _NoNul, AfterValidator(filled)]
Text5000 = Annotated[str, StringConstraints(max_length=5000), _NoNul]
Filled5000 = Annotated[str, StringConstraints(min_length=1, max_length=5000), _NoNul]
Text10000 = Annotated[str, StringConstraints(max_length=10_000), _NoNul]
Text20000 = Annotated[str, StringConstraints(max_length=20_000), _NoNul]
Long = Annotated[str, StringConstraints(min_length=1, max_length=20_000), _NoNul]
Instant = Annotated[AwareDatetime, AfterValidator(_within)]
Extra = Annotated[dict[str, Any], AfterValidator(_plain_json)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


# --- hotline -----------------------------------------------------------------------------------------------------


class Source(Body):
    system: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]
    reference: Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(_no_nul)]
    channel: Short | None = None
    received_at: Instant | None = Field(None, description="when the hotline took the request; default: now")


class Firm(Body):
    """A firm that is spoken of: by its name, and its credit code where it has one."""

    name: Name
    uscc: Short | None = Field(None, description="unified social credit code; a wrong one is a warning")


class Enterprise(Firm):
    district: Code | None = Field(None, description="GB/T 2260 code")
    industry: Code | None = Field(None, description="GB/T 4754 code such as C39")
    tier: Code | None = None
    kind: Literal["company", "branch", "individual", "association", "foreign", "unregistered"] | None = Field(
        None, description="unregistered: a project company that is not in the register yet"
    )
    parent: Firm | None = Field(None, description="of a branch or a subsidiary")
    formerly: Name | None = Field(None, description="the name it was known by, if it was renamed or is registered now")


class Contact(Body):
    name: Short | None = None
    phone: Short | None = None
    role: Short | None = None


class Location(Body):
    district: Code | None = None
    address: Text500 | None = None


class Project(Body):
    name: Short | None = None
    code: Short | None = None


class AnsweredAtOnce(Body):
    """The seat agent answered the question itself: the ticket is born closed, with a true ledger."""

    public_reply: Filled5000
    outcome: Literal["solved", "service_confirmed", "explained_no_basis", "not_competent"] = "solved"


class Agent(Body):
    """Who speaks for the enterprise: a chamber of commerce, a lawyer, another. `authorised`: with a paper that says so."""

    name: Name
    kind: Literal["chamber", "lawyer", "agency", "other"] = "other"
    authorised: bool = False


class FurtherMatter(Body):
    """Another matter of the same call: a ticket of its own, linked to the first."""

    title: Filled500
    description: Long
    domain: Domain | None = None
    matter: Code | None = None
    request_type: Code | None = None


class HandedOver(Body):
    """The caller was put through to an emergency line at once."""

    line: Literal["110", "119", "120", "122"]
    note: Text2000 = ""


class Asked(Body):
    """What is asked, by whom, about what."""

    domain: Domain | None = None
    request_type: Code | None = None
    matter: Code | None = None
    title: Filled500
    description: Long
    urgency: Literal["normal", "urgent", "emergency"] = "normal"
    confidential: bool = False
    reply_required: bool = True
    enterprise: Enterprise
    contact: Contact | None = None
    location: Location | None = None
    project: Project | None = None
    extra: Extra = {}


class NewTicket(Asked):
    """One request of one enterprise, as the hotline posts it."""

    source: Source
    answered: AnsweredAtOnce | None = Field(None, description="the reply, if it was given at the first call already")
    anonymous: bool = Field(False, description="name and contact of the enterprise are not kept, whatever is sent")
    agent: Agent | None = None
    group: list[Firm] | None = Field(None, min_length=1, max_length=200, description="further firms that ask the same")
    parts: list[FurtherMatter] | None = Field(
        None, min_length=1, max_length=9, description="further matters of the call"
    )
    handed_over: HandedOver | None = Field(None, description="to 110, 119, 120 or 122: logged here, and closed")

    def as_posted(self) -> dict[str, Any]:
        """The body as plain data. What was added to the contract later is left out where it was not given, so that the
        digest of a request stays what it was when it was first posted."""
        body = self.model_dump()
        for name in ("answered", "anonymous", "agent", "group", "parts", "handed_over"):
            if not body[name]:
                del body[name]
        body["enterprise"] = _without(body["enterprise"], "kind", "parent", "formerly")
        return body


def _without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in body.items() if k not in names or v is not None}


class Correction(Body):
    """The request as it should read, as a whole. `sequence`: 1 for the first correction, and rising."""

    sequence: Annotated[int, Field(ge=1, le=2**31 - 1)]
    request: Asked
    reason: Text2000 = ""

    def as_posted(self) -> dict[str, Any]:
        body = self.model_dump()
        body["request"]["enterprise"] = _without(body["request"]["enterprise"], "kind", "parent", "formerly")
        return body


EventType = Annotated[str, StringConstraints(max_length=60, pattern=r"^[a-z_]+(\.[a-z_]+)*(\.\*)?$")]


class NewReceiver(Body):
    url: Annotated[str, StringConstraints(min_length=8, max_length=1000), _NoNul]
    types: list[EventType] = Field(
        default=[], max_length=50, description="such as ticket.opened or approval.*; none: all"
    )
    description: Text500 = ""
    after: Short | None = Field(None, description="a cursor of GET /v1/events to begin at; default: from now on")


class Replay(Body):
    after: Short | None = Field(None, description="a cursor of GET /v1/events; default: where it stopped")


class CodeMeaning(Body):
    field: Literal["matter", "district"] = "matter"
    means: Code = Field(description="our code")
    reason: Filled2000
    for_all: bool = Field(False, description="also others that wait for this code of this source, and those to come")


class Recusal(Body):
    """One of the two; neither: oneself."""

    department: Code | None = None
    subject: Name | None = None
    reason: Filled2000


class Title(Body):
    zh: Name
    en: Name


class UnitChange(Body):
    """`rename` with a title; `abolish` and `merge` with the unit that takes over."""

    kind: Literal["rename", "abolish", "merge"]
    successor: Code | None = None
    title: Title | None = None
    reason: Filled2000


class Leaving(Body):
    to: Name | None = Field(None, description="who takes over; default: the units' queues")
    department: Code | None = Field(None, description="of this unit only")
    reason: Filled2000


class NewDuty(Body):
    department: Code = Field(description="a unit, or `city` for units that have nobody")
    kind: Literal["night", "holiday", "duty"] = "duty"
    subject: Name = Field(description="the person, as the identity provider names him or her")
    name: Short = ""
    phone: Short | None = None
    since: Instant
    until: Instant


class Reason(Body):
    reason: Filled2000


class ManyTickets(Body):
    ids: list[Code] = Field(min_length=1, max_length=200)
    form: Extra = {}


class ApprovalDecision(Body):
    decision: Literal["approve", "deny"]
    reason: Text2000 = ""
    on_behalf_of: Name | None = Field(None, description="the absent approver whose deputy the caller is")


# --- supervision ---------------------------------------------------------------------------------------------------


class Card(Body):
    level: Literal["yellow", "red"]
    reason: Filled2000


Ground = Literal[
    "refused_duty", "overdue", "should_have_been_solved", "bad_effect", "many_unresolved", "stale_knowledge",
    "false_completion", "reworked_twice", "planned_past_date", "instruction", "media_exposure", "inspection_order",
]  # fmt: skip


class NewSupervision(Body):
    """`answer_by` is needed for slip, listed and summons, `addressee` for summons and report_upward."""

    kind: Literal["urge", "slip", "listed", "summons", "report_upward"]
    ground: Ground = Field(description="instruction, media_exposure and inspection_order need a second_supervisor")
    reason: Filled2000
    answer_by: Instant | None = None
    addressee: Short | None = None
    second_supervisor: Name | None = None


class SupervisionAnswer(Body):
    text: Filled5000


ExemptionCode = Literal[
    "unreasonable", "outside_duty_confirmed", "policy_only", "malicious", "force_majeure", "hotline_error",
    "tolerance_rule",
]  # fmt: skip


class NewExemption(Body):
    code: ExemptionCode
    reason: Filled2000
    evidence: Text2000 = ""
    expires_at: Instant


class RatingAppeal(Body):
    """An appeal against the rating of a round, after the unit has spoken with the enterprise again."""

    code: ExemptionCode = "unreasonable"
    reason: Filled2000
    round: Annotated[int, Field(ge=1, le=1000)] | None = Field(None, description="default: the last rated one")
    contacted_at: Instant
    contact_note: Filled2000
    expires_at: Instant


class ExemptionDecision(Body):
    decision: Literal["approve", "deny"]
    reason: Filled2000
    expires_at: Instant | None = Field(None, description="default: as asked")


Grade = Literal["very_satisfied", "satisfied", "basically_satisfied", "dissatisfied", "very_dissatisfied"]


class CallbackResult(Body):
    """What the enterprise said about one ticket; solved and satisfied are two things."""

    ticket: Code
    solved: Literal["yes", "partly", "no"] | None = None
    satisfaction: Grade | None = None
    reason: Literal["result", "speed", "attitude", "not_contacted", "reply_untrue", "policy_itself", "other"] | None = (
        None
    )
    comment: Text2000 | None = None


class ConsolidatedCallback(Body):
    """One call to one enterprise about several of its tickets."""

    results: list[CallbackResult] = Field(min_length=1, max_length=50)
    reached: bool = True
    rated_by: Literal["centre", "verified_link"] = "centre"
    rated_from: Short | None = None


class NewDelegation(Body):
    """The caller's own approvals are decided by a deputy for a time; an administrator names whose, with role and units."""

    deputy: Name
    starts_at: Instant
    ends_at: Instant
    reason: Filled2000
    delegator: Name | None = None
    role: Literal["handler", "dispatcher", "supervisor"] | None = None
    departments: Annotated[list[Code], Field(max_length=30)] | None = None


# --- the desk ----------------------------------------------------------------------------------------------------


class QueueFilters(Body):
    """The filters of GET /v1/queue."""

    department: Code | None = None
    phase: Phase | None = None
    assignee: Short | None = Field(None, description="a person, or `me`: whoever looks through the view")
    due_before: Instant | None = None
    q: Short | None = None
    matter: Code | None = None
    urgency: Literal["normal", "urgent", "emergency"] | None = None
    domain: Domain | None = None
    cards: Literal["yellow", "red", "slip"] | None = None


class NewView(Body):
    name: Name
    department: Code | None = Field(None, description="its people may use the view too")
    filters: QueueFilters


class NewTemplate(Body):
    """`{number}`, `{title}`, `{enterprise}`, `{department}`, `{received_on}`, `{today}`, `{due_on}` can be put in."""

    department: Code
    title: Name
    text: Filled5000
    action: Code = "submit_reply"
    matter: Code | None = None


class NewProgressLink(Body):
    days: Annotated[int, Field(ge=1, le=366)] | None = Field(None, description="default and limit: workflows/desk.yaml")


# --- calendars ---------------------------------------------------------------------------------------------------


class NewCalendar(Body):
    """A version of a calendar. `preview`: the word of the preview that was looked at, where due times move."""

    calendar: dict[str, Any] = Field(description="the data, as workflows/calendars/README.md describes it")
    reason: Filled2000
    dry_run: bool = Field(False, description="only tell what it would move")
    preview: Short | None = None


# --- workflows ---------------------------------------------------------------------------------------------------

Version = Annotated[int, Field(ge=1, le=2**31 - 1)]
Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class NewWorkflow(Body):
    """A version of a workflow as workflows/README.md describes it: the whole of it, or what it says differently from a
    published one that it `extends` and may only tighten."""

    workflow: dict[str, Any]
    reason: Filled2000
    expected_version: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        None, description="the version this was made from (0: a new workflow); If-Match says the same"
    )
    dry_run: bool = Field(False, description="only check it and tell the differences")


class Retirement(Body):
    reason: Filled2000


class NewMigration(Body):
    """Which running tickets are to go to which version, and what their stages and clocks are called there."""

    from_version: Version
    to_version: Version | None = Field(None, description="default: the newest")
    to_key: Key | None = Field(None, description="default: the same workflow")
    stage_mapping: Annotated[dict[Code, Code], Field(max_length=200)] = {}
    clock_mapping: Annotated[dict[Code, Code | None], Field(max_length=200)] = Field(
        {}, description="old name to new name; null ends the clock"
    )
    reason: Filled2000
    dry_run: bool = Field(False, description="only tell what it would do")


class Undo(Body):
    reason: Filled2000


class Simulation(Body):
    """What is tried and on which tickets. Without `workflow`, `version`, `calendar` and `routing`: the newest version."""

    workflow: dict[str, Any] | None = Field(
        None, description="a draft of the workflow as JSON, whole or over a published one that it `extends`"
    )
    version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(None, description="a published version instead")
    calendar: dict[str, Any] | None = Field(None, description="a draft calendar, as POST /v1/calendars takes it")
    routing: dict[str, Any] | None = Field(None, description="a draft of the dispatch catalogue (routing.yaml as JSON)")
    from_: Short | None = Field(None, alias="from", description="received from: a date or an instant; default: 90 days")
    to: Short | None = Field(None, description="a date (included) or an instant; default: today")
    department: Code | None = Field(None, description="only tickets that this department had")
    check: Literal["sample", "all"] = Field("sample", description="all: replay every ticket by its own rules too")


# --- operation ---------------------------------------------------------------------------------------------------


class Advance(Body):
    """One of the two."""

    advance_to: Instant | None = None
    advance_by: timedelta | None = None


class WorkflowToCheck(Body):
    """A workflow as the text of its file (then errors name lines) or as data; `extends` names a published one."""

    workflow: dict[str, Any] | Annotated[str, StringConstraints(min_length=1, max_length=900_000), _NoNul]


class RoutingTry(Body):
    title: Filled500
    description: Text20000 = ""
    domain: Domain | None = None
    matter: Code | None = None
    urgency: Literal["normal", "urgent", "emergency"] = "normal"
    enterprise: Enterprise | None = None
    location: Location | None = None


Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=2, max_length=20), AfterValidator(_no_nul)]


class NewProposal(Body):
    """`words` stand in the ticket's text; together they are to lead to `lead` (default: who leads the ticket now)."""

    ticket: Code
    words: list[Word] = Field(min_length=1, max_length=10)
    lead: Code | None = None
    matter: Code | None = None
    reason: Filled2000


class ProposalDecision(Body):
    decision: Literal["accept", "refuse"]
    reason: Filled2000


# --- answers (documentation; answers are rendered by usecases.views) -------------------------------------------------


class Answered(BaseModel):
    model_config = ConfigDict(extra="allow")


class Problem(Answered):
    """RFC 9457."""

    type: str = Field(examples=["/problems/invalid-request"])
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = Field(None, description="JSON Pointer and what was expected, per wrong field")


class ClockOut(Answered):
    id: str
    name: str
    title: str
    measure: Literal["natural_hours", "working_hours", "natural_days", "working_days"]
    budget: str | int
    state: Literal["running", "paused", "held", "met", "breached_running", "breached_met", "cancelled"]
    started_at: datetime
    due_at: datetime
    held_at: datetime | None
    ended_at: datetime | None
    used: str | int
    warnings: list[dict[str, Any]]


class LeadOut(BaseModel):
    department: str
    assignee: str | None


class TicketOut(Answered):
    id: str
    number: str = Field(examples=["QY202611230000421"])
    source: dict[str, Any]
    domain: Domain
    matter: str | None
    title: str
    description: str
    urgency: Literal["normal", "urgent", "emergency"]
    confidential: bool
    reply_required: bool
    enterprise: dict[str, Any]
    contact: dict[str, Any] | None = Field(description="masked; POST …/contact/reveal gives the whole with a reason")
    stage: str
    stage_title: str
    phase: Literal["intake", "dispatch", "acceptance", "handling", "waiting", "audit", "callback", "review", "closed"]
    round: int
    workflow: dict[str, Any]
    lead: LeadOut | None
    co_handlers: list[str]
    due_at: datetime | None
    due_clock: str | None
    provisional: bool
    clocks: list[ClockOut]
    cards: list[dict[str, Any]]
    outcome: str | None
    warnings: list[dict[str, str]]
    created_at: datetime
    updated_at: datetime
    version: int


class ProgressOut(Answered):
    number: str
    title: str | None
    stage: str | None
    contact: dict[str, Any]
    next: dict[str, Any] | None
    public_reply: str | None


class AttachmentOut(Answered):
    id: str
    ticket_id: str
    name: str
    media_type: str
    size: int
    sha256: str
    audience: Literal["all", "centre"]
    uploaded_by: str
    department: str | None
    uploaded_at: datetime


class Page(Answered):
    items: list[dict[str, Any]]
    next_cursor: str | None
