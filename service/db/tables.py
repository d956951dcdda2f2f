"""Every table, constraint and index on one page. Policies and roles stand in the migrations.

Rows only: no relationships, no validation here (values are checked before), status columns are text + CHECK so that a
filter on them stays leakproof under row-level security. Ids are UUIDv7 made by the application.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID
from sqlmodel import Field, SQLModel

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata: MetaData = SQLModel.metadata
metadata.naming_convention = NAMING


ASIDE = "next_fire_at IS NOT NULL AND (attempts > 0 OR crashes > 0)"
"""A timer that failed, or over which a worker died."""


DOCKET = (
    "name IN ('review_screen', 'review_opinion', 'review_decision', 'review_minutes', 'review_reply', 'review_measure')"
    " AND state IN ('running', 'breached_running')"
)
"""What is due next on the docket: the board reads it for every open matter."""


def _pk() -> Any:
    return Field(sa_column=Column(UUID(as_uuid=False), primary_key=True))


def _id(nullable: bool = False, references: str | None = None) -> Any:
    args = [ForeignKey(references)] if references else []
    return Field(sa_column=Column(UUID(as_uuid=False), *args, nullable=nullable))


def _text(nullable: bool = False, default: str | None = None) -> Any:
    server = text(f"'{default}'") if default is not None else None
    return Field(sa_column=Column(Text, nullable=nullable, server_default=server))


def _time(nullable: bool = False) -> Any:
    return Field(sa_column=Column(DateTime(timezone=True), nullable=nullable))


def _int(default: int | None = None, small: bool = False, big: bool = False, nullable: bool = False) -> Any:
    kind = SmallInteger if small else BigInteger if big else Integer
    server = text(str(default)) if default is not None else None
    return Field(sa_column=Column(kind, nullable=nullable, server_default=server))


def _json(default: str = "{}", nullable: bool = False) -> Any:
    return Field(sa_column=Column(JSONB, nullable=nullable, server_default=text(f"'{default}'")))


def _data() -> Any:
    return Field(sa_column=Column(JSONB, nullable=True))


def _bytes(nullable: bool = False) -> Any:
    return Field(sa_column=Column(LargeBinary, nullable=nullable))


def _bool(default: bool = False) -> Any:
    return Field(sa_column_kwargs={"server_default": text("true" if default else "false")}, nullable=False)


def _texts() -> Any:
    return Field(sa_column=Column(ARRAY(Text), nullable=False, server_default=text("'{}'")))


def _one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{v}'" for v in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


# --- who ---------------------------------------------------------------------------------------------------------


class Enterprise(SQLModel, table=True):
    """A firm as known from its requests; `match_key` is the credit code, or the folded name where none was given.

    `name_key`: the folded name that it has now; those it had before are rows of `enterprise_names`.
    """

    __tablename__ = "enterprises"
    __table_args__ = (
        Index("ix_enterprises_name_key", "name_key"),
        Index("ix_enterprises_parent_id", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
    )
    id: str = _pk()
    match_key: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    name: str = _text()
    name_key: str | None = _text(nullable=True)
    kind: str | None = _text(nullable=True)
    parent_id: str | None = _id(nullable=True, references="enterprises.id")
    uscc: str | None = _text(nullable=True)
    district: str | None = _text(nullable=True)
    industry: str | None = _text(nullable=True)
    tier: str | None = _text(nullable=True)
    created_at: datetime = _time()


class EnterpriseName(SQLModel, table=True):
    """A name that a firm had before: from when until when we knew it by it."""

    __tablename__ = "enterprise_names"
    __table_args__ = (Index(None, "name_key"),)
    enterprise_id: str = Field(sa_column=Column(UUID(as_uuid=False), ForeignKey("enterprises.id"), primary_key=True))
    until: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    name: str = _text()
    name_key: str = _text()
    since: datetime = _time()


class Department(SQLModel, table=True):
    __tablename__ = "departments"
    code: str = Field(sa_column=Column(Text, primary_key=True))
    title: dict[str, Any] = _json()
    kind: str = _text()
    district: str | None = _text(nullable=True)
    source: str = _text()
    active: bool = _bool(True)


class DepartmentChange(SQLModel, table=True):
    """A unit was renamed, abolished or merged into another; its open tickets move in the background."""

    __tablename__ = "department_changes"
    __table_args__ = (
        _one_of("kind", "rename", "abolish", "merge"),
        _one_of("state", "running", "done"),
        Index("ix_department_changes_running", "id", postgresql_where=text("state = 'running'")),
    )
    id: str = _pk()
    code: str = _text()
    kind: str = _text()
    successor: str | None = _text(nullable=True)
    title: dict[str, Any] | None = _data()
    reason: str = _text()
    by: dict[str, Any] = _json()
    at: datetime = _time()
    state: str = _text(default="running")
    total: int = _int(0)
    done: int = _int(0)
    failed: dict[str, Any] = _json()
    finished_at: datetime | None = _time(nullable=True)


class Duty(SQLModel, table=True):
    """Who is on duty when offices are closed: one person of one unit (`city`: for all units) over a span of time."""

    __tablename__ = "duties"
    __table_args__ = (
        _one_of("kind", "night", "holiday", "duty"),
        CheckConstraint("until > since", name="span"),
        Index(None, "department", "until"),
    )
    id: str = _pk()
    department: str = _text()
    kind: str = _text(default="duty")
    subject: str = _text()
    name: str = _text(default="")
    phone: bytes | None = _bytes(nullable=True)
    since: datetime = _time()
    until: datetime = _time()
    by: str = _text()
    created_at: datetime = _time()


class Person(SQLModel, table=True):
    """Somebody who acted or was given a role; `subject` is the identity provider's."""

    __tablename__ = "people"
    subject: str = Field(sa_column=Column(Text, primary_key=True))
    role: str = _text()
    departments: list[str] = _texts()
    active: bool = _bool(True)
    created_at: datetime = _time()


class Client(SQLModel, table=True):
    """A machine with client credentials. Only a hash of the (random, 256 bit) secret is kept."""

    __tablename__ = "clients"
    id: str = Field(sa_column=Column(Text, primary_key=True))
    secret_sha256: bytes = _bytes()
    role: str = _text()
    active: bool = _bool(True)
    created_at: datetime = _time()


