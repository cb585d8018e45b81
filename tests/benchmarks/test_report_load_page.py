"""Reports of load runs: their figures are the document's, and the page is whole in a browser."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from load_documents import BENCHMARKS, document, percentiles, run

from browser import CHROMIUM, Browser, browsing
from drawn import Drawn
from load_report import compare, figures, html
from load_report.document import NotALoadRun, curve, number, options, ramps, read, timeline

COMMAND = BENCHMARKS / "load_report" / "run.py"


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return document("abc1234", seconds=6.0)


@pytest.fixture(scope="module")
def later() -> dict[str, Any]:
    """Another commit, without the ramp."""
    faster = document("def5678", service_us=700.0, seed=7, seconds=6.0)
    return faster | {"runs": faster["runs"][:2]}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def _cells(report: Any, title: str) -> list[tuple[Any, ...]]:
    section = next(section for section in report.sections if section.title == title)
    return [row for block in section.blocks if hasattr(block, "rows") for row in block.rows]


def test_the_curve_of_a_histogram_is_its_percentiles(made: dict[str, Any]) -> None:
    """At 1 / (1 - p) stands the latency that a share p of the requests did not reach, within the histogram's 0.1 %."""
    x, y = curve(made["runs"][0])
    assert np.all(np.diff(x) >= 0)
    assert np.all(np.diff(y) >= 0)
    for name, at in (("p50", 2.0), ("p90", 10.0), ("p99", 100.0)):
        shown = y[np.searchsorted(x, at, side="right") - 1]
        assert shown == pytest.approx(made["runs"][0]["latency_us"][name], rel=0.003)
    assert (x[-1], y[-1]) == pytest.approx(
        (made["runs"][0]["requests"], made["runs"][0]["latency_us"]["max"]), rel=2e-3
    )


def test_a_run_without_a_histogram_is_drawn_from_its_percentiles() -> None:
    """Five points and the maximum, none beyond what so many requests can tell."""
    x, y = curve({"requests": 500, "latency_us": percentiles(np.arange(1.0, 501.0))})
    assert x == pytest.approx([2.0, 10.0, 100.0, 500.0])
    assert y == pytest.approx([250.5, 450.1, 495.01, 500.0])


def test_latency_over_time_is_drawn_as_it_is_in_the_document(made: dict[str, Any]) -> None:
    """The p99 of every interval, in ms."""
    reload_run = made["runs"][1]
    drawn = Drawn(figures.over_time("time", reload_run, ""), log=True)
    at, ms = drawn.line("curve-1")
    assert at == pytest.approx([row["t_s"] for row in reload_run["timeline"]], abs=0.05)
    assert ms == pytest.approx([row["p99_us"] / 1e3 for row in reload_run["timeline"]], rel=0.03)
    assert "reload" in drawn.texts()


def test_stages_stand_one_on_the_other(made: dict[str, Any]) -> None:
    """Each bar is as long as its stage's mean, and begins where the one before ends."""
    runs = made["runs"][:2]
    drawn = Drawn(figures.stages("stages", [(run["name"], run) for run in runs], ""))
    ends = [0.0, 0.0]
    for stage in ("parse", "read", "features", "score", "rules", "commit", "serialise"):
        for i, (corners, _) in enumerate(drawn.shapes(stage)):
            end = ends[i] + number(runs[i], "stages_us", stage, "mean")
            assert (corners.min(), corners.max()) == pytest.approx((ends[i], end), abs=2.0)
            ends[i] = end


def test_the_knee_is_the_last_rate_that_was_kept_up_with(made: dict[str, Any]) -> None:
    """The made server serves 1,111 a second; the step of 1,300 is beyond it. A run at one rate is no ramp."""
    (steps,) = ramps(made).values()
    assert [step["wanted_per_s"] for step in steps] == [300, 500, 700, 900, 1100, 1300]
    knee = html.knee_of(steps)
    assert knee is not None
    assert knee["wanted_per_s"] in (900, 1100)
    told = [step | {"too_much": step["wanted_per_s"] > 500} for step in steps]
    assert (html.knee_of(told) or {})["wanted_per_s"] == 500
    failing = copy.deepcopy(steps)
    failing[0]["failures"] = {"503 too-busy": failing[0]["requests"]}
    assert html.knee_of(failing) is None


def test_rows_of_the_timeline_add_up(made: dict[str, Any]) -> None:
    """However few rows, no request is lost, and the worst maximum stands."""
    rows = timeline(made["runs"][1], 5)
    assert len(rows) == 5
    assert sum(row["requests"] for row in rows) == made["runs"][1]["requests"]
    assert max(row["max_us"] for row in rows) == made["runs"][1]["latency_us"]["max"]


