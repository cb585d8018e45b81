"""A report as one page: inline SVG and CSS, no script, nothing fetched (its content security policy forbids both).

The template is `page.html`, filled by Jinja2 with everything escaped; only the figures' SVG, made here, goes in as is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
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
from decision_service.report.drawing import PALETTE
from decision_service.report.extra import needing

_TEMPLATE: Final = Path(__file__).with_name("page.html")
_CODE: Final = re.compile(r"`([^`]+)`")
_VIEW_BOX: Final = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_WIDE_FROM: Final = 500.0  # points: a figure as wide as the page; narrower ones stand in pairs


def to_html(report: Report) -> str:
    """The page. Raises ReportExtraMissing."""
    with needing("jinja2"):
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup, escape

    def inline(text: str) -> Markup:
        return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"inline": inline, "svg": Markup, "cell": cell_text, "paragraphs": paragraphs}
    environment.tests |= {"list_of_items": is_list, "wide": _is_wide}
    environment.globals |= {"kind": _kind, "groups": _groups, "anchor": _anchor, "right_columns": right_columns}
    return environment.from_string(_TEMPLATE.read_text("utf-8")).render(report=report, palette=PALETTE)


def _kind(block: Block) -> str:
    match block:
        case Text():
            return "text"
        case Facts():
            return "facts"
        case Table():
            return "table"
        case Figure():
            return "figure"


def _groups(section: Section) -> Iterator[tuple[str, list[Block]]]:
    """Neighbouring blocks of a kind, so that figures can stand side by side."""
    for kind, blocks in groupby(section.blocks, _kind):
        yield kind, list(blocks)


def _anchor(section: Section) -> str:
    """`#` of a section's heading."""
    return "s-" + re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-")


def _is_wide(figure: Figure) -> bool:
    box = _VIEW_BOX.search(figure.svg)
    return box is not None and float(box.group(1)) >= _WIDE_FROM