# --- what is configured --------------------------------------------------------------------------------------------


class Definition(SQLModel, table=True):
    """One immutable version of a workflow, a calendar, the routing catalogue or another of the city's own rules."""

    __tablename__ = "definitions"
    __table_args__ = (
        _one_of("kind", "workflow", "calendar", "routing", "matters", "departments", "desk", "scorecard", "docket"),
    )  # fmt: skip
    kind: str = Field(sa_column=Column(Text, primary_key=True))
    key: str = Field(sa_column=Column(Text, primary_key=True))
    version: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    body: dict[str, Any] = _json()
    sha256: str = _text()
    published_at: datetime = _time()
    published_by: str = _text()
    reason: str = _text(default="")
    retired_at: datetime | None = _time(nullable=True)


class CodeMapping(SQLModel, table=True):
    """What a code of a source means in our lists: the hotline's catalogue is of another version than ours."""

    __tablename__ = "code_mappings"
    __table_args__ = (_one_of("field", "matter", "district"),)
    source_system: str = Field(sa_column=Column(Text, primary_key=True))
    field: str = Field(sa_column=Column(Text, primary_key=True))
    code: str = Field(sa_column=Column(Text, primary_key=True))
    means: str = _text()
    by: str = _text()
    at: datetime = _time()


class Incident(SQLModel, table=True):
    """A sudden cluster: the same matter from many firms within hours (art. 29 of Beijing's regulation)."""

    __tablename__ = "incidents"
    __table_args__ = (
        _one_of("state", "open", "ended"),
        Index("uq_incidents_open", "matter", unique=True, postgresql_where=text("state = 'open'")),
    )
    id: str = _pk()
    matter: str = _text()
    state: str = _text(default="open")
    firms: int = _int()
    tickets: int = _int()
    first_at: datetime = _time()
    last_at: datetime = _time()
    noticed_at: datetime = _time()
    ended_at: datetime | None = _time(nullable=True)


class CalendarProjection(SQLModel, table=True):
    """The re-projection of open clocks onto one version of a calendar (T9): how far it is, and what it moved."""

    __tablename__ = "calendar_projections"
    __table_args__ = (_one_of("state", "running", "done"),)
    key: str = Field(sa_column=Column(Text, primary_key=True))
    version: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    state: str = _text(default="running")
    total: int = _int(0)
    done: int = _int(0)
    moved: int = _int(0)
    reason: str = _text(default="")
    by: str = _text()
    started_at: datetime = _time()
    finished_at: datetime | None = _time(nullable=True)


class WorkflowMigration(SQLModel, table=True):
    """An order to move the running tickets of one workflow version to another, and how it stands."""

    __tablename__ = "workflow_migrations"
    __table_args__ = (
        _one_of("state", "running", "done", "undoing", "undone"),
        Index("uq_workflow_migrations_unfinished", "from_key", "from_version", unique=True,
              postgresql_where=text("state IN ('running', 'undoing')")),
    )  # fmt: skip
    id: str = _pk()
    from_key: str = _text()
    from_version: int = _int()
    to_key: str = _text()
    to_version: int = _int()
    stages: dict[str, Any] = _json()
    clocks: dict[str, Any] = _json()
    reason: str = _text()
    ordered_by: dict[str, Any] = _json()
    state: str = _text(default="running")
    started_at: datetime = _time()
    finished_at: datetime | None = _time(nullable=True)
    undo_reason: str | None = _text(nullable=True)
    undone_by: dict[str, Any] | None = _data()
    undone_at: datetime | None = _time(nullable=True)


# --- tickets and what hangs on them --------------------------------------------------------------------------------


class TicketRow(SQLModel, table=True):
    """The one lock: whoever changes anything of a ticket holds this row."""

    __tablename__ = "tickets"
    __table_args__ = (
        UniqueConstraint("source_system", "source_reference"),
        _one_of("phase", "intake", "dispatch", "acceptance", "handling", "waiting", "audit", "callback", "review",
                "closed"),
        _one_of("urgency", "normal", "urgent", "emergency"),
        _one_of("domain", "consultation", "project_landing", "business_development", "government_service",
                "complaint_report"),
        Index(None, "enterprise_id", "matter"),
        Index("ix_tickets_open_lead", "lead", postgresql_where=text("phase <> 'closed'")),
        Index("ix_tickets_open_phase", "phase", postgresql_where=text("phase <> 'closed'")),
        Index("ix_tickets_open_workflow", "workflow_key", "workflow_version", "id",
              postgresql_where=text("phase <> 'closed'")),
        Index(None, "created_at"),
        Index(None, "source_system", "received_at"),
        Index("ix_tickets_merged_into", "merged_into", postgresql_where=text("merged_into IS NOT NULL")),
        Index("ix_tickets_split_from", "split_from", postgresql_where=text("split_from IS NOT NULL")),
        Index("ix_tickets_outcome", "outcome", "id", postgresql_where=text("outcome IS NOT NULL")),
        # room for a second version of each row: an update that moves no indexed column then touches no index
        {"postgresql_with": {"fillfactor": 60}},
    )  # fmt: skip
    id: str = _pk()
    number: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    source_system: str = _text()
    source_reference: str = _text()
    content_sha256: bytes = _bytes()
    enterprise_id: str = _id(references="enterprises.id")
    workflow_key: str = _text()
    workflow_version: int = _int()
    domain: str = _text()
    matter: str | None = _text(nullable=True)
    urgency: str = _text()
    district: str | None = _text(nullable=True)
    title: str = _text()
    description: str = _text()
    content: dict[str, Any] = _json()
    contact: bytes | None = _bytes(nullable=True)
    contact_masked: dict[str, Any] | None = _json(nullable=True)
    warnings: list[dict[str, Any]] = _json("[]")
    stage: str = _text()
    phase: str = _text()
    round: int = _int(1, small=True)
    lead: str | None = _text(nullable=True)
    outcome: str | None = _text(nullable=True)
    counters: dict[str, Any] = _json()
    facts: dict[str, Any] = _json()
    visible_to: list[str] = _texts()
    recused: list[str] = _texts()
    received_at: datetime = _time()
    created_at: datetime = _time()
    updated_at: datetime = _time()
    closed_at: datetime | None = _time(nullable=True)
    next_due_at: datetime | None = _time(nullable=True)
    version: int = _int(1)
    last_seq: int = _int(0)
    head_hash: str = _text(default="")
    merged_into: str | None = _id(nullable=True, references="tickets.id")
    split_from: str | None = _id(nullable=True, references="tickets.id")


