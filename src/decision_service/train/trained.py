"""What a training run leaves behind: everything its summary, its model card and a notebook look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.train.champion import Champion, Comparison
from decision_service.train.characteristics import Characteristic
from decision_service.train.config import TrainConfig
from decision_service.train.division import Division
from decision_service.train.fitted import Fitted
from decision_service.train.sample import Sample

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run produced. `pds` and `points` are the new scorecard's of all rows of the sample, whose purposes
    `division` tells; `changed` is False if the directory already held these very bytes."""

    config: TrainConfig
    sample: Sample
    division: Division
    fitted: Fitted
    directory: Path
    scorecard: Scorecard
    pds: Floats
    points: Floats
    champion: Champion | None
    metrics: Mapping[str, float]
    grade_shares: Mapping[str, float]  # of the judged rows
    changed: bool
    comparison: Comparison | None  # with the champion, on the judged rows
    characteristics: tuple[Characteristic, ...]  # every feature by itself, over the training rows
    grade_bad_rates: Mapping[str, float]  # of the judged rows, NaN for a grade without one
    warnings: tuple[str, ...]  # what somebody should look at before the scorecard decides
