"""A report with a block of every kind, and what its figures were drawn from."""

from __future__ import annotations

import pytest

from decision_service.report import Facts, Report, Section, Table, Text
from drawn import small_figure


@pytest.fixture(scope="session")
def report() -> Report:
    """Every kind of block, and texts that a format could take for markup."""
    return Report(
        "Scorecard <b>behaviour</b>",
        "What it is for.\n\nMore | about *it*.",
        (
            Section("Who & when", (Text("- one\n- two, which\n  goes on"), Facts((("rows", 12345), ("`sha`", None))))),
            Section(
                "How well",
                (
                    Table(
                        ("feature", "gain", "share", "what"),
                        (("`utl_now`", 1234.5678, "12.5 %", "a|b"), ("x_<script>", 7, "−3 %", None)),
                        note="Gains of *splits*.",
                        title="Features",
                    ),
                    small_figure(),
                ),
            ),
        ),
    )
