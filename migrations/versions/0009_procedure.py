"""Supervision, exemptions and deputies; scorecards among the definitions; breaches can be listed.

Expands: three new tables, one index, and one more kind of definition; the old application does not know them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KINDS = "'workflow', 'calendar', 'routing', 'matters', 'departments', 'docket'"


def upgrade() -> None:
    _kinds(f"{KINDS}, 'scorecard'")
    op.create_index(
        "ix_clocks_breached", "clocks", ["breached_at", "id"], postgresql_where=sa.text("breached_at IS NOT NULL")
    )
    _exemptions()
    _supervisions()
    _delegations()
    seen = "EXISTS (SELECT 1 FROM tickets t WHERE t.id = ticket_id)"
    for table in ("exemptions", "supervisions"):
        _forced(table)
        op.execute(f"CREATE POLICY department ON {table} TO jieban_app USING ({seen}) WITH CHECK ({seen})")
        op.execute(f"GRANT SELECT, INSERT, UPDATE ON {table} TO jieban_app, jieban_city")
    _forced("delegations")
    # who is party to it sees it; whoever the deputy is, the row names him or her
    me = "(SELECT current_setting('jieban.client', true))"
    op.execute(f"CREATE POLICY party ON delegations TO jieban_app USING ({me} IN (delegator, deputy))")
    op.execute("GRANT SELECT, INSERT, UPDATE ON delegations TO jieban_app, jieban_city")


def downgrade() -> None:
    for table in ("delegations", "supervisions", "exemptions"):
        op.drop_table(table)
    op.drop_index("ix_clocks_breached", table_name="clocks")
    _kinds(KINDS)


def _kinds(kinds: str) -> None:
    op.execute("-- squawk-ignore ban-drop-constraint\nALTER TABLE definitions DROP CONSTRAINT ck_definitions_kind")
    op.execute(f"ALTER TABLE definitions ADD CONSTRAINT ck_definitions_kind CHECK (kind IN ({kinds}))")


def _forced(table: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY city ON {table} TO jieban_city USING (true) WITH CHECK (true)")


def _text(name: str, *, nullable: bool = False, empty: bool = False) -> sa.Column[str]:
    default = sa.text("''") if empty else None
    return sa.Column(name, sa.Text(), nullable=nullable, server_default=default)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _exemptions() -> None:
    op.create_table(
        "exemptions",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        _text("scope"),
        sa.Column("round", sa.SmallInteger(), nullable=True),
        _text("code"),
        _text("reason"),
        _text("evidence", empty=True),
        _text("department", nullable=True),
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        _text("requested_by"),
        _time("requested_at"),
        _time("expires_at"),
        _text("decided_by", nullable=True),
        _time("decided_at", nullable=True),
        _text("decision_reason", empty=True),
        _text("revoked_by", nullable=True),
        _time("revoked_at", nullable=True),
        sa.CheckConstraint("scope IN ('ticket', 'rating')", name=op.f("ck_exemptions_scope")),
        sa.CheckConstraint("state IN ('pending', 'approved', 'denied', 'revoked')", name=op.f("ck_exemptions_state")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_exemptions_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exemptions")),
    )
    op.create_index(op.f("ix_exemptions_ticket_id"), "exemptions", ["ticket_id"])
    op.create_index("ix_exemptions_listed", "exemptions", ["requested_at", "id"])


def _supervisions() -> None:
    op.create_table(
        "supervisions",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        _text("number"),
        _text("kind"),
        _text("ground"),
        _text("reason"),
        _text("department", nullable=True),
        _text("addressee", empty=True),
        sa.Column("state", sa.Text(), server_default=sa.text("'open'"), nullable=False),
        _text("issued_by"),
        _time("issued_at"),
        _time("answer_by", nullable=True),
        _text("answer", empty=True),
        _text("answered_by", nullable=True),
        _time("answered_at", nullable=True),
        _text("lifted_by", nullable=True),
        _time("lifted_at", nullable=True),
        _text("lift_reason", empty=True),
        sa.CheckConstraint(
            "kind IN ('urge', 'slip', 'listed', 'summons', 'report_upward', 'sweep')",
            name=op.f("ck_supervisions_kind"),
        ),
        sa.CheckConstraint("state IN ('open', 'answered', 'lifted')", name=op.f("ck_supervisions_state")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_supervisions_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_supervisions")),
        sa.UniqueConstraint("ticket_id", "number", name=op.f("uq_supervisions_ticket_id_number")),
    )
    op.create_index("ix_supervisions_listed", "supervisions", ["issued_at", "id"])


def _delegations() -> None:
    op.create_table(
        "delegations",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        _text("delegator"),
        _text("deputy"),
        _text("role"),
        sa.Column("departments", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        _time("starts_at"),
        _time("ends_at"),
        _text("reason"),
        _text("made_by"),
        _time("made_at"),
        _text("revoked_by", nullable=True),
        _time("revoked_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delegations")),
    )
    op.create_index(op.f("ix_delegations_deputy"), "delegations", ["deputy"])
    op.create_index(op.f("ix_delegations_delegator"), "delegations", ["delegator"])
