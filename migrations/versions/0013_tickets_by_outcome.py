"""Closed tickets are listed by how they ended: withdrawals are sampled (were they free?).

Expands: one index. It is made while the table is locked against writing, some seconds for a million tickets.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_tickets_outcome", "tickets", ["outcome", "id"], postgresql_where=sa.text("outcome IS NOT NULL"))


def downgrade() -> None:
    op.drop_index("ix_tickets_outcome", "tickets")
