"""Working time: operations per second, a million clocks under a new calendar, and two libraries beside it in one run.

    python3 -m service bench working_time      # or: .venv/bin/python -m bench.working_time --help

The libraries, businesstimedelta and business-duration, are installed once into an environment of their own in the user's
cache (`bench/peers.lock`; `--no-peers` leaves them out). They are asked the same questions with the same aware datetimes:
spans of up to 30 days between whole seconds of 2020 to 2026, Chinese holidays and make-up days, office 09:00-12:00 and
13:30-17:30. Each is asked twice: set up as its documentation shows, which leaves it wrong, and as well as its settings
allow. Where answers differ, the reason is put to the proof: the calendar, spoilt in the way named, must give the same.

Run from the project's root as a module: run as a file, it would stand in the way of the standard library's `calendar`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from service.__main__ import install
from service.core.calendar import MEASURES, Budget, Calendar, IntArray, Measure
from service.core.yaml_files import read_yaml

CALENDARS = Path(__file__).resolve().parents[1] / "workflows" / "calendars"
PEERS_LOCK = Path(__file__).with_name("peers.lock")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND_US = 1_000_000
BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
SPAN_MINUTES = 6 * 365 * 24 * 60
MONTH_SECONDS = 30 * 24 * 3600
SHANGHAI = "Asia/Shanghai"
WORKING_HOURS = Measure.working_hours
BUDGETS = (
    Budget.parse(Measure.natural_hours, "PT4H"),
    Budget.parse(Measure.working_hours, "PT14H"),
    Budget.parse(Measure.natural_days, 15),
    Budget.parse(Measure.working_days, 5),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="single questions per run (%(default)s)")
    parser.add_argument(
        "--many", type=int, default=1_000_000, help="anchors of add_many, clocks of add_each (%(default)s)"
    )
    parser.add_argument("--asked", type=int, default=500, help="questions the libraries are asked (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs, of which the best counts (%(default)s)")
    parser.add_argument("--no-peers", action="store_true", help="measure the calendar alone")
    options = parser.parse_args()
    data = load("cn-jinan")
    calendar = Calendar.compile(data)
    print(f"compile        {best([lambda: Calendar.compile(data)], options.repeats)[0] * 1000:8.1f} ms")
    chance = np.random.default_rng(12345)
    minutes = chance.integers(0, SPAN_MINUTES, options.count).tolist()
    anchors = [BEGIN + timedelta(minutes=minute) for minute in minutes]
    many = (BEGIN - EPOCH) // MICROSECOND + chance.integers(0, SPAN_MINUTES, options.many) * 60 * SECOND_US
    for budget in BUDGETS:
        report_one_measure(calendar, budget, anchors, many, options.repeats)
    report_new_version(data, many, chance, options.repeats)
    if not options.no_peers:
        report_peers(data, questions(calendar, options.count, chance), options.asked, options.repeats)


def load(name: str) -> dict[str, Any]:
    data: dict[str, Any] = read_yaml(CALENDARS / f"{name}.yaml")
    data["years"] = read_yaml(CALENDARS / data.pop("holidays"))["years"]
    return data


def best(works: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Seconds that each took in the run least disturbed by others; they take turns, so that none has the quiet hour."""
    least = [float("inf")] * len(works)
    for _ in range(repeats):
        for number, work in enumerate(works):
            begin = perf_counter()
            work()
            least[number] = min(least[number], perf_counter() - begin)
    return least


# --- the calendar alone


def report_one_measure(
    calendar: Calendar, budget: Budget, anchors: list[datetime], many: IntArray, repeats: int
) -> None:
    pairs = [(anchor, calendar.add(anchor, budget)) for anchor in anchors]
    measure = budget.measure
    add, between, add_many = best(
        [
            lambda: [calendar.add(anchor, budget) for anchor in anchors],
            lambda: [calendar.between(start, stop, measure) for start, stop in pairs],
            lambda: calendar.add_many(many, budget),
        ],
        repeats,
    )
    print(
        f"{measure:<14} {len(anchors) / add:12,.0f} add/s {len(anchors) / between:12,.0f} between/s"
        f" {len(many) / add_many:14,.0f} add_many/s"
    )


