"""The SLA report's statements: what is counted, which tickets those are, and the spans its times are made of.

All three are wrapped around one statement (sql/sla_facts.sql), so they speak of the same things by construction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from service.core.rates import COUNT_NAMES
from service.db.session import Tx
from service.db.tickets import not_recused

PARTS: Mapping[str, tuple[str, ...]] = {
    "sign": ("on_time_sign_rate",),
    "contact": ("response_rate",),
    "resolution": (
        "on_time_completion_rate", "on_time_after_extension_rate", "late_completion_rate", "completion_rate",
        "overdue_rate", "extension_rate", "first_time_completion_rate", "second_time_completion_rate",
        "third_time_completion_rate", "later_completion_rate",
    ),
    "callback": ("resolution_rate", "partly_solved_rate", "satisfaction_rate", "unreachable_rate"),
    "dispatch": ("return_rate",),
    "return": ("invalid_return_rate",),
    "reply": ("audit_failure_rate",),
    "ending": ("rework_rate", "repeat_rate"),
    "closing": ("closed", "completed", "withdrawn", "merged", "not_accepted"),
    "arrival": ("review_rate", "new"),
    "start": ("carried_over",),
    "end": ("open_at_end",),
}  # fmt: skip
"""Part of sla_facts -> its figures, in the order of that part's `hits`."""

HALVES = (
    ("sign", "contact", "dispatch", "return", "reply"),
    ("resolution", "callback", "ending", "closing", "arrival", "start", "end"),
)
"""All parts in two lots that take about as long, to be counted side by side."""

_PLACE = {figure: (part, n) for part, names in PARTS.items() for n, figure in enumerate(names, 1)}

KEYS = ("department", "domain", "district", "month", "week", "origin")
"""What a report can be grouped by: columns of sla_facts. `origin` is carried_over or new, `week` as ISO 8601 writes it."""

_SQL = Path(__file__).parent / "sql"
FACTS = (_SQL / "sla_facts.sql").read_text(encoding="utf-8")
_BARE_FACTS = FACTS.replace("LEFT JOIN known t", "LEFT JOIN tickets t")
"""The same rows; the planner leaves this join out when nothing of the ticket is asked for (`_BARE_KEYS`)."""
_BARE_KEYS = frozenset({"department", "month", "week"})
TIMES = (_SQL / "sla_times.sql").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a report covers. `departments`: None for all. `zone`: the city's, for months."""

    start: datetime
    end: datetime
    as_of: datetime
    departments: tuple[str, ...] | None
    zone: str

    def arguments(self, *parts: str) -> tuple[Any, ...]:
        return self.start, self.end, self.as_of, self.departments, parts, self.zone


Key = tuple[str | None, ...]
"""One group: the values of the keys it is grouped by, in their order."""
Counts = dict[Key, dict[str, tuple[int, int, int]]]
"""Group -> figure -> (numerator, denominator, excluded by an exemption)."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Spans of one group, counted by one calendar; see sql/sla_times.sql."""

    key: Key
    sign: int
    calendar: tuple[str, int] | None
    tickets: list[int]
    since_us: list[int]
    until_us: list[int]


async def prepare(tx: Tx) -> None:
    """Memory for hash joins of a whole city, and a plan made for this very period (a generic one guesses badly)."""
    await tx.execute(
        "SELECT set_config('work_mem', '64MB', true), set_config('plan_cache_mode', 'force_custom_plan', true)"
    )


async def sla_counts(tx: Tx, scope: Scope, group_by: Sequence[str], parts: Sequence[str]) -> Counts:
    """(numerator, denominator, excluded) by group and figure of these parts; what has nothing to count is absent."""
    facts = _BARE_FACTS if set(group_by) <= _BARE_KEYS else FACTS
    columns = ", ".join(f"f.{name}" for name in (*_checked(group_by), "part", "exempt", "hits"))
    sql = f"SELECT {columns}, count(*) AS things FROM ({facts}) f GROUP BY {columns}"  # noqa: S608
    out: Counts = {}
    for row in await tx.rows(sql, *scope.arguments(*parts)):
        group = out.setdefault(tuple(row[name] for name in group_by), {})
        for figure, hit in zip(PARTS[row["part"]], row["hits"], strict=True):
            if hit is None:
                continue
            numerator, denominator, excluded = group.get(figure, (0, 0, 0))
            if row["exempt"] and figure not in COUNT_NAMES:
                group[figure] = (numerator, denominator, excluded + row["things"])
            else:
                group[figure] = (numerator + row["things"] * hit, denominator + row["things"], excluded)
    return {key: group for key, group in out.items() if group}


