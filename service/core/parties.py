"""Which units a text names, and of which it complains: these neither lead nor help."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import ahocorasick_rs

from service.core.catalogue import ConflictDoc

REACH = 12
"""An office is asked for something if the word that asks stands at most so many characters before its name."""
CLAUSE_ENDS = re.compile(r"[\s,.;:!?。、]+")


def tells_apart(name: str) -> bool:
    """Whether a unit can be found in texts by a name: one character, or 市 alone, stands in too many."""
    return len(_bare("".join(unicodedata.normalize("NFKC", name).split()))) >= 2


def _bare(name: str) -> str:
    """A name without what only says that it is the city's."""
    return name.removeprefix("市").strip()


class Parties:
    """The names of units, compiled. `names`: titles and aliases of each; `offices`: those of its names that no firm bears.

    `fold` brings a text to the form in which names are compared.
    """

    def __init__(
        self,
        doc: ConflictDoc,
        names: Mapping[str, Sequence[str]],
        offices: Mapping[str, Sequence[str]],
        fold: Callable[[str], str],
    ) -> None:
        self._fold = fold
        self._named, self._offices = self._by_name(names), self._by_name(offices)
        self._wrongs = {fold(w) for w in doc.words}
        self._asked = tuple(fold(w) for w in doc.asked)
        self._places = tuple(fold(w) for w in doc.places)
        self._sought = sorted({*self._named, *self._offices, *self._wrongs})
        self._automaton = ahocorasick_rs.AhoCorasick(self._sought) if self._sought else None

    def _by_name(self, names: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
        by_name: dict[str, set[str]] = defaultdict(set)
        for unit, called in names.items():
            for name in called:
                if tells_apart(name):
                    by_name[_bare(self._fold(name))].add(unit)
        return by_name

    def named(self, text: str) -> bool:
        """Whether any unit is."""
        return any(hit in self._named for hit, _, _ in self._hits(self._fold(text)))

    def complained_of(self, title: str, description: str) -> frozenset[str]:
        """Units of which a complaint complains, by what stands in one clause with their name (`ConflictDoc`)."""
        out: set[str] = set()
        for text in (title, description):
            for clause in CLAUSE_ENDS.split(self._fold(text)):
                hits = self._hits(clause)
                wronged = any(hit in self._wrongs for hit, _, _ in hits)
                offices = [(start, end) for hit, start, end in hits if hit in self._offices]
                for hit, start, end in hits:
                    if wronged:
                        out.update(self._named.get(hit, ()))
                    # a title says what it is about; in a letter offices do much that nobody complains of
                    if hit not in self._offices or text is not title:
                        continue
                    # 运管 inside of 运管所 is not named there
                    inner = any(a <= start and end <= b and (a, b) != (start, end) for a, b in offices)
                    if not inner and self._acts(clause[:start], clause[end:]):
                        out.update(self._offices[hit])
        return frozenset(out)

    def _hits(self, folded: str) -> list[tuple[str, int, int]]:
        """Names and words of misconduct in a text, each with where it begins and ends."""
        if self._automaton is None:
            return []
        found = self._automaton.find_matches_as_indexes(folded, overlapping=True)
        return [(self._sought[n], start, end) for n, start, end in found]

    def _acts(self, before: str, after: str) -> bool:
        """Whether an office named between these is who acts: neither asked for help nor where something is."""
        return not (any(word in before[-REACH:] for word in self._asked) or after.startswith(self._places))