def report_new_version(data: dict[str, Any], anchors: IntArray, chance: np.random.Generator, repeats: int) -> None:
    """Clocks of all measures, each with a budget of its own, when one day is declared off."""
    override = {"2024-09-12": {"off": True, "source": "a storm"}}
    old, new = Calendar.compile(data), Calendar.compile(data | {"overrides": override}, version=2)
    measures = chance.integers(0, len(MEASURES), anchors.size)
    days = np.array([measure.counts_days for measure in MEASURES])[measures]
    amounts = np.where(
        days, chance.integers(1, 61, anchors.size), chance.integers(1, 200 * 3600, anchors.size) * SECOND_US
    )
    due = old.add_each(anchors, measures, amounts)
    moved = np.count_nonzero(new.add_each(anchors, measures, amounts) != due)
    [seconds] = best([lambda: np.flatnonzero(new.add_each(anchors, measures, amounts) != due)], repeats)
    print(f"new version    {anchors.size:12,} clocks projected anew in {seconds:.2f} s, {moved:,} of them moved")


# --- beside other libraries


Answer = datetime | int


@dataclass(frozen=True)
class Question:
    start: datetime
    stop: datetime
    budget: Budget
    """The working time from start to stop."""


@dataclass(frozen=True)
class Peer:
    """A library with its settings."""

    name: str
    answer: Callable[[Question], Answer]
    spoilt: dict[str, Any] | None = None
    """Our calendar's data without what these settings cannot say; None if they can say it all."""
    lacks: str = ""


def questions(calendar: Calendar, count: int, chance: np.random.Generator) -> list[Question]:
    zone = ZoneInfo(SHANGHAI)
    made: list[Question] = []
    while len(made) < count:
        offset, length = int(chance.integers(0, SPAN_MINUTES * 60)), int(chance.integers(0, MONTH_SECONDS))
        start = (BEGIN + timedelta(seconds=offset)).astimezone(zone)
        stop = start + timedelta(seconds=length)
        if amount := calendar.between(start, stop, WORKING_HOURS):
            made.append(Question(start, stop, Budget(WORKING_HOURS, amount)))
    return made


def report_peers(data: dict[str, Any], asked: list[Question], few: int, repeats: int) -> None:
    """Ours answers all questions, the peers the first few of the same: they need seconds for those."""
    try:
        sys.path.append(peers_folder())  # at the end: what the project itself uses stays what it is
    except SystemExit as stopped:
        raise SystemExit("The libraries to compare with could not be installed; --no-peers does without.") from stopped

    def added(calendar: Calendar, asked: list[Question]) -> list[Answer]:
        return [calendar.add(question.start, question.budget) for question in asked]

    def measured(calendar: Calendar, asked: list[Question]) -> list[Answer]:
        return [calendar.between(question.start, question.stop, WORKING_HOURS) for question in asked]

    compare("add", data, added, business_time_delta(data), (asked, asked[:few]), repeats)
    compare("between", data, measured, business_duration(data), (asked, asked[:few]), repeats)


def compare(
    name: str,
    data: dict[str, Any],
    ours: Callable[[Calendar, list[Question]], list[Answer]],
    peers: list[Peer],
    asked: tuple[list[Question], list[Question]],
    repeats: int,
) -> None:
    calendar, (all_, few) = Calendar.compile(data), asked
    works: list[Callable[[], object]] = [lambda: ours(calendar, all_)]
    works += [lambda peer=peer: [peer.answer(question) for question in few] for peer in peers]
    seconds, *theirs = best(works, repeats)
    rate, right = len(all_) / seconds, ours(calendar, few)
    print(f"\n{name}, working hours, {SHANGHAI}: {rate:,.0f}/s")
    for peer, taken in zip(peers, theirs, strict=True):
        answers = [peer.answer(question) for question in few]
        wrong = [number for number, answer in enumerate(answers) if answer != right[number]]
        print(f"  {peer.name:<44}{len(few) / taken:7,.0f}/s  ratio {rate * taken / len(few):5,.0f}", end="")
        print(f"  {len(wrong):,} of {len(few):,} answers differ")
        if peer.spoilt:
            spoilt = ours(Calendar.compile(peer.spoilt), few)
            explained = sum(answers[number] == spoilt[number] for number in wrong)
            print(f"    {explained:,} of these are what our calendar says, too, when it lacks {peer.lacks}")


