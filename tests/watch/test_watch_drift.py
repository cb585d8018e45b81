"""Drift arithmetic against hand-computed figures, SciPy's chi-squared and simulations in which nothing moved."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2

from decision_service.core.scorecards.chi_squared import quantile, survival
from decision_service.core.scorecards.drift import (
    bins_of,
    counts_of,
    critical_psi,
    drift,
    null_shift,
)
from decision_service.watch.card_drift import InputDrift

TENTHS = (0.1,) * 10


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 9, 30, 99])
def test_survival_and_quantile_are_those_of_scipy(freedom: int) -> None:
    """The finite sums give SciPy's values for odd and even degrees of freedom."""
    for x in (1e-9, 0.1, freedom / 2, float(freedom), 3.0 * freedom + 5.0):
        assert survival(x, freedom) == pytest.approx(chi2.sf(x, freedom), rel=1e-10, abs=1e-300)
    for exceeded in (0.5, 0.05, 0.01, 1e-6):
        assert quantile(exceeded, freedom) == pytest.approx(chi2.isf(exceeded, freedom), rel=1e-10)


def test_impossible_arguments_of_the_distribution_are_refused() -> None:
    """No degrees of freedom and a probability of 1 are mistakes in the calling code."""
    with pytest.raises(ValueError, match="0 degrees of freedom"):
        survival(1.0, 0)
    with pytest.raises(ValueError, match=r"not 1\.0"):
        quantile(1.0, 3)


def test_psi_is_the_sum_worked_out_by_hand() -> None:
    """(0.5-0.2)ln(2.5) + (0.3-0.3)ln(1) + (0.2-0.5)ln(0.4) = 0.6 ln 2.5."""
    found = drift((0.2, 0.3, 0.5), (500, 300, 200), 10_000)
    assert (found.n, found.bins) == (1_000, 3)
    assert found.psi == pytest.approx(0.6 * math.log(2.5), rel=1e-12)
    assert found.critical == pytest.approx(chi2.isf(0.01, 2) * (1 / 1_000 + 1 / 10_000), rel=1e-10)
    assert found.verdict == "moved"


def test_an_empty_bin_counts_as_half_a_row() -> None:
    """A bin that emptied keeps PSI finite: its share now is half a row's."""
    found = drift((0.5, 0.5), (100, 0), 0)
    assert found.psi == pytest.approx(0.5 * math.log(2.0) + (0.005 - 0.5) * math.log(0.01), rel=1e-12)


def test_a_bin_that_is_new_is_held_against_half_a_row_of_the_base() -> None:
    """Training never saw the second bin; what falls there now weighs heavily, and finitely."""
    found = drift((1.0, 0.0), (50, 50), 1_000)
    half = 0.5 / 1_000
    assert found.psi == pytest.approx(-0.5 * math.log(0.5) + (0.5 - half) * math.log(0.5 / half), rel=1e-12)


def test_a_bin_empty_on_both_sides_is_no_bin() -> None:
    """It adds nothing to PSI and no degree of freedom to what chance may do."""
    assert drift((0.5, 0.0, 0.5), (50, 0, 50), 100) == drift((0.5, 0.5), (50, 50), 100)


def test_nothing_to_compare_has_no_psi() -> None:
    """Without rows, or with a single bin, there is no figure, and no alarm."""
    for found in (drift(TENTHS, (0,) * 10, 1_000), drift((1.0,), (40,), 1_000), drift((), (), 0)):
        assert math.isnan(found.psi)
        assert math.isnan(found.critical)
        assert found.verdict == "no data"
        assert not found.beyond_chance


def test_counts_and_shares_of_different_bins_are_refused() -> None:
    """Counts with the bin of nulls still on them are a mistake that must not pass silently."""
    with pytest.raises(ValueError, match="11 counts for 10 shares"):
        drift(TENTHS, (1,) * 11, 0)


