"""Figures show what they were given: every curve and bar is read back from its SVG and compared with its source."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score, roc_curve

from decision_service.report import plots
from decision_service.report.plots import Curve, GradeBar, Group, Response
from drawn import Drawn, is_rising

RNG = np.random.default_rng(11)
MARGIN = RNG.normal(-3.0, 1.2, 4_000)
PD = 1.0 / (1.0 + np.exp(-MARGIN))
BAD = RNG.random(4_000) < PD
POINTS = np.round(487.0 - 28.85 * MARGIN)


def test_the_area_below_a_drawn_roc_is_sklearns_auc() -> None:
    """By trapezoids over the polyline in the SVG, for each of several curves; the legend says the same."""
    others = PD + RNG.normal(0.0, 0.1, len(PD))
    curves = [Curve(name, *roc_curve(BAD, pd)[:2]) for name, pd in (("out of time", PD), ("champion", others))]
    drawn = Drawn(plots.roc("roc", curves, ""))
    for i, pd in enumerate((PD, others)):
        x, y = drawn.line(f"curve-{i}")
        auc = roc_auc_score(BAD, pd)
        assert np.trapezoid(y, x) == pytest.approx(auc, abs=1e-3)
        assert any(text.endswith(f"AUC {auc:.3f}") for text in drawn.texts())
        assert is_rising(x)
        assert is_rising(y)


def test_the_marked_gap_is_the_ks_statistic() -> None:
    """Its length, its place and its label are scipy's; both curves end at all of the rows."""
    at = np.unique(POINTS)
    good, bad = (np.searchsorted(np.sort(POINTS[rows]), at, side="right") / rows.sum() for rows in (~BAD, BAD))
    drawn = Drawn(plots.ks("ks", Curve("good", at, good), Curve("bad", at, bad), ""))
    expected = ks_2samp(POINTS[BAD], POINTS[~BAD])
    x, y = drawn.line("gap")
    assert abs(y[1] - y[0]) == pytest.approx(expected.statistic, abs=1e-3)
    assert x == pytest.approx([expected.statistic_location] * 2, abs=0.3)
    assert f"KS {100 * expected.statistic:.1f} % at {expected.statistic_location:.0f}" in drawn.texts()
    assert [drawn.line(f"curve-{i}")[1][-1] for i in (0, 1)] == pytest.approx([1.0, 1.0], abs=1e-3)


def test_gains_end_at_everything() -> None:
    """From nothing to all bads among all rows, never falling, through the point that the words name."""
    found = np.concatenate(([0.0], np.cumsum(BAD[np.argsort(-PD)]) / BAD.sum()))
    depth = np.linspace(0.0, 1.0, len(found))
    figure = plots.gains("gains", [Curve("out of time", depth, found)], "")
    x, y = Drawn(figure).line("curve-0")
    assert (x[0], y[0], x[-1], y[-1]) == pytest.approx((0.0, 0.0, 1.0, 1.0), abs=1e-3)
    assert is_rising(y)
    assert np.interp(0.1, x, y) == pytest.approx(found[400], abs=2e-3)
    assert f"{100 * found[400]:.1f} %" in figure.alt


def test_bars_are_as_long_as_their_values() -> None:
    """Lift and importance: one bar a value, in order."""
    lifts = [4.0, 2.5, 1.0, 0.25]
    assert [y.max() for _, y in Drawn(plots.lift("lift", lifts, "")).shapes("bars")] == pytest.approx(lifts, abs=0.02)
    values = [("first", 1_200.0), ("$x^2$", 300.0), ("third", 0.0)]
    drawn = Drawn(plots.bars("bars", values, "", "gain"))
    assert [x.max() for x, _ in drawn.shapes("bars")] == pytest.approx([1_200.0, 300.0, 0.0], abs=4.0)
    assert {"first", "$x^2$", "third", "1,200"} <= set(drawn.texts())


def test_calibration_points_are_the_groups() -> None:
    """Predicted across, observed up; a group without a bad stands at the lower edge under a mark of its own."""
    groups = [
        Group(0.002, 0.0, 0.0, 0.01, 400),
        Group(0.02, 0.025, 0.015, 0.04, 400),
        Group(0.2, 0.18, 0.14, 0.22, 400),
    ]
    figure = plots.calibration("calibration", groups, "")
    drawn = Drawn(figure, log=True)
    x, y = drawn.markers("observed")
    assert x == pytest.approx([0.02, 0.2], rel=0.02)
    assert y == pytest.approx([0.025, 0.18], rel=0.02)
    none_x, none_y = drawn.markers("none-observed")
    assert none_x == pytest.approx([0.002], rel=0.02)
    assert none_y[0] < 0.002
    assert "predicted 0.20 %, observed 0.00 %" in figure.alt


def test_a_distribution_keeps_its_shares() -> None:
    """Each part's outline has the height of every bin."""
    edges = np.arange(400.0, 801.0, 50.0)
    shares = [np.histogram(POINTS[rows], edges)[0] / rows.sum() for rows in (~BAD, BAD)]
    figure = plots.distribution("score", edges, [("good", shares[0]), ("bad", shares[1])], "", "points")
    for i, share in enumerate(shares):
        x, y = Drawn(figure).line(f"part-{i}")
        heights = [y[np.isclose(x, middle, atol=26.0)].max() for middle in (edges[:-1] + 25.0)]
        assert all(height >= value - 2e-3 for height, value in zip(heights, share, strict=True))
        assert y.max() == pytest.approx(share.max(), abs=2e-3)


def test_lines_break_where_nothing_is_known() -> None:
    """A month without a value has no marker, and levels have their names."""
    months = [f"2026-{month:02d}" for month in range(1, 7)]
    values = [0.02, 0.05, float("nan"), 0.11, 0.3, 0.04]
    drawn = Drawn(plots.lines("psi", months, [("points", values)], "", "PSI", marks=[("0.25: moved", 0.25)]))
    _, y = drawn.markers("curve-0")
    assert y == pytest.approx([v for v in values if v == v], abs=2e-3)
    assert {"2026-01", "2026-06", "0.25: moved"} <= set(drawn.texts())


def test_responses_share_a_scale_and_say_which_breaks_its_promise() -> None:
    """One panel for each input."""
    x = np.linspace(0.0, 5.0, 6)
    panels = [Response("up", x, x / 50.0), Response("down", x, 0.1 - x / 50.0, kept=False)]
    figure = plots.responses("responses", panels, "")
    assert Drawn(figure).line("curve-0")[1][-1] == pytest.approx(0.1, abs=1e-3)
    assert figure.alt.endswith("Not monotone: down.")


def test_grades_show_what_was_predicted_and_what_came() -> None:
    """A bar for the share, a dot and a diamond for the rates; a grade without rows has neither."""
    rows = [GradeBar("A", 0.7, 0.002, 0.003), GradeBar("B", 0.3, 0.05, 0.04), GradeBar("C", 0.0, np.nan, np.nan)]
    figure = plots.grades("grades", rows, "")
    assert [x.max() for x, _ in Drawn(figure).shapes("bars")] == pytest.approx([0.7, 0.3, 0.0], abs=5e-3)
    drawn = Drawn(figure, panel=2, log=True)
    assert drawn.markers("observed")[0] == pytest.approx([0.002, 0.05], rel=0.03)
    assert drawn.markers("predicted")[0] == pytest.approx([0.003, 0.04], rel=0.03)
