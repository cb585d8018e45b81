"""The evidence scripts: what goes into them, and what they say when their data is not there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from card_default_data import features
from portfolio_book import Book

from decision_service.core.event import DRAWDOWN, RECORD
from decision_service.core.limits import DAY_MS, RECORD_BYTES
from decision_service.core.links import LINKS_PER_ENTITY_MAX, customer_key, is_entity_log
from decision_service.portfolio import PortfolioPlan, generate
from portfolio import decided, load_policies
from tables import TABLES

EVIDENCE = Path(__file__).parents[2] / "benchmarks" / "evidence"
UNTIL_MS = 1_793_462_400_000


@pytest.mark.parametrize("script", ["card_default", "card_fraud"])
def test_a_script_without_its_data_is_skipped_with_a_message(script: str, tmp_path: Path) -> None:
    """Status 0, nothing on standard output, and what is missing on standard error."""
    copied = shutil.copytree(EVIDENCE, tmp_path / "project" / "benchmarks" / "evidence")
    done = subprocess.run([sys.executable, str(copied / f"{script}.py")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "is not in ../shared/data beside the repository" in done.stderr


def test_results_are_those_of_every_script() -> None:
    """What `make evidence` keeps has the figures that each table shows."""
    results = json.loads((EVIDENCE / "results.json").read_text())
    assert list(results) == list(TABLES)
    assert all(len(rows) > 2 for name, table in TABLES.items() for rows in table(results[name]))


def test_features_of_card_clients_are_what_their_names_say() -> None:
    """One client by hand: late for two months, a bill that is half paid, a month without a bill."""
    client = {
        "LIMIT_BAL": [1000.0], "PAY_0": [2], "PAY_2": [1], "PAY_3": [0], "PAY_4": [-1], "PAY_5": [-2], "PAY_6": [-2],
        **{f"BILL_AMT{k}": [bill] for k, bill in enumerate((800.0, 600.0, 400.0, 200.0, 0.0, 0.0), 1)},
        **{f"PAY_AMT{k}": [paid] for k, paid in enumerate((300.0, 0.0, 200.0, 0.0, 0.0, 0.0), 1)},
    }  # fmt: skip
    found = {name: float(values[0]) for name, values in features(pd.DataFrame(client)).items()}
    expected = {
        "limit": 1000.0, "status_1": 2.0, "late_2": 1.0, "late_3": 0.0, "late_4": 0.0, "late_max": 2.0, "late_sum": 3.0,
        "late_mean_3": 1.0, "late_cnt": 2.0, "late2_cnt": 1.0, "since_late": 0.0, "full_cnt": 1.0, "unused_cnt": 2.0,
        "revolving_cnt": 1.0, "utl_1": 0.8, "utl_max": 0.8, "utl_delta_3": 0.4, "utl_delta_6": 0.8, "paid_1": 300.0,
        "ratio_1": 0.5, "ratio_2": 0.0, "ratio_3": 1.0, "paid_sum": 500.0, "paid_min": 0.0, "unpaid_cnt": 4.0,
        "rest_1": 0.3, "headroom": 200.0, "ratio": pytest.approx(500 / 1200), "paid_by_limit": pytest.approx(1 / 12),
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert np.isnan(found["ratio_4"]), "there was no bill before it"


@pytest.fixture(scope="module")
def book() -> Book:
    """A small portfolio."""
    return Book(generate(PortfolioPlan(120, UNTIL_MS, 3, 150, per_pattern=0)).customers)


def test_a_policy_is_tried_without_its_scorecard(book: Book) -> None:
    """The shipped policy decides both ways; without a score only what is small is paid."""
    policies = load_policies()
    asked = [q for i in range(120) for q in book.drawdowns(i, UNTIL_MS - 3 * DAY_MS, UNTIL_MS)][:25]
    scoring = [decided(question, policies.scoring) for question in asked]
    silent = [decided(question, policies.silent) for question in asked]
    assert {decision.rung for decision in scoring} == {"full"}
    assert {decision.rung for decision in silent} == {"no_score"}
    assert sum(d.approved_minor > 0 for d in scoring) > 0
    assert max((d.approved_minor for d in silent), default=0) <= 500_00


def test_a_drawdown_is_decided_on_what_was_recorded_before_it(book: Book) -> None:
    """The customer's log ends before the drawdown; the payee's and the device's logs hold whatever was done with them
    before, by whom, the newest records of it."""
    histories = book.histories
    asked = [(i, q) for i in range(120) for q in book.drawdowns(i, UNTIL_MS - 20 * DAY_MS, UNTIL_MS)]
    assert len(asked) > 100
    for i, question in asked[::10]:
        own = np.frombuffer(question.state.log, RECORD)[1:]
        table = histories[i].table
        assert table["kind"][len(own)] == DRAWDOWN
        assert table["at_ms"][len(own)] == question.at_ms >= own["occurred_at_ms"].max(initial=0)
        payee, device = question.state.links.payee, question.state.links.device
        assert payee is not None
        assert device is not None
        assert is_entity_log(payee, 1)
        assert is_entity_log(device, 0)
        wanted = 0
        for history in histories:
            before = history.table[history.table["at_ms"] < question.at_ms]
            wanted += int((before["payee"] == table["payee"][len(own)]).sum())
        assert len(payee) // RECORD_BYTES - 1 == min(wanted, LINKS_PER_ENTITY_MAX)
        owners = np.frombuffer(device, np.uint64).reshape(-1, 8)[1:, 6]
        assert set(owners.tolist()) <= {customer_key(histories[i].customer_id)}
