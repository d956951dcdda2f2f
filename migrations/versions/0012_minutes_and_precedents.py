"""Minutes that cannot be altered once signed, gapless numbers, and the precedents that issued decisions make.

Expands: new tables only; the old application does not know them.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0010"
branch_labels = None
depends_on = None

# what was signed is only numbered and issued, and what was issued stays; what a version says is append-only anyway
IMMUTABLE = """
CREATE FUNCTION jieban_signed_minutes() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS
$$ BEGIN
  IF TG_OP = 'UPDATE' AND OLD.id = NEW.id AND OLD.meeting_id = NEW.meeting_id AND OLD.series = NEW.series
     AND OLD.corrects IS NOT DISTINCT FROM NEW.corrects AND OLD.created_at = NEW.created_at
     AND (OLD.state IN ('draft', 'checked') OR OLD.state = 'signed' AND NEW.state = 'issued'
          AND OLD.departments = NEW.departments AND OLD.signed_at = NEW.signed_at AND NEW.version = OLD.version + 1)
  THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'signed minutes do not change' USING ERRCODE = 'integrity_constraint_violation';
END $$
"""


def _text(name: str, default: str | None = None, *, nullable: bool = False) -> sa.Column[Any]:
    server = sa.text(f"'{default}'") if default is not None else None
    return sa.Column(name, sa.Text(), server_default=server, nullable=nullable)


def _id(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.UUID(as_uuid=False), nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _texts(name: str) -> sa.Column[Any]:
    return sa.Column(name, postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False)


# what is due next on the docket: the board reads it for every open matter
DOCKET = (
    "name IN ('review_screen', 'review_opinion', 'review_decision', 'review_minutes', 'review_reply', 'review_measure')"
    " AND state IN ('running', 'breached_running')"
)


def upgrade() -> None:
    # CONCURRENTLY is not possible in a transaction; the index holds open clocks of the docket only
    op.execute(
        "-- squawk-ignore require-concurrent-index-creation\n"
        f"CREATE INDEX ix_clocks_docket ON clocks (ticket_id, due_at) WHERE {DOCKET}"
    )
    _create_minutes()
    _create_precedents()
    op.execute(IMMUTABLE)
    for statement in _policies():
        op.execute(statement)


def _create_minutes() -> None:
    op.create_table(
        "minutes",
        _id("id"), _id("meeting_id"), _text("state"), _id("corrects", nullable=True), _text("series"),
        sa.Column("year", sa.SmallInteger(), nullable=True), sa.Column("serial", sa.Integer(), nullable=True),
        _text("number", nullable=True), _texts("departments"), sa.Column("version", sa.Integer(), nullable=False),
        _text("sha256"), _time("created_at"), _time("updated_at"), _time("signed_at", nullable=True),
        _time("issued_at", nullable=True),
        sa.CheckConstraint("state IN ('draft', 'checked', 'signed', 'issued')", name=op.f("ck_minutes_state")),
        sa.CheckConstraint("(state = 'issued') = (number IS NOT NULL)", name=op.f("ck_minutes_numbered")),
        sa.ForeignKeyConstraint(["meeting_id"], ["meetings.id"], name=op.f("fk_minutes_meeting_id")),
        sa.ForeignKeyConstraint(["corrects"], ["minutes.id"], name=op.f("fk_minutes_corrects")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_minutes")),
        sa.UniqueConstraint("series", "year", "serial", name=op.f("uq_minutes_series_year_serial")),
    )  # fmt: skip
    op.create_index(op.f("ix_minutes_meeting_id"), "minutes", ["meeting_id"])
    op.create_index(
        "uq_minutes_unfinished", "minutes", ["meeting_id"], unique=True, postgresql_where=sa.text("state <> 'issued'")
    )
    op.create_table(
        "minutes_versions",
        _id("minutes_id"), sa.Column("version", sa.Integer(), autoincrement=False, nullable=False), _text("step"),
        _json("body"), _json("by"), _time("at"), _text("prev"), _text("sha256"),
        sa.CheckConstraint("step IN ('draft', 'check', 'sign', 'issue')", name=op.f("ck_minutes_versions_step")),
        sa.ForeignKeyConstraint(["minutes_id"], ["minutes.id"], name=op.f("fk_minutes_versions_minutes_id")),
        sa.PrimaryKeyConstraint("minutes_id", "version", name=op.f("pk_minutes_versions")),
    )  # fmt: skip
    op.create_table(
        "minutes_series",
        _text("series"), sa.Column("year", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("last", sa.Integer(), server_default=sa.text("0"), nullable=False), _text("sha256", ""),
        sa.PrimaryKeyConstraint("series", "year", name=op.f("pk_minutes_series")),
    )  # fmt: skip


def _create_precedents() -> None:
    op.create_table(
        "precedents",
        _id("id"), _id("minutes_id"), _id("review_id"), _id("ticket_id"), _text("number"), _text("kind"),
        _text("matter", nullable=True), _text("subject"), _text("asked", ""), _text("decision"), _text("text"),
        _text("conditions", ""), _texts("legal_grounds"), _texts("departments"), _text("issued_on"),
        _text("valid_until", nullable=True), _text("state", "valid"), _text("reason", ""),
        _text("changed_by", nullable=True), _time("changed_at", nullable=True),
        sa.CheckConstraint("state IN ('valid', 'withdrawn', 'superseded')", name=op.f("ck_precedents_state")),
        sa.ForeignKeyConstraint(["minutes_id"], ["minutes.id"], name=op.f("fk_precedents_minutes_id")),
        sa.ForeignKeyConstraint(["review_id"], ["reviews.id"], name=op.f("fk_precedents_review_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_precedents_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_precedents")),
        sa.UniqueConstraint("minutes_id", "review_id", name=op.f("uq_precedents_minutes_id_review_id")),
    )  # fmt: skip
    op.create_index(op.f("ix_precedents_review_id"), "precedents", ["review_id"])
    op.create_index(op.f("ix_precedents_ticket_id"), "precedents", ["ticket_id"])
    op.create_index("ix_precedents_matter", "precedents", ["matter", "id"])
    op.create_index("ix_precedents_newest", "precedents", ["issued_on", "id"])
    op.create_table(
        "precedent_grams",
        _text("gram"), _id("precedent_id"),
        sa.ForeignKeyConstraint(["precedent_id"], ["precedents.id"], name=op.f("fk_precedent_grams_precedent_id")),
        sa.PrimaryKeyConstraint("gram", "precedent_id", name=op.f("pk_precedent_grams")),
    )  # fmt: skip
    op.create_table(
        "precedent_proposals",
        _id("id"), _id("precedent_id"), _text("kind"), _text("target"), _text("text"), _text("state", "open"),
        _text("proposed_by"), _time("proposed_at"), _text("decided_by", nullable=True),
        _time("decided_at", nullable=True), _text("decision_reason", ""),
        sa.CheckConstraint("kind IN ('rule', 'catalogue')", name=op.f("ck_precedent_proposals_kind")),
        sa.CheckConstraint("state IN ('open', 'accepted', 'refused')", name=op.f("ck_precedent_proposals_state")),
        sa.ForeignKeyConstraint(["precedent_id"], ["precedents.id"], name=op.f("fk_precedent_proposals_precedent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_precedent_proposals")),
    )  # fmt: skip
    op.create_index(op.f("ix_precedent_proposals_precedent_id"), "precedent_proposals", ["precedent_id"])


# A unit sees what was issued and sent to it, and the precedents of matters in which it took part.
SEEN = {
    "minutes": "state = 'issued' AND departments && (SELECT jieban_scope())",
    "minutes_versions": "step = 'issue' AND EXISTS (SELECT 1 FROM minutes m WHERE m.id = minutes_id)",
    "minutes_series": None,
    "precedents": "departments && (SELECT jieban_scope())",
    "precedent_grams": "EXISTS (SELECT 1 FROM precedents p WHERE p.id = precedent_id)",
    "precedent_proposals": None,
}


def _policies() -> list[str]:
    out = []
    for table, seen in SEEN.items():
        out += [f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY", f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"]
        out.append(f"CREATE POLICY city ON {table} TO jieban_city USING (true) WITH CHECK (true)")
        writes = "INSERT" if table in {"minutes_versions", "precedent_grams"} else "INSERT, UPDATE"
        out.append(f"GRANT SELECT, {writes} ON {table} TO jieban_city")
        if seen:
            out.append(f"CREATE POLICY department ON {table} FOR SELECT TO jieban_app USING ({seen})")
            out.append(f"GRANT SELECT ON {table} TO jieban_app")
    signed, never = "EXECUTE FUNCTION jieban_signed_minutes()", "EXECUTE FUNCTION jieban_append_only()"
    out.append(f"CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON minutes FOR EACH ROW {signed}")
    out.append(f"CREATE TRIGGER immutable_truncate BEFORE TRUNCATE ON minutes FOR EACH STATEMENT {never}")
    out.append(f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON minutes_versions FOR EACH ROW {never}")
    out.append(f"CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON minutes_versions FOR EACH STATEMENT {never}")
    return out


def downgrade() -> None:
    for table in (
        "precedent_proposals",
        "precedent_grams",
        "precedents",
        "minutes_series",
        "minutes_versions",
        "minutes",
    ):
        op.drop_table(table)
    op.execute("DROP FUNCTION jieban_signed_minutes()")
    op.drop_index("ix_clocks_docket", table_name="clocks")
