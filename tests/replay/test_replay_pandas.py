"""Features of replayed card payments equal pandas', and what pandas is asked for is the definition."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "replay_against_pandas.py"
DATA = ROOT.parent / "shared" / "data" / "card_transactions.parquet"


def test_pandas_computes_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rolling windows are `(t - W, t]` without the payment itself: an event exactly W old is out, one in the same
    second counts only if it came before, payments of 0 do not count."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from replay_against_pandas import with_pandas

    times = ("01 12:00:00", "01 13:00:00", "02 12:00:00", "02 12:00:00", "02 12:30:00", "31 12:59:59")
    at = pd.to_datetime([f"2018-07-{time}" for time in times])
    amounts, customers = [10.0, 99.0, 20.01, 0.0, 0.02, 7.0], [1, 2, 1, 1, 1, 1]
    table = pd.DataFrame({"CUSTOMER_ID": customers, "TX_DATETIME": at, "TX_AMOUNT": amounts})
    found = with_pandas(table)
    assert list(found.index) == [0, 1, 2, 4, 5]
    assert found["pay_cnt_1d"].tolist() == [0, 0, 0, 1, 0]
    assert found["pay_cnt_7d"].tolist() == [0, 0, 1, 2, 0]
    assert found["pay_cnt_30d"].tolist() == [0, 0, 1, 2, 2]
    assert found["pay_mean_amt_30d"].tolist()[2:] == [10.0, 15.005, 10.015]
    assert found["pay_mean_amt_30d"].isna().tolist() == [True, True, False, False, False]


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_file(), reason="the card payments are not beside the repository (../shared/data)")
def test_replayed_features_equal_pandas() -> None:
    """Two thousand payments through the whole service: every count and mean equals pandas', bit for bit."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--payments", "2000", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["payments"] >= 2000
    assert found["values"] == 6 * (found["payments"] - found["refused_as_zero"])
    assert found["unequal"] == 0
