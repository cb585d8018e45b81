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


@pytest.mark.fault("F01", "F02", "F03", "F04", "F05", "F06", "F07", "F08", "F09")
@pytest.mark.parametrize("case", CASES)
def test_a_wrong_file_is_explained_like_a_good_compiler_would(case: str) -> None:
    """Every diagnostic of the file, with place, caret, expectation and the nearest known name, is as pinned."""
    text = rendered((GOLDEN / f"{case}.yaml").read_bytes().decode("utf-8", "surrogateescape"))
    pinned = GOLDEN / f"{case}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        pinned.write_text(text, encoding="utf-8")
    assert text == pinned.read_text(encoding="utf-8")
