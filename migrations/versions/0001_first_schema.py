"""The first schema: tables, sequence, roles, row-level security, append-only triggers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


TICKET_TABLES = (
    "assignments", "rounds", "clocks", "firings", "approvals", "reviews", "opinions", "measures", "events", "outbox",
)  # fmt: skip
READABLE = ("departments", "definitions", "sandbox_clock")
WRITABLE_BY_CITY = ("enterprises", "people", "clients", "audit", "departments", "definitions", "sandbox_clock")
APPEND_ONLY = ("events", "firings", "audit")

ROLES = """
DO $$ BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'jieban_app') THEN
    CREATE ROLE jieban_app NOLOGIN NOINHERIT NOSUPERUSER NOBYPASSRLS;
  END IF;
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'jieban_city') THEN
    CREATE ROLE jieban_city NOLOGIN NOINHERIT NOSUPERUSER NOBYPASSRLS;
  END IF;
-- another database of the cluster may be making them just now
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""
# jieban_app sees the departments named in the transaction's context; jieban_city is for city-wide roles. Neither owns
# a table or bypasses a policy. The scope is an init-plan (read once a statement), not a call per row; an absent or
# empty context means no rows, never an error.
FUNCTIONS = (
    """
CREATE FUNCTION jieban_scope() RETURNS text[] LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog AS
$$ SELECT string_to_array(nullif(current_setting('jieban.departments', true), ''), ',') $$
""",
    """
CREATE FUNCTION jieban_append_only() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS
$$ BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$
""",
)


