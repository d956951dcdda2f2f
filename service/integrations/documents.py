"""Papers as files: PDF/A by Typst with the fonts of `fonts/`, DOCX by python-docx with the fonts that offices have.

Both have the form of GB/T 9704-2012: A4, type area 156 mm x 225 mm, 22 lines of 28 characters of 3号 仿宋, 10.3 for the
head of minutes, 7.5 for the numbers of pages. Pure but for reading the fonts; about 0.1 s of processor time each.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from datetime import datetime
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any
from unicodedata import category

import typst
from docx import Document
from docx.enum.text import WD_ALIGN_PARAGRAPH, WD_LINE_SPACING, WD_TAB_ALIGNMENT
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Mm, Pt, RGBColor

from service.core.papers import Block, Paper

HERE = Path(__file__).parent
PDF, DOCX = "application/pdf", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
SONG, HEI, KAI, FANG = "方正小标宋简体", "黑体", "楷体", "仿宋"
"""What the standard asks for; offices have them. 仿宋 is on every Windows, also where 仿宋_GB2312 is not."""
RED = RGBColor(0xE6, 0x00, 0x12)
WIDTH_MM, HEIGHT_MM, LINES, CHARACTERS = 156, 225, 22, 28
SIZE = {"2号": 22.0, "3号": 16.0, "4号": 14.0}
LINE_PT = HEIGHT_MM / LINES / 25.4 * 72
MARK_PT = 42.0
LACKING = "〓"


@lru_cache(maxsize=1)
def _fonts() -> Any:
    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[str(HERE / "fonts")])


def pdf(paper: Paper, at: datetime) -> bytes:
    """A PDF/A-2b, the same bytes for the same paper and instant. Every character is of an embedded font."""
    made = typst.compile(
        str(HERE / "minutes.typ"),
        root=str(HERE),
        font_paths=_fonts(),
        ignore_system_fonts=True,
        sys_inputs={"paper": _drawable(json.dumps(asdict(_clean(paper)), ensure_ascii=False))},
        format="pdf",
        pdf_standards="a-2b",
        timestamp=at.replace(microsecond=0),
    )
    assert isinstance(made, bytes)
    return made


def _drawable(text: str) -> str:
    """The fonts have GBK and Latin 1. Anything else is drawn as 〓, which printers set for a character they lack."""
    return "".join(c if c < "\u0100" or _in_gbk(c) else LACKING for c in text)


@lru_cache(maxsize=4096)
def _in_gbk(character: str) -> bool:
    try:
        return len(character.encode("gbk")) == 2
    except UnicodeEncodeError:
        return False


def _clean(paper: Paper) -> Paper:
    """Without control characters: they mean nothing on paper, and XML has no place for them."""
    told = asdict(paper)

    def cleaned(value: Any) -> Any:
        if isinstance(value, str):
            return "".join(" " if c in "\n\r\t" else c for c in value if c in "\n\r\t" or category(c)[0] != "C")
        return tuple(map(cleaned, value)) if isinstance(value, tuple | list) else value

    blocks = tuple(Block(b["kind"], cleaned(b["text"])) for b in told.pop("blocks"))
    return Paper(**{name: cleaned(value) for name, value in told.items()}, blocks=blocks)


def docx(paper: Paper, at: datetime) -> bytes:
    """A Word document in which everything can still be edited."""
    paper = _clean(paper)
    document = Document()
    _page(document)
    _properties(document, paper, at)
    mark = _line(document, paper.mark, SONG, _mark_size(paper.mark), align=WD_ALIGN_PARAGRAPH.CENTER, color=RED)
    mark.paragraph_format.space_before = Mm(35)
    _exactly(mark, _mark_size(paper.mark) * 1.2)
    _line(document, "", FANG)
    _line(document, paper.number, FANG, align=WD_ALIGN_PARAGRAPH.CENTER)
    head = _sides(document, paper.office, paper.dated, SIZE["3号"])
    _rule(head, "bottom", 12, "E60012")
    _line(document, "", FANG)
    title = _line(document, paper.title, SONG, SIZE["2号"], align=WD_ALIGN_PARAGRAPH.CENTER)
    _exactly(title, 35)
    _line(document, "", FANG)
    for block in paper.blocks:
        written = _line(document, block.text, {"h1": HEI, "h2": KAI}.get(block.kind, FANG), indent=2)
        written.paragraph_format.keep_with_next = block.kind != "p"
    if paper.people:
        _line(document, "", FANG)
    for label, names in paper.people:
        _named(document, label, "；".join(names))
    if paper.signed:
        _line(document, "", FANG)
        signed = _line(document, f"签发：{paper.signed}", FANG, align=WD_ALIGN_PARAGRAPH.RIGHT)
        signed.paragraph_format.right_indent = Pt(4 * SIZE["3号"])
    _colophon(document, paper)
    out = BytesIO()
    document.save(out)
    return out.getvalue()


# --- Word's pieces ---------------------------------------------------------------------------------------------------


def _page(document: Any) -> None:
    """Page, lines (5.2.3) and numbers of pages (7.5: outside, one character in).

    The grid is of lines only: 3号 is wider than a 28th of the line, and programs differ in what they do with a character
    that is wider than its cell. `_font` sets characters closer instead.
    """
    section = document.sections[0]
    section.page_width, section.page_height = Mm(210), Mm(297)
    section.top_margin, section.bottom_margin = Mm(37), Mm(35)
    section.left_margin, section.right_margin = Mm(28), Mm(26)
    section.footer_distance = Mm(23)
    grid = OxmlElement("w:docGrid")
    grid.set(qn("w:type"), "lines")
    grid.set(qn("w:linePitch"), str(round(LINE_PT * 20)))
    for old in section._sectPr.findall(qn("w:docGrid")):
        section._sectPr.remove(old)
    section._sectPr.append(grid)
    document.settings.odd_and_even_pages_header_footer = True
    for footer, align in (
        (section.footer, WD_ALIGN_PARAGRAPH.RIGHT),
        (section.even_page_footer, WD_ALIGN_PARAGRAPH.LEFT),
    ):
        line = footer.paragraphs[0]
        line.alignment = align
        line.paragraph_format.left_indent = line.paragraph_format.right_indent = Pt(SIZE["4号"])
        for text, field in (("— ", None), ("", "PAGE"), (" —", None)):
            run = line.add_run(text)
            _font(run, "宋体", SIZE["4号"])
            if field:
                for kind in ("begin", None, "end"):
                    run._r.append(_field(kind, field))
    normal = document.styles["Normal"]
    _font(normal, FANG, SIZE["3号"])
    for name in ("autoSpaceDE", "autoSpaceDN"):  # no space between Chinese and digits: it breaks the 28 characters
        off = OxmlElement(f"w:{name}")
        off.set(qn("w:val"), "0")
        normal.element.get_or_add_pPr().append(off)


def _field(kind: str | None, name: str) -> Any:
    if kind is None:
        told = OxmlElement("w:instrText")
        told.text = name
        return told
    mark = OxmlElement("w:fldChar")
    mark.set(qn("w:fldCharType"), kind)
    return mark


def _properties(document: Any, paper: Paper, at: datetime) -> None:
    said = document.core_properties
    said.title, said.author, said.last_modified_by, said.comments = paper.title, paper.office, paper.office, ""
    said.language, said.revision = "zh-CN", 1
    said.created = said.modified = at.replace(tzinfo=None)


def _line(
    document: Any,
    text: str,
    font: str,
    size: float = SIZE["3号"],
    *,
    align: Any = WD_ALIGN_PARAGRAPH.JUSTIFY,
    indent: int = 0,
    color: RGBColor | None = None,
) -> Any:
    line = document.add_paragraph()
    line.alignment = align
    form = line.paragraph_format
    form.space_before = form.space_after = Pt(0)
    form.widow_control = False
    if indent:
        form.first_line_indent = Pt(indent * size)
        _characters(line, "firstLineChars", indent)
    _exactly(line, LINE_PT)
    _font(line.add_run(text), font, size, color)
    return line


def _exactly(line: Any, points: float) -> None:
    line.paragraph_format.line_spacing_rule = WD_LINE_SPACING.EXACTLY
    line.paragraph_format.line_spacing = Pt(points)


def _characters(line: Any, name: str, count: int) -> None:
    """Indents in characters, so that they follow the grid."""
    line._p.get_or_add_pPr().get_or_add_ind().set(qn(f"w:{name}"), str(count * 100))


def _font(styled: Any, name: str, size: float, color: RGBColor | None = None) -> None:
    """A run or a style in one font, Latin and Chinese; python-docx knows the Latin one only."""
    styled.font.name, styled.font.size = name, Pt(size)
    if color is not None:
        styled.font.color.rgb = color
    fonts = styled.element.get_or_add_rPr().get_or_add_rFonts()
    for script in ("ascii", "hAnsi", "eastAsia", "cs"):
        fonts.set(qn(f"w:{script}"), name)
    if size == SIZE["3号"]:
        closer = OxmlElement("w:spacing")
        closer.set(qn("w:val"), str(math.floor((WIDTH_MM / 25.4 * 72 / CHARACTERS - size) * 20)))
        properties = styled.element.get_or_add_rPr()
        properties.insert_element_before(closer, "w:w", "w:kern", "w:position", "w:sz", "w:szCs", "w:highlight", "w:u")


def _sides(document: Any, left: str, right: str, size: float) -> Any:
    """One text at the left edge, one at the right, each one character in."""
    line = _line(document, f"\u3000{left}\t{right}\u3000", FANG, size, align=WD_ALIGN_PARAGRAPH.LEFT)
    line.paragraph_format.tab_stops.add_tab_stop(Mm(WIDTH_MM), WD_TAB_ALIGNMENT.RIGHT)
    return line


def _named(document: Any, label: str, names: str) -> None:
    """10.3: the label in 黑体 two characters in; names hang under the first of them."""
    line = _line(document, f"{label}：", HEI, align=WD_ALIGN_PARAGRAPH.LEFT)
    form = line.paragraph_format
    form.left_indent, form.first_line_indent = Pt(5 * SIZE["3号"]), Pt(-3 * SIZE["3号"])
    _characters(line, "leftChars", 5)
    _characters(line, "hangingChars", 3)
    _font(line.add_run(names), FANG, SIZE["3号"])


def _colophon(document: Any, paper: Paper) -> None:
    """版记: to whom it goes, who issues it and when, between rules (7.4)."""
    _line(document, "", FANG)
    last = _sides(document, paper.office, f"{paper.dated}印发" if paper.dated else "", SIZE["4号"])
    if paper.copies:
        copies = _line(document, f"\u3000分送：{paper.copies}", FANG, SIZE["4号"], align=WD_ALIGN_PARAGRAPH.LEFT)
        form = copies.paragraph_format
        form.left_indent, form.first_line_indent = Pt(4 * SIZE["4号"]), Pt(-4 * SIZE["4号"])
        form.keep_with_next = True
        last._p.addprevious(copies._p)
        _rule(copies, "top", 8, "000000")
        _rule(last, "top", 6, "000000")
    else:
        _rule(last, "top", 8, "000000")
    _rule(last, "bottom", 8, "000000")


def _rule(line: Any, side: str, eighths: int, color: str) -> None:
    """A rule across the whole type area, in eighths of a point."""
    properties = line._p.get_or_add_pPr()
    borders = properties.find(qn("w:pBdr"))
    if borders is None:
        borders = OxmlElement("w:pBdr")
        properties.insert_element_before(
            borders, "w:shd", "w:tabs", "w:suppressAutoHyphens", "w:spacing", "w:ind", "w:jc", "w:rPr"
        )
    rule = OxmlElement(f"w:{side}")
    for name, value in (("val", "single"), ("sz", str(eighths)), ("space", "1"), ("color", color)):
        rule.set(qn(f"w:{name}"), value)
    borders.append(rule)


def _mark_size(mark: str) -> float:
    """As large as fits on one line of the type area."""
    return min(MARK_PT, WIDTH_MM / 25.4 * 72 / max(len(mark), 1))
