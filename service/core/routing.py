"""route(request, rules): which unit leads, and why. Rules are data (`workflows/routing.yaml`).

Every rule whose conditions hold collects evidence: the weights of its words found in the text (twice when in the
title), and a decisive bonus when the hotline named one of its matters. The highest score wins, ties by order; a rule
under its own minimum is out. A second layer, weights of words learned from labelled texts, may then decide between
units where no rule decides alone; a third, the vocabulary of each unit, counts with it and never alone. A unit that the
text complains of, by a word of misconduct or as the office that acts in its title, never leads and never helps. Nothing
left means the dispatcher reads it, with the clock running.
"""

from __future__ import annotations

import math
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ahocorasick_rs

from service.core.catalogue import (
    COMPLAINT,
    DISPATCHER,
    DISTRICT,
    DOMAIN_SIGN,
    DOMAINS,
    NO_UNIT,
    SIGNS,
    LeadWeightsDoc,
    RoutingDoc,
    RuleDoc,
    WeightsDoc,
    WhenDoc,
    parse_routing,
)
from service.core.parties import Parties

MATTER_BONUS = 100
CONFLICT = "conflict"
"""The rule of a ticket whose likeliest lead is complained of."""
TOO_CLOSE = "too close to the next"
WHOLE = 600
"""Points of a word of a unit's vocabulary whose texts all are the unit's: x the square of the share that are."""
GRADES = {"sure": 434, "likely": 216, "hint": 54}
"""Points of a word by how it was judged: for 85, 60 and 30 of 100 texts."""


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
    """`lead` None: the dispatcher decides. `unit`: as the catalogue says it, with "@district" not looked up.

    `complained_of`: units that the text complains of. `nearest`: where the weights could not decide between them, the two
    units that came first, the likelier before. `domains_tried`: what each domain had, if it was inferred.
    """

    lead: str | None
    co_handlers: tuple[str, ...]
    rule: str | None
    matter: str | None
    domain: str
    domain_inferred: bool
    tried: tuple[Tried, ...]
    unit: str | None = None
    complained_of: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()
    domains_tried: tuple[Tried, ...] = ()


@dataclass(frozen=True, slots=True)
class Matter:
    """One node of the tree of matters, with the unit that usually leads."""

    code: str
    parent: str | None
    lead: str


Worth = dict[str, dict[str, int]]
"""Words of the vocabulary -> unit -> points."""


