"""Section F of the fault catalogue is covered: every fault has its tests, and `faults.yaml` says which they are."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden")
FAULTS: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("faults.yaml").read_text("utf-8"))
TEXTS = ("F01", "F02", "F03", "F04", "F05", "F06", "F07", "F08", "F09")  # faults that are a file an analyst wrote


def test_every_fault_is_in_the_table() -> None:
    """F01 to F17, in order."""
    assert list(FAULTS) == [f"F{number:02}" for number in range(1, 18)]
    assert [fault for fault in TEXTS if "golden" not in FAULTS[fault]] == []


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_tests_that_exist(fault: str) -> None:
    """A fault whose tests were renamed, removed or never written is named here."""
    entry = FAULTS[fault]
    brought_with = entry.get("with")
    if brought_with is not None and not (ROOT / brought_with).is_dir():
        pytest.skip(f"{brought_with} is not there yet")
    tests, prefix = entry.get("tests", []), entry.get("golden")
    assert tests or prefix, f"{fault} has no test"
    for test in tests:
        file, name = test.split("::")
        defined = [
            node.name
            for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8")))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        ]
        assert name in defined, f"{fault}: {test} does not exist"
    if prefix is not None:
        sources = sorted(GOLDEN.glob(f"{prefix}*.yaml"))
        assert sources, f"{fault}: no golden file {prefix}*.yaml"
        assert [path.name for path in sources if not path.with_suffix(".txt").exists()] == []


def test_every_golden_file_of_a_fault_is_in_the_table() -> None:
    """A golden file named after a fault is one of the table's."""
    prefixes = {entry["golden"] for entry in FAULTS.values() if "golden" in entry}
    named = {path.name[:4] for path in GOLDEN.glob("f[0-9][0-9]_*.yaml")}
    assert named <= prefixes
