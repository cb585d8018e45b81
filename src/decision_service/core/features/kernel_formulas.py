"""Last part of the kernel: derived features, a small interpreter of register instructions.

Null is NaN in every instruction; conditions are 1, 0 or NaN (unknown) and combine by Kleene's tables.
"""

from __future__ import annotations

import math

import numpy as np

from decision_service.core import inputs as q
from decision_service.core.compiled import kernel_function
from decision_service.core.features import opcodes as o
from decision_service.core.features.kernel_calendar import in_calendar

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

NAN = np.nan
STILL_BELOW = 1e-9


@kernel_function
def _kleene(op, a, b):
    if op == o.S_AND:
        if a == 0 or b == 0:
            return 0.0
        return 1.0 if a == 1 and b == 1 else NAN
    if op == o.S_OR:
        if a == 1 or b == 1:
            return 1.0
        return 0.0 if a == 0 and b == 0 else NAN
    if a != a or b != b:
        return NAN
    if op == o.S_LT:
        return 1.0 if a < b else 0.0
    if op == o.S_LE:
        return 1.0 if a <= b else 0.0
    return 1.0 if a == b else 0.0


@kernel_function
def _function(op, a, b):
    if op == o.S_IS_NULL:
        return 1.0 if a != a else 0.0
    if op == o.S_COALESCE:
        return a if a == a else b
    if a != a:
        return NAN
    if op == o.S_NEG:
        return -a
    if op == o.S_NOT:
        return 1 - a
    if op == o.S_MIN or op == o.S_MAX:
        if b != b:
            return NAN
        return min(a, b) if op == o.S_MIN else max(a, b)
    if op == o.S_ABS:
        return abs(a)
    if op == o.S_ROUND:
        return float(np.rint(a))
    if op == o.S_FLOOR:
        return float(np.floor(a))
    if op == o.S_CEIL:
        return float(np.ceil(a))
    if op == o.S_SQRT:
        return math.sqrt(a) if a >= 0 else NAN
    if op == o.S_LOG:
        return math.log(a) if a > 0 else NAN
    return math.exp(a) if a < 709.0 else NAN


@kernel_function
def _at_least(reg, start, count, k):
    certain = 0
    possible = 0
    for i in range(count):
        certain += reg[start + i] == 1
        possible += reg[start + i] != 0
    if certain >= k:
        return 1.0
    return NAN if possible >= k else 0.0


@kernel_function
def _coverage(row, trimmed_ms, window_ms, of_entity):
    """The share of a window that the retained log covers, and the line's age unless the log is an entity's."""
    age = row[q.T_MS] - (trimmed_ms if of_entity else max(row[q.GRANTED_MS], trimmed_ms))
    return min(max(age, 0), window_ms) / window_ms


@kernel_function
def _mean(reg, start, n):
    total = 0.0
    for i in range(n):
        total += reg[start + i]
    return total / n


@kernel_function
def _spread(reg, start, n):
    mean = _mean(reg, start, n)
    total = 0.0
    for i in range(n):
        total += (reg[start + i] - mean) ** 2
    return math.sqrt(total / n)


@kernel_function
def _steps(op, reg, start, n):
    """Counts and extremes of the steps from bucket k+1 (older) to bucket k."""
    rises = 0
    falls = 0
    best_rise = -np.inf
    best_fall = -np.inf
    positive = 1
    for k in range(n):
        positive &= reg[start + k] > 0
    for k in range(n - 1):
        step = reg[start + k] - reg[start + k + 1]
        rises += step > 0
        falls += step < 0
        best_rise = max(best_rise, step)
        best_fall = max(best_fall, -step)
    if op == o.Z_RISES:
        return float(rises)
    if op == o.Z_FALLS:
        return float(falls)
    if op == o.Z_FLATS:
        return float(n - 1 - rises - falls)
    if op == o.Z_STRICT_UP:
        return 1.0 if rises == n - 1 and positive else 0.0
    if op == o.Z_STRICT_DOWN:
        return 1.0 if falls == n - 1 and positive else 0.0
    return best_rise if op == o.Z_MAX_RISE else best_fall


@kernel_function
def _slope(reg, start, n):
    """OLS slope of b_k on -k over the mean of b; null for fewer than 3 non-empty buckets or a mean of zero."""
    mean = _mean(reg, start, n)
    filled = 0
    top = 0.0
    bottom = 0.0
    for k in range(n):
        filled += reg[start + k] != 0
        x = (n - 1) / 2 - k
        top += x * (reg[start + k] - mean)
        bottom += x * x
    if filled < 3 or mean == 0 or bottom == 0:
        return NAN
    return top / bottom / mean


@kernel_function
def _extreme(op, reg, start, n):
    best = 0
    for k in range(1, n):
        if (op == o.Z_MIN and reg[start + k] < reg[start + best]) or (
            op != o.Z_MIN and reg[start + k] > reg[start + best]
        ):
            best = k
    if op == o.Z_ARGMAX:
        return float(best) if reg[start + best] > 0 else NAN
    return reg[start + best]


