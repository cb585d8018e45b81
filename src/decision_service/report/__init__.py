"""Reports: what a model card or a drift report says, written once, read as a page or as Markdown.

    blocks     what a report is made of: sections of text, facts, tables and figures
    plots      the figures (pairs: those of two sides): ROC, KS, gains, calibration, distributions, lines, bars
    drawing    from matplotlib to an SVG that has the page's colours and the same bytes on every run
    page       to_html: one self-contained page, without script or network
    markdown   to_markdown: for a terminal and for git, figures as files beside it
    files      a report on disk

Nothing here knows scorecards: whoever computes figures hands them over as numbers. matplotlib and Jinja2 (extra
`report`) are imported where they are used, so that a service without them starts; whoever asks for a report without
them gets ReportExtraMissing.
"""

from decision_service.report.blocks import Block, Cell, Facts, Figure, Report, Section, Table, Text, percent
from decision_service.report.extra import ReportExtraMissing
from decision_service.report.files import write_html, write_markdown
from decision_service.report.markdown import to_markdown
from decision_service.report.page import to_html

__all__ = [
    "Block", "Cell", "Facts", "Figure", "Report", "ReportExtraMissing", "Section", "Table", "Text", "percent",
    "to_html", "to_markdown", "write_html", "write_markdown",
]  # fmt: skip
