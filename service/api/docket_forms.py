"""Bodies of the docket: reviews, measures, meetings, thematic studies. Each action's form, and its JSON Schema for clients."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from service.api.schemas import (
    Body,
    Code,
    Filled500,
    Filled2000,
    Filled5000,
    Instant,
    Long,
    Name,
    Reason,
    Short,
    Text2000,
    Text5000,
    Text10000,
    Text20000,
    _no_nul,
    filled,
)

Kind = Literal["enterprise_problem", "investment_project"]
Favour = Literal["tax", "subsidy", "land", "factor_price"]
Units = Annotated[list[Code], Field(max_length=30)]
Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"), AfterValidator(_no_nul)]
Gate = Literal["competence", "fair_competition", "legality", "budget", "confidentiality", "recusal"]
Options = Annotated[list[Filled2000], Field(max_length=10)]


# --- reviews ---------------------------------------------------------------------------------------------------------


class NewReview(Body):
    ticket: Code = Field(description="id or number of the ticket")
    reason: Filled5000
    kind: Kind = "enterprise_problem"
    grounds: Annotated[list[Code], Field(max_length=8)] = Field(
        [], description="criteria of workflows/docket.yaml; none: manual, explained by the reason"
    )
    asked: Text5000 = Field("", description="what exactly is to be decided")
    tried: Text5000 = Field("", description="what was tried")
    options: Options = Field([])
    signed_by: Short = Field("", description="the head of a department that signs, or the steward that agrees")
    track: Literal["none", "litigation", "arbitration", "petition", "discipline"] = Field(
        "none", description="a legal track that the matter is in: such a matter is never discussed"
    )


class Screen(Body):
    """`study` joins a thematic study (专题研究): an open one by `study`, or a new one by its `theme`."""

    decision: Literal["accept", "refuse", "return", "study"]
    tier: Annotated[int, Field(ge=1, le=3)] | None = Field(None, description="default 1, of a study 2")
    reason: Text2000 = ""
    major: bool = Field(False, description="a major administrative decision: the gate legality is needed")
    exclusion: Code | None = Field(None, description="refused because it is in this track")
    study: Id | None = None
    theme: Short | None = None
    matter: Code | None = None


class Supplement(Body):
    text: Text5000 = ""
    asked: Text5000 = ""
    tried: Text5000 = ""
    options: Options = Field([])
    signed_by: Short = ""


class RequestOpinions(Body):
    departments: list[Code] = Field(min_length=1, max_length=30)


class GiveOpinion(Body):
    position: Literal["agree", "disagree", "condition"]
    text: Text10000 = ""
    legal_basis: Text2000 = ""


class Stake(Body):
    """Who is recused: by the subject of his or her token, or by name."""

    name: Short = ""
    subject: Short | None = None
    department: Code | None = None
    reason: Annotated[Filled500, AfterValidator(filled)]


class PassGate(Body):
    gate: Gate
    result: Literal["requested", "passed", "failed", "waived"] = "passed"
    ground: Text2000 = Field("", description="why; required where it failed or is waived")
    legal_basis: Text2000 = ""
    favours: Annotated[list[Favour], Field(max_length=4)] = Field(
        [], description="fair_competition: what this one enterprise is given; passes with a legal basis only"
    )
    level: Literal["public", "internal", "secret"] | None = Field(None, description="confidentiality")
    recused: Annotated[list[Stake], Field(max_length=20)] = Field([], description="recusal: who has a stake")


class Schedule(Body):
    """On the agenda of `meeting`; or of a new one at `held_at`; without either, of the next whose agenda is open."""

    meeting: Id | None = None
    held_at: Instant | None = None
    place: Short = ""
    extra: bool = False
    reason: Text2000 = Field("", description="why an extra meeting")
    late_ground: Text2000 = Field("", description="why the chair lets it in after the agenda closed")


class NewMeasure(Body):
    title: Filled500
    department: Code
    due_on: date
    mandatory: bool = True
    co_units: Units = Field([])
    deliverable: Text2000 = ""
    evidence_type: Code | None = Field(None, description="a kind of evidence of workflows/docket.yaml")
    favour: Favour | None = Field(None, description="what it gives to this one enterprise")


class Commitment(Body):
    """Resources for an investment project, owned by one unit together with others (资源要素保障)."""

    resource: Literal["land", "funds", "labour", "environment_quota"]
    quantity: Filled500
    title: Filled500
    department: Code
    co_units: Units = Field([])
    due_on: date
    mandatory: bool = True
    favour: Favour | None = None


class Votes(Body):
    """By units. A member with a stake does not vote."""

    for_: Units = Field([], alias="for")
    against: Units = Field([])
    abstain: Units = Field([])


class Dissent(Body):
    department: Code
    text: Filled5000


class DecideReview(Body):
    """The chair's summary is `text`; votes are recorded where they were taken. At a meeting its quorum must be present."""

    decision: Literal["approve", "approve_with_conditions", "refuse", "postpone", "refer_up", "refer_out"]
    text: Long
    conditions: Text20000 = ""
    enterprise_extract: Text20000 = ""
    votes: Votes | None = None
    dissent: Text20000 = ""
    dissents: Annotated[list[Dissent], Field(max_length=30)] = Field([])
    present: Units = Field([], description="units in the room with the chair, where attendance was not recorded before")
    measures: list[NewMeasure] = Field(default=[], max_length=50)
    commitments: list[Commitment] = Field(default=[], max_length=30)
    clock_effect: Literal["runs", "replaced"] = Field(
        "runs", description="replaced: the dates of the measures take the place of the ticket's resolve clock"
    )
    postponed_to: date | None = Field(None, description="postpone: until when; default: the limit of the decision anew")
    referred_to: Literal["legislature", "province"] | None = Field(None, description="refer_out: to whom")


