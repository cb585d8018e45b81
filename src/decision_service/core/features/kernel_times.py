"""Statistics of one window that follow the order of events: gaps, runs, bursts, decay and tallies since.

`times[lo:m]` are the members' instants in ms, oldest first; `values` their values. "Since", "while" and "near" masks
name a second segment over all positions of the history.
"""

from __future__ import annotations

import math

import numpy as np

from decision_service.core.compiled import kernel_function
from decision_service.core.features import opcodes as o
from decision_service.core.limits import DAY_MS

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

NAN = np.nan


@kernel_function
def _gap_std(times, lo, m):
    n = m - lo - 1
    mean = (times[m - 1] - times[lo]) / n
    total = 0.0
    for k in range(lo + 1, m):
        total += (times[k] - times[k - 1] - mean) ** 2
    return math.sqrt(total / n) / 1000


@kernel_function
def _gap_extreme(op, times, lo, m, t_ms):
    least = np.int64(2**62)
    most = t_ms - times[m - 1]
    for k in range(lo + 1, m):
        gap = times[k] - times[k - 1]
        least = min(least, gap)
        most = max(most, gap)
    return (least if op == o.O_GAP_MIN else most) / 1000


@kernel_function
def _gap_ratio(times, lo, m):
    """Mean of the last 3 gaps over the mean of the (at most 10) gaps before them."""
    first = max(lo, m - 14)
    recent = (times[m - 1] - times[m - 4]) / 3
    earlier = (times[m - 4] - times[first]) / (m - 4 - first)
    return recent / earlier if earlier > 0 else NAN


@kernel_function
def gap_statistic(op, times, lo, m, t_ms):
    """Statistics of the gaps between consecutive members, in seconds."""
    n = m - lo
    if op == o.O_GAP_MAX:
        return _gap_extreme(op, times, lo, m, t_ms) if n >= 1 else NAN
    if n < 2:
        return NAN
    if op == o.O_GAP_MEAN:
        return (times[m - 1] - times[lo]) / (n - 1) / 1000
    if op == o.O_GAP_MIN:
        return _gap_extreme(op, times, lo, m, t_ms)
    if op == o.O_GAP_STD:
        return _gap_std(times, lo, m)
    return _gap_ratio(times, lo, m) if n >= 5 else NAN


@kernel_function
def run_statistic(op, values, lo, m):
    """Strictly monotone steps, ending at the latest or the longest; or equal values ending at the latest."""
    if op == o.O_EQUAL_RUN:
        k = m - 1
        while k > lo and values[k - 1] == values[m - 1]:
            k -= 1
        return float(m - k) if m > lo else 0.0
    rising = op == o.O_RISING or op == o.O_RISING_MAX
    run = 0
    best = 0
    for k in range(m - 1, lo, -1):
        step = values[k] - values[k - 1]
        if (rising and step > 0) or (not rising and step < 0):
            run += 1
            best = max(best, run)
        else:
            if op == o.O_RISING or op == o.O_FALLING:
                return float(run)
            run = 0
    return float(best)


@kernel_function
def burst(times, lo, m, width_ms):
    """Most members in any half-open span of `width_ms`."""
    best = 0
    left = lo
    for k in range(lo, m):
        while times[k] - times[left] >= width_ms:
            left += 1
        best = max(best, k - left + 1)
    return float(best)


@kernel_function
def decayed_sum(times, values, lo, m, t_ms, days, half_life_d):
    """EWMA of the last `days` rolling 24-hour sums, the newest weighing most."""
    factor = 2.0 ** (-1.0 / half_life_d)
    total = 0.0
    for k in range(lo, m):
        total += values[k] * factor ** ((t_ms - times[k]) // DAY_MS)
    return total * (1 - factor) / (1 - factor**days)


@kernel_function
def tail_streak(members, lo, m, mask, cap):
    """Members ending at the latest that satisfy the mask, at most `cap`."""
    count = 0
    for k in range(m - 1, lo - 1, -1):
        if mask[members[k]] == 0 or count >= cap:
            break
        count += 1
    return float(count)


@kernel_function
def since_statistic(op, members, values, lo, m, mask, edge, h):
    """Count, sum or maximum over members after the latest event of the mask; sum and maximum need one."""
    since = h - 1
    while since >= edge and mask[since] == 0:
        since -= 1
    if since < edge and op == o.O_SUM_SINCE:
        return NAN
    total = 0.0
    best = 0.0
    count = 0
    k = m - 1
    while k >= lo and members[k] > since:
        count += 1
        total += values[k]
        best = max(best, values[k])
        k -= 1
    if op == o.O_COUNT_SINCE:
        return float(count)
    return total if op == o.O_SUM_SINCE else best


@kernel_function
def retries(members, amounts, lo, m, mask, edge):
    """Members with a smaller amount than the latest event of the mask before them inside the window."""
    count = 0
    last = np.int64(-1)
    at = edge
    for k in range(lo, m):
        while at < members[k]:
            if mask[at]:
                last = at
            at += 1
        if last >= 0 and amounts[members[k]] < amounts[last]:
            count += 1
    return float(count)


@kernel_function
def episodes(values, lo, m):
    """Runs of a rising value: a member opens one unless its value exceeds that of the member before it."""
    count = 0
    for k in range(lo, m):
        count += k == lo or not values[k] > values[k - 1]
    return float(count)


@kernel_function
def open_loans(members, amounts, lo, m, outstanding):
    """Loans with principal left if repayments settle the oldest first; one more if the log does not reach back."""
    left = outstanding
    count = 0
    k = m - 1
    while k >= lo and left > 0:
        if amounts[members[k]] > 0:
            left -= amounts[members[k]]
            count += 1
        k -= 1
    return float(count + (left > 0))
