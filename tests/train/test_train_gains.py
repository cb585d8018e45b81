"""Gains, cumulated shares and information value, against figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ks_2samp

from decision_service.train.gains import cumulated, gains, information_value

PD = np.array([0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.6, 0.4, 0.5, 0.05])
BAD = np.array([1, 0, 1, 0, 0, 0, 1, 0, 0, 0], np.int8)


def test_gains_by_hand() -> None:
    """Five pairs, riskiest first: 2, 1, 0, 0, 0 bads of 3 among 10."""
    found = gains(PD, BAD, 5)
    assert [(g.rows, g.bads) for g in found] == [(2, 2), (2, 1), (2, 0), (2, 0), (2, 0)]
    assert [g.lift for g in found] == pytest.approx([1.0 / 0.3, 0.5 / 0.3, 0.0, 0.0, 0.0])
    assert [g.bads_so_far for g in found] == pytest.approx([2 / 3, 1.0, 1.0, 1.0, 1.0])
    assert [g.rows_so_far for g in found] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [g.pd_least for g in found] == [0.8, 0.6, 0.4, 0.2, 0.05]


def test_few_cumulated_values_keep_the_widest_gap() -> None:
    """However few values are asked for, the gap of Kolmogorov and Smirnov is among them."""
    rng = np.random.default_rng(4)
    values, bad = rng.normal(size=3_000), (rng.random(3_000) < 0.1).astype(np.int8)
    values[bad == 1] -= 0.7
    at, goods, bads = cumulated(values, bad, 7)
    assert len(at) <= 8
    assert np.max(np.abs(bads - goods)) == pytest.approx(ks_2samp(values[bad == 1], values[bad == 0]).statistic)


def test_information_value_by_hand() -> None:
    """Two bins and one of nulls, half a row added to each side of each."""
    values = np.array([0.0, 0.0, 0.0, 1.0, 1.0, np.nan])
    bad = np.array([0, 0, 1, 1, 1, 0], np.int8)
    g, b = (2.5 / 4.5, 0.5 / 4.5, 1.5 / 4.5), (1.5 / 4.5, 2.5 / 4.5, 0.5 / 4.5)
    expected = sum((x - y) * math.log(x / y) for x, y in zip(g, b, strict=True))
    assert information_value((0.5,), values, bad) == pytest.approx(expected)
