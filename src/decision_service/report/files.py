"""A report on disk: a page, or Markdown with a folder of figures that holds no figure of an older report."""

from __future__ import annotations

import shutil
from pathlib import Path

from decision_service.report.blocks import Report
from decision_service.report.drawing import standing_alone
from decision_service.report.markdown import to_markdown
from decision_service.report.page import to_html


def write_html(report: Report, path: Path) -> None:
    """The page at `path`. Raises ReportExtraMissing."""
    page = to_html(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, "utf-8")


def write_markdown(report: Report, path: Path) -> None:
    """`x.md` at `path`, its figures in `x_figures` beside it, which is replaced whole."""
    folder = path.with_name(f"{path.stem}_figures")
    shutil.rmtree(folder, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if report.figures:
        folder.mkdir()
    for figure in report.figures:
        (folder / f"{figure.name}.svg").write_text(standing_alone(figure), "utf-8")
    path.write_text(to_markdown(report, folder.name), "utf-8")
