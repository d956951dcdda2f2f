"""The command line. `python3 -m service COMMAND` (after installation also `jieban COMMAND`)."""

from __future__ import annotations

import asyncio
import gc
import getpass
import json
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar
from uuid import UUID

import typer
import uvicorn
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from service import bootstrap, clock, telemetry
from service.core import definitions, diagrams
from service.core.charts import picture
from service.core.diagrams import Language
from service.core.errors import DefinitionError, Invalid, JiebanError
from service.core.language import json_schema
from service.core.model import Actor, Role
from service.core.yaml_files import read_yaml
from service.embedded import EmbeddedError, EmbeddedServers
from service.settings import Settings
from service.supervisor import Child, Stopped, Supervisor, wait_http
from service.usecases import audit as auditing
from service.usecases import identity, integrity, migrations, publishing, simulation
from service.usecases import workflows as versions
from service.usecases.answers import Call
from service.usecases.diagrams import clock_titles
from service.usecases.house import House

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="**Jieban 接办**: the back end of a city's enterprise edition of the 12345 hotline.\n\n"
    "Start with `demo` (everything, with requests driven through it) or `up` (everything, empty). "
    "Settings are environment variables JIEBAN_…; `settings` lists them.",
)
workflows_app = typer.Typer(
    no_args_is_help=True,
    help="Prove, draw and try out workflow files; compare, publish and retire versions; move running tickets.",
)
audit_app = typer.Typer(no_args_is_help=True, help="Prove that no history was altered.")
client_app = typer.Typer(no_args_is_help=True, help="Machines that call the API (client credentials).")
app.add_typer(workflows_app, name="workflows")
app.add_typer(audit_app, name="audit")
app.add_typer(client_app, name="client")
err = Console(stderr=True, soft_wrap=True)
READY_SECONDS = 60.0
OPERATOR = Actor("operator", Role.SUPERVISOR)
"""Who asks from the command line: whoever has the database has all of it."""
RUNNING = "running.json"
NO_WORKER_SECONDS = 15.0
COMMAND = Call("command line", None, b"")
"""Commands carry no key: what they do is safe to repeat, or refused."""
T = TypeVar("T")


@app.command()
def up() -> None:
    """Start everything: embedded servers (unless URLs are set), migrations, API, pump and worker. Ctrl-C stops it."""
    settings = _settings()
    with _running(settings) as running:
        running.announce()
        running.stay()


@app.command()
def demo(
    requests: Annotated[Path | None, typer.Option(help="a JSONL file of requests instead of the shipped ones")] = None,
    exit_: Annotated[bool, typer.Option("--exit", help="stop when the demo is over instead of staying up")] = False,
    weeks: Annotated[int, typer.Option(min=1, max=26, help="simulated weeks")] = 8,
    clients: Annotated[int, typer.Option(min=1, max=64, help="clients that post at once")] = 8,
    seed: Annotated[int, typer.Option(help="what chance is made of: the same seed gives the same city")] = 1,
) -> None:
    """Start everything in a sandbox and do the main job: post, route, handle over weeks, escalate, report."""
    from service import demo as show

    try:
        bodies = list(show.read_requests(requests or show.SHIPPED))
    except show.DemoFailed as error:
        _fail(str(error))
    os.environ["JIEBAN_SANDBOX"] = "1"
    settings = _settings()
    with _running(settings) as running:
        running.announce()
        tokens = {name: _token(settings, name) for name in show.ROLES}
        try:
            show.run(running.url, tokens, lambda who: _token(settings, who), bodies, weeks, clients, seed)
        except show.DemoFailed as error:
            err.print(f"[red]The demo stopped:[/] {error}")
            raise typer.Exit(1) from None
        report = _checked(running.settings)
        _show_verdict(report)
        if report.offending:
            raise typer.Exit(1)
        if not exit_:
            running.stay()


