"""What the terminal shows: progress, the tables at the end, links to look further, and what went wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from service.demo.city import DAY, City
from service.demo.errors import DemoFailed
from service.demo.http import Api

WIDTH = 132
DOMAINS = {
    "project_landing": "landing 项目落地",
    "business_development": "development 经营发展",
    "government_service": "services 政府服务",
    "complaint_report": "complaints 投诉举报",
    "consultation": "consultation 咨询求助",
}
COLUMNS = (
    ("on_time_sign_rate", "按时签收", "signed"),
    ("response_rate", "响应", "contacted"),
    ("on_time_completion_rate", "按时办结", "on time"),
    ("late_completion_rate", "逾期办结", "late"),
    ("overdue_rate", "超期未结", "overdue"),
    ("satisfaction_rate", "满意", "satisfied"),
    ("resolution_rate", "解决", "solved"),
    ("return_rate", "退单", "returned"),
    ("extension_rate", "延期", "extended"),
)
TOP = 15


def terminal() -> Console:
    """The console to write to; where the output is kept in a file, wide enough for the tables."""
    return Console(width=None if Console().is_terminal else WIDTH, highlight=False)


# --- progress


@contextmanager
def progress(console: Console, city: City, weeks: int) -> Iterator[Callable[[], None]]:
    """Two bars on a terminal, else a line for each simulated week."""
    console.print(
        f"{city.requests} requests 诉求, {weeks} simulated weeks 周 from {city.days[0]} to "
        f"{city.days[city.total_days - 1]}, {city.clients} clients"
    )
    if not console.is_terminal:
        yield lambda: _line(console, city)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[told]}"), console=console) as bars:
        posting = bars.add_task("posted 受理", total=city.requests, told="")
        living = bars.add_task("days 工作日", total=city.total_days, told="")
        yield lambda: _bars(bars, posting, living, city)


def _bars(bars: Progress, posting: TaskID, living: TaskID, city: City) -> None:
    opened, closed, docket = city.count()
    told = f"{city.days[city.step // DAY]}  open 在办 {opened}  closed 办结 {closed}  docket 议题 {docket}"
    bars.update(posting, completed=city.posted)
    bars.update(living, completed=(city.step + 1) // DAY, told=told)


def _line(console: Console, city: City) -> None:
    day, slot = divmod(city.step, DAY)
    start = city.days[0]
    week = (city.days[day] - start).days // 7
    last = day + 1 == city.total_days or (city.days[day + 1] - start).days // 7 > week
    if slot == DAY - 1 and last:
        opened, closed, docket = city.count()
        console.print(f"week {week + 1:2d}  {city.days[day]}  posted 受理 {city.posted:5d}  open 在办 {opened:5d}  "
                      f"closed 办结 {closed:5d}  docket 议题 {docket:3d}")  # fmt: skip


# --- the end


async def tables(console: Console, api: Api, city: City, weeks: int) -> None:
    begin = str(city.days[0]) if weeks > 12 else None
    params = {"from": begin} if begin else {}
    by_unit = await api.get("supervisor", "/v1/reports/sla", group_by="department", **params)
    by_domain = await api.get("supervisor", "/v1/reports/sla", group_by="domain", **params)
    if by_unit is not None:
        told = {code: unit["title"]["zh"] for code, unit in city.units.items()}
        console.print(_sla("SLA by department 各单位办理情况", "department", by_unit, told, console.width))
    if by_domain is not None:
        console.print(_sla("SLA by domain 各类诉求办理情况", "domain", by_domain, DOMAINS, console.width))
    reviews = await api.items("reviewer", "/v1/reviews")
    console.print(_docket_table(reviews))
    console.print(_routing(city))


def _sla(title: str, key: str, report: Mapping[str, Any], names: Mapping[str, str], width: int) -> Table:
    """The first columns are the most telling ones; a narrow terminal shows fewer."""
    columns = COLUMNS[: max(3, (width - 38) // 11)]
    table = Table(title=title, title_justify="left")
    table.add_column(f"{key}\n{'单位' if key == 'department' else '类别'}", overflow="fold")
    table.add_column("due\n应办结", justify="right")
    for _, zh, en in columns:
        table.add_column(f"{en}\n{zh}", justify="right")

    def row(name: str, figures: Mapping[str, Any], style: str | None = None) -> None:
        table.add_row(name, str(_due(figures)), *(_percent(figures[c[0]]["value"]) for c in columns), style=style)

    groups = sorted(report["groups"], key=lambda g: (-_due(g["figures"]), str(g["key"][key])))
    for group in groups[:TOP]:
        code = group["key"][key]
        row(names.get(code, code or "未派单 none"), group["figures"])
    if len(groups) > TOP:
        table.add_row(f"… {len(groups) - TOP} more 其他")
    table.add_section()
    row("total 合计", report["total"]["figures"], "bold")
    return table


def _due(figures: Mapping[str, Any]) -> int:
    return int(figures["on_time_completion_rate"]["denominator"])


def _percent(value: float | None) -> str:
    """Floored, as the report itself: 99.99 % is not all."""
    return "–" if value is None else f"{math.floor(value * 1000 + 1e-6) / 10:.1f}%"


def _docket_table(reviews: Sequence[Mapping[str, Any]]) -> Table:
    states = Counter(r["state"] for r in reviews)
    told = ", ".join(f"{state} {n}" for state, n in states.most_common()) or "empty 无议题"
    title = f"Docket: one matter, one discussion 一事一议\n{told}"
    table = Table(title=title, title_justify="left")
    for name in ("number\n议题", "ticket\n工单", "state\n状态", "grounds\n事由", "measures\n议定事项"):
        table.add_column(name)
    busy = sorted(reviews, key=lambda r: (r["state"] not in {"decided", "completed"}, not r["measures"]))
    for r in busy[:TOP]:
        done = sum(m["state"] in {"struck_off", "waived"} for m in r["measures"])
        measures = f"{done}/{len(r['measures'])}" if r["measures"] else "–"
        table.add_row(r["number"], r["ticket"]["number"], r["state"], ", ".join(r["grounds"]), measures)
    if len(reviews) > TOP:
        table.add_row(f"… {len(reviews) - TOP} more", "", "", "", "")
    return table


def _routing(city: City) -> Table:
    by_rule = len(city.cases) - city.leads[""]
    table = Table(title="Routing of this run 派单", title_justify="left")
    table.add_column("what 项目")
    table.add_column("tickets 工单", justify="right")
    table.add_column("share 占比", justify="right")

    def row(name: str, n: int) -> None:
        table.add_row(name, str(n), _percent(n / len(city.cases) if city.cases else None))

    row("requests that became tickets 受理", len(city.cases))
    row("lead found by a rule 规则派单", by_rule)
    row("lead chosen by the dispatcher 人工派单", city.leads[""])
    table.add_section()
    for code, n in city.leads.most_common(9):
        if code:
            row(f"lead 主办: {city.units[code]['title']['zh']}", n)
    table.add_section()
    for code, n in city.warnings.most_common():
        row(f"warning 提示: {code}", n)
    return table


async def links(console: Console, api: Api, city: City, url: str) -> None:
    opened, closed, docket = city.count()
    console.print(f"[bold]{city.requests} requests 诉求 → {len(city.cases)} tickets 工单[/]: {closed} closed 办结, "
                  f"{opened} open 在办, {docket} on the docket 议题; {api.calls} calls of the API")  # fmt: skip
    case = min(
        city.cases.values(),
        key=lambda c: (c.mood not in {"pause", "extension"}, c.stage != "closed", c.number),
        default=None,
    )
    lines = [("API 接口文档", f"{url}/docs")]
    if case is not None:
        ticket = await api.get("supervisor", f"/v1/tickets/{case.id}")
        lines.append(("a ticket 工单", f"{url}/v1/tickets/{case.number}"))
        resolve = next((c for c in (ticket or {}).get("clocks", ()) if c["name"] == "resolve"), None)
        if resolve is not None:
            path = f"/v1/tickets/{case.number}/clocks/{resolve['id']}/explanation"
            lines.append(("why it was due then 时限说明", f"{url}{path}"))
    lines.append(("report as CSV 报表", f"{url}/v1/reports/sla?group_by=department&format=csv"))
    lines.append(("a token 令牌", "python3 -m service token --as supervisor"))
    lines.append(("for example 例", f'curl -H "Authorization: Bearer $(python3 -m service token --as supervisor)" '
                                   f"{url}/v1/reviews"))  # fmt: skip
    for name, link in lines:
        console.print(f"  {name}:  {escape(link)}", soft_wrap=True)


def verdict(console: Console, api: Api, city: City) -> None:
    """What was not as it should be. Being overtaken is part of the play; anything else is a fault."""
    if api.overtaken:
        console.print(f"[dim]{api.overtaken.total()} acts came too late (409 or 403), as among people:[/]")
        for text, n in api.overtaken.most_common(5):
            console.print(f"  [dim]{n} × {escape(text)}[/]", soft_wrap=True)
    if api.unexpected:
        for text, n in api.unexpected.most_common(20):
            console.print(f"  [red]{n} ×[/] {escape(text)}", soft_wrap=True)
        raise DemoFailed(
            f"{api.unexpected.total()} unexpected answers, listed above ({city.refused} requests were refused)"
        )
