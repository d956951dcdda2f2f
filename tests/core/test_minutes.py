"""Minutes: what must hold before somebody signs, the two texts, the chain that shows an alteration."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from service.core import minutes, papers
from service.core.errors import NotFound
from service.core.minutes import Attendance, Gate, Item, Person, Task
from service.core.precedents import grams
from tests.core.minutes_case import FIRST, SECOND, SECRET, document, land, waste

AT = datetime(2026, 11, 24, 2, tzinfo=UTC)


def pointers(*items: Item, **changes: Any) -> list[str]:
    return [f.pointer for f in minutes.findings(replace(document(*items), **changes))]


def test_complete_minutes_can_be_signed() -> None:
    assert minutes.findings(document()) == ()


@pytest.mark.parametrize(
    ("item", "pointer"),
    [
        (replace(waste(), state="listed", decision=None), "/items/0/decision"),
        (replace(land(), text=" "), "/items/0/text"),
        (replace(land(), conditions=""), "/items/0/conditions"),
        (replace(waste(), postponed_to=None), "/items/0/postponed_to"),
        (replace(land(), gates=(Gate("fair_competition", "failed", "没有依据"),)), "/items/0/gates"),
        (replace(land(), gates=(Gate("legality", "waived", ""),)), "/items/0/gates"),
        (replace(land(), votes={"for": ("历下区政府",)}), "/items/0/votes"),
        (replace(land(), measures=(Task("做完", None, "", "2026-12-15"),)), "/items/0/measures/0/owner"),
        (replace(land(), measures=(Task("做完", "tax", "市税务局", None),)), "/items/0/measures/0/due_on"),
        (replace(land(), measures=(Task("做完", "tax", "市税务局", "年底"),)), "/items/0/measures/0/due_on"),
    ],
)
def test_what_is_missing_stands_against_signing(item: Item, pointer: str) -> None:
    assert pointers(item) == [pointer]


def test_a_meeting_without_chair_quorum_or_attendance_is_not_signed() -> None:
    assert pointers(quorum=None) == ["/quorum"]
    assert pointers(quorum=False) == ["/quorum"]
    silent = Attendance(undecided=(Person("王丽"),))
    assert pointers(attendance=silent) == ["/attendance/chair", "/attendance"]
    assert pointers(items=()) == ["/items"]


@pytest.mark.parametrize(
    "told",
    [
        "请联系王科长13800001234",
        "电话0531-66601234",
        "身份证370102199003071234",
        "请发邮件到wang@example.com",
        f"与{waste().enterprise}相同",
    ],
)
def test_the_enterprises_text_holds_no_contact_and_no_other_enterprise(told: str) -> None:
    assert pointers(replace(land(), extract=told), waste()) == ["/items/0/extract"]


def test_a_measures_title_goes_to_the_enterprise_too_and_holds_no_secret() -> None:
    told = replace(land(), measures=(replace(land().measures[0], title=f"参照{waste().enterprise}办理"),))
    assert pointers(told, waste()) == ["/items/0/extract"]


def test_amounts_dates_and_docket_numbers_are_no_contacts() -> None:
    assert list(minutes.leaks("2026年12月15日前拨付1380万元，文号YS202611230000421-1，26.5亩", ())) == []


def test_the_extract_tells_one_enterprise_its_own_matter_and_nothing_else() -> None:
    plain = papers.extract(document(), FIRST).plain
    assert "有条件同意" in plain
    assert "统筹调剂26.5亩" in plain
    assert "供地后6个月内开工" in plain
    assert "2026年12月15日前完成" in plain
    secrets = [
        SECRET,
        "张建国",
        "孙伟",
        "回避",
        "表决",
        "不同意",
        "亩均税收",
        "市司法局",
        "免审",
        "历城区节余",
        "土地管理法",
    ]
    assert [word for word in secrets if word in plain] == []


def test_the_extract_says_what_was_worded_for_the_enterprise() -> None:
    worded = document(replace(land(), extract="你公司用地指标已列入计划"))
    assert "你公司用地指标已列入计划" in papers.extract(worded, FIRST).plain
    assert "统筹调剂" not in papers.extract(worded, FIRST).plain
    with pytest.raises(NotFound):
        papers.extract(worded, SECOND)


def test_the_internal_text_records_opinions_silence_votes_dissent_and_stakes() -> None:
    plain = papers.internal(document()).plain
    for said in (
        "市司法局：未反馈意见。",
        "市自然资源和规划局：同意。指标可由历城区节余部分调剂；依据《土地管理法》第二十三条。",
        "不同意1个单位（市财政局）",
        "市财政局：亩均税收标准偏低。",
        "历下区政府孙伟因其亲属在该企业任职回避。",
        "合法性免审（不属于重大行政决策）",
        "会议决定延期审议至2026年12月4日",
        "二、关于山东齐鲁生物医药有限公司危险废物转移审批事项",
        "请假：市司法局副局长 周敏（公务出差）",
    ):
        assert said in plain


def test_a_paper_is_marked_as_a_draft_until_it_has_its_number() -> None:
    assert papers.internal(document()).number == papers.DRAFT
    issued = replace(document(), number=minutes.number_of(2026, 1), issued_on="2026-11-24")
    assert papers.internal(issued).number == "〔2026〕1号"
    assert papers.internal(issued).dated == "2026年11月24日"


def test_a_correction_names_what_it_corrects() -> None:
    corrected = replace(document(), corrects={"number": "〔2026〕1号", "reason": "面积有误", "sha256": "", "id": ""})
    assert "〔2026〕1号会议纪要有误，现予更正：面积有误。" in papers.internal(corrected).plain
    assert "〔2026〕1号会议纪要摘录作废" in papers.extract(corrected, FIRST).plain


def test_the_stored_form_gives_the_same_document_back() -> None:
    assert minutes.of_body(minutes.to_body(document())) == document()


@pytest.mark.parametrize(("n", "said"), [(1, "一"), (10, "十"), (11, "十一"), (20, "二十"), (99, "九十九")])
def test_headings_are_numbered_in_chinese(n: int, said: str) -> None:
    assert papers.numeral(n) == said


# --- the chain -------------------------------------------------------------------------------------------------------


def chain(steps: tuple[str, ...] = ("draft", "check", "sign", "issue")) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A stored document with its versions."""
    rows: list[dict[str, Any]] = []
    for n, step in enumerate(steps, 1):
        number = "〔2026〕1号" if step == "issue" else None
        row = {
            "minutes_id": "m",
            "version": n,
            "step": step,
            "body": minutes.to_body(replace(document(), number=number)),
            "by": {"subject": "reviewer"},
            "at": AT,
            "prev": rows[-1]["sha256"] if rows else "",
        }
        rows.append({**row, "sha256": minutes.digest(row)})
    last = rows[-1]
    return {"state": minutes.STATES[last["step"]], "number": last["body"]["number"], "sha256": last["sha256"]}, rows


