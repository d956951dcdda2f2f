"""Versions that nothing can change, and running tickets on their way from one version to another.

Expands: two tables, one index, and a trigger on `definitions`. The old application goes on meanwhile: all it changes in a
published version is `retired_at`, which the trigger lets through.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# a version is what tickets live by: only that it is out of use is written into it, once, and never taken back
IMMUTABLE = """
CREATE FUNCTION jieban_immutable_version() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS
$$ BEGIN
  IF TG_OP = 'UPDATE' AND OLD.retired_at IS NULL
     AND to_jsonb(OLD) - 'retired_at' = to_jsonb(NEW) - 'retired_at' THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'a published version does not change' USING ERRCODE = 'integrity_constraint_violation';
END $$
"""


def upgrade() -> None:
    op.execute(IMMUTABLE)
    call = "EXECUTE FUNCTION jieban_immutable_version()"
    op.execute(f"CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON definitions FOR EACH ROW {call}")
    op.execute(
        "CREATE TRIGGER immutable_truncate BEFORE TRUNCATE ON definitions FOR EACH STATEMENT"
        " EXECUTE FUNCTION jieban_append_only()"
    )
    op.execute("REVOKE UPDATE ON definitions FROM jieban_city")
    op.execute("GRANT UPDATE (retired_at) ON definitions TO jieban_city")
    op.create_index(
        "ix_tickets_open_workflow",
        "tickets",
        ["workflow_key", "workflow_version", "id"],
        postgresql_where=sa.text("phase <> 'closed'"),
    )
    _create_tables()
    op.execute("GRANT SELECT, INSERT, UPDATE ON workflow_migrations TO jieban_city")
    op.execute("ALTER TABLE workflow_migration_tickets ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE workflow_migration_tickets FORCE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY city ON workflow_migration_tickets TO jieban_city USING (true) WITH CHECK (true)")
    child = "EXISTS (SELECT 1 FROM tickets t WHERE t.id = ticket_id)"
    op.execute(f"CREATE POLICY department ON workflow_migration_tickets FOR SELECT TO jieban_app USING ({child})")
    op.execute("GRANT SELECT, INSERT, UPDATE ON workflow_migration_tickets TO jieban_city")
    op.execute("GRANT SELECT ON workflow_migration_tickets TO jieban_app")


def _create_tables() -> None:
    op.create_table(
        "workflow_migrations",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("from_key", sa.Text(), nullable=False),
        sa.Column("from_version", sa.Integer(), nullable=False),
        sa.Column("to_key", sa.Text(), nullable=False),
        sa.Column("to_version", sa.Integer(), nullable=False),
        sa.Column("stages", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("clocks", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "ordered_by", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("state", sa.Text(), server_default=sa.text("'running'"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undo_reason", sa.Text(), nullable=True),
        sa.Column("undone_by", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('running', 'done', 'undoing', 'undone')", name=op.f("ck_workflow_migrations_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow_migrations")),
    )
    op.create_index(
        "uq_workflow_migrations_unfinished",
        "workflow_migrations",
        ["from_key", "from_version"],
        unique=True,
        postgresql_where=sa.text("state IN ('running', 'undoing')"),
    )
    op.create_table(
        "workflow_migration_tickets",
        sa.Column("migration_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("stage_before", sa.Text(), nullable=True),
        sa.Column("stage_after", sa.Text(), nullable=True),
        sa.Column("seq", sa.Integer(), nullable=True),
        sa.Column("kept", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'moved', 'failed', 'skipped', 'undoing', 'undone', 'kept')",
            name=op.f("ck_workflow_migration_tickets_state"),
        ),
        sa.ForeignKeyConstraint(
            ["migration_id"], ["workflow_migrations.id"], name=op.f("fk_workflow_migration_tickets_migration_id")
        ),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_workflow_migration_tickets_ticket_id")),
        sa.PrimaryKeyConstraint("migration_id", "ticket_id", name=op.f("pk_workflow_migration_tickets")),
    )
    op.create_index(op.f("ix_workflow_migration_tickets_ticket_id"), "workflow_migration_tickets", ["ticket_id"])
    op.create_index(
        "ix_workflow_migration_tickets_waiting",
        "workflow_migration_tickets",
        ["migration_id", "state", "ticket_id"],
        postgresql_where=sa.text("state IN ('pending', 'undoing')"),
    )


def downgrade() -> None:
    op.drop_table("workflow_migration_tickets")
    op.drop_table("workflow_migrations")
    op.drop_index("ix_tickets_open_workflow", table_name="tickets")
    op.execute("REVOKE UPDATE (retired_at) ON definitions FROM jieban_city")
    op.execute("GRANT UPDATE ON definitions TO jieban_city")
    op.execute("DROP TRIGGER immutable_truncate ON definitions")
    op.execute("DROP TRIGGER immutable ON definitions")
    op.execute("DROP FUNCTION jieban_immutable_version()")
