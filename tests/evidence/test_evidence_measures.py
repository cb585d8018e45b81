"""What evidence is measured with agrees with scikit-learn, and its intervals hold what they say."""

from __future__ import annotations

import numpy as np
import pytest
from measures import Figure, Ranking, calibration, figure, share
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve


@pytest.mark.parametrize("steps", [7, 10_000])
def test_a_ranking_has_the_figures_of_scikit_learn(steps: int) -> None:
    """AUC, KS and average precision, with many equal risks and with hardly any, unweighted and weighted."""
    rng = np.random.default_rng(5)
    risk = rng.integers(0, steps, 600).astype(float)
    bad = (rng.random(600) < 0.1 + 0.5 * risk / steps).astype(int)
    ranking = Ranking(risk, bad)
    for weights in (np.ones(600), rng.integers(0, 4, 600).astype(float)):
        wrong, right, _ = roc_curve(bad, risk, sample_weight=weights)
        assert ranking.auc(weights) == pytest.approx(roc_auc_score(bad, risk, sample_weight=weights), abs=1e-12)
        assert ranking.ks(weights) == pytest.approx(np.max(right - wrong), abs=1e-12)
        expected = average_precision_score(bad, risk, sample_weight=weights)
        assert ranking.average_precision(weights) == pytest.approx(expected, abs=1e-12)


def test_an_interval_of_customers_is_wider_than_one_of_rows() -> None:
    """Ten equal rows of a customer are one piece of evidence and not ten."""
    yes = np.repeat(np.arange(40) % 2, 10)
    by_row = figure(share(yes, np.ones(400)), np.arange(400))
    by_customer = figure(share(yes, np.ones(400)), np.repeat(np.arange(40), 10))
    assert by_row.value == by_customer.value == 0.5
    assert by_row.low < 0.5 < by_row.high
    assert by_customer.high - by_customer.low > 2 * (by_row.high - by_row.low)


def test_calibration_compares_groups_of_equal_size() -> None:
    """Two groups, predicted 0.1 and 0.6, observed 0 and 1: a mean gap of (0.1 + 0.4) / 2."""
    found = calibration(np.array([0.6, 0.1, 0.6, 0.1]), np.array([1, 0, 1, 0]), groups=2)
    assert found.groups == ((pytest.approx(0.1), 0.0), (pytest.approx(0.6), 1.0))
    assert (found.predicted, found.observed, found.error) == (pytest.approx(0.35), 0.5, pytest.approx(0.25))


def test_a_figure_is_told_with_its_interval() -> None:
    """As a number, and as a percentage."""
    assert Figure(0.7894, 0.7751, 0.8016).text() == "0.789 (0.775 to 0.802)"
    assert Figure(0.7894, 0.7751, 0.8016).text(1, percent=True) == "78.9 % (77.5 to 80.2)"
