"""Inputs that are not the customer's own events: attributes, what others do with a device, features of the champion."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from test_train_sample import DAY0, UNTIL, by_hand, day, draw, silent, told

from decision_service.api.examples import DECISIONS, FACILITY
from decision_service.core.limits import DAY_MS
from decision_service.scorecards.files import load_scorecard
from decision_service.train import Trained, train
from decision_service.train.config import read_train_config
from decision_service.train.run import read_sample
from service_process import ServiceProcess

ATTRIBUTES = """\
attributes:
  inquiries: {type: number, unit: n, source: bureau, ttl: 35d, meaning: "inquiries", meaning_zh: "查询次数"}
"""
LINKS = """\
segments:
  paying: kind in ["drawdown", "purchase"]
features:
  dev_cust:
    {agg: distinct, of: paying, by: customer, grain: device, windows: [30d], null: [Z, X], unit: n,
     en: "customers seen on this device", zh: "同设备客户数"}
"""
RULES = """\
rule_set: drawdown
scene: drawdown
rules:
  - id: scored
    when: behaviour.points >= 300
    on_null: hold
    then: approve
fallback: {static: {hold: review, reason: RC90}}
"""
PEOPLE = 160
MODEL = "model: {trees: 15, leaves: 4, learning_rate: 0.2, rows_in_leaf_min: 10, stop_after: 0, seed: 3}\n"


def rules_in(root: Path) -> Path:
    """The small catalogue with an attribute and a feature of devices."""
    shutil.copytree(Path(__file__).parent / "rules", root / "rules" / "features")
    (root / "rules" / "features" / "links.yaml").write_text(LINKS)
    (root / "rules" / "attributes.yaml").write_text(ATTRIBUTES)
    return root


def book(root: Path) -> Path:
    """People who draw every month; the more inquiries, the likelier 30 days past due. Inquiries are known of most, and
    for 35 days; the fifth is asked about on day 200 only."""
    rng = np.random.default_rng(4)
    inquiries = rng.poisson(1.5, PEOPLE)
    lines, events, attributes = [], [], []
    for i in range(PEOPLE):
        who = {"customer_id": f"c{i}", "facility_id": f"f{i}"}
        lines.append(
            who | {"product": "p", "currency": "CNY", "limit": 10_000.0 + 100 * i, "outstanding": 0.0, "as_of": day(0),
                   "apr": 0.18, "status": "active", "granted_at": day(0), "days_past_due": 0}
        )  # fmt: skip
        events += [
            draw(who["customer_id"], who["facility_id"], 10 + 30 * m + i / PEOPLE, f"d{i}-{m}") for m in range(10)
        ]
        late = rng.random(10) < 0.04 * inquiries[i] ** 1.5
        events += [
            told("overdue", who["customer_id"], 25 + 30 * m, value=31.0, amount=10.0) for m in np.flatnonzero(late)
        ]
        days = [200] if i % 5 == 0 else range(90, 300, 30)
        attributes += [{"customer_id": who["customer_id"], "name": "inquiries", "value": str(inquiries[i]),
                        "as_of": day(d)} for d in days]  # fmt: skip
    by_hand(root, events)
    parquet.write_table(pa.Table.from_pylist(lines), root / "facilities.parquet")
    parquet.write_table(pa.Table.from_pylist(attributes), root / "attributes.parquet")
    return root


def training(
    root: Path, version: str, features: tuple[str, ...], attributes: str = ", attributes: attributes.parquet"
) -> Path:
    """A training file over the book."""
    path = root / f"train-{version}.yaml"
    path.write_text(
        f"scorecard: behaviour\nversion: '{version}'\nfeatures_from: rules\n"
        f"events: {{events: events.parquet, facilities: facilities.parquet{attributes}, until: {UNTIL}}}\n"
        "sample: {observations: 5, out_of_time: 2, performance_d: 60, bad_dpd: 30, days_past_due_max: 29}\n"
        f"{MODEL}features:\n" + "".join(f"  - {{name: {name}, reason: RC33}}\n" for name in features)
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book, with a catalogue."""
    return book(rules_in(tmp_path_factory.mktemp("inputs")))


@pytest.fixture(scope="module")
def first(root: Path) -> Trained:
    """A scorecard of an attribute and the worst arrears."""
    return train(training(root, "1.0.0", ("inquiries", "late_max_180d")), root / "models", silent)


