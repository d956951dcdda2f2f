"""How many real texts are routed without a dispatcher, and how many rightly; fits the learned word weights.

    python3 -m service bench routing --requests FILE --labels tests/core/routing/held_out.yaml
    python3 -m service bench routing --requests FILE --labels tests/core/routing/development.yaml --fit
    python3 -m service bench routing --requests FILE --labels tests/core/routing/development.yaml --cross

Both take `--more FILE LABELS`: further texts to learn from, never measured. The texts count twice beside them: by `--cross`
labels of one reader teach more than those of several.

FILE: JSON Lines with `id`, `title` and `text` (or `description`). Labels: YAML, `id: [lead, domain]`; a lead is a unit,
"@district", null for the dispatcher, or a list of equals. `--fit` adds the tuned half of the shipped requests and writes
`workflows/routing_weights.yaml`. `--cross` fits five times on four fifths, near duplicates together, and tells for several
margins between the first and the second choice how many of the other fifth are routed, and how many of these rightly.
The fit is a softmax regression over the words (strings of one to four characters) with L1 and L2 penalties, solved by accelerated
gradient steps: the same input gives the same file.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from opencc import OpenCC

from service.core.catalogue import DISPATCHER, DOMAINS
from service.core.routing import CONFLICT, WHOLE, Request, Route, Router, make_router, score
from service.core.yaml_files import read_yaml
from service.usecases.folders import WEIGHTS, read_folder

ROOT = Path(__file__).resolve().parent.parent
OWN = ROOT / "workflows" / "demo" / "requests.jsonl"
OWN_LABELS = ROOT / "tests" / "core" / "routing_labels.yaml"
CHINESE = re.compile(r"[^\u4e00-\u9fff?]+")
LONGEST, SEEN = 4, 2
"""Words are at most this long and stand in at least so many texts."""
ROUNDS = 250
TYPICAL = 30
BY_HAND = 1.4
"""The fit trusts the words of its own texts too much; by cross-validation on them hand-written rules are worth more."""
LEAST, MARGIN = 300, 50
"""Points (hundredths) below which, or closer to the next than which, a dispatcher reads the text. A text that says nothing has
up to 260 points, two of 2,200 that say something have less than 300. By `--cross` a first choice closer than MARGIN is right in
one of three, and a wrong dispatch costs the firm a day, a dispatcher's reading minutes."""
MARGINS = (0, 15, 50, 100, 150, 200, 300)
FOLDS = 5
ALIKE = 0.4
"""Texts that share so many of their pairs of characters are near duplicates: never one to learn from and one to test on."""
LIGHT = 0.105
"""Weights under this are left out: they change one first choice in a hundred, and half of the file."""
PARTS = 4
"""In so many parts the texts are taken apart, to judge what the vocabulary says of one by the others."""
GRADE_COUNTS = 2
"""For how many texts the grade of a word of the vocabulary counts."""
OWN_SHARE = 0.15
"""The shipped requests count as often as this share of the other texts: they are what firms say, the others mostly citizens'."""


@dataclass(frozen=True)
class Labelled:
    request: Request
    leads: tuple[str, ...]
    domain: str
    source: str


def labelled(requests: Path, labels: Path) -> list[Labelled]:
    """The texts that have a label. Raises KeyError for a label whose text is not there."""
    rows = [json.loads(line) for line in requests.read_text("utf-8").splitlines()]
    by_id = {str(row.get("id", n)): row for n, row in enumerate(rows, 1)}
    out = []
    for key, (lead, domain) in read_yaml(labels).items():
        row = by_id[str(key)]
        text = row.get("text", row.get("description", ""))
        leads = tuple(one or DISPATCHER for one in (lead if isinstance(lead, list) else [lead]))
        out.append(
            Labelled(
                Request(row["title"], "" if text == row["title"] else text),
                leads,
                domain,
                str(row.get("source", "") if isinstance(row.get("source"), str) else ""),
            )
        )
    return out


