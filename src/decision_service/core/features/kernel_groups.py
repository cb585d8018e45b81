"""Grouped statistics of one window: by payee, device, channel, purpose, day, hour, city.

`counts[g]` and `sums[g]` have grown from the newest event to the window's far edge; groups of absent keys do not
exist, so an event without a payee is no observation of a payee. Sums are exact integers of minor units.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from decision_service.core.features import opcodes as o

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

UNIFORM_BELOW = 1e-9  # a mean resultant this short has no direction: the hours are spread evenly


@njit
def _entropy(counts, groups, n, categories):
    total = 0.0
    for g in range(groups):
        if counts[g] > 0:
            share = counts[g] / n
            total -= share * math.log(share)
    return max(total / math.log(categories), 0.0)


@njit
def _circular_std(counts, n, categories):
    """Circular standard deviation in categories (hours of 24)."""
    c = 0.0
    s = 0.0
    turn = 2 * math.pi / categories
    for g in range(categories):
        if counts[g] > 0:
            c += counts[g] * math.cos(turn * g)
            s += counts[g] * math.sin(turn * g)
    length = math.sqrt(c * c + s * s) / n
    if length < UNIFORM_BELOW:
        return np.nan
    return math.sqrt(max(-2 * math.log(length), 0.0)) / turn


@njit
def _benford(counts, n):
    """Mean absolute deviation of first-digit shares from log10(1 + 1/d); the group is the digit."""
    total = 0.0
    for digit in range(1, 10):
        total += abs(counts[digit] / n - math.log10(1 + 1 / digit))
    return total / 9


@njit
def _hhi(sums, groups, total):
    if total == 0:
        return np.nan
    squares = 0.0
    for g in range(groups):
        share = sums[g] / total
        squares += share * share
    return squares


@njit
def new_group_sum(gid, members, lo, m, amounts, first):
    """Sum over members whose group's first member of the whole stream is inside the window."""
    for k in range(m - 1, -1, -1):
        g = gid[members[k]]
        if g >= 0:
            first[g] = k
    total = np.int64(0)
    for k in range(lo, m):
        g = gid[members[k]]
        if g >= 0 and first[g] >= lo:
            total += amounts[members[k]]
    return float(total)


@njit
def grouped_statistic(op, counts, sums, groups, p2):
    """One grouped statistic; null where there is no group."""
    n = np.int64(0)
    total = np.int64(0)
    distinct = 0
    top_count = np.int64(0)
    top_sum = np.int64(0)
    for g in range(groups):
        n += counts[g]
        total += sums[g]
        distinct += counts[g] > 0
        top_count = max(top_count, counts[g])
        top_sum = max(top_sum, sums[g])
    if op == o.O_GROUPS:
        return float(distinct)
    if op == o.O_GROUP_TOP_COUNT:
        return float(top_count)
    if op == o.O_GROUP_TOP_SUM:
        return float(top_sum)
    if n == 0:
        return np.nan
    if op == o.O_HHI:
        return _hhi(sums, groups, total)
    if op == o.O_GROUP_TOP_SHARE:
        return top_sum / total if total > 0 else np.nan
    if op == o.O_GROUP_COUNT_SHARE:
        return top_count / n
    if op == o.O_BENFORD:
        return _benford(counts, n)
    if op == o.O_ENTROPY:
        return _entropy(counts, groups, n, p2)
    return _circular_std(counts, n, p2)
