"""What an analyst reads when a rule file is wrong: each `golden/<case>.yaml` with its rendered diagnostics beside it.

To change a text on purpose: `UPDATE_GOLDEN=1 pytest tests/rules`, and read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rule_cases import rendered

GOLDEN = Path(__file__).with_name("golden")
CASES = sorted(path.stem for path in GOLDEN.glob("*.yaml"))


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_file_is_explained_like_a_good_compiler_would(case: str) -> None:
    """Every diagnostic of the file, with place, caret, expectation and the nearest known name, is as pinned."""
    text = rendered((GOLDEN / f"{case}.yaml").read_bytes().decode("utf-8", "surrogateescape"))
    pinned = GOLDEN / f"{case}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        pinned.write_text(text, encoding="utf-8")
    assert text == pinned.read_text(encoding="utf-8")


def test_every_fault_of_the_catalogue_that_is_a_file_has_a_case() -> None:
    """F01 malformed, F02 half written, F03 empty or without rules, F04 duplicates, F05 implicit types, F06 aliases and
    depth, F07 unknown names and types, F08 silence about null."""
    assert {case[:3] for case in CASES} >= {"f01", "f02", "f03", "f04", "f05", "f06", "f07", "f08"}
