"""A report in a real browser: it opens, it fetches nothing, and everything in it is to be seen, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from browser import CHROMIUM, Browser, browsing
from decision_service.report import Report, Section, Table, Text, plots, write_html
from decision_service.report.plots import Curve, GradeBar, Group, Response

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")

_SIZES = (
    "[...document.querySelectorAll('figure svg')].map(e => e.getBoundingClientRect()).map(r => [r.width, r.height])"
)
_INK = "getComputedStyle(document.querySelector('figure svg')).color"
_PAPER = "getComputedStyle(document.body).backgroundColor"
_CURVE = "getComputedStyle(document.querySelector('#roc-curve-0 path')).stroke"
_LABELS = """[...document.querySelectorAll('figure svg')].flatMap(svg => { const box = svg.getBoundingClientRect();
    return [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()])
    .filter(([s, r]) => r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1
        || r.bottom > box.bottom + 1)
    .map(([s, r]) => svg.parentElement.parentElement.id + ': ' + s) })"""


@pytest.fixture(scope="module")
def gallery() -> Report:
    """Every kind of figure, and a table wider than a telephone."""
    x = np.linspace(0.0, 1.0, 11)
    points = np.linspace(500.0, 700.0, 11)
    months = [f"2026-{month:02d}" for month in range(1, 13)]
    figures = (
        plots.roc("roc", [Curve("out of time", x, np.sqrt(x)), Curve("champion", x, x**0.7)], "ROC"),
        plots.ks("ks", Curve("good", points, x**2), Curve("bad", points, np.sqrt(x)), "KS"),
        plots.gains("gains", [Curve("out of time", x, np.sqrt(x))], "Gains"),
        plots.lift("lift", list(np.linspace(4.0, 0.0, 10)), "Lift"),
        plots.calibration("calibration", [Group(0.01, 0.0, 0.0, 0.02, 90), Group(0.1, 0.12, 0.08, 0.17, 90)], "PD"),
        plots.distribution("points", points, [("good", x[1:] / 5), ("bad", x[:0:-1] / 5)], "Points", "points"),
        plots.lines("psi", months, [("PSI", [*x, 0.2])], "PSI", "PSI", [("0.1 shifted", 0.1)]),
        plots.bars("importance", [(f"feature_with_a_long_name_{i}d", 1 / (i + 1)) for i in range(20)], "Gain", "gain"),
        plots.responses("responses", [Response(f"feature_{i}", x, x * i / 99) for i in range(7)], "Responses"),
        plots.grades("grades", [GradeBar("A", 0.8, 0.002, 0.003), GradeBar("E", 0.2, 0.2, 0.25)], "Grades"),
    )  # fmt: skip
    wide = Table(tuple(f"column number {i}" for i in range(12)), (tuple(f"{i} %" for i in range(12)),))
    return Report("Gallery", "Every kind of figure.", (Section("Figures", (Text("Below."), *figures, wide)),))


@pytest.fixture(scope="module")
def page(gallery: Report, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its address."""
    path = tmp_path_factory.mktemp("page") / "gallery.html"
    write_html(gallery, path)
    return path.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_opens_whole(browser: Browser, page: str, gallery: Report, width: int, dark: bool) -> None:
    """Nothing is fetched but itself, the console is silent, every figure has a size, and nothing widens the page."""
    browser.open(page, width, dark)
    assert [url for url in browser.requests() if not url.startswith("data:")] == [page]
    assert browser.complaints() == []
    sizes = browser.value(_SIZES)
    assert len(sizes) == len(gallery.figures)
    assert all(wide >= 300 and high >= 60 for wide, high in sizes)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(_LABELS) == []


def test_figures_take_the_colours_of_the_page(browser: Browser, page: str) -> None:
    """Ink on paper either way round, and curves that are lighter on a dark page."""
    shown = {}
    for dark in (False, True):
        browser.open(page, 1280, dark)
        shown[dark] = [browser.value(script) for script in (_INK, _PAPER, _CURVE)]
    assert shown == {
        False: ["rgb(31, 36, 48)", "rgb(255, 255, 255)", "rgb(0, 114, 178)"],
        True: ["rgb(228, 231, 238)", "rgb(20, 24, 31)", "rgb(86, 180, 233)"],
    }


def test_a_picture_of_it_is_not_blank(browser: Browser, page: str, tmp_path: Path) -> None:
    """A figure is painted, not only laid out: its curve's colour is among the pixels."""
    image = pytest.importorskip("PIL.Image")
    browser.open(page, 1280, False)
    browser.screenshot(tmp_path / "page.png")
    with image.open(tmp_path / "page.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    assert {(0, 114, 178), (213, 94, 0)} <= colours