def business_time_delta(data: dict[str, Any]) -> list[Peer]:
    library, zone = importlib.import_module("businesstimedelta"), importlib.import_module("pytz").timezone(SHANGHAI)
    weekdays, every_day = [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6]

    def adding(rules: list[Any]) -> Callable[[Question], datetime]:
        rule = library.Rules(rules, tz=zone)
        return lambda asked: asked.start + library.BusinessTimeDelta(rule, timedelta=asked.budget.amount * MICROSECOND)

    documented = [
        library.WorkDayRule(time(9), time(17, 30), weekdays, tz=zone),
        library.LunchTimeRule(time(12), time(13, 30), weekdays, tz=zone),
        library.HolidayRule(holidays(data), tz=zone),
    ]
    full = [
        library.WorkDayRule(time(9), time(12), every_day, tz=zone),
        library.WorkDayRule(time(13, 30), time(17, 30), every_day, tz=zone),
        library.HolidayRule(days_off(data), tz=zone),
    ]
    return [
        Peer("businesstimedelta, as documented", adding(documented), without_make_up(data), "the make-up days"),
        Peer("businesstimedelta, each day off as a holiday", adding(full)),
    ]


def business_duration(data: dict[str, Any]) -> list[Peer]:
    ask = importlib.import_module("business_duration").businessDuration
    official, off = holidays(data), days_off(data)

    def documented(asked: Question) -> int:
        return round(ask(asked.start, asked.stop, time(9), time(17, 30), [5, 6], official, "sec")) * SECOND_US

    def full(asked: Question) -> int:
        morning = ask(asked.start, asked.stop, time(9), time(12), [], off, "sec")
        afternoon = ask(asked.start, asked.stop, time(13, 30), time(17, 30), [], off, "sec")
        return round(morning + afternoon) * SECOND_US

    spoilt = without_make_up(data)
    spoilt["week"] = {day: hours and [[hours[0][0], hours[-1][1]]] for day, hours in data["week"].items()}
    return [
        Peer("business-duration, as documented", documented, spoilt, "the make-up days and the noon break"),
        Peer("business-duration, each day off, two calls", full),
    ]


def holidays(data: dict[str, Any]) -> set[date]:
    return {date.fromisoformat(day) for year in data["years"].values() for day in year.get("off", {})}


def days_off(data: dict[str, Any]) -> set[date]:
    """Weekends too, without those that are made up: what a library knows that has holidays, but no make-up days."""
    calendar, first = Calendar.compile(data), BEGIN.date() - timedelta(days=7)
    days = (first + timedelta(days=number) for number in range(8 * 366))
    return {day for day in days if not calendar.is_working_day(day)}


def without_make_up(data: dict[str, Any]) -> dict[str, Any]:
    years = {number: {**year, "work": {}} for number, year in data["years"].items()}
    return data | {"years": years}


def peers_folder() -> str:
    """Where the libraries lie; installed first if they are not there yet, or not those of the lock file."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    venv = cache / "jieban" / f"peers-{sha256(PEERS_LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]}"
    ready = venv / "ready"
    if not ready.exists():
        print(f"Installing the libraries to compare with (once): {venv}", file=sys.stderr, flush=True)
        shutil.rmtree(venv, ignore_errors=True)  # cut short the last time
        install(venv, PEERS_LOCK)
        ready.touch()
    return sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)})


if __name__ == "__main__":
    main()
