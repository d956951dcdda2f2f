"""Was anything of the minutes altered? Every version is hashed again, every chain and every series followed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from service.core import minutes as rules
from service.core.model import SYSTEM
from service.db import minutes as stored
from service.usecases.house import House

PAGE = 200


@dataclass(frozen=True, slots=True)
class Verdict:
    """`looked`: documents and series; `broken`: (number or id, what was altered)."""

    documents: int
    series: int
    broken: tuple[tuple[str, str], ...]


async def verify(house: House) -> Verdict:
    """Reads in pages, each one snapshot; safe beside a running service."""
    after, seen, broken = "00000000-0000-0000-0000-000000000000", 0, list[tuple[str, str]]()
    while True:
        async with house.db.transaction(SYSTEM, readonly=True, snapshot=True) as tx:
            rows = await stored.page(tx, after, PAGE)
            versions = await stored.versions_of(tx, [r["id"] for r in rows])
        if not rows:
            break
        of_document: defaultdict[str, list[Any]] = defaultdict(list)
        for version in versions:
            of_document[version["minutes_id"]].append(version)
        for row in rows:
            bad = _altered(row, of_document[row["id"]])
            if bad is not None:
                broken.append((row["number"] or row["id"], bad))
        seen, after = seen + len(rows), rows[-1]["id"]
    async with house.db.transaction(SYSTEM, readonly=True, snapshot=True) as tx:
        series, told = await stored.series(tx), await stored.told(tx)
    found = list(faults_of_series(series))
    broken += [fault for faults in found for fault in faults]
    broken += [(r["number"], "the history of a ticket names another hash") for r in told if r["told"] != r["sha256"]]
    return Verdict(seen, len(found), tuple(broken))


def _altered(row: Any, versions: list[Any]) -> str | None:
    try:
        return rules.verify(row, versions)
    except Exception as error:  # a row too damaged to be judged is a finding, not the end of the check
        return f"cannot be judged: {error!r}"


def faults_of_series(rows: list[Any]) -> Iterator[list[tuple[str, str]]]:
    """Faults of each series and year. The last row of each is its counter."""
    for (name, year), of_series in groupby(rows, key=lambda r: (r["series"], r["year"])):
        *issued, counter = of_series
        if counter["serial"] is not None:
            yield [(f"{name} {year}", "its counter is missing")]
            continue
        faults = list(rules.verify_series(issued))
        last = issued[-1] if issued else None
        if (int(counter["number"]), counter["sha256"]) != ((last["serial"], last["sha256"]) if last else (0, "")):
            faults.append((f"{name} {year}", "its counter is not at the last document: one is missing"))
        yield faults
