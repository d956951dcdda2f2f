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
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import ahocorasick_rs
from pydantic import Field, NonNegativeInt

from service.core.documents import Part, parsed
from service.core.errors import DefinitionError

MATTER_BONUS = 100
DISTRICT = "@district"
DISPATCHER = "@dispatcher"
NO_UNIT = frozenset((DISTRICT, DISPATCHER))
COMPLAINT = "complaint_report"
CONFLICT = "conflict"
"""The rule of a ticket whose likeliest lead is complained of."""
RULING = "ruling_"
"""How the keys of rules begin that were accepted from a ruling."""
SIGNS = ("@office", "@office_in_complaint", "@complained_of")
TOO_CLOSE = "too close to the next"
DOMAIN_SIGN = "@domain:"
WHOLE = 600
"""Points of a word of a unit's vocabulary whose texts all are the unit's: x the square of the share that are."""
GRADES = {"sure": 434, "likely": 216, "hint": 54}
"""Points of a word by how it was judged: for 85, 60 and 30 of 100 texts."""
REACH = 12
"""An office is asked for something if the word that asks stands at most so many characters before its name."""
LEVELS = 5
"""How deep the tree of matters may be: the provincial catalogue has five levels."""
CLAUSE_ENDS = re.compile(r"[\s,.;:!?。、]+")
DOMAINS = ("consultation", "project_landing", "business_development", "government_service", "complaint_report")
Domain = Literal["consultation", "project_landing", "business_development", "government_service", "complaint_report"]


Word = Annotated[str, Field(min_length=1)]
"""What is looked for in a text; nothing would be found everywhere."""

Worth = dict[str, dict[str, int]]
"""Words of the vocabulary -> unit -> points."""


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
    vocabulary: HeardDoc | None = None


class LearnedDoc(Part):
    leads: WeightsDoc
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
        self._named = self._by_name(names or {})
        self._offices = self._by_name(offices or {})
        self._wrongs = {self.fold(w) for w in doc.conflict.words}
        self._asked, self._places = (
            tuple(self.fold(w) for w in w_) for w_ in (doc.conflict.asked, doc.conflict.places)
        )
        self._parties = sorted({*self._named, *self._offices, *self._wrongs})
        self._party_automaton = ahocorasick_rs.AhoCorasick(self._parties) if self._parties else None
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

    def _by_name(self, names: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
        by_name: dict[str, set[str]] = defaultdict(set)
        for unit, called in names.items():
            for name in called:
                if tells_apart(name):
                    by_name[self.fold(name).removeprefix("市")].add(unit)
        return by_name

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
                if result.score > best_score or (over and best_score < MATTER_BONUS):
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
        weights: WeightsDoc,
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
        return _ranked(weights, found, by_hand, best=first, speaks=signs, called=called, explain=explain)

    def complained_of(self, request: Request, domain: str) -> frozenset[str]:
        """Units of which a complaint complains, by what stands in one clause with their name (`ConflictDoc`)."""
        if self._party_automaton is None or domain != COMPLAINT:
            return frozenset()
        out: set[str] = set()
        for text in (request.title, request.description):
            for clause in CLAUSE_ENDS.split(self.fold(text)):
                hits = [
                    (self._parties[n], start, end)
                    for n, start, end in self._party_automaton.find_matches_as_indexes(clause, overlapping=True)
                ]
                wronged = any(hit in self._wrongs for hit, _, _ in hits)
                offices = [(start, end) for hit, start, end in hits if hit in self._offices]
                for hit, start, end in hits:
                    if wronged:
                        out.update(self._named.get(hit, ()))
                    # a title says what it is about; in a letter offices do much that nobody complains of
                    if hit not in self._offices or text is not request.title:
                        continue
                    # 运管 inside of 运管所 is not named there
                    inner = any(a <= start and end <= b and (a, b) != (start, end) for a, b in offices)
                    if not inner and self._acts(clause[:start], clause[end:]):
                        out.update(self._offices[hit])
        return frozenset(map(self._now, out))

    def _acts(self, before: str, after: str) -> bool:
        """Whether an office named between these is who acts: neither asked for help nor where something is."""
        return not (any(word in before[-REACH:] for word in self._asked) or after.startswith(self._places))

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
        numbers = {n for word in title | body for n in self._by_word.get(word, ())}
        return tuple(
            self._rules[n][0].key
            for n in sorted(numbers)
            if score(self._rules[n][1], title, body)[0] >= self._rules[n][0].min_score
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
        if self._party_automaton is not None:
            text = f"{self.fold(request.title)} {self.fold(request.description)}"
            hits = self._party_automaton.find_matches_as_indexes(text, overlapping=True)
            if any(self._parties[n] in self._named for n, _, _ in hits):
                office = (SIGNS[0], SIGNS[1]) if domain == COMPLAINT else (SIGNS[0],)
        if blamed:
            office = (*office, SIGNS[2])
        return (*self.speaking(title, body), f"{DOMAIN_SIGN}{domain}", *office)

    def _unit(self, lead: str, request: Request) -> str | None:
        if lead == DISPATCHER:
            return None
        unit = lead if lead != DISTRICT else self._units.get(request.district or "")
        return self._now(unit) if unit else None


def tells_apart(name: str) -> bool:
    """Whether a unit can be found in texts by a name: one character, or 市 alone, stands in too many."""
    return len(name.strip().removeprefix("市")) >= 2


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
    explain: bool = False,
) -> list[Tried]:
    """The points of each choice, highest first, of equal ones the first by name."""
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
    log = weights.vocabulary.log if weights.vocabulary else 0
    for choice, words in called.items():
        whole = sum(words.values())
        more = log * math.log1p(whole / 100)
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
