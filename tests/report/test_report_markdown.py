"""A report as Markdown: for a terminal, for git, with its figures beside it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from decision_service.report import Report, to_markdown, write_markdown

EXPECTED = """\
# Scorecard \\<b>behaviour\\</b>

What it is for.

More | about \\*it\\*.

## Who & when

- one
- two, which goes on

- **rows**: 12,345
- **`sha`**: –

## How well

**Features**

| feature     |  gain |  share | what |
| ----------- | ----: | -----: | ---- |
| `utl_now`   | 1,235 | 12.5 % | a\\|b |
| x_\\<script> |     7 |   −3 % | –    |

Gains of \\*splits\\*.

![Lift by tenths, riskiest first: 3.00, 1.50, 0.50.](figures/lift.svg)

Lift of `points`.
"""


def test_a_report_as_markdown(report: Report) -> None:
    """Tables line up where letters are of one width, and data is not taken for markup."""
    assert to_markdown(report) == EXPECTED


def test_figures_are_files_of_their_own_beside_the_text(tmp_path: Path, report: Report) -> None:
    """Every figure the text names is a well-formed SVG in plain colours; figures of an older report are gone."""
    (tmp_path / "card_figures").mkdir()
    (tmp_path / "card_figures" / "stale.svg").touch()
    write_markdown(report, tmp_path / "card.md")
    named = re.findall(r"\]\(([^)]+)\)", (tmp_path / "card.md").read_text())
    assert named == ["card_figures/lift.svg"]
    assert [path.name for path in (tmp_path / "card_figures").iterdir()] == ["lift.svg"]
    svg = (tmp_path / named[0]).read_text()
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in svg
    assert "currentColor" not in svg
