"""The files: form of GB/T 9704-2012, every character from an embedded font, text that is never markup."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from zipfile import ZipFile

import pypdfium2
import pytest
from docx import Document
from docx.oxml.ns import qn
from docx.shared import Mm

from service.core import papers
from service.integrations import documents
from tests.core.minutes_case import FIRST, document, land

AT = datetime(2026, 11, 24, 2, 0, 0, 123456, tzinfo=UTC)
ISSUED = replace(document(), number="〔2026〕1号", issued_on="2026-11-24", signature={"name": "张建国"})
MM = 72 / 25.4


def pages(body: bytes) -> list[str]:
    pdf = pypdfium2.PdfDocument(body)
    return [page.get_textpage().get_text_range().replace("\r\n", "") for page in pdf]


def plain(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("paper", [papers.internal(ISSUED), papers.extract(ISSUED, FIRST)], ids=["internal", "extract"])
def test_a_pdf_holds_the_whole_text_on_a4(paper: papers.Paper) -> None:
    body = documents.pdf(paper, AT)
    told = plain("".join(pages(body)))
    assert paper.number in told
    assert [b.text for b in paper.blocks if plain(b.text)[:12] not in told] == []
    for page in pypdfium2.PdfDocument(body):
        assert [round(side / MM) for side in page.get_size()] == [210, 297]


def test_the_same_paper_gives_the_same_bytes() -> None:
    assert documents.pdf(papers.internal(ISSUED), AT) == documents.pdf(papers.internal(ISSUED), AT)


def test_every_font_is_embedded_and_rare_names_are_drawn() -> None:
    body = documents.pdf(papers.internal(ISSUED), AT)
    fonts = set()
    for page in pypdfium2.PdfDocument(body):
        for item in page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_TEXT]):
            font = pypdfium2.raw.FPDFTextObj_GetFont(item.raw)
            assert pypdfium2.raw.FPDFFont_GetIsEmbedded(font) == 1
            size = pypdfium2.raw.FPDFFont_GetBaseFontName(font, None, 0)
            name = (pypdfium2.raw.c_char * size)()
            pypdfium2.raw.FPDFFont_GetBaseFontName(font, name, size)
            fonts.add(bytes(name).rstrip(b"\x00").decode().partition("+")[2])
    assert {f.partition("-")[0] for f in fonts} == {
        "FandolFang", "NotoSerifSC", "NotoSansSC", "JiebanKai", "JiebanRest"
    }  # fmt: skip
    assert "刘昇堃" in plain("".join(pages(body)))
    assert "李喆" in plain("".join(pages(body)))


def test_a_page_has_22_lines_of_28_characters_and_its_number() -> None:
    long = replace(ISSUED, items=(replace(land(), considered="会议认为该事项符合产业导向应当予以支持" * 80),))
    pdf = pypdfium2.PdfDocument(documents.pdf(papers.internal(long), AT))
    text = pdf[1].get_textpage()
    lines = text.get_text_range().split("\r\n")
    assert lines[-1].strip() == "— 2 —" or lines[0].strip() == "— 2 —"
    full = [line for line in lines if len(line) == 28]
    assert len(full) == 22
    heights = {round(text.get_rect(n)[3]) for n in range(text.count_rects())}
    assert max(heights) / MM < 297 - 37 + 1


def test_what_looks_like_markup_is_text() -> None:
    wild = '#import "@preview/x" *粗* $x$ _a_ [b] <c> \\ // 注 #read("/etc/passwd")'
    paper = papers.internal(replace(ISSUED, opening=wild))
    assert plain(wild) in plain("".join(pages(documents.pdf(paper, AT))))
    assert wild in documents_text(documents.docx(paper, AT))


def test_every_character_of_gbk_is_drawn() -> None:
    pairs = (bytes((high, low)).decode("gbk", "ignore") for high in range(0x81, 0xFF) for low in range(0x40, 0xFF))
    everything = "".join(c for c in pairs if len(c) == 1 and "\u3400" <= c <= "\u9fff")
    assert len(everything) == 20902
    # a PDF/A is refused by the compiler when a glyph is missing
    told = "".join(pages(documents.pdf(papers.internal(replace(ISSUED, opening=everything)), AT)))
    assert sorted(set(everything) - set(told)) == []
    assert documents.LACKING not in told


def test_what_no_font_has_is_shown_as_lacking_and_control_characters_are_left_out() -> None:
    paper = papers.internal(replace(ISSUED, opening="甲𠮷乙🙂丙\u0e01\x0b\u200b丁\n戊"))
    assert "甲〓乙〓丙〓丁戊" in plain("".join(pages(documents.pdf(paper, AT))))
    assert "甲𠮷乙🙂丙\u0e01丁 戊" in documents_text(documents.docx(paper, AT))


def documents_text(body: bytes) -> str:
    return "\n".join(p.text for p in Document(BytesIO(body)).paragraphs)


def test_a_word_document_has_the_page_fonts_and_numbers_of_the_standard() -> None:
    made = Document(BytesIO(documents.docx(papers.internal(ISSUED), AT)))
    section = made.sections[0]
    sizes = (section.page_width, section.page_height, section.top_margin, section.bottom_margin, section.left_margin)
    assert [round(s / Mm(1)) for s in sizes if s is not None] == [210, 297, 37, 35, 28]
    grid = section._sectPr.find(qn("w:docGrid"))
    assert grid is not None
    assert (grid.get(qn("w:type")), grid.get(qn("w:linePitch"))) == ("lines", "580")
    fonts = {f.get(qn("w:eastAsia")) for p in made.paragraphs for f in p._p.iter(qn("w:rFonts"))}
    assert fonts == {"方正小标宋简体", "仿宋", "黑体", "楷体"}
    numbers = [f.paragraphs[0] for f in (section.footer, section.even_page_footer)]
    assert ["PAGE" in p._p.xml for p in numbers] == [True, True]
    assert [str(p.alignment) for p in numbers] == ["RIGHT (2)", "LEFT (0)"]


def test_a_word_document_says_the_whole_text_and_nobody_elses_name() -> None:
    paper = papers.internal(ISSUED)
    body = documents.docx(paper, AT)
    said = documents_text(body)
    assert [b.text for b in paper.blocks if b.text not in said] == []
    assert "签发：张建国" in said
    core = ZipFile(BytesIO(body)).read("docProps/core.xml").decode()
    assert "python-docx" not in core
    assert "市企业服务中心" in core