def measure(router: Router, texts: Sequence[Labelled]) -> dict[str, float]:
    """Shares of the texts; `seconds` is process time per request."""
    began = time.process_time()
    routes = [router.route(t.request) for t in texts]
    seconds = (time.process_time() - began) / len(texts)
    found = [r.unit or DISPATCHER for r in routes]
    first = [first_choice(r) for r in routes]
    sure = [(f, t) for f, r, t in zip(found, routes, texts, strict=True) if r.lead]
    sources = {
        f"lead right, {source}": share(f in t.leads for f, t in zip(found, texts, strict=True) if t.source == source)
        for source in sorted({t.source for t in texts} - {""})
    }
    return sources | {
        "texts": len(texts),
        "without a dispatcher": len(sure) / len(texts),
        "lead right": share(f in t.leads for f, t in zip(found, texts, strict=True)),
        "lead right, strict": share(f == t.leads[0] for f, t in zip(found, texts, strict=True)),
        "lead right where a unit was found": share(f in t.leads for f, t in sure),
        "first choice right": share(f in t.leads for f, t in zip(first, texts, strict=True)),
        "domain right": share(r.domain == t.domain for r, t in zip(routes, texts, strict=True)),
        "milliseconds per request (process time)": seconds * 1000,
    }


def first_choice(route: Route) -> str:
    """Where it goes, or, where a dispatcher decides between two, what the dispatcher is told first."""
    if route.unit or route.rule == CONFLICT:
        return route.unit or DISPATCHER
    return next((t.lead for t in route.tried if t.rule.startswith("learned:")), DISPATCHER)


def share(right: Iterable[bool]) -> float:
    told = list(right)
    return sum(told) / len(told) if told else math.nan


class Found:
    """Which of the words stand in which text, in both orders, for fast products."""

    def __init__(self, sets: Sequence[Iterable[str]], words: Sequence[str]) -> None:
        known = set(words)
        said = np.array([len(known.intersection(s)) for s in sets])
        self.scale = np.sqrt(TYPICAL / np.maximum(said, TYPICAL))[:, None]
        at = {word: n for n, word in enumerate(words)}
        pairs = np.array([(r, at[w]) for r, s in enumerate(sets) for w in sorted(s) if w in at])
        self.shape = (len(sets), len(words))
        self.words = pairs[:, 1]
        self.rows, self.row_starts = np.unique(pairs[:, 0], return_index=True)
        order = np.argsort(pairs[:, 1], kind="stable")
        self.rows_by_word = pairs[order, 0]
        self.columns, self.column_starts = np.unique(pairs[order, 1], return_index=True)

    def times(self, weights: Any) -> Any:
        out = np.zeros((self.shape[0], weights.shape[1]))
        out[self.rows] = np.add.reduceat(weights[self.words], self.row_starts, axis=0)
        return out * self.scale

    def gathered(self, errors: Any) -> Any:
        out = np.zeros((self.shape[1], errors.shape[1]))
        out[self.columns] = np.add.reduceat((errors * self.scale)[self.rows_by_word], self.column_starts, axis=0)
        return out


def solve(found: Found, wanted: Any, shared: Sequence[Any], l1: float, l2: float) -> tuple[Any, Any, Any]:
    """Softmax regression: weights word x choice, a start per choice, one factor for each shared table (text x choice)."""
    texts = found.shape[0]
    weights = np.zeros((found.shape[1], wanted.shape[1]))
    start, factors = np.zeros(wanted.shape[1]), np.zeros(len(shared))
    probe, norm = np.ones((found.shape[1], 1)), 1.0
    for _ in range(15):
        probe = found.gathered(found.times(probe))
        norm = float(np.linalg.norm(probe))
        probe /= norm
    step = texts / (0.5 * norm + l2)
    step_shared = 2 / max(1.0, sum(float(np.square(table).sum(1).max()) for table in shared))
    ahead = (weights, start, factors)
    pace = 1.0
    for _ in range(ROUNDS):
        points = found.times(ahead[0]) + ahead[1] + sum(f * table for f, table in zip(ahead[2], shared, strict=True))
        points = np.exp(points - points.max(1, keepdims=True))
        errors = points / points.sum(1, keepdims=True) - wanted
        moved = ahead[0] - step * (found.gathered(errors) + l2 * ahead[0]) / texts
        moved = np.sign(moved) * np.maximum(np.abs(moved) - step * l1 / texts, 0)
        new = (
            moved,
            ahead[1] - errors.mean(0),
            ahead[2] - step_shared * np.array([(errors * table).sum() / texts for table in shared]),
        )
        faster = (1 + math.sqrt(1 + 4 * pace * pace)) / 2
        push = (pace - 1) / faster
        ahead = tuple(n + push * (n - o) for n, o in zip(new, (weights, start, factors), strict=True))
        (weights, start, factors), pace = new, faster
    return weights, start, factors


