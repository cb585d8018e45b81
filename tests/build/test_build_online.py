"""What the HTTP API decided with is what features build computes from files of the same history."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "card_transactions.parquet"


@pytest.mark.fault("G12")
@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_file(), reason="the card payments are not beside the repository (../shared/data)")
def test_replayed_payments_have_the_features_that_files_give() -> None:
    """Card payments through the whole service, entity logs and fraud labels included: every feature of the sampled
    decisions equals the offline row, bit for bit."""
    script = ROOT / "benchmarks" / "card_fraud_online.py"
    done = subprocess.run(
        [sys.executable, str(script), "--payments", "400", "--sample", "100", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["sampled"], found["values"]) == (100, 1_500)
    assert found["told"] > 500
    assert not any(found["unequal"].values())
