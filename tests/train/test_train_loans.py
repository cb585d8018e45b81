"""Scorecards of loan grain from a generated portfolio: told by labels, trained, and deciding beside `behaviour`."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pyarrow import compute, parquet
from training_files import write_config

from decision_service.cases.in_memory import InMemory
from decision_service.core.errors import PolicyRejected
from decision_service.core.event import DRAWDOWN
from decision_service.core.limits import DAY_MS, EVENTS_PER_CALL_MAX, HOUR_MS
from decision_service.policies.loading import load_policy
from decision_service.portfolio import CustomerHistory, generate
from decision_service.portfolio.history import api_facility
from decision_service.portfolio.loans import LABELS, loan_arrears, loan_labels
from decision_service.scorecards.files import scorecard_directories
from decision_service.settings import load_settings
from decision_service.telemetry import Meters
from decision_service.train import Trained, train
from decision_service.train.config import read_train_config
from decision_service.train.portfolio_files import write_portfolio
from decision_service.train.sources import PortfolioSource
from decision_service.warm import warm

ROOT = Path(__file__).parents[2]
LABEL = "overdue_5"
SAMPLE = (
    f"sample: {{grain: loan, label: {LABEL}, observe_every_d: 30, observations: 4, performance_d: 90, out_of_time: 2}}"
)
GRADES = "{A: 575, B: 565, C: 555, D: 545, E: 300}"  # for a book of so many bads that the usual ones are D


def write_loan_config(root: Path, sample: str = SAMPLE) -> Path:
    """The small training file of these tests, of loan grain, for a scorecard `drawdown`."""
    path = write_config(root)
    text = path.read_text().replace("scorecard: behaviour", "scorecard: drawdown")
    text = re.sub(r"^sample:.*$", f"{sample}\ngrades: {GRADES}", text, flags=re.M)
    path.write_text(text + "  - {name: asked_share, reason: RC13, monotone: 1}\n")
    return path


@pytest.fixture(scope="module")
def loan_trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One training run that the tests look at and leave alone."""
    return train(write_loan_config(tmp_path_factory.mktemp("loans")), None, lambda _text: None)


@pytest.fixture(scope="module")
def histories(loan_trained: Trained) -> list[CustomerHistory]:
    """The customers that were trained on, in the order of the sample: those who ever drew."""
    source = loan_trained.config.source
    assert isinstance(source, PortfolioSource)
    drew = (h for h in generate(source.plan) if ((h.table["kind"] == DRAWDOWN) & (h.table["status"] == 1)).any())
    return list(drew)


def test_labels_stand_behind_the_events_and_change_none(tmp_path: Path) -> None:
    """With them the file is the one without them, a column and so many rows longer; others' files have neither."""
    files: dict[str, Any] = {}
    plan = None
    for name, target in (("told", f"label: {LABEL}"), ("plain", "bad_of: customer, bad_dpd: 5")):
        path = write_loan_config(tmp_path / name, SAMPLE.replace(f"label: {LABEL}", target))
        path.write_text(path.read_text().replace("customers: 350", "customers: 150"))
        config = read_train_config(path)
        assert isinstance(config.source, PortfolioSource)
        assert config.sample is not None
        plan = plan or generate(config.source.plan)
        write_portfolio(plan, config.sample, tmp_path / name)
        files[name] = parquet.read_table(tmp_path / name / "events.parquet")
    told, plain = files["told"], files["plain"]
    labels = compute.equal(told["kind"], "label")
    assert told.filter(compute.invert(labels)).drop_columns("about_event_id").equals(plain)
    assert "about_event_id" not in plain.column_names
    assert compute.sum(compute.equal(plain["kind"], "label")).as_py() == 0
    assert compute.sum(labels).as_py() == sum(len(loan_arrears(history, LABELS[LABEL])) for history in plan or ())


def test_a_drawdown_is_bad_if_it_is_in_arrears_within_its_window(
    loan_trained: Trained, histories: list[CustomerHistory]
) -> None:
    """The outcomes of the sample equal a plain look at the loans; those of one customer differ."""
    sample, mixed = loan_trained.sample, 0
    window_ms = 90 * DAY_MS
    for number in np.unique(sample.customer).tolist():
        rows = np.flatnonzero(sample.customer == number)
        history = histories[number]
        found = loan_arrears(history, LABELS[LABEL])
        first = dict(zip(history.table["at_ms"][found.row].tolist(), found.at_ms.tolist(), strict=True))
        drawn = sample.observed_at_ms[rows].tolist()
        expected = [int(t in first and first[t] <= t + window_ms) for t in drawn]
        assert sample.bad[rows].tolist() == expected
        mixed += 0 < sum(expected) < len(expected)
    assert mixed > 10


