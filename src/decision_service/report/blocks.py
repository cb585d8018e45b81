"""What a report is made of.

Texts are plain: a blank line begins a paragraph, a paragraph whose lines begin with `- ` is a list, and `backticks`
set a name in type-writer letters. Everything else is shown as it stands, whatever the reader's format.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

Cell = str | int | float | None

UNKNOWN: Final = "–"
NAME_PATTERN: Final = r"[a-z0-9]+(-[a-z0-9]+)*"
_WHOLE_FROM: Final = 1_000.0  # larger numbers are shown without a fraction
_NUMERIC: Final = re.compile(r"[+−-]?[\d,]*\.?\d+([eE][+-]?\d+)?( ?(%|pp|points|d|months))?")


@dataclass(frozen=True, slots=True)
class Text:
    """Paragraphs and lists."""

    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and what is known about each, one a line."""

    pairs: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; the first column names the row. `note` stands below, `title` above if it needs one."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    title: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells in a table of {len(self.columns)} columns: {row[:3]}")


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing. `name` is its file name and its anchor, once in a report; `alt` says in words what is to be seen."""

    name: str
    svg: str
    caption: str
    alt: str

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME_PATTERN, self.name):
            raise ValueError(f"a figure cannot be named {self.name!r}: a-z, 0-9 and single dashes")


Block = Text | Facts | Table | Figure


@dataclass(frozen=True, slots=True)
class Section:
    """Some blocks under a heading."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A title, what it is about in a few words, and sections."""

    title: str
    about: str
    sections: tuple[Section, ...]

    def __post_init__(self) -> None:
        names = [figure.name for figure in self.figures]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two figures are named {twice[0]!r}")

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All figures in order."""
        return tuple(block for section in self.sections for block in section.blocks if isinstance(block, Figure))


def cell_text(cell: Cell) -> str:
    """A cell as people read it: thousands apart, four significant digits, a dash for what is not known."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return UNKNOWN
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= _WHOLE_FROM else f"{cell:.4g}"
    return cell


def percent(share: float, decimals: int = 1) -> str:
    """A fraction as `2.5 %`; a dash if it is not known."""
    return UNKNOWN if math.isnan(share) else f"{100.0 * share:,.{decimals}f} %"


def is_numeric(cell: Cell) -> bool:
    """Whether a cell belongs to the right edge of its column; an unknown one belongs anywhere."""
    text = cell_text(cell)
    return text == UNKNOWN or _NUMERIC.fullmatch(text) is not None


def right_columns(table: Table) -> tuple[bool, ...]:
    """For each column whether all of it is numbers."""
    columns = zip(*table.rows, strict=True) if table.rows else ((),) * len(table.columns)
    return tuple(i > 0 and bool(cells) and all(map(is_numeric, cells)) for i, cells in enumerate(columns))


def paragraphs(text: str) -> list[list[str]]:
    """The paragraphs of a text: a list of items where it is a list, else of one text."""
    parts = (part.strip() for part in re.split(r"\n\s*\n", text))
    return [_paragraph(part) for part in parts if part]


def is_list(paragraph: list[str]) -> bool:
    """Whether `paragraphs` made this one of `- ` lines."""
    return paragraph[0].startswith("- ")


def _paragraph(part: str) -> list[str]:
    lines = [line.strip() for line in part.splitlines()]
    if not lines[0].startswith("- "):
        return [" ".join(lines)]
    items: list[str] = []
    for line in lines:
        if line.startswith("- "):
            items.append(line)
        else:
            items[-1] += f" {line}"
    return items
