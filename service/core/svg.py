"""Small SVG pictures with Chinese labels: no font is measured, widths come from East Asian width (Unicode UAX 11).

A full-width character is taken as wide as the font is high, any other as 0.6 of it: a little more than fonts need, so
that text never leaves its box. All text is escaped; the same picture gives the same bytes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

FONT = "'Noto Sans CJK SC','Source Han Sans SC','PingFang SC','Microsoft YaHei','WenQuanYi Zen Hei',sans-serif"
_WIDE = frozenset("WF")
_NARROW = 0.6


def width(text: str, size: float) -> float:
    """How wide a line of text is at most, in the unit of `size`."""
    return sum(size if unicodedata.east_asian_width(c) in _WIDE else _NARROW * size for c in text)


def cut(text: str, size: float, most: float) -> str:
    """The text, or as much of it as fits with an ellipsis."""
    if width(text, size) <= most:
        return text
    while text and width(text + "…", size) > most:
        text = text[:-1]
    return text + "…"


def wrapped(text: str, size: float, most: float) -> list[str]:
    """Lines no wider than `most`, broken at spaces, and between full-width characters."""
    lines, line = [], ""
    for word in _words(text, size, most):
        if line and width((line + word).rstrip(), size) > most:
            lines.append(line.rstrip())
            line = ""
        line += word
    return [*lines, line.rstrip()] if line.strip() else lines or [""]


def _words(text: str, size: float, most: float) -> Iterable[str]:
    word = ""
    for c in text:
        if word and width(word + c, size) > most:  # longer than a line: broken anywhere
            yield word
            word = ""
        wide = unicodedata.east_asian_width(c) in _WIDE
        if wide and word and unicodedata.category(c)[0] != "P":
            yield word
            word = ""
        word += c
        if wide or c == " ":
            if wide and unicodedata.category(c)[0] == "P":
                continue
            yield word
            word = ""
    if word:
        yield word


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: left, top, width, height."""

    x: float
    y: float
    w: float
    h: float

    def meets(self, other: Box) -> bool:
        return (
            self.x < other.x + other.w
            and other.x < self.x + self.w
            and self.y < other.y + other.h
            and other.y < self.y + self.h
        )


@dataclass(slots=True)
class Drawing:
    """Elements in the order in which they are painted. `texts`: where each line of text stands, for who must not meet it."""

    title: str
    parts: list[str] = field(default_factory=list)
    texts: list[tuple[str, Box]] = field(default_factory=list)
    right: float = 0.0
    bottom: float = 0.0

    def rect(self, box: Box, fill: str, stroke: str = "none", *, r: float = 0, dash: str = "") -> None:
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<rect x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.w)}" height="{_n(box.h)}" rx="{_n(r)}"'
            f' fill="{fill}" stroke="{stroke}"{dashed}/>'
        )
        self._reach(box.x + box.w, box.y + box.h)

    def line(
        self, points: Iterable[tuple[float, float]], stroke: str = "#889", *, thick: float = 1, dash: str = ""
    ) -> None:
        told = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<polyline points="{told}" fill="none" stroke="{stroke}" stroke-width="{_n(thick)}"{dashed}/>'
        )

    def path(self, d: str, stroke: str, *, thick: float = 1, dash: str = "", arrow: bool = True) -> None:
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        marker = ' marker-end="url(#arrow)"' if arrow else ""
        self.parts.append(f'<path d="{d}" fill="none" stroke="{stroke}" stroke-width="{_n(thick)}"{dashed}{marker}/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 12,
        *,
        anchor: str = "start",
        fill: str = "#223",
        bold: bool = False,
    ) -> Box:
        """One line; `y` is its baseline. Gives the box that it stands in."""
        wide = width(text, size)
        left = {"start": x, "middle": x - wide / 2, "end": x - wide}[anchor]
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" text-anchor="{anchor}" fill="{fill}"{weight}>'
            f"{escape(_plain(text))}</text>"
        )
        box = Box(left, y - 0.85 * size, wide, 1.1 * size)
        self.texts.append((text, box))
        self._reach(left + wide, y + 0.25 * size)
        return box

    def svg(self, margin: float = 16) -> str:
        w, h = self.right + margin, self.bottom + margin
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(w)} {_n(h)}" width="{_n(w)}" height="{_n(h)}"'
            f' font-family={quoteattr(FONT)} role="img"><title>{escape(_plain(self.title))}</title>'
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerUnits="userSpaceOnUse"'
            ' markerWidth="9" markerHeight="9"'
            ' orient="auto-start-reverse"><path d="M0,0 L8,4 L0,8 z" fill="context-stroke"/></marker></defs>'
            f'<rect width="{_n(w)}" height="{_n(h)}" fill="#fff"/>' + "".join(self.parts) + "</svg>\n"
        )

    def _reach(self, x: float, y: float) -> None:
        self.right, self.bottom = max(self.right, x), max(self.bottom, y)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _plain(text: str) -> str:
    """Characters that XML 1.0 cannot hold are left out."""
    return "".join(
        c for c in text if c in "\t\n\r" or (c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff")
    )
