"""Approvals of several levels: which one decides now, and what those before it said.

Expands: both columns have a default, so the old application, which knows one level, goes on meanwhile.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("approvals", sa.Column("level", sa.SmallInteger(), server_default=sa.text("1"), nullable=False))
    decisions = postgresql.JSONB(astext_type=sa.Text())
    op.add_column("approvals", sa.Column("decisions", decisions, server_default=sa.text("'[]'"), nullable=False))


def downgrade() -> None:
    op.drop_column("approvals", "decisions")
    op.drop_column("approvals", "level")