class Router:
    """A compiled catalogue. `matters` by code; `district_units` maps a district code to its unit.

    `successors`: units that are no more -> those that took over what they had.
    `simplify` turns traditional characters into simplified ones (for matching only, never for stored text). `names`:
    the titles and aliases of each unit; `offices`: those of its names that no firm bears; `complaints_to`: who hears
    complaints about a unit, if that is known.
    """

    def __init__(
        self,
        doc: RoutingDoc,
        matters: Mapping[str, Matter],
        district_units: Mapping[str, str],
        simplify: Callable[[str], str],
        names: Mapping[str, Sequence[str]] | None = None,
        complaints_to: Mapping[str, str] | None = None,
        successors: Mapping[str, str] | None = None,
        offices: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.doc, self._matters, self._units, self._simplify = doc, matters, district_units, simplify
        self._complaints_to, self._successors = complaints_to or {}, successors or {}
        self._made_of = (matters, district_units, simplify, names, complaints_to, successors, offices)
        self._emergencies = [
            (e.line, {self.fold(w) for w in e.words}, {self.fold(w) for w in e.not_words}) for e in doc.emergencies
        ]
        learned = doc.learned
        words = sorted(
            {self.fold(w) for r in doc.rules for w in (*r.words, *r.not_words)}
            | {self.fold(w) for d in doc.domains for w in d.words}
            | ({*learned.leads.words, *learned.domains.words} if learned else set())
        )
        self._words = words
        self._automaton = ahocorasick_rs.AhoCorasick(words) if words else None
        self.vocabulary = self._worth()
        self._terms = sorted(self.vocabulary)
        # from left to right, the longest word that begins somewhere is meant there, not those inside of it
        longest = ahocorasick_rs.MatchKind.LeftmostLongest
        self._term_automaton = ahocorasick_rs.AhoCorasick(self._terms, matchkind=longest) if self._terms else None
        self._parties = Parties(doc.conflict, names or {}, offices or {}, self.fold)
        self._rules = [
            (r, {self.fold(w): n for w, n in r.words.items()}, {self.fold(w) for w in r.not_words}) for r in doc.rules
        ]
        self.domain_words = [(d.domain, {self.fold(w): n for w, n in d.words.items()}) for d in doc.domains]
        # which rules a found word, or a named matter, can speak for; those without words are always looked at
        self._always = [n for n, (_, rule_words, _) in enumerate(self._rules) if not rule_words]
        self._by_word: dict[str, list[int]] = {}
        self._by_matter: dict[str, list[int]] = {}
        for n, (rule, rule_words, _) in enumerate(self._rules):
            for word in rule_words:
                self._by_word.setdefault(word, []).append(n)
            for matter in rule.when.matters:
                self._by_matter.setdefault(matter, []).append(n)

    def _worth(self) -> Worth:
        """The vocabulary by its words: unit -> points, those learned before those that were judged."""
        worth: dict[str, dict[str, int]] = defaultdict(dict)
        for unit, doc in self.doc.vocabulary.items():
            for grade, points in GRADES.items():
                for word in self.fold(getattr(doc, grade)).split():
                    worth[word][unit] = max(points, worth[word].get(unit, 0))
        heard = self.doc.learned.leads.vocabulary if self.doc.learned else None
        for word, learned in heard.words.items() if heard else ():
            if word in worth:
                worth[word] |= learned
        return dict(worth)

    def with_catalogue(self, doc: RoutingDoc) -> Router:
        """The same city under another catalogue."""
        return Router(doc, *self._made_of)

    def fold(self, text: str) -> str:
        """NFKC, lower case, traditional characters turned into simplified ones."""
        if not text.isascii():
            text = self._simplify(unicodedata.normalize("NFKC", text))
        return text.lower()

    def route(self, request: Request, *, explain: bool = False) -> Route:
        """Where a request goes. `tried` names the rules with some evidence, or with `explain` every rule."""
        title, body = self.found(request.title), self.found(request.description)
        domain, domains = (request.domain, ()) if request.domain else self._domain(title, body, explain)
        lineage, blamed = self._lineage(request.matter), self.complained_of(request, domain)
        tried, best, best_score = [], None, 0
        rules: dict[str, RuleDoc] = {}
        for n in range(len(self._rules)) if explain else self._candidates(title | body, lineage):
            rule, words, not_words = self._rules[n]
            result = self._try(rule, words, not_words, request, domain, lineage, title, body)
            tried.append(result)
            if result.out is None:
                rules[rule.key] = rule
                # of equals the first; but a bureau of the city before the district (Weifang, art. 24)
                over = best is not None and best.lead == DISTRICT != rule.lead and result.score == best_score
                # a rule that needs all its words says what is meant: before any sum of words, after a matter that was named
                mine = (result.score >= MATTER_BONUS, rule.all_words, result.score)
                first = (best_score >= MATTER_BONUS, best is not None and best.all_words, best_score)
                if mine > first or (over and mine[:2] == first[:2] and best_score < MATTER_BONUS):
                    best, best_score = rule, result.score
        named, chosen = self._matters.get(request.matter or ""), best.key if best else None
        unit = best.lead if best else None
        nearest: Sequence[str] = ()
        if named is not None and best_score < MATTER_BONUS:
            # no rule speaks of the matter that the hotline named: its usual lead in the tree of matters does
            best, unit, chosen = None, named.lead, f"matter:{request.matter}"
            known = self._unit(unit, request) or unit == DISPATCHER
            tried.append(Tried(chosen, MATTER_BONUS, (), None if known else "the district is not known", unit))
        elif self.doc.learned and not (best and _decides(best, best_score)):
            signs = self.signs(request, title, body, domain, blamed)
            called = self.called(request) if self.doc.learned.leads.vocabulary else {}
            weighed = self._weigh(self.doc.learned.leads, title | body, tried, best, rules, signs, called, explain)
            tried += [Tried(f"learned:{t.lead}", t.score, t.words, t.out, t.lead) for t in weighed]
            unit = weighed[0].lead if weighed[0].out is None else None
            if weighed[0].out == TOO_CLOSE:
                nearest = [self._now(t.lead) for t in weighed[:2] if t.lead not in NO_UNIT]
            best = max(
                (r for r in rules.values() if r.lead == unit),
                key=lambda r: next(t.score for t in tried if t.rule == r.key),
                default=None,
            )
            chosen = best.key if best else f"learned:{weighed[0].lead}"
        lead = self._unit(unit, request) if unit else None
        if lead in blamed:
            tried.append(Tried(CONFLICT, 0, (), "the unit complained of does not lead", lead or ""))
            hears = self._now(self._complaints_to.get(lead or "", ""))
            unit = lead = hears if hears and hears not in blamed else None
            chosen = CONFLICT
        return Route(
            lead=lead,
            co_handlers=tuple(
                dict.fromkeys(c for c in map(self._now, best.co_handlers) if c != lead and c not in blamed)
            )
            if best and lead
            else (),
            rule=chosen,
            matter=request.matter or (best.matter if best else None),
            domain=domain,
            domain_inferred=request.domain is None,
            tried=tuple(tried),
            unit=unit,
            complained_of=tuple(sorted(blamed)),
            nearest=tuple(code for code in nearest if code not in blamed),
            domains_tried=domains,
        )

    def _weigh(
        self,
        weights: LeadWeightsDoc,
        found: frozenset[str],
        tried: Iterable[Tried],
        best: RuleDoc | None,
        rules: Mapping[str, RuleDoc],
        signs: Iterable[str],
        called: Mapping[str, Mapping[str, int]],
        explain: bool,
    ) -> list[Tried]:
        """The learned points of each choice of a lead, the highest first; out if it is too close to the next."""
        by_hand: dict[str, int] = {}
        for t in tried:
            if t.rule in rules:
                by_hand[t.lead] = max(by_hand.get(t.lead, 0), t.score)
        first = best.lead if best else None
        log = weights.vocabulary.log if weights.vocabulary else 0
        return _ranked(
            weights, found, by_hand, best=first, speaks=signs, called=called, called_log=log, explain=explain
        )

    def complained_of(self, request: Request, domain: str) -> frozenset[str]:
        """Units of which a complaint complains, as they are today."""
        if domain != COMPLAINT:
            return frozenset()
        return frozenset(map(self._now, self._parties.complained_of(request.title, request.description)))

    def emergency(self, title: str, description: str) -> str | None:
        """The emergency line that a text calls for, if it does."""
        if not self._emergencies:
            return None
        text = self.fold(f"{title}\n{description}")
        for line, words, not_words in self._emergencies:
            if any(w in text for w in words) and not any(w in text for w in not_words):
                return line
        return None

    def _now(self, code: str) -> str:
        """The unit that has the duties of this one today."""
        return self._successors.get(code, code)

    def _candidates(self, found: frozenset[str], lineage: frozenset[str]) -> list[int]:
        """The rules that can score at all, in their order."""
        numbers = set(self._always)
        for word in found:
            numbers.update(self._by_word.get(word, ()))
        for matter in lineage:
            numbers.update(self._by_matter.get(matter, ()))
        return sorted(numbers)

    def found(self, text: str) -> frozenset[str]:
        if self._automaton is None:
            return frozenset()
        hits = self._automaton.find_matches_as_indexes(self.fold(text), overlapping=True)
        return frozenset(self._words[n] for n, _, _ in hits)

    def terms(self, text: str) -> frozenset[str]:
        """The words of the vocabulary in a text."""
        if self._term_automaton is None:
            return frozenset()
        return frozenset(self._terms[n] for n, _, _ in self._term_automaton.find_matches_as_indexes(self.fold(text)))

    def called(self, request: Request, worth: Worth | None = None) -> dict[str, dict[str, int]]:
        """Units by whose vocabulary a text speaks: word -> points, twice those of a word in the title.

        `worth`: what the words are worth, if not what the catalogue says.
        """
        worth = self.vocabulary if worth is None else worth
        title, body = self.terms(request.title), self.terms(request.description)
        by_unit: dict[str, dict[str, int]] = defaultdict(dict)
        for word in sorted(title | body):
            for unit, points in worth[word].items():
                if points:
                    by_unit[unit][word] = points * (2 if word in title else 1)
        return by_unit

    def _domain(self, title: frozenset[str], body: frozenset[str], explain: bool) -> tuple[str, tuple[Tried, ...]]:
        """The domain that the text speaks of, and what spoke for each one."""
        by_hand: dict[str, tuple[int, tuple[str, ...]]] = {
            d: score(words, title, body) for d, words in self.domain_words
        }
        if self.doc.learned:
            speaks = self.speaking(title, body)
            points: dict[str, int] = {domain: by_hand.get(domain, (0, ()))[0] for domain in DOMAINS}
            ranked = _ranked(self.doc.learned.domains, title | body, points, speaks=speaks, explain=explain)
            return ranked[0].lead, tuple(ranked)
        order = {domain: n for n, domain in enumerate(by_hand)}
        tried = [Tried(d, n, hits, None, d) for d, (n, hits) in by_hand.items()]
        tried.sort(key=lambda t: (-t.score, order[t.lead]))
        return (tried[0].lead if tried and tried[0].score > 0 else self.doc.default_domain), tuple(tried)

    def speaking(self, title: frozenset[str], body: frozenset[str]) -> tuple[str, ...]:
        """Rules of whose words enough is in the text, whatever their conditions: a sign of the domain too."""
        found = title | body
        numbers = {n for word in found for n in self._by_word.get(word, ())}
        return tuple(
            self._rules[n][0].key
            for n in sorted(numbers)
            if score(self._rules[n][1], title, body)[0] >= self._rules[n][0].min_score
            and _whole(*self._rules[n][:2], found)
        )

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
        if not named and not _whole(rule, words, title | body):
            return Tried(rule.key, 0, (), "not all of its words", rule.lead)
        points, hits = score(words, title, body)
        points += MATTER_BONUS if named else 0
        if not words and not named:
            points = rule.min_score
        return Tried(rule.key, points, hits, None if points >= rule.min_score else "too little evidence", rule.lead)

    def signs(
        self, request: Request, title: frozenset[str], body: frozenset[str], domain: str, blamed: frozenset[str]
    ) -> tuple[str, ...]:
        """What else may speak for a lead: rules that speak, the domain, whether an office is named (in a complaint), and
        whether one is complained of (`blamed`)."""
        office: tuple[str, ...] = ()
        if self._parties.named(f"{request.title} {request.description}"):
            office = (SIGNS[0], SIGNS[1]) if domain == COMPLAINT else (SIGNS[0],)
        if blamed:
            office = (*office, SIGNS[2])
        return (*self.speaking(title, body), f"{DOMAIN_SIGN}{domain}", *office)

    def _unit(self, lead: str, request: Request) -> str | None:
        if lead == DISPATCHER:
            return None
        unit = lead if lead != DISTRICT else self._units.get(request.district or "")
        return self._now(unit) if unit else None


def _whole(rule: RuleDoc, words: Mapping[str, int], found: frozenset[str]) -> bool:
    return not rule.all_words or words.keys() <= found


def _decides(rule: RuleDoc, points: int) -> bool:
    """Whether a hand-written rule needs no second opinion: a named matter, a condition on the firm, or so agreed."""
    when = rule.when
    return bool(
        points >= MATTER_BONUS
        or when.districts
        or when.industries
        or when.tiers
        or when.urgency
        or (rule.decides is not None and points >= rule.decides)
    )


def _ranked(
    weights: WeightsDoc,
    found: frozenset[str],
    by_hand: Mapping[str, int],
    *,
    best: str | None = None,
    speaks: Iterable[str] = (),
    called: Mapping[str, Mapping[str, int]] | None = None,
    called_log: int = 0,
    explain: bool = False,
) -> list[Tried]:
    """The points of each choice, highest first, of equal ones the first by name.

    `called`: the words of each one's vocabulary that were met; they count `called_log` x ln(1 + their points / 100).
    """
    called = called or {}
    least = min(weights.start.values(), default=0)
    points: dict[str, float] = dict.fromkeys((*by_hand, *called), least)
    points.update(weights.start)
    said = [(word, weights.words[word]) for word in found if word in weights.words]
    scale = math.sqrt(weights.typical / len(said)) if len(said) > weights.typical else 1.0
    sums: dict[str, int] = defaultdict(int)
    for _, table in said:
        for choice, weight in table.items():
            sums[choice] += weight
    for choice, together in sums.items():
        points[choice] += scale * together
    spoken = [(key, weights.rules[key]) for key in speaks if key in weights.rules]
    for _, table in spoken:
        for choice, weight in table.items():
            points[choice] += weight
    for choice, by in by_hand.items():
        points[choice] += weights.log * math.log1p(by)
    shares: list[tuple[str, dict[str, int]]] = []
    for choice, words in called.items():
        whole = sum(words.values())
        more = called_log * math.log1p(whole / 100)
        points[choice] += more
        shares += [(word, {choice: round(more * part / whole)}) for word, part in words.items()]
    if best is not None:
        points[best] += weights.best
    ranked = sorted(points, key=lambda choice: (-round(points[choice]), choice))
    first = ranked[0]
    weak = round(points[first] - weights.start.get(first, 0)) < weights.least
    near = len(ranked) > 1 and round(points[ranked[0]]) - round(points[ranked[1]]) < weights.margin
    told = ranked if explain else ranked[: 2 if near else 1]
    return [
        Tried(
            choice,
            round(points[choice]),
            _heard(choice, said, spoken, shares),
            ("too little evidence" if weak else TOO_CLOSE if near else None) if n == 0 else "less than the first",
            choice,
        )
        for n, choice in enumerate(told)
    ]


def _heard(choice: str, *spoken: list[tuple[str, dict[str, int]]]) -> tuple[str, ...]:
    """The words and rules that counted for or against a choice with their points, the weightiest first."""
    counted = [(table[choice], key) for one in spoken for key, table in one if choice in table]
    return tuple(f"{key} {weight:+d}" for weight, key in sorted(counted, key=lambda w: (-abs(w[0]), w[1])))


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


def make_router(
    routing: Mapping[str, Any],
    matters: Mapping[str, Mapping[str, Any]],
    departments: Mapping[str, Any],
    simplify: Callable[[str], str],
    successors: Mapping[str, str] | None = None,
) -> Router:
    """The compiled catalogue. A district is no party to a complaint because its name is in the text."""
    units = departments["departments"]
    return Router(
        parse_routing(routing),
        {code: Matter(code, m.get("parent"), m["lead"]) for code, m in matters.items()},
        departments["district_units"],
        simplify,
        {u["code"]: [u["title"]["zh"], *u.get("aliases", ())] for u in units if not u.get("district")},
        {u["code"]: u["complaints_to"] for u in units if u.get("complaints_to")},
        successors,
        {u["code"]: u["offices"] for u in units if u.get("offices")},
    )
