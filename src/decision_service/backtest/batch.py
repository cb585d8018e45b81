"""Archived decisions of one policy and one scene as columns: what the candidate is asked about, and what was answered.

    matrix    float64[n, width]   the archived numbers, a row a decision
    computed  float64[n] a name   numbers computed since, which stand in for archived ones of the same name
    texts     `Texts` a name      the archived strings that the candidate looks at

Money in minor units of each decision's own currency (`scale` of them are a major unit), instants in ms UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.expressions.columns import Codes, Floats, Mask, Texts

Ints = npt.NDArray[np.int64]
TIER_UNKNOWN: Final = -1
_BLOCK_ROWS: Final = 512  # rows whose numbers stay in the cache while they are turned into columns


@dataclass(frozen=True, slots=True)
class ScoredBefore:
    """The recorded scores of one scorecard: which model (manifest's SHA-256) gave each, by `codes` into `models`."""

    codes: Codes
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Many archived decisions that one policy made in one scene."""

    scene: str
    matrix: npt.NDArray[np.float64]
    places: Mapping[str, int]  # where a number stands that means to the candidate what it meant then
    texts: Mapping[str, Texts]
    t_ms: Ints
    amount_minor: Ints
    scale: Ints
    history_lost: Mask
    customers: Sequence[str]
    scored: Mapping[str, ScoredBefore] = field(default_factory=dict)
    tiers: npt.NDArray[np.int8] | None = None  # the warning tier in force (rank), TIER_UNKNOWN where it is not known
    computed: Mapping[str, Floats] = field(default_factory=dict)
    lists: Mapping[str, frozenset[str]] = field(default_factory=dict)  # as they were then: `list.block`

    @property
    def count(self) -> int:
        """How many decisions."""
        return len(self.t_ms)

    def has(self, name: str) -> bool:
        """Whether a number is known."""
        return name in self.computed or name in self.places

    def columns(self, names: Sequence[str], start: int, stop: int) -> list[Floats]:
        """Some numbers of consecutive decisions, each contiguous. KeyError for one that is not known."""
        places = [self.places[name] for name in names if name not in self.computed]
        found = iter(_turned(self.matrix[start:stop], np.array(places, np.intp)))
        return [self.computed[name][start:stop] if name in self.computed else next(found) for name in names]

    def rows(self, names: Sequence[str], which: Ints) -> npt.NDArray[np.float64]:
        """float64[len(which), len(names)]: the same numbers a row a decision."""
        places = np.array([0 if name in self.computed else self.places[name] for name in names], np.int64)
        out: npt.NDArray[np.float64] = self.matrix.reshape(-1).take(which[:, None] * self.matrix.shape[1] + places)
        for i, name in enumerate(names):
            if name in self.computed:
                out[:, i] = self.computed[name][which]
        return out


def _turned(matrix: npt.NDArray[np.float64], places: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """The columns at `places`, contiguous: block by block, for a row is larger than what is wanted of it."""
    out = np.empty((len(places), len(matrix)))
    for start in range(0, len(matrix), _BLOCK_ROWS):
        stop = start + _BLOCK_ROWS
        out[:, start:stop] = matrix[start:stop].take(places, axis=1).T
    return out
