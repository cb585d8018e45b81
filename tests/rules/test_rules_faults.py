"""Faults of section F that are a file an analyst wrote are shown by golden files of what they are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_report import catalogue

GOLDEN = Path(__file__).with_name("golden")
TEXTS = ("F01", "F02", "F03", "F04", "F05", "F06", "F07", "F08", "F09")


@pytest.mark.parametrize("fault", TEXTS)
def test_every_fault_of_a_text_has_golden_files(fault: str) -> None:
    """At least one `<fault>_*.yaml`, and beside each the text it is answered with."""
    sources = sorted(GOLDEN.glob(f"{fault.lower()}_*.yaml"))
    assert sources, f"{fault}: no golden file {fault.lower()}_*.yaml"
    assert [path.name for path in sources if not path.with_suffix(".txt").exists()] == []


def test_every_golden_file_of_a_fault_is_of_the_catalogue() -> None:
    """A golden file named after a fault is of one that there is."""
    named = {path.name[:3].upper() for path in GOLDEN.glob("f[0-9][0-9]_*.yaml")}
    assert named <= set(catalogue())
