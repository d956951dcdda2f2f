"""Clocks with their policy and their changes, timers set aside, digests of notices, versions of calendars.

Expands: columns that are nullable or have a default, and new tables; the old application goes on meanwhile. A clock of the
old one has no policy of its own: it is its ticket's.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CITY_TABLES = ("calendar_projections", "pump_runs", "cron_slots", "digests")
COLUMNS = {
    "tickets": (
        sa.Column("merged_into", sa.UUID(as_uuid=False), nullable=True),
        sa.Column("split_from", sa.UUID(as_uuid=False), nullable=True),
    ),
    "clocks": (
        sa.Column("workflow_key", sa.Text(), nullable=True),
        sa.Column("workflow_version", sa.Integer(), nullable=True),
        sa.Column("changes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("escalates_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("crashes", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("dead_at", sa.DateTime(timezone=True), nullable=True),
    ),
    "definitions": (sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),),
}


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        for column in columns:
            op.add_column(table, column)
    for name in ("merged_into", "split_from"):
        op.create_foreign_key(op.f(f"fk_tickets_{name}"), "tickets", "tickets", [name], ["id"])
        # whoever deletes a ticket asks for those that point to it: few do
        op.create_index(f"ix_tickets_{name}", "tickets", [name], postgresql_where=sa.text(f"{name} IS NOT NULL"))
    aside = "next_fire_at IS NOT NULL AND (attempts > 0 OR crashes > 0)"
    op.create_index("ix_clocks_aside", "clocks", ["next_fire_at"], postgresql_where=sa.text(aside))
    op.create_index("ix_clocks_dead", "clocks", ["dead_at"], postgresql_where=sa.text("dead_at IS NOT NULL"))
    op.create_index("ix_clocks_provisional", "clocks", ["due_at"], postgresql_where=sa.text("provisional"))
    # timers that had failed ten times before this revision were set aside without a date
    op.execute("UPDATE clocks SET dead_at = now() WHERE attempts >= 10 AND next_fire_at IS NULL")
    _create_tables()
    for table in CITY_TABLES:
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO jieban_city")
    child = "EXISTS (SELECT 1 FROM tickets t WHERE t.id = ticket_id)"
    op.execute("ALTER TABLE notices ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE notices FORCE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY city ON notices TO jieban_city USING (true) WITH CHECK (true)")
    # a department reads what it was told itself; who acts on its ticket may have others told
    mine = "recipient = ANY ((SELECT array_agg('department:' || d) FROM unnest(jieban_scope()) d)::text[])"
    op.execute(f"CREATE POLICY told ON notices FOR SELECT TO jieban_app USING ({mine} AND {child})")
    op.execute(f"CREATE POLICY tell ON notices FOR INSERT TO jieban_app WITH CHECK ({child})")
    op.execute("GRANT SELECT, INSERT ON notices TO jieban_app, jieban_city")
    op.execute("GRANT UPDATE ON notices TO jieban_city")


def _create_tables() -> None:
    op.create_table(
        "calendar_projections",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'running'"), nullable=False),
        sa.Column("total", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("moved", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('running', 'done')", name=op.f("ck_calendar_projections_state")),
        sa.PrimaryKeyConstraint("key", "version", name=op.f("pk_calendar_projections")),
    )
    op.create_table(
        "pump_runs",
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("batch", postgresql.ARRAY(sa.UUID(as_uuid=False)), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("held", sa.Text(), nullable=True),
        sa.Column("skew_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("worker", name=op.f("pk_pump_runs")),
    )
    op.create_table(
        "cron_slots",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slot", sa.DateTime(timezone=True), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.PrimaryKeyConstraint("name", "slot", name=op.f("pk_cron_slots")),
    )
    op.create_table(
        "notices",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("digest_id", sa.UUID(as_uuid=False), nullable=True),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_notices_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
    )
    op.create_table(
        "digests",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("slot", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'done', 'dead')", name=op.f("ck_digests_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_digests")),
        sa.UniqueConstraint("recipient", "slot", name=op.f("uq_digests_recipient_slot")),
    )
    op.create_index("ix_digests_pending", "digests", ["next_at", "id"], postgresql_where=sa.text("state = 'pending'"))
    op.create_index(op.f("ix_notices_ticket_id"), "notices", ["ticket_id"])
    op.create_index("ix_notices_told", "notices", ["recipient", "id"])
    op.create_index("ix_notices_waiting", "notices", ["id"], postgresql_where=sa.text("digest_id IS NULL"))


def downgrade() -> None:
    for table in ("notices", "digests", "cron_slots", "pump_runs", "calendar_projections"):
        op.drop_table(table)
    for index in ("ix_clocks_provisional", "ix_clocks_dead", "ix_clocks_aside"):
        op.drop_index(index, table_name="clocks")
    for name in ("merged_into", "split_from"):
        op.drop_index(f"ix_tickets_{name}", table_name="tickets")
        op.drop_constraint(op.f(f"fk_tickets_{name}"), "tickets")
    for table, columns in COLUMNS.items():
        for column in columns:
            op.drop_column(table, column.name)