def test_intervals_told_by_where_they_begin_are_shown_where_they_end(made: dict[str, Any]) -> None:
    """A timeline at 0, 0.5, 1.0 ... is the one at 0.5, 1.0, 1.5 ..."""
    ends = made["runs"][1]
    begins = ends | {"timeline": [row | {"t_s": row["t_s"] - 0.5} for row in ends["timeline"]]}
    assert timeline(begins, 4) == timeline(ends, 4)


def test_a_run_that_is_not_valid_says_so_first(made: dict[str, Any]) -> None:
    """And why."""
    report = html.report(made | {"valid": False, "why_not": ["another process used the cores"]})
    said = report.sections[0].blocks[0]
    assert "Not valid" in said.text
    assert "another process used the cores" in said.text


def test_what_is_absent_is_unknown_and_not_zero(made: dict[str, Any]) -> None:
    """A document with nothing but what every run must have makes a report."""
    bare = {"format": made["format"], "runs": [{"name": "bare", "requests": 10, "per_s": 5.0}]}
    report = html.report(bare)
    assert [section.title for section in report.sections][:2] == ["What was run", "Latency"]
    assert all(np.isnan(cell) for cell in _cells(report, "Latency")[0][4:])


def test_rounds_of_one_name_are_told_apart(made: dict[str, Any]) -> None:
    """Two runs of one name are round 1 and round 2 of it."""
    twice = made | {"runs": [made["runs"][1], run("reload", 500.0, 900.0, 3, 6.0)]}
    assert [label for label, _ in html.labelled(twice)] == ["reload, round 1", "reload, round 2"]


def test_the_comparison_has_every_figure_of_both(made: dict[str, Any], later: dict[str, Any]) -> None:
    """The server's CPU fell from 810 to 630 us; one round each, so nothing is said of its noise."""
    rows = {row[0]: row for row in _cells(compare.report(made, later), "Run: reload")}
    assert rows["CPU of the server, us"][1:4] == (810.0, 630.0, "-22.2 %")
    assert rows["CPU of the server, us"][5] == "noise not known: one round each"
    assert rows["latency p50, us"][5] == "better, beyond the noise"


def test_a_comparison_says_what_else_differs(made: dict[str, Any], later: dict[str, Any]) -> None:
    """Another machine explains a difference as well as another commit does; the load before the run is no machine."""
    other = copy.deepcopy(later)
    other["machine"] |= {"cpu": "another", "load_before": 0.9}
    other["runs"][1]["wanted_per_s"] = 620.0
    assert compare.unlike(made, other) == [
        "machine cpu: a processor and another",
        "the rate asked for in reload: 500/s and 620/s",
    ]


def test_options_name_no_place_on_the_machine(made: dict[str, Any]) -> None:
    """A checkout lies anywhere: of a path the last part counts, and where results went is no option of the run."""
    given = {
        "rules": "/somewhere/rules",
        "json": "/tmp/x.json",
        "rate": None,
        "sizes": [],
        "quick": False,
        "events": 200,
    }
    assert options(made | {"options": given}) == {"rules": "rules", "quick": False, "events": 200}


@pytest.mark.parametrize("text", ["", "[]", '{"format": "x"}', '{"format": "decision-service-load/1", "runs": []}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    """With its name."""
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(NotALoadRun, match=r"x\.json"):
        read(path)


def test_the_command_prints_and_writes(tmp_path: Path, made: dict[str, Any], later: dict[str, Any]) -> None:
    """One document: tables and a page; two as JSON: each difference with what is said of it; rubbish: status 2."""
    first, second, page = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "a.html"
    first.write_text(json.dumps(made))
    second.write_text(json.dumps(later))
    done = _command(first, "--html", page)
    assert done.returncode == 0, done.stderr
    assert "| one worker / bare app | >= 0.40 | 0.12 | no  |" in done.stdout
    assert page.read_text().startswith("<!DOCTYPE html>")
    done = _command(first, second, "--json")
    rows = json.loads(done.stdout)["runs"]["reload"]
    assert next(row for row in rows if row["what"] == "latency p50")["beyond_noise"] is True
    assert _command(page).returncode == 2


def _command(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(COMMAND), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, made: dict[str, Any], later: dict[str, Any]) -> list[str]:
    """The addresses of a report and of a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    html.write(made, folder / "one.html")
    compare.write(made, later, folder / "two.html")
    return [(folder / f"{name}.html").as_uri() for name in ("one", "two")]


@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_open_whole(browser: Browser, pages: list[str], width: int, dark: bool) -> None:
    """Nothing is fetched, the console is silent, nothing widens the page, every plot has a size, words and a table."""
    for url in pages:
        browser.open(url, width, dark)
        assert [asked for asked in browser.requests() if not asked.startswith("data:")] == [url]
        assert browser.complaints() == []
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value(
            "[...document.querySelectorAll('figure')].every(f => f.querySelector('svg').getBoundingClientRect().width "
            ">= 300 && f.querySelector('[role=img]').getAttribute('aria-label').length > 20 && "
            "!!f.closest('section').querySelector('table'))"
        )
