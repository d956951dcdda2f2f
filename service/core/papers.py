"""The two texts of minutes, block by block, as Chinese offices write them; how they look is `integrations.documents`.

The internal text holds everything. The extract for an enterprise holds its own matter only, and of that no opinion of any
unit, no vote, no dissent, nobody who stood aside, and no other enterprise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from service.core.errors import NotFound
from service.core.minutes import Item, Minutes, Person, Task

DECISIONS: Mapping[str, str] = {
    "approve": "会议同意该事项",
    "approve_with_conditions": "会议有条件同意该事项",
    "refuse": "会议不予同意该事项",
    "postpone": "会议决定延期审议",
    "refer_up": "会议决定提请上级会议研究",
    "refer_out": "会议决定提请有权机关研究",
}
POSITIONS: Mapping[str | None, str] = {
    "agree": "同意",
    "disagree": "不同意",
    "condition": "有条件同意",
    None: "未反馈意见",
}
GATES: Mapping[str, str] = {
    "competence": "职权",
    "fair_competition": "公平竞争",
    "legality": "合法性",
    "budget": "预算",
    "confidentiality": "保密",
    "recusal": "回避",
}
RESULTS: Mapping[str, str] = {"requested": "未完成", "passed": "通过", "failed": "未通过", "waived": "免审"}
DRAFT = "（稿）"
_DIGITS = "〇一二三四五六七八九"


@dataclass(frozen=True, slots=True)
class Block:
    """`kind`: h1 (一、黑体), h2 (（一）楷体), p (仿宋). Text without markup."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Paper:
    """What a renderer draws. `people`: 出席, 请假, 列席 with those it names; `copies`: to whom it is sent (分送)."""

    mark: str
    number: str
    office: str
    dated: str
    title: str
    blocks: tuple[Block, ...]
    people: tuple[tuple[str, tuple[str, ...]], ...] = ()
    signed: str = ""
    copies: str = ""

    @property
    def plain(self) -> str:
        """The same as plain text, a line for each block."""
        head = [self.mark, self.number, self.title]
        tail = [f"{label}：{'；'.join(names)}" for label, names in self.people]
        tail += [f"{label}：{text}" for label, text in (("签发", self.signed), ("分送", self.copies)) if text]
        return "\n".join([line for line in head if line] + [b.text for b in self.blocks] + tail)


def internal(document: Minutes) -> Paper:
    """The whole text, for those who were there and those who carry it out."""
    blocks = [Block("p", _opening(document))]
    if document.corrects:
        told = f"{document.corrects['number']}会议纪要有误，现予更正：{document.corrects['reason']}。更正后全文如下。"
        blocks.insert(0, Block("p", told))
    for n, item in enumerate(document.items, 1):
        blocks.append(Block("h1", f"{numeral(n)}、{_heading(item)}"))
        blocks += _whole(item)
    attendance = document.attendance
    there = [p for p in (attendance.chair, *attendance.present) if p]
    recorder = [attendance.recorder] if attendance.recorder else []
    people = (("出席", there), ("请假", attendance.absent), ("列席", attendance.observers), ("记录", recorder))
    units = [p.unit for _, who in people for p in who]
    units += [unit for i in document.items for t in i.measures for unit in (t.owner_title, *t.co_units)]
    copies = "，".join(dict.fromkeys(unit for unit in units if unit))
    return Paper(
        mark=document.mark,
        number=document.number or DRAFT,
        office=document.office,
        dated=_day(document.issued_on) if document.issued_on else "",
        title=document.title,
        blocks=tuple(blocks),
        people=tuple((label, tuple(_person(p) for p in who)) for label, who in people if who),
        signed=(document.signature or {}).get("name", ""),
        copies=f"{copies}。" if copies else "",
    )


def extract(document: Minutes, review_id: str) -> Paper:
    """What the enterprise of one matter gets. Raises NotFound."""
    item = next((i for i in document.items if i.review_id == review_id), None)
    if item is None:
        raise NotFound("This meeting did not deal with that review.")
    when = _day(document.held_at)
    opening = (
        f"{when}，{document.office}召开会议，研究了{item.enterprise}提出的“{item.subject}”事项。现将议定意见摘录如下："
    )
    blocks = [Block("p", opening)]
    if document.corrects:
        blocks.insert(0, Block("p", f"此前送达的{document.corrects['number']}会议纪要摘录作废，以本摘录为准。"))
    blocks += [Block("h1", "一、议定意见"), Block("p", _decided(item, item.extract or item.text))]
    tasks = [t for t in item.measures if t.mandatory or t.deliverable]
    if tasks:
        blocks.append(Block("h1", "二、落实安排"))
        blocks += [Block("p", f"{n}.{_task(t, inside=False)}") for n, t in enumerate(tasks, 1)]
    blocks.append(Block("p", "对落实情况有疑问的，可向12345热线（企业版）查询。"))
    return Paper(
        mark=document.mark,
        number=f"{document.number}摘录" if document.number else DRAFT,
        office=document.office,
        dated=_day(document.issued_on) if document.issued_on else "",
        title=f"关于{item.subject}的会议纪要（摘录）",
        blocks=tuple(blocks),
        copies=f"{item.enterprise}。",
    )