class AssignmentRow(SQLModel, table=True):
    """One department's leg; queues are read from here (by department, nearest due first)."""

    __tablename__ = "assignments"
    __table_args__ = (
        _one_of("role", "lead", "co_handler"),
        _one_of("state", "pending", "accepted", "submitted", "ended"),
        Index(None, "ticket_id"),
        Index("ix_assignments_open_department", "department", postgresql_where=text("ended_at IS NULL")),
        Index(None, "dispatched_at"),
    )  # fmt: skip
    id: str = _pk()
    ticket_id: str = _id(references="tickets.id")
    department: str = _text()
    role: str = _text()
    state: str = _text()
    round: int = _int(1, small=True)
    assignee: str | None = _text(nullable=True)
    dispatched_at: datetime = _time()
    accepted_at: datetime | None = _time(nullable=True)
    auto_accepted: bool = _bool()
    submitted_at: datetime | None = _time(nullable=True)
    ended_at: datetime | None = _time(nullable=True)
    end_reason: str = _text(default="")


class RoundRow(SQLModel, table=True):
    """办理轮次: when each round of handling began and ended, and with what result."""

    __tablename__ = "rounds"
    ticket_id: str = Field(sa_column=Column(UUID(as_uuid=False), ForeignKey("tickets.id"), primary_key=True))
    number: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    started_at: datetime = _time()
    submitted_at: datetime | None = _time(nullable=True)
    ended_at: datetime | None = _time(nullable=True)
    solved: str | None = _text(nullable=True)
    satisfaction: str | None = _text(nullable=True)
    department: str | None = _text(nullable=True)


class ClockRow(SQLModel, table=True):
    """Budget and ledger of one promise. `due_at`, `next_fire_at` are indexed projections, recomputed from the rest."""

    __tablename__ = "clocks"
    __table_args__ = (
        _one_of("state", "running", "paused", "held", "met", "breached_running", "breached_met", "cancelled"),
        _one_of("measure", "natural_hours", "working_hours", "natural_days", "working_days"),
        _one_of("family", "enterprise", "assignment", "centre"),
        UniqueConstraint("ticket_id", "name", "cycle"),
        Index("ix_clocks_fire", "next_fire_at", postgresql_where=text("next_fire_at IS NOT NULL")),
        Index("ix_clocks_aside", "next_fire_at", postgresql_where=text(ASIDE)),
        Index("ix_clocks_dead", "dead_at", postgresql_where=text("dead_at IS NOT NULL")),
        Index("ix_clocks_breached", "breached_at", "id", postgresql_where=text("breached_at IS NOT NULL")),
        Index("ix_clocks_docket", "ticket_id", "due_at", postgresql_where=text(DOCKET)),
        Index("ix_clocks_provisional", "due_at", postgresql_where=text("provisional")),
        Index(None, "name", "due_at"),
        Index(None, "assignment_id"),
        {"postgresql_with": {"fillfactor": 80}},
    )
    id: str = _pk()
    ticket_id: str = _id(references="tickets.id")
    assignment_id: str | None = _id(nullable=True, references="assignments.id")
    name: str = _text()
    cycle: int = _int(1)
    family: str = _text()
    measure: str = _text()
    budget: int = _int(big=True)
    anchor_name: str = _text()
    anchor: datetime = _time()
    calendar_key: str = _text()
    calendar_version: int = _int()
    workflow_key: str | None = _text(nullable=True)
    workflow_version: int | None = _int(nullable=True)
    state: str = _text()
    due_at: datetime = _time()
    original_due_at: datetime = _time()
    segments: list[dict[str, Any]] = _json("[]")
    extensions: list[dict[str, Any]] = _json("[]")
    fired: list[str] = _texts()
    provisional: bool = _bool()
    breached_at: datetime | None = _time(nullable=True)
    held_at: datetime | None = _time(nullable=True)
    ended_at: datetime | None = _time(nullable=True)
    end_reason: str = _text(default="")
    next_fire_at: datetime | None = _time(nullable=True)
    department: str | None = _text(nullable=True)
    subject_id: str | None = _id(nullable=True)
    changes: list[dict[str, Any]] = _json("[]")
    escalates_from: datetime | None = _time(nullable=True)
    attempts: int = _int(0, small=True)
    crashes: int = _int(0, small=True)
    last_error: str | None = _text(nullable=True)
    dead_at: datetime | None = _time(nullable=True)


class FiringRow(SQLModel, table=True):
    """The claim of one rung: its primary key is what makes an effect happen exactly once.

    Its ticket is its clock's: a second foreign key would cost a look-up for each rung and say nothing new.
    """

    __tablename__ = "firings"
    __table_args__ = (_one_of("outcome", "fired", "superseded"),)
    clock_id: str = Field(sa_column=Column(UUID(as_uuid=False), ForeignKey("clocks.id"), primary_key=True))
    rung: str = Field(sa_column=Column(Text, primary_key=True))
    ticket_id: str = _id()
    due_at: datetime = _time()
    fired_at: datetime = _time()
    outcome: str = _text()


class ApprovalRow(SQLModel, table=True):
    __tablename__ = "approvals"
    __table_args__ = (
        _one_of("state", "pending", "approved", "denied", "withdrawn"),
        Index(None, "ticket_id"),
        Index("ix_approvals_pending", "requested_at", "id", postgresql_where=text("state = 'pending'")),
        Index(None, "decided_at"),
    )
    id: str = _pk()
    ticket_id: str = _id(references="tickets.id")
    assignment_id: str | None = _id(nullable=True, references="assignments.id")
    kind: str = _text()
    state: str = _text()
    department: str | None = _text(nullable=True)
    requested_by: str = _text()
    requested_at: datetime = _time()
    form: dict[str, Any] = _json()
    decided_by: str | None = _text(nullable=True)
    decided_at: datetime | None = _time(nullable=True)
    reason: str = _text(default="")
    level: int = _int(1, small=True)
    decisions: list[dict[str, Any]] = _json("[]")


