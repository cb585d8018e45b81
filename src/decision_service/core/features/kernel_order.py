"""Order statistics of one window: a segment's values are sorted once, and each window filters the sorted list.

Values are float64 (money in minor units, exact below 2**53). `w[:n]` is one window's values in ascending order.
"""

from __future__ import annotations

import math

import numpy as np

from decision_service.core.compiled import kernel_function
from decision_service.core.features import opcodes as o

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

U = np.uint64
INSERTION_MAX = 24  # below this many values insertion beats everything
MANY = 1_024  # from this many values on fewer passes are worth longer ones


@kernel_function
def _insertion(values, m, index):
    for k in range(m):
        x = values[k]
        j = k - 1
        while j >= 0 and values[U(index[U(j)])] > x:
            index[U(j + 1)] = index[U(j)]
            j -= 1
        index[U(j + 1)] = k


@kernel_function
def _shell(values, m, index):
    """Shell sort with Ciura's gaps: no buffer, fast enough for the few segments whose values are no money."""
    for k in range(m):
        index[k] = k
    for gap in (3548, 1577, 701, 301, 132, 57, 23, 10, 4, 1):
        for k in range(gap, m):
            i = index[k]
            x = values[i]
            j = k
            while j >= gap and values[index[j - gap]] > x:
                index[j] = index[j - gap]
                j -= gap
            index[j] = i


@kernel_function
def _scatter(source, target, keys, counts, m, shift, size):
    """One stable pass of the radix sort by the `size` values of a digit."""
    last = size - 1
    counts[:size] = 0
    for k in range(m):
        counts[U((keys[k] >> shift) & last)] += 1
    total = np.int64(0)
    for b in range(size):
        here = counts[b]
        counts[b] = total
        total += here
    for k in range(m):
        i = source[k]
        digit = U((keys[U(i)] >> shift) & last)
        target[U(counts[digit])] = i
        counts[digit] += 1


@kernel_function
def _radix(values, m, index, other, keys, counts):
    """LSD radix sort of non-negative whole values, from the lowest bit in which any two of them differ."""
    union = np.int64(0)
    common = np.int64(-1)
    for k in range(m):
        x = np.int64(values[k])
        keys[k] = x
        union |= x
        common &= x
        index[k] = k
    varying = union & ~common
    digit = 11 if m >= MANY else 8
    source = index
    target = other
    shift = 0
    while (varying >> shift) != 0:
        while ((varying >> shift) & 0xFF) == 0:
            shift += 8
        while ((varying >> shift) & 1) == 0:
            shift += 1
        _scatter(source, target, keys, counts, m, shift, 1 << digit)
        source, target = target, source
        shift += digit
    for k in range(m):
        index[k] = source[k]


@kernel_function
def _narrowed(keys, m, rank, counts):
    """One digit of the search for the `rank`-th smallest: how many keys are left, moved to the front, and the rank."""
    least = keys[0]
    most = keys[0]
    for k in range(m):
        least = min(least, keys[k])
        most = max(most, keys[k])
    shift = 0
    while ((most - least) >> shift) > 0xFF:
        shift += 1
    counts[:256] = 0
    for k in range(m):
        counts[U((keys[k] - least) >> shift)] += 1
    wanted = np.int64(0)
    while rank >= counts[U(wanted)]:
        rank -= counts[U(wanted)]
        wanted += 1
    kept = np.int64(0)
    for k in range(m):
        x = keys[k]
        keys[U(kept)] = x
        kept += ((x - least) >> shift) == wanted
    return kept, rank, shift


@kernel_function
def ranked_key(keys, m, rank, counts):
    """The `rank`-th smallest (from 0) of `keys[:m]`, which are moved about; linear whatever they are."""
    shift = 1
    while shift > 0:
        m, rank, shift = _narrowed(keys, m, rank, counts)
    return keys[0]


@kernel_function
def sort_values(values, m, whole, index, other, keys, counts):
    """`index[:m]` = positions of `values[:m]` in ascending order. `whole`: non-negative whole numbers."""
    if m <= INSERTION_MAX:
        _insertion(values, m, index)
    elif whole:
        _radix(values, m, index, other, keys, counts)
    else:
        _shell(values, m, index)


@kernel_function
def quantile(w, n, share):
    """Hyndman-Fan 7, as NumPy's default."""
    at = share * (n - 1)
    low = math.floor(at)
    if low >= n - 1:
        return w[n - 1]
    part = at - low
    step = w[low + 1] - w[low]
    return w[low] + step * part if part < 0.5 else w[low + 1] - step * (1 - part)


@kernel_function
def median_deviation(w, n):
    """Median of |x - median|: deviations are met in ascending order walking outwards from the median."""
    median = quantile(w, n, 0.5)
    right = 0
    while right < n and w[right] < median:
        right += 1
    left = right - 1
    previous = 0.0
    current = 0.0
    for _ in range(n // 2 + 1):
        previous = current
        if left >= 0 and (right >= n or median - w[left] <= w[right] - median):
            current = median - w[left]
            left -= 1
        else:
            current = w[right] - median
            right += 1
    return current if n % 2 else (previous + current) / 2


@kernel_function
def _runs(op, w, n):
    """Most frequent value (the smallest on a tie), its multiplicity, or the number of distinct values."""
    best = 0
    best_value = np.nan
    distinct = 0
    k = 0
    while k < n:
        j = k
        while j < n and w[j] == w[k]:
            j += 1
        distinct += 1
        if j - k > best:
            best = j - k
            best_value = w[k]
        k = j
    if op == o.O_MODE:
        return best_value
    return float(best) if op == o.O_MODE_COUNT else float(distinct)


@kernel_function
def _gini(w, n):
    total = 0.0
    weighted = 0.0
    for k in range(n):
        total += w[k]
        weighted += (2 * (k + 1) - n - 1) * w[k]
    return weighted / (n * total) if total != 0 else np.nan


@kernel_function
def _top_sum(w, n, count):
    total = 0.0
    for k in range(max(0, n - count), n):
        total += w[k]
    return total


@kernel_function
def order_statistic(op, w, n, p1, reg):
    """One order statistic of a window that has at least one value, else null or a true zero."""
    if n == 0:
        return 0.0 if op == o.O_MODE_COUNT or op == o.O_DISTINCT_VALUES else np.nan
    if op == o.O_QUANTILE:
        return quantile(w, n, reg[p1])
    if op == o.O_MAD:
        return median_deviation(w, n)
    if op == o.O_TOP_SUM:
        return _top_sum(w, n, p1)
    if op == o.O_GINI:
        return _gini(w, n)
    return _runs(op, w, n)
