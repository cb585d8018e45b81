"""Grouped statistics of one window: by payee, device, channel, purpose, day, hour, city.

`counts[g]` and `sums[g]` have grown from the newest event to the window's far edge; groups of absent keys do not
exist, so an event without a payee is no observation of a payee. Sums are exact integers of minor units.
"""

from __future__ import annotations

import math

import numpy as np

from decision_service.core.compiled import kernel_function
from decision_service.core.features import opcodes as o

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

U = np.uint64
UNIFORM_BELOW = 1e-9  # a mean resultant this short has no direction: the hours are spread evenly


@kernel_function
def _entropy(counts, groups, n, categories):
    total = 0.0
    for g in range(groups):
        if counts[g] > 0:
            share = counts[g] / n
            total -= share * math.log(share)
    return max(total / math.log(categories), 0.0)


@kernel_function
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


@kernel_function
def _benford(counts, n):
    """Mean absolute deviation of first-digit shares from log10(1 + 1/d); the group is the digit."""
    total = 0.0
    for digit in range(1, 10):
        total += abs(counts[digit] / n - math.log10(1 + 1 / digit))
    return total / 9


@kernel_function
def _hhi(sums, groups, total):
    if total == 0:
        return np.nan
    squares = 0.0
    for g in range(groups):
        share = sums[g] / total
        squares += share * share
    return squares


@kernel_function
def _new_group_sum(gid, members, lo, m, amounts, first):
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


@kernel_function
def clear_groups(prog, p, ints):
    """Forget the stream's groups."""
    for g in range(prog[U(p + 5)]):
        counts = ints[o.R_GROUP_COUNT + g]
        sums = ints[o.R_GROUP_SUM + g]
        for k in range(ints[o.R_GROUPS, prog[U(p + 6 + g)]]):
            counts[k] = 0
            sums[k] = 0
        for k in range(o.TALLY_WORDS):
            ints[o.R_TALLY, g * o.TALLY_WORDS + k] = 0


@kernel_function
def _grow(gid, members, amounts, counts, sums, tally, lo, until):
    seen = np.int64(0)
    amount = np.int64(0)
    distinct = tally[o.T_DISTINCT]
    top_count = tally[o.T_TOP_COUNT]
    top_sum = tally[o.T_TOP_SUM]
    for k in range(lo, until):
        at = members[U(k)]
        group = gid[U(at)]
        if group >= 0:
            count = counts[U(group)] + 1
            total = sums[U(group)] + amounts[U(at)]
            counts[U(group)] = count
            sums[U(group)] = total
            seen += 1
            amount += amounts[U(at)]
            distinct += count == 1
            top_count = max(top_count, count)
            top_sum = max(top_sum, total)
    tally[o.T_SEEN] += seen
    tally[o.T_AMOUNT] += amount
    tally[o.T_DISTINCT] = distinct
    tally[o.T_TOP_COUNT] = top_count
    tally[o.T_TOP_SUM] = top_sum


@kernel_function
def grow_groups(prog, p, cells, ints, lo, until):
    """Take members [lo, until) into every group that this cell or a wider one looks at, and its running totals."""
    if lo == until:
        return
    for g in range(prog[U(p + 5)]):
        if cells < prog[U(p + o.STREAM_GROWS + g)]:
            _grow(
                ints[o.R_KEY + prog[U(p + 6 + g)]], ints[o.R_MEMBERS], ints[o.C_AMOUNT], ints[o.R_GROUP_COUNT + g],
                ints[o.R_GROUP_SUM + g], ints[o.R_TALLY, g * o.TALLY_WORDS : (g + 1) * o.TALLY_WORDS], lo, until,
            )  # fmt: skip


@kernel_function
def _over_groups(op, g, ints, groups, n, total, categories):
    counts = ints[o.R_GROUP_COUNT + g]
    if n == 0:
        return np.nan
    if op == o.O_HHI:
        return _hhi(ints[o.R_GROUP_SUM + g], groups, total)
    if op == o.O_BENFORD:
        return _benford(counts, n)
    if op == o.O_ENTROPY:
        return _entropy(counts, groups, n, categories)
    return _circular_std(counts, n, categories)


@kernel_function
def grouped_statistic(op, prog, p, g, categories, ints, lo, m, min_n, default):
    """One grouped statistic of the window walked so far; `default` for fewer than `min_n` members with a key."""
    tally = g * o.TALLY_WORDS
    n = ints[o.R_TALLY, tally + o.T_SEEN]
    total = ints[o.R_TALLY, tally + o.T_AMOUNT]
    if n < min_n:
        return default
    if op == o.O_GROUPS:
        return float(ints[o.R_TALLY, tally + o.T_DISTINCT])
    if op == o.O_GROUP_TOP_COUNT:
        return float(ints[o.R_TALLY, tally + o.T_TOP_COUNT])
    if op == o.O_GROUP_TOP_SUM:
        return float(ints[o.R_TALLY, tally + o.T_TOP_SUM])
    if op == o.O_GROUP_TOP_SHARE:
        return ints[o.R_TALLY, tally + o.T_TOP_SUM] / total if total > 0 else np.nan
    if op == o.O_GROUP_COUNT_SHARE:
        return ints[o.R_TALLY, tally + o.T_TOP_COUNT] / n if n > 0 else np.nan
    key = prog[p + 6 + g]
    if op == o.O_NEW_GROUP_SUM:
        gid = ints[o.R_KEY + key]
        return _new_group_sum(gid, ints[o.R_MEMBERS], lo, m, ints[o.C_AMOUNT], ints[o.R_FIRST])
    return _over_groups(op, g, ints, ints[o.R_GROUPS, key], n, total, categories)