def test_it_knows_the_request_and_ranks_loans_out_of_time(loan_trained: Trained) -> None:
    """Grain and label stand in the manifest, and a larger request is not a safer one."""
    manifest = loan_trained.scorecard.manifest
    assert manifest.grain == "loan"
    assert manifest.target is not None
    assert (manifest.target.label, manifest.target.performance_d) == (LABEL, 90)
    assert loan_trained.metrics["oot_auc"] > 0.6
    row, asked = loan_trained.sample.rows[0].copy(), manifest.names.index("asked_share")
    margins = []
    for row[asked] in np.linspace(0.0, 1.0, 50):
        margins.append(loan_trained.scorecard.scorer.margin(row))
    assert np.all(np.diff(margins) >= 0)
    assert margins[-1] > margins[0]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("{grain: loan, bad_dpd: 30}", "bad_dpd is told of no loan of a generated portfolio"),
        ("{grain: loan, label: overdue_31}", "label 'overdue_31' is no outcome of a generated portfolio"),
        ("{label: overdue_30}", "label 'overdue_30' is no outcome of a generated portfolio"),
    ],
)
def test_an_outcome_that_no_portfolio_tells_is_refused(sample: str, message: str, tmp_path: Path) -> None:
    """Before anything is generated, naming the line and what would do."""
    with pytest.raises(PolicyRejected, match=message) as refused:
        read_train_config(write_loan_config(tmp_path, f"sample: {sample}"))
    assert "overdue_30" in refused.value.message
    assert "train.yaml:5" in refused.value.message


def test_the_training_file_of_drawdown_is_read_and_is_no_scorecard() -> None:
    """A directory that holds no version is passed over by whoever loads models."""
    config = read_train_config(ROOT / "models" / "drawdown" / "train.yaml")
    assert (config.grain, config.scorecard) == ("loan", "drawdown")
    assert [path.name for path in scorecard_directories(ROOT / "models")] == ["behaviour"]


# --- deciding -------------------------------------------------------------------------------------------------------

HEAD = "rule_set: drawdown\nscene: drawdown\nstages: [anomaly, score]\n"
REST = """\
rules:
  - {id: otherwise, stage: score, when: request.amount > 0, on_null: hold, then: approve}
fallback: {static: {hold: review, reason: RC90}}
"""


def two_scores() -> str:
    """The block of the guide that looks at both grades."""
    guide = (ROOT / "docs" / "scorecards.md").read_text()
    (block,) = (block for block in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL) if "drawdown.grade" in block)
    return str(block)


@pytest.fixture(scope="module")
def served(trained: Trained, loan_trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A function that decides a drawdown after a history, by a policy with both scorecards and the guide's matrix."""
    folder = tmp_path_factory.mktemp("two-scores")
    shutil.copytree(Path(__file__).parent / "rules", folder / "rules" / "features")
    (folder / "rules" / "drawdown.yaml").write_text(HEAD + two_scores() + REST)
    for run in (trained, loan_trained):
        shutil.copytree(run.directory, folder / "models" / run.scorecard.name / run.scorecard.version)
    settings = load_settings(rules=folder / "rules", models=folder / "models")
    policy, _ = load_policy(folder / "rules", folder / "models", "Asia/Shanghai", 24 * HOUR_MS)
    warm(policy)
    (folder / "meters").mkdir()
    meters = Meters(folder / "meters")
    yield lambda history, k: asyncio.run(decided(InMemory(policy, settings, meters), history, k))
    meters.close()


async def decided(service: InMemory, history: CustomerHistory, k: int) -> Mapping[str, Any]:
    """The decision on drawdown `k` of a customer, with everything known that was known before it, labels too."""
    at_ms = int(history.table["at_ms"][k])
    event = history.events[k]
    before = [
        *history.events[:k],
        *(label for label in loan_labels(history, LABEL) if label["occurred_at"] < event["occurred_at"]),
    ]
    await service.be_at(at_ms)
    await service.put_facility(history.line.facility_id, api_facility(history.line.facility_at(at_ms)))
    for begin in range(0, len(before), EVENTS_PER_CALL_MAX):
        await service.post_events(before[begin : begin + EVENTS_PER_CALL_MAX])
    told = (
        "customer_id",
        "facility_id",
        "amount",
        "currency",
        "channel",
        "device_id",
        "counterparty_id",
        "occurred_at",
    )
    request = {name: event[name] for name in told if name in event}
    return await service.decide(request | {"request_id": f"draw-{k}", "purpose": event["category"]})


def test_a_drawdown_is_scored_as_in_training_and_judged_by_both_grades(
    served: Any, loan_trained: Trained, histories: list[CustomerHistory]
) -> None:
    """Over the service the PD of the same request after the same history is the sample's; the matrix has the word."""
    sample, cells, approved = loan_trained.sample, yaml.safe_load(two_scores())["matrices"][0]["cells"], []
    order = np.argsort(loan_trained.pds)
    for i in order[np.linspace(0, len(order) - 1, 8).astype(int)].tolist():
        history = histories[int(sample.customer[i])]
        drawn = (history.table["kind"] == DRAWDOWN) & (history.table["at_ms"] == sample.observed_at_ms[i])
        told = served(history, int(np.flatnonzero(drawn)[0]))
        assert told["rung"] == "full"
        assert told["scores"]["drawdown"]["pd"] == pytest.approx(loan_trained.pds[i], abs=1e-12)
        assert told["scores"]["drawdown"]["points"] == loan_trained.points[i]
        seen = told["trace"]["scorecards"]["drawdown"]["features"]
        row = [np.nan if (x := seen[name]) is None else x for name in loan_trained.config.names]
        np.testing.assert_array_equal(row, sample.rows[i])
        credit, loan = (told["scores"][name]["grade"] for name in ("behaviour", "drawdown"))
        assert told["trace"]["cells"] == [f"two_scores:{credit}/{loan}"]
        approved.append(told["decision"] == "approve")
        assert approved[-1] == (cells[credit]["ABCDE".index(loan)] == "nothing")
    assert {True, False} == set(approved)