class ReviewRow(SQLModel, table=True):
    """One matter, one discussion (一事一议)."""

    __tablename__ = "reviews"
    __table_args__ = (
        _one_of("state", "proposed", "preparing", "decided", "completed", "refused", "withdrawn"),
        _one_of("kind", "enterprise_problem", "investment_project"),
        Index(None, "ticket_id"),
        Index("ix_reviews_docket", "proposed_at", "id"),
    )
    id: str = _pk()
    ticket_id: str = _id(references="tickets.id")
    number: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    kind: str = _text()
    state: str = _text()
    grounds: list[str] = _texts()
    summary: str = _text(default="")
    proposed_by: str = _text()
    proposed_at: datetime = _time()
    tier: int | None = _int(small=True, nullable=True)
    clock_effect: str = _text(default="runs")
    screened_by: str | None = _text(nullable=True)
    screened_at: datetime | None = _time(nullable=True)
    screen_reason: str = _text(default="")
    decision: str | None = _text(nullable=True)
    decision_text: str = _text(default="")
    enterprise_extract: str = _text(default="")
    dissent: str = _text(default="")
    decided_by: str | None = _text(nullable=True)
    decided_at: datetime | None = _time(nullable=True)
    completed_at: datetime | None = _time(nullable=True)
    asked: str = _text(default="")
    tried: str = _text(default="")
    options: list[str] = _texts()
    signed_by: str = _text(default="")
    history: dict[str, Any] = _json()
    returns: int = _int(0, small=True)
    returned_at: datetime | None = _time(nullable=True)
    supplemented_at: datetime | None = _time(nullable=True)
    study_id: str | None = _id(nullable=True)
    meeting_id: str | None = _id(nullable=True)
    major: bool = _bool()
    confidentiality: str = _text(default="internal")
    gates: dict[str, Any] = _json()
    conditions: str = _text(default="")
    votes: dict[str, Any] = _json()
    dissents: list[dict[str, Any]] = _json("[]")
    recused: list[dict[str, Any]] = _json("[]")
    postponed_to: str | None = _text(nullable=True)
    referred_to: str | None = _text(nullable=True)
    issued_at: datetime | None = _time(nullable=True)
    reply: str = _text(default="")
    replied_at: datetime | None = _time(nullable=True)
    replied_by: str | None = _text(nullable=True)


class OpinionRow(SQLModel, table=True):
    __tablename__ = "opinions"
    __table_args__ = (
        CheckConstraint("position IS NULL OR position IN ('agree', 'disagree', 'condition')", name="position"),
        UniqueConstraint("review_id", "department"),
        Index(None, "ticket_id"),
    )
    id: str = _pk()
    ticket_id: str = _id(references="tickets.id")
    review_id: str = _id(references="reviews.id")
    department: str = _text()
    asked_at: datetime = _time()
    position: str | None = _text(nullable=True)
    text: str = _text(default="")
    legal_basis: str = _text(default="")
    given_at: datetime | None = _time(nullable=True)
    given_by: str | None = _text(nullable=True)


class MeasureRow(SQLModel, table=True):
    """A task that a resolution creates (议定事项)."""

    __tablename__ = "measures"
    __table_args__ = (
        _one_of("state", "open", "reported", "evidence", "struck_off", "waived"),
        Index(None, "ticket_id"),
        Index(None, "department"),
    )
    id: str = _pk()
    ticket_id: str = _id(references="tickets.id")
    review_id: str = _id(references="reviews.id")
    title: str = _text()
    department: str = _text()
    due_on: str = _text()
    mandatory: bool = _bool(True)
    state: str = _text()
    progress: list[dict[str, Any]] = _json("[]")
    evidence: str = _text(default="")
    struck_off_at: datetime | None = _time(nullable=True)
    struck_off_by: str | None = _text(nullable=True)
    reason: str = _text(default="")
    co_units: list[str] = _texts()
    deliverable: str = _text(default="")
    evidence_type: str = _text(default="")
    resource: str | None = _text(nullable=True)
    quantity: str = _text(default="")
    favour: str | None = _text(nullable=True)
    created_at: datetime | None = _time(nullable=True)
    enterprise_opinion: dict[str, Any] = _json()


class StudyRow(SQLModel, table=True):
    """A thematic study (专题研究): one theme, many tickets."""

    __tablename__ = "studies"
    __table_args__ = (_one_of("state", "open", "closed"), Index(None, "matter"))
    id: str = _pk()
    number: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    theme: str = _text()
    matter: str | None = _text(nullable=True)
    reason: str = _text(default="")
    state: str = _text()
    opened_by: str = _text()
    opened_at: datetime = _time()
    closed_at: datetime | None = _time(nullable=True)
    closing: str = _text(default="")


class MeetingRow(SQLModel, table=True):
    """One sitting at which matters are decided. Its own row lock is taken before those of the tickets on its agenda.

    `departments`: the units that are invited; they see it.
    """

    __tablename__ = "meetings"
    __table_args__ = (
        _one_of("state", "planned", "held", "cancelled"),
        CheckConstraint("tier BETWEEN 1 AND 3", name="tier"),
        Index("ix_meetings_held_at", "held_at", "id"),
    )
    id: str = _pk()
    number: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    tier: int = _int(small=True)
    title: str = _text()
    place: str = _text(default="")
    state: str = _text()
    departments: list[str] = _texts()
    held_at: datetime = _time()
    agenda_closes_at: datetime = _time()
    extra_reason: str = _text(default="")
    ended_at: datetime | None = _time(nullable=True)
    adjournments: list[dict[str, Any]] = _json("[]")
    created_by: str = _text()
    created_at: datetime = _time()
    updated_at: datetime = _time()
    version: int = _int(1)


