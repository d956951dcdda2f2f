"""The checker: what it refuses, where and by which way; that the shipped set holds; that machine and engine agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.core import exploring
from service.core.errors import DefinitionError
from service.usecases.folders import Checked, check_folder
from tests.builders import WORKFLOWS

SMALL = (Path(__file__).parent / "small.yaml").read_text("utf-8")
UNIT = "  - {{code: {code}, title: {{zh: 某单位, en: A unit}}, kind: bureau, source: added}}\n"
UNITS = f"departments:\n{UNIT.format(code='tax')}{UNIT.format(code='water')}district_units: {{}}\n"
OVERLAY = "key: over\nextends: small\ntitle: {zh: 单位流程, en: A unit's}\ndepartments: [tax]\n"

Change = Callable[[str], str]


def swap(old: str, new: str, count: int = 1) -> Change:
    def change(text: str) -> str:
        assert old in text, old
        return text.replace(old, new, count)

    return change


def both(*changes: Change) -> Change:
    def change(text: str) -> str:
        for one in changes:
            text = one(text)
        return text

    return change


def checked(target: Path, small: str, overlay: str | None = None) -> list[Checked]:
    for name in ("city", "departments", "calendars"):
        (target / name).mkdir(parents=True, exist_ok=True)
    (target / "calendars" / "cn.yaml").write_text("key: cn-jinan\n")
    (target / "departments.yaml").write_text(UNITS, "utf-8")
    (target / "city" / "small.yaml").write_text(small, "utf-8")
    if overlay is not None:
        (target / "departments" / "over.yaml").write_text(overlay, "utf-8")
    return check_folder(target)


def faults(target: Path, small: str, overlay: str | None = None) -> list[DefinitionError]:
    try:
        return [error for one in checked(target, small, overlay) for error in one.errors]
    except DefinitionError as error:
        return [error]


def test_the_small_workflow_is_proved(tmp_path: Path) -> None:
    [one] = checked(tmp_path, SMALL)
    assert one.errors == () and one.proof.configurations > 100


def test_the_overlay_that_changes_nothing_is_proved(tmp_path: Path) -> None:
    assert [one.errors for one in checked(tmp_path, SMALL, OVERLAY)] == [(), ()]


# --- one fault each: what is changed, a line that is told, the path, words of the message -----------------------------

FAULTS: dict[str, tuple[Change, str, str, str]] = {
    # stages
    "a domain that no ticket is of": (
        swap("domains: [consultation]", "domains: [consultation, consultations]"),
        "domains: [", "domains", "'consultations'"),
    "an urgency that no ticket is of": (
        swap("domains: [consultation]", "domains: [consultation]\nurgency: [soonish]"),
        "urgency: [", "urgency", "'soonish'"),
    "a stage that nothing leads to": (
        swap("  done:    {", "  limbo:   {phase: handling, title: {zh: 空, en: Limbo}}\n  done:    {"),
        "limbo:", "stages.limbo", "never reached"),
    "a stage whose only way in is gone": (
        swap("cap: pause_cap}}], to: rest}", "cap: pause_cap}}]}"), "rest:    {", "stages.rest", "never reached"),
    "an audit that nobody can finish": (
        both(swap("    roles: [dispatcher]\n    not_by: reply\n    effects: [{settle", "    roles: [dispatcher]\n    not_by: reply\n    guard: ticket.domain == \"nowhere\"\n    effects: [{settle"),
             swap("    not_by: reply\n    effects: [{release", "    not_by: reply\n    guard: ticket.domain == \"nowhere\"\n    effects: [{release")),
        "guard: ticket.domain", "actions.pass.guard", "nobody can ever"),
    "a way out that some tickets do not have": (
        both(swap("    not_by: reply\n    effects: [{settle", "    not_by: reply\n    guard: ticket.urgency == \"urgent\"\n    effects: [{settle"),
             swap("    not_by: reply\n    effects: [{release", "    not_by: reply\n    guard: ticket.urgency == \"urgent\"\n    effects: [{release")),
        "check:   {", "stages.check", "dead end"),
    "a way out that is used up": (
        both(swap("  go_on:\n", "  go_on:\n    guard_message: {zh: 已恢复过, en: Used up}\n"),
             swap("    guard: leg.role == \"lead\"\n    effects: [{resume", "    guard: leg.role == \"lead\" && counters.resumed < 1\n    effects: [{count: resumed}, {resume"),
             swap("{meet: pause_cap}], to: work}", "{meet: pause_cap}]}")),
        "rest:    {", "stages.rest", "dead end"),
    "a unit that has replied and cannot reply again": (
        swap("{release: promise}, {meet: checking}, {accept: again}]", "{release: promise}, {meet: checking}]"),
        "work:    {", "stages.work", "dead end"),
    # clocks
    "a stage without a clock": (
        swap("{hold: promise}, {record: reply}, {start: checking}]", "{hold: promise}, {record: reply}]"),
        "- effects: [withdraw_open, submit_leg", "actions.reply.branches.1", "without a running clock"),
    "a ticket that starts without a promise": (
        swap("    effects: [{start: promise}, {start: sending}]", "    effects: [{start: sending}]"),
        "unrouted:", "open.unrouted", "no promise"),
    "a new round without its promise": (
        swap("reopen, {assign_lead: again}, {start: promise}]", "reopen, {assign_lead: again}]"),
        "- effects: [{count: reopenings}", "actions.reopen.branches.1", "without a running clock"),
    "a promise ended before the end": (
        swap("{meet: sending}, {assign_lead: form}]", "{meet: sending}, {assign_lead: form}, {cancel: promise}]"),
        "  send:", "actions.send", "without a running clock"),
    "a pause without a cap": (
        both(swap("  pause_cap:\n", "  other_cap:\n"), swap("{meet: pause_cap}], to: work}", "{meet: other_cap}], to: work}"),
                           swap("{start: pause_cap}, {pause: {clocks: [promise], cap: pause_cap}}", "{start: other_cap}, {pause: {clocks: [promise]}}"),
                           swap("{meet: pause_cap}]\n    to: work", "{meet: other_cap}]\n    to: work"),
                           swap("{cancel: pause_cap}", "{cancel: other_cap}")),
        "approve: {effects: [{start: other_cap}", "approvals.pause.approve", "without a cap"),
    "a pause whose cap resumes nothing": (
        swap("breach: {effects: [{resume: {clocks: [promise]}}, {meet: pause_cap}], to: work}", "breach: {effects: [{meet: pause_cap}], to: work}"),
        "breach: {effects: [{meet: pause_cap}]", "clocks.pause_cap.breach", "stays paused"),
    "a cap that never starts": (
        swap("{start: pause_cap}, {pause", "{pause"), "approve: {effects: [{pause", "approvals.pause.approve", "without a running clock"),
    "a closed ticket with a clock": (
        swap("{meet: promise}, {outcome: solved}, close]\n      to: done", "{meet: promise}, {outcome: solved}, close]\n      to: check"),
        "- effects: [{meet: promise}, {outcome: solved}", "review.completed.0.effects.2", "open stage"),
    # breaches and ladders
    "a breach that nobody hears of": (
        swap("    budget: PT2H\n    breach: {effects: [{notify: [dispatcher]}]}", "    budget: PT2H"),
        "sending:", "clocks.sending.breach", "leads nowhere"),
    "a ladder that ends before the review": (
        both(swap("      - {name: review, after: 5, effects: [{propose_review: overdue}]}\n", ""),
             swap("      - {name: supervise, after: 10, times: 20, effects: [{notify: [supervisor]}]}\n", "")),
        "{name: slip, after: 3", "clocks.promise.rungs.3", "does not end in the review"),
    "a ladder that goes on after the review": (
        swap("{name: supervise, after: 10, times: 20, effects: [{notify: [supervisor]}]}", "{name: late, after: 10, effects: [{notify: [department]}]}"),
        "{name: late, after", "clocks.promise.rungs.5", "no supervision"),
    "a yellow card after the red one": (
        both(swap("before: 1, effects: [{card: yellow}", "before: 1, effects: [{card: red}"), swap("after: 1, effects: [{card: red}", "after: 1, effects: [{card: yellow}")),
        "after: 1, effects: [{card: yellow}", "clocks.promise.rungs.2", "yellow card after a red"),
    "a supervision slip before the red card": (
        swap("{name: slip, after: 3", "{name: slip, before: 2"), "{name: red, after: 1", "clocks.promise.rungs.2", "red card after a slip"),
    # loops
    "extensions without end": (
        swap("counters.extension_requests < 1 && ", ""), "  ask_time:", "actions.ask_time", "loop without a limit"),
    "pauses without end": (
        swap("counters.pause_requests < 2 && ", ""), "  ask_pause:", "actions.ask_pause", "loop without a limit"),
    "a counter that is never counted": (
        swap("{count: pause_requests}, {request: pause}", "{request: pause}"), "  ask_pause:", "actions.ask_pause", "loop without a limit"),
    "reopening without end": (
        swap("    guard: counters.reopenings < 2\n", ""), "effects: [{count: reopenings}", "actions.reopen.branches", "loop without a limit"),
    "a limit in the wrong direction": (
        swap("guard: counters.reopenings < 2", "guard: counters.reopenings >= 0"), "effects: [{count: reopenings}", "actions.reopen.branches", "loop without a limit"),
    "rounds without end": (
        swap("{outcome: from_reply}, close]\n    to: done\n", "{outcome: from_reply}, new_round, {start: promise}, {accept: again}]\n    to: work\n"),
        "  pass:", "actions.pass", "loop without a limit"),
    # actions
    "an action of nobody": (
        swap("    stages: [check]\n    roles: [dispatcher]\n    not_by: reply\n    effects: [{settle", "    stages: [check]\n    roles: [auditor]\n    not_by: reply\n    effects: [{settle"),
        "roles: [auditor]", "actions.pass.roles", "nobody who is auditor"),
    "an action for the machine": (
        swap("stages: [desk]\n    roles: [dispatcher]", "stages: [desk]\n    roles: [dispatcher, system]"),
        "roles: [dispatcher, system]", "actions.send.roles", "nobody who is system"),
    "an action of a unit where no unit is": (
        swap("    stages: [rest]\n    roles: [handler]\n", "    stages: [rest, desk]\n    roles: [handler]\n"),
        "stages: [rest, desk]", "actions.go_on.stages", "nobody can ever do 'go_on' in 'desk'"),
    "a guard that never holds": (
        swap("guard: leg.role == \"lead\"\n    effects: [{resume", "guard: leg.role == \"lead\" && counters.urges > 3\n    effects: [{resume"),
        "counters.urges > 3", "actions.go_on.guard", "nobody can ever"),
    "a guard against its own stage": (
        swap("guard: leg.role == \"lead\"\n    effects: [{resume", "guard: ticket.stage == \"work\"\n    effects: [{resume"),
        "guard: ticket.stage", "actions.go_on.guard", "nobody can ever"),
    "a judge of a request who cannot judge": (
        swap("    roles: [dispatcher]\n    clock: ruling", "    roles: [hotline]\n    clock: ruling"), "roles: [hotline]\n", "approvals.pause.roles", "nobody who is hotline"),
    "a request twice": (
        swap(" && !pending.pause", ""), "  ask_pause:", "actions.ask_pause", "while it is undecided"),
    "an approval that nobody asks for": (
        swap("effects: [{count: pause_requests}, {request: pause}]", "effects: [{count: pause_requests}]"), "  pause:\n", "approvals.pause", "nobody can ask"),
    "a branch that is never taken": (
        swap("      - {when: leg.role == \"co_handler\", effects: [submit_leg, {meet: co_reply}]}", "      - {effects: [submit_leg, {meet: co_reply}]}"),
        "- effects: [withdraw_open", "actions.reply.branches.1", "never taken"),
    "a withdrawal that ends nothing": (
        swap("effects: [{outcome: withdrawn}, close]\n    to: done", "effects: [{outcome: withdrawn}, close]"), "{outcome: withdrawn}, close", "actions.withdraw.effects.1", "open stage"),
    "a closed ticket taken up without reopening": (
        swap("new_round, reopen, {assign_lead", "new_round, {assign_lead"), "- effects: [{count: reopenings}", "actions.reopen.branches.1", "without `reopen`"),
    "an open ticket that is reopened": (
        swap("{release: promise}, {meet: checking}", "{release: promise}, reopen, {meet: checking}"), "  send_back:", "actions.send_back", "reopens what may be open"),
    "a lead assigned again where there is none": (
        swap("      - when: ticket.lead == \"\"\n        effects: [{count: reopenings}, new_round, reopen, {start: promise}, {start: sending}]\n        to: desk\n", ""),
        "  reopen:", "actions.reopen", "where there is none"),
    "a route outside of the opening": (
        swap("{assign_lead: form}]", "{assign_lead: routed}]"), "{assign_lead: routed}", "actions.send.effects.1", "only when a ticket is opened"),
    "a leg submitted by who has none": (
        swap("stages: [work]\n    roles: [handler]\n    guard: leg.state", "stages: [work]\n    roles: [handler, dispatcher]\n    guard: leg.state"),
        "[submit_leg, {meet: co_reply}]", "actions.reply.branches.0.effects.0", "acts for no department"),
    # four eyes
    "a reply audited by who wrote it": (
        swap("    not_by: reply\n    effects: [{settle", "    effects: [{settle"), "  pass:", "actions.pass", "own work"),
    "a reply sent back by who wrote it": (
        swap("    not_by: reply\n    effects: [{release", "    effects: [{release"), "  send_back:", "actions.send_back", "own work"),
    "four eyes on the wrong act": (
        swap("    not_by: reply\n    effects: [{settle", "    not_by: send\n    effects: [{settle"), "not_by: send", "actions.pass.not_by", "own work"),
    # conditions and forms
    "a guard that reads a form": (
        swap("guard: leg.role == \"lead\"\n    effects: [{resume", "guard: form.reason == \"x\"\n    effects: [{resume"), "guard: form.reason", "actions.go_on.guard", "no form is there yet"),
    "a condition on a field that the form lacks": (
        swap("when: leg.role == \"co_handler\"", "when: form.reply == \"x\""), "when: form.reply", "actions.reply.branches.0.when", "no field 'reply'"),
    "a condition on a field that may be left out": (
        swap("when: leg.role == \"co_handler\"", "when: form.outcome == \"solved\""), "when: form.outcome", "actions.reply.branches.0.when", "need not be there"),
    "a level that reads a field that the form lacks": (
        swap("when: form.days > 3", "when: form.weeks > 3"), "form.weeks", "approvals.extension.levels.1.when", "no field 'weeks'"),
    "a condition on a clock that has not run yet": (
        swap("guard: leg.role == \"lead\"\n    effects: [{resume", "guard: leg.role == \"lead\" && !clocks.review_screen.open\n    effects: [{resume"),
        "clocks.review_screen", "actions.go_on.guard", "need not be there"),
    "a condition on a clock that there is not": (
        swap("guard: counters.reopenings < 2", "guard: clocks.promis.open"), "clocks.promis.open", "actions.reopen.guard", "no clock 'promis'"),
    "a condition on a counter that there is not": (
        swap("counters.reopenings < 2", "counters.reopened < 2"), "counters.reopened", "actions.reopen.guard", "no counter 'reopened'"),
    "a condition on a request that there is not": (
        swap("!pending.pause", "!pending.paus"), "pending.paus", "actions.ask_pause.guard", "no approval 'paus'"),
    "a condition on a fact that tickets do not have": (
        swap("ticket.lead == \"\"", "ticket.leader == \"\""), "ticket.leader", "actions.reopen.branches.0.when", "'leader'"),
    "a condition that compares unlike kinds": (
        swap("guard: counters.reopenings < 2", "guard: counters.reopenings < \"2\""), "counters.reopenings <", "actions.reopen.guard", "different kinds"),
    "a condition where none is looked at": (
        swap("    deny: {effects: [{notify: [department]}]}", "    deny: {when: counters.urges > 1, effects: [{notify: [department]}]}"),
        "when: counters.urges", "approvals.pause.deny.when", "never looked at"),
    "a form without the unit that its effect reads": (
        swap("      required: [department]\n      properties: {department", "      properties: {department"), "form:", "actions.send.form", "required field 'department'"),
    "an extension without its days": (
        swap("      required: [days]\n", ""), "form:", "actions.ask_time.form", "number of days"),
    "an extension without a maximum": (
        swap("{type: integer, minimum: 1, maximum: 10}", "{type: integer, minimum: 1}"), "{type: integer, minimum: 1}", "actions.ask_time.form.properties.days", "without a limit"),
    "a form that refers elsewhere": (
        swap("properties: {reason: {type: string}}", "properties: {reason: {$ref: 'http://x/y'}}"), "$ref", "actions.ask_pause.form", "refers to nothing else"),
    "an extension of no days": (
        swap("{type: integer, minimum: 1, maximum: 10}", "{type: integer, minimum: 1, maximum: 0}"), "maximum: 0", "actions.ask_time.form.properties.days", "without a limit"),
    "a field that is no mapping": (
        swap("properties: {reason: {type: string}}", "properties: {reason: true}"), "reason: true", "actions.ask_pause.form.properties.reason", "a mapping"),
    "a counter without a name": (swap("{count: pause_requests}", "{count: [a, b]}"), "{count: [a, b]}", "actions.ask_pause.effects.0", "takes one name"),
    "a condition without end": (
        swap("guard: counters.reopenings < 2", "guard: counters.reopenings < 2" + " || true" * 300), "guard: counters.reopenings", "actions.reopen.guard", "at most 2000 characters"),
    # laws and budgets
    "longer than the law": (swap("    budget: 10\n    rework_budget: 5", "    budget: 21\n    rework_budget: 5"), "budget: 21", "clocks.promise.budget", "longer than the law"),
    "rework longer than the law": (swap("rework_budget: 5", "rework_budget: 25"), "rework_budget: 25", "clocks.promise.rework_budget", "longer than the law"),
    "natural days where the law counts working days": (
        swap("    measure: working_days\n    budget: 10\n", "    measure: natural_days\n    budget: 10\n"), "measure: natural_days", "clocks.promise.measure", "the law counts working_days"),
    "an extension longer than the law": (swap("maximum: 10", "maximum: 11"), "maximum: 11", "actions.ask_time.form.properties.days", "more than the law's 10"),
    "two extensions that are longer together": (
        swap("counters.extension_requests < 1", "counters.extension_requests < 2"), "maximum: 10", "actions.ask_time.form.properties.days", "more than the law's 10"),
    "a law that knows no extension": (swap("limit: 20, extension: 10,", "limit: 20,"), "maximum: 10", "actions.ask_time.form.properties.days", "more than the law's 0"),
    "a law counted in hours of days": (swap("limit: 20, extension: 10", "limit: PT20H, extension: 10"), "limit: PT20H", "clocks.promise.statutory.limit", "whole number of days"),
    # requests and reviews
    "an approval with two ways to decide": (
        swap("    roles: [dispatcher]\n    clock: ruling", "    roles: [dispatcher]\n    levels: [{title: {zh: 一, en: One}, roles: [dispatcher]}]\n    clock: ruling"),
        "  pause:\n", "approvals.pause", "either `roles` or `levels`"),
    "a first level for some requests only": (
        swap("en: Head of the unit}, roles: [handler]}", "en: Head of the unit}, roles: [handler], when: form.days > 1}"), "form.days > 1", "approvals.extension.levels.0.when", "first level"),
    "four levels": (
        swap("      - {title: {zh: 中心", "      - {title: {zh: 二, en: Two}, roles: [handler]}\n      - {title: {zh: 三, en: Three}, roles: [handler]}\n      - {title: {zh: 中心"),
        "levels:", "approvals.extension.levels", "at most 3"),
    "a docket without its clock": (
        swap("  review_opinion:\n", "  review_views:\n"), "clocks:", "clocks", "'review_opinion' is missing"),
    "a measure's clock that moves the ticket": (
        swap("    budget: 90\n    breach: {effects: [{notify: [reviewer]}]}", "    budget: 90\n    breach: {effects: [{notify: [reviewer]}], to: desk}"),
        "to: desk}", "clocks.review_measure.breach.to", "moves the ticket"),
    "a timer that closes over open measures": (
        swap("      - {name: slip, after: 3, effects: [{card: slip}]}", "      - {name: slip, after: 3, effects: [{card: slip}, close], to: done}"),
        "{name: slip, after: 3", "clocks.promise.rungs.3", "may have open measures"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_workflow_is_refused_with_line_and_path(name: str, tmp_path: Path) -> None:
    change, at_line, path, words = FAULTS[name]
    text = change(SMALL)
    found = faults(tmp_path, text)
    assert found, "not refused"
    lines = {n for n, line in enumerate(text.splitlines(), 1) if at_line.strip() in line}
    fits = [e for e in found if path in str(e) and words in str(e)]
    assert fits, [str(e) for e in found]
    assert fits[0].file == "small.yaml" and fits[0].line in lines, (fits[0].line, lines)


# --- overlays that loosen: what the overlay says, the line that is told, the path, words of the message --------------

LOOSENED: dict[str, tuple[str, str, str, str]] = {
    "a longer budget": ("clocks:\n  promise: {budget: 11}\n", "budget: 11", "clocks.promise.budget", "may be longer"),
    "a longer rework": ("clocks:\n  promise: {rework_budget: 6}\n", "rework_budget", "clocks.promise.rework_budget", "may be longer"),
    "hours that may be longer than days": (
        "clocks:\n  checking: {measure: natural_hours, budget: PT17H}\n", "measure: natural_hours", "clocks.checking.measure", "may be longer"),
    "a longer cap of a pause": ("clocks:\n  pause_cap: {budget: 6}\n", "budget: 6", "clocks.pause_cap.budget", "may be longer"),
    "working days instead of hours": (
        "clocks:\n  sending: {measure: working_days, budget: 1}\n", "measure: working_days", "clocks.sending.measure", "may be longer"),
    "a later anchor": ("clocks:\n  promise: {anchor: dispatched_at}\n", "anchor:", "clocks.promise.anchor", "counts from"),
    "a clock of another family": ("clocks:\n  co_reply: {family: centre}\n", "family:", "clocks.co_reply.family", "family"),
    "a cycle that begins again": ("clocks:\n  promise: {reopened: restart}\n", "reopened:", "clocks.promise.reopened", "gives more"),
    "a step taken off the ladder": (
        "clocks:\n  promise:\n    rungs:\n      - {name: review, after: 5, effects: [{propose_review: overdue}]}\n", "rungs:", "clocks.promise.rungs", "'warning'"),
    "a later warning": (
        "clocks:\n  promise:\n    rungs:\n      - {name: warning, share: 70, effects: [{notify: [department]}]}\n" + SMALL[SMALL.index("      - {name: yellow"):SMALL.index("    breach: {effects: [{notify: [department, supervisor]}]}")],
        "rungs:", "clocks.promise.rungs", "'warning'"),
    "a later red card": (
        "clocks:\n  promise:\n    rungs:\n" + SMALL[SMALL.index("      - {name: warning"):SMALL.index("      - {name: red")] + "      - {name: red, after: 2, effects: [{card: red}, {notify: [department, supervisor]}]}\n" + SMALL[SMALL.index("      - {name: slip"):SMALL.index("    breach: {effects: [{notify: [department, supervisor]}]}")],
        "rungs:", "clocks.promise.rungs", "'red'"),
    "a breach that tells fewer": (
        "clocks:\n  promise:\n    breach: {effects: [{notify: [department]}]}\n", "breach:", "clocks.promise.breach", "does less"),
    "a law removed": ("clocks:\n  promise:\n    statutory: null\n", "statutory:", "clocks.promise.statutory", "removed"),
    "a law made longer": ("clocks:\n  promise:\n    statutory: {limit: 25}\n", "limit: 25", "clocks.promise.statutory.limit", "more than"),
    "a stage of another phase": ("stages:\n  check: {phase: callback}\n", "phase: callback", "stages.check.phase", "phase"),
    "a right of the enterprise removed": ("actions:\n  withdraw: null\n", "withdraw:", "actions.withdraw", "removed"),
    "a right of the enterprise in fewer stages": ("actions:\n  withdraw: {stages: [desk, work]}\n", "stages:", "actions.withdraw.stages", "hotline could"),
    "a right of the enterprise made harder": ("actions:\n  reopen: {guard: counters.reopenings < 2 && ticket.round < 9}\n", "guard:", "actions.reopen.guard", "harder"),
    "an action of more roles": ("actions:\n  send: {roles: [dispatcher, hotline]}\n", "roles:", "actions.send.roles", "may do it too"),
    "four eyes given up": ("actions:\n  pass: {not_by: null}\n", "pass:", "actions.pass", "own work"),
    "a guard that asks less": ("actions:\n  ask_time: {guard: leg.role == \"lead\" && !pending.extension}\n", "guard:", "actions.ask_time.guard", "asks less"),
    "a limit raised in a guard": (
        "actions:\n  ask_pause: {guard: leg.role == \"lead\" && counters.pause_requests < 3 && !pending.pause}\n", "guard:", "actions.ask_pause.guard", "asks less"),
    "more days to ask for": (
        "clocks:\n  promise: {statutory: {extension: 10}}\nactions:\n  ask_time:\n    form: {properties: {days: {maximum: 12}}}\n", "maximum: 12", "actions.ask_time.form.properties.days", "more than"),
    "a field that need not be given": ("actions:\n  send:\n    form: {required: []}\n", "required: []", "actions.send.form", "required"),
    "more to choose from": ("actions:\n  reply:\n    form: {properties: {outcome: {enum: [solved, explained_no_basis, other]}}}\n", "enum:", "actions.reply.form.properties.outcome.enum", "more can be chosen"),
    "an effect left out": ("actions:\n  ask_pause: {effects: [{request: pause}]}\n", "effects:", "actions.ask_pause", ""),
    "time given by an action": ("actions:\n  comment: {effects: [{pause: {clocks: [promise], cap: pause_cap}}]}\n", "comment:", "actions.comment", ""),
    "a promise ended by an action": (
        "actions:\n  note: {title: {zh: 注, en: Note}, stages: [work], roles: [dispatcher], effects: [{start: checking}, {cancel: promise}], to: check}\n",
        "note:", "actions.note", "'cancel' (promise) is added"),
    "a request decided by somebody else": ("approvals:\n  pause: {roles: [supervisor]}\n", "roles:", "approvals.pause.roles", "need not be decided by"),
    "a level less": (
        "approvals:\n  extension:\n    levels: [{title: {zh: 一, en: One}, roles: [handler]}]\n", "levels:", "approvals.extension.levels", "need not be decided by"),
    "one more clock that waits": ("approvals:\n  pause: {delays: [promise]}\n", "delays:", "approvals.pause.delays", "more clocks wait"),
    "a new request that gives time": (
        "actions:\n  ask_more: {title: {zh: 再, en: More}, stages: [work], roles: [handler], guard: counters.more < 1 && !pending.more, form: {required: [days], properties: {days: {type: integer, minimum: 1, maximum: 1}}}, effects: [{count: more}, {request: more}]}\n"
        "clocks:\n  promise: {statutory: {limit: 20}}\n"
        "approvals:\n  more: {title: {zh: 再, en: More}, roles: [dispatcher], clock: ruling, approve: {effects: [{pause: {clocks: [promise], cap: pause_cap}}, {start: pause_cap}], to: rest}, deny: {effects: [{notify: [department]}]}}\n",
        "more: {title", "approvals.more.approve", "'pause'"),
    "older events": ("oldest_received_days: 60\n", "oldest_received_days", "oldest_received_days", "more than"),
    "a shorter callback window": ("callback_window_days: 5\n", "callback_window_days", "callback_window_days", "fewer"),
    "parts that begin again": ("split: restart\n", "split:", "split", "begin their clocks again"),
    "a docket that does less": ("review:\n  refused: [{effects: [{notify: [department]}]}]\n", "refused:", "review.refused", ""),
    "a unit that there is not": ("", "departments: [tax]", "departments", "no department 'tax'"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOSENED)
def test_an_overlay_may_only_tighten(name: str, tmp_path: Path) -> None:
    more, at_line, path, words = LOOSENED[name]
    overlay = OVERLAY + more
    if not more:
        overlay = overlay.replace("[tax]", "[moon]")
        at_line, words = at_line.replace("[tax]", "[moon]"), words.replace("'tax'", "'moon'")
    found = faults(tmp_path, SMALL, overlay)
    assert found, "not refused"
    lines = {n for n, line in enumerate(overlay.splitlines(), 1) if at_line in line}
    fits = [e for e in found if e.file == "over.yaml" and path in str(e) and words in str(e)]
    assert fits, [str(e) for e in found]
    assert fits[0].line in lines


TIGHTENED = {
    "shorter": "clocks:\n  promise: {budget: 4, rework_budget: 2}\n  pause_cap: {budget: 3}\n",
    "hours for a day": "clocks:\n  checking: {measure: natural_hours, budget: PT16H}\n",
    "natural hours for working hours": "clocks:\n  sending: {measure: natural_hours, budget: PT30M}\n",
    "one warning more": "clocks:\n  co_reply:\n    rungs: [{name: early, share: 50, effects: [{notify: [department]}]}]\n",
    "no extension": "actions:\n  ask_time: null\napprovals:\n  extension: null\n",
    "fewer pauses": "actions:\n  ask_pause: {guard: leg.role == \"lead\" && counters.pause_requests < 1 && !pending.pause}\n",
    "a guard that asks more": "actions:\n  go_on: {guard: leg.role == \"lead\" && leg.state == \"pending\"}\n",
    "fewer days": "actions:\n  ask_time:\n    form: {properties: {days: {maximum: 3}}}\n",
    "fewer who may do it": "actions:\n  comment: {roles: [hotline, handler]}\n",
    "one level more": (
        "approvals:\n  pause:\n    roles: null\n    levels:\n      - {title: {zh: 一, en: One}, roles: [handler]}\n"
        "      - {title: {zh: 二, en: Two}, roles: [dispatcher]}\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TIGHTENED)
def test_what_tightens_is_taken(name: str, tmp_path: Path) -> None:
    assert [str(e) for e in faults(tmp_path, SMALL, OVERLAY + TIGHTENED[name])] == []


def test_the_shipped_set_is_proved_with_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its two seconds (`workflows check` tells them) are these steps; seconds here would measure the machine of the day."""
    exploring.explore.cache_clear()
    steps, run = 0, exploring.Machine.run

    def counted(*given: Any) -> Any:
        nonlocal steps
        steps += 1
        return run(*given)

    monkeypatch.setattr(exploring.Machine, "run", counted)
    checked = check_folder(WORKFLOWS)
    assert len(checked) >= 14 and not any(one.errors for one in checked)
    assert 10_000 < steps < 70_000
