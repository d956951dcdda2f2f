"""Meetings with their agenda and attendance, thematic studies, and what a review and its measures say in full.

Expands: four tables, columns with defaults, and one more kind of definition. The old application goes on meanwhile: it
decides without a meeting, and what it leaves out has its default.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

KINDS = "kind IN ('workflow', 'calendar', 'routing', 'matters', 'departments'{})"


def _text(name: str, default: str | None = "", *, nullable: bool = False) -> sa.Column[Any]:
    server = None if nullable or default is None else sa.text(f"'{default}'")
    return sa.Column(name, sa.Text(), server_default=server, nullable=nullable)


def _time(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _json(name: str, default: str = "{}") -> sa.Column[Any]:
    kind = postgresql.JSONB(astext_type=sa.Text())
    return sa.Column(name, kind, server_default=sa.text(f"'{default}'"), nullable=False)


def _texts(name: str) -> sa.Column[Any]:
    return sa.Column(name, postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False)


def _id(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.UUID(as_uuid=False), nullable=nullable)


def _columns() -> dict[str, list[sa.Column[Any]]]:
    """What is added to tables that are there: nullable, or with a default."""
    reviews = [
        _text("asked"), _text("tried"), _texts("options"), _text("signed_by"), _json("history"),
        sa.Column("returns", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        _time("returned_at"), _time("supplemented_at"), _id("study_id", nullable=True), _id("meeting_id", nullable=True),
        sa.Column("major", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        _text("confidentiality", "internal"), _json("gates"), _text("conditions"), _json("votes"),
        _json("dissents", "[]"), _json("recused", "[]"), _text("postponed_to", nullable=True),
        _text("referred_to", nullable=True), _time("issued_at"), _text("reply"), _time("replied_at"),
        _text("replied_by", nullable=True),
    ]  # fmt: skip
    measures = [
        _texts("co_units"), _text("deliverable"), _text("evidence_type"), _text("resource", nullable=True),
        _text("quantity"), _text("favour", nullable=True), _time("created_at"), _json("enterprise_opinion"),
    ]  # fmt: skip
    return {"reviews": reviews, "measures": measures}


def upgrade() -> None:
    for table, columns in _columns().items():
        for column in columns:
            op.add_column(table, column)
    # widened: what was allowed still is
    op.execute("-- squawk-ignore ban-drop-constraint\nALTER TABLE definitions DROP CONSTRAINT ck_definitions_kind")
    op.create_check_constraint(op.f("ck_definitions_kind"), "definitions", KINDS.format(", 'docket'"))
    op.execute("CREATE SEQUENCE meeting_number MAXVALUE 99999 CYCLE")
    op.execute("CREATE SEQUENCE study_number MAXVALUE 99999 CYCLE")
    _create_studies_and_meetings()
    _create_attendees_and_agenda()
    for statement in _policies():
        op.execute(statement)


def _create_studies_and_meetings() -> None:
    op.create_table(
        "studies",
        _id("id"), _text("number", None), _text("theme", None), _text("matter", nullable=True), _text("reason"),
        _text("state", None), _text("opened_by", None), _time("opened_at", nullable=False), _time("closed_at"),
        _text("closing"),
        sa.CheckConstraint("state IN ('open', 'closed')", name=op.f("ck_studies_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_studies")),
        sa.UniqueConstraint("number", name=op.f("uq_studies_number")),
    )  # fmt: skip
    op.create_index(op.f("ix_studies_matter"), "studies", ["matter"])
    op.create_table(
        "meetings",
        _id("id"), _text("number", None), sa.Column("tier", sa.SmallInteger(), nullable=False), _text("title", None),
        _text("place"), _text("state", None), _texts("departments"), _time("held_at", nullable=False),
        _time("agenda_closes_at", nullable=False), _text("extra_reason"), _time("ended_at"), _json("adjournments", "[]"),
        _text("created_by", None), _time("created_at", nullable=False), _time("updated_at", nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint("state IN ('planned', 'held', 'cancelled')", name=op.f("ck_meetings_state")),
        sa.CheckConstraint("tier BETWEEN 1 AND 3", name=op.f("ck_meetings_tier")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_meetings")),
        sa.UniqueConstraint("number", name=op.f("uq_meetings_number")),
    )  # fmt: skip
    op.create_index("ix_meetings_held_at", "meetings", ["held_at", "id"])


def _create_attendees_and_agenda() -> None:
    op.create_table(
        "attendees",
        _id("id"), _id("meeting_id"), _text("department", nullable=True), _text("name"), _text("title"),
        _text("subject", nullable=True), _text("role", None), _text("state", None), _text("substitute"), _text("reason"),
        _time("notified_at"), _time("acknowledged_at"), _text("acknowledged_by", nullable=True), _time("attended_at"),
        _json("recused", "[]"),
        sa.CheckConstraint(
            "role IN ('chair', 'recorder', 'member', 'observer', 'enterprise')", name=op.f("ck_attendees_role")
        ),
        sa.CheckConstraint(
            "state IN ('invited', 'notified', 'acknowledged', 'present', 'absent')", name=op.f("ck_attendees_state")
        ),
        sa.ForeignKeyConstraint(["meeting_id"], ["meetings.id"], name=op.f("fk_attendees_meeting_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attendees")),
    )  # fmt: skip
    op.create_index(op.f("ix_attendees_meeting_id"), "attendees", ["meeting_id"])
    op.create_index(op.f("ix_attendees_department"), "attendees", ["department"])
    op.create_index(
        "uq_attendees_chair", "attendees", ["meeting_id"], unique=True, postgresql_where=sa.text("role = 'chair'")
    )
    op.create_table(
        "agenda_items",
        _id("id"), _id("meeting_id"), _id("ticket_id"), _id("review_id"),
        sa.Column("position", sa.SmallInteger(), nullable=False), _text("state", None),
        _time("added_at", nullable=False), _text("added_by", None), _text("late_ground"), _json("papers", "[]"),
        _json("heard"), _text("decision", nullable=True), _text("text"), _text("conditions"), _json("votes"),
        _json("dissents", "[]"), _json("recused", "[]"), _text("postponed_to", nullable=True),
        _text("referred_to", nullable=True), _texts("measures"), _text("decided_by", nullable=True), _time("decided_at"),
        sa.CheckConstraint(
            "state IN ('listed', 'decided', 'postponed', 'referred', 'withdrawn')", name=op.f("ck_agenda_items_state")
        ),
        sa.ForeignKeyConstraint(["meeting_id"], ["meetings.id"], name=op.f("fk_agenda_items_meeting_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_agenda_items_ticket_id")),
        sa.ForeignKeyConstraint(["review_id"], ["reviews.id"], name=op.f("fk_agenda_items_review_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agenda_items")),
        sa.UniqueConstraint("meeting_id", "review_id", name=op.f("uq_agenda_items_meeting_id_review_id")),
    )  # fmt: skip
    op.create_index(op.f("ix_agenda_items_ticket_id"), "agenda_items", ["ticket_id"])
    op.create_index(op.f("ix_agenda_items_review_id"), "agenda_items", ["review_id"])


# A unit sees the meetings that it is invited to, with who else is, and answers for itself only. Of an agenda it sees the
# matters of its own tickets, of the studies those that hold one.
SEEN = {
    "meetings": "departments && (SELECT jieban_scope())",
    "attendees": "EXISTS (SELECT 1 FROM meetings m WHERE m.id = meeting_id)",
    "agenda_items": "EXISTS (SELECT 1 FROM tickets t WHERE t.id = ticket_id)",
    "studies": "EXISTS (SELECT 1 FROM reviews r WHERE r.study_id = studies.id)",
}


def _policies() -> list[str]:
    out = ["GRANT USAGE ON SEQUENCE meeting_number, study_number TO jieban_city"]
    for table, seen in SEEN.items():
        out += [f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY", f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"]
        out.append(f"CREATE POLICY city ON {table} TO jieban_city USING (true) WITH CHECK (true)")
        out.append(f"CREATE POLICY department ON {table} FOR SELECT TO jieban_app USING ({seen})")
        out.append(f"GRANT SELECT ON {table} TO jieban_app")
        out.append(f"GRANT SELECT, INSERT, UPDATE ON {table} TO jieban_city")
    own = "department = ANY ((SELECT jieban_scope())::text[])"
    out.append(f"CREATE POLICY own ON attendees FOR UPDATE TO jieban_app USING ({own}) WITH CHECK ({own})")
    out.append("GRANT UPDATE (state, acknowledged_at, acknowledged_by) ON attendees TO jieban_app")
    return out


def downgrade() -> None:
    for table in ("agenda_items", "attendees", "meetings", "studies"):
        op.drop_table(table)
    op.execute("DROP SEQUENCE study_number")
    op.execute("DROP SEQUENCE meeting_number")
    op.drop_constraint(op.f("ck_definitions_kind"), "definitions")
    op.create_check_constraint(op.f("ck_definitions_kind"), "definitions", KINDS.format(""))
    for table, columns in _columns().items():
        for column in columns:
            op.drop_column(table, column.name)
