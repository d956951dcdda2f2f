"""What a text is found by, and how alike two texts are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core import words


@pytest.mark.parametrize(
    ("one", "other"),
    [("發票", "发票"), ("ＤＮ２００", "dn200"), ("A  b\n c", "a b c"), ("㈱", "(株)"), ("企業\x00", "企业")],
)
def test_one_spelling_for_what_reads_the_same(one: str, other: str) -> None:
    assert words.fold(one) == words.fold(other)


@given(st.text("企业发票土地ab12 ，。", min_size=1, max_size=40), st.data())
def test_whatever_stands_in_a_text_asks_for_terms_that_the_text_has(text: str, data: st.DataObject) -> None:
    """A part of a text never asks for more than the text is indexed by, unless it cuts a short word of letters."""
    folded = words.fold(text)
    start = data.draw(st.integers(0, max(0, len(folded) - 1)))
    end = data.draw(st.integers(start, len(folded)))
    asked = words.wanted(folded[start:end])
    if asked is None:
        return
    han = [t for word in asked.words for t in words.terms("".join(c if c > "z" else " " for c in word))]
    assert set(han) <= words.terms(folded)


def test_terms_are_integers_of_the_database() -> None:
    found = words.terms(words.fold("企业诉求 QY202611230000421 DN200 abc"))
    assert all(-(2**31) <= term < 2**31 for term in found) and words.OPEN not in found


def test_numbers_tell_nothing_of_what_a_text_is_about() -> None:
    both = words.terms(words.fold("发票额度 QY202611230000421 91370100MA3C8K1D2X invoice"))
    assert words.told(both) == words.terms(words.fold("发票额度 invoice"))


@pytest.mark.parametrize(("text", "none"), [("", True), (" \n", True), ("企", False), ("，", False)])
def test_nothing_to_look_for_is_no_search(text: str, none: bool) -> None:
    assert (words.wanted(text) is None) == none


def test_a_search_has_so_many_words_and_no_more() -> None:
    asked = words.wanted(" ".join(str(n) * 5 for n in range(9)) + " " + " ".join(str(n) * 6 for n in range(9)))
    assert asked is not None and len(asked.words) == words.MOST_WORDS


def terms(text: str) -> frozenset[int]:
    return words.terms(words.fold(text))


def test_likeness_is_one_for_the_same_and_nothing_for_what_shares_no_word() -> None:
    road, loan = terms("厂门口道路积水严重，货车进出困难"), terms("想了解科技型企业贷款贴息")
    assert (
        words.likeness(road, road) == 1 and words.likeness(road, loan) == 0 and words.likeness(road, frozenset()) == 0
    )


def test_a_short_repeat_of_a_long_text_is_alike_and_a_very_short_one_is_not() -> None:
    long = terms(
        "厂门口经十路辅路积水严重，货车进出困难，已影响发货，请尽快疏通排水管道，联系过街道没有结果，希望尽快。" * 2
    )
    assert words.likeness(terms("厂门口经十路辅路积水严重，货车进出困难"), long) > 0.8
    assert words.likeness(terms("希望尽快"), long) < 0.2


@given(st.frozensets(st.integers(0, 40)), st.frozensets(st.integers(0, 40)))
def test_likeness_and_novelty_are_shares(one: frozenset[int], other: frozenset[int]) -> None:
    assert 0 <= words.likeness(one, other) <= 1 and words.likeness(one, other) == words.likeness(other, one)
    assert 0 <= words.novelty(one, other) <= 1


def test_an_excerpt_shows_the_first_of_the_words_where_it_stands() -> None:
    assert words.excerpt("東門外的雨水井蓋破損" + "一" * 50, ["井盖", "破损"], around=2) == "…雨水井蓋破損…"
    assert words.excerpt("说明", ["别的"]) is None