class AttendeeRow(SQLModel, table=True):
    """Somebody who is invited to a meeting. A unit sees and acknowledges its own; `recused`: the agenda items."""

    __tablename__ = "attendees"
    __table_args__ = (
        _one_of("role", "chair", "recorder", "member", "observer", "enterprise"),
        _one_of("state", "invited", "notified", "acknowledged", "present", "absent"),
        Index(None, "meeting_id"),
        Index(None, "department"),
        Index(
            "uq_attendees_chair",
            "meeting_id",
            unique=True,
            postgresql_where=text("role = 'chair'"),
        ),
    )
    id: str = _pk()
    meeting_id: str = _id(references="meetings.id")
    department: str | None = _text(nullable=True)
    name: str = _text(default="")
    title: str = _text(default="")
    subject: str | None = _text(nullable=True)
    role: str = _text()
    state: str = _text()
    substitute: str = _text(default="")
    reason: str = _text(default="")
    notified_at: datetime | None = _time(nullable=True)
    acknowledged_at: datetime | None = _time(nullable=True)
    acknowledged_by: str | None = _text(nullable=True)
    attended_at: datetime | None = _time(nullable=True)
    recused: list[dict[str, Any]] = _json("[]")


class AgendaItemRow(SQLModel, table=True):
    """A matter on a meeting's agenda, and what that meeting decided on it."""

    __tablename__ = "agenda_items"
    __table_args__ = (
        _one_of("state", "listed", "decided", "postponed", "referred", "withdrawn"),
        UniqueConstraint("meeting_id", "review_id"),
        Index(None, "ticket_id"),
        Index(None, "review_id"),
    )
    id: str = _pk()
    meeting_id: str = _id(references="meetings.id")
    ticket_id: str = _id(references="tickets.id")
    review_id: str = _id(references="reviews.id")
    position: int = _int(small=True)
    state: str = _text()
    added_at: datetime = _time()
    added_by: str = _text()
    late_ground: str = _text(default="")
    papers: list[dict[str, Any]] = _json("[]")
    heard: dict[str, Any] = _json()
    decision: str | None = _text(nullable=True)
    text: str = _text(default="")
    conditions: str = _text(default="")
    votes: dict[str, Any] = _json()
    dissents: list[dict[str, Any]] = _json("[]")
    recused: list[dict[str, Any]] = _json("[]")
    postponed_to: str | None = _text(nullable=True)
    referred_to: str | None = _text(nullable=True)
    measures: list[str] = _texts()
    decided_by: str | None = _text(nullable=True)
    decided_at: datetime | None = _time(nullable=True)


class MinutesRow(SQLModel, table=True):
    """One document about a meeting: its minutes, or a correction of them (`corrects`). What it says is in its versions.

    `sha256` is the hash of its last version. From `signed` on only the issue changes it, and then nothing (a trigger).
    `departments`: the units it is sent to.
    """

    __tablename__ = "minutes"
    __table_args__ = (
        _one_of("state", "draft", "checked", "signed", "issued"),
        CheckConstraint("(state = 'issued') = (number IS NOT NULL)", name="numbered"),
        UniqueConstraint("series", "year", "serial"),
        Index(None, "meeting_id"),
        Index("uq_minutes_unfinished", "meeting_id", unique=True, postgresql_where=text("state <> 'issued'")),
    )
    id: str = _pk()
    meeting_id: str = _id(references="meetings.id")
    state: str = _text()
    corrects: str | None = _id(nullable=True, references="minutes.id")
    series: str = _text()
    year: int | None = _int(small=True, nullable=True)
    serial: int | None = _int(nullable=True)
    number: str | None = _text(nullable=True)
    departments: list[str] = _texts()
    version: int = _int()
    sha256: str = _text()
    created_at: datetime = _time()
    updated_at: datetime = _time()
    signed_at: datetime | None = _time(nullable=True)
    issued_at: datetime | None = _time(nullable=True)


class MinutesVersionRow(SQLModel, table=True):
    """What a step wrote. Append-only; each holds the hash of the one before."""

    __tablename__ = "minutes_versions"
    __table_args__ = (_one_of("step", "draft", "check", "sign", "issue"),)
    minutes_id: str = Field(sa_column=Column(UUID(as_uuid=False), ForeignKey("minutes.id"), primary_key=True))
    version: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    step: str = _text()
    body: dict[str, Any] = _json()
    by: dict[str, Any] = _json()
    at: datetime = _time()
    prev: str = _text()
    sha256: str = _text()


class MinutesSeriesRow(SQLModel, table=True):
    """The last number of a series in a year, and the hash of the document that has it: the lock that keeps out gaps."""

    __tablename__ = "minutes_series"
    series: str = Field(sa_column=Column(Text, primary_key=True))
    year: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    last: int = _int(0)
    sha256: str = _text(default="")


class PrecedentRow(SQLModel, table=True):
    """A decision that was issued, to be found again. It decides nothing by itself."""

    __tablename__ = "precedents"
    __table_args__ = (
        _one_of("state", "valid", "withdrawn", "superseded"),
        UniqueConstraint("minutes_id", "review_id"),
        Index(None, "review_id"),
        Index(None, "ticket_id"),
        Index("ix_precedents_matter", "matter", "id"),
        Index("ix_precedents_newest", "issued_on", "id"),
    )
    id: str = _pk()
    minutes_id: str = _id(references="minutes.id")
    review_id: str = _id(references="reviews.id")
    ticket_id: str = _id(references="tickets.id")
    number: str = _text()
    kind: str = _text()
    matter: str | None = _text(nullable=True)
    subject: str = _text()
    asked: str = _text(default="")
    decision: str = _text()
    text: str = _text()
    conditions: str = _text(default="")
    legal_grounds: list[str] = _texts()
    departments: list[str] = _texts()
    issued_on: str = _text()
    valid_until: str | None = _text(nullable=True)
    state: str = _text(default="valid")
    reason: str = _text(default="")
    changed_by: str | None = _text(nullable=True)
    changed_at: datetime | None = _time(nullable=True)


class PrecedentGramRow(SQLModel, table=True):
    """Which precedents have a pair of characters, and how often: the index of the search."""

    __tablename__ = "precedent_grams"
    gram: str = Field(sa_column=Column(Text, primary_key=True))
    precedent_id: str = Field(sa_column=Column(UUID(as_uuid=False), ForeignKey("precedents.id"), primary_key=True))


