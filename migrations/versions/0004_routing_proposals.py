"""Proposals for the dispatch catalogue, each from a ruling on a ticket.

Expands: one new table; the old application does not know it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "routing_proposals",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("ticket_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("routed_by", sa.Text(), nullable=True),
        sa.Column("routed_version", sa.Integer(), nullable=True),
        sa.Column("was_lead", sa.Text(), nullable=True),
        sa.Column("lead", sa.Text(), nullable=False),
        sa.Column("matter", sa.Text(), nullable=True),
        sa.Column("words", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision_reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("published_version", sa.Integer(), nullable=True),
        sa.CheckConstraint("state IN ('open', 'accepted', 'refused')", name=op.f("ck_routing_proposals_state")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_routing_proposals_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_routing_proposals")),
    )
    op.create_index(op.f("ix_routing_proposals_ticket_id"), "routing_proposals", ["ticket_id"])
    op.execute("ALTER TABLE routing_proposals ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE routing_proposals FORCE ROW LEVEL SECURITY")
    # only city-wide roles: a department sees no row
    op.execute("CREATE POLICY city ON routing_proposals TO jieban_city USING (true) WITH CHECK (true)")
    op.execute("GRANT SELECT ON routing_proposals TO jieban_app")
    op.execute("GRANT SELECT, INSERT, UPDATE ON routing_proposals TO jieban_city")


def downgrade() -> None:
    op.drop_table("routing_proposals")
