"""A report as Markdown that reads well in a terminal, in a diff and on a git host; figures are files beside it.

Texts hold names and numbers, never markup of their own: what Markdown would take for markup is escaped, but for
`backticks`, which mean here what they mean there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from decision_service.report.blocks import (
    Block,
    Facts,
    Figure,
    Report,
    Section,
    Table,
    Text,
    cell_text,
    is_list,
    paragraphs,
    right_columns,
)

_MARKUP: Final = re.compile(r"([\\*<])")
_CODE: Final = re.compile(r"(`[^`]+`)")


def to_markdown(report: Report, figures: str = "figures") -> str:
    """The report; `figures` is the folder of its figures as seen from the file it will stand in."""
    parts = [f"# {_plain(report.title)}", *_text(report.about)]
    for section in report.sections:
        parts += _section(section, figures)
    return "\n\n".join(parts) + "\n"


def _section(section: Section, figures: str) -> list[str]:
    parts = [f"## {_plain(section.title)}"]
    for block in section.blocks:
        parts += _block(block, figures)
    return parts


def _block(block: Block, figures: str) -> list[str]:
    match block:
        case Text(text):
            return _text(text)
        case Facts(pairs):
            return ["\n".join(f"- **{_plain(name)}**: {_plain(cell_text(value))}" for name, value in pairs)]
        case Table():
            return [*([f"**{_plain(block.title)}**"] if block.title else []), _table(block), *_text(block.note)]
        case Figure():
            return [f"![{_alt(block.alt)}]({figures}/{block.name}.svg)", *_text(block.caption)]


def _text(text: str) -> list[str]:
    return ["\n".join(_item(item, is_list(part)) for item in part) for part in paragraphs(text)]


def _item(item: str, listed: bool) -> str:
    return f"- {_plain(item[2:])}" if listed else _plain(item)


def _table(table: Table) -> str:
    rows = [[_cell(cell_text(cell)) for cell in row] for row in table.rows]
    head = [_cell(column) for column in table.columns]
    widths = [max(3, *(len(row[i]) for row in [head, *rows])) for i in range(len(head))]
    right = right_columns(table)
    rule = ["-" * (w - 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)]
    return "\n".join(_row(row, widths, right) for row in [head, rule, *rows])


def _row(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
    return f"| {' | '.join(padded)} |"


def _cell(text: str) -> str:
    """A text in a table: a bar would end its cell, even in backticks."""
    return _plain(text).replace("|", r"\|")


def _plain(text: str) -> str:
    """A line of text with markup escaped outside of backticks."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part if i % 2 else _MARKUP.sub(r"\\\1", part) for i, part in enumerate(parts))


def _alt(text: str) -> str:
    return re.sub(r"[\[\]`\\]", "", " ".join(text.split()))
