"""Calibration, points and grades."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decision_service.core.scorecards.scaling import STANDARD_GRADES, Isotonic, Platt, Scaling, logistic


@pytest.mark.parametrize(("pd", "points"), [(1 / 51, 600), (1 / 26, 580), (1 / 101, 620), (1 / 201, 640)])
def test_twenty_points_double_the_odds(pd: float, points: int) -> None:
    """600 points mean 50 good for 1 bad, and each 20 points more mean twice as many."""
    assert Scaling().points(pd) == points


def test_factor_and_offset_are_the_published_ones() -> None:
    """Base 600 at 50:1 and PDO 20 give factor 28.8539 and offset 487.123."""
    assert Scaling().factor == pytest.approx(28.8539, abs=1e-4)
    assert Scaling().offset == pytest.approx(487.123, abs=1e-3)


@pytest.mark.parametrize(("pd", "points"), [(0.0, 850), (1e-9, 850), (1.0, 300), (1.0 - 1e-12, 300)])
def test_certainty_is_clamped_to_the_ends_of_the_scale(pd: float, points: int) -> None:
    """A PD of 0 or 1 has no finite log-odds; it gets the end of the scale."""
    assert Scaling().points(pd) == points


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_a_higher_margin_never_gives_more_points(a: float, b: float) -> None:
    """Through calibration and scaling the order of margins is kept, whatever their size."""
    low, high = sorted((a, b))
    platt = Platt(1.3, -0.2)
    assert 1e-6 <= platt.pd(low) <= platt.pd(high) <= 1 - 1e-6
    assert Scaling().points(platt.pd(low)) >= Scaling().points(platt.pd(high))


def test_isotonic_is_linear_between_knots_and_flat_beyond() -> None:
    """The table interpolates inside and holds its ends outside."""
    table = Isotonic((-2.0, 0.0, 2.0), (0.1, 0.2, 0.6))
    assert table.pd(-9.0) == 0.1
    assert table.pd(-1.0) == pytest.approx(0.15)
    assert table.pd(0.0) == 0.2
    assert table.pd(1.0) == pytest.approx(0.4)
    assert table.pd(9.0) == 0.6


@pytest.mark.parametrize(
    ("points", "grade"),
    [
        (850, "A"),
        (660, "A"),
        (659, "B"),
        (620, "B"),
        (619, "C"),
        (580, "C"),
        (579, "D"),
        (540, "D"),
        (539, "E"),
    ],
)
def test_grades_begin_at_their_least_points(points: int, grade: str) -> None:
    """The band edges of the starter strategies."""
    assert STANDARD_GRADES.of(points) == grade


def test_logistic_never_overflows() -> None:
    """The largest doubles give probabilities, not exceptions."""
    assert logistic(-1.7e308) < 1e-300
    assert logistic(1.7e308) == 1.0
    assert logistic(0.0) == 0.5
    assert math.isclose(logistic(math.log(3.0)), 0.75)
