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
down_revision = "0009"
branch_labels = None
depends_on = None

SCOPE = "(SELECT jieban_scope())"
CHILD = "EXISTS (SELECT 1 FROM tickets t WHERE t.id = ticket_id)"

# terms and words: service/core/words.py. A rare search costs what has its terms: at most `most` rows, in any order. One
# that finds more is answered by walking the newest first, at most `steps` rows a call (found or not: so a caller knows
# where it stopped).
SAYS = """strpos(x.folded, words[1]) > 0
      AND (cardinality(words) = 1 OR NOT EXISTS (SELECT 1 FROM unnest(words) w WHERE strpos(x.folded, w) = 0))"""
WHO = "everything boolean := current_setting('role') = 'jieban_city'; scope text[] := coalesce(jieban_scope(), '{}');"
FOUND = f"""
CREATE FUNCTION jieban_found(wanted int4[], words text[], most int)
RETURNS TABLE (ticket_id uuid, found boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 200 SET search_path = pg_catalog, public
SET jieban.searching = 'on' SET enable_seqscan = off SET plan_cache_mode = force_custom_plan AS
$$ DECLARE {WHO}
BEGIN
  IF everything THEN
    RETURN QUERY SELECT x.ticket_id, {SAYS} FROM ticket_texts x WHERE x.terms @> wanted LIMIT most;
  ELSE
    RETURN QUERY SELECT x.ticket_id, {SAYS} FROM ticket_texts x
      WHERE x.visible_to && scope AND x.terms @> wanted LIMIT most;
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
  RETURN QUERY SELECT x.ticket_id, (everything OR x.visible_to && scope) AND x.terms @> wanted AND {SAYS}
    FROM (SELECT * FROM ticket_texts t WHERE t.ticket_id < before ORDER BY t.ticket_id DESC LIMIT steps) x;
END $$
"""
# whatever moves a ticket, closes it or takes it up again does so to its text; the term 1 says that it is open
FOLLOW = """
CREATE FUNCTION jieban_text_follows() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public AS
$$ BEGIN
  UPDATE ticket_texts SET visible_to = NEW.visible_to,
    terms = CASE WHEN NEW.phase = 'closed' THEN array_remove(terms, 1) WHEN 1 = ANY (terms) THEN terms ELSE terms || 1 END
  WHERE ticket_id = NEW.id;
  RETURN NULL;
END $$
"""


def upgrade() -> None:
    # the new list holds all of the old one
    op.execute("-- squawk-ignore ban-drop-constraint\nALTER TABLE definitions DROP CONSTRAINT ck_definitions_kind")
    kinds = "kind IN ('workflow', 'calendar', 'routing', 'matters', 'departments', 'desk', 'scorecard', 'docket')"
    op.create_check_constraint(op.f("ck_definitions_kind"), "definitions", kinds)
    _open_tickets()
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


# what tickets say now; whatever changes a ticket afterwards writes its row anew (service/db/saving.py)
FILL = """
INSERT INTO open_tickets (ticket_id, due, visible_to, departments, hands, phase, matter, urgency, domain, cards)
SELECT t.id, coalesce(t.next_due_at, 'infinity'), t.visible_to,
       ARRAY(SELECT a.department FROM assignments a WHERE a.ticket_id = t.id AND a.ended_at IS NULL ORDER BY a.id),
       ARRAY(SELECT h FROM assignments a, unnest(ARRAY[coalesce(a.assignee, ''), a.department || ' ' || coalesce(a.assignee, '')])
             WITH ORDINALITY u (h, n) WHERE a.ticket_id = t.id AND a.ended_at IS NULL ORDER BY a.id, n),
       t.phase, t.matter, t.urgency, t.domain,
       ARRAY(SELECT c ->> 'level' FROM jsonb_array_elements(
         CASE WHEN jsonb_typeof(t.facts -> 'cards') = 'array' THEN t.facts -> 'cards' ELSE '[]' END) c)
FROM tickets t WHERE t.phase <> 'closed'
"""


def _texts_of(name: str) -> sa.Column[list[str]]:
    return sa.Column(name, postgresql.ARRAY(sa.Text()), nullable=False)


def _open_tickets() -> None:
    op.create_table(
        "open_tickets",
        _uuid("ticket_id"),
        _time("due"),
        _texts_of("visible_to"),
        _texts_of("departments"),
        _texts_of("hands"),
        _text("phase"),
        _text("matter", nullable=True),
        _text("urgency"),
        _text("domain"),
        _texts_of("cards"),
        sa.PrimaryKeyConstraint("ticket_id", name=op.f("pk_open_tickets")),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index("ix_open_tickets_due", "open_tickets", ["due", "ticket_id"])
    # what the policy asks, the index may answer: a unit's own rows at once
    op.create_index(
        "ix_open_tickets_visible", "open_tickets", ["visible_to"], postgresql_using="gin",
        postgresql_with={"fastupdate": "off"},
    )  # fmt: skip
    _forced("open_tickets", f"visible_to && {SCOPE}", "SELECT, INSERT, UPDATE, DELETE")
    # nobody may change a ticket between the filling and the end of this transaction
    op.execute("LOCK TABLE tickets IN SHARE ROW EXCLUSIVE MODE")
    op.execute("ALTER TABLE open_tickets NO FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE tickets NO FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE assignments NO FORCE ROW LEVEL SECURITY")
    op.execute(FILL)
    for table in ("open_tickets", "tickets", "assignments"):
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


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
        "CREATE TRIGGER text_follows AFTER UPDATE OF visible_to, phase ON tickets FOR EACH ROW"
        " WHEN (OLD.visible_to IS DISTINCT FROM NEW.visible_to OR (OLD.phase = 'closed') <> (NEW.phase = 'closed'))"
        " EXECUTE FUNCTION jieban_text_follows()"
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
    op.drop_table("open_tickets")
    # versions of a desk stay where they are: the older application reads none of them, and nothing published is deleted
