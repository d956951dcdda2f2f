"""The chain of a ticket's history: whatever is changed in it is found."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from service.core import history
from service.core.model import Ticket
from tests.builders import DISPATCHER, HOTLINE, LEAD, REPLY, SOLVED, Case, at, handled, ids


def chained() -> tuple[Ticket, list[dict[str, Any]]]:
    """A closed ticket and its five events, sealed one command at a time."""
    case: Case = handled().act(LEAD, "submit_reply", **REPLY).act(DISPATCHER, "approve_reply")
    case.act(HOTLINE, "record_callback", **SOLVED)
    new_id, ticket, rows = ids(), case.ticket, []
    for event in case.events:
        ticket, sealed = history.seal(ticket, [event], new_id, at("2026-09-14 10:00"))
        rows += map(read_back, sealed)
    return ticket, rows


def read_back(row: dict[str, Any]) -> dict[str, Any]:
    """A sealed row as it comes out of the database."""
    return {**row, "actor": json.loads(row["actor"]), "data": json.loads(row["data"])}


def verdict(rows: list[dict[str, Any]], ticket: Ticket) -> int | None:
    return history.verify(rows, ticket.last_seq, ticket.head_hash)


def test_an_untouched_history_holds_together_also_after_a_journey_through_json() -> None:
    ticket, rows = chained()
    assert (len(rows), ticket.last_seq, verdict(rows, ticket)) == (5, 5, None)
    assert [r["seq"] for r in rows] == [1, 2, 3, 4, 5] and rows[0]["prev"] == ""
    assert verdict(json.loads(json.dumps(rows)), ticket) is None
    assert verdict([dict(reversed(list(r.items()))) for r in rows], ticket) is None


def test_sealing_all_at_once_gives_the_same_chain_as_one_by_one() -> None:
    case = handled()
    together, _ = history.seal(case.ticket, case.events, ids(), at("2026-09-14 10:00"))
    single = case.ticket
    for event in case.events:
        single, _ = history.seal(single, [event], ids(), at("2026-09-14 10:00"))
    assert together.head_hash == single.head_hash and together.last_seq == single.last_seq == 2


FLIPPED = {
    "ticket_id": "id-000099", "type": "ticket.other", "occurred_at": "2026-01-01T00:00:00+00:00",
    "recorded_at": "2026-01-01T00:00:00+00:00", "actor": {"subject": "x", "role": "handler", "departments": []},
    "data": {}, "prev": "0" * 64, "hash": "0" * 64, "seq": 9,
}  # fmt: skip


@pytest.mark.parametrize("field", sorted(FLIPPED))
@pytest.mark.parametrize("n", [0, 2, 4])
def test_a_flipped_field_is_found_where_it_is(field: str, n: int) -> None:
    ticket, rows = chained()
    rows[n][field] = FLIPPED[field]
    assert verdict(rows, ticket) == n + 1


def test_a_changed_word_deep_in_a_form_is_found() -> None:
    ticket, rows = chained()
    rows[2]["data"]["form"]["public_reply"] += "。"
    assert verdict(rows, ticket) == 3


def test_an_event_rewritten_with_a_hash_of_its_own_is_found_at_the_next_one() -> None:
    ticket, rows = chained()
    rows[2]["type"] = "ticket.other"
    rows[2]["hash"] = history.digest(rows[2])
    assert verdict(rows, ticket) == 4


@pytest.mark.parametrize("n", range(4))
def test_a_removed_row_is_found(n: int) -> None:
    ticket, rows = chained()
    del rows[n]
    assert verdict(rows, ticket) == n + 1


def test_two_rows_in_another_order_are_found() -> None:
    ticket, rows = chained()
    rows[1], rows[2] = rows[2], rows[1]
    assert verdict(rows, ticket) == 2


@pytest.mark.parametrize("left", range(5))
def test_a_cut_tail_is_found(left: int) -> None:
    ticket, rows = chained()
    assert verdict(rows[:left], ticket) == left + 1


def test_a_row_added_after_the_head_is_found() -> None:
    ticket, rows = chained()
    _, [extra] = history.seal(ticket, handled().events[:1], ids(), at("2026-09-14 10:00"))
    assert verdict([*rows, read_back(extra)], ticket) is not None


def test_a_whole_chain_rewritten_is_found_by_the_head() -> None:
    ticket, rows = chained()
    forged, head = [], ""
    for row in rows:
        new = {**row, "type": "ticket.nothing", "prev": head}
        head = new["hash"] = history.digest(new)
        forged.append(new)
    assert verdict(forged, ticket) == 6
    assert verdict(forged, replace(ticket, head_hash=head)) is None
