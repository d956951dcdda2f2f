"""Finding tickets and working with them: texts to be searched, attachments, views, templates, contacts, progress links.

Expands: new tables, one more index, one more kind of definition; the old application knows none of them.

Search under row-level security: PostgreSQL uses an index under a policy only for leakproof operators, and those of GIN
(`@>`, `&&`) are not. A department therefore asks a function of the owner, which filters by the same scope that the policy
has; city-wide roles see everything and ask the index themselves. The owner, whom forced policies bind too, sees these
texts inside that function only.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0007"
branch_labels = None
depends_on = None

SCOPE = "(SELECT jieban_scope())"
CHILD = "EXISTS (SELECT 1 FROM tickets t WHERE t.id = ticket_id)"

# terms and words: service/core/words.py. A rare search costs what it finds: at most `most` rows, in any order. A search
# that finds more is answered by walking the newest first, at most `steps` rows a call (found or not: so a caller knows
# where it stopped).
SEEN = """x.terms @> wanted AND strpos(x.folded, words[1]) > 0
      AND (cardinality(words) = 1 OR NOT EXISTS (SELECT 1 FROM unnest(words) w WHERE strpos(x.folded, w) = 0))"""
WHO = "everything boolean := current_setting('role') = 'jieban_city'; scope text[] := coalesce(jieban_scope(), '{}');"
FOUND = f"""
CREATE FUNCTION jieban_found(wanted int4[], words text[], most int) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 200 SET search_path = pg_catalog, public
SET jieban.searching = 'on' SET enable_seqscan = off SET plan_cache_mode = force_custom_plan AS
$$ DECLARE {WHO}
BEGIN
  IF everything THEN
    RETURN QUERY SELECT x.ticket_id FROM ticket_texts x WHERE {SEEN} LIMIT most;
  ELSE
    RETURN QUERY SELECT x.ticket_id FROM ticket_texts x WHERE x.visible_to && scope AND {SEEN} LIMIT most;
  END IF;
