"""Terms of a line: what fell due, what was paid on it, and when; and months by their worst day.

    term        everything of the line that fell due on one local day: the sum of its `due` events' amounts (events
                without an amount are none); its minimum payment is the sum of their `value`s, where any is known
    interval    the local days after the previous term's day up to its own; of the oldest term known, its last 30 days
    paid        repayments booked in the interval, whatever they covered
    covered     repayments cover terms oldest first; what is left of one counts, as far as it goes, towards the term of
                whose interval it is (paid before it fell due), and is otherwise a prepayment of principal: it is not
                carried over to later terms
    prepaid     that rest: paid in the interval and not needed for anything that had fallen due by that day
    days late   local days from the term's day to the day it was covered, or to today while it is not; never negative
    judged      covered, or its day is over: a term due today and still open is in no statistic

A term is in a window when the newest of its events is. Terms and payments are worked out once a request for each pair
of segments. O(events).
"""

from __future__ import annotations

import numpy as np

from decision_service.core import inputs as q
from decision_service.core.compiled import kernel_function
from decision_service.core.features import opcodes as o
from decision_service.core.limits import DAY_MS

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

NAN = np.nan
FIRST_INTERVAL_D = 30
MONTH_MS = 30 * DAY_MS
MINIMUM_PERCENT = 105  # up to 5 % above the minimum is paying the minimum
# words of R_MEMO
DUE_MASK, REPAID_MASK, TERMS = 8, 9, 10
# R_TERM and R_TERM_PAID: four words a term
POSITION, DAY, DUE, LEAST = 0, 1, 2, 3
PAID, PREPAID, OPEN, COVERED = 0, 1, 2, 3


@kernel_function
def begin_terms(ints):
    """Nothing is known of any terms yet."""
    ints[o.R_MEMO, DUE_MASK] = -1


@kernel_function
def _find_terms(due, term, ints, floats, masks, h, scale):
    n = 0
    for k in range(h):
        if masks[due, k] == 0 or ints[o.C_AMOUNT, k] <= 0:
            continue
        day = ints[o.C_DAY, k]
        at = 4 * (n - 1)
        if n == 0 or term[at + DAY] != day:
            at = 4 * n
            n += 1
            term[at + DAY] = day
            term[at + DUE] = 0
            term[at + LEAST] = -1
        term[at + POSITION] = k
        term[at + DUE] += ints[o.C_AMOUNT, k]
        minimum = floats[o.F_VALUE, k]
        if minimum == minimum:
            term[at + LEAST] = max(term[at + LEAST], 0) + np.int64(np.rint(minimum * scale))
    return n


@kernel_function
def _cover(paid, i, left, day):
    """Put up to `left` into term i; what it took."""
    part = min(left, paid[4 * i + OPEN])
    paid[4 * i + OPEN] -= part
    if part > 0 and paid[4 * i + OPEN] == 0:
        paid[4 * i + COVERED] = day
    return part


@kernel_function
def _allocate(repaid, term, paid, n, ints, masks, h):
    """Walk the repayments once, oldest first."""
    for i in range(n):
        paid[4 * i + PAID] = 0
        paid[4 * i + PREPAID] = 0
        paid[4 * i + OPEN] = term[4 * i + DUE]
    oldest = 0  # first term that may still be open
    ahead = 0  # first term that falls due on the repayment's day or later
    for k in range(h):
        if masks[repaid, k] == 0:
            continue
        day = ints[o.C_DAY, k]
        left = ints[o.C_AMOUNT, k]
        while ahead < n and term[4 * ahead + DAY] < day:
            ahead += 1
        inside = ahead < n and (ahead > 0 or day > term[DAY] - FIRST_INTERVAL_D)
        if inside:
            paid[4 * ahead + PAID] += left
        fallen = ahead + 1 if ahead < n and term[4 * ahead + DAY] == day else ahead
        while oldest < fallen and left > 0:
            left -= _cover(paid, oldest, left, day)
            oldest += paid[4 * oldest + OPEN] == 0
        if inside and left > 0:
            paid[4 * ahead + PREPAID] += left
            _cover(paid, ahead, left, day)


@kernel_function
def _terms(due, repaid, ints, floats, masks, h, row):
    """Have the terms stand in the scratch rows; how many."""
    memo = ints[o.R_MEMO]
    if memo[DUE_MASK] != due or memo[REPAID_MASK] != repaid:
        memo[TERMS] = _find_terms(due, ints[o.R_TERM], ints, floats, masks, h, row[q.SCALE])
        _allocate(repaid, ints[o.R_TERM], ints[o.R_TERM_PAID], memo[TERMS], ints, masks, h)
        memo[DUE_MASK] = due
        memo[REPAID_MASK] = repaid
    return memo[TERMS]


