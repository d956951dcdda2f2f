"""Workflow files: the shipped set loads, and a wrong file is refused with file, line and path."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest

from service.core import definitions, effects
from service.core.definitions import CONTEXT, compile_workflow
from service.core.draft import Draft
from service.core.errors import DefinitionError
from service.core.sources import read_workflows
from service.core.yaml_files import read_yaml
from service.usecases.folders import read_folder, read_unproved
from tests.builders import DISPATCHER, WORKFLOWS, Case, folder

DOMAINS = {"consultation", "project_landing", "business_development", "government_service", "complaint_report"}


def test_the_shipped_set_loads() -> None:
    read = read_folder(WORKFLOWS)
    assert (
        {*DOMAINS, "emergency"} <= set(read.workflows)
        and len(read.workflows) >= 6 + 8
        and set(read.calendars) == {"cn-jinan"}
    )


def test_each_domain_has_its_workflow_and_the_abstract_one_is_none() -> None:
    flows = [compile_workflow(plain) for plain in folder().workflows.values()]
    assert {d for f in flows for d in f.domains} == DOMAINS
    assert "base" not in folder().workflows


def test_an_overlay_says_only_what_differs() -> None:
    base = read_yaml(WORKFLOWS / "city" / "base.yaml")
    overlay = folder().workflows["consultation"]
    assert overlay["clocks"]["resolve"]["budget"] == 2 and base["clocks"]["resolve"]["budget"] == 15
    assert overlay["clocks"]["contact"] == base["clocks"]["contact"] and overlay["stages"] == base["stages"]
    assert "request_extension" not in folder().workflows["emergency"]["actions"]


def test_the_language_and_the_engine_name_the_same_effects() -> None:
    assert set(effects.HANDLERS) == definitions.EFFECTS


def test_conditions_may_read_exactly_what_the_engine_provides() -> None:
    case = Case.opened()
    assert set(Draft(case.ticket, case.env(DISPATCHER)).context()) == CONTEXT


def test_words_bound_by_a_macro_are_not_taken_for_names() -> None:
    plain = edited_plain()
    plain["actions"]["accept"]["guard"] = '["a", "b"].exists(x, x == leg.role) || form.all(k, k != "z")'
    compile_workflow(plain)


def edited_plain() -> dict[str, Any]:
    return deepcopy(dict(folder().workflows["project_landing"]))


# --- wrong files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder of workflows that may be spoiled: those of the city."""
    target = tmp_path / "workflows"
    shutil.copytree(WORKFLOWS, target, ignore=shutil.ignore_patterns("demo"))
    shutil.rmtree(target / "departments")
    return target


