"""Reading what callgrind counted, and comparing two counts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
instructions = pytest.importorskip("instructions")


def test_the_total_of_the_newest_profile_is_read(tmp_path: Path) -> None:
    old = tmp_path / "counted.1.1"
    old.write_text("events: Ir\ntotals: 7\n")
    (tmp_path / "counted.1.2").write_text("events: Ir\nfn=(1)\n1 5\ntotals: 1234\n")
    assert instructions.total_of({old}, tmp_path) == 1_234


def test_a_comparison_takes_out_what_changed_in_the_bare_app() -> None:
    before = {"instructions": 1_000.0, "bare": 100.0}
    assert instructions.compared({"instructions": 1_000.0, "bare": 100.0}, before) == 1.0
    assert instructions.compared({"instructions": 2_200.0, "bare": 110.0}, before) == pytest.approx(2.0)


def test_a_request_is_a_whole_one() -> None:
    head, _, body = instructions.request(3, 1_700_000_000_000).partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head
    assert b"counted-000003" in body
