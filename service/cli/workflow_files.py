"""Workflow files on disk: proved, drawn, described. No database is needed, and none is imported: a proof is told at once."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.surroundings import fail, read_settings, written
from service.core import diagrams
from service.core.diagrams import Language
from service.core.errors import DefinitionError
from service.core.language import json_schema
from service.core.sources import read_workflows
from service.usecases import folders

app = typer.Typer(rich_markup_mode="markdown")


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


@app.command("check")
def workflows_check(
    folder: Annotated[Path | None, typer.Argument(help="default: JIEBAN_WORKFLOWS_DIR")] = None,
) -> None:
    """Read every file of a workflows folder and **prove each workflow**: 逐一证明每个流程。

    For each: how many configurations were explored (every stage, clock, request and review that a ticket can come to) and
    the longest lawful life of a ticket. For each fault: file and line, what is wrong, what was expected, and the shortest
    way in which a ticket meets it.

    Exit code: **0** all hold, **1** there is a fault, **2** it could not be checked: no such folder, or ended from outside.
    """
    where = folder or read_settings().workflows_dir
    if not where.is_dir():
        fail(f"there is no folder {where}; set JIEBAN_WORKFLOWS_DIR")
    try:
        began = time.perf_counter()
        with _no_collecting():
            checked = folders.check_folder(where, os.cpu_count() or 1)
        seconds = time.perf_counter() - began
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
        read, _, _ = folders.read_unproved(where, {one.source.key: one.source for one in checked})
        folders.check_covered({one.source.key: one.source.flow for one in checked if not one.source.abstract})
    except DefinitionError as error:
        print(error)
        raise typer.Exit(1) from None
    except BrokenProcessPool:
        fail("a process that proves was ended from outside before it was done (for want of memory?); run it again")
    print(f"ok 全部通过: {len(read.workflows)} workflows proved in {seconds:.1f} s, {len(read.calendars)} calendars, "
          f"{len(read.routing['rules'])} routing rules, {len(read.matters['matters'])} matters, "
          f"{len(read.departments['departments'])} departments")  # fmt: skip


@app.command("draw")
def workflows_draw(
    key: Annotated[str, typer.Argument(help="a workflow of the folder")],
    folder: Annotated[Path | None, typer.Option(help="default: JIEBAN_WORKFLOWS_DIR")] = None,
    format_: Annotated[Literal["svg", "mermaid"], typer.Option("--format")] = "svg",
    lang: Annotated[Language, typer.Option(help="language of the labels")] = "zh",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="a file; default: standard output")] = None,
) -> None:
    """Draw a workflow of the folder: its stages with their clocks, and what leads from one to the next."""
    try:
        flows = read_workflows(folder or read_settings().workflows_dir)
        if key not in flows:
            fail(f"there is no workflow {key!r}; there are: {', '.join(sorted(flows))}")
        graph = diagrams.graph_of(flows[key].flow, lang)
    except DefinitionError as error:
        fail(str(error))
    told = diagrams.draw(graph).svg() if format_ == "svg" else diagrams.mermaid(graph)
    if out is None:
        print(told, end="")
    else:
        written(out, told)


@app.command("schema")
def workflows_schema() -> None:
    """Print the JSON Schema of workflow files, with which editors complete and check them (流程文件的 JSON Schema)."""
    print(json.dumps(json_schema(), ensure_ascii=False, indent=2))
