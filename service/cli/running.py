"""`up` and what it starts: servers, schema, API, pump and worker; and the demo that is driven through them."""

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
from typing import Annotated

import typer
import uvicorn
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service import bootstrap, telemetry
from service.cli.accounts import issued
from service.cli.checks import checked, show_verdict
from service.cli.surroundings import RUNNING, err, fail, needs_database, read_settings
from service.core.errors import JiebanError
from service.embedded import EmbeddedError, EmbeddedServers
from service.settings import Settings
from service.supervisor import Child, Stopped, Supervisor, wait_http
from service.usecases import folders, publishing

app = typer.Typer(rich_markup_mode="markdown")
READY_SECONDS = 60.0


@app.command()
def up() -> None:
    """Start everything: embedded servers (unless URLs are set), migrations, API, pump and worker. Ctrl-C stops it."""
    settings = read_settings()
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
        fail(str(error))
    os.environ["JIEBAN_SANDBOX"] = "1"
    settings = read_settings()
    with _running(settings) as running:
        running.announce()
        tokens = {name: issued(settings, name) for name in show.ROLES}
        try:
            show.run(running.url, tokens, lambda who: issued(settings, who), bodies, weeks, clients, seed)
        except show.DemoFailed as error:
            err.print(f"[red]The demo stopped:[/] {escape(str(error))}")
            raise typer.Exit(1) from None
        report = checked(running.settings)
        show_verdict(report)
        if report.offending:
            raise typer.Exit(1)
        if not exit_:
            running.stay()


@app.command()
def migrate() -> None:
    """Bring the database of JIEBAN_DATABASE_URL to the newest schema and publish the workflows folder."""
    from service.db import migrate as schema

    settings = needs_database()
    schema.upgrade(settings.database_url)
    for line in asyncio.run(_publish(settings)):
        print("published", line)


@app.command(hidden=True)
def api() -> None:
    """The HTTP process alone (`up` starts it)."""
    settings = needs_database()
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

    settings = needs_database()
    telemetry.configure(settings.log_level)
    uvloop.run(bootstrap.run_worker(settings))


@app.command("settings")
def show_settings() -> None:
    """List every setting with its default and meaning."""
    table = Table("variable", "default", "meaning")
    for name, field in Settings.model_fields.items():
        default = "" if name in {"secret_key", "webhook_secret"} else str(field.default)
        table.add_row(f"JIEBAN_{name.upper()}", default, field.description or "")
    Console().print(table)


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
        fail(str(error))
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
    folder = folders.read_folder(settings.workflows_dir)
    async with bootstrap.open_unpublished(settings) as house:
        return await publishing.publish_folder(
            house, folder, publishing.FILES, "the file is new or changed 配置文件新增或更新"
        )


def _check_port(settings: Settings) -> None:
    """Say at once that the address cannot be had, before anything is started."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            fail(f"Cannot listen on {settings.host}:{settings.port} ({error.strerror}); set JIEBAN_PORT to another.")