@kernel_function
def _late(term, paid, i, today):
    end = today if paid[4 * i + OPEN] > 0 else paid[4 * i + COVERED]
    return max(end - term[4 * i + DAY], 0)


@kernel_function
def _ratio(op, term, paid, first, last):
    """Mean, least or largest of paid over due."""
    if first >= last:
        return NAN
    total = 0.0
    least = np.inf
    most = -np.inf
    for i in range(first, last):
        x = paid[4 * i + PAID] / term[4 * i + DUE]
        total += x
        least = min(least, x)
        most = max(most, x)
    if op == o.O_TERM_RATIO_MEAN:
        return total / (last - first)
    return least if op == o.O_TERM_RATIO_MIN else most


@kernel_function
def _late_mean(term, paid, first, last, today):
    total = np.int64(0)
    for i in range(first, last):
        total += _late(term, paid, i, today)
    return total / (last - first) if last > first else NAN


@kernel_function
def _late_slope(term, paid, first, last, today):
    """OLS slope of the days late on the due day, per 30 days."""
    n = last - first
    if n < 3:
        return NAN
    mean = _late_mean(term, paid, first, last, today)
    middle = 0.0
    for i in range(first, last):
        middle += (term[4 * i + DAY] - term[4 * first + DAY]) / n
    top = 0.0
    bottom = 0.0
    for i in range(first, last):
        x = term[4 * i + DAY] - term[4 * first + DAY] - middle
        top += x * (_late(term, paid, i, today) - mean)
        bottom += x * x
    return 30 * top / bottom


@kernel_function
def _is_counted(op, term, paid, i):
    due = term[4 * i + DUE]
    amount = paid[4 * i + PAID]
    if op == o.O_TERM_OPEN:
        return paid[4 * i + OPEN] > 0
    if op == o.O_TERM_EARLY:
        return paid[4 * i + OPEN] == 0 and paid[4 * i + COVERED] < term[4 * i + DAY]
    if op == o.O_TERM_PARTIAL:
        return amount > 0 and amount < due
    least = term[4 * i + LEAST]
    return least >= 0 and amount < due and 100 * amount <= MINIMUM_PERCENT * least


@kernel_function
def _count(op, term, paid, first, last):
    count = 0
    for i in range(first, last):
        count += _is_counted(op, term, paid, i)
    return float(count)


@kernel_function
def _clean(term, paid, first, last, today, cap):
    count = 0
    i = last - 1
    while i >= first and count < cap and paid[4 * i + OPEN] == 0 and _late(term, paid, i, today) == 0:
        count += 1
        i -= 1
    return float(count)


@kernel_function
def _sum(op, term, paid, first, last):
    total = np.int64(0)
    for i in range(first, last):
        due = term[4 * i + DUE]
        if op == o.O_TERM_DUE:
            total += due
        elif op == o.O_TERM_PREPAID:
            total += paid[4 * i + PREPAID]
        else:
            total += max(due - paid[4 * i + PAID], 0)
    return float(total)


@kernel_function
def terms_statistic(op, due, repaid, cap, edge, ints, floats, masks, h, row):
    """One statistic of the judged terms from position `edge` of the history on."""
    n = _terms(due, repaid, ints, floats, masks, h, row)
    term = ints[o.R_TERM]
    paid = ints[o.R_TERM_PAID]
    today = ints[o.C_DAY, h]
    last = n
    if n > 0 and paid[4 * (n - 1) + OPEN] > 0 and term[4 * (n - 1) + DAY] >= today:
        last = n - 1
    first = last
    while first > 0 and term[4 * (first - 1) + POSITION] >= edge:
        first -= 1
    if op <= o.O_TERM_RATIO_MAX:
        return _ratio(op, term, paid, first, last)
    if op == o.O_TERM_LATE_MEAN:
        return _late_mean(term, paid, first, last, today)
    if op == o.O_TERM_LATE_SLOPE:
        return _late_slope(term, paid, first, last, today)
    if op == o.O_TERM_CLEAN:
        return _clean(term, paid, first, last, today, cap)
    if op <= o.O_TERM_MINIMUM:
        return _count(op, term, paid, first, last)
    return _sum(op, term, paid, first, last)


@kernel_function
def worst_months(times, values, lo, m, t_ms, least, below):
    """Rolling months of 30 days whose largest value is at least `least` and less than `below`."""
    count = 0
    k = m - 1
    while k >= lo:
        month = (t_ms - times[k]) // MONTH_MS
        worst = values[k]
        while k >= lo and (t_ms - times[k]) // MONTH_MS == month:
            worst = max(worst, values[k])
            k -= 1
        count += least <= worst and worst < below
    return float(count)
