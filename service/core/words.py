"""Texts made findable: what of a ticket's text is indexed, and what a search for words asks of the index.

Chinese is written without spaces, so a run of its characters is indexed by each two neighbours (bigrams) and any word of
two or more characters is found without a dictionary that would have to know it. A run of letters and digits is indexed by
each four neighbours, one of up to four whole: numbers, references and credit codes are found by any part of four or more.
Terms are 32 bit hashes; two different texts may share one, so whoever searches also compares the folded text itself.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from opencc import OpenCC

LONGEST_TEXT = 30_000
"""Characters of a ticket that are indexed: title and description at their longest, and what was added since."""
MOST_WORDS = 12
OPEN = 1
"""A term of open tickets, whatever they say: a search of the queue looks among them only."""
HAN, LATIN = 2, 4
"""How many neighbours make a term."""
_RUN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003134f]+|[a-z0-9]+")


@cache
def _simplifier() -> OpenCC:
    return OpenCC("t2s")


def fold(text: str) -> str:
    """One spelling: full and half width, upper and lower case, traditional and simplified, any white space."""
    plain = unicodedata.normalize("NFKC", text).replace("\x00", " ")
    return " ".join(_simplifier().convert(plain).lower().split())


def terms(folded: str) -> frozenset[int]:
    """What a folded text is found by, as PostgreSQL's `int4`."""
    return frozenset(_hash(gram, run) for run in _RUN.findall(folded) for gram in _grams(run))


def told(found: Iterable[int]) -> frozenset[int]:
    """Of a ticket's terms those of words: numbers, references and codes tell nothing of what it is about."""
    return frozenset(term for term in found if not term & 1)


def _grams(run: str) -> Iterator[str]:
    size = LATIN if run[0] <= "z" else HAN
    if len(run) < size:
        if size == LATIN:
            yield run
        return
    for n in range(len(run) - size + 1):
        yield run[n : n + size]


def _hash(gram: str, run: str) -> int:
    """31 bits of the term, and one that says whether it is part of something with digits."""
    numbered = run[0] <= "z" and any(c.isdigit() for c in run)
    value = zlib.crc32(gram.encode()) & ~1 | numbered
    return value - 2**32 if value >= 2**31 else value


@dataclass(frozen=True, slots=True)
class Wanted:
    """A search: every term must be in the index, every word in the folded text. No terms: nothing to ask the index."""

    words: tuple[str, ...]
    terms: tuple[int, ...]


def wanted(text: str) -> Wanted | None:
    """What somebody looks for; None when nothing is left of it that could be found (white space, say)."""
    words = tuple(dict.fromkeys(fold(text).split()))[:MOST_WORDS]
    if not words:
        return None
    return Wanted(words, tuple(sorted({term for word in words for term in terms(word)})))


def searchable(parts: Iterable[str | None]) -> str:
    """The folded text of a ticket, of bounded length."""
    return fold(" ".join(part for part in parts if part)[:LONGEST_TEXT])


# --- how alike two texts are ---------------------------------------------------------------------------------------------


def likeness(one: frozenset[int], other: frozenset[int]) -> float:
    """0 to 1: the shared terms by all of both (Jaccard), or by the shorter of the two when it stands in the longer.

    A repeat call is often a line of what was told at length before; that alone must not make it another matter. Very
    short texts share words by chance, so the second measure counts from twelve terms on and never quite as much.
    """
    shared = len(one & other)
    if not shared:
        return 0.0
    jaccard = shared / len(one | other)
    shorter = min(len(one), len(other))
    return max(jaccard, 0.9 * shared / shorter if shorter >= 12 else 0.0)


def novelty(text: frozenset[int], known: frozenset[int]) -> float:
    """0 to 1: how much of a text was not said before."""
    return len(text - known) / len(text) if text else 0.0


def excerpt(text: str, words: Sequence[str], around: int = 30) -> str | None:
    """The first place where one of the words stands in an unfolded text, with some characters on either side."""
    spelled = unicodedata.normalize("NFKC", text)
    plain = _simplifier().convert(spelled).lower()
    if len(plain) != len(spelled):
        spelled = plain  # a character that is written with two in the other script: the places would not agree
    places = [(plain.find(word), len(word)) for word in words if word in plain]
    if not places:
        return None
    at, length = min(places)
    start, end = max(0, at - around), at + length + around
    return ("…" if start else "") + spelled[start:end] + ("…" if end < len(spelled) else "")
