"""The command line. `python3 -m service COMMAND` (after installation also `jieban COMMAND`).

A command's module is imported when the command is called: one that needs no database starts without it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from service.cli.surroundings import err
from service.core.errors import Invalid, JiebanError


def _commands(modules: Mapping[str, str]) -> type[TyperGroup]:
    """A group of commands (name -> the module that has it, in the order in which help lists them)."""

    class Group(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            groups, self.commands = self.commands, {name: TyperCommand(name) for name in modules}
            self.commands |= groups

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if cmd_name not in modules:
                return super().get_command(ctx, cmd_name)
            module = importlib.import_module(f"service.cli.{modules[cmd_name]}")
            return get_group(module.app).commands[cmd_name]

    return Group


app = typer.Typer(
    cls=_commands(
        {"up": "running", "demo": "running", "token": "accounts", "migrate": "running", "api": "running",
         "worker": "running", "check": "checks", "settings": "running"}
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="**Jieban 接办**: the back end of a city's enterprise edition of the 12345 hotline.\n\n"
    "Start with `demo` (everything, with requests driven through it) or `up` (everything, empty). "
    "Settings are environment variables JIEBAN_…; `settings` lists them.",
)  # fmt: skip
app.add_typer(
    typer.Typer(
        cls=_commands(
            {"check": "workflow_files", "list": "workflow_versions", "show": "workflow_versions",
             "diff": "workflow_versions", "publish": "workflow_versions", "retire": "workflow_versions",
             "migrate": "workflow_versions", "migrations": "workflow_versions", "retry": "workflow_versions",
             "undo": "workflow_versions", "simulate": "simulating", "draw": "workflow_files", "schema": "workflow_files"}
        ),
        no_args_is_help=True,
        help="Prove, draw and try out workflow files; compare, publish and retire versions; move running tickets.",
    ),
    name="workflows",
)  # fmt: skip
app.add_typer(
    typer.Typer(cls=_commands({"verify": "checks"}), no_args_is_help=True, help="Prove that no history was altered."),
    name="audit",
)
app.add_typer(
    typer.Typer(
        cls=_commands({"add": "accounts"}),
        no_args_is_help=True,
        help="Machines that call the API (client credentials).",
    ),
    name="client",
)


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
