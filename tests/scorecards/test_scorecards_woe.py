"""How a WOE points scorecard reads and scores, and what its file must be before it does."""

from __future__ import annotations

import math
import pickle
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import woe_maker
from hypothesis import given, settings
from hypothesis import strategies as st
from scorecard_maker import Trained
from scorecard_maker import manifest_text as tree_manifest
from woe_maker import MODEL, NAMES, PLATT, ROWS, good_model, manifest_of, margins_of, read_model, row_of, write_woe

from decision_service.core.errors import ScorecardRejected
from decision_service.core.scorecards.scaling import Scaling
from decision_service.core.scorecards.woe import WoeFeature, WoeScorer, bin_points
from decision_service.scorecards.files import load_scorecard

EDGES = st.sampled_from([math.nan, 0.3, 0.8, 1.0, 6.0, -0.0, 5e-324, 1.7e308, -1.7e308, math.nextafter(0.3, 0.0)])
VALUES = st.one_of(EDGES, st.floats(-10.0, 20.0))
SETTINGS = settings(max_examples=150, deadline=None)
TABLES = st.tuples(VALUES, VALUES, st.floats(-10.0, 20.0))


def by_definition(feature: WoeFeature, value: float) -> float:
    """coefficient * WOE of the first bin that a value is below, by the words of the format."""
    if math.isnan(value):
        assert feature.missing is not None
        return feature.coefficient * feature.missing.woe
    return feature.coefficient * next(one.woe for one in feature.bins if value < one.below)


@SETTINGS
@given(row=TABLES)
def test_a_margin_is_what_the_format_says(row: tuple[float, float, float]) -> None:
    """The intercept and, of each feature, its coefficient times the WOE of the bin that its value is in."""
    model = good_model()
    expected = model.intercept + sum(by_definition(f, x) for f, x in zip(model.features, row, strict=True))
    assert WoeScorer(model).margin(np.array(row)) == pytest.approx(expected, abs=1e-12)


@SETTINGS
@given(row=TABLES)
def test_contributions_add_up_to_the_margin(row: tuple[float, float, float]) -> None:
    """What each value adds, and last the margin expected of an unknown row."""
    scorer = WoeScorer(good_model())
    parts = scorer.contributions(np.array(row))
    assert abs(math.fsum(parts) - scorer.margin(np.array(row))) <= 1e-12


def test_contributions_are_relative_to_the_training_mean() -> None:
    """Over the training rows the contributions of a feature cancel out, and the expected margin is the mean margin."""
    model = good_model()
    scorer = WoeScorer(model)
    middles = {"utl_now": (0.1, 0.5, 0.9, math.nan), "dpd_max_90d": (0.0, 3.0, math.nan), "mob_months": (1.0, 9.0)}
    for i, feature in enumerate(model.features):
        total = 0.0
        for value, one in zip(middles[feature.name], feature.all_bins, strict=True):
            row = np.array([0.1, 0.0, 9.0])
            row[i] = value
            total += one.rows * scorer.contributions(row)[i]
        assert total / feature.rows == pytest.approx(0.0, abs=1e-12)
    expected = sum(f.coefficient * sum(b.rows * b.woe for b in f.all_bins) / f.rows for f in model.features)
    assert scorer.contributions(np.zeros(3))[-1] == pytest.approx(model.intercept + expected, abs=1e-12)


@SETTINGS
@given(values=st.tuples(st.floats(-10.0, 20.0), st.floats(-10.0, 20.0)), rest=TABLES)
def test_a_declared_direction_is_kept(values: tuple[float, float], rest: tuple[float, float, float]) -> None:
    """The PD never falls when utilisation rises, and never rises with months on book."""
    scorer = WoeScorer(good_model())
    low, high = sorted(values)
    for i, direction in ((0, 1.0), (1, 1.0), (2, -1.0)):
        better, worse = np.array(rest), np.array(rest)
        better[i], worse[i] = low, high
        assert direction * (scorer.margin(worse) - scorer.margin(better)) >= 0.0


def test_a_value_on_a_cut_falls_into_the_bin_above() -> None:
    """`below: 0.3` holds what is below 0.3 and not 0.3 itself."""
    scorer = WoeScorer(good_model())

    def utl(value: float) -> float:
        return float(scorer.margin(np.array([value, 0.0, 9.0])))

    assert utl(math.nextafter(0.3, 0.0)) == utl(-5.0) < utl(0.3) == utl(math.nextafter(0.8, 0.0)) < utl(0.8)


@pytest.mark.parametrize("bad", [math.inf, -math.inf])
def test_an_infinity_is_refused(bad: float) -> None:
    """It is no value of a feature, whichever bin it would fall into."""
    for call in (WoeScorer(good_model()).margin, WoeScorer(good_model()).contributions):
        with pytest.raises(ValueError, match="feature 1 is infinite"):
            call(np.array([0.1, bad, 9.0]))
        with pytest.raises(ValueError, match=r"shape \(3,\) is expected"):
            call(np.zeros(4))