@app.command()
def token(
    as_: Annotated[str, typer.Option("--as", help="hotline, dispatcher, handler:<department>[,…], supervisor, reviewer, "
                                     "auditor or admin")],
    user: Annotated[str, typer.Option(help="the person's name; default: the role")] = "",
    hours: Annotated[int, typer.Option(min=1, max=24 * 30, help="how long it is valid")] = 12,
) -> None:  # fmt: skip
    """Print a bearer token of the built-in issuer, and nothing else."""
    try:
        print(_token(_settings(), as_, user, hours * 3600))
    except (ValueError, JiebanError) as error:
        _fail(str(error))


@app.command()
def migrate() -> None:
    """Bring the database of JIEBAN_DATABASE_URL to the newest schema and publish the workflows folder."""
    from service.db import migrate as schema

    settings = _needs_database()
    schema.upgrade(settings.database_url)
    for line in asyncio.run(_publish(settings)):
        print("published", line)


@app.command(hidden=True)
def api() -> None:
    """The HTTP process alone (`up` starts it)."""
    settings = _needs_database()
    telemetry.configure(settings.log_level)
    uvicorn.run(
        bootstrap.application(settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=20,
        backlog=4096,
    )


@app.command(hidden=True)
def worker() -> None:
    """Pump and arq worker alone (`up` starts them)."""
    import uvloop

    settings = _needs_database()
    telemetry.configure(settings.log_level)
    uvloop.run(bootstrap.run_worker(settings))


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
    report = _checked(_needs_database())
    if as_json:
        print(json.dumps(report.as_dict(), ensure_ascii=False, indent=2))
    else:
        _show_report(report)
    if report.offending:
        raise typer.Exit(1)


def _checked(settings: Settings) -> integrity.Report:
    return _in_house(lambda house: integrity.check(house, lambda n: err.print(f"{n} tickets…", end="\r")), settings)


@app.command("settings")
def show_settings() -> None:
    """List every setting with its default and meaning."""
    table = Table("variable", "default", "meaning")
    for name, field in Settings.model_fields.items():
        default = "" if name in {"secret_key", "webhook_secret"} else str(field.default)
        table.add_row(f"JIEBAN_{name.upper()}", default, field.description or "")
    Console().print(table)


@contextmanager
def _no_collecting() -> Iterator[None]:
    """What the checker explores it keeps: looking for garbage in it finds none and takes a fifth of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@workflows_app.command("check")
def workflows_check(
    folder: Annotated[Path | None, typer.Argument(help="default: JIEBAN_WORKFLOWS_DIR")] = None,
) -> None:
    """Read every file of a workflows folder and **prove each workflow**: 逐一证明每个流程。

    For each: how many configurations were explored (every stage, clock, request and review that a ticket can come to) and
    the longest lawful life of a ticket. For each fault: file and line, what is wrong, what was expected, and the shortest
    way in which a ticket meets it.

    Exit code: **0** all hold, **1** there is a fault, **2** the folder cannot be read.
    """
    where = folder or _settings().workflows_dir
    if not where.is_dir():
        _fail(f"there is no folder {where}; set JIEBAN_WORKFLOWS_DIR")
    try:
        with _no_collecting():
            checked = publishing.check_folder(where)
        for one in checked:
            flow, faulty = one.source.flow, len(one.errors)
            held = f"longest lawful life 最长合法时长: {one.proof.life}" if not faulty else f"{faulty} fault(s) 处错误"
            print(f"{flow.key}: {flow.title['zh']} {flow.title['en']}: {one.proof.configurations} configurations 种状态, "
                  f"{one.seconds * 1000:.0f} ms CPU, {held}")  # fmt: skip
        faults = [error for one in checked for error in one.errors]
        for fault in faults:
            print(fault)
            for n, step in enumerate(fault.steps, 1):
                print(f"    {n}. {step}")
        if faults:
            print(f"{len(faults)} fault(s) 处错误")
            raise typer.Exit(1)
        read, _, _ = publishing.read_unproved(where, {one.source.key: one.source for one in checked})
    except DefinitionError as error:
        print(error)
        raise typer.Exit(1) from None
    print(f"ok 全部通过: {len(read.workflows)} workflows, {len(read.calendars)} calendars, "
          f"{len(read.routing['rules'])} routing rules, {len(read.matters['matters'])} matters, "
          f"{len(read.departments['departments'])} departments")  # fmt: skip


As = Annotated[str, typer.Option("--as", help="who does it, for the record; default: the account that runs this")]
Reason = Annotated[str, typer.Option(help="why, for the record and for every ticket that it moves")]


@workflows_app.command("list")
def workflows_list() -> None:
    """Every workflow by its newest version: who published it, when and why, and how many tickets run on each version."""
    for w in _in_house(lambda house: versions.listed(house, _me(""))):
        running = ", ".join(
            f"{v['running_tickets']} on version {v['version']}" for v in w["versions"] if v["running_tickets"]
        )
        print(
            f"{w['key']} {w['title']['zh']}: version {w['version']}, {w['status']}; running tickets: {running or 'none'}"
        )
        print(f"    {w['published_at'][:16]} {w['author']}: {w['reason']}")


@workflows_app.command("show")
def workflows_show(
    key: Annotated[str, typer.Argument(help="as `workflows list` names it")],
    version: Annotated[int | None, typer.Option(min=1, help="default: the newest")] = None,
) -> None:
    """Print one version whole, as YAML: what its tickets live by."""
    import yaml

    shown = json.loads(_in_house(lambda house: versions.shown(house, _me(""), key, version)).body)
    err.print(f"{key} version {shown['version']}, {shown['status']}, by {shown['author']}: {shown['reason']}")
    print(yaml.safe_dump(shown["workflow"], allow_unicode=True, sort_keys=False, width=120), end="")


@workflows_app.command("diff")
def workflows_diff(
    key: Annotated[str, typer.Argument(help="as `workflows list` names it")],
    from_: Annotated[int | None, typer.Option("--from", min=1, help="default: the version before")] = None,
    to: Annotated[int | None, typer.Option(min=1, help="default: the newest")] = None,
    lang: Annotated[str, typer.Option(help="zh or en")] = "zh",
) -> None:
    """Say what one version says differently from another, a line for each value."""
    told = _in_house(lambda house: versions.compared(house, key, from_, to))
    err.print(f"{key}: version {told['from']} -> {told['to']}, {len(told['differences'])} differences")
    _show_differences(told["differences"], lang)


def _show_differences(differences: list[dict[str, Any]], lang: str = "zh") -> None:
    for difference in differences:
        print(difference["text"]["en" if lang == "en" else "zh"])


@workflows_app.command("publish")
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
    read = publishing.read_folder(folder or _settings().workflows_dir)
    if key not in read.workflows:
        _fail(f"There is no workflow {key!r} in the folder; there are: {', '.join(read.workflows)}")
    wanted = versions.Proposed(read.workflows[key], reason, expected, dry_run)
    answer = _in_house(lambda house: versions.publish(house, _me(as_), wanted, COMMAND))
    told = json.loads(answer.body)
    _show_differences(told["differences"])
    done = "would be" if dry_run else "is" if told["changed"] else "was already"
    print(f"{key}: version {told['version']} {done} published")


@workflows_app.command("retire")
def workflows_retire(key: str, reason: Reason, as_: As = "") -> None:
    """Take a workflow out of use: no new ticket is bound to it, those that run go on.

    Refused while nothing else would take what it takes. Publishing it again brings it back, as a further version.
    """
    told = json.loads(_in_house(lambda house: versions.retire(house, _me(as_), key, reason, COMMAND)).body)
    print(f"{key}: out of use, {told['running_tickets']} tickets run on")


@workflows_app.command("migrate")
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
        _show_preview(_in_house(lambda house: migrations.preview(house, _me(as_), wanted)))
        return
    started = json.loads(_in_house(lambda house: migrations.start(house, _me(as_), wanted, COMMAND)).body)
    _follow(started["id"])


@workflows_app.command("migrations")
def workflows_migrations() -> None:
    """List migrations of running tickets, the newest first: from where to where, and how far they are."""
    items, _ = _in_house(lambda house: migrations.listed(house, _me(""), None, None, 200))
    for m in items:
        counts = ", ".join(f"{n} {state}" for state, n in m["tickets"].items() if n)
        ends = " -> ".join(f"{m[end]['key']} version {m[end]['version']}" for end in ("from", "to"))
        print(f"{m['id']} {m['state']}: {ends}: {counts or 'no tickets'}")
        print(f"    {m['started_at'][:16]} {m['ordered_by']}: {m['reason']}")


@workflows_app.command("retry")
def workflows_retry(migration: str, as_: As = "") -> None:
    """Judge the tickets of a migration again that could not be moved."""
    order = _order(migration)
    _in_house(lambda house: migrations.retry(house, _me(as_), order, COMMAND))
    _follow(migration)


@workflows_app.command("undo")
def workflows_undo(migration: str, reason: Reason, as_: As = "") -> None:
    """Move the tickets of a migration back. Those that somebody acted on since stay where they are and are listed."""
    order = _order(migration)
    _in_house(lambda house: migrations.undo(house, _me(as_), order, reason, COMMAND))
    _follow(migration)


def _order(given: str) -> str:
    try:
        return str(UUID(given))
    except ValueError:
        _fail(f"{given!r} is not the id of a migration; `workflows migrations` lists them")


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in given or ()]
    wrong = [old for old, sign, _ in pairs if not (old and sign)]
    if wrong:
        _fail(f"{option} {wrong[0]}: expected OLD=NEW")
    return {old: new for old, _, new in pairs}


def _me(name: str) -> Actor:
    """Who runs the command: whoever reaches the database may do everything, and is named in the record."""
    return Actor(name or f"{getpass.getuser()} (command line)", Role.ADMIN)


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
    told = _in_house(lambda house: _until_done(house, migration))
    print(f"{migration}: " + ", ".join(f"{n} {state}" for state, n in told["tickets"].items() if n))
    for why in told["why"]:
        print(f"{why['state']}: {why['tickets']} tickets ({why['example']} …): {why['reason']}")
    if told["tickets"]["failed"]:
        raise typer.Exit(1)


async def _until_done(house: House, migration: str) -> dict[str, Any]:
    told = await migrations.shown(house, _me(""), migration)
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
            told = await migrations.shown(house, _me(""), migration)
        bar.update(task, completed=told["done"], total=told["total"])
    return told


@workflows_app.command("simulate")
def workflows_simulate(
    key: Annotated[str, typer.Argument(help="the workflow that the draft is of, such as consultation")],
    draft: Annotated[
        Path | None, typer.Option(help="a workflow file; may extend those of the workflows folder")
    ] = None,
    version: Annotated[int | None, typer.Option(min=1, help="a published version instead; default: the newest")] = None,
    calendar: Annotated[Path | None, typer.Option(help="a draft calendar (YAML)")] = None,
    routing: Annotated[
        Path | None, typer.Option(help="a draft of routing.yaml: who would have got another lead")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="received from this date or instant on; default: 90 days")
    ] = None,
    to: Annotated[str | None, typer.Option(help="up to this date (included) or instant; default: today")] = None,
    department: Annotated[str | None, typer.Option(help="only tickets that this department had")] = None,
    check_all: Annotated[
        bool, typer.Option(help="replay every ticket by its own rules too, not only a sample")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print everything as JSON instead of tables")] = False,
    svg: Annotated[Path | None, typer.Option(help="also draw the comparison into this file")] = None,
    lang: Annotated[Language, typer.Option(help="language of the labels")] = "zh",
) -> None:
    """Replay recorded tickets under a draft: who would breach, cards, reviews and load, before and after.

    Nothing is written. What people did stays as it was, to the second; an act that the draft does not allow is listed.
    """
    settings = _needs_database()
    try:
        wanted = simulation.Wanted(
            key, definitions.read_draft(draft, settings.workflows_dir) if draft else None, version,
            definitions.read_draft_calendar(calendar, settings.workflows_dir) if calendar else None,
            read_yaml(routing) if routing else None, from_, to, department, check_all,
        )  # fmt: skip
        found, titles = asyncio.run(_simulated(settings, wanted, lang))
    except Invalid as error:
        _fail("; ".join(f"{e.pointer.strip('/') or 'draft'}: {e.detail}" for e in error.errors) or error.detail)
    except (JiebanError, OSError) as error:
        _fail(str(error))
    if svg is not None:
        svg.write_text(picture(found, titles, lang).svg(), encoding="utf-8")
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        _show_simulation(found, titles, lang)


@workflows_app.command("draw")
def workflows_draw(
    key: Annotated[str, typer.Argument(help="a workflow of the folder")],
    folder: Annotated[Path | None, typer.Option(help="default: JIEBAN_WORKFLOWS_DIR")] = None,
    format_: Annotated[Literal["svg", "mermaid"], typer.Option("--format")] = "svg",
    lang: Annotated[Language, typer.Option(help="language of the labels")] = "zh",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="a file; default: standard output")] = None,
) -> None:
    """Draw a workflow of the folder: its stages with their clocks, and what leads from one to the next."""
    try:
        flows = definitions.read_workflows(folder or _settings().workflows_dir)
        if key not in flows:
            _fail(f"there is no workflow {key!r}; there are: {', '.join(sorted(flows))}")
        graph = diagrams.graph_of(flows[key].flow, lang)
    except DefinitionError as error:
        _fail(str(error))
    told = diagrams.draw(graph).svg() if format_ == "svg" else diagrams.mermaid(graph)
    if out is None:
        print(told, end="")
    else:
        out.write_text(told, encoding="utf-8")


async def _simulated(
    settings: Settings, wanted: simulation.Wanted, language: Language
) -> tuple[dict[str, Any], dict[str, str]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with bootstrap.open_house(settings) as house:
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task("推演 replaying", total=None)
            found = await simulation.simulate(
                house, OPERATOR, wanted, progress=lambda done, total: bar.update(task, completed=done, total=total)
            )
        return found, clock_titles(house, language)


_COLUMNS = {
    "zh": ("时限", "实际超期", "草案超期", "新增", "不再"),
    "en": ("clock", "late as it was", "under the draft", "newly", "no longer"),
}
_WEEKS = {
    "zh": ("周", "黄牌", "红牌", "一事一议"),
    "en": ("week", "yellow cards", "red cards", "reviews proposed"),
}


def _show_simulation(found: dict[str, Any], titles: dict[str, str], lang: Language) -> None:
    console = Console(soft_wrap=True)
    table = Table(*_COLUMNS[lang])
    for row in found["breaches"]["clocks"]:
        counts = [str(row[what]) for what in ("before", "after", "newly", "no_longer")]
        table.add_row(titles.get(row["clock"], row["clock"]), *counts)
    console.print(table)
    table = Table(*_WEEKS[lang])
    for week in found["weeks"]:
        kinds = [f"{week[kind]['before']} → {week[kind]['after']}" for kind in ("yellow", "red", "reviews")]
        table.add_row(week["week"], *kinds)
    console.print(table)
    units = [(u["department"], _peaks(u["days"])) for u in found["load"]]
    moved = [(code, peaks) for code, peaks in units if peaks[0] != peaks[1] or peaks[2] != peaks[3]]
    heads = {
        "zh": ("单位", "单日在办最多", "单日到期最多"),
        "en": ("department", "most in hand a day", "most due a day"),
    }
    table = Table(*heads[lang])
    for code, peaks in moved:
        table.add_row(code, f"{peaks[0]} → {peaks[1]}", f"{peaks[2]} → {peaks[3]}")
    if moved:
        console.print(table)
    for what, word in (
        ("newly", {"zh": "新增超期", "en": "newly late"}),
        ("no_longer", {"zh": "不再超期", "en": "no longer"}),
    ):
        for row in found["breaches"][what][:10]:
            name = titles.get(row["clock"], row["clock"])
            print(f"{word[lang]}: {row['ticket']['number']} {name} {row['due_at'][:16]} {row['department'] or ''}")
    for row in found.get("routing", {}).get("moves", ()):
        print(f"{row['before'] or '-'} → {row['after'] or '-'}: {row['tickets']}")
    for row in found["not_comparable"]["acts"]:
        act = row["act"] or "-"
        print(f"{'不可比' if lang == 'zh' else 'not comparable'}: {act}: {row['title'][lang]}: {row['acts']}")
    t, check = found["tickets"], found["check"]
    told = {
        "zh": "工单 {recorded} 件，推演 {replayed} 件，不可比 {set_aside} 件；核对 {checked} 件，不符 {differ} 件",
        "en": "{recorded} tickets, {replayed} replayed, {set_aside} not comparable; {checked} checked, {differ} differ",
    }
    print(told[lang].format(**t, **{k: check[k] for k in ("checked", "differ")}))


def _peaks(days: list[dict[str, Any]]) -> tuple[int, ...]:
    """Most in hand before, after; most due before, after; of one department's days."""
    return tuple(max((d[what][side] for d in days), default=0)
                 for what in ("in_hand", "due") for side in ("before", "after"))  # fmt: skip


@workflows_app.command("schema")
def workflows_schema() -> None:
    """Print the JSON Schema of workflow files, with which editors complete and check them (流程文件的 JSON Schema)."""
    print(json.dumps(json_schema(), ensure_ascii=False, indent=2))


@audit_app.command("verify")
def audit_verify() -> None:
    """Recompute the hash chain of every ticket's history."""
    settings = _needs_database()

    async def verify() -> auditing.Verdict:
        async with bootstrap.open_house(settings) as house:
            return await auditing.verify(house, lambda n: err.print(f"{n} tickets…", end="\r"))

    verdict = asyncio.run(verify())
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
    _show_verdict(report)


def _show_verdict(report: integrity.Report) -> None:
    print(f"check 核对: {report.tickets} tickets, {report.clocks} clocks, {report.offending} offending;"
          f" timers set aside: {report.set_aside}, given up: {report.dead}")  # fmt: skip
    for calendar, year in report.calendars_missing.items():
        print(f"calendar {calendar}: {year} is not published, due times in it are provisional ({year}年放假安排未发布)")
    if not report.pump_at_work:
        print("I1 was not judged: no pump is at work, timers wait for one")


@client_app.command("add")
def client_add(
    client_id: Annotated[str, typer.Argument(help="name of the machine, such as jn12345")],
    role: Annotated[str, typer.Option(help="what it may do")] = "hotline",
) -> None:
    """Register a machine; prints its secret once."""
    settings = _needs_database()

    async def add() -> str:
        async with bootstrap.open_house(settings) as house:
            return await identity.create_client(house, client_id, Role(role))

    try:
        if role not in set(Role):
            raise ValueError(
                f"{role!r} is not a role; roles of machines: {', '.join(r for r in Role if r != 'handler')}"
            )
        print(asyncio.run(add()))
    except (ValueError, JiebanError) as error:
        _fail(str(error))


def _in_house(work: Callable[[House], Awaitable[T]], settings: Settings | None = None) -> T:
    """Open the house on its database, do this in it, close it."""
    given = settings or _needs_database()

    async def run() -> T:
        async with bootstrap.open_house(given) as house:
            return await work(house)

    return asyncio.run(run())


# --- what the commands share ----------------------------------------------------------------------------------------


class _Running:
    """Everything that `up` started."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104  # where to look, not to bind
        self.url = f"http://{host}:{settings.port}"

    def announce(self) -> None:
        err.print(f"[bold green]ready[/]  {self.url}   [dim]API: {self.url}/docs[/]")
        err.print("       a token:  [bold]python3 -m service token --as dispatcher[/]"
                  "   (hotline, handler:tax, supervisor, reviewer, auditor, admin)")  # fmt: skip
        err.print(f"       data and logs: {self.settings.data_dir}   Ctrl-C stops everything")

    def stay(self) -> None:
        """Until Ctrl-C, which the supervisor turns into `Stopped`."""
        while True:
            time.sleep(3600)


@contextmanager
def _running(settings: Settings) -> Iterator[_Running]:
    from service.db import migrate as schema  # the API and the worker, which also start here, need no Alembic

    servers: EmbeddedServers | None = None
    _check_port(settings)
    try:
        if not (settings.database_url and settings.redis_url):
            err.print(f"starting PostgreSQL and Valkey in {settings.data_dir} …")
            servers = EmbeddedServers(settings.data_dir)
        database = settings.database_url or (servers.start_postgres() if servers else "")
        redis = settings.redis_url or (servers.start_redis() if servers else "")
        settings = settings.model_copy(update={"database_url": database, "redis_url": redis})
        err.print("bringing the schema up to date …")
        schema.upgrade(database)
        published = asyncio.run(_publish(settings))
        if published:
            err.print(f"published {len(published)} definitions")
    except (EmbeddedError, JiebanError) as error:
        if servers is not None:
            servers.stop()
        _fail(str(error))
    except BaseException:
        if servers is not None:
            servers.stop()
        raise
    env = {
        "JIEBAN_DATABASE_URL": database,
        "JIEBAN_REDIS_URL": redis,
        "JIEBAN_DATA_DIR": str(settings.data_dir),
        "JIEBAN_SANDBOX": "1" if settings.sandbox else "0",
    }
    children = [Child(name, [sys.executable, "-m", "service.cli", name], env) for name in ("api", "worker")]
    supervisor = Supervisor(servers, children, logs=settings.data_dir / "logs")
    try:
        with supervisor:
            running = _Running(settings)
            err.print("starting API, pump and worker …")
            wait_http(f"{running.url}/readyz", READY_SECONDS)
            _write_running(settings)
            yield running
    except Stopped:
        return
    finally:
        (settings.data_dir / RUNNING).unlink(missing_ok=True)


def _write_running(settings: Settings) -> None:
    """Where the servers are, for commands beside this one; the folder is private."""
    path = settings.data_dir / RUNNING
    path.touch(mode=0o600)
    path.write_text(json.dumps({"database_url": settings.database_url, "redis_url": settings.redis_url}))


async def _publish(settings: Settings) -> list[str]:
    folder = publishing.read_folder(settings.workflows_dir)
    async with bootstrap.open_unpublished(settings) as house:
        return await publishing.publish_folder(
            house, folder, publishing.FILES, "the file is new or changed 配置文件新增或更新"
        )


def _token(settings: Settings, who: str, user: str = "", seconds: int = 12 * 3600) -> str:
    role, departments = identity.parse_as(who)
    issuer = bootstrap.issuer_of(settings)
    if issuer is None:
        raise ValueError("JIEBAN_BUILTIN_ISSUER=0: tokens come from your identity provider")
    return issuer.issue(identity.subject_of(role, departments, user), role, departments, seconds, clock.wall_now())


def _settings() -> Settings:
    """The settings, or one line for each that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = [f"JIEBAN_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_input=False)]
        _fail("\n".join(wrong))


def _needs_database() -> Settings:
    """Settings with a database: the one that is set, or that of the `up` that runs on this data folder."""
    settings = _settings()
    if settings.database_url:
        return settings
    try:
        running = json.loads((settings.data_dir / RUNNING).read_text())
    except (OSError, ValueError):
        _fail(f"Nothing runs on {settings.data_dir}: start `python3 -m service up`, or set JIEBAN_DATABASE_URL.")
    return settings.model_copy(update=running)


def _check_port(settings: Settings) -> None:
    """Say at once that the address cannot be had, before anything is started."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            _fail(f"Cannot listen on {settings.host}:{settings.port} ({error.strerror}); set JIEBAN_PORT to another.")


def _fail(message: str) -> NoReturn:
    err.print(f"[red]error:[/] {message}", highlight=False)
    raise typer.Exit(2)


def main() -> None:
    try:
        app(prog_name="python3 -m service")
    except KeyboardInterrupt:
        sys.exit(130)
    except JiebanError as error:
        fields = [f"{e.pointer}: {e.detail}" for e in error.errors] if isinstance(error, Invalid) else []
        for line in fields or [str(error)]:
            err.print(f"[red]error:[/] {escape(line)}", highlight=False)
        sys.exit(2)
