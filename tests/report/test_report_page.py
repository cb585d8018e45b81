"""A report as a page: everything in it, nothing from elsewhere, nothing taken for markup."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from decision_service.report import Report, Section, Table, to_html, write_html
from drawn import small_figure

VOID = {"meta", "link", "path", "use", "br"}


class Page(HTMLParser):
    """The elements of a page, its text, and what it points to; complains about elements that do not close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(page)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href"):
                self.links.append(value or "")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_a_page_is_whole_and_fetches_nothing(report: Report) -> None:
    """No script, no address but its own anchors; every anchor exists, every id once."""
    page = Page(to_html(report))
    assert not page.elements["script"]
    assert {link[0] for link in page.links if link != "data:,"} == {"#"}
    assert {link[1:] for link in page.links if link[0] == "#"} <= set(page.ids)
    assert not [name for name, count in Counter(page.ids).items() if count > 1]
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"|http-equiv', "", to_html(report))


def test_what_a_text_says_is_shown_and_never_markup(report: Report) -> None:
    """Data cannot add an element to the page; backticks do, lists do."""
    page = Page(to_html(report))
    for text in (
        "Scorecard <b>behaviour</b>",
        "More | about *it*.",
        "x_<script>",
        "12,345",
        "1,235",
        "two, which goes on",
    ):
        assert text in page.words
    assert not page.elements["b"]
    assert page.elements["li"] == 2 + len(report.sections)
    assert page.elements["code"] == 3


def test_tables_have_headers_and_figures_words(report: Report) -> None:
    """Whoever cannot see gets headers for rows and columns, and what a figure shows."""
    page = to_html(report)
    assert page.count('<th scope="col"') == 4
    assert page.count('<th scope="row">') == 2
    assert page.count('<td class="right">') == 4
    assert 'role="img" aria-label="Lift by tenths, riskiest first: 3.00, 1.50, 0.50."' in page


def test_two_runs_give_the_same_bytes(tmp_path: Path, report: Report) -> None:
    """Nothing of the clock, of chance or of the process is in a page."""
    write_html(report, tmp_path / "here" / "page.html")
    assert (tmp_path / "here" / "page.html").read_text() == to_html(report)
    drawn = "from decision_service.report import plots; print(plots.lift('lift', [3.0, 1.5, 0.5], '').svg, end='')"
    elsewhere = subprocess.run([sys.executable, "-c", drawn], capture_output=True, text=True, check=True).stdout
    assert elsewhere == small_figure().svg


def test_a_report_cannot_be_put_together_wrongly() -> None:
    """Figures of one name, names that are no file names and rows of another length are refused at once."""
    with pytest.raises(ValueError, match="two figures are named 'lift'"):
        Report("t", "a", (Section("s", (small_figure(), small_figure())),))
    with pytest.raises(ValueError, match=r"cannot be named '\.\./lift'"):
        small_figure("../lift")
    with pytest.raises(ValueError, match="1 cells in a table of 2"):
        Table(("a", "b"), (("x",),))


@pytest.mark.parametrize(("library", "wanted"), [("matplotlib", "plots.lift('l', [1.0], '')"),
                                                  ("jinja2", "to_html(Report('t', 'a', ()))")])  # fmt: skip
def test_without_its_library_a_report_names_the_extra(library: str, wanted: str) -> None:
    """Importing the package needs neither library; asking for what needs one says how to get it."""
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from decision_service.report import Report, ReportExtraMissing, plots, to_html\n"
        f"try: {wanted}\nexcept ReportExtraMissing as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == f"{library} is not installed: a report needs `pip install 'decision-service[report]'`\n"
