"""Precedents: what an issued decision is remembered by, and how another text is compared with it.

Chinese has no spaces, so a text is known by its pairs of neighbouring characters. A precedent is shown to people; it never
decides anything.
"""

from __future__ import annotations

import re

MAX_QUERY_GRAMS = 60
"""How much of a long question is looked up; the search stays bounded however long a text somebody pastes."""
_RUNS = re.compile(r"[\u3400-\u9fff]+|[a-z0-9]+")


def grams(text: str) -> list[str]:
    """Pairs of Chinese characters, and whole Latin words and numbers, each once, in their order of first appearance.

    A character that stands alone is kept as it is.
    """
    found: dict[str, None] = {}
    for run in _RUNS.findall(text.lower()):
        if run[0] < "\u3400" or len(run) == 1:
            found[run[:40]] = None
        else:
            found.update(dict.fromkeys(run[n : n + 2] for n in range(len(run) - 1)))
    return list(found)
