"""The scale command: reuse of a measurement, its page, and a small measurement of a real service and store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scale_figures import BENCHMARKS, even, measured

from browser import CHROMIUM, browsing
from scale import measure, model, page
from scale.model import Assumptions

COMMAND = BENCHMARKS / "scale" / "run.py"


def _command(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(COMMAND), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_kinds_of_keys() -> None:
    """By the layout of `store/keys.py`; an id may hold colons."""
    assert measure.kind_of(b"ds:{p0042}:l:c:1") == ("event log", "c:1")
    assert measure.kind_of(b"ds:{p0042}:out") == ("outbox", "")
    assert measure.kind_of(b"ds:{p0042}:e:p:00ff") == ("entity log", "p:00ff")
    assert measure.kind_of(b"ds:{meta}") == ("of the store", "")


def test_the_report_shows_every_size_and_what_breaks_it() -> None:
    """Nine rows, and every assumption with its meaning."""
    spread = even()
    for sort in ("customers", "payees"):
        spread[sort] = spread[sort] + [row | {"exponent": 1.0} for row in spread[sort]]
    given = Assumptions()
    found = {"measured": measured(), "balance": spread, "model": model.as_json(measured(), given, spread)}
    report = page.report(json.loads(json.dumps(found)))
    sizes = next(block for block in report.sections[0].blocks if hasattr(block, "rows"))
    assert len(sizes.rows) == 9
    assert {row[-1] for row in sizes.rows} >= {
        "memory asks for most shards",
        "not possible: more shards than partitions",
    }
    assumed = report.sections[-1].blocks[0]
    assert len(assumed.rows) == len(model.MEANINGS)  # type: ignore[union-attr]


@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_opens_whole(tmp_path: Path, width: int, dark: bool) -> None:
    """Nothing is fetched, the console is silent, nothing widens the page, both plots have a size."""
    spread = even()
    found = {"measured": measured(), "balance": spread, "model": model.as_json(measured(), Assumptions(), spread)}
    path = tmp_path / "scale.html"
    page.write(json.loads(json.dumps(found)), path)
    with browsing(tmp_path / "profile") as browser:
        browser.open(path.as_uri(), width, dark)
        assert [asked for asked in browser.requests() if not asked.startswith("data:")] == [path.as_uri()]
        assert browser.complaints() == []
        assert browser.value("document.documentElement.scrollWidth") <= width
        sizes = browser.value("[...document.querySelectorAll('figure svg')].map(e => e.getBoundingClientRect().width)")
        assert len(sizes) == 2
        assert min(sizes) >= 300


@pytest.mark.slow
def test_a_measurement_is_used_again(tmp_path: Path) -> None:
    """--from measures nothing; --set changes what comes out; everything is written."""
    source, kept, html = tmp_path / "in.json", tmp_path / "out.json", tmp_path / "page.html"
    source.write_text(json.dumps({"measured": measured()}))
    done = _command("--from", source, "--json", kept, "--html", html, "--set", "replicas=2")
    assert done.returncode == 0, done.stderr
    assert "## What breaks first" in done.stdout
    found = json.loads(kept.read_text())
    assert found["measured"] == measured()
    assert found["model"]["cells"][0]["servers"] == 3 * found["model"]["cells"][0]["shards"]
    assert html.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--from", "/nowhere.json"], "/nowhere.json"),
        (["--from", __file__], "test_scale_run.py"),
        (["--small", "--keep"], "not for keeping"),
        (["--set", "nonsense=1"], "no assumption 'nonsense'"),
        (["--set", "replicas=many"], "expected a number"),
        (["--set", "zipf=0.7"], "zipf must be one of"),
        (["--partitions", "0"], "expected 1 to 4096"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], says: str) -> None:
    """Before anything is started."""
    done = _command(*arguments)
    assert done.returncode != 0
    assert says in done.stderr


@pytest.mark.slow
def test_a_small_measurement_is_whole() -> None:
    """A real Valkey and service: every figure that the model takes is there, and those that do not depend on the
    machine are what the design says."""
    said: list[str] = []
    found: dict[str, Any] = measure.measure(said.append, small=True)
    assert not [line for line in said if "not full" in line]
    costs = model.costs_of(found, Assumptions())
    assert costs.customer_bytes > 200 * 64
    row = found["histories"]["200"]
    assert row["record_bytes"] == pytest.approx(64 * 203, rel=0.05)
    assert row["log_bytes"] >= row["record_bytes"]
    assert row["decision"]["store_net_out"] > 200 * 64
    assert row["decision"]["by_command"]["xadd"] == pytest.approx(1.0, abs=0.1)
    assert 0.0 < row["decision"]["fsyncs"] <= 8.0
    assert found["one_connection"]["fsyncs"] >= 1.0
    assert found["bytes"]["outbox_event"] > 0.0
