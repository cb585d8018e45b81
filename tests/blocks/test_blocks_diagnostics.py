"""What an analyst reads when a block is wrong: each `golden/<case>.yaml` with its rendered diagnostics beside it.

To change a text on purpose: `UPDATE_GOLDEN=1 pytest tests/blocks`, and read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rule_cases import VOCABULARY
from table_cases import filled_layout

from decision_service.core.rules.compile import compile_rule_set
from decision_service.core.rules.schema import read_rule_set
from decision_service.core.source import Findings
from decision_service.core.vocabulary import Kind, NameSpec
from decision_service.policies.files import read_text

GOLDEN = Path(__file__).with_name("golden")
CASES = sorted(path.stem for path in GOLDEN.glob("*.yaml"))


MODEL = NameSpec("behaviour.points", Kind.NUMBER, "points")


def rendered(text: str) -> str:
    """Every diagnostic of a whole file, as an analyst sees them; `behaviour` is the scorecard of a model."""
    findings = Findings()
    document = read_text(text, "drawdown.yaml", findings)
    assert document is not None
    spec = read_rule_set(document, VOCABULARY.with_names(MODEL), findings)
    if spec is not None:
        compile_rule_set(spec, filled_layout(spec), findings)
    return "\n\n".join(d.render() for d in sorted(findings.diagnostics, key=lambda d: d.place)) + "\n"


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_block_is_explained_like_a_good_compiler_would(case: str) -> None:
    """Every diagnostic of the file, with place, caret, expectation and the nearest known name, is as pinned."""
    text = rendered((GOLDEN / f"{case}.yaml").read_text(encoding="utf-8"))
    pinned = GOLDEN / f"{case}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        pinned.write_text(text, encoding="utf-8")
    assert text == pinned.read_text(encoding="utf-8")