def strings(text: str) -> set[str]:
    """Every string of up to four Chinese characters."""
    runs = CHINESE.split(text)
    return {r[n : n + size] for r in runs for size in range(1, LONGEST + 1) for n in range(len(r) - size + 1)}


def vocabulary(sets: Sequence[set[str]]) -> list[str]:
    """Strings seen often enough, without those that never stand outside one longer string."""
    counts = Counter(s for one in sets for s in one)
    often = {s for s, n in counts.items() if n >= SEEN}
    inner = {part for s in often for part in (s[1:], s[:-1]) if counts[part] == counts[s]}
    return sorted(often - inner - {""})


def fit(
    router: Router, texts: Sequence[Labelled], l1: float, l2: float, again: Sequence[Labelled] = ()
) -> dict[str, Any]:
    """The `learned` part of a catalogue whose rules the router (without learned weights) holds.

    `again`: those of the texts that count twice. A word of theirs is not seen more often for it.
    """
    once = len(texts)
    texts = [*texts, *again]
    sets = [strings(router.fold(f"{t.request.title} {t.request.description}")) for t in texts]
    words = vocabulary(sets[:once])
    routes = [router.route(t.request) for t in texts]
    leads = sorted({t.leads[0] for t in texts})
    by_hand, best = np.zeros((len(texts), len(leads))), np.zeros((len(texts), len(leads)))
    for n, route in enumerate(routes):
        for tried in route.tried:
            if tried.out is None and tried.lead in leads:
                by_hand[n, leads.index(tried.lead)] = max(by_hand[n, leads.index(tried.lead)], tried.score)
        if route.unit in leads:
            best[n, leads.index(route.unit)] = 1
    called = called_apart(router, texts, leads)
    wanted = np.array([[t.leads[0] == lead for lead in leads] for t in texts], dtype=float)
    signs = []
    for t in texts:
        title, body = router.found(t.request.title), router.found(t.request.description)
        blamed = router.complained_of(t.request, t.domain)
        signs.append({f"rule {sign}" for sign in router.signs(t.request, title, body, t.domain, blamed)})
    both, names = joined(sets, words, signs)
    weights, start, (log, bonus, named) = solve(both, wanted, [np.log1p(by_hand), best, called], l1, l2)
    answer = {
        "leads": told(
            words,
            leads,
            weights[: len(words)],
            start,
            log=hundredths(log * BY_HAND),
            best=hundredths(bonus * BY_HAND),
            margin=MARGIN,
            least=LEAST,
            typical=TYPICAL,
        )
    }

    answer["leads"]["rules"] = told(names, leads, weights[len(words) :], start)["words"]
    answer["leads"]["vocabulary"] = {"log": hundredths(named), "words": heard(router, texts)}
    speaks, spoken = [], np.zeros((len(texts), len(DOMAINS)))
    for n, t in enumerate(texts):
        title, body = router.found(t.request.title), router.found(t.request.description)
        speaks.append({f"rule {key}" for key in router.speaking(title, body)})
        for domain, by in router.domain_words:
            spoken[n, DOMAINS.index(domain)] = score(by, title, body)[0]
    both, names = joined(sets, words, speaks)
    wanted = np.array([[t.domain == domain for domain in DOMAINS] for t in texts], dtype=float)
    weights, start, (log,) = solve(both, wanted, [np.log1p(spoken)], l1, l2)
    part = told(words, DOMAINS, weights[: len(words)], start, log=hundredths(log * BY_HAND), typical=TYPICAL)
    part["rules"] = told(names, DOMAINS, weights[len(words) :], start)["words"]
    return answer | {"domains": part}


