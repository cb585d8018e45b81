"""The catalogue of faults, and the report that a run of the tests makes of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fault_report import Fault, catalogue, marks_in, row, sections, table

COUNTS = {"A": 14, "B": 20, "C": 13, "D": 19, "E": 14, "F": 17, "G": 15, "H": 20, "I": 9}

MADE = """
import pytest

@pytest.mark.fault("A01")
@pytest.mark.parametrize("n", [1, 2])
def test_first(n): pass

@pytest.mark.parametrize("n", [pytest.param(1, marks=pytest.mark.fault("A02")), 2])
def test_second(n): assert n == 2

@pytest.mark.fault("A03", "A04")
class TestBoth:
    def test_third(self): pytest.skip("no room")

@pytest.mark.fault("A05")
def test_not_chosen(): pass

@pytest.fixture
def ends_badly():
    yield
    raise ValueError

@pytest.mark.fault("A06")
def test_ends_badly(ends_badly): pass

def test_unmarked(): pass
"""
CONFTEST = """
import fault_report
def pytest_addoption(parser): fault_report.add_option(parser)
def pytest_configure(config):
    fault_report.configure(config)
    config.addinivalue_line("markers", "fault(*ids): shows faults")
def pytest_itemcollected(item): fault_report.note_faults(item)
"""


def test_the_catalogue_has_every_fault_in_order() -> None:
    """141 ids without a gap, each with what is expected of it or the reason why it cannot happen."""
    assert list(catalogue()) == [f"{letter}{n:02}" for letter, count in COUNTS.items() for n in range(1, count + 1)]
    assert list(sections()) == list(COUNTS)
    assert sum(COUNTS.values()) == 141
    for fault in catalogue().values():
        assert fault.fault, fault.id
        assert bool(fault.expected) != bool(fault.not_applicable), fault.id


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_a_run_is_reported(tmp_path: Path, workers: list[str]) -> None:
    """Passed, failed in its call or afterwards, skipped and not run are told apart, by cases, with xdist too."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_made.py").write_text(MADE)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "xdist", f"--rootdir={tmp_path}",
         "-k", "not chosen", "--fault-report", "out/faults.md", *workers],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert "Written to out/faults.md" in done.stdout, done.stdout + done.stderr
    written = (tmp_path / "out" / "faults.md").read_text()
    results = dict(re.findall(r"^\| (A\d\d) \|.*\| ([^|]*) \|$", written, re.MULTILINE))
    assert [results[f"A0{n}"] for n in range(1, 8)] == [
        "passed (2)", "failed (1 of 1)", "skipped (1 of 1)", "skipped (1 of 1)", "not run (1 of 1)", "failed (1 of 1)",
        "no test",
    ]  # fmt: skip
    assert "](../tests/test_made.py)" in written
    outcomes = json.loads((tmp_path / "out" / "faults.json").read_text())["faults"]
    assert outcomes["A01"] == {"tests/test_made.py::test_first": {"passed": 2}}
    assert sorted(outcomes) == ["A01", "A02", "A03", "A04", "A06"]


def test_a_mark_is_written_out(tmp_path: Path) -> None:
    """Ids that stand nowhere in the source are refused with their place; ids of a module hold for all its tests."""
    (tmp_path / "test_a.py").write_text("pytestmark = [pytest.mark.fault('B01')]\n\n\ndef test_x(): ...\n")
    assert marks_in(tmp_path) == {"B01": [f"{tmp_path.name}/test_a.py::test_x"]}
    (tmp_path / "test_b.py").write_text("@pytest.mark.fault(WHICH)\ndef test_y(): ...\n")
    with pytest.raises(ValueError, match=r"test_b\.py:1: the ids of a fault mark are written out"):
        marks_in(tmp_path)


def test_the_table_survives_what_is_in_its_cells() -> None:
    """A bar in a text is no new cell, and a fault that cannot happen says why."""
    assert row(Fault("X01", "a | b", "", "no c"), []) == "| X01 | a \\| b | Not applicable: no c |  |"
    assert table({}, {}).count("| no test |") == 141