def test_a_value_on_a_cut_is_below_it_and_null_has_its_own_bin() -> None:
    """Bins are `<= cut`, then above the last, then null."""
    cuts = (0.0, 1.0, 5.0)
    assert bins_of(cuts, [-1.0, 0.0, 0.5, 1.0, 5.0, 5.1, math.nan]).tolist() == [0, 0, 1, 1, 2, 3, 4]
    assert counts_of(cuts, [math.nan, math.nan]).tolist() == [0, 0, 0, 0, 2]
    assert bins_of((), [3.0, math.nan]).tolist() == [0, 1]


@pytest.mark.parametrize(("n", "base_rows", "shares"), [
    (2_000, 8_000, TENTHS), (5_000, 5_000, (0.6, 0.1, 0.1, 0.1, 0.05, 0.05)), (20_000, 3_000, (0.5, 0.5)),
])  # fmt: skip
def test_chance_passes_the_critical_value_once_in_a_hundred_times(
    n: int, base_rows: int, shares: tuple[float, ...]
) -> None:
    """Two samples of one distribution, 8,000 times over: 1 %, give or take what a simulation of so many varies."""
    random = np.random.default_rng(20261122)
    base = random.multinomial(base_rows, shares, 8_000) / base_rows
    now = random.multinomial(n, shares, 8_000)
    passed = sum(drift(p, q, base_rows).beyond_chance for p, q in zip(base, now, strict=True))
    assert 0.006 < passed / 8_000 < 0.0145


def test_few_rows_pass_a_fixed_limit_by_chance_and_not_the_critical_value() -> None:
    """With 60 rows PSI is above 0.1 more often than not though nothing moved; the verdict stays steady."""
    random = np.random.default_rng(7)
    found = [drift(TENTHS, counts, 100_000) for counts in random.multinomial(60, TENTHS, 2_000)]
    assert sum(one.psi > 0.1 for one in found) > 1_000
    assert sum(one.verdict != "steady" for one in found) < 100
    assert all(one.thin for one in found)


def test_a_real_shift_is_beyond_chance_in_a_sample_of_ordinary_size() -> None:
    """Half a standard deviation of a normal score is found by 1,000 rows; a tenth of it is no shift."""
    random = np.random.default_rng(11)
    base = random.normal(600.0, 40.0, 50_000)
    cuts = tuple(np.quantile(base, np.arange(1, 10) / 10).tolist())
    shares = counts_of(cuts, base)[:-1] / len(base)
    moved = drift(shares.tolist(), counts_of(cuts, random.normal(580.0, 40.0, 1_000))[:-1], len(base))
    still = drift(shares.tolist(), counts_of(cuts, random.normal(598.0, 40.0, 1_000))[:-1], len(base))
    assert moved.beyond_chance
    assert moved.verdict in ("shifted", "moved")
    assert still.verdict == "steady"


def test_the_critical_value_grows_without_a_known_base_only_by_what_now_is_uncertain() -> None:
    """0 rows of the base is unknown: only the uncertainty of today's rows is left."""
    assert critical_psi(100, 10, 0) == pytest.approx(chi2.isf(0.01, 9) / 100)


def test_a_null_rate_shift_is_a_difference_of_shares() -> None:
    """30 of 100 null where training had 5 %: 25 points; no rows, no figure."""
    assert null_shift(0.05, 30, 100) == pytest.approx(0.25)
    assert math.isnan(null_shift(0.05, 0, 0))


def test_one_null_among_four_is_no_alarm_and_a_hundred_among_four_hundred_are() -> None:
    """A page must not mark what its findings pass over: the shift has to be large, and beyond chance."""
    for known, nulls, alert in ((3, 1, False), (300, 100, True), (370, 30, False)):
        shift = null_shift(0.01, nulls, known + nulls)
        one = InputDrift(
            "f", (), (1.0,), (known,), drift((1.0,), (known,), 1_000), nulls / (known + nulls), 0.01, shift, nulls
        )  # fmt: skip
        assert one.null_alert is alert
