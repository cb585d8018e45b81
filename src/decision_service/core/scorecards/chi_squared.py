"""The chi-squared distribution: how likely a sum of squares this large is when nothing but chance made it.

For whole degrees of freedom the survival function is a finite sum (Abramowitz & Stegun 26.4.4 and 26.4.5), so core
needs no statistics library:

    even k   exp(-h) * (1 + h + h^2/2! + ... + h^(k/2 - 1)/(k/2 - 1)!)                        h = x / 2
    odd k    erfc(sqrt(h)) + exp(-h) * (h^0.5/G(1.5) + h^1.5/G(2.5) + ... + h^(k/2 - 1)/G(k/2))
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

FREEDOM_MAX: Final = 10_000  # degrees of freedom; far above any number of bins or groups
_HALVINGS: Final = 200  # a double has 53 bits: the interval is empty long before


def survival(x: float, freedom: int) -> float:
    """The probability that a chi-squared variable of `freedom` (1 to FREEDOM_MAX) degrees exceeds `x`."""
    if not 1 <= freedom <= FREEDOM_MAX:
        raise ValueError(f"{freedom} degrees of freedom; 1 to {FREEDOM_MAX} are expected")
    if x <= 0.0:
        return 1.0
    half = x / 2.0
    odd = freedom % 2
    total = math.erfc(math.sqrt(half)) if odd else 0.0
    exponent = 0.5 if odd else 0.0
    for _ in range(freedom // 2):
        total += math.exp(exponent * math.log(half) - half - math.lgamma(exponent + 1.0))
        exponent += 1.0
    return min(total, 1.0)


@lru_cache(maxsize=1_024)
def quantile(exceeded: float, freedom: int) -> float:
    """The value that is exceeded with probability `exceeded` (within 0 and 1, both excluded)."""
    if not 0.0 < exceeded < 1.0:
        raise ValueError(f"a probability between 0 and 1 is expected, not {exceeded}")
    low, high = 0.0, float(freedom)
    while survival(high, freedom) > exceeded:
        low, high = high, 2.0 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        if not low < middle < high:
            break
        if survival(middle, freedom) > exceeded:
            low = middle
        else:
            high = middle
    return high