END $$
"""
WALKED = f"""
CREATE FUNCTION jieban_walked(wanted int4[], words text[], before uuid, steps int)
RETURNS TABLE (ticket_id uuid, found boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 1000 SET search_path = pg_catalog, public
SET jieban.searching = 'on' SET plan_cache_mode = force_custom_plan AS
$$ DECLARE {WHO}
BEGIN
  RETURN QUERY SELECT x.ticket_id, (everything OR x.visible_to && scope) AND {SEEN}
    FROM (SELECT * FROM ticket_texts t WHERE t.ticket_id < before ORDER BY t.ticket_id DESC LIMIT steps) x;
END $$
"""
# whatever moves a ticket moves its text with it
FOLLOW = """
CREATE FUNCTION jieban_text_follows() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public AS
$$ BEGIN
  UPDATE ticket_texts SET visible_to = NEW.visible_to WHERE ticket_id = NEW.id;
  RETURN NULL;
END $$
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # on a table that is at work: without holding up anybody, and again from the start if it was cut short
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_tickets_open_due")
        op.execute(
            "CREATE INDEX CONCURRENTLY ix_tickets_open_due ON tickets"
            " (coalesce(next_due_at, 'infinity'::timestamptz), id) WHERE phase <> 'closed'"
        )
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_assignments_open_assignee")
        op.execute(
            "CREATE INDEX CONCURRENTLY ix_assignments_open_assignee ON assignments (assignee)"
            " WHERE ended_at IS NULL AND assignee IS NOT NULL"
        )
    # the new list holds all of the old one
    op.execute("-- squawk-ignore ban-drop-constraint\nALTER TABLE definitions DROP CONSTRAINT ck_definitions_kind")
    kinds = "kind IN ('workflow', 'calendar', 'routing', 'matters', 'departments', 'desk')"
    op.create_check_constraint(op.f("ck_definitions_kind"), "definitions", kinds)
    _texts()
    _attachments()
    _desk()


def _uuid(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.UUID(as_uuid=False), nullable=nullable)


def _text(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _time(name: str, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _of_ticket(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f(f"fk_{table}_ticket_id"))


def _forced(table: str, condition: str, rights: str = "SELECT, INSERT, UPDATE") -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY city ON {table} TO jieban_city USING (true) WITH CHECK (true)")
    op.execute(f"CREATE POLICY department ON {table} TO jieban_app USING ({condition}) WITH CHECK ({condition})")
    op.execute(f"GRANT {rights} ON {table} TO jieban_app, jieban_city")


def _texts() -> None:
    op.create_table(
        "ticket_texts",
        _uuid("ticket_id"),
        _uuid("enterprise_id"),
        sa.Column("visible_to", postgresql.ARRAY(sa.Text()), nullable=False),
        _text("folded"),
        sa.Column("terms", postgresql.ARRAY(sa.Integer()), nullable=False),
        _of_ticket("ticket_texts"),
        sa.PrimaryKeyConstraint("ticket_id", name=op.f("pk_ticket_texts")),
    )
    op.create_index("ix_ticket_texts_enterprise", "ticket_texts", ["enterprise_id", "ticket_id"])
    # a short pending list: a search reads all of it, and whoever fills it up merges it
    op.create_index(
        "ix_ticket_texts_terms", "ticket_texts", ["terms", "visible_to"], postgresql_using="gin",
        postgresql_with={"fastupdate": "on", "gin_pending_list_limit": 512},
    )  # fmt: skip
    _forced("ticket_texts", f"visible_to && {SCOPE}")
    searching = "current_setting('jieban.searching', true) = 'on'"
    op.execute(f"CREATE POLICY searching ON ticket_texts FOR SELECT TO CURRENT_USER USING ({searching})")
    for function in (FOUND, WALKED, FOLLOW):
        op.execute(function)
    for signature in ("jieban_found(int4[], text[], int)", "jieban_walked(int4[], text[], uuid, int)"):
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO jieban_app, jieban_city")
    op.execute(
        "CREATE TRIGGER text_follows AFTER UPDATE OF visible_to ON tickets FOR EACH ROW"
        " WHEN (OLD.visible_to IS DISTINCT FROM NEW.visible_to) EXECUTE FUNCTION jieban_text_follows()"
    )


def _attachments() -> None:
    op.create_table(
        "attachments",
        _uuid("id"),
        _uuid("ticket_id"),
        _text("name"),
        _text("media_type"),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        _text("audience"),
        _text("state"),
        _text("uploaded_by"),
        _text("department", nullable=True),
        _time("created_at"),
        _time("stored_at", nullable=True),
        sa.CheckConstraint("audience IN ('all', 'centre')", name=op.f("ck_attachments_audience")),
        sa.CheckConstraint("state IN ('receiving', 'stored')", name=op.f("ck_attachments_state")),
        _of_ticket("attachments"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachments")),
    )
    op.create_index(op.f("ix_attachments_ticket_id"), "attachments", ["ticket_id"])
    receiving = sa.text("state = 'receiving'")
    op.create_index("ix_attachments_receiving", "attachments", ["created_at"], postgresql_where=receiving)
    # what could tell who complained stays with the centre, whoever handles the ticket
    _forced("attachments", f"audience = 'all' AND {CHILD}", "SELECT, INSERT, UPDATE, DELETE")


def _desk() -> None:
    op.create_table(
        "saved_views",
        _uuid("id"),
        _text("owner"),
        _text("department", nullable=True),
        _text("name"),
        sa.Column("filters", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        _time("created_at"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_views")),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_saved_views_owner_name")),
    )
    op.create_index("ix_saved_views_department", "saved_views", ["department"])
    for statement in ("ENABLE", "FORCE"):
        op.execute(f"ALTER TABLE saved_views {statement} ROW LEVEL SECURITY")
    own = "owner = (SELECT current_setting('jieban.client', true))"
    shared = f"department = ANY ({SCOPE}::text[])"
    op.execute(f"CREATE POLICY own ON saved_views TO jieban_app, jieban_city USING ({own}) WITH CHECK ({own})")
    op.execute(f"CREATE POLICY shared ON saved_views FOR SELECT TO jieban_app USING ({shared})")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON saved_views TO jieban_app, jieban_city")
    op.create_table(
        "templates",
        _uuid("id"),
        _text("department"),
        _text("title"),
        _text("text"),
        _text("action"),
        _text("matter", nullable=True),
        _text("created_by"),
        _time("created_at"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_templates")),
    )
    op.create_index(op.f("ix_templates_department"), "templates", ["department"])
    _forced("templates", f"department = ANY ({SCOPE}::text[])", "SELECT, INSERT, UPDATE, DELETE")
    # how often a firm was called in a week, by all units together: a number, and nothing of who called or why
    op.create_table(
        "enterprise_contacts",
        _uuid("enterprise_id"),
        sa.Column("week", sa.Date(), nullable=False),
        sa.Column("contacts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["enterprise_id"], ["enterprises.id"], name=op.f("fk_enterprise_contacts_enterprise_id")
        ),
        sa.PrimaryKeyConstraint("enterprise_id", "week", name=op.f("pk_enterprise_contacts")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON enterprise_contacts TO jieban_app, jieban_city")
    op.create_table(
        "progress_links",
        _uuid("id"),
        _uuid("ticket_id"),
        _text("created_by"),
        _time("created_at"),
        _time("expires_at"),
        _time("revoked_at", nullable=True),
        _of_ticket("progress_links"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_progress_links")),
    )
    op.create_index(op.f("ix_progress_links_ticket_id"), "progress_links", ["ticket_id"])
    _forced("progress_links", CHILD)


def downgrade() -> None:
    for table in ("progress_links", "enterprise_contacts", "templates", "saved_views", "attachments"):
        op.drop_table(table)
    op.execute("DROP TRIGGER text_follows ON tickets")
    op.execute("DROP FUNCTION jieban_text_follows()")
    op.execute("DROP FUNCTION jieban_walked(int4[], text[], uuid, int)")
    op.execute("DROP FUNCTION jieban_found(int4[], text[], int)")
    op.drop_table("ticket_texts")
    op.execute("DROP INDEX ix_assignments_open_assignee")
    op.execute("DROP INDEX ix_tickets_open_due")
    # versions of a desk stay where they are: the older application reads none of them, and nothing published is deleted
