"""Is what is stored whole: `check` and `audit verify`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.cli.house import in_house
from service.cli.surroundings import err, needs_database
from service.settings import Settings
from service.usecases import audit as auditing
from service.usecases import integrity

app = typer.Typer(rich_markup_mode="markdown")


@app.command()
def check(
    as_json: Annotated[bool, typer.Option("--json", help="print the whole report as JSON instead of a table")] = False,
) -> None:
    """Check that everything stored agrees with itself; says what offends and where.

    Recomputes **every clock** against its stored due time and next timer, replays **every history** against the stored
    ticket, and looks at every firing, message, reveal and kept answer. One row for each rule: how many things were
    looked at, how many offend, and the first of those by ticket number.

    Safe beside a running `up`: it only reads, locks nothing, and each page of tickets is one snapshot. Without
    JIEBAN_DATABASE_URL it finds the `up` that runs on this data folder.

    Exit code: **0** nothing offends, **1** something does, **2** it could not be checked.
    """
    report = checked(needs_database())
    if as_json:
        print(json.dumps(report.as_dict(), ensure_ascii=False, indent=2))
    else:
        _show_report(report)
    if report.offending:
        raise typer.Exit(1)


def checked(settings: Settings) -> integrity.Report:
    return in_house(lambda house: integrity.check(house, lambda n: err.print(f"{n} tickets…", end="\r")), settings)


@app.command("verify")
def audit_verify() -> None:
    """Recompute the hash chain of every ticket's history."""
    verdict = in_house(lambda house: auditing.verify(house, lambda n: err.print(f"{n} tickets…", end="\r")))
    print(f"{verdict.tickets} tickets, {verdict.events} events, {len(verdict.broken)} broken")
    for number, seq in verdict.broken[:20]:
        print(f"broken: {number} from event {seq} on")
    print(f"{verdict.minutes.documents} minutes 会议纪要, {len(verdict.minutes.broken)} altered 被改动")
    for number, what in verdict.minutes.broken[:20]:
        print(f"altered 被改动: {number}: {what}")
    if verdict.broken or verdict.minutes.broken:
        raise typer.Exit(1)


def _show_report(report: integrity.Report) -> None:
    table = Table("rule", "what must hold", "looked at", "offending")
    for found in report.findings:
        colour = "red" if found.offending else "green"
        table.add_row(
            found.code, f"{found.zh} · {found.en}", str(found.looked), f"[{colour}]{found.offending}[/{colour}]"
        )
    Console(soft_wrap=True).print(table)
    for found in report.findings:
        for where, reason in found.first:
            print(f"{found.code}: {where}: {reason}")
    show_verdict(report)


def show_verdict(report: integrity.Report) -> None:
    print(f"check 核对: {report.tickets} tickets, {report.clocks} clocks, {report.offending} offending;"
          f" timers set aside: {report.set_aside}, given up: {report.dead}")  # fmt: skip
    for calendar, year in report.calendars_missing.items():
        print(f"calendar {calendar}: {year} is not published, due times in it are provisional ({year}年放假安排未发布)")
    if not report.pump_at_work:
        print("I1 was not judged: no pump is at work, timers wait for one")
