"""What an analyst reads when a feature file is wrong: each `golden/<case>.yaml` with its rendered diagnostics.

To change a text on purpose: `UPDATE_GOLDEN=1 pytest tests/features/test_features_diagnostics.py`, and read the
difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kernel_runner import BASE

from decision_service.core.features.catalogue import read_features
from decision_service.core.features.lint import lint_features
from decision_service.core.limits import RETENTION_MS
from decision_service.core.source import Findings
from decision_service.policies.files import read_text

GOLDEN = Path(__file__).with_name("golden")
CASES = sorted(path.stem for path in GOLDEN.glob("*.yaml"))


def rendered(text: str) -> str:
    """Every finding of one feature file as people read it, in file order."""
    findings = Findings()
    document = read_text(text, "features/volume.yaml", findings)
    if document is not None:
        catalogue = read_features([document], BASE, findings)
        if not findings.errors:
            public = [spec.name for spec in catalogue.specs if not spec.internal]
            lint_features(catalogue, [document], public, RETENTION_MS, findings)
    return "\n\n".join(d.render() for d in sorted(findings.diagnostics, key=lambda d: d.place)) + "\n"


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_feature_file_is_explained_like_a_good_compiler_would(case: str) -> None:
    """Every diagnostic of the file, with place, caret, expectation and the nearest known name, is as pinned."""
    text = rendered((GOLDEN / f"{case}.yaml").read_bytes().decode("utf-8"))
    pinned = GOLDEN / f"{case}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        pinned.write_text(text, encoding="utf-8")
    assert text == pinned.read_text(encoding="utf-8")
    assert "volume.yaml:" in text, "the file is wrong, and somebody says so"


def test_there_are_cases_enough() -> None:
    """A mistake that is not here is one whose message nobody has read."""
    assert len(CASES) >= 70