class PrecedentProposalRow(SQLModel, table=True):
    """A change of a rule or of the dispatch catalogue that a precedent suggests; somebody else decides."""

    __tablename__ = "precedent_proposals"
    __table_args__ = (
        _one_of("kind", "rule", "catalogue"),
        _one_of("state", "open", "accepted", "refused"),
        Index(None, "precedent_id"),
    )
    id: str = _pk()
    precedent_id: str = _id(references="precedents.id")
    kind: str = _text()
    target: str = _text()
    text: str = _text()
    state: str = _text(default="open")
    proposed_by: str = _text()
    proposed_at: datetime = _time()
    decided_by: str | None = _text(nullable=True)
    decided_at: datetime | None = _time(nullable=True)
    decision_reason: str = _text(default="")


class EventRow(SQLModel, table=True):
    """History: append-only, numbered without gaps and hash-chained per ticket."""

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("ticket_id", "seq"),
        CheckConstraint("seq > 0", name="seq"),
    )
    id: str = _pk()
    ticket_id: str = _id(references="tickets.id")
    seq: int = _int()
    type: str = _text()
    occurred_at: datetime = _time()
    recorded_at: datetime = _time()
    actor: dict[str, Any] = _json()
    data: dict[str, Any] = _json()
    prev: str = _text()
    hash: str = _text()


class OutboxRow(SQLModel, table=True):
    """What must leave the house, written with the event it tells of. Ids and types only: no personal data.

    No foreign key: these rows are in transit, written by the statement that writes their ticket, and the nightly check
    asks of each ticket whether every event of it went out once.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        _one_of("state", "pending", "done", "dead"),
        Index("ix_outbox_pending", "next_at", "id", postgresql_where=text("state = 'pending'")),
        Index("ix_outbox_unnumbered", "id", postgresql_where=text("position IS NULL")),
        Index("uq_outbox_position", "position", unique=True, postgresql_where=text("position IS NOT NULL")),
        Index(None, "ticket_id"),
    )
    id: str = _pk()
    ticket_id: str = _id()
    topic: str = _text()
    body: dict[str, Any] = _json()
    state: str = _text(default="pending")
    next_at: datetime = _time()
    attempts: int = _int(0, small=True)
    lease_until: datetime | None = _time(nullable=True)
    last_error: str | None = _text(nullable=True)
    created_at: datetime = _time()
    done_at: datetime | None = _time(nullable=True)
    position: int | None = _int(big=True, nullable=True)


class ReceiverRow(SQLModel, table=True):
    """Somebody whom events are sent to, and how far he has them. The secret is sealed, and gone when he is removed.

    `sending`: the message that is being tried, always the same until it is taken: up to which place it goes.
    """

    __tablename__ = "receivers"
    __table_args__ = (
        _one_of("state", "active", "disabled", "removed"),
        Index("ix_receivers_active", "next_at", postgresql_where=text("state = 'active'")),
    )
    id: str = _pk()
    url: str = _text()
    secret: bytes | None = _bytes(nullable=True)
    types: list[str] = _texts()
    description: str = _text(default="")
    owner: str = _text()
    state: str = _text(default="active")
    reason: str = _text(default="")
    position: int = _int(0, big=True)
    within: int = _int(0)
    sending: list[int] | None = _data()
    attempts: int = _int(0, small=True)
    next_at: datetime = _time()
    lease_until: datetime | None = _time(nullable=True)
    last_error: str | None = _text(nullable=True)
    created_at: datetime = _time()
    delivered_at: datetime | None = _time(nullable=True)


class SourceVersionRow(SQLModel, table=True):
    """A correction that the source sent: the request as it should read. One that came out of order is kept, not applied."""

    __tablename__ = "source_versions"
    ticket_id: str = Field(sa_column=Column(UUID(as_uuid=False), ForeignKey("tickets.id"), primary_key=True))
    sequence: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    content_sha256: bytes = _bytes()
    content: bytes = _bytes()
    applied: bool = _bool()
    why_not: str | None = _text(nullable=True)
    reason: str = _text(default="")
    by: str = _text()
    received_at: datetime = _time()


class TicketEnterpriseRow(SQLModel, table=True):
    """A further firm of a group request: one matter, many firms."""

    __tablename__ = "ticket_enterprises"
    __table_args__ = (Index(None, "enterprise_id"),)
    ticket_id: str = Field(sa_column=Column(UUID(as_uuid=False), ForeignKey("tickets.id"), primary_key=True))
    enterprise_id: str = Field(sa_column=Column(UUID(as_uuid=False), ForeignKey("enterprises.id"), primary_key=True))
    name: str = _text()


class QuarantineRow(SQLModel, table=True):
    """A code of the hotline that is not ours: the ticket waits for a dispatcher, its clock runs. `field`: matter, district."""

    __tablename__ = "quarantine"
    __table_args__ = (
        _one_of("state", "open", "fixed"),
        _one_of("field", "matter", "district"),
        Index("ix_quarantine_open", "source_system", "field", "code", postgresql_where=text("state = 'open'")),
    )
    ticket_id: str = Field(sa_column=Column(UUID(as_uuid=False), ForeignKey("tickets.id"), primary_key=True))
    field: str = Field(sa_column=Column(Text, primary_key=True))
    source_system: str = _text()
    code: str = _text()
    state: str = _text(default="open")
    since: datetime = _time()
    fixed_at: datetime | None = _time(nullable=True)
    fixed_by: str | None = _text(nullable=True)
    means: str | None = _text(nullable=True)


class NoticeRow(SQLModel, table=True):
    """Somebody should look at a ticket. Told outside in digests: one message per recipient and minute at most.

    No foreign key, as in the outbox: rows in transit, written by the statement that writes their ticket.
    """

    __tablename__ = "notices"
    __table_args__ = (
        Index("ix_notices_told", "recipient", "id"),
        Index("ix_notices_waiting", "id", postgresql_where=text("digest_id IS NULL")),
    )
    id: str = _pk()
    ticket_id: str = _id()
    recipient: str = _text()
    kind: str = _text()
    about: str | None = _text(nullable=True)
    due_at: datetime | None = _time(nullable=True)
    created_at: datetime = _time()
    digest_id: str | None = _id(nullable=True)


class DigestRow(SQLModel, table=True):
    """The notices of one recipient and minute as one message; leaves the house as the outbox does."""

    __tablename__ = "digests"
    __table_args__ = (
        _one_of("state", "pending", "done", "dead"),
        UniqueConstraint("recipient", "slot"),
        Index("ix_digests_pending", "next_at", "id", postgresql_where=text("state = 'pending'")),
    )
    id: str = _pk()
    recipient: str = _text()
    slot: datetime = _time()
    body: dict[str, Any] = _json()
    state: str = _text(default="pending")
    next_at: datetime = _time()
    attempts: int = _int(0, small=True)
    lease_until: datetime | None = _time(nullable=True)
    last_error: str | None = _text(nullable=True)
    created_at: datetime = _time()
    done_at: datetime | None = _time(nullable=True)


class WorkflowMigrationTicket(SQLModel, table=True):
    """One ticket of a migration. `seq`: its last event when it was moved; `kept`: its promises before, for the undo."""

    __tablename__ = "workflow_migration_tickets"
    __table_args__ = (
        _one_of("state", "pending", "moved", "failed", "skipped", "undoing", "undone", "kept"),
        Index(None, "ticket_id"),
        Index("ix_workflow_migration_tickets_waiting", "migration_id", "state", "ticket_id",
              postgresql_where=text("state IN ('pending', 'undoing')")),
    )  # fmt: skip
    migration_id: str = Field(
        sa_column=Column(UUID(as_uuid=False), ForeignKey("workflow_migrations.id"), primary_key=True)
    )
    ticket_id: str = Field(sa_column=Column(UUID(as_uuid=False), ForeignKey("tickets.id"), primary_key=True))
    state: str = _text(default="pending")
    reason: str = _text(default="")
    stage_before: str | None = _text(nullable=True)
    stage_after: str | None = _text(nullable=True)
    seq: int | None = _int(nullable=True)
    kept: dict[str, Any] | None = _data()
    at: datetime | None = _time(nullable=True)


class RoutingProposalRow(SQLModel, table=True):
    """A change of the dispatch catalogue that a ruling on a ticket suggests."""

    __tablename__ = "routing_proposals"
    __table_args__ = (_one_of("state", "open", "accepted", "refused"), Index(None, "ticket_id"))
    id: str = _pk()
    ticket_id: str = _id(references="tickets.id")
    state: str = _text()
    routed_by: str | None = _text(nullable=True)
    routed_version: int | None = _int(nullable=True)
    was_lead: str | None = _text(nullable=True)
    lead: str = _text()
    matter: str | None = _text(nullable=True)
    words: list[str] = _texts()
    reason: str = _text()
    proposed_by: str = _text()
    proposed_at: datetime = _time()
    decided_by: str | None = _text(nullable=True)
    decided_at: datetime | None = _time(nullable=True)
    decision_reason: str = _text(default="")
    published_version: int | None = _int(nullable=True)


class ExemptionRow(SQLModel, table=True):
    """免考: a ticket, or one rating of it, is left out of the assessment by somebody's decision and until a day."""

    __tablename__ = "exemptions"
    __table_args__ = (
        _one_of("scope", "ticket", "rating"),
        _one_of("state", "pending", "approved", "denied", "revoked"),
        Index(None, "ticket_id"),
        Index("ix_exemptions_listed", "requested_at", "id"),
    )
    id: str = _pk()
    ticket_id: str = _id(references="tickets.id")
    scope: str = _text()
    round: int | None = _int(small=True, nullable=True)
    code: str = _text()
    reason: str = _text()
    evidence: str = _text(default="")
    department: str | None = _text(nullable=True)
    state: str = _text(default="pending")
    requested_by: str = _text()
    requested_at: datetime = _time()
    expires_at: datetime = _time()
    decided_by: str | None = _text(nullable=True)
    decided_at: datetime | None = _time(nullable=True)
    decision_reason: str = _text(default="")
    revoked_by: str | None = _text(nullable=True)
    revoked_at: datetime | None = _time(nullable=True)