def test_a_null_without_a_bin_gives_no_margin(tmp_path: Path) -> None:
    """The manifest refuses such a null by name; the scorer itself says that it does not know."""
    row = np.array([0.1, 0.0, math.nan])
    assert math.isnan(WoeScorer(good_model()).margin(row))
    score = load_scorecard(write_woe(tmp_path)).score(row)
    assert score.points is None
    assert score.problem == "feature mob_months is null, which the model never saw"


def test_points_of_bins_add_up_to_the_score_but_for_their_rounding(tmp_path: Path) -> None:
    """The table that people read is the scorecard that decides, to half a point a feature."""
    card = load_scorecard(write_woe(tmp_path))
    model, platt, scaling = good_model(), PLATT, Scaling()
    for row in ROWS:
        score = card.score(row_of(row))
        assert score.points is not None
        added = [_bin_points(f, x) for f, x in zip(model.features, row_of(row), strict=True)]
        assert abs(sum(added) - score.points) <= len(NAMES) / 2 + 0.5
    exact = sum(bin_points(f.bins[0].woe, f.coefficient, model.intercept, 3, platt, scaling) for f in model.features)
    margin = WoeScorer(model).margin(np.array([0.1, 0.0, 1.0]))
    assert exact == pytest.approx(scaling.offset - scaling.factor * (platt.a * margin + platt.b), abs=1e-9)


def _bin_points(feature: WoeFeature, value: float) -> int:
    if math.isnan(value):
        assert feature.missing is not None
        return feature.missing.points
    return next(one.points for one in feature.bins if value < one.below)


# --- diagnostics ------------------------------------------------------------------------------------------------------

WRONG = {
    "below: 0.8": ("below: 0.3", "below does not rise", "a number above 0.3"),
    "coefficient: -0.8": ("coefficient: 0.8", "features.0.coefficient is wrong", "from -1e+06 to 0"),
    "woe: 0.9": ("woe: .inf", "bins.0.woe is wrong", "a number from"),
    "points: 169, woe": ("points: 170, woe", "points is 170", "169, which follows from woe"),
    "woe: 0.2,": ("woe: 0.95,", "breaks monotone: 1 of the manifest", "a PD that never falls"),
    "rows: 300, bads: 6": ("rows: 300, bads: 301", "bads exceeds rows", "the bad ones"),
    "    missing: {points: 192, woe: -0.1, rows: 50, bads: 1}\n": ("", "`utl_now` has no bin for null", "missing: {"),
    "name: utl_now": ("name: utl_new", "'utl_new' is not a feature of the manifest", "such as utl_now"),
    "{points: 169, ": ("{below: 0.9, points: 169, ", "closes the last bin", "for everything above"),
    "{below: 0.3, ": ("{", "lacks 'below'", "a number"),
    "format: woe/1": ("format: woe/2", "cannot be 'woe/2'", "woe/1"),
    "intercept: -3.2": ("intercept: nan", "model.intercept is wrong", "a number from"),
    "rows: 400, bads: 12}": ("rows: 400, bad: 12}", "has no key 'bad'", "bads"),
}


@pytest.mark.parametrize("was", WRONG)
def test_a_mistake_in_the_file_is_shown_where_it_stands(was: str) -> None:
    """Each with its line, a caret, and what is expected there."""
    becomes, message, expected = WRONG[was]
    assert MODEL.count(was) == 1
    model, findings = read_model(MODEL.replace(was, becomes))
    said = "\n".join(findings)
    assert model is None
    assert message in said
    assert expected in said
    assert said.startswith("model.yaml:")
    assert "^" in said


def test_all_mistakes_are_reported_at_once() -> None:
    """One pass over the file finds them all."""
    text = MODEL.replace("woe: 0.9", "woe: much").replace("bads: 12", "bads: -12").replace("intercept: -3.2\n", "")
    assert len(read_model(text)[1]) == 3


def test_features_in_another_order_are_refused() -> None:
    """G04: the right names in the wrong places would load and lie."""
    one, two, three = MODEL.index("  - name: utl"), MODEL.index("  - name: dpd"), MODEL.index("  - name: mob")
    swapped = MODEL[:one] + MODEL[two:three] + MODEL[one:two] + MODEL[three:]
    said = "\n".join(read_model(swapped)[1])
    assert "'dpd_max_90d', out of order" in said
    assert "expected: utl_now, which is feature 0 of the manifest" in said
    assert "has 2 entries" in "\n".join(read_model(MODEL[:three])[1])


def test_points_need_a_calibration_under_which_they_add_up() -> None:
    """An isotonic calibration has no points of bins."""
    text = woe_maker.manifest_text(MODEL, [0.0] * len(ROWS))
    isotonic = text.replace(f"method: platt, a: {PLATT.a!r}, b: {PLATT.b!r}",
                            "method: isotonic, margins: [-5, 0], pds: [0.01, 0.5]")  # fmt: skip
    _, findings = read_model(MODEL, manifest_of(isotonic))
    assert "the manifest's calibration is isotonic" in "\n".join(findings)


# --- the checks of a directory ----------------------------------------------------------------------------------------