def swap(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text, old
        return text.replace(old, new, 1)

    return change


def with_line(new: str) -> Callable[[str], str]:
    return lambda text: text + new


BASE, LANDING = "city/base.yaml", "city/project_landing.yaml"
BOMB = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\n"
WRONG = {
    "unknown stage of an action": (
        BASE,
        swap("stages: [accepting]", "stages: [acepting]"),
        "stages: [acepting]",
        "actions.accept.stages",
    ),
    "unknown stage to go to": (
        BASE,
        swap("{accept: by_hand}]\n    to: handling", "{accept: by_hand}]\n    to: handlin"),
        "to: handlin",
        "actions.accept.to",
    ),
    "unknown stage of a branch": (
        BASE,
        swap("to: auditing", "to: audit"),
        "to: audit",
        "actions.submit_reply.branches.3.to",
    ),
    "unknown stage of a breach": (
        BASE,
        swap("{notify: [department]}], to: handling}", "{notify: [department]}], to: handlin}"),
        "to: handlin",
        "clocks.accept.breach.to",
    ),
    "unknown stage of an approval": (
        BASE,
        swap("      to: dispatching\n    deny", "      to: dispatchin\n    deny"),
        "to: dispatchin\n",
        "approvals.return.approve.to",
    ),
    "unknown clock to meet": (
        BASE,
        swap("{meet: accept}, {accept: by_hand}", "{meet: acceptt}, {accept: by_hand}"),
        "acceptt",
        "actions.accept.effects.0",
    ),
    "unknown clock to pause": (
        BASE,
        swap("{pause: {clocks: [accept], kind", "{pause: {clocks: [acept], kind"),
        "acept",
        "actions.request_return.effects.1",
    ),
    "unknown clock to excuse": (
        BASE,
        swap("deny: {effects: [{excuse: [resolve]}", "deny: {effects: [{excuse: [resolv]}"),
        "[resolv]",
        "approvals.extension.deny.effects.0",
    ),
    "unknown clock of an approval": (
        BASE,
        swap("clock: return_decision", "clock: returning"),
        "returning",
        "approvals.return.clock",
    ),
    "unknown effect": (
        BASE,
        swap("effects: [assign_to]", "effects: [asign_to]"),
        "asign_to",
        "actions.assign.effects.0",
    ),
    "unknown approval": (
        BASE,
        swap("{request: return}", "{request: retrun}"),
        "retrun",
        "actions.request_return.effects.2",
    ),
    "unknown role": (
        BASE,
        swap("roles: [hotline, dispatcher]", "roles: [hotline, boss]"),
        "boss",
        "actions.record_callback.roles.1",
    ),
    "unknown role to notify": (
        BASE,
        swap("{notify: [reviewer]}", "{notify: [reviewers]}"),
        "[reviewers]",
        "clocks.review_decision.rungs.0.effects.0",
    ),
    "a role to notify that is no list": (
        BASE,
        swap("{start: dispatch}, {notify: [dispatcher]}]\n    to", "{start: dispatch}, {notify: dispatcher}]\n    to"),
        "{notify: dispatcher}",
        "open.unrouted.effects.2",
    ),
    "unknown action of four eyes": (
        BASE,
        swap("not_by: submit_reply", "not_by: reply"),
        "not_by: reply",
        "actions.approve_reply.not_by",
    ),
    "unknown key": (LANDING, with_line("colour: red\n"), "colour: red", "colour"),
    "unknown key deep inside": (
        BASE,
        swap("rework_budget: 8", "rework_buget: 8"),
        "rework_buget",
        "clocks.resolve.rework_buget",
    ),
    "a rung of two kinds": (
        BASE,
        swap("{name: yellow, before: 1,", "{name: yellow, before: 1, after: 1,"),
        "before: 1, after: 1",
        "clocks.resolve.rungs.1",
    ),
    "a rung that stands twice": (
        BASE,
        swap("{name: yellow, before: 1,", "{name: warning, before: 1,"),
        "name: warning, before",
        "clocks.resolve.rungs.1.name",
    ),
    "an ambiguous budget": (BASE, swap("budget: 15\n", "budget: PT15\n"), "budget: PT15", "clocks.resolve.budget"),
    "hours for a clock of days": (
        BASE,
        swap("budget: 15\n", "budget: PT15H\n"),
        "budget: PT15H",
        "clocks.resolve.budget",
    ),
    "a bare number of hours": (BASE, swap("budget: PT2H\n", "budget: 2\n"), "budget: 2", "clocks.contact.budget"),
    "a budget of nothing": (BASE, swap("budget: 15\n", "budget: 0\n"), "budget: 0", "clocks.resolve.budget"),
    "an extension of a clock of hours": (
        BASE,
        swap("{extend: resolve}", "{extend: contact}"),
        "{extend: contact}",
        "approvals.extension.approve.effects.1",
    ),
    "an extension outside an approval": (
        BASE,
        swap("effects: [assign_to]", "effects: [{extend: resolve}]"),
        "[{extend: resolve}]",
        "actions.assign.effects.0",
    ),
    "a bad condition": (
        BASE,
        swap('leg.role == "lead" && !pending.return\n', 'leg.role == "lead" &&\n'),
        '"lead" &&',
        "actions.accept.guard",
    ),
    "a condition about something unknown": (
        BASE,
        swap('leg.role == "lead" && !pending.return\n', 'legg.role == "lead"\n'),
        "legg.role",
        "actions.accept.guard",
    ),
    "a bad form": (
        BASE,
        swap("{type: integer, minimum: 1, maximum: 10}", "{type: whole, minimum: 1}"),
        None,
        "actions.request_extension.form",
    ),
    "branches and effects at once": (
        BASE,
        swap("  log_contact:\n", "  log_contact:\n    to: handling\n"),
        "log_contact:",
        "actions.log_contact",
    ),
    "an effect of two names": (
        BASE,
        swap("effects: [assign_to]", "effects: [{meet: accept, start: accept}]"),
        "{meet: accept, start",
        "actions.assign.effects.0",
    ),
    "a clock named by a list": (
        BASE,
        swap("effects: [assign_to]", "effects: [{start: [accept]}]"),
        "{start: [accept]}",
        "actions.assign.effects.0",
    ),
    "a missing key": (BASE, swap("calendar: cn-jinan\n", ""), None, "calendar"),
    "a calendar that is missing": (LANDING, with_line("calendar: cn-moon\n"), "calendar: cn-moon", "calendar"),
    "a parent that is missing": (LANDING, swap("extends: base", "extends: ground"), "extends: ground", "extends"),
    "extends in a circle": (BASE, with_line("extends: project_landing\n"), None, "extends"),
    "a key used twice": (LANDING, swap("key: project_landing", "key: consultation"), "key: consultation", "key"),
    "a key written twice": (LANDING, with_line("extends: base\n"), "extends: base\n", ""),
    "an alias bomb": (LANDING, with_line(BOMB), "a: &a", ""),
    "an alias in block style": (LANDING, with_line("x: &x\n  - 1\n"), "x: &x", ""),
    "a tag": (LANDING, with_line("x: !!python/name:os.system\n"), "!!python", ""),
    "two documents": (LANDING, with_line("---\nkey: other\n"), "---", ""),
    "a list as a key": (LANDING, with_line("? [a, b]\n: c\n"), "? [a, b]", ""),
    "nested without end": (LANDING, with_line("x: " + "[" * 60 + "]" * 60 + "\n"), "x: [[", ""),
    "broken YAML": (LANDING, with_line("domains: [a\n"), None, ""),
    "a date that does not exist": (LANDING, with_line("x: 2026-02-30\n"), None, ""),
    "a list instead of a mapping": (LANDING, lambda _: "- a\n", "- a", ""),
    "a file over 1 MB": (LANDING, with_line("#" + "x" * 1_000_000), None, ""),
    "a department that a rule names": (
        "routing.yaml",
        swap("lead: enterprise_service_centre", "lead: moon"),
        "lead: moon",
        "lead",
    ),
    "a department that a matter names": (
        "matters.yaml",
        swap("lead: investment_promotion", "lead: moon"),
        "lead: moon",
        "matters.0.lead",
    ),
    "a parent that is no matter": (
        "matters.yaml",
        swap("parent: project_matters", "parent: moon"),
        "parent: moon",
        "matters.1.parent",
    ),
    "the same department twice": (
        "departments.yaml",
        swap("  - code: party_publicity_dept", "  - code: party_organisation_dept"),
        "- code: party_organisation_dept",
        "departments.2.code",
    ),
    "a key that units do not have": (
        "departments.yaml",
        swap("    aliases: [政府办]", "    alias: [政府办]"),
        "alias: [政府办]",
        "departments.5.alias",
    ),
    "an alias that is in every text": (
        "departments.yaml",
        swap("    aliases: [政府办]", "    aliases: [政府办, 市]"),
        "aliases: [政府办, 市]",
        "departments.5.aliases.1",
    ),
    "offices that are one text": (
        "departments.yaml",
        swap("    aliases: [政府办]", "    offices: 政府办"),
        "offices: 政府办",
        "departments.5.offices",
    ),
    "a district of a unit that is none": (
        "departments.yaml",
        swap('"370102": lixia', '"370102": lixai'),
        '"370102": lixai',
        "district_units.370102",
    ),
    "no departments": ("departments.yaml", lambda _: "# none\n", None, "expected a mapping of keys"),
    "matters that are a list": ("matters.yaml", lambda _: "- code: land_use\n", "- code: land_use", "holds a list"),
    "a matter under itself": (
        "matters.yaml",
        swap("  - code: land_use\n    parent: project_matters", "  - code: land_use\n    parent: land_quota"),
        "parent: land_quota",
        "matters.1.parent",
    ),
    "a word that is nothing": (
        "routing.yaml",
        swap("words: {", 'words: {"": 3, '),
        '{"": 3',
        "words",
    ),
    "what was learned in two files": (
        "routing.yaml",
        with_line("learned: {}\n"),
        "learned: {}",
        "routing_weights.yaml says this too",
    ),
    "a unit of the vocabulary that is none": (
        "vocabulary.yaml",
        with_line("moon: {sure: 月亮}\n"),
        "moon: {sure",
        "moon",
    ),
    "a holiday without its name": (
        "calendars/holidays/cn.yaml",
        swap('"2026-10-01": 国庆节', '"2026-10-01": 7'),
        "2026-10-01",
        "off.2026-10-01",
    ),
    "holidays that are nowhere": (
        "calendars/cn-jinan.yaml",
        swap("holidays: holidays/cn.yaml", "holidays: true"),
        "holidays: true",
        "holidays",
    ),
    "an overlay that takes away what others name": (
        LANDING,
        with_line("clocks: {opinion: null}\n"),
        "clocks: {opinion: null}",
        "base.yaml:",
    ),
    "a key with brackets": (
        "routing.yaml",
        swap("words: {", 'words: {"[急]": x, '),
        '"[急]": x',
        "words.[急]",
    ),
    "a text that cannot be stored": (
        "departments.yaml",
        swap("zh: 市委组织部", 'zh: "市委\\0组织部"'),
        "市委\\0组织部",
        "NUL",
    ),
    "a number that cannot be stored": (BASE, with_line("x: 1e999\n"), "x: 1e999", "larger than any"),
    "a blank word": ("routing.yaml", swap("words: {", 'words: {"　": 3, '), '"　": 3', "words"),
    "a co-handler that is none": (
        "routing.yaml",
        swap("co_handlers: [ecology_environment, fire_rescue]", "co_handlers: [ecology_environment, moon]"),
        "[ecology_environment, moon]",
        "rules.1.co_handlers.1",
    ),
    "years with another name": (
        "calendars/holidays/cn.yaml",
        swap("\nyears:", "\nyear:"),
        "year:",
        "expected `years`",
    ),
    "years beside the holidays": (
        "calendars/cn-jinan.yaml",
        with_line("years: {}\n"),
        "holidays: holidays/cn.yaml",
        "leave one of them out",
    ),
    "holidays of a name that is too long": (
        "calendars/cn-jinan.yaml",
        swap("holidays: holidays/cn.yaml", "holidays: " + "x" * 300),
        "holidays: xxx",
        "there is no file",
    ),
    "a calendar without working time": (
        "calendars/cn-jinan.yaml",
        lambda t: re.sub(r"(?m)^  ...: \[\[.*$", "", t),
        None,
        "week",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_with_file_line_and_path(name: str, copied: Path) -> None:
    file, change, at_line, path = WRONG[name]
    spoiled = copied / file
    spoiled.write_text(change(spoiled.read_text("utf-8")), "utf-8")
    with pytest.raises(DefinitionError) as refused:
        read_unproved(copied)
    error = refused.value
    assert error.file.endswith(".yaml") and error.line >= 1 and error.detail
    assert str(error).startswith(f"{error.file}:{error.line}: ")
    if path:
        assert path in str(error)
    if at_line is not None:
        assert error.file == spoiled.name
        assert error.line in {
            n for n, line in enumerate(spoiled.read_text("utf-8").splitlines(), 1) if at_line.strip() in line
        }


MARK = "what is spoiled stands here"
SHAPES: tuple[Any, ...] = (None, [], {}, 3, 1.5, True, "", "市", [None], [[]], ["x"], {"a": {}})


@pytest.mark.parametrize("file", [
    "city/base.yaml", LANDING, "calendars/cn-jinan.yaml", "calendars/holidays/cn.yaml", "scorecards/city.yaml",
    "departments.yaml", "matters.yaml", "routing.yaml", "desk.yaml", "docket.yaml",
])  # fmt: skip
def test_a_value_of_any_other_shape_is_taken_or_refused_with_its_line(file: str, copied: Path) -> None:
    """The file as a whole, each of its first keys and twenty places below them."""
    for name in ("routing_weights.yaml", "vocabulary.yaml"):  # a megabyte; `WRONG` has their faults
        (copied / name).unlink()
    spoiled, below = copied / file, Random(file)
    plain, refused = read_yaml(spoiled), []
    places = list(places_of(plain))
    chosen = [place for place in places if len(place) == 1] + below.sample(places, min(20, len(places)))
    wrong = [((), shape) for shape in SHAPES] + [(place, below.choice(SHAPES)) for place in chosen]
    for place, shape in wrong:
        marked = json.dumps(with_value(plain, place, MARK), ensure_ascii=False, indent=1)
        spoiled.write_text(marked.replace(f'"{MARK}"', json.dumps(shape, ensure_ascii=False)), "utf-8")
        at = next(n for n, line in enumerate(marked.splitlines(), 1) if MARK in line)
        try:
            read_unproved(copied)
        except DefinitionError as error:
            refused.append((error.file, error.line, at))
    assert len(refused) >= len(SHAPES)
    assert all(name.endswith(".yaml") and line >= 1 for name, line, _ in refused)
    # some values are right where they stand, and wrong for what names them elsewhere
    exact = sum((name, line) == (spoiled.name, at) for name, line, at in refused)
    assert exact / len(refused) > 0.75, refused


def places_of(plain: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    pairs = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, value in pairs:
        yield (*place, key)
        yield from places_of(value, (*place, key))


def with_value(plain: Any, place: tuple[str | int, ...], value: Any) -> Any:
    if not place:
        return value
    inner = {place[0]: with_value(plain[place[0]], place[1:], value)}
    return plain | inner if isinstance(plain, dict) else [inner.get(n, one) for n, one in enumerate(plain)]


@pytest.mark.parametrize(
    "own", ["week: [mon]", "week: 3", "overrides: abc", "week: {mon: 9}", "zone: 8", "districts: 370116"]
)
def test_a_district_calendar_that_is_wrong_is_refused_with_its_line(own: str, copied: Path) -> None:
    head = "key: jn-x\nextends: cn-jinan\ntitle: {zh: 区, en: District}\n"
    (copied / "calendars" / "jn-x.yaml").write_text(head + own + "\n", "utf-8")
    with pytest.raises(DefinitionError) as refused:
        read_unproved(copied)
    assert (refused.value.file, refused.value.line) == ("jn-x.yaml", 4)


def test_codes_may_be_those_of_others(copied: Path) -> None:
    for name, old, new in (("departments.yaml", "kind: party_organ", "kind: party-organ"),
                           ("matters.yaml", "code: land_supply", 'code: "370100.07-a"')):  # fmt: skip
        text = (copied / name).read_text("utf-8")
        assert old in text
        (copied / name).write_text(text.replace(old, new, 1), "utf-8")
    (copied / "routing.yaml").write_text("default_domain: consultation\ndomains: []\nrules: []\n", "utf-8")
    for name in ("routing_weights.yaml", "vocabulary.yaml", "desk.yaml"):
        (copied / name).unlink()
    assert {m["code"] for m in read_unproved(copied)[0].matters["matters"]} >= {"370100.07-a"}


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: \x07\n", b"[" * 5000])
def test_what_is_no_text_is_refused_too(content: bytes, copied: Path) -> None:
    (copied / LANDING).write_bytes(content)
    with pytest.raises(DefinitionError) as refused:
        read_workflows(copied)
    assert refused.value.file == "project_landing.yaml" and refused.value.line >= 1


def test_a_folder_or_file_that_is_not_there_is_named(copied: Path) -> None:
    with pytest.raises(DefinitionError, match="no folder"):
        read_folder(copied / "nowhere")
    (copied / "departments.yaml").unlink()
    with pytest.raises(DefinitionError, match=r"departments\.yaml"):
        read_folder(copied)


def test_an_asterisk_in_a_text_is_no_alias(copied: Path) -> None:
    path = copied / LANDING
    path.write_text(path.read_text("utf-8").replace("en: Project landing", 'en: "- *landing & *more"'), "utf-8")
    read_workflows(copied)


def test_plain_words_are_read_as_the_core_schema_reads_them(tmp_path: Path) -> None:
    """YAML 1.2.2, 10.3.2: `no` and `12:30` are words, dates stay text, quoted text is text; keys are always text."""
    text = "{no: no, 1: 12:30, d: 2026-02-30, i: -7, o: 0o17, h: 0xff, f: 1.5e3, t: true, n: ~, e: , q: '7', w: 0x}"
    (tmp_path / "x.yaml").write_text(text, "utf-8")
    read = {"no": "no", "1": "12:30", "d": "2026-02-30", "i": -7, "o": 15, "h": 255, "f": 1500.0, "t": True}
    assert read_yaml(tmp_path / "x.yaml") == read | {"n": None, "e": None, "q": "7", "w": "0x"}
