"""T1: a city at work while its parts are killed, stopped, emptied and lied to; afterwards everything must add up.

    .venv/bin/python -m tests.faults.chaos --seeds 20 --seconds 60

Each seed has processes and a database of its own and a schedule of faults that only depends on the seed; a failure prints
both, so that one seed can be run again alone: `--first 7 --seeds 1`.

Faults: kill -9 of a worker, an API, PostgreSQL and Redis; FLUSHALL; SIGSTOP of a worker for seconds; a share of COMMIT
replies cut, all the time, for one API and one worker.

What must hold afterwards: everything is ready again within 20 s; `check` finds no offence and `audit verify` no broken
history; each acknowledged request is one ticket and each acknowledged action one event; nothing that was refused happened;
no timer fired early, and those that came due once everything was ready fired within 5 s; nobody logged anything unforeseen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any

from tests.faults.flows import Told, load
from tests.faults.stage import APIS, WORKERS, Stage, opened_stage

FAULTS = ("kill worker", "kill api", "kill postgres", "kill redis", "flush redis", "stop worker")
RECOVERY_SECONDS = 20.0
LATE_SECONDS = 5.0
SETTLE_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Fault:
    """`at`: seconds from the start; `which`: of the two workers or APIs; `seconds`: how long one is stopped."""

    at: float
    kind: str
    which: int
    seconds: float


@dataclass(slots=True)
class Outcome:
    """What one seed came to. `violations` is empty when every promise was kept."""

    seed: int
    schedule: tuple[Fault, ...]
    figures: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        shown = " ".join(f"{k}={v}" for k, v in self.figures.items())
        if not self.violations:
            return f"seed {self.seed}: ok {shown}"
        faults = "; ".join(f"{f.at:.1f} s {f.kind} {f.which + 1}" for f in self.schedule)
        return "\n  ".join([f"seed {self.seed}: VIOLATED {shown}", f"schedule: {faults}", *self.violations])


def schedule(seed: int, seconds: float) -> tuple[Fault, ...]:
    """Every kind of fault once in a random order, then more of any kind until the time is over."""
    random, at, out = Random(seed), 1.5, list[Fault]()
    kinds = random.sample(FAULTS, len(FAULTS))
    while at < seconds:
        kind = kinds.pop() if kinds else random.choice(FAULTS)
        out.append(Fault(at, kind, random.randrange(2), random.uniform(1.0, 4.0)))
        at += random.uniform(1.0, max(2.0, seconds / 10))
    return tuple(out)


async def carry_out(stage: Stage, faults: Sequence[Fault]) -> None:
    started = time.monotonic()
    stopped: list[asyncio.Task[None]] = []
    for fault in faults:
        await asyncio.sleep(max(0.0, started + fault.at - time.monotonic()))
        if fault.kind == "flush redis":
            await stage.flush_redis()
        elif fault.kind == "stop worker":
            stopped.append(asyncio.create_task(_stop_for(stage, WORKERS[fault.which], fault.seconds)))
        else:
            part = fault.kind.removeprefix("kill ")
            name = {"worker": WORKERS, "api": APIS}.get(part, (part, part))[fault.which]
            _kill(stage, name)
    await asyncio.gather(*stopped)


def _kill(stage: Stage, name: str, signum: signal.Signals = signal.SIGKILL) -> None:
    try:
        stage.kill(name, signum)
    except ProcessLookupError:
        return  # it is down already, and about to be started again


async def _stop_for(stage: Stage, name: str, seconds: float) -> None:
    """Longer than any wait of the pump: the other worker has done its work meanwhile."""
    try:
        pid = stage.kill(name, signal.SIGSTOP)
    except ProcessLookupError:
        return
    await asyncio.sleep(seconds)
    if stage.supervisor.pid(name) == pid:  # else it was killed meanwhile, and another has its place
        _kill(stage, name, signal.SIGCONT)


async def run_seed(stage: Stage, seed: int, flows: int, seconds: float) -> Outcome:
    """Load and faults together, then the judgement. What went wrong is in the outcome, nothing is raised."""
    outcome, told = Outcome(seed, schedule(seed, seconds)), Told()
    started, cut = time.monotonic(), stage.cutter.cut
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(load(stage, told, seed, flows, seconds * 0.8))
            group.create_task(carry_out(stage, outcome.schedule))
        outcome.figures["load_s"] = round(time.monotonic() - started, 1)
        outcome.figures["recovery_s"] = round(await stage.wait_ready(RECOVERY_SECONDS, late_seconds=1.0), 1)
        [ready_at] = await stage.rows("SELECT clock_timestamp() AS at")
        await asyncio.sleep(SETTLE_SECONDS)
    except* Exception as errors:
        outcome.violations += [f"{type(e).__name__}: {e}"[:2000] for e in _leaves(errors)]
    if outcome.violations:
        return outcome
    outcome.figures |= {
        "faults": dict(Counter(f.kind for f in outcome.schedule)), "flows": len(told.tickets), "acked": len(told.done),
        "refused": len(told.refused), "repeats": told.repeats, "commits_cut": stage.cutter.cut - cut,
    }  # fmt: skip
    await judge(stage, told, ready_at["at"], outcome)
    return outcome


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def judge(stage: Stage, told: Told, ready_at: datetime, outcome: Outcome) -> None:
    """Every promise, on what is stored now; the pump goes on meanwhile."""
    wrong = outcome.violations
    wrong += await _offences(stage, outcome)
    wrong += await _tickets(stage, told)
    wrong += await _actions(stage, told)
    late = await stage.rows(
        "SELECT due_at > $1 AS after, extract(epoch FROM fired_at - due_at)::float AS late FROM firings", ready_at
    )
    seconds = [r["late"] for r in late]
    afterwards = [r["late"] for r in late if r["after"]]
    if min(seconds, default=0) < 0:
        wrong.append(f"a timer fired {-min(seconds):.3f} s early")
    if max(afterwards, default=0) > LATE_SECONDS:
        wrong.append(f"a timer was {max(afterwards):.1f} s late although everything was ready")
    wrong += stage.unforeseen()
    outcome.figures |= {
        "firings": len(seconds), "late_p50_s": round(statistics.median(seconds or [0]), 2),
        "late_max_s": round(max(seconds, default=0), 1), "late_after_s": round(max(afterwards, default=0), 2),
    }  # fmt: skip


async def _offences(stage: Stage, outcome: Outcome) -> list[str]:
    checked, verified = await asyncio.gather(stage.run("check", "--json"), stage.run("audit", "verify"))
    if checked.returncode == 2 or verified.returncode:
        return [f"check or audit: {checked.stderr[-500:]} {verified.stdout[-500:]} {verified.stderr[-500:]}"]
    report = json.loads(checked.stdout)
    outcome.figures |= {"tickets": report["tickets"], "set_aside": report["set_aside"], "dead": report["dead"]}
    return [
        f"{rule['rule']} {first['where']}: {first['reason']}" for rule in report["rules"] for first in rule["first"]
    ]


async def _tickets(stage: Stage, told: Told) -> list[str]:
    stored = await stage.rows(
        "SELECT source_reference AS reference, id::text FROM tickets WHERE source_reference = ANY($1)",
        list(told.tickets),
    )
    kept = {r["reference"]: r["id"] for r in stored}
    return [
        f"{reference} was acknowledged as {ticket}, stored is {kept.get(reference)}"
        for reference, ticket in told.tickets.items()
        if kept.get(reference) != ticket
    ]


async def _actions(stage: Stage, told: Told) -> list[str]:
    """Each mark of an acknowledged action is in one event, of a refused one in none. (What an enterprise is told says the
    reason of an act again.)"""
    rows = await stage.rows(
        """SELECT mark, count(*) AS times FROM events e
           CROSS JOIN LATERAL (SELECT jsonb_path_query(e.data, '$.form.*') #>> '{}' AS mark
                               UNION ALL SELECT e.data ->> 'reason') marks
           WHERE e.type <> 'enterprise.told' AND mark = ANY($1) GROUP BY mark""",
        [*told.done, *told.refused],
    )
    times = {r["mark"]: r["times"] for r in rows}
    wrong = [f"{m} was acknowledged and happened {times.get(m, 0)} times" for m in told.done if times.get(m) != 1]
    return wrong + [f"{m} was refused and happened" for m in told.refused if m in times]


async def run_seeds(first: int, seeds: int, flows: int, seconds: float) -> int:
    """Each seed on a stage of its own; how many were violated."""
    violated = 0
    for seed in range(first, first + seeds):
        async with opened_stage(seed) as stage:
            outcome = await run_seed(stage, seed, flows, seconds)
        print(outcome, flush=True)
        violated += bool(outcome.violations)
    print(f"{seeds} seeds, {violated} violated")
    return violated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (default 3)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the load of each seed (default 60)")
    parser.add_argument("--flows", type=int, default=0, help="requests of each seed (default 6 for each second)")
    given = parser.parse_args()
    sys.exit(
        bool(asyncio.run(run_seeds(given.first, given.seeds, given.flows or int(6 * given.seconds), given.seconds)))
    )


if __name__ == "__main__":
    main()
