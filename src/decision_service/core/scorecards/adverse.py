"""The reason codes that weigh against a customer in a score: contributions netted by the manifest's codes.

A positive contribution raised the risk. Contributions of one code are added up, so that what two of its features say
against and for the customer is told once and in sum; codes with a positive sum share it, and the heaviest are told.
Nobody is told that something about them is bad because it is unknown: a null feature's contribution counts nowhere. A
code about the service (RC9x) is never one about the customer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.manifest import Manifest

REASONS_MAX: Final = 4  # codes told of one score; US Regulation B asks for the principal reasons, four at most
SHARE_MIN: Final = 0.05  # of all that raised the risk: less is no principal reason
_SERVICE: Final = "RC9"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Adverse:
    """A reason code, and its share of all that raised the risk."""

    code: str
    share: float


class ReasonCodes:
    """The codes of a manifest's features, and what contributions to a score come to by them."""

    __slots__ = ("_code_of", "_codes")

    def __init__(self, manifest: Manifest) -> None:
        reasons = [feature.reason for feature in manifest.features]
        self._codes: Final = sorted(set(reasons))
        self._code_of: Final = np.array([self._codes.index(reason) for reason in reasons], np.intp)

    def adverse(self, row: Floats, contributions: Floats) -> tuple[Adverse, ...]:
        """The codes that weigh against the customer, heaviest first. `contributions` float64[n_features + 1]."""
        counted = np.where(np.isnan(row), 0.0, contributions[:-1])
        sums = np.bincount(self._code_of, counted, len(self._codes)).tolist()
        against = [(s, c) for s, c in zip(sums, self._codes, strict=True) if s > 0.0 and not c.startswith(_SERVICE)]
        total = sum(weight for weight, _ in against)
        heaviest = sorted(against, key=lambda one: (-one[0], one[1]))[:REASONS_MAX]
        return tuple(Adverse(code, weight / total) for weight, code in heaviest if weight >= SHARE_MIN * total)
