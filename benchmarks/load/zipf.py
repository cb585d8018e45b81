"""Customers of whom some are asked about far more often than others: the k-th most active has a share of k^-exponent.

The ranks are scattered over the customers' numbers, so that active customers are no neighbours in any way.
"""

from __future__ import annotations

from math import gcd

import numpy as np
import numpy.typing as npt

EXPONENT = 0.99  # as in YCSB


def shares(customers: int, exponent: float) -> npt.NDArray[np.float64]:
    """The share of each rank, the most active first; they sum to 1. Exponent 0: all alike."""
    weights: npt.NDArray[np.float64] = np.arange(1, customers + 1, dtype=np.float64) ** -exponent
    weights /= weights.sum()
    return weights


class Zipf:
    """Draws numbers of customers, 0 to `customers` - 1."""

    def __init__(self, customers: int, exponent: float, seed: int = 7) -> None:
        self.customers = customers
        self._rng = np.random.default_rng(seed)
        self._until = np.cumsum(shares(customers, exponent)) if exponent else None
        self._step = next(n for n in range(int(customers * 0.618) + 1, 2 * customers + 2) if gcd(n, customers) == 1)

    def draw(self, count: int) -> npt.NDArray[np.int64]:
        """So many customers."""
        if self._until is None:
            return self._rng.integers(0, self.customers, count)
        ranks = np.searchsorted(self._until, self._rng.random(count) * self._until[-1], side="right")
        return self.customers_at(ranks)

    def customers_at(self, ranks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The customers of some ranks (0: the most active)."""
        found: npt.NDArray[np.int64] = ranks * self._step % self.customers
        return found
