"""The dispatch catalogue (派单目录) as data: what routing.yaml and its side files may say (`workflows/README.md`).

`core.routing` compiles it and routes by it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, get_args

from pydantic import Field, NonNegativeInt

from service.core.documents import Part, parsed
from service.core.errors import DefinitionError

DISTRICT = "@district"
DISPATCHER = "@dispatcher"
NO_UNIT = frozenset((DISTRICT, DISPATCHER))
COMPLAINT = "complaint_report"
RULING = "ruling_"
"""How the keys of rules begin that were accepted from a ruling."""
SIGNS = ("@office", "@office_in_complaint", "@complained_of")
DOMAIN_SIGN = "@domain:"
LEVELS = 5
"""How deep the tree of matters may be: the provincial catalogue has five levels."""
URGENCIES = ("normal", "urgent", "emergency")
Domain = Literal["consultation", "project_landing", "business_development", "government_service", "complaint_report"]
DOMAINS: tuple[str, ...] = get_args(Domain)


class TitleDoc(Part):
    zh: str
    en: str


class WhenDoc(Part):
    """Conditions of a rule; all present ones must hold, each list means any of."""

    domains: list[Domain] = []
    matters: list[str] = []
    districts: list[str] = []
    industries: list[str] = []
    tiers: list[str] = []
    urgency: list[str] = []


class RuleDoc(Part):
    key: str
    title: TitleDoc
    when: WhenDoc = WhenDoc()
    words: dict[str, int] = {}
    not_words: list[str] = []
    min_score: int = Field(3, ge=1)
    all_words: bool = False
    decides: int | None = Field(None, ge=1)
    lead: str
    co_handlers: list[str] = []
    matter: str | None = None


class DomainDoc(Part):
    domain: Domain
    words: dict[str, int]


class VocabularyDoc(Part):
    """What people call the matters of one unit, by how surely it leads where they say so; words parted by spaces."""

    sure: str = ""
    likely: str = ""
    hint: str = ""


class HeardDoc(Part):
    """What labelled texts said of the vocabulary: `log` as for rules, and what those of its words are worth that were met."""

    log: NonNegativeInt
    words: dict[str, dict[str, NonNegativeInt]] = {}


class WeightsDoc(Part):
    """What was learned of one question (which lead, which domain), in hundredths. Choice -> points.

    A choice has `start`, the points of each word found, of each rule that speaks, and `log` x ln(1 + s) for its
    highest hand-written score s; the choice of the best rule has `best` more. `margin`: closer than this is no choice;
    `least`: nor with less than this besides `start`.
    In a long text with n > `typical` words found each counts sqrt(typical / n) of its points, or mere length would win.
    """

    log: int
    best: int = 0
    margin: int = Field(0, ge=0)
    least: int = Field(0, ge=0)
    typical: int = Field(30, ge=1)
    start: dict[str, int]
    words: dict[str, dict[str, int]]
    rules: dict[str, dict[str, int]] = {}


class LeadWeightsDoc(WeightsDoc):
    vocabulary: HeardDoc | None = None


class LearnedDoc(Part):
    leads: LeadWeightsDoc
    domains: WeightsDoc


class ConflictDoc(Part):
    """When a complaint is about a unit itself.

    `words` mean it in one clause with any of the unit's names. One of its `offices` in the title means it as well, unless
    a word of `asked` stands before it (it is asked to help) or one of `places` follows (something near it, or of its people).
    """

    words: list[str] = []
    asked: list[str] = []
    places: list[str] = []


class EmergencyDoc(Part):
    """Words that call for an emergency line at once; `not_words` are those of plans and papers about the same."""

    line: Literal["110", "119", "120", "122"]
    title: TitleDoc
    words: list[str] = Field(min_length=1)
    not_words: list[str] = []


class IncidentDoc(Part):
    """A sudden cluster: the same matter from so many firms within so many hours is reported at once."""

    firms: int = Field(5, ge=2)
    hours: int = Field(6, ge=1, le=72)


class RoutingDoc(Part):
    """The dispatch catalogue (派单目录). `withdrawn`: rules from rulings that are not kept any longer."""

    domains: list[DomainDoc]
    default_domain: Domain
    rules: list[RuleDoc]
    conflict: ConflictDoc = ConflictDoc()
    withdrawn: list[str] = []
    emergencies: list[EmergencyDoc] = []
    incident: IncidentDoc = IncidentDoc()
    vocabulary: dict[str, VocabularyDoc] = {}
    learned: LearnedDoc | None = None


def parse_routing(plain: Any) -> RoutingDoc:
    """Plain data -> catalogue; names the path of what is wrong."""
    doc = parsed(RoutingDoc, plain)
    keys: set[str] = set()
    for n, rule in enumerate(doc.rules):
        if rule.key in keys:
            raise DefinitionError(f"the rule {rule.key!r} stands twice", ("rules", n, "key"))
        if not rule.words and not any(rule.when.model_dump().values()):
            raise DefinitionError("a rule has words or conditions; else it would take everything", ("rules", n))
        keys.add(rule.key)
    return doc


def with_rulings(
    file: Mapping[str, Any],
    published: Mapping[str, Any] | None,
    departments: Collection[str],
    matters: Collection[str],
) -> tuple[dict[str, Any], list[str]]:
    """The catalogue of a file with the rules from rulings that were published since, unless it has or withdraws them.

    A ruling that names a unit or a matter that is listed no more is left out; the keys of those come second.
    """
    done = {rule["key"] for rule in file["rules"]} | set(file.get("withdrawn", ()))
    ruled = [r for r in (published or {"rules": ()})["rules"] if r["key"].startswith(RULING) and r["key"] not in done]
    kept = [r for r in ruled if next(_unknown(RuleDoc.model_validate(r), departments, matters), None) is None]
    return {**file, "rules": [*kept, *file["rules"]]}, [r["key"] for r in ruled if r not in kept]


def _unknown(rule: RuleDoc, departments: Collection[str], matters: Collection[str]) -> Iterator[DefinitionError]:
    """Units and matters that a rule names and that do not exist, with the path inside of the rule."""
    named: list[tuple[str, tuple[str | int, ...]]] = [(rule.lead, ("lead",))]
    named += [(code, ("co_handlers", n)) for n, code in enumerate(rule.co_handlers)]
    for code, path in named:
        if code not in NO_UNIT and code not in departments:
            yield DefinitionError(f"there is no department {code!r}", path)
    named = [(code, ("when", "matters", n)) for n, code in enumerate(rule.when.matters)]
    named += [(rule.matter, ("matter",))] if rule.matter else []
    for code, path in named:
        if code not in matters:
            yield DefinitionError(f"there is no matter {code!r}", path)


def check_catalogue(doc: RoutingDoc, departments: Collection[str], matters: Collection[str]) -> None:
    """What must hold before it is published: the units, matters and rules that it names exist, and no word is blank."""
    for n, rule in enumerate(doc.rules):
        for error in _unknown(rule, departments, matters):
            raise DefinitionError(error.detail, ("rules", n, *error.path))
    for path, words in _looked_for(doc):
        for word in words:
            if not word.strip():
                raise DefinitionError(f"a word that is blank is in every text: {word!r}", path)
    units = {*departments, *NO_UNIT}
    for unit in doc.vocabulary:
        if unit not in units:
            raise DefinitionError(f"there is no department {unit!r}", ("vocabulary", unit))
    if doc.learned is None:
        return
    for word, told in doc.learned.leads.vocabulary.words.items() if doc.learned.leads.vocabulary else ():
        for unit in told:
            if unit not in units:
                path = ("learned", "leads", "vocabulary", "words", word, unit)
                raise DefinitionError(f"there is no department {unit!r}", path)
    keys = {rule.key for rule in doc.rules}
    signs = {*SIGNS, *(f"{DOMAIN_SIGN}{domain}" for domain in DOMAINS)}
    for part, weights, choices in (("leads", doc.learned.leads, units), ("domains", doc.learned.domains, {*DOMAINS})):
        for key in weights.rules.keys() - keys - signs:
            raise DefinitionError(f"there is no rule {key!r}", ("learned", part, "rules", key))
        for choice in weights.start:
            if choice not in choices:
                raise DefinitionError(f"there is no {part[:-1]} {choice!r}", ("learned", part, "start", choice))
        for table in ("words", "rules"):
            for word, points in getattr(weights, table).items():
                if strange := [c for c in points if c not in weights.start]:
                    raise DefinitionError(f"{strange[0]!r} has no start", ("learned", part, table, word, strange[0]))


def _looked_for(doc: RoutingDoc) -> Iterator[tuple[tuple[str | int, ...], Collection[str]]]:
    """Everything that is looked for in texts, with its path."""
    for n, one in enumerate(doc.domains):
        yield ("domains", n, "words"), one.words
    for n, rule in enumerate(doc.rules):
        yield ("rules", n, "words"), rule.words
        yield ("rules", n, "not_words"), rule.not_words
    for n, emergency in enumerate(doc.emergencies):
        yield ("emergencies", n, "words"), emergency.words
        yield ("emergencies", n, "not_words"), emergency.not_words
    for part in ("words", "asked", "places"):
        yield ("conflict", part), getattr(doc.conflict, part)
    if doc.learned is not None:
        yield ("learned", "leads", "words"), doc.learned.leads.words
        yield ("learned", "domains", "words"), doc.learned.domains.words
