"""Published versions of workflows: compared, published, retired, and running tickets moved between them."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from service.cli.house import COMMAND, in_house, me
from service.cli.surroundings import err, fail, read_settings
from service.usecases import folders, migrations
from service.usecases import workflows as versions
from service.usecases.house import House

app = typer.Typer(rich_markup_mode="markdown")
NO_WORKER_SECONDS = 15.0
As = Annotated[str, typer.Option("--as", help="who does it, for the record; default: the account that runs this")]


def _said(reason: str) -> str:
    if not reason.strip():
        raise typer.BadParameter("say why: it is kept for who asks")
    return reason


Reason = Annotated[str, typer.Option(help="why, for the record and for every ticket that it moves", callback=_said)]


@app.command("list")
def workflows_list() -> None:
    """Every workflow by its newest version: who published it, when and why, and how many tickets run on each version."""
    for w in in_house(lambda house: versions.listed(house, me(""))):
        running = ", ".join(
            f"{v['running_tickets']} on version {v['version']}" for v in w["versions"] if v["running_tickets"]
        )
        print(
            f"{w['key']} {w['title']['zh']}: version {w['version']}, {w['status']}; running tickets: {running or 'none'}"
        )
        print(f"    {w['published_at'][:16]} {w['author']}: {w['reason']}")


@app.command("show")
def workflows_show(
    key: Annotated[str, typer.Argument(help="as `workflows list` names it")],
    version: Annotated[int | None, typer.Option(min=1, help="default: the newest")] = None,
) -> None:
    """Print one version whole, as YAML: what its tickets live by."""
    import yaml

    shown = json.loads(in_house(lambda house: versions.shown(house, me(""), key, version)).body)
    told = f"{key} version {shown['version']}, {shown['status']}, by {shown['author']}: {shown['reason']}"
    err.print(told, markup=False)
    print(yaml.safe_dump(shown["workflow"], allow_unicode=True, sort_keys=False, width=120), end="")


@app.command("diff")
def workflows_diff(
    key: Annotated[str, typer.Argument(help="as `workflows list` names it")],
    from_: Annotated[int | None, typer.Option("--from", min=1, help="default: the version before")] = None,
    to: Annotated[int | None, typer.Option(min=1, help="default: the newest")] = None,
    lang: Annotated[str, typer.Option(help="zh or en")] = "zh",
) -> None:
    """Say what one version says differently from another, a line for each value."""
    told = in_house(lambda house: versions.compared(house, key, from_, to))
    err.print(f"{key}: version {told['from']} -> {told['to']}, {len(told['differences'])} differences")
    _show_differences(told["differences"], lang)


def _show_differences(differences: list[dict[str, Any]], lang: str = "zh") -> None:
    for difference in differences:
        print(difference["text"]["en" if lang == "en" else "zh"])


@app.command("publish")
def workflows_publish(
    key: Annotated[str, typer.Argument(help="the `key` in the file to be published")],
    reason: Reason,
    folder: Annotated[Path | None, typer.Option(help="the folder it stands in; default: JIEBAN_WORKFLOWS_DIR")] = None,
    expected: Annotated[int | None, typer.Option(min=0, help="the version you started from (0: a new workflow); "
                                                 "refuse if somebody published since")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only check it and tell the differences")] = False,
    as_: As = "",
) -> None:  # fmt: skip
    """Publish a file of the workflows folder as a further version, `extends` resolved.

    New tickets are bound to it within seconds, in every process. **Tickets that run stay on their version**; `workflows
    migrate` moves them. What was published does not change any more: a correction is a further version.

    The same content as the newest version publishes nothing and is no error.
    """
    read = folders.read_folder(folder or read_settings().workflows_dir)
    if key not in read.workflows:
        fail(f"There is no workflow {key!r} in the folder; there are: {', '.join(read.workflows)}")
    wanted = versions.Proposed(read.workflows[key], reason, expected, dry_run)
    answer = in_house(lambda house: versions.publish(house, me(as_), wanted, COMMAND))
    told = json.loads(answer.body)
    _show_differences(told["differences"])
    done = "would be" if dry_run else "is" if told["changed"] else "was already"
    print(f"{key}: version {told['version']} {done} published")


@app.command("retire")
def workflows_retire(key: str, reason: Reason, as_: As = "") -> None:
    """Take a workflow out of use: no new ticket is bound to it, those that run go on.

    Refused while nothing else would take what it takes. Publishing it again brings it back, as a further version.
    """
    told = json.loads(in_house(lambda house: versions.retire(house, me(as_), key, reason, COMMAND)).body)
    print(f"{key}: out of use, {told['running_tickets']} tickets run on")


@app.command("migrate")
def workflows_migrate(
    key: Annotated[str, typer.Argument(help="the workflow whose running tickets are to move")],
    from_: Annotated[int, typer.Option("--from", min=1, help="the version they are on")],
    reason: Reason,
    to: Annotated[int | None, typer.Option(min=1, help="the version to move to; default: the newest")] = None,
    to_key: Annotated[str | None, typer.Option(help="another workflow to move to")] = None,
    stage: Annotated[list[str] | None, typer.Option(help="OLD=NEW: a stage that has another name there")] = None,
    clock_: Annotated[list[str] | None, typer.Option("--clock", help="OLD=NEW: a clock that has another name there; "
                                                     "OLD= ends it")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only tell what it would do")] = False,
    as_: As = "",
) -> None:  # fmt: skip
    """Move running tickets from one version to another. **Look first: `--dry-run`.**

    It says how many tickets move from which stage, which cannot and why, which due times move and which promises would
    be broken by it: a breach stays a fact, also if the migration is undone.

        python3 -m service workflows migrate consultation --from 1 --reason "…" --dry-run
        python3 -m service workflows migrate consultation --from 1 --reason "…" --stage handling=working

    The workers of `up` carry it out; this shows how far they are, and may be stopped without stopping them. Tickets that
    could not be moved are listed: `workflows retry ID`. `workflows undo ID` moves back what nobody acted on since.
    """
    clocks = {old: new or None for old, new in _pairs(clock_, "--clock").items()}
    wanted = migrations.Wanted(key, from_, to_key or key, to, _pairs(stage, "--stage"), clocks, reason)
    if dry_run:
        _show_preview(in_house(lambda house: migrations.preview(house, me(as_), wanted)))
        return
    started = json.loads(in_house(lambda house: migrations.start(house, me(as_), wanted, COMMAND)).body)
    _follow(started["id"])


@app.command("migrations")
def workflows_migrations() -> None:
    """List migrations of running tickets, the newest first: from where to where, and how far they are."""
    items, _ = in_house(lambda house: migrations.listed(house, me(""), None, None, 200))
    for m in items:
        counts = ", ".join(f"{n} {state}" for state, n in m["tickets"].items() if n)
        ends = " -> ".join(f"{m[end]['key']} version {m[end]['version']}" for end in ("from", "to"))
        print(f"{m['id']} {m['state']}: {ends}: {counts or 'no tickets'}")
        print(f"    {m['started_at'][:16]} {m['ordered_by']}: {m['reason']}")


@app.command("retry")
def workflows_retry(migration: str, as_: As = "") -> None:
    """Judge the tickets of a migration again that could not be moved."""
    order = _order(migration)
    in_house(lambda house: migrations.retry(house, me(as_), order, COMMAND))
    _follow(migration)


@app.command("undo")
def workflows_undo(migration: str, reason: Reason, as_: As = "") -> None:
    """Move the tickets of a migration back. Those that somebody acted on since stay where they are and are listed."""
    order = _order(migration)
    in_house(lambda house: migrations.undo(house, me(as_), order, reason, COMMAND))
    _follow(migration)


def _order(given: str) -> str:
    try:
        return str(UUID(given))
    except ValueError:
        fail(f"{given!r} is not the id of a migration; `workflows migrations` lists them")


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in given or ()]
    wrong = [old for old, sign, _ in pairs if not (old and sign)]
    if wrong:
        fail(f"{option} {wrong[0]}: expected OLD=NEW")
    return {old: new for old, _, new in pairs}


def _show_preview(told: dict[str, Any]) -> None:
    """The report of a dry run, for people."""
    ends = [f"{told[end]['key']} version {told[end]['version']}" for end in ("from", "to")]
    print(f"{' -> '.join(ends)}: {told['tickets']} running tickets, {told['can_move']} can move, "
          f"{told['cannot_move']} cannot")  # fmt: skip
    table = Table("stage", "goes to", "tickets")
    for s in told["stages"]:
        names = [f"{s[name]} {s[title]['zh']}" for name, title in (("stage", "title"), ("to", "to_title"))]
        table.add_row(*names, str(s["tickets"]))
    Console(soft_wrap=True).print(table)
    for o in told["obstacles"]:
        first = ", ".join(t["number"] for t in o["first"][:3])
        print(f"cannot move: {o['tickets']} tickets ({first} …): {o['en']} {o['zh']}")
    due, breaches = told["due_times"], told["breaches"]
    print(f"due times: {due['moved']} of {due['clocks']} clocks move, {due['earlier']} of them to an earlier time")
    print(
        f"breaches that it would make: {breaches['clocks']}"
        + "".join(f" {n} {c}" for c, n in breaches["by_clock"].items())
    )
    if told["ended_clocks"]:
        print("clocks that would end: " + ", ".join(f"{n} {c}" for c, n in told["ended_clocks"].items()))
    print("nothing was changed: this was a dry run")


def _follow(migration: str) -> None:
    """Show how far the workers are until nothing waits any more, then who stayed and why."""
    told = in_house(lambda house: _until_done(house, migration))
    print(f"{migration}: " + ", ".join(f"{n} {state}" for state, n in told["tickets"].items() if n))
    for why in told["why"]:
        print(f"{why['state']}: {why['tickets']} tickets ({why['example']} …): {why['reason']}")
    if told["tickets"]["failed"]:
        raise typer.Exit(1)


async def _until_done(house: House, migration: str) -> dict[str, Any]:
    told = await migrations.shown(house, me(""), migration)
    with Progress(console=err) as bar:
        task, moved_at, waiting = bar.add_task("tickets", total=told["total"]), time.monotonic(), -1
        while told["done"] < told["total"]:
            bar.update(task, completed=told["done"], total=told["total"])
            if told["done"] != waiting:
                waiting, moved_at = told["done"], time.monotonic()
            elif time.monotonic() - moved_at > NO_WORKER_SECONDS:
                err.print("nothing moves: is a worker running (`up`)? The order stands; it goes on when one comes")
                moved_at = time.monotonic()
            await asyncio.sleep(0.3)
            told = await migrations.shown(house, me(""), migration)
        bar.update(task, completed=told["done"], total=told["total"])
    return told
