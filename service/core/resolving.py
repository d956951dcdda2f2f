"""What a resolution makes of a ticket: its measures with their clocks, and the end of the matter. Used by the docket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from service.core.calendar import Budget, Measure
from service.core.draft import Draft, Env
from service.core.effects import run, start_clock
from service.core.errors import FieldError, Invalid
from service.core.model import MeasureTask, Review

LONGEST_MEASURE_DAYS = 730


def take(draft: Draft, step: str) -> None:
    """The first branch of the workflow's `review` section that holds for this step, if any does."""
    branch = next((b for b in draft.env.workflow.review[step] if draft.holds(b.when)), None)
    if branch is not None:
        run(draft, branch)


def check_departments(env: Env, codes: Sequence[str], pointer: str) -> None:
    unknown = [n for n, code in enumerate(codes) if code not in env.departments]
    if unknown:
        raise Invalid(
            "A department is not known.",
            [FieldError(f"{pointer}/{n}", "expected the code of a department; GET /v1/departments") for n in unknown],
        )


def days_until(draft: Draft, due_on: str, pointer: str) -> int:
    """Natural days from today; raises Invalid unless it lies from tomorrow on within two years."""
    days = (date.fromisoformat(due_on) - draft.env.calendar.local_date(draft.now)).days
    if not 1 <= days <= LONGEST_MEASURE_DAYS:
        raise Invalid.field(pointer, "expected a date from tomorrow on, within two years")
    return days


def create_measure(draft: Draft, review: Review, item: Mapping[str, Any], pointer: str) -> MeasureTask:
    """One task of the resolution, or one commitment of resources (`resource`), with its clock."""
    due_on = str(item["due_on"])
    days_until(draft, due_on, f"{pointer}/due_on")
    wanted, docket = str(item.get("evidence_type") or ""), draft.env.docket
    if wanted and docket is not None and wanted not in docket.measures.evidence:
        raise Invalid.field(f"{pointer}/evidence_type", f"expected one of: {', '.join(docket.measures.evidence)}")
    draft.check_not_recused(str(item["department"]))
    task = MeasureTask(
        id=draft.env.new_id(),
        ticket_id=draft.ticket.id,
        review_id=review.id,
        title=str(item["title"]),
        department=str(item["department"]),
        due_on=due_on,
        mandatory=bool(item.get("mandatory", True)),
        state="open",
        co_units=tuple(item.get("co_units") or ()),
        deliverable=str(item.get("deliverable") or ""),
        evidence_type=wanted,
        resource=item.get("resource"),
        quantity=str(item.get("quantity") or ""),
        favour=item.get("favour"),
        created_at=draft.now,
    )
    draft.put("measures", task)
    start_measure_clock(draft, task, pointer)
    return task


def start_measure_clock(draft: Draft, task: MeasureTask, pointer: str) -> None:
    """Until the end of the date that was set for it."""
    budget = Budget(Measure.natural_days, days_until(draft, task.due_on, f"{pointer}/due_on"))
    start_clock(
        draft, "review_measure", anchor=draft.now, subject_id=task.id, department=task.department, budget=budget
    )


def complete_if_done(draft: Draft, review: Review) -> None:
    """With the last mandatory measure the matter is completed, and the ticket goes to its callback."""
    if any(m.review_id == review.id and m.mandatory and m.open for m in draft.ticket.measures):
        return
    draft.put("reviews", replace(review, state="completed", completed_at=draft.now))
    take(draft, "completed")
    draft.event("review.completed", review=review.id)
