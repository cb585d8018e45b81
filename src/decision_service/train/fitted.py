"""What fitting gives, whichever kind of model it is.

Every kind of model (`fit.py` LightGBM, `fit_woe.py` a points scorecard) is fitted by a function of the same shape,
`(sample, config, division, say) -> Fitted`, so that what follows (calibration figures, manifest, card, comparison with
the champion) does not ask which it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards import Scorer
from decision_service.core.scorecards.manifest import ModelKind
from decision_service.core.scorecards.scaling import Calibration


class NothingToLearn(Exception):
    """The sample cannot make a scorecard; the message says why."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model as the bytes of its file, and the raw margins (log-odds of bad) it gives all rows of the sample, which
    must be those that the loaded scorer gives. `about` tells people what it is: `LightGBM 4.7.0, 208 trees`. `names`
    are the features that the model kept of the training file's, and `scorer` is the model, ready for rows of them."""

    model_text: bytes
    model_kind: ModelKind
    margins: npt.NDArray[np.float64]
    calibration: Calibration
    about: str
    names: tuple[str, ...]
    scorer: Scorer