class SupervisionRow(SQLModel, table=True):
    """督查: one act of supervision on a ticket, from the urge to the report upward, and the unit's answer to it."""

    __tablename__ = "supervisions"
    __table_args__ = (
        _one_of("kind", "urge", "slip", "listed", "summons", "report_upward", "sweep"),
        _one_of("state", "open", "answered", "lifted"),
        UniqueConstraint("ticket_id", "number"),
        Index("ix_supervisions_listed", "issued_at", "id"),
    )
    id: str = _pk()
    ticket_id: str = _id(references="tickets.id")
    number: str = _text()
    kind: str = _text()
    ground: str = _text()
    reason: str = _text()
    department: str | None = _text(nullable=True)
    addressee: str = _text(default="")
    state: str = _text(default="open")
    issued_by: str = _text()
    issued_at: datetime = _time()
    answer_by: datetime | None = _time(nullable=True)
    answer: str = _text(default="")
    answered_by: str | None = _text(nullable=True)
    answered_at: datetime | None = _time(nullable=True)
    lifted_by: str | None = _text(nullable=True)
    lifted_at: datetime | None = _time(nullable=True)
    lift_reason: str = _text(default="")


class DelegationRow(SQLModel, table=True):
    """Somebody decides in another's place for a time: the deputy of an approver who is absent."""

    __tablename__ = "delegations"
    __table_args__ = (Index(None, "deputy"), Index(None, "delegator"))
    id: str = _pk()
    delegator: str = _text()
    deputy: str = _text()
    role: str = _text()
    departments: list[str] = _texts()
    starts_at: datetime = _time()
    ends_at: datetime = _time()
    reason: str = _text()
    made_by: str = _text()
    made_at: datetime = _time()
    revoked_by: str | None = _text(nullable=True)
    revoked_at: datetime | None = _time(nullable=True)


class OpenTicket(SQLModel, table=True):
    """What the queue reads of an open ticket, narrow: a hundred thousand of them are looked through in a blink.

    Written with the ticket; gone when it is closed. `hands`: of each open leg the person ('' for nobody), and the unit
    with the person (`tax zhang`).
    """

    __tablename__ = "open_tickets"
    __table_args__ = (
        Index("ix_open_tickets_due", "due", "ticket_id"),
        Index("ix_open_tickets_visible", "visible_to", postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
        {"postgresql_with": {"fillfactor": 70}},
    )
    ticket_id: str = Field(sa_column=Column(UUID(as_uuid=False), primary_key=True))
    due: datetime = _time()
    visible_to: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    departments: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    hands: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    phase: str = _text()
    matter: str | None = _text(nullable=True)
    urgency: str = _text()
    domain: str = _text()
    cards: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))


