"""What-if: recorded tickets under a draft, told in tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from service.cli.house import in_house
from service.cli.surroundings import err, fail, needs_database, written
from service.core.charts import picture
from service.core.comparing import NAMED
from service.core.diagrams import Language
from service.core.errors import Invalid, JiebanError
from service.core.model import Actor, Role
from service.core.sources import read_draft, read_draft_calendar
from service.usecases import folders, simulation
from service.usecases.diagrams import clock_titles
from service.usecases.house import House

app = typer.Typer(rich_markup_mode="markdown")
OPERATOR = Actor("operator", Role.SUPERVISOR)
"""Who asks from the command line: whoever has the database has all of it."""


@app.command("simulate")
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
    settings = needs_database()
    try:
        wanted = simulation.Wanted(
            key, read_draft(draft, settings.workflows_dir) if draft else None, version,
            read_draft_calendar(calendar, settings.workflows_dir) if calendar else None,
            folders.read_draft_routing(routing) if routing else None, from_, to, department, check_all,
        )  # fmt: skip
        found, titles = in_house(lambda house: _simulated(house, wanted, lang), settings)
    except Invalid as error:
        fail("; ".join(f"{e.pointer.strip('/') or 'draft'}: {e.detail}" for e in error.errors) or error.detail)
    except (JiebanError, OSError) as error:
        fail(str(error))
    if svg is not None:
        written(svg, picture(found, titles, lang).svg())
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        _show_simulation(found, titles, lang)


async def _simulated(
    house: House, wanted: simulation.Wanted, language: Language
) -> tuple[dict[str, Any], dict[str, str]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("推演 replaying", total=None)
        found = await simulation.simulate(
            house, OPERATOR, wanted, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    return found, clock_titles(house, language)


SHOWN = 10
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
        for row in found["breaches"][what][:SHOWN]:
            name = titles.get(row["clock"], row["clock"])
            print(f"{word[lang]}: {row['ticket']['number']} {name} {row['due_at'][:16]} {row['department'] or ''}")
        more = sum(clock[what] for clock in found["breaches"]["clocks"]) - SHOWN
        if more > 0:
            zh, en = f"另有 {more} 件（--json 列出前 {NAMED} 件）", f"and {more} more (--json names the first {NAMED})"
            print(zh if lang == "zh" else en)
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
