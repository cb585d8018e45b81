"""The closed list of functions on columns of floats: NaN in, NaN out, and the bits that `scalar` gives for one.

`min` and `max` keep the first of equals, whole numbers know no negative zero, and `exp` and `log` call the C library
for each element, because NumPy's own may differ from it in the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Final

import numpy as np

from decision_service.core.expressions.columns import Floats, Mask
from decision_service.core.expressions.functions import EXP_MAX


def finite(x: Floats) -> Floats:
    """Null where a number overflowed."""
    return np.where(np.isfinite(x), x, np.nan)


def _least(*columns: Floats) -> Floats:
    best = reduce(lambda a, b: np.where(b < a, b, a), columns)
    return _null_with(best, columns)


def _greatest(*columns: Floats) -> Floats:
    best = reduce(lambda a, b: np.where(b > a, b, a), columns)
    return _null_with(best, columns)


def _null_with(x: Floats, columns: Sequence[Floats]) -> Floats:
    """`x`, null wherever one of the columns is."""
    unknown = reduce(np.logical_or, (column != column for column in columns))
    return np.where(unknown, np.nan, x)


def _sum(*columns: Floats) -> Floats:
    return finite(reduce(np.add, columns, np.zeros(len(columns[0]))))


def _mean(*columns: Floats) -> Floats:
    return _sum(*columns) / len(columns)


def _clip(x: Floats, low: Floats, high: Floats) -> Floats:
    at_least = np.where(low > x, low, x)
    return _null_with(np.where(high < at_least, high, at_least), (x, low, high))


def _each(function: Callable[[float], float], good: Mask, x: Floats) -> Floats:
    """The C library's function where the argument is good, null elsewhere."""
    result = np.full(len(x), np.nan)
    result[good] = [function(value) for value in x[good].tolist()]
    return result


def _sqrt(x: Floats) -> Floats:
    return np.sqrt(np.where(x >= 0, x, np.nan))


def _log(x: Floats) -> Floats:
    return _each(math.log, x > 0, x)


def _exp(x: Floats) -> Floats:
    return _each(math.exp, x < EXP_MAX, x)


def _coalesce(*columns: Floats) -> Floats:
    return reduce(lambda a, b: np.where(a == a, a, b), columns)


def _whole(function: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
    """Whole numbers as Python has them: without a negative zero."""
    return lambda x: function(x) + 0.0


VECTOR_FUNCTIONS: Final[dict[str, Callable[..., Floats]]] = {
    "min": _least, "max": _greatest, "sum": _sum, "mean": _mean, "clip": _clip, "abs": np.abs, "round": _whole(np.rint),
    "floor": _whole(np.floor), "ceil": _whole(np.ceil), "sqrt": _sqrt, "log": _log, "exp": _exp, "coalesce": _coalesce,
}  # fmt: skip
