"""The command line. `python3 -m service COMMAND` (after installation also `jieban COMMAND`)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import uvicorn
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from service import bootstrap, clock, telemetry
from service.core.errors import DefinitionError, JiebanError
from service.core.language import json_schema
from service.core.model import Role
from service.embedded import EmbeddedError, EmbeddedServers
from service.settings import Settings
from service.supervisor import Child, Stopped, Supervisor, wait_http
from service.usecases import audit as auditing
from service.usecases import identity, integrity, publishing

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="**Jieban 接办**: the back end of a city's enterprise edition of the 12345 hotline.\n\n"
    "Start with `demo` (everything, with requests driven through it) or `up` (everything, empty). "
    "Settings are environment variables JIEBAN_…; `settings` lists them.",
)
workflows_app = typer.Typer(no_args_is_help=True, help="Prove workflow files and describe them to editors.")
audit_app = typer.Typer(no_args_is_help=True, help="Prove that no history was altered.")
client_app = typer.Typer(no_args_is_help=True, help="Machines that call the API (client credentials).")
app.add_typer(workflows_app, name="workflows")
app.add_typer(audit_app, name="audit")
app.add_typer(client_app, name="client")
err = Console(stderr=True, soft_wrap=True)
READY_SECONDS = 60.0
RUNNING = "running.json"


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
    async def run() -> integrity.Report:
        async with bootstrap.open_house(settings) as house:
            return await integrity.check(house, lambda n: err.print(f"{n} tickets…", end="\r"))

    return asyncio.run(run())


@app.command("settings")
def show_settings() -> None:
    """List every setting with its default and meaning."""
    table = Table("variable", "default", "meaning")
    for name, field in Settings.model_fields.items():
        default = "" if name in {"secret_key", "webhook_secret"} else str(field.default)
        table.add_row(f"JIEBAN_{name.upper()}", default, field.description or "")
    Console().print(table)


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
        read = publishing.read_folder(where)
    except DefinitionError as error:
        print(error)
        raise typer.Exit(1) from None
    print(f"ok 全部通过: {len(read.workflows)} workflows, {len(read.calendars)} calendars, "
          f"{len(read.routing['rules'])} routing rules, {len(read.matters['matters'])} matters, "
          f"{len(read.departments['departments'])} departments")  # fmt: skip


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
    if verdict.broken:
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
        return await publishing.publish_folder(house, folder, "files", "the workflows folder")


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
        err.print(f"[red]error:[/] {error}", highlight=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
