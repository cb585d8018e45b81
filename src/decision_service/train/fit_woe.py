"""A WOE points scorecard: bins of every feature, those that tell good from bad, a logistic regression on their WOE.

Features whose information value is below `iv_min` are left out. Of those that stay every coefficient must be below 0
(WOE is of good over bad): a feature with another sign is explained by the others and would turn its own bins upside
down, so the worst of them leaves and the rest are fitted again, until none has one. The regression has no penalty, and
its numbers are rounded before anything is computed from them, so the bytes are the same on every run.

A share of the training values is blanked at random, as for LightGBM: a bin of null without rows would know nothing.
Calibration is on rows that the model has not seen, by Platt, under which points add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.scaling import Platt, Scaling
from decision_service.core.scorecards.woe import WoeBin, WoeFeature, WoeModel, WoeScorer, bin_points
from decision_service.core.scorecards.woe_file import woe_text
from decision_service.train.bins import Bins, bins_of
from decision_service.train.calibrate import calibrate
from decision_service.train.config import TrainConfig
from decision_service.train.division import Division
from decision_service.train.fit import blanked
from decision_service.train.fitted import Fitted, NothingToLearn
from decision_service.train.model_design import WoeDesign
from decision_service.train.sample import Sample

_DECIMALS: Final = 6  # of coefficients, far below what the data can tell

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]


class _Line(NamedTuple):
    """What the regression found: the margin is intercept + sum of coefficient * WOE."""

    intercept: float
    coefficients: dict[str, float]


def fit_woe(sample: Sample, config: TrainConfig, division: Division, say: Callable[[str], None]) -> Fitted:
    """Bin, choose, regress and calibrate. Raises NothingToLearn."""
    design = config.model
    assert isinstance(design, WoeDesign), "the training file says kind: woe"
    bad = sample.bad[division.train]
    rows = blanked(sample.rows[division.train], design.null_share, design.seed)
    say(f"binning {len(config.features)} features")
    bins = {
        feature.name: bins_of(feature.name, rows[:, i], bad, feature.monotone, design)
        for i, feature in enumerate(config.features)
    }
    telling = _telling(bins, design.iv_min, say)
    line = _regressed({name: bins[name].woe_of(rows[:, config.names.index(name)]) for name in telling}, bad, say)
    margins = _margins(sample.rows, config.names, bins, line)
    calibration = calibrate("platt", margins[division.calibrate], sample.bad[division.calibrate])
    assert isinstance(calibration, Platt), "asked for by name"
    model = _model(bins, line, calibration, config.scaling)
    return Fitted(
        woe_text(model).encode(), "woe", margins, calibration, _about(bins, telling, line), tuple(line.coefficients),
        WoeScorer(model),
    )  # fmt: skip


def _telling(bins: Mapping[str, Bins], iv_min: float, say: Callable[[str], None]) -> list[str]:
    """The features with enough information value, in order."""
    telling = [name for name, one in bins.items() if one.iv >= iv_min]
    dropped = [f"{name} {one.iv:.3f}" for name, one in bins.items() if one.iv < iv_min]
    say(f"{len(telling)} of {len(bins)} features have IV {iv_min:g} or more" + _listed("; left out: ", dropped))
    if not telling:
        raise NothingToLearn(f"no feature has an information value of {iv_min:g} or more")
    return telling


def _regressed(woes: dict[str, Floats], bad: Labels, say: Callable[[str], None]) -> _Line:
    """The regression on the features that are left when all coefficients are below 0."""
    woes = dict(woes)
    while woes:
        line = _line(woes, bad)
        worst = max(line.coefficients, key=lambda name: line.coefficients[name])
        if line.coefficients[worst] < 0.0:
            return line
        say(f"{worst} leaves: its coefficient beside the others is {line.coefficients[worst]:.3f}, not below 0")
        del woes[worst]
    raise NothingToLearn("no feature keeps a coefficient below 0")


def _line(woes: Mapping[str, Floats], bad: Labels) -> _Line:
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=np.inf, tol=1e-9, max_iter=1_000).fit(np.column_stack(list(woes.values())), bad)
    found = (round(float(each), _DECIMALS) for each in fitted.coef_[0])
    return _Line(round(float(fitted.intercept_[0]), _DECIMALS), dict(zip(woes, found, strict=True)))


def _margins(rows: Floats, names: tuple[str, ...], bins: Mapping[str, Bins], line: _Line) -> Floats:
    """Of all rows, added in the order in which `WoeScorer` adds, so that they are the same to the last bit."""
    margins = np.full(len(rows), line.intercept)
    for name, coefficient in line.coefficients.items():
        margins += coefficient * bins[name].woe_of(rows[:, names.index(name)])
    return margins


def _model(bins: Mapping[str, Bins], line: _Line, platt: Platt, scaling: Scaling) -> WoeModel:
    features = []
    for name, coefficient in line.coefficients.items():
        found = bins[name]
        below = (*found.cuts, np.inf, np.nan)
        points = [
            round(bin_points(float(woe), coefficient, line.intercept, len(line.coefficients), platt, scaling))
            for woe in found.woe
        ]
        *known, null = (
            WoeBin(*each) for each in
            zip(below, points, found.woe.tolist(), found.rows.tolist(), found.bads.tolist(), strict=True)
        )  # fmt: skip
        features.append(WoeFeature(name, coefficient, tuple(known), null))
    return WoeModel(line.intercept, tuple(features))


def _about(bins: Mapping[str, Bins], telling: list[str], line: _Line) -> str:
    from importlib.metadata import version

    weak = [name for name in bins if name not in telling]
    turned = [name for name in telling if name not in line.coefficients]
    return (
        f"WOE points scorecard, bins by optbinning {version('optbinning')}: {len(line.coefficients)} of {len(bins)} "
        f"features{_listed('; too little information value: ', weak)}{_listed('; explained by the others: ', turned)}"
    )


def _listed(before: str, names: list[str]) -> str:
    return before + ", ".join(names) if names else ""
