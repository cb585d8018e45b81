"""Observation points: what may be known at each, and what counts as bad after it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from decision_service.core.errors import PolicyRejected
from decision_service.core.event import KINDS, RECORD
from decision_service.core.limits import DAY_MS, RECORD_BYTES
from decision_service.core.zone import zone_named
from decision_service.portfolio import Portfolio, PortfolioPlan, generate
from decision_service.train.config import SampleDesign
from decision_service.train.evaluate import calibration_error, quality
from decision_service.train.sample import RowReader, draw_sample, neutral_request, observe

UNTIL_MS = 1_793_462_400_000  # 2026-11-01T00:00:00+08:00
DESIGN = SampleDesign(
    observe_every_d=30, observations=6, performance_d=60, bad_dpd=15, days_past_due_max=0, days_on_book_min=60,
    out_of_time=2, seed=1,
)  # fmt: skip
NAMES = ("use", "ok_cnt_30d", "ok_amt_90d", "late_max_180d", "facility.limit")


@pytest.fixture(scope="module")
def portfolio() -> Portfolio:
    """400 customers over 300 days."""
    return generate(PortfolioPlan(customers=400, now_ms=UNTIL_MS, seed=8, days=300, per_pattern=0))


@pytest.fixture(scope="module")
def reader() -> RowReader:
    """The tests' catalogue."""
    return RowReader(Path(__file__).parent / "rules", NAMES, zone_named("Asia/Shanghai"))


def test_features_of_entities_are_refused_with_their_grain(tmp_path: Path) -> None:
    """A training sample has no log of a device: asking for a feature of one, or made of one, says so."""
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "links.yaml").write_text(
        'segments: {any: not kind == "label"}\n'
        "features: {seen: {agg: count, of: any, window: 7d, grain: device, null: Z, unit: n, en: x, zh: x}}\n"
        "derived: {twice: {expr: seen * 2, null: Z, unit: n, en: x, zh: x}}\n"
    )
    with pytest.raises(PolicyRejected) as refused:
        RowReader(tmp_path, ["twice"], zone_named("Asia/Shanghai"))
    (message,) = [d.message for d in refused.value.diagnostics]
    assert message == (
        "feature 'seen' has the grain `device`, whose logs a training sample does not hold: another feature is made"
        " of it"
    )


def test_bad_is_enough_days_past_due_inside_the_window_and_nothing_else(portfolio: Portfolio) -> None:
    """The label equals a plain loop over the events of the performance window."""
    bads = 0
    for observation in observe(portfolio.customers, UNTIL_MS, DESIGN):
        expected = False
        for event in observation.history.table:
            late = event["kind"] == KINDS["overdue"] and event["value"] >= DESIGN.bad_dpd
            after = observation.at_ms < event["at_ms"] <= observation.at_ms + 60 * DAY_MS
            expected = expected or bool(late and after)
        assert observation.bad == expected
        bads += expected
    assert bads > 5


def test_only_performing_customers_with_enough_history_are_observed(portfolio: Portfolio) -> None:
    """Nobody in arrears, nobody younger than the design says, nobody outside the time it covers."""
    observations = list(observe(portfolio.customers, UNTIL_MS, DESIGN))
    assert len(observations) > 300
    for observation in observations:
        assert observation.facility.days_past_due == 0
        assert observation.at_ms - observation.facility.granted_at_ms >= 60 * DAY_MS
        assert observation.at_ms <= UNTIL_MS - DESIGN.performance_d * DAY_MS
        newest = observation.at_ms > UNTIL_MS - (DESIGN.performance_d + 2 * 30) * DAY_MS
        assert observation.out_of_time == newest


def test_a_row_knows_nothing_of_what_came_later(portfolio: Portfolio, reader: RowReader) -> None:
    """Counts and sums equal those of the events up to the instant, taken by hand."""
    checked = 0
    for observation in list(observe(portfolio.customers, UNTIL_MS, DESIGN))[::7]:
        row = reader.read(observation, neutral_request(observation))
        log = np.frombuffer(observation.history.log[RECORD_BYTES:], RECORD)
        age = observation.at_ms - log["occurred_at_ms"]
        drawn = (log["kind"] == KINDS["drawdown"]) & (log["status"] == 1) & (age >= 0)
        assert row[1] == (drawn & (age < 30 * DAY_MS)).sum()
        assert row[2] == log["amount_minor"][drawn & (age < 90 * DAY_MS)].sum() / 100
        assert row[4] == observation.facility.limit_minor / 100
        assert 0.0 <= row[0] <= 1.0
        checked += row[1] > 0
    assert checked > 20


def test_the_sample_is_the_same_every_time(portfolio: Portfolio, reader: RowReader) -> None:
    """Seeded instants give equal rows."""
    one = draw_sample(portfolio.customers, UNTIL_MS, DESIGN, reader, lambda _text: None)
    two = draw_sample(portfolio.customers, UNTIL_MS, DESIGN, reader, lambda _text: None)
    np.testing.assert_array_equal(one.rows, two.rows)
    assert one.rows.shape == (len(one.bad), len(NAMES))


def test_a_feature_that_depends_on_the_request_is_refused(portfolio: Portfolio) -> None:
    """A behaviour scorecard must say the same whatever is asked for."""
    telling = RowReader(Path(__file__).parent / "rules", ("use", "asked_share"), zone_named("Asia/Shanghai"))
    with pytest.raises(PolicyRejected, match="'asked_share' depends on the request"):
        draw_sample(portfolio.customers, UNTIL_MS, DESIGN, telling, lambda _text: None)


def test_quality_of_a_perfect_and_of_a_useless_score() -> None:
    """A perfect order has AUC and KS 1; a constant one AUC 0.5 and KS 0."""
    bad = np.array([0, 0, 0, 1, 1], np.int8)
    perfect = quality(np.array([0.1, 0.2, 0.3, 0.8, 0.9]), bad)
    assert (perfect.auc, perfect.ks, perfect.rows, perfect.bads) == (1.0, 1.0, 5, 2)
    useless = quality(np.full(5, 0.4), bad)
    assert (useless.auc, useless.ks) == (0.5, 0.0)


def test_calibration_error_is_the_mean_gap_of_groups() -> None:
    """Predictions that come true have none; those twice as high are off by their own size."""
    bad = np.tile(np.array([1, 0, 0, 0], np.int8), 250)
    assert calibration_error(np.full(1_000, 0.25), bad) == pytest.approx(0.0)
    assert calibration_error(np.full(1_000, 0.50), bad) == pytest.approx(0.25)