async def sla_tickets(
    tx: Tx,
    scope: Scope,
    figure: str,
    filters: Mapping[str, str | None],
    *,
    part: str,
    after: tuple[str, str] | None,
    limit: int,
) -> list[Any]:
    """What a figure counts, by ticket id: ticket_id, number, subject, department, at, hit. A figure counts what its reader
    is recused from as well; the list does not show it.

    `part`: numerator, denominator, or excluded (kept out by an exemption). `filters`: key -> its value (None: where it is
    not known). `after`: ticket id and subject of the last row before.
    """
    facts_part, place = _PLACE[figure]
    rated = "" if figure in COUNT_NAMES else "AND f.exempt" if part == "excluded" else "AND NOT f.exempt"
    wanted = {"numerator": "AND f.hits[$10]", "denominator": "", "excluded": ""}[part]
    if part == "excluded" and figure in COUNT_NAMES:
        wanted = "AND false"
    for n, name in enumerate(_checked(filters), 11):
        wanted += f" AND f.{name} IS NOT DISTINCT FROM ${n}::text"
    sql = f"""SELECT f.ticket_id, f.number, f.subject, f.department, f.at, f.hits[$10::int] AS hit
              FROM ({FACTS}) f
              WHERE f.hits[$10] IS NOT NULL {rated} {wanted}
                AND NOT EXISTS (SELECT FROM tickets k WHERE k.id = f.ticket_id AND NOT {not_recused("k")})
                AND ($7::uuid IS NULL OR (f.ticket_id, f.subject) > ($7, $8::text))
              ORDER BY f.ticket_id, f.subject LIMIT $9"""  # noqa: S608
    at_id, at_subject = after or (None, None)
    return await tx.rows(sql, *scope.arguments(facts_part), at_id, at_subject, limit, place, *filters.values())


async def restated(tx: Tx, scope: Scope, limit: int) -> list[Any]:
    """Exemptions that were decided, ran out or were taken back after the period's end: what tells its figures anew.

    Newest change first.
    """
    return await tx.rows(
        f"""SELECT e.id, e.ticket_id, t.number, e.scope, e.round, e.code, c.change, c.at, c.by, c.reason, e.expires_at
           FROM exemptions e JOIN tickets t ON t.id = e.ticket_id
           CROSS JOIN LATERAL (VALUES
               ('approved', CASE WHEN e.state <> 'denied' THEN e.decided_at END, e.decided_by, e.decision_reason),
               ('revoked', e.revoked_at, e.revoked_by, ''),
               ('expired', CASE WHEN e.state = 'approved' AND e.expires_at < $3 THEN e.expires_at END, 'system', '')
           ) c (change, at, by, reason)
           WHERE c.at >= $2 AND c.at < $3 AND t.received_at < $2 AND (t.closed_at IS NULL OR t.closed_at >= $1)
             AND ($4::text[] IS NULL OR t.lead = ANY ($4)) AND {not_recused("t")}
           ORDER BY c.at DESC, e.id LIMIT $5""",  # noqa: S608
        scope.start, scope.end, scope.as_of, scope.departments, limit,
    )  # fmt: skip


async def sla_times(tx: Tx, scope: Scope, group_by: Sequence[str]) -> list[Spans]:
    """The spans of the completed tickets, by group and calendar."""
    sql = TIMES.format(
        facts=FACTS,
        keys=", ".join(_checked(group_by)),
        fact_keys=", ".join(f"f.{name}" for name in group_by),
        ticket_keys=", ".join(f"d.{name}" for name in group_by),
    )
    return [
        Spans(
            tuple(row[name] for name in group_by),
            row["sign"],
            None if row["calendar_key"] is None else (row["calendar_key"], row["calendar_version"]),
            row["n"],
            row["since"],
            row["until"],
        )
        for row in await tx.rows(sql, *scope.arguments("closing"))
    ]


def _checked(names: Iterable[str]) -> list[str]:
    """Names that go into the text of a statement: nothing but what KEYS lists."""
    out = list(names)
    assert set(out) <= set(KEYS), "keys are checked where they come in"
    return out
