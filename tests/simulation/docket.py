"""One matter, one discussion in the model city: what each step of the docket does to the ticket and its clocks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from tests.simulation.days import Amount
from tests.simulation.model import Review, Task, Ticket

STATES = {
    "screen": ("proposed",),
    "request_opinions": ("preparing",),
    "give_opinion": ("preparing",),
    "decide": ("preparing",),
    "withdraw": ("proposed", "preparing"),
}
Form = Mapping[str, Any]


def possible(t: Ticket, review: Review, step: str, form: Form, now: datetime) -> bool:
    if review.state not in STATES[step]:
        return False
    if step == "screen" and form["decision"] == "accept":
        return t.stage not in {"auditing", "callback"}
    if step == "give_opinion":
        return review.asked.get(form["unit"]) is False
    if step == "decide" and form["decision"] == "postpone":
        return not review.postponed
    if step == "decide":  # in writing: all have answered, or their limit has passed in silence
        waited_for = {f"opinion of {code} in {review.number}" for code, given in review.asked.items() if not given}
        return not any(p.open and p.about in waited_for and p.due >= now for p in t.promises)
    return True


def perform(t: Ticket, review: Review, step: str, form: Form, now: datetime) -> None:
    _STEPS[step](t, review, form, now)
    t.reckon()


def _screen(t: Ticket, review: Review, form: Form, now: datetime) -> None:
    if form["decision"] == "refuse":
        review.state = "refused"
        t.meet(now, "review_screen")
        if t.stage == "reviewing":
            t.close(now, "explained_no_basis")
        return
    review.state = "preparing"
    t.resume(now, "resolve", "opinion", "accept")
    t.cancel(now, "pause_cap", "accept", "dispatch")
    t.withdraw_requests(now)
    t.meet(now, "review_screen")
    t.start("review_decision", now)
    t.stage = "reviewing"


def _request_opinions(t: Ticket, review: Review, form: Form, now: datetime) -> None:
    for code in form["departments"]:
        if code not in review.asked:
            review.asked[code] = False
            t.start("review_opinion", now, about=f"opinion of {code} in {review.number}")


def _give_opinion(t: Ticket, review: Review, form: Form, now: datetime) -> None:
    review.asked[form["unit"]] = True
    t.meet(now, "review_opinion", about=f"opinion of {form['unit']} in {review.number}")


def _decide(t: Ticket, review: Review, form: Form, now: datetime) -> None:
    t.meet(now, "review_decision")
    if form["decision"] == "postpone":
        review.postponed = True
        t.start("review_decision", now)
        return
    review.state = "decided"
    t.cancel(now, "review_opinion")
    for item in form.get("measures", []):
        task = Task(len(t.tasks), review.number, item["department"], item["mandatory"])
        t.tasks.append(task)
        _start_measure(t, task, item["due_on"], now)
    if form.get("clock_effect") == "replaced":
        t.cancel(now, "resolve")  # T12: by a recorded decision; a breach before it stays
    _complete(t, review, now)


def _start_measure(t: Ticket, task: Task, due_on: str, now: datetime) -> None:
    days = (date.fromisoformat(due_on) - t.rules.days.date_of(now)).days
    t.start("review_measure", now, about=f"measure {task.number}", amount=Amount("natural_days", days))


def _complete(t: Ticket, review: Review, now: datetime) -> None:
    """The last mandatory measure is done: the ticket goes to its callback."""
    if any(task.review == review.number and task.mandatory and task.open for task in t.tasks):
        return
    review.state = "completed"
    t.meet(now, "resolve")
    t.cancel(now, "opinion")
    t.start("callback", now)
    t.stage = "callback"


def _withdraw(t: Ticket, review: Review, form: Form, now: datetime) -> None:
    review.state = "withdrawn"
    t.cancel(now, "review_screen", "review_decision", "review_opinion")
    if t.stage != "reviewing":
        return
    if not [p for p in t.promises if p.name == "resolve"][-1].open:
        t.close(now, "explained_no_basis")
    elif t.lead:
        t.stage = "handling"
    else:
        t.start("dispatch", now)
        t.stage = "dispatching"


_STEPS = {
    "screen": _screen,
    "request_opinions": _request_opinions,
    "give_opinion": _give_opinion,
    "decide": _decide,
    "withdraw": _withdraw,
}


# --- measures ---------------------------------------------------------------------------------------------------------


def possible_for(task: Task, step: str) -> bool:
    return task.open and (step != "strike_off" or task.state == "evidence")


def perform_for(t: Ticket, task: Task, step: str, form: Form, now: datetime) -> None:
    about = f"measure {task.number}"
    if step == "report":
        task.state = "reported" if task.state == "open" else task.state
    elif step == "submit_evidence":
        task.state = "evidence"
    elif step == "reschedule":
        t.cancel(now, "review_measure", about=about)
        _start_measure(t, task, form["due_on"], now)
    elif step in {"strike_off", "waive"}:
        task.state = "struck_off" if step == "strike_off" else "waived"
        end = t.meet if step == "strike_off" else t.cancel
        end(now, "review_measure", about=about)
        review = t.reviews[task.review]
        if review.state == "decided":
            _complete(t, review, now)
    t.reckon()