@kernel_function
def _pair_means(reg, start, other, n):
    """Number of pairs known on both sides, their means, and whether both sides move by more than rounding."""
    count = 0
    x = 0.0
    y = 0.0
    low_x = low_y = np.inf
    high_x = high_y = -np.inf
    for k in range(n):
        a = reg[start + k]
        b = reg[other + k]
        if a == a and b == b:
            count += 1
            x += a
            y += b
            low_x = min(low_x, a)
            high_x = max(high_x, a)
            low_y = min(low_y, b)
            high_y = max(high_y, b)
    moves = high_x - low_x >= STILL_BELOW and high_y - low_y >= STILL_BELOW
    return count, x / max(count, 1), y / max(count, 1), moves


@kernel_function
def _correlation(reg, start, other, n):
    """Pearson's correlation of the pairs known on both sides; null for fewer than 3.

    Null also if either side varies by less than 1e-9, which is rounding, not movement.
    """
    count, mean_x, mean_y, moves = _pair_means(reg, start, other, n)
    if count < 3 or not moves:
        return NAN
    xx = 0.0
    yy = 0.0
    xy = 0.0
    for k in range(n):
        x = reg[start + k] - mean_x
        y = reg[other + k] - mean_y
        if x == x and y == y:
            xx += x * x
            yy += y * y
            xy += x * y
    return min(max(xy / math.sqrt(xx * yy), -1.0), 1.0)


@kernel_function
def _tally(op, reg, start, n):
    total = 0.0
    squares = 0.0
    positive = 0
    for k in range(n):
        total += reg[start + k]
        positive += reg[start + k] > 0
    if op == o.Z_SUM:
        return total
    if op == o.Z_POSITIVE:
        return float(positive)
    if op == o.Z_ZERO:
        return float(n - positive)
    if total == 0:
        return NAN
    for k in range(n):
        share = reg[start + k] / total
        squares += share * share
    return squares


@kernel_function
def _series(op, reg, start, n, other):
    if op == o.Z_CORRELATION:
        return _correlation(reg, start, other, n)
    for k in range(n):
        if reg[start + k] != reg[start + k]:
            return NAN
    if op == o.Z_MEAN:
        return _mean(reg, start, n)
    if op == o.Z_STD:
        return _spread(reg, start, n)
    if op == o.Z_MIN or op == o.Z_MAX or op == o.Z_ARGMAX:
        return _extreme(op, reg, start, n)
    if op == o.Z_SLOPE:
        return _slope(reg, start, n)
    if op == o.Z_SUM or op == o.Z_POSITIVE or op == o.Z_ZERO or op == o.Z_HHI:
        return _tally(op, reg, start, n)
    return _steps(op, reg, start, n)


@kernel_function
def _special(op, prog, p, row, trimmed_ms, reg):
    a = prog[p + 2]
    b = prog[p + 3]
    if op == o.S_ROW_EQ:
        return NAN if row[a] == 0 or b == 0 else (1.0 if row[a] == b else 0.0)
    if op == o.S_GRANT_AGE:
        return (row[q.T_MS] - row[q.GRANTED_MS]) / 1000
    if op == o.S_COVERAGE:
        return _coverage(row, trimmed_ms, a, b)
    if op == o.S_TRUNCATED:
        return 1.0 if trimmed_ms > row[q.T_MS] - a else 0.0
    if op == o.S_GUARD_NAMED:
        return reg[b] if row[a] != 0 else NAN
    if op == o.S_IN_CALENDAR:
        return in_calendar(row, reg, a, b)
    if op == o.S_SERIES:
        return _series(prog[p + 5], reg, a, b, prog[p + 4])
    return _at_least(reg, a, b, prog[p + 4])


@kernel_function
def run_scalars(prog, start, count, row, trimmed_ms, reg):
    """Run `count` instructions at `start` on the registers; the commonest operations are asked for first."""
    age_ms = row[q.T_MS] - row[q.GRANTED_MS]
    p = start - o.SCALAR_WORDS
    for _ in range(count):
        p += o.SCALAR_WORDS
        op = prog[p]
        if op >= o.S_AT_LEAST:
            reg[prog[p + 1]] = _special(op, prog, p, row, trimmed_ms, reg)
            continue
        a = reg[prog[p + 2]]
        if op == o.S_GUARD_AGE:
            x = a if age_ms >= prog[p + 3] else NAN
        elif op == o.S_MOVE:
            x = a
        else:
            b = reg[prog[p + 3]]
            if op == o.S_DIV:
                x = a / b if b != 0 else NAN
            elif op == o.S_SUB:
                x = a - b
            elif op == o.S_GUARD_COUNT:
                x = a if b >= prog[p + 4] else reg[prog[p + 5]]
            elif op == o.S_NEW:
                x = NAN if a != a or b != b else (1.0 if b == 0 and a > 0 else 0.0)
            elif op == o.S_ADD:
                x = a + b
            elif op == o.S_MUL:
                x = a * b
            elif op == o.S_SELECT:
                x = NAN if a != a else (b if a == 1 else reg[prog[p + 4]])
            elif op >= o.S_MIN or op == o.S_NEG or op == o.S_NOT:
                x = _function(op, a, b)
            else:
                x = _kleene(op, a, b)
        reg[prog[p + 1]] = x
