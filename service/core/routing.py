"""route(request, rules): which unit leads, and why. Rules are data (`workflows/routing.yaml`).

Every rule whose conditions hold collects evidence: the weights of its words found in the text (twice when in the
title), and a decisive bonus when the hotline named one of its matters. The highest score wins, ties by order; a rule
under its own minimum is out. Nothing left means the dispatcher reads it (the catch-all), with the clock running.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ahocorasick_rs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.core.errors import DefinitionError

MATTER_BONUS = 100
DISTRICT = "@district"
DOMAINS = ("consultation", "project_landing", "business_development", "government_service", "complaint_report")
Domain = Literal["consultation", "project_landing", "business_development", "government_service", "complaint_report"]


class _Doc(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TitleDoc(_Doc):
    zh: str
    en: str


class WhenDoc(_Doc):
    """Conditions of a rule; all present ones must hold, each list means any of."""

    domains: list[Domain] = []
    matters: list[str] = []
    districts: list[str] = []
    industries: list[str] = []
    tiers: list[str] = []
    urgency: list[str] = []


class RuleDoc(_Doc):
    key: str
    title: TitleDoc
    when: WhenDoc = WhenDoc()
    words: dict[str, int] = {}
    not_words: list[str] = []
    min_score: int = Field(3, ge=1)
    lead: str
    co_handlers: list[str] = []
    matter: str | None = None


class DomainDoc(_Doc):
    domain: Domain
    words: dict[str, int]


class RoutingDoc(_Doc):
    """The dispatch catalogue (派单目录)."""

    domains: list[DomainDoc]
    default_domain: Domain
    rules: list[RuleDoc]


@dataclass(frozen=True, slots=True)
class Request:
    """What routing may look at. Texts are as received; `matter`, `domain` None when the hotline gave none."""

    title: str
    description: str
    domain: str | None = None
    matter: str | None = None
    district: str | None = None
    industry: str | None = None
    tier: str | None = None
    urgency: str = "normal"


@dataclass(frozen=True, slots=True)
class Tried:
    """One rule that was looked at: its score, the words that spoke for it, and why it is out if it is."""

    rule: str
    score: int
    words: tuple[str, ...]
    out: str | None
    lead: str


@dataclass(frozen=True, slots=True)
class Route:
    """`lead` None: the dispatcher decides. `domain_words`: what the domain was inferred from, if it was."""

    lead: str | None
    co_handlers: tuple[str, ...]
    rule: str | None
    matter: str | None
    domain: str
    domain_inferred: bool
    tried: tuple[Tried, ...]


@dataclass(frozen=True, slots=True)
class Matter:
    """One node of the tree of matters, with the unit that usually leads."""

    code: str
    parent: str | None
    lead: str


class Router:
    """A compiled catalogue. `matters` by code; `district_units` maps a district code to its unit.

    `simplify` turns traditional characters into simplified ones (for matching only, never for stored text).
    """

    def __init__(
        self,
        doc: RoutingDoc,
        matters: Mapping[str, Matter],
        district_units: Mapping[str, str],
        simplify: Callable[[str], str],
    ) -> None:
        self.doc, self._matters, self._units, self._simplify = doc, matters, district_units, simplify
        words = sorted(
            {self.fold(w) for r in doc.rules for w in (*r.words, *r.not_words)}
            | {self.fold(w) for d in doc.domains for w in d.words}
        )
        self._words = words
        self._automaton = ahocorasick_rs.AhoCorasick(words) if words else None
        self._rules = [
            (r, {self.fold(w): n for w, n in r.words.items()}, {self.fold(w) for w in r.not_words}) for r in doc.rules
        ]
        self._domains = [(d.domain, {self.fold(w): n for w, n in d.words.items()}) for d in doc.domains]
        # which rules a found word, or a named matter, can speak for; those without words are always looked at
        self._always = [n for n, (_, rule_words, _) in enumerate(self._rules) if not rule_words]
        self._by_word: dict[str, list[int]] = {}
        self._by_matter: dict[str, list[int]] = {}
        for n, (rule, rule_words, _) in enumerate(self._rules):
            for word in rule_words:
                self._by_word.setdefault(word, []).append(n)
            for matter in rule.when.matters:
                self._by_matter.setdefault(matter, []).append(n)

    def fold(self, text: str) -> str:
        """NFKC, lower case, traditional characters turned into simplified ones."""
        if not text.isascii():
            text = self._simplify(unicodedata.normalize("NFKC", text))
        return text.lower()

    def route(self, request: Request, *, explain: bool = False) -> Route:
        """Where a request goes. `tried` names the rules with some evidence, or with `explain` every rule."""
        title, body = self._found(request.title), self._found(request.description)
        domain = request.domain or self._domain(title, body)
        lineage = self._lineage(request.matter)
        tried, best, best_score = [], None, 0
        for n in range(len(self._rules)) if explain else self._candidates(title | body, lineage):
            rule, words, not_words = self._rules[n]
            result = self._try(rule, words, not_words, request, domain, lineage, title, body)
            tried.append(result)
            if result.out is None and result.score > best_score:
                best, best_score = rule, result.score
        chosen: str | None
        named = self._matters.get(request.matter or "")
        if named is not None and best_score < MATTER_BONUS:
            # no rule speaks of the matter that the hotline named: its usual lead in the tree of matters does
            best, lead, chosen = None, self._unit(named.lead, request), f"matter:{request.matter}"
            tried.append(Tried(chosen, MATTER_BONUS, (), None if lead else "the district is not known", named.lead))
        else:
            lead, chosen = (self._unit(best.lead, request), best.key) if best else (None, None)
        return Route(
            lead=lead,
            co_handlers=tuple(c for c in best.co_handlers if c != lead) if best and lead else (),
            rule=chosen,
            matter=request.matter or (best.matter if best else None),
            domain=domain,
            domain_inferred=request.domain is None,
            tried=tuple(tried),
        )

    def _candidates(self, found: frozenset[str], lineage: frozenset[str]) -> list[int]:
        """The rules that can score at all, in their order."""
        numbers = set(self._always)
        for word in found:
            numbers.update(self._by_word.get(word, ()))
        for matter in lineage:
            numbers.update(self._by_matter.get(matter, ()))
        return sorted(numbers)

    def _found(self, text: str) -> frozenset[str]:
        if self._automaton is None:
            return frozenset()
        hits = self._automaton.find_matches_as_indexes(self.fold(text), overlapping=True)
        return frozenset(self._words[n] for n, _, _ in hits)

    def _domain(self, title: frozenset[str], body: frozenset[str]) -> str:
        scores = [(score(words, title, body)[0], -n, domain) for n, (domain, words) in enumerate(self._domains)]
        top = max(scores, default=(0, 0, self.doc.default_domain))
        return top[2] if top[0] > 0 else self.doc.default_domain

    def _lineage(self, matter: str | None) -> frozenset[str]:
        out: set[str] = set()
        while matter and matter not in out:
            out.add(matter)
            known = self._matters.get(matter)
            matter = known.parent if known else None
        return frozenset(out)

    def _try(
        self,
        rule: RuleDoc,
        words: Mapping[str, int],
        not_words: set[str],
        request: Request,
        domain: str,
        lineage: frozenset[str],
        title: frozenset[str],
        body: frozenset[str],
    ) -> Tried:
        named = bool(lineage & set(rule.when.matters))
        failed = _failed_condition(rule.when, request, domain, lineage, bool(words))
        if failed:
            return Tried(rule.key, 0, (), failed, rule.lead)
        if not named and not_words and (not_words & title or not_words & body):
            return Tried(rule.key, 0, (), "a word that rules it out", rule.lead)
        points, hits = score(words, title, body)
        points += MATTER_BONUS if named else 0
        if not words and not named:
            points = rule.min_score
        return Tried(rule.key, points, hits, None if points >= rule.min_score else "too little evidence", rule.lead)

    def _unit(self, lead: str, request: Request) -> str | None:
        return lead if lead != DISTRICT else self._units.get(request.district or "")


def score(words: Mapping[str, int], title: frozenset[str], body: frozenset[str]) -> tuple[int, tuple[str, ...]]:
    """Sum of the weights of the words found, twice for those in the title; and the words."""
    hits = sorted(w for w in title | body if w in words)
    return sum(words[w] * (2 if w in title else 1) for w in hits), tuple(hits)


def _failed_condition(
    when: WhenDoc, request: Request, domain: str, lineage: frozenset[str], worded: bool
) -> str | None:
    # a matter that the hotline did not give cannot speak against a rule with words: they decide then
    if when.matters and not lineage and not worded:
        return "no matter was named"
    if when.matters and lineage and not lineage & set(when.matters):
        return "another matter"
    if when.domains and domain not in when.domains:
        return "another domain"
    if when.districts and request.district not in when.districts:
        return "another district"
    if when.industries and not any((request.industry or "").startswith(i) for i in when.industries):
        return "another industry"
    if when.tiers and request.tier not in when.tiers:
        return "another tier"
    if when.urgency and request.urgency not in when.urgency:
        return "another urgency"
    return None


def parse_routing(plain: Any) -> RoutingDoc:
    """Plain data -> catalogue; names the path of what is wrong."""
    try:
        doc = RoutingDoc.model_validate(plain)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise DefinitionError(first["msg"], tuple(first["loc"])) from None
    keys: set[str] = set()
    for n, rule in enumerate(doc.rules):
        if rule.key in keys:
            raise DefinitionError(f"the rule {rule.key!r} stands twice", ("rules", n, "key"))
        if not rule.words and not any(rule.when.model_dump().values()):
            raise DefinitionError("a rule has words or conditions; else it would take everything", ("rules", n))
        keys.add(rule.key)
    return doc


def check_codes(doc: RoutingDoc, departments: Sequence[str], matters: Sequence[str]) -> None:
    """Every department and matter that a rule names must exist."""
    for n, rule in enumerate(doc.rules):
        for code in (rule.lead, *rule.co_handlers):
            if code != DISTRICT and code not in departments:
                raise DefinitionError(f"there is no department {code!r}", ("rules", n, "lead"))
        for matter in (*rule.when.matters, *([rule.matter] if rule.matter else [])):
            if matter not in matters:
                raise DefinitionError(f"there is no matter {matter!r}", ("rules", n, "when", "matters"))