def heard(router: Router, texts: Sequence[Labelled]) -> dict[str, dict[str, int]]:
    """What the words of the vocabulary are worth that stand in these texts: as their grade says, corrected by whom they led."""
    stands, led = Counter[str](), Counter[tuple[str, str]]()
    for t in texts:
        for word in router.terms(t.request.title) | router.terms(t.request.description):
            stands[word] += 1
            led[word, t.leads[0]] += 1

    def worth(points: int, word: str, unit: str) -> int:
        share_of_grade = math.sqrt(points / WHOLE)
        return round(WHOLE * ((GRADE_COUNTS * share_of_grade + led[word, unit]) / (GRADE_COUNTS + stands[word])) ** 2)

    found = {w: {unit: worth(n, w, unit) for unit, n in router.vocabulary[w].items()} for w in sorted(stands)}
    return {w: points for w, points in found.items() if points != router.vocabulary[w]}


def called_apart(router: Router, texts: Sequence[Labelled], leads: Sequence[str]) -> Any:
    """ln(1 + points) of the vocabulary, text x lead; each text by what the others say of its words, near duplicates left out."""
    family = families(router, texts)
    out = np.zeros((len(texts), len(leads)))
    at = {lead: n for n, lead in enumerate(leads)}
    for part in range(PARTS):
        ours = [n for n, f in enumerate(family) if f % PARTS == part]
        said = router.vocabulary | heard(router, [t for t, f in zip(texts, family, strict=True) if f % PARTS != part])
        for n in ours:
            for unit, words in router.called(texts[n].request, said).items():
                if unit in at:
                    out[n, at[unit]] = sum(words.values()) / 100
    return np.log1p(out)


def families(router: Router, texts: Sequence[Labelled]) -> list[int]:
    """A number for each text, the same for near duplicates."""
    said = [strings(router.fold(f"{t.request.title} {t.request.description}")) for t in texts]
    pairs = [{s for s in one if len(s) == 2} for one in said]
    family = list(range(len(texts)))
    standing: dict[str, list[int]] = defaultdict(list)
    for n, ours in enumerate(pairs):
        shared = Counter(m for pair in ours for m in standing[pair])
        for m, together in shared.items():
            if family[m] != family[n] and together >= ALIKE * len(ours | pairs[m]):
                old, new = family[n], family[m]
                family = [new if f == old else f for f in family]
        for pair in ours:
            standing[pair].append(n)
    return family


def cross(folder: Path, texts: Sequence[Labelled], more: Sequence[Labelled], l1: float, l2: float) -> None:
    """Print how often first choices are right that lie at least so far before the second (hundredths)."""
    router = router_of(folder, None)
    family = families(router, [*texts, *more])
    firsts: list[tuple[int, bool, bool, bool]] = []
    domains: list[bool] = []
    for fold in range(FOLDS):
        print(f"\r  fold {fold + 1} of {FOLDS}", end="", flush=True)
        rest = [t for t, f in zip([*texts, *more], family, strict=True) if f % FOLDS != fold]
        again = [t for t, f in zip(texts, family, strict=False) if f % FOLDS != fold] if more else []
        learned = fit(router, [*rest, *own_for(len(rest) + len(again))], l1, l2, again)
        learned["leads"] |= {"margin": 0, "least": 0}
        fitted = router_of(folder, learned)
        for text in (t for t, f in zip(texts, family, strict=False) if f % FOLDS == fold):
            route = fitted.route(text.request, explain=True)
            scores = sorted((t.score for t in route.tried if t.rule.startswith("learned:")), reverse=True)
            ahead = scores[0] - scores[1] if scores else MARGINS[-1]
            right = (route.unit or DISPATCHER) in text.leads
            domains.append(route.domain == text.domain)
            firsts.append((ahead, route.lead is not None, right, DISPATCHER in text.leads))
    print(f"\n  domain right: {share(domains):.3f}")
    print("  margin  routed  of these right  first choice of the others right  all right")
    for margin in MARGINS:
        sent = [right for ahead, routed, right, _ in firsts if ahead >= margin and routed]
        held = [right for ahead, _, right, _ in firsts if ahead < margin]
        whole = [right if ahead >= margin else asks for ahead, _, right, asks in firsts]
        print(
            f"  {margin:6}  {len(sent) / len(firsts):6.3f}  {share(sent):14.3f}  {share(held):32.3f}  {share(whole):9.3f}"
        )


def joined(sets: Sequence[set[str]], words: Sequence[str], more: Sequence[set[str]]) -> tuple[Found, list[str]]:
    """Words and signs (written "rule NAME") of each text together; and the names of the signs, in order."""
    names = sorted(set().union(*more))
    return Found([a | b for a, b in zip(sets, more, strict=True)], [*words, *names]), [n[5:] for n in names]