def rejected(directory: Path) -> str:
    """Why the directory does not load."""
    with pytest.raises(ScorecardRejected) as caught:
        load_scorecard(directory)
    return caught.value.message


def test_a_good_points_scorecard_loads_and_scores(tmp_path: Path) -> None:
    """Points, PD and grade are those of its margin through calibration and scale, as for any model."""
    card = load_scorecard(write_woe(tmp_path))
    assert (card.name, card.version, card.names) == ("classic", "1", NAMES)
    for row, margin in zip(ROWS, margins_of(good_model()), strict=True):
        score = card.score(row_of(row))
        assert (score.pd, score.points) == (PLATT.pd(margin), Scaling().points(PLATT.pd(margin)))
    assert card.score(np.full(3, np.nan)).problem == "all features null"


@pytest.mark.parametrize("cut", [0.05, 0.5, 0.99])
def test_a_truncated_points_scorecard_is_refused(tmp_path: Path, cut: float) -> None:
    """G01: by its checksum, and by its reader if the checksum is made to fit."""
    directory = write_woe(tmp_path)
    torn = MODEL[: int(len(MODEL) * cut)]
    (directory / "model.yaml").write_text(torn)
    assert "SHA-256" in rejected(directory)
    _reseal(directory)
    assert "SHA-256" not in rejected(directory)


def test_a_digit_changed_with_a_fitting_checksum_fails_the_golden_rows(tmp_path: Path) -> None:
    """G02: a WOE that keeps points and order is caught by what the rows must score."""
    directory = write_woe(tmp_path, MODEL.replace("woe: 0.9", "woe: 0.901"),
                          woe_maker.manifest_text(MODEL, margins_of(good_model())))  # fmt: skip
    _reseal(directory)
    assert "golden row 0 scores" in rejected(directory)


def test_a_points_scorecard_that_tells_nobody_apart_is_refused(tmp_path: Path) -> None:
    """G07: coefficients of 0 give every row the intercept."""
    flat = MODEL
    for coefficient in ("-0.8", "-1.25", "-0.5"):
        flat = flat.replace(f"coefficient: {coefficient}", "coefficient: 0")
    same = round(bin_points(0.0, 0.0, -3.2, 3, PLATT, Scaling()))
    for points in (217, 199, 169, 192, 210, 147, 194, 188):
        flat = flat.replace(f"points: {points}", f"points: {same}")
    directory = write_woe(tmp_path, flat, woe_maker.manifest_text(flat, [-3.2] * len(ROWS)))
    assert "tells nobody apart" in rejected(directory)


def test_a_slow_points_scorecard_is_refused(tmp_path: Path) -> None:
    """G08: it is timed as any model is."""
    with pytest.raises(ScorecardRejected, match="us a score;"):
        load_scorecard(write_woe(tmp_path), score_us_max=0.001)


def test_a_model_of_the_other_kind_is_refused_by_name(tmp_path: Path, small_model: Trained) -> None:
    """Neither passes for the other, and neither is tried as the other."""
    as_trees = woe_maker.manifest_text(MODEL, margins_of(good_model()), kind="lightgbm")
    directory = write_woe(tmp_path, manifest=as_trees)
    assert "is a WOE points scorecard, but the manifest says kind: lightgbm" in rejected(directory)
    trees = tmp_path / "behaviour" / "1"
    trees.mkdir(parents=True)
    (trees / "model.txt").write_bytes(small_model.text)
    (trees / "manifest.yaml").write_text(tree_manifest(small_model).replace("model: {", "model: {kind: woe, "))
    assert "is a LightGBM model, but the manifest says kind: woe" in rejected(trees)


@pytest.mark.parametrize(
    "content", [pickle.dumps({"a": 1}), b'{"format": "woe/1"}', b"\0", b"#\n" * 40_000, b"<PMML/>"]
)
def test_what_is_no_points_scorecard_is_refused(tmp_path: Path, content: bytes) -> None:
    """G10: only the format that the manifest names is read at all."""
    directory = write_woe(tmp_path)
    (directory / "model.yaml").write_bytes(content)
    _reseal(directory)
    assert "is not a WOE points scorecard" in rejected(directory)


@pytest.mark.parametrize("smuggled", ["&a -3.2", "!!python/object/apply:os.getpid []", "*a"])
def test_a_points_scorecard_holds_only_data(tmp_path: Path, smuggled: str) -> None:
    """G10: tags, anchors and aliases are refused as in any policy file."""
    directory = write_woe(tmp_path, MODEL.replace("intercept: -3.2", f"intercept: {smuggled}"),
                          woe_maker.manifest_text(MODEL, margins_of(good_model())))  # fmt: skip
    _reseal(directory)
    assert "not allowed" in rejected(directory) or "not valid YAML" in rejected(directory)


def _reseal(directory: Path) -> None:
    """Make the checksum fit the model as it now is."""
    path = directory / "manifest.yaml"
    before, after = path.read_text().split("sha256: ")
    path.write_text(f"{before}sha256: {sha256((directory / 'model.yaml').read_bytes()).hexdigest()}{after[64:]}")
