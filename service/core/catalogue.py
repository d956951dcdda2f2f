"""The dispatch catalogue (派单目录) as data: what routing.yaml and its side files may say (`workflows/README.md`).

`core.routing` compiles it and routes by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

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
DOMAINS = ("consultation", "project_landing", "business_development", "government_service", "complaint_report")
Domain = Literal["consultation", "project_landing", "business_development", "government_service", "complaint_report"]

Word = Annotated[str, Field(min_length=1)]
"""What is looked for in a text; nothing would be found everywhere."""


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
    words: dict[Word, int] = {}
    not_words: list[Word] = []
    min_score: int = Field(3, ge=1)
    decides: int | None = Field(None, ge=1)
    lead: str
    co_handlers: list[str] = []
    matter: str | None = None


class DomainDoc(Part):
    domain: Domain
    words: dict[Word, int]


class VocabularyDoc(Part):
    """What people call the matters of one unit, by how surely it leads where they say so; words parted by spaces."""

    sure: str = ""
    likely: str = ""
    hint: str = ""


class HeardDoc(Part):
    """What labelled texts said of the vocabulary: `log` as for rules, and what those of its words are worth that were met."""

    log: NonNegativeInt
    words: dict[Word, dict[str, NonNegativeInt]] = {}


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
    words: dict[Word, dict[str, int]]
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

    words: list[Word] = []
    asked: list[Word] = []
    places: list[Word] = []


class EmergencyDoc(Part):
    """Words that call for an emergency line at once; `not_words` are those of plans and papers about the same."""

    line: Literal["110", "119", "120", "122"]
    title: TitleDoc
    words: list[Word] = Field(min_length=1)
    not_words: list[Word] = []


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


def with_rulings(file: Mapping[str, Any], published: Mapping[str, Any] | None) -> dict[str, Any]:
    """The catalogue of a file with the rules from rulings that were published since, unless it has or withdraws them."""
    done = {rule["key"] for rule in file["rules"]} | set(file.get("withdrawn", ()))
    kept = [r for r in (published or {"rules": ()})["rules"] if r["key"].startswith(RULING) and r["key"] not in done]
    return {**file, "rules": [*kept, *file["rules"]]}


def check_codes(doc: RoutingDoc, departments: Sequence[str], matters: Sequence[str]) -> None:
    """Every department and matter that a rule names must exist."""
    for n, rule in enumerate(doc.rules):
        for code in (rule.lead, *rule.co_handlers):
            if code not in NO_UNIT and code not in departments:
                raise DefinitionError(f"there is no department {code!r}", ("rules", n, "lead"))
        for matter in (*rule.when.matters, *([rule.matter] if rule.matter else [])):
            if matter not in matters:
                raise DefinitionError(f"there is no matter {matter!r}", ("rules", n, "when", "matters"))
    for unit in doc.vocabulary:
        if unit not in NO_UNIT and unit not in departments:
            raise DefinitionError(f"there is no department {unit!r}", ("vocabulary", unit))
    if doc.learned is None:
        return
    for word, told in doc.learned.leads.vocabulary.words.items() if doc.learned.leads.vocabulary else ():
        for unit in told:
            if unit not in NO_UNIT and unit not in departments:
                path = ("learned", "leads", "vocabulary", "words", word, unit)
                raise DefinitionError(f"there is no department {unit!r}", path)
    keys = {rule.key for rule in doc.rules}
    signs = {*SIGNS, *(f"{DOMAIN_SIGN}{domain}" for domain in DOMAINS)}
    for key in {*doc.learned.leads.rules, *doc.learned.domains.rules} - keys - signs:
        raise DefinitionError(f"there is no rule {key!r}", ("learned",))
    for part, weights, choices in (
        ("leads", doc.learned.leads, {*departments, *NO_UNIT}),
        ("domains", doc.learned.domains, set(DOMAINS)),
    ):
        for choice in weights.start:
            if choice not in choices:
                raise DefinitionError(f"there is no {part[:-1]} {choice!r}", ("learned", part, "start", choice))
        for table in ("words", "rules"):
            for word, points in getattr(weights, table).items():
                if strange := [c for c in points if c not in weights.start]:
                    raise DefinitionError(f"{strange[0]!r} has no start", ("learned", part, table, word, strange[0]))
