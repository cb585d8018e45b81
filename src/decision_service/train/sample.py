"""The training sample: rows of features, what became of them, and how it came about.

A source (`events_source`, `table_source`) makes one; nothing after it asks which it was. Customers are numbered from 0
in the order in which the source first names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from decision_service.train.division import Division, Mask

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """One row an observation. `waterfall` says how many observations were left out for what, in the order of asking,
    from all that were possible to all that are here; `left_out` how many rows of which file could not be read."""

    rows: Floats  # (n, features), NaN for null
    bad: npt.NDArray[np.int8]
    customer: npt.NDArray[np.int64]
    observed_at_ms: npt.NDArray[np.int64]  # 0 where a table does not say
    out_of_time: Mask
    given: Division | None = None  # what a table says each row is for
    waterfall: tuple[tuple[str, int], ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    definitions_sha256: str = ""
    others: Mapping[str, Floats] = field(default_factory=dict)  # features of the champion alone

    def __len__(self) -> int:
        return len(self.bad)
