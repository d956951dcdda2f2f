"""Intake as it really is: a feed in one order, receivers, versions of a source, a register of firms with its history.

Expands: the old application writes messages without a place, which are given one all the same; it knows nothing of the
new tables.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outbox", sa.Column("position", sa.BigInteger(), nullable=True))
    op.create_index("ix_outbox_unnumbered", "outbox", ["id"], postgresql_where=sa.text("position IS NULL"))
    op.create_index(
        "uq_outbox_position", "outbox", ["position"], unique=True, postgresql_where=sa.text("position IS NOT NULL")
    )
    op.create_index(op.f("ix_tickets_source_system_received_at"), "tickets", ["source_system", "received_at"])
    op.create_table(
        "receivers",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("types", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("description", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'active'"), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("position", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("within", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("sending", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('active', 'disabled', 'removed')", name=op.f("ck_receivers_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receivers")),
    )
    op.create_index("ix_receivers_active", "receivers", ["next_at"], postgresql_where=sa.text("state = 'active'"))
    op.execute("GRANT SELECT, INSERT, UPDATE ON receivers TO jieban_city")
    op.create_table(
        "source_versions",
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("applied", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("why_not", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_source_versions_ticket_id")),
        sa.PrimaryKeyConstraint("ticket_id", "sequence", name=op.f("pk_source_versions")),
    )
    _city_only("source_versions")
    _firms()
    _codes()
    _units()
    _recusal()


def _units() -> None:
    op.create_table(
        "department_changes",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("successor", sa.Text(), nullable=True),
        sa.Column("title", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'running'"), nullable=False),
        sa.Column("total", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('rename', 'abolish', 'merge')", name=op.f("ck_department_changes_kind")),
        sa.CheckConstraint("state IN ('running', 'done')", name=op.f("ck_department_changes_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_department_changes")),
    )
    op.create_index(
        "ix_department_changes_running", "department_changes", ["id"], postgresql_where=sa.text("state = 'running'")
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON department_changes TO jieban_city")
    op.create_table(
        "duties",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("department", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), server_default=sa.text("'duty'"), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("phone", sa.LargeBinary(), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('night', 'holiday', 'duty')", name=op.f("ck_duties_kind")),
        sa.CheckConstraint("until > since", name=op.f("ck_duties_span")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_duties")),
    )
    op.create_index(op.f("ix_duties_department_until"), "duties", ["department", "until"])
    # a handler reads who is on duty in the own unit and for the city; the rest is the city-wide roles' business
    op.execute("ALTER TABLE duties ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE duties FORCE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY city ON duties TO jieban_city USING (true) WITH CHECK (true)")
    own = "department = ANY((SELECT jieban_scope())::text[]) OR department = 'city'"
    op.execute(f"CREATE POLICY department ON duties FOR SELECT TO jieban_app USING ({own})")
    op.execute("GRANT SELECT ON duties TO jieban_app")
    # a person is told by name while on duty; only of tickets that he or she may see
    named = "recipient = (SELECT 'person:' || current_setting('jieban.client', true))"
    seen = "EXISTS (SELECT 1 FROM tickets t WHERE t.id = ticket_id)"
    op.execute(f"CREATE POLICY told_by_name ON notices FOR SELECT TO jieban_app USING ({named} AND {seen})")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON duties TO jieban_city")


SEEN = "visible_to && (SELECT jieban_scope())"
NOT_RECUSED = "NOT recused && (SELECT jieban_recusal())"


def _recusal() -> None:
    """Who is recused does not see the ticket: a person (person:SUBJECT) or a whole unit (unit:CODE)."""
    op.add_column(
        "tickets",
        sa.Column("recused", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.execute("""
        CREATE FUNCTION jieban_recusal() RETURNS text[] LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog AS
        $$ SELECT array_append(
             array(SELECT 'unit:' || u FROM unnest(string_to_array(nullif(
                   current_setting('jieban.departments', true), ''), ',')) u),
             'person:' || coalesce(current_setting('jieban.client', true), '')) $$
    """)
    op.execute("DROP POLICY department ON tickets")
    op.execute(
        "CREATE POLICY department ON tickets TO jieban_app"
        f" USING ({SEEN} AND {NOT_RECUSED}) WITH CHECK ({SEEN} AND {NOT_RECUSED})"
    )


def _firms() -> None:
    op.add_column("enterprises", sa.Column("name_key", sa.Text(), nullable=True))
    op.add_column("enterprises", sa.Column("kind", sa.Text(), nullable=True))
    op.add_column("enterprises", sa.Column("parent_id", sa.UUID(as_uuid=False), nullable=True))
    op.create_foreign_key(op.f("fk_enterprises_parent_id"), "enterprises", "enterprises", ["parent_id"], ["id"])
    op.execute("UPDATE enterprises SET name_key = lower(regexp_replace(normalize(name, NFKC), '\\s', '', 'g'))")
    op.create_index("ix_enterprises_name_key", "enterprises", ["name_key"])
    op.create_index(
        "ix_enterprises_parent_id", "enterprises", ["parent_id"], postgresql_where=sa.text("parent_id IS NOT NULL")
    )
    op.create_table(
        "enterprise_names",
        sa.Column("enterprise_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["enterprise_id"], ["enterprises.id"], name=op.f("fk_enterprise_names_enterprise_id")),
        sa.PrimaryKeyConstraint("enterprise_id", "until", name=op.f("pk_enterprise_names")),
    )
    op.create_index(op.f("ix_enterprise_names_name_key"), "enterprise_names", ["name_key"])
    op.execute("GRANT SELECT, INSERT ON enterprise_names TO jieban_city")
    op.create_table(
        "ticket_enterprises",
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("enterprise_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_ticket_enterprises_ticket_id")),
        sa.ForeignKeyConstraint(
            ["enterprise_id"], ["enterprises.id"], name=op.f("fk_ticket_enterprises_enterprise_id")
        ),
        sa.PrimaryKeyConstraint("ticket_id", "enterprise_id", name=op.f("pk_ticket_enterprises")),
    )
    op.create_index(op.f("ix_ticket_enterprises_enterprise_id"), "ticket_enterprises", ["enterprise_id"])
    _city_only("ticket_enterprises")


def _codes() -> None:
    op.create_table(
        "quarantine",
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("source_system", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'open'"), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fixed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fixed_by", sa.Text(), nullable=True),
        sa.Column("means", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('open', 'fixed')", name=op.f("ck_quarantine_state")),
        sa.CheckConstraint("field IN ('matter', 'district')", name=op.f("ck_quarantine_field")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_quarantine_ticket_id")),
        sa.PrimaryKeyConstraint("ticket_id", "field", name=op.f("pk_quarantine")),
    )
    op.create_index(
        "ix_quarantine_open",
        "quarantine",
        ["source_system", "field", "code"],
        postgresql_where=sa.text("state = 'open'"),
    )
    _city_only("quarantine")
    op.create_table(
        "code_mappings",
        sa.Column("source_system", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("means", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("field IN ('matter', 'district')", name=op.f("ck_code_mappings_field")),
        sa.PrimaryKeyConstraint("source_system", "field", "code", name=op.f("pk_code_mappings")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON code_mappings TO jieban_city")
    op.create_table(
        "incidents",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("matter", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'open'"), nullable=False),
        sa.Column("firms", sa.Integer(), nullable=False),
        sa.Column("tickets", sa.Integer(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('open', 'ended')", name=op.f("ck_incidents_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
    )
    op.create_index(
        "uq_incidents_open", "incidents", ["matter"], unique=True, postgresql_where=sa.text("state = 'open'")
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON incidents TO jieban_city")


def _city_only(table: str) -> None:
    """Tickets' data that only city-wide roles work with: a department sees no row."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY city ON {table} TO jieban_city USING (true) WITH CHECK (true)")
    op.execute(f"GRANT SELECT ON {table} TO jieban_app")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON {table} TO jieban_city")


def downgrade() -> None:
    op.execute("DROP POLICY department ON tickets")
    op.execute(f"CREATE POLICY department ON tickets TO jieban_app USING ({SEEN}) WITH CHECK ({SEEN})")
    op.execute("DROP FUNCTION jieban_recusal()")
    op.drop_column("tickets", "recused")
    op.execute("DROP POLICY told_by_name ON notices")
    op.drop_table("duties")
    op.drop_table("department_changes")
    op.drop_table("incidents")
    op.drop_table("code_mappings")
    op.drop_table("quarantine")
    op.drop_table("ticket_enterprises")
    op.drop_table("enterprise_names")
    op.drop_column("enterprises", "parent_id")
    op.drop_column("enterprises", "kind")
    op.drop_column("enterprises", "name_key")
    op.drop_table("source_versions")
    op.drop_table("receivers")
    op.drop_index(op.f("ix_tickets_source_system_received_at"), table_name="tickets")
    op.drop_index("uq_outbox_position", table_name="outbox")
    op.drop_index("ix_outbox_unnumbered", table_name="outbox")
    op.drop_column("outbox", "position")