def told(words: Sequence[str], choices: Sequence[str], weights: Any, start: Any, **more: int) -> dict[str, Any]:
    table: dict[str, dict[str, int]] = defaultdict(dict)
    for n, m in zip(*np.nonzero(np.abs(weights) >= LIGHT), strict=True):
        table[words[n]][choices[m]] = hundredths(weights[n, m])
    return {**more, "start": {c: hundredths(s) for c, s in zip(choices, start, strict=True)}, "words": dict(table)}


def hundredths(number: float) -> int:
    return round(float(number) * 100)


HEAD = """# Word weights learned from labelled texts, the second layer of routing.yaml (see README.md). Points are hundredths.
# Written by `python3 -m service bench routing --requests FILE --labels FILE --fit`; a line may be changed or taken out by hand.
"""


def written(learned: Mapping[str, Any]) -> str:
    """The weights as YAML, a word a line."""

    def flow(points: Mapping[str, int]) -> str:
        return "{" + ", ".join(f"{quoted(k)}: {v}" for k, v in points.items()) + "}"

    def block(values: Mapping[str, Any], indent: str) -> Iterator[str]:
        for key, value in values.items():
            if key in {"words", "rules"}:
                yield f"{indent}{key}:"
                yield from (f"{indent}  {quoted(word)}: {flow(points)}" for word, points in value.items())
            elif key in {*learned, "vocabulary"}:
                yield f"{indent}{key}:"
                yield from block(value, f"{indent}  ")
            else:
                yield f"{indent}{key}: {flow(value) if isinstance(value, Mapping) else value}"

    lines = block(learned, "")
    return HEAD + "\n".join(lines) + "\n"


def quoted(word: str) -> str:
    return f'"{word}"' if word.startswith("@") or "?" in word else word


def own(odd: bool) -> list[Labelled]:
    return [t for n, t in enumerate(labelled(OWN, OWN_LABELS), 1) if (n % 2 == 1) == odd]


def own_for(others: int) -> list[Labelled]:
    """The shipped requests that are tuned on, as often as they count beside so many other texts."""
    texts = own(odd=True)
    return texts * round(OWN_SHARE * others / len(texts))


def router_of(folder: Path, learned: Mapping[str, Any] | None) -> Router:
    read = read_folder(folder)
    plain = {k: v for k, v in read.routing.items() if k != "learned"} | ({"learned": learned} if learned else {})
    matters = {m["code"]: m for m in read.matters["matters"]}
    return make_router(plain, matters, read.departments, OpenCC("t2s").convert)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=Path, help="texts; without: the shipped requests, the half not tuned on")
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--workflows", type=Path, default=ROOT / "workflows")
    parser.add_argument("--more", type=Path, nargs=2, metavar=("FILE", "LABELS"), help="further texts to learn from")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--fit", action="store_true", help="fit the word weights to the labels and write them")
    how.add_argument("--cross", action="store_true", help="cross-validate the fit on the labels; nothing is written")
    parser.add_argument("--l1", type=float, default=0.15)
    parser.add_argument("--l2", type=float, default=0.5)
    asked = parser.parse_args()
    if (asked.requests is None) != (asked.labels is None) or ((asked.fit or asked.cross) and asked.requests is None):
        parser.error("--requests and --labels go together, and --fit and --cross need them")
    texts = labelled(asked.requests, asked.labels) if asked.requests else own(odd=False)
    more = labelled(*asked.more) if asked.more else []
    if asked.cross:
        cross(asked.workflows, texts, more, asked.l1, asked.l2)
        return
    if asked.fit:
        every = [*texts, *more, *own_for(len(texts) * (2 if more else 1) + len(more))]
        learned = fit(router_of(asked.workflows, None), every, asked.l1, asked.l2, texts if more else ())
        (asked.workflows / WEIGHTS).write_text(written(learned), "utf-8")
    read = read_folder(asked.workflows).routing.get("learned")
    for name, weights in (("hand-written rules alone", None), ("with learned word weights", read)):
        print(name)
        for key, value in measure(router_of(asked.workflows, weights), texts).items():
            print(f"  {key}: {value:.3f}" if isinstance(value, float) else f"  {key}: {value}")


if __name__ == "__main__":
    main()