def _whole(item: Item) -> Iterator[Block]:
    if item.asked:
        yield Block("p", f"{item.enterprise}提出：{_end(item.asked)}")
    heads = iter(range(1, 10))

    def head(text: str) -> Block:
        return Block("h2", f"（{numeral(next(heads))}）{text}")

    if item.considered or item.stances or item.gates:
        yield head("审议情况")
        if item.considered:
            yield Block("p", _end(item.considered))
        for stance in item.stances:
            said = f"{stance.unit}：{POSITIONS[stance.position]}"
            more = "；".join(t for t in (stance.text, f"依据{stance.legal_basis}" if stance.legal_basis else "") if t)
            yield Block("p", _end(f"{said}。{more}" if more else said))
        if item.gates:
            yield Block("p", "前置审查：" + _end("；".join(_gate(g.name, g.result, g.ground) for g in item.gates)))
    yield head("议定意见")
    yield Block("p", _decided(item, item.text))
    if any(item.votes.values()):
        yield Block("p", f"表决情况：{'，'.join(_counted(item))}。")
    if item.measures:
        yield head("议定事项")
        for n, task in enumerate(item.measures, 1):
            yield Block("p", f"{n}.{_task(task, inside=True)}")
    if item.dissents:
        yield head("不同意见")
        for dissent in item.dissents:
            yield Block("p", _end(f"{dissent.get('unit', '')}：{dissent.get('text', '')}"))
    if item.recused:
        yield head("回避情况")
        for person in item.recused:
            who = "".join(person.get(k) or "" for k in ("unit", "name"))
            yield Block("p", _end(f"{who}因{person.get('reason') or '利害关系'}回避"))


def _counted(item: Item) -> Iterator[str]:
    """How many units voted how; those that did not agree by name."""
    for label, key in (("同意", "for"), ("不同意", "against"), ("弃权", "abstain")):
        units = item.votes.get(key, ())
        names = f"（{'、'.join(units)}）" if units and key != "for" else ""
        yield f"{label}{len(units)}个单位{names}"


def _heading(item: Item) -> str:
    return f"关于{item.enterprise}{item.subject}事项（{item.number}）"


def _opening(document: Minutes) -> str:
    if document.opening:
        return document.opening
    chair = document.attendance.chair
    where = f"在{document.place}" if document.place else ""
    led = f"{chair.unit}{chair.position}{chair.name}{where}主持召开会议" if chair else f"{where}召开会议"
    return f"{_day(document.held_at)}，{led}，研究“一事一议”事项{len(document.items)}项。现纪要如下："


def _decided(item: Item, text: str) -> str:
    said = DECISIONS.get(item.decision or "", "该议题撤回，不作决定" if item.state == "withdrawn" else "")
    if item.decision == "postpone" and item.postponed_to:
        said = f"{said}至{_day(item.postponed_to)}"
    parts = [p for p in (said, text) if p]
    whole = _end("：".join(parts))
    return whole + (f"条件：{_end(item.conditions)}" if item.conditions else "")


def _task(task: Task, *, inside: bool) -> str:
    with_whom = f"，{'、'.join(task.co_units)}配合" if task.co_units else ""
    due = f"，{_day(task.due_on)}前完成" if task.due_on else ""
    more = [f"成果形式：{task.deliverable}"] if task.deliverable else []
    if inside and task.quantity:
        more.append(f"要素保障：{task.quantity}")
    return _end(f"{task.title}。由{task.owner_title}负责{with_whom}{due}{'。' + '；'.join(more) if more else ''}")


def _gate(name: str, result: str, ground: str) -> str:
    return f"{GATES.get(name, name)}{RESULTS.get(result, result)}{f'（{ground}）' if ground else ''}"


def _person(person: Person) -> str:
    named = f"{person.unit}{person.position}{' ' if person.unit or person.position else ''}{person.name}"
    named += f"（{person.substitute}代）" if person.substitute else ""
    return named + (f"（{person.reason}）" if person.reason else "")


def _end(text: str) -> str:
    """With the full stop of a sentence, once."""
    text = text.strip()
    return text if text.endswith(("。", "！", "？", "：")) else f"{text.rstrip('；，.;,')}。"


def _day(text: str) -> str:
    """2026年11月6日 (GB/T 9704-2012, 7.3.5: Arabic numerals, no leading zeros)."""
    day = date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text).date()
    return f"{day.year}年{day.month}月{day.day}日"


def numeral(n: int) -> str:
    """1 to 99 as 一 to 九十九."""
    tens, ones = divmod(n, 10)
    return ("" if tens == 0 else "十" if tens == 1 else f"{_DIGITS[tens]}十") + (_DIGITS[ones] if ones else "")
