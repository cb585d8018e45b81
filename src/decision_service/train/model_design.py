"""`model:` of a training file: what kind of model is fitted, and how it may look."""

from __future__ import annotations

from dataclasses import dataclass

from decision_service.core.scorecards.manifest import MODEL_KINDS
from decision_service.core.scorecards.reading import Section


@dataclass(frozen=True, slots=True)
class LightgbmDesign:
    """What LightGBM may build."""

    trees: int
    leaves: int
    learning_rate: float
    rows_in_leaf_min: int
    l2: float
    rows_share: float
    features_share: float
    stop_after: int  # rounds without improvement on the validation customers; 0 never stops early
    validation_share: float  # of customers, kept from the trees to decide when to stop
    null_share: float  # of values blanked at random, so that the model knows every feature as unknown
    seed: int


@dataclass(frozen=True, slots=True)
class WoeDesign:
    """What a points scorecard may look like."""

    bins_max: int  # of one feature, that of null apart
    bin_share_min: float  # of the training rows
    bin_bads_min: int
    iv_min: float  # information value below which a feature is left out
    validation_share: float  # of customers, kept from the fit to be judged on in the same time
    null_share: float  # of values blanked at random, so that the bin of null is not empty
    seed: int


ModelDesign = LightgbmDesign | WoeDesign


def read_model_design(section: Section) -> ModelDesign:
    """The design under `model:`."""
    kind = section.choice("kind", MODEL_KINDS, "lightgbm")
    design = _woe(section) if kind == "woe" else _lightgbm(section)
    section.finish()
    return design


def _lightgbm(section: Section) -> LightgbmDesign:
    return LightgbmDesign(
        trees=section.whole("trees", 300, low=1, high=5_000),
        leaves=section.whole("leaves", 31, low=2, high=255),
        learning_rate=section.number("learning_rate", 0.03, low=1e-4, high=1.0),
        rows_in_leaf_min=section.whole("rows_in_leaf_min", 50, low=1, high=1_000_000),
        l2=section.number("l2", 1.0, low=0.0, high=1e6),
        rows_share=section.number("rows_share", 0.8, low=0.01, high=1.0),
        features_share=section.number("features_share", 0.8, low=0.01, high=1.0),
        stop_after=section.whole("stop_after", 50, low=0, high=5_000),
        validation_share=section.number("validation_share", 0.2, low=0.01, high=0.9),
        null_share=section.number("null_share", 0.02, low=0.0, high=0.5),
        seed=section.whole("seed", 1, low=0, high=2**31 - 1),
    )


def _woe(section: Section) -> WoeDesign:
    return WoeDesign(
        bins_max=section.whole("bins_max", 6, low=2, high=50),
        bin_share_min=section.number("bin_share_min", 0.02, low=0.001, high=0.4),
        bin_bads_min=section.whole("bin_bads_min", 5, low=1, high=100_000),
        iv_min=section.number("iv_min", 0.02, low=0.0, high=10.0),
        validation_share=section.number("validation_share", 0.2, low=0.01, high=0.9),
        null_share=section.number("null_share", 0.02, low=0.0, high=0.5),
        seed=section.whole("seed", 1, low=0, high=2**31 - 1),
    )