class TicketText(SQLModel, table=True):
    """What a ticket is found by (`core.words`): beside the ticket, whose updates would drag a large index along."""

    __tablename__ = "ticket_texts"
    __table_args__ = (
        Index("ix_ticket_texts_enterprise", "enterprise_id", "ticket_id"),
        Index("ix_ticket_texts_terms", "terms", "visible_to", postgresql_using="gin",
              postgresql_with={"fastupdate": "on", "gin_pending_list_limit": 512}),
    )  # fmt: skip
    ticket_id: str = Field(sa_column=Column(UUID(as_uuid=False), ForeignKey("tickets.id"), primary_key=True))
    enterprise_id: str = _id()
    visible_to: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    folded: str = _text()
    terms: list[int] = Field(sa_column=Column(ARRAY(Integer), nullable=False))


class AttachmentRow(SQLModel, table=True):
    """A file of a ticket; its bytes lie in the store under this id. The row is there before the first byte is."""

    __tablename__ = "attachments"
    __table_args__ = (
        _one_of("audience", "all", "centre"),
        _one_of("state", "receiving", "stored"),
        Index(None, "ticket_id"),
        Index("ix_attachments_receiving", "created_at", postgresql_where=text("state = 'receiving'")),
    )
    id: str = _pk()
    ticket_id: str = _id(references="tickets.id")
    name: str = _text()
    media_type: str = _text()
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    sha256: bytes | None = _bytes(nullable=True)
    audience: str = _text()
    state: str = _text()
    uploaded_by: str = _text()
    department: str | None = _text(nullable=True)
    created_at: datetime = _time()
    stored_at: datetime | None = _time(nullable=True)


class SavedView(SQLModel, table=True):
    """Filters of the queue under a name; one that names a department is that unit's to use."""

    __tablename__ = "saved_views"
    __table_args__ = (UniqueConstraint("owner", "name"), Index("ix_saved_views_department", "department"))
    id: str = _pk()
    owner: str = _text()
    department: str | None = _text(nullable=True)
    name: str = _text()
    filters: dict[str, Any] = _json()
    created_at: datetime = _time()
    updated_at: datetime = _time()


class TemplateRow(SQLModel, table=True):
    """A unit's own text for a reply; the city's stand in workflows/desk.yaml."""

    __tablename__ = "templates"
    __table_args__ = (Index(None, "department"),)
    id: str = _pk()
    department: str = _text()
    title: str = _text()
    text: str = _text()
    action: str = _text()
    matter: str | None = _text(nullable=True)
    created_by: str = _text()
    created_at: datetime = _time()
    updated_at: datetime = _time()


class EnterpriseContacts(SQLModel, table=True):
    """How often a firm was contacted in the week that begins on this Monday, by all units together."""

    __tablename__ = "enterprise_contacts"
    enterprise_id: str = Field(sa_column=Column(UUID(as_uuid=False), ForeignKey("enterprises.id"), primary_key=True))
    week: date = Field(sa_column=Column(Date, primary_key=True))
    contacts: int = _int(0)


class ProgressLink(SQLModel, table=True):
    """A link by which the enterprise sees how its request stands. The token itself is kept nowhere."""

    __tablename__ = "progress_links"
    __table_args__ = (Index(None, "ticket_id"),)
    id: str = _pk()
    ticket_id: str = _id(references="tickets.id")
    created_by: str = _text()
    created_at: datetime = _time()
    expires_at: datetime = _time()
    revoked_at: datetime | None = _time(nullable=True)


class IdempotencyRow(SQLModel, table=True):
    """First answers by key. The stored answer is encrypted: it holds what the client may see of a ticket."""

    __tablename__ = "idempotency"
    client: str = Field(sa_column=Column(Text, primary_key=True))
    route: str = Field(sa_column=Column(Text, primary_key=True))
    key: str = Field(sa_column=Column(Text, primary_key=True))
    request_sha256: bytes = _bytes()
    status: int = _int(small=True)
    answer: bytes = _bytes()
    headers: dict[str, Any] = _json()
    created_at: datetime = _time()


class AuditRow(SQLModel, table=True):
    """Who looked or changed what outside a ticket's own history: reveals, publications, clients, sandbox moves."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "ticket_id"), Index(None, "at"))
    id: str = _pk()
    at: datetime = _time()
    actor: dict[str, Any] = _json()
    action: str = _text()
    ticket_id: str | None = _id(nullable=True)
    data: dict[str, Any] = _json()


class PumpRun(SQLModel, table=True):
    """What each pump has in hand, written before it begins: whoever dies over a batch has left its tickets here."""

    __tablename__ = "pump_runs"
    worker: str = Field(sa_column=Column(Text, primary_key=True))
    started_at: datetime = _time()
    heartbeat_at: datetime = _time()
    batch: list[str] = Field(sa_column=Column(ARRAY(UUID(as_uuid=False)), nullable=False, server_default=text("'{}'")))
    held: str | None = _text(nullable=True)
    skew_us: int = _int(0, big=True)


class CronSlot(SQLModel, table=True):
    """Periodic work: inserting the slot is the claim, so it is done exactly once however many workers run."""

    __tablename__ = "cron_slots"
    name: str = Field(sa_column=Column(Text, primary_key=True))
    slot: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    worker: str = _text()
    started_at: datetime = _time()
    finished_at: datetime | None = _time(nullable=True)
    result: dict[str, Any] = _json()


class SandboxClock(SQLModel, table=True):
    """The offset of a sandbox's test clock, in microseconds; one row or none."""

    __tablename__ = "sandbox_clock"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)
    id: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    offset_us: int = _int(0, big=True)


TICKET_TABLES = (
    "tickets", "assignments", "rounds", "clocks", "firings", "approvals", "reviews", "opinions", "measures", "events",
    "outbox", "notices", "workflow_migration_tickets", "routing_proposals", "open_tickets", "ticket_texts",
    "attachments", "progress_links", "exemptions", "supervisions", "agenda_items", "precedents",
    "source_versions", "ticket_enterprises", "quarantine",
)  # fmt: skip
"""Tables that hold tickets' data. Each has row-level security forced (the policies stand in the migration that makes
the table); a test reads the catalogue and fails for one that has not."""
