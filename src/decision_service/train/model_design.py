"""`model:` of a training file: what kind of model is fitted, and how it may look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from decision_service.core.scorecards.manifest import ModelKind
from decision_service.core.scorecards.reading import Section

_KINDS: Final[tuple[ModelKind, ...]] = ("lightgbm",)


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


ModelDesign = LightgbmDesign


def read_model_design(section: Section) -> ModelDesign:
    """The design under `model:`."""
    section.choice("kind", _KINDS, "lightgbm")
    design = LightgbmDesign(
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
    section.finish()
    return design
