"""What every command starts from: the settings, the console for people, and how a command says that it cannot go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from service.settings import Settings

err = Console(stderr=True, soft_wrap=True)
RUNNING = "running.json"
"""Where an `up` that runs says how to reach its servers, in its data folder."""


def read_settings() -> Settings:
    """The settings, or one line for each that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = [f"JIEBAN_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_input=False)]
        fail("\n".join(wrong))


def needs_database() -> Settings:
    """Settings with a database: the one that is set, or that of the `up` that runs on this data folder."""
    settings = read_settings()
    if settings.database_url:
        return settings
    try:
        running = json.loads((settings.data_dir / RUNNING).read_text())
    except (OSError, ValueError):
        fail(f"Nothing runs on {settings.data_dir}: start `python3 -m service up`, or set JIEBAN_DATABASE_URL.")
    return settings.model_copy(update=running)


def written(file: Path, text: str) -> None:
    """A file for `--out` or `--svg`; one line where it cannot be written."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}")


def fail(message: str) -> NoReturn:
    err.print(f"[red]error:[/] {escape(message)}", highlight=False)
    raise typer.Exit(2)
