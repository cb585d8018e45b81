"""Choosing golden rows: a few rows that together stand in every leaf of every tree.

A golden row finds a changed model only where it goes: a changed leaf that no row stands in is not seen. So rows are
taken one after the other, always the one that stands in the most leaves where none stood before, until every leaf that
any row reaches is covered or there are enough. What lies between two rows (a threshold moved by less than to the next
value) is left to the digest of the model's numbers (`core.scorecards.model_numbers`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def covering(leaves: npt.NDArray[np.int32], rows_max: int) -> npt.NDArray[np.intp]:
    """Rows of int32[rows, trees] (the leaf of each row in each tree) that cover the most leaves, best first."""
    base = np.concatenate(([0], np.cumsum(leaves.max(axis=0) + 1)[:-1]))
    stands = leaves + base  # leaves numbered through all trees
    uncovered = np.zeros(int(stands.max()) + 1, np.int32)
    uncovered[stands] = 1
    chosen: list[int] = []
    gains = uncovered[stands].sum(axis=1)
    while len(chosen) < rows_max and gains.max() > 0:
        best = int(gains.argmax())
        chosen.append(best)
        uncovered[stands[best]] = 0
        gains = uncovered[stands].sum(axis=1)
    return np.array(chosen, np.intp)


def leaves_of(model_text: bytes, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """The leaf of each row in each tree of a LightGBM model: int32[rows, trees]."""
    import lightgbm

    found = lightgbm.Booster(model_str=model_text.decode()).predict(rows, pred_leaf=True, num_threads=1)
    return np.asarray(found, np.int32).reshape(len(rows), -1)