class ReplyToEnterprise(Body):
    text: Text20000 = Field("", description="default: the extract for the enterprise")


# --- measures --------------------------------------------------------------------------------------------------------


class MeasureReport(Body):
    text: Filled5000


class MeasureEvidence(Body):
    evidence: Filled5000
    type: Code | None = None


class StrikeOff(Body):
    """Evidence checked, the enterprise heard, signed by an approver of the tier that decided."""

    enterprise_opinion: Literal["satisfied", "basically_satisfied", "dissatisfied", "not_reached"] | None = None
    opinion_text: Text2000 = ""
    signed_by: Short = ""
    reason: Text2000 = ""
    waive: bool = False


class Reschedule(Body):
    due_on: date
    reason: Filled2000


# --- meetings --------------------------------------------------------------------------------------------------------


class Official(Body):
    """The chair or the recorder."""

    name: Short = ""
    title: Short = ""
    department: Code | None = None
    subject: Short | None = None


class Invited(Body):
    role: Literal["chair", "member", "observer", "recorder", "enterprise"] = "member"
    name: Short = ""
    title: Short = ""
    department: Code | None = None
    subject: Short | None = None


class NewMeeting(Body):
    tier: Annotated[int, Field(ge=1, le=3)]
    held_at: Instant
    title: Short = ""
    place: Short = ""
    extra: bool = Field(False, description="outside the rhythm: its agenda closes shortly before it begins")
    reason: Text2000 = Field("", description="why an extra meeting")
    chair: Official | None = Field(None, description="default: the tier's, by office")
    recorder: Official | None = None
    attendees: Annotated[list[Invited], Field(max_length=60)] = Field([])


class Invite(Body):
    attendees: Annotated[list[Invited], Field(min_length=1, max_length=60)]


class Nothing(Body):
    pass


class AddPaper(Body):
    review: Id
    title: Name
    kind: Literal["report", "opinion", "legal_review", "fair_competition_review", "budget_note", "other"] = "report"
    secret: bool = False
    attachment: Short | None = None


class Attendance(Body):
    """Who: `attendee` by id, `department`, or `chair: true`."""

    attendee: Id | None = None
    department: Code | None = None
    chair: bool = False
    present: bool = True
    substitute: Short = ""
    reason: Text2000 = Field("", description="required of an absence")


class Attend(Body):
    attendance: Annotated[list[Attendance], Field(min_length=1, max_length=60)]


class Recuse(Body):
    review: Id
    attendee: Id | None = None
    department: Code | None = None
    chair: bool = False
    reason: Filled2000


class Hear(Body):
    review: Id
    statement: Text10000 = ""
    excused: bool = Field(False, description="it has left the room")


class Adjourn(Body):
    held_at: Instant
    reason: Filled2000


# --- thematic studies --------------------------------------------------------------------------------------------------


class NewStudy(Body):
    theme: Name
    matter: Code | None = None
    reason: Text2000 = ""


class CloseStudy(Body):
    closing: Filled5000


REVIEW_FORMS: dict[str, type[Body]] = {
    "screen": Screen,
    "supplement": Supplement,
    "request_opinions": RequestOpinions,
    "give_opinion": GiveOpinion,
    "pass_gate": PassGate,
    "schedule": Schedule,
    "decide": DecideReview,
    "reply": ReplyToEnterprise,
    "withdraw": Reason,
}
MEASURE_FORMS: dict[str, type[Body]] = {
    "report": MeasureReport,
    "submit_evidence": MeasureEvidence,
    "strike_off": StrikeOff,
    "reschedule": Reschedule,
}
MEETING_FORMS: dict[str, type[Body]] = {
    "invite": Invite,
    "notify": Nothing,
    "acknowledge": Nothing,
    "add_paper": AddPaper,
    "attend": Attend,
    "recuse": Recuse,
    "hear": Hear,
    "adjourn": Adjourn,
    "close": Nothing,
    "cancel": Reason,
}


def _schemas(forms: dict[str, type[Body]]) -> dict[str, dict[str, Any]]:
    return {name: form.model_json_schema() for name, form in forms.items()}


REVIEW_SCHEMAS, MEASURE_SCHEMAS, MEETING_SCHEMAS = map(_schemas, (REVIEW_FORMS, MEASURE_FORMS, MEETING_FORMS))
"""Action -> JSON Schema of its form, as `actions` of an answer tells it."""