def test_what_was_written_verifies_at_every_step() -> None:
    for count in range(1, 5):
        assert minutes.verify(*chain(minutes.STEPS[:count])) is None


def test_an_altered_word_is_found_also_when_its_own_hash_was_renewed() -> None:
    head, rows = chain()
    rows[3]["body"]["items"][0]["text"] = "统筹调剂265亩用地指标"
    assert minutes.verify(head, rows) == "version 4 (issue) is not what was written: its hash differs"
    rows[3]["sha256"] = minutes.digest(rows[3])
    assert minutes.verify(head, rows) == "its last version is missing or another one"
    rows[1]["body"]["title"] = "另一份"
    rows[1]["sha256"] = minutes.digest(rows[1])
    assert minutes.verify(head, rows) == "version 3 (sign) does not follow version 2"


def test_a_missing_version_another_state_and_another_number_are_found() -> None:
    head, rows = chain()
    assert minutes.verify(head, rows[:-1]) == "its last version is missing or another one"
    assert minutes.verify(head, rows[1:]) == "version 2 (check) does not follow version 0"
    assert minutes.verify({**head, "state": "signed"}, rows) == "it says signed, its last version issued"
    assert minutes.verify({**head, "number": "〔2026〕2号"}, rows) == "its number is not the one of its text"


def test_gaps_and_breaks_of_a_series_are_found() -> None:
    first = {"serial": 1, "number": "〔2026〕1号", "sha256": "a", "follows": ""}
    second = {"serial": 2, "number": "〔2026〕2号", "sha256": "b", "follows": "a"}
    third = {"serial": 3, "number": "〔2026〕3号", "sha256": "c", "follows": "b"}
    assert list(minutes.verify_series([first, second, third])) == []
    assert list(minutes.verify_series([first, third])) == [("〔2026〕3号", "number 2 of the year is missing")]
    assert [n for n, _ in minutes.verify_series([{**first, "sha256": "z"}, second])] == ["〔2026〕2号"]


# --- precedents --------------------------------------------------------------------------------------------------------


def test_a_text_is_known_by_pairs_of_characters_and_whole_words() -> None:
    assert grams("用地指标，26.5亩 ISO9001；用地") == ["用地", "地指", "指标", "26", "5", "亩", "iso9001"]
    assert grams("，。 ") == []
