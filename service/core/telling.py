"""An explanation (time rule T20) as a text for people, in Chinese or English: one line for each day, exact sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from service.core.budgets import HOUR_US, MINUTE_US, SECOND_US

Texts = Mapping[str, str]
ZH: Texts = {
    "natural_hours": "自然小时", "working_hours": "工作小时", "natural_days": "自然日", "working_days": "工作日",
    "clock": "时限：{name}（第{cycle}轮）", "due": "到期：{at}", "provisional": "（暂定：该年放假安排尚未发布）",
    "policy": "规则：流程 {key} 第{version}版，依据 {rule}", "tried": "  先行比对而未适用：{key}（{rule}）",
    "anchor": "起算：{at}（{name}）", "budget": "期限：{amount}", "extended": "延期：{amount}，{by} 于 {at} 批准，理由 {ground}",
    "calendar": "日历：{key} 第{version}版", "segment": "不计时：{start} 至 {end}（{kind}）{reason}",
    "changed": "重新计算：{at}，{reason}；原到期 {before}，现到期 {after}",
    "counted": "{date} {weekday} 计入 {amount}{cited}", "not_counted": "{date} {weekday} 不计（{reason}）{cited}",
    "stretch": "自 {start} 起计 {amount}：", "sum": "合计 {sum}，等于期限与延期之和", "open": "至今",
    "anchor_day": "起算当日", "off": "非工作日", "outside_hours": "非办公时段", "moved_on": "届满日顺延",
    "breached": "已逾期：{at}", "ended": "已结束：{at}", "days": "{n} 日", "remainder": "{date} 至 {until} 共计 {amount}",
    "mon": "周一", "tue": "周二", "wed": "周三", "thu": "周四", "fri": "周五", "sat": "周六", "sun": "周日",
}  # fmt: skip
EN: Texts = {
    "natural_hours": "natural hours", "working_hours": "working hours", "natural_days": "natural days",
    "working_days": "working days",
    "clock": "Clock: {name} (cycle {cycle})", "due": "Due: {at}",
    "provisional": " (provisional: the holidays of that year are not published)",
    "policy": "Policy: workflow {key} version {version}, by {rule}", "tried": "  tried before it and not fitting: {key} ({rule})",
    "anchor": "Counted from: {at} ({name})", "budget": "Budget: {amount}",
    "extended": "Extension: {amount}, granted by {by} at {at}, ground {ground}",
    "calendar": "Calendar: {key} version {version}", "segment": "Not counted: {start} to {end} ({kind}) {reason}",
    "changed": "Made anew: {at}, {reason}; was due {before}, is due {after}",
    "counted": "{date} {weekday} counted {amount}{cited}", "not_counted": "{date} {weekday} not counted ({reason}){cited}",
    "stretch": "From {start} on, {amount}:", "sum": "Sum {sum}: the budget and its extensions exactly", "open": "now",
    "anchor_day": "the day it is counted from", "off": "no working day", "outside_hours": "outside office hours",
    "moved_on": "the last day is moved on", "breached": "Breached: {at}", "ended": "Ended: {at}", "days": "{n} day(s)",
    "remainder": "{date} to {until} counted {amount}",
    "mon": "Mon", "tue": "Tue", "wed": "Wed", "thu": "Thu", "fri": "Fri", "sat": "Sat", "sun": "Sun",
}  # fmt: skip
LANGUAGES: Mapping[str, Texts] = {"zh": ZH, "en": EN}


def tell(explanation: Mapping[str, Any], language: str) -> str:
    """The text of what `clocks.explain` or `Calendar.explain` gave (localised or not), ending in a line feed."""
    return "\n".join(_lines(explanation, LANGUAGES[language])) + "\n"


def _lines(e: Mapping[str, Any], t: Texts) -> Iterator[str]:
    if "clock" in e:
        yield t["clock"].format(**e["clock"])
    yield t["due"].format(at=_at(e["due_at"])) + (t["provisional"] if e["provisional"] else "")
    yield from _policy(e.get("policy"), t)
    anchor = e["anchor"] if isinstance(e["anchor"], Mapping) else {"at": e["anchor"], "name": t[e["measure"]]}
    yield t["anchor"].format(at=_at(anchor["at"]), name=anchor["name"])
    yield t["budget"].format(amount=f"{e['budget']} {t[e['measure']]}")
    for one in e.get("extensions", ()):
        yield t["extended"].format(**{**one, "at": _at(one["at"])})
    yield t["calendar"].format(**e["calendar"])
    for one in e.get("segments", ()):
        end = one["to"] or one["until"]
        yield t["segment"].format(
            start=_at(one["from"]), end=_at(end) if end else t["open"], kind=one["kind"], reason=one["reason"]
        )
    for one in e.get("changes", ()):
        before, after = (_at(one[side]["due_at"]) for side in ("before", "after"))
        yield t["changed"].format(at=_at(one["at"]), reason=one["reason"], before=before, after=after)
    yield from _days(e, t)
    yield t["sum"].format(sum=_sum(e, t))
    for name in ("breached", "ended"):
        if e.get(f"{name}_at"):
            yield t[name].format(at=_at(e[f"{name}_at"]))


def _policy(policy: Mapping[str, Any] | None, t: Texts) -> Iterator[str]:
    if policy is None:
        return
    yield t["policy"].format(key=policy["workflow"], version=policy["version"], rule=policy.get("rule") or "-")
    for one in policy.get("tried", ()):
        yield t["tried"].format(key=one["workflow"], rule=one["rule"])


def _days(e: Mapping[str, Any], t: Texts) -> Iterator[str]:
    unit = e["measure"]
    if "counted" not in e:
        yield from (_day(row, unit, t) for row in e["days"])
        return
    for part in e["counted"]:
        yield t["stretch"].format(start=_at(part["from"]), amount=_amount(part["amount"], unit, t))
        yield from ("  " + _day(row, unit, t) for row in part["days"])


def _day(row: Mapping[str, Any], unit: str, t: Texts) -> str:
    amount = _amount(row["amount"], unit, t)
    if row["rule"] == "remainder":
        return t["remainder"].format(date=row["date"], until=row["until"], amount=amount)
    cited = "".join(f" · {row[name]}" for name in ("name", "notice") if row[name])
    where = {"date": row["date"], "weekday": t[row["weekday"]], "cited": cited}
    if row["counted"]:
        return t["counted"].format(amount=amount, **where)
    return t["not_counted"].format(reason=t[row["reason"]], **where)


def _amount(amount: int, unit: str, t: Texts) -> str:
    """Whole days, or hours to the microsecond: `2:30:00`, `0:00:00.5`."""
    if unit.endswith("days"):
        return t["days"].format(n=amount)
    hours, rest = divmod(amount, HOUR_US)
    minutes, rest = divmod(rest, MINUTE_US)
    seconds, fraction = divmod(rest, SECOND_US)
    tail = f".{fraction:06d}".rstrip("0") if fraction else ""
    return f"{hours}:{minutes:02d}:{seconds:02d}{tail}"


def _sum(e: Mapping[str, Any], t: Texts) -> str:
    return e["sum"] if isinstance(e["sum"], str) else _amount(e["sum"], e["measure"], t)


def _at(instant: datetime | str) -> str:
    return instant if isinstance(instant, str) else instant.isoformat()
