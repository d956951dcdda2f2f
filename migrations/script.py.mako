"""${message}

Expand or contract? Say which, and what the old and the new application each do meanwhile (migrations/README.md).
"""

from __future__ import annotations

import sqlalchemy as sa
import sqlmodel  # noqa: F401  # generated revisions name its types
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