def test_an_attribute_is_what_was_known_and_not_too_old(root: Path, first: Trained) -> None:
    """The newest value from before the observation, null once its time to live is over."""
    values = {(row["customer_id"], row["as_of"]): float(row["value"])
              for row in parquet.read_table(root / "attributes.parquet").to_pylist()}  # fmt: skip
    unknown = 0
    for row, customer, at_ms in zip(first.sample.rows, first.sample.customer, first.sample.observed_at_ms, strict=True):
        known = [as_of for who, as_of in values if who == f"c{customer}" and at_ms - 35 * DAY_MS < as_of <= at_ms]
        wanted = values[f"c{customer}", max(known)] if known else math.nan
        np.testing.assert_equal(row[0], wanted)
        unknown += not known
    assert 0 < unknown < len(first.sample) / 2


def test_a_scorecard_of_an_attribute_serves_what_it_was_trained_on(root: Path, first: Trained, tmp_path: Path) -> None:
    """The PD of an answer to a request with the attribute is that of a training row with equal inputs, to the bit."""
    shutil.copytree(root / "rules", tmp_path / "rules")
    (tmp_path / "rules" / "drawdown.yaml").write_text(RULES)
    card = load_scorecard(first.directory)
    rows, pds = first.sample.rows, first.pds
    with ServiceProcess(tmp_path, rules=tmp_path / "rules", models=root / "models") as running:
        assert httpx.put(f"{running.url}/v1/facilities/f-1001", json=FACILITY).status_code == 200
        for i, inquiries in enumerate((0.0, 3.0, None)):
            given = {} if inquiries is None else {"attributes": {"inquiries": inquiries}}
            shown = decided(running, f"r{i}", given)
            features = shown["trace"]["scorecards"]["behaviour"]["features"]
            row = np.array([math.nan if features[name] is None else features[name] for name in card.names])
            np.testing.assert_equal(row[0], math.nan if inquiries is None else inquiries)
            score = shown["scores"]["behaviour"]
            assert score["points"] == card.score(row).points
            alike = pds[((rows == row) | (np.isnan(rows) & np.isnan(row))).all(axis=1)]
            assert len(alike) > 0
            assert set(alike.tolist()) == {score["pd"]}


def decided(service: ServiceProcess, request_id: str, more: dict[str, Any]) -> dict[str, Any]:
    """The stored decision on a drawdown, with its trace."""
    body = {**DECISIONS["drawdown"], "request_id": request_id, "deadline_ms": 5_000, **more}
    answer = httpx.post(f"{service.url}/v1/decisions", json=body, timeout=10)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = httpx.get(f"{service.url}/v1/decisions/{answer.json()['decision_id']}").json()
    return shown


def test_features_of_the_champion_alone_are_computed_for_it(root: Path, first: Trained) -> None:
    """A new scorecard without the champion's attribute is compared on PDs that the champion's own training gave."""
    newer = train(training(root, "2.0.0", ("facility.limit", "ok_cnt_90d")), root / "models", silent)
    assert newer.comparison is not None
    assert newer.comparison.version == "1.0.0"
    assert newer.champion is not None
    np.testing.assert_array_equal(newer.sample.observed_at_ms, first.sample.observed_at_ms)
    np.testing.assert_array_equal(newer.champion.pds[~np.isnan(newer.champion.pds)],
                                  first.pds[~np.isnan(newer.champion.pds)])  # fmt: skip
    assert newer.comparison.champion.auc > newer.comparison.new.auc
    assert not newer.comparison.better


def test_a_loan_scorecard_sees_who_else_used_the_device_before(tmp_path: Path) -> None:
    """Other customers on the device of the draw within 30 days; neither the draw itself nor what came after it."""
    rules_in(tmp_path)
    events = [
        draw("c1", "f1", 10, "a"), draw("c2", "f2", 20, "b"), draw("c1", "f1", 30, "c"), draw("c2", "f3", 45, "d"),
        draw("c2", "f3", 299, "late"),
    ]  # fmt: skip
    by_hand(tmp_path, events)
    table = parquet.read_table(tmp_path / "events.parquet")
    device = pa.array(["d1", "d1", "d1", None, None])
    parquet.write_table(table.append_column("device_id", device), tmp_path / "events.parquet")
    path = training(tmp_path, "1.0.0", ("dev_cust_30d", "request.amount"), attributes="")
    text = path.read_text()
    old = text[text.index("sample:") : text.index("model:")]
    path.write_text(text.replace(old, "sample: {grain: loan, observations: 9, out_of_time: 1, performance_d: 60}\n"))
    sample = read_sample(read_train_config(path), (), silent)
    assert ((sample.observed_at_ms - DAY0) / DAY_MS).tolist() == [10, 30, 20, 45]
    np.testing.assert_array_equal(sample.rows, [[0.0, 100.0], [2.0, 100.0], [1.0, 100.0], [math.nan, 100.0]])