def policies() -> list[str]:
    out = ["GRANT USAGE ON SEQUENCE ticket_number TO jieban_city"]
    seen = "visible_to && (SELECT jieban_scope())"
    child = "EXISTS (SELECT 1 FROM tickets t WHERE t.id = ticket_id)"
    for table in ("tickets", *TICKET_TABLES):
        condition = seen if table == "tickets" else child
        out += _forced(table)
        out += _city(table)
        out.append(f"CREATE POLICY department ON {table} TO jieban_app USING ({condition}) WITH CHECK ({condition})")
        out.append(f"GRANT SELECT, INSERT, UPDATE ON {table} TO jieban_app, jieban_city")
    mine = "client = (SELECT current_setting('jieban.client', true))"
    out += _forced("idempotency")
    out.append(f"CREATE POLICY own ON idempotency TO jieban_app, jieban_city USING ({mine}) WITH CHECK ({mine})")
    out.append("GRANT SELECT, INSERT ON idempotency TO jieban_app, jieban_city")
    out += _forced("enterprises") + _city("enterprises")
    own_firm = "EXISTS (SELECT 1 FROM tickets t WHERE t.enterprise_id = enterprises.id)"
    out.append(f"CREATE POLICY department ON enterprises FOR SELECT TO jieban_app USING ({own_firm})")
    out.append("GRANT SELECT ON enterprises TO jieban_app")
    out += _forced("audit") + _city("audit")
    # a department writes that it revealed a contact; it does not read the audit
    out.append("CREATE POLICY department ON audit FOR INSERT TO jieban_app WITH CHECK (true)")
    out.append("GRANT INSERT ON audit TO jieban_app")
    out += [f"GRANT SELECT ON {table} TO jieban_app" for table in READABLE]
    out += [f"GRANT SELECT, INSERT, UPDATE ON {table} TO jieban_city" for table in WRITABLE_BY_CITY]
    for table in APPEND_ONLY:
        out.append(f"REVOKE UPDATE ON {table} FROM jieban_app, jieban_city")
        call = "EXECUTE FUNCTION jieban_append_only()"
        out.append(f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW {call}")
        out.append(f"CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {call}")
    return out


def _forced(table: str) -> list[str]:
    return [f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY", f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"]


def _city(table: str) -> list[str]:
    return [f"CREATE POLICY city ON {table} TO jieban_city USING (true) WITH CHECK (true)"]


def upgrade() -> None:
    op.execute(ROLES)
    op.execute("CREATE SEQUENCE ticket_number MAXVALUE 9999999 CYCLE")
    op.create_table(
        "audit",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=True),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_at"), "audit", ["at"], unique=False)
    op.create_index(op.f("ix_audit_ticket_id"), "audit", ["ticket_id"], unique=False)
    op.create_table(
        "clients",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clients")),
    )
    op.create_table(
        "definitions",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("published_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.CheckConstraint(
            "kind IN ('workflow', 'calendar', 'routing', 'matters', 'departments')", name=op.f("ck_definitions_kind")
        ),
        sa.PrimaryKeyConstraint("kind", "key", "version", name=op.f("pk_definitions")),
    )
    op.create_table(
        "departments",
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("title", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("district", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_departments")),
    )
    op.create_table(
        "enterprises",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("match_key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("uscc", sa.Text(), nullable=True),
        sa.Column("district", sa.Text(), nullable=True),
        sa.Column("industry", sa.Text(), nullable=True),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enterprises")),
        sa.UniqueConstraint("match_key", name=op.f("uq_enterprises_match_key")),
    )
    op.create_table(
        "idempotency",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("client", "route", "key", name=op.f("pk_idempotency")),
    )
    op.create_table(
        "people",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("departments", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_people")),
    )
    op.create_table(
        "sandbox_clock",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("offset_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_sandbox_clock_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sandbox_clock")),
    )
    op.create_table(
        "tickets",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("source_system", sa.Text(), nullable=False),
        sa.Column("source_reference", sa.Text(), nullable=False),
        sa.Column("content_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("enterprise_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("workflow_key", sa.Text(), nullable=False),
        sa.Column("workflow_version", sa.Integer(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("matter", sa.Text(), nullable=True),
        sa.Column("urgency", sa.Text(), nullable=False),
        sa.Column("district", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("content", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("contact", sa.LargeBinary(), nullable=True),
        sa.Column(
            "contact_masked", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=True
        ),
        sa.Column("warnings", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("round", sa.SmallInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("lead", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("counters", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("visible_to", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("last_seq", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("head_hash", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.CheckConstraint(
            "domain IN ('consultation', 'project_landing', 'business_development', 'government_service', 'complaint_report')",
            name=op.f("ck_tickets_domain"),
        ),
        sa.CheckConstraint(
            "phase IN ('intake', 'dispatch', 'acceptance', 'handling', 'waiting', 'audit', 'callback', 'review', 'closed')",
            name=op.f("ck_tickets_phase"),
        ),
        sa.CheckConstraint("urgency IN ('normal', 'urgent', 'emergency')", name=op.f("ck_tickets_urgency")),
        sa.ForeignKeyConstraint(["enterprise_id"], ["enterprises.id"], name=op.f("fk_tickets_enterprise_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tickets")),
        sa.UniqueConstraint("number", name=op.f("uq_tickets_number")),
        sa.UniqueConstraint(
            "source_system", "source_reference", name=op.f("uq_tickets_source_system_source_reference")
        ),
        postgresql_with={"fillfactor": 85},
    )
    op.create_index(op.f("ix_tickets_created_at"), "tickets", ["created_at"], unique=False)
    op.create_index(op.f("ix_tickets_enterprise_id_matter"), "tickets", ["enterprise_id", "matter"], unique=False)
    op.create_index(
        "ix_tickets_open_lead", "tickets", ["lead"], unique=False, postgresql_where=sa.text("phase <> 'closed'")
    )
    op.create_index(
        "ix_tickets_open_phase", "tickets", ["phase"], unique=False, postgresql_where=sa.text("phase <> 'closed'")
    )
    op.create_table(
        "assignments",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("department", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("round", sa.SmallInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("assignee", sa.Text(), nullable=True),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("auto_accepted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.CheckConstraint("role IN ('lead', 'co_handler')", name=op.f("ck_assignments_role")),
        sa.CheckConstraint("state IN ('pending', 'accepted', 'submitted', 'ended')", name=op.f("ck_assignments_state")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_assignments_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignments")),
    )
    op.create_index(op.f("ix_assignments_dispatched_at"), "assignments", ["dispatched_at"], unique=False)
    op.create_index(
        "ix_assignments_open_department",
        "assignments",
        ["department"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(op.f("ix_assignments_ticket_id"), "assignments", ["ticket_id"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("prev", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.CheckConstraint("seq > 0", name=op.f("ck_events_seq")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_events_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("ticket_id", "seq", name=op.f("uq_events_ticket_id_seq")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'done', 'dead')", name=op.f("ck_outbox_state")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_outbox_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index(
        "ix_outbox_pending", "outbox", ["next_at", "id"], unique=False, postgresql_where=sa.text("state = 'pending'")
    )
    op.create_table(
        "reviews",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("grounds", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("summary", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tier", sa.SmallInteger(), nullable=True),
        sa.Column("clock_effect", sa.Text(), server_default=sa.text("'runs'"), nullable=False),
        sa.Column("screened_by", sa.Text(), nullable=True),
        sa.Column("screened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("screen_reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("decision_text", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("enterprise_extract", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("dissent", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('enterprise_problem', 'investment_project')", name=op.f("ck_reviews_kind")),
        sa.CheckConstraint(
            "state IN ('proposed', 'preparing', 'decided', 'completed', 'refused', 'withdrawn')",
            name=op.f("ck_reviews_state"),
        ),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_reviews_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
        sa.UniqueConstraint("number", name=op.f("uq_reviews_number")),
    )
    op.create_index("ix_reviews_docket", "reviews", ["proposed_at", "id"], unique=False)
    op.create_index(op.f("ix_reviews_ticket_id"), "reviews", ["ticket_id"], unique=False)
    op.create_table(
        "rounds",
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("number", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("solved", sa.Text(), nullable=True),
        sa.Column("satisfaction", sa.Text(), nullable=True),
        sa.Column("department", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_rounds_ticket_id")),
        sa.PrimaryKeyConstraint("ticket_id", "number", name=op.f("pk_rounds")),
    )
    op.create_table(
        "approvals",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("assignment_id", sa.UUID(as_uuid=False), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("department", sa.Text(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("form", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.CheckConstraint("state IN ('pending', 'approved', 'denied', 'withdrawn')", name=op.f("ck_approvals_state")),
        sa.ForeignKeyConstraint(["assignment_id"], ["assignments.id"], name=op.f("fk_approvals_assignment_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_approvals_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
    )
    op.create_index(op.f("ix_approvals_decided_at"), "approvals", ["decided_at"], unique=False)
    op.create_index(
        "ix_approvals_pending",
        "approvals",
        ["requested_at", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(op.f("ix_approvals_ticket_id"), "approvals", ["ticket_id"], unique=False)
    op.create_table(
        "clocks",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("assignment_id", sa.UUID(as_uuid=False), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cycle", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("budget", sa.BigInteger(), nullable=False),
        sa.Column("anchor_name", sa.Text(), nullable=False),
        sa.Column("anchor", sa.DateTime(timezone=True), nullable=False),
        sa.Column("calendar_key", sa.Text(), nullable=False),
        sa.Column("calendar_version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("original_due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("segments", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
        sa.Column(
            "extensions", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False
        ),
        sa.Column("fired", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("provisional", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("breached_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("next_fire_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("department", sa.Text(), nullable=True),
        sa.Column("subject_id", sa.UUID(as_uuid=False), nullable=True),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint("family IN ('enterprise', 'assignment', 'centre')", name=op.f("ck_clocks_family")),
        sa.CheckConstraint(
            "measure IN ('natural_hours', 'working_hours', 'natural_days', 'working_days')",
            name=op.f("ck_clocks_measure"),
        ),
        sa.CheckConstraint(
            "state IN ('running', 'paused', 'held', 'met', 'breached_running', 'breached_met', 'cancelled')",
            name=op.f("ck_clocks_state"),
        ),
        sa.ForeignKeyConstraint(["assignment_id"], ["assignments.id"], name=op.f("fk_clocks_assignment_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_clocks_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clocks")),
        sa.UniqueConstraint("ticket_id", "name", "cycle", name=op.f("uq_clocks_ticket_id_name_cycle")),
        postgresql_with={"fillfactor": 80},
    )
    op.create_index(op.f("ix_clocks_assignment_id"), "clocks", ["assignment_id"], unique=False)
    op.create_index(
        "ix_clocks_fire", "clocks", ["next_fire_at"], unique=False, postgresql_where=sa.text("next_fire_at IS NOT NULL")
    )
    op.create_index(op.f("ix_clocks_name_due_at"), "clocks", ["name", "due_at"], unique=False)
    op.create_table(
        "measures",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("review_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("department", sa.Text(), nullable=False),
        sa.Column("due_on", sa.Text(), nullable=False),
        sa.Column("mandatory", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("progress", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("evidence", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("struck_off_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("struck_off_by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.CheckConstraint(
            "state IN ('open', 'reported', 'evidence', 'struck_off', 'waived')", name=op.f("ck_measures_state")
        ),
        sa.ForeignKeyConstraint(["review_id"], ["reviews.id"], name=op.f("fk_measures_review_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_measures_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measures")),
    )
    op.create_index(op.f("ix_measures_department"), "measures", ["department"], unique=False)
    op.create_index(op.f("ix_measures_ticket_id"), "measures", ["ticket_id"], unique=False)
    op.create_table(
        "opinions",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("review_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("department", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("position", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("legal_basis", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("given_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("given_by", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "position IS NULL OR position IN ('agree', 'disagree', 'condition')", name=op.f("ck_opinions_position")
        ),
        sa.ForeignKeyConstraint(["review_id"], ["reviews.id"], name=op.f("fk_opinions_review_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_opinions_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_opinions")),
        sa.UniqueConstraint("review_id", "department", name=op.f("uq_opinions_review_id_department")),
    )
    op.create_index(op.f("ix_opinions_ticket_id"), "opinions", ["ticket_id"], unique=False)
    op.create_table(
        "firings",
        sa.Column("clock_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("rung", sa.Text(), nullable=False),
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fired_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.CheckConstraint("outcome IN ('fired', 'superseded')", name=op.f("ck_firings_outcome")),
        sa.ForeignKeyConstraint(["clock_id"], ["clocks.id"], name=op.f("fk_firings_clock_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_firings_ticket_id")),
        sa.PrimaryKeyConstraint("clock_id", "rung", name=op.f("pk_firings")),
    )
    for statement in (*FUNCTIONS, *policies()):
        op.execute(statement)
    op.execute("GRANT USAGE ON SCHEMA public TO jieban_app, jieban_city")


def downgrade() -> None:
    op.execute("DROP POLICY department ON enterprises")
    op.drop_table("firings")
    op.drop_index(op.f("ix_opinions_ticket_id"), table_name="opinions")
    op.drop_table("opinions")
    op.drop_index(op.f("ix_measures_ticket_id"), table_name="measures")
    op.drop_index(op.f("ix_measures_department"), table_name="measures")
    op.drop_table("measures")
    op.drop_index(op.f("ix_clocks_name_due_at"), table_name="clocks")
    op.drop_index("ix_clocks_fire", table_name="clocks", postgresql_where=sa.text("next_fire_at IS NOT NULL"))
    op.drop_index(op.f("ix_clocks_assignment_id"), table_name="clocks")
    op.drop_table("clocks")
    op.drop_index(op.f("ix_approvals_ticket_id"), table_name="approvals")
    op.drop_index("ix_approvals_pending", table_name="approvals", postgresql_where=sa.text("state = 'pending'"))
    op.drop_index(op.f("ix_approvals_decided_at"), table_name="approvals")
    op.drop_table("approvals")
    op.drop_table("rounds")
    op.drop_index(op.f("ix_reviews_ticket_id"), table_name="reviews")
    op.drop_index("ix_reviews_docket", table_name="reviews")
    op.drop_table("reviews")
    op.drop_index("ix_outbox_pending", table_name="outbox", postgresql_where=sa.text("state = 'pending'"))
    op.drop_table("outbox")
    op.drop_table("events")
    op.drop_index(op.f("ix_assignments_ticket_id"), table_name="assignments")
    op.drop_index(
        "ix_assignments_open_department", table_name="assignments", postgresql_where=sa.text("ended_at IS NULL")
    )
    op.drop_index(op.f("ix_assignments_dispatched_at"), table_name="assignments")
    op.drop_table("assignments")
    op.drop_index("ix_tickets_open_phase", table_name="tickets", postgresql_where=sa.text("phase <> 'closed'"))
    op.drop_index("ix_tickets_open_lead", table_name="tickets", postgresql_where=sa.text("phase <> 'closed'"))
    op.drop_index(op.f("ix_tickets_enterprise_id_matter"), table_name="tickets")
    op.drop_index(op.f("ix_tickets_created_at"), table_name="tickets")
    op.drop_table("tickets")
    op.drop_table("sandbox_clock")
    op.drop_table("people")
    op.drop_table("idempotency")
    op.drop_table("enterprises")
    op.drop_table("departments")
    op.drop_table("definitions")
    op.drop_table("clients")
    op.drop_index(op.f("ix_audit_ticket_id"), table_name="audit")
    op.drop_index(op.f("ix_audit_at"), table_name="audit")
    op.drop_table("audit")
    op.execute("DROP FUNCTION jieban_append_only()")
    op.execute("DROP FUNCTION jieban_scope()")
    op.execute("DROP SEQUENCE ticket_number")
