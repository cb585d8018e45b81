"""The search for what rows leave uncovered, and its bound."""

from __future__ import annotations

import random

import pytest
from rule_cases import VOCABULARY
from table_cases import loaded_spec

from decision_service.core.rules.regions import Search, TooManyRegions

NAMES = ("utl_after", "vel_req_cnt_10m", "vel_req_cnt_1h", "con_amt_p90_365d", "ext_inq_cnt_30d", "request.amount",
         "facility.limit", "facility.apr")  # fmt: skip


def test_what_rows_leave_over_is_found() -> None:
    """Two inputs of two regions each: three of the four points are covered."""
    assert Search(100).uncovered((0b11, 0b11), [(0b01, 0b11), (0b10, 0b01)]) == (0b10, 0b10)
    assert Search(100).uncovered((0b11, 0b11), [(0b01, 0b11), (0b10, 0b11)]) is None
    assert Search(100).uncovered((0b01, 0b10), []) == (0b01, 0b10)


def test_a_search_gives_up_when_it_has_looked_at_too_much() -> None:
    """Covering eight inputs by single points takes more than ten looks."""
    rows = [tuple(1 << (number >> i & 1) for i in range(8)) for number in range(256)]
    assert Search(100_000).uncovered((0b11,) * 8, rows) is None
    with pytest.raises(TooManyRegions):
        Search(10).uncovered((0b11,) * 8, rows)


def test_a_table_too_large_to_be_sure_is_a_warning() -> None:
    """Rows that each take half the values of three inputs out of eight: nobody can say soon what they leave over."""
    rng = random.Random(5)
    rows = []
    for _ in range(260):
        cells = ["any"] * len(NAMES)
        for position in rng.sample(range(len(NAMES)), 3):
            cells[position] = "[" + ", ".join(str(value) for value in sorted(rng.sample(range(12), 6))) + "]"
        rows.append("      - {if: [" + ", ".join(cells) + "], then: {tag: same}}\n")
    assert set(NAMES) <= set(VOCABULARY)
    table = "  - id: cloud\n    hit: first\n    inputs: [" + ", ".join(NAMES) + "]\n    rows:\n" + "".join(rows)
    spec, findings = loaded_spec("tables:\n" + table + "    otherwise: nothing\n    on_null: skip\n")
    assert spec is not None
    (warning,) = findings.diagnostics
    assert warning.message.startswith("too large a table to be sure that it has no gap")
