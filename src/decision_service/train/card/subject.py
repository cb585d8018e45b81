"""What a model card is about: a training run, seen by its parts and months.

Everything a section needs more than once is worked out here. Rows hold the scorecard's features in its order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.train.card.meanings import Meanings, meanings_of
from decision_service.train.card.months import months_of
from decision_service.train.trained import Trained
from decision_service.watch.quality import Quality, quality

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]

TITLES: Final = {"train": "training", "validation": "validation", "calibration": "calibration", "oot": "out of time"}
_HELD_OUT: Final = "held out"  # what judged rows are called that are not later than those trained on
_PURPOSES: Final = {
    "train": "make the model",
    "validation": "say when to stop",
    "calibration": "turn its margin into a PD",
    "oot": "judge it; nothing was fitted to them",
}


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one purpose: a mask over the sample, and what is known of them."""

    title: str
    purpose: str
    mask: Mask
    rows: Floats
    bad: Labels
    pds: Floats
    points: Floats
    quality: Quality


@dataclass(frozen=True, slots=True)
class Subject:
    """A training run as its card tells it. `judged` is the last of `parts`; `months` has one text a row (`2026-05`)
    or is None where nobody knows when a row was observed."""

    trained: Trained
    parts: tuple[Part, ...]
    months: npt.NDArray[np.str_] | None
    meanings: Meanings

    @property
    def card(self) -> Scorecard:
        """The scorecard that came out."""
        return self.trained.scorecard

    @property
    def fitted(self) -> Part:
        """The rows the model was made from."""
        return self.parts[0]

    @property
    def judged(self) -> Part:
        """The rows nothing was fitted to."""
        return self.parts[-1]

    def month_masks(self, of: Mask) -> list[tuple[str, Mask]]:
        """Each month with the rows among `of` that were observed in it, oldest first."""
        if self.months is None:
            return []
        return [(str(month), of & (self.months == month)) for month in np.unique(self.months)]


def subject_of(trained: Trained) -> Subject:
    """A training run, prepared."""
    parts = tuple(_part(trained, name, mask) for name, mask in trained.division.parts() if mask.any())
    return Subject(trained, parts, months_of(trained), meanings_of(trained))


def spread(rows: Floats, most: int) -> Floats:
    """At most `most` of some rows, evenly from first to last."""
    few = np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.intp)
    return np.ascontiguousarray(rows[few])


def _part(trained: Trained, name: str, mask: Mask) -> Part:
    bad, pds = trained.sample.bad[mask], trained.pds[mask]
    title = _HELD_OUT if name == "oot" and not trained.sample.out_of_time[mask].any() else TITLES[name]
    rows = trained.sample.rows[mask]
    return Part(title, _PURPOSES[name], mask, rows, bad, pds, trained.points[mask], quality(pds, bad == 1))
