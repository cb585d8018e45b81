"""The line day by day: the closing balance and use of every local day, walked back from now once a request.

    closing(today)     what is outstanding now
    closing(d - 1)     closing(d) minus the draws booked on local day d plus the repayments booked on it
    limit(d - 1)       limit(d) minus the limit changes (`value`, major units) booked on local day d
    use(d)             max(closing(d), 0) / limit(d); no observation where the limit is not positive

The days before the line's grant are none of its days. `back` counts days: 0 is today. The walk goes only as far as the
longest window asked for, and once for each pair of segments (draws, repayments); running sums and extremes stand
beside it, so that a mean or a maximum of any window is one look. O(events + days).
"""

from __future__ import annotations

import math

import numpy as np

from decision_service.core import inputs as q
from decision_service.core.compiled import kernel_function
from decision_service.core.features import opcodes as o
from decision_service.core.limits import DAY_MS
from decision_service.core.zone import offset_of

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

NAN = np.nan
U = np.uint64
ROUNDING = 1e-9  # of a mean of uses
MONTH_D = 30
JUMP_D = 7
# words of R_MEMO
DRAWN, REPAID, LIMITS, REACHED, GRANT_DAY = 0, 1, 2, 3, 4


@kernel_function
def begin_days(row, transitions, offsets, ints):
    """Nothing is walked yet for this request; its line begins on the grant's local day."""
    memo = ints[o.R_MEMO]
    granted = row[q.GRANTED_MS]
    memo[DRAWN] = -1
    memo[GRANT_DAY] = (granted + offset_of(transitions, offsets, granted)) // DAY_MS


@kernel_function
def _sort_moves(drawn, repaid, limits, ints, floats, masks, h, row):
    """What each of the last DAYS_MAX local days added to the balance and to the limit."""
    moved, lifted = ints[o.R_DAY_MOVED], ints[o.R_DAY_LIFTED]
    moved[: o.DAYS_MAX + 1] = 0
    lifted[: o.DAYS_MAX + 1] = 0
    days, amounts, values = ints[o.C_DAY], ints[o.C_AMOUNT], floats[o.F_VALUE]
    adds, takes, changes = masks[drawn], masks[repaid], masks[max(limits, 0)]
    today = days[h]
    for k in range(h - 1, -1, -1):
        back = max(today - days[U(k)], 0)
        if back > o.DAYS_MAX:
            break
        moved[U(back)] += amounts[U(k)] * (np.int64(adds[U(k)]) - np.int64(takes[U(k)]))
        if changes[U(k)] and limits >= 0:
            change = values[U(k)]
            lifted[U(back)] += np.int64(np.rint(change * row[q.SCALE])) if change == change else 0


@kernel_function
def _close_days(first, count, moved, lifted, balance, limit, owed, line):
    """Balance and limit at the end of each day, from those of day `first` back."""
    for k in range(first, count):
        b = U(k)
        balance[b] = owed
        limit[b] = line
        owed -= moved[b]
        line -= lifted[b]


@kernel_function
def _use_days(first, count, balance, limit, use):
    for k in range(first, count):
        b = U(k)
        x = max(balance[b], 0) / max(limit[b], 1)
        use[b] = x if limit[b] > 0 else NAN


@kernel_function
def _walk(count, ints, floats, values_row, row):
    """Go on to the day `count - 1` back."""
    first = ints[o.R_MEMO, REACHED]
    balance, limit, known = ints[o.R_DAY_BALANCE], ints[o.R_DAY_LIMIT], ints[o.R_DAY_KNOWN]
    moved, lifted = ints[o.R_DAY_MOVED], ints[o.R_DAY_LIFTED]
    use, total = floats[values_row + o.V_DAY_USE], floats[values_row + o.V_DAY_SUM]
    most, least = floats[values_row + o.V_DAY_MOST], floats[values_row + o.V_DAY_LEAST]
    owed, line, days, uses, high, low = row[q.OUTSTANDING], row[q.LIMIT], np.int64(0), 0.0, -np.inf, np.inf
    if first > 0:
        at = U(first - 1)
        owed, line = balance[at] - moved[at], limit[at] - lifted[at]
        days, uses, high, low = known[at], total[at], most[at], least[at]
    _close_days(first, count, moved, lifted, balance, limit, owed, line)
    _use_days(first, count, balance, limit, use)
    for k in range(first, count):
        b = U(k)
        x = use[b]
        seen = x == x
        days += seen
        uses += x if seen else 0.0
        high = x if x > high else high
        low = x if x < low else low
        known[b] = days
        total[b] = uses
        most[b] = high
        least[b] = low
    ints[o.R_MEMO, REACHED] = max(first, count)


@kernel_function
def _ready(drawn, repaid, limits, count, ints, floats, values_row, masks, h, row):
    """Have the newest `count` days of these segments stand in the scratch rows."""
    memo = ints[o.R_MEMO]
    if memo[DRAWN] != drawn or memo[REPAID] != repaid or memo[LIMITS] != limits:
        _sort_moves(drawn, repaid, limits, ints, floats, masks, h, row)
        memo[DRAWN] = drawn
        memo[REPAID] = repaid
        memo[LIMITS] = limits
        memo[REACHED] = 0
    _walk(count, ints, floats, values_row, row)


@kernel_function
def _limits_of(op, drawn, repaid, limits, memo):
    """The limit changes to walk with: what looks at balances only takes those that have been walked."""
    owes = op == o.O_DAY_ACTIVE or op == o.O_DAY_BALANCE_MEAN
    return memo[LIMITS] if owes and memo[DRAWN] == drawn and memo[REPAID] == repaid else limits


@kernel_function
def _deviation(use, n, mean, seen):
    total = 0.0
    for b in range(n):
        if use[b] == use[b]:
            total += (use[b] - mean) ** 2
    return math.sqrt(total / seen)


@kernel_function
def _slope(use, n, mean, seen):
    """OLS slope of the use on the day, per day."""
    days = 0.0
    for b in range(n):
        days += b if use[b] == use[b] else 0
    middle = days / seen
    top = 0.0
    bottom = 0.0
    for b in range(n):
        if use[b] == use[b]:
            top += (middle - b) * (use[b] - mean)
            bottom += (middle - b) ** 2
    return top / bottom if bottom > 0 else NAN


@kernel_function
def _jump(use, n):
    """Largest rise from one day to the day JUMP_D later."""
    best = NAN
    for b in range(n - JUMP_D):
        rise = use[b] - use[b + JUMP_D]
        if rise == rise and not rise <= best:
            best = rise
    return best


@kernel_function
def _days_at(op, use, n, level):
    """Days at the level or above: all of them, those in a row up to today, or how often a row began to exceed it."""
    count = 0
    for b in range(n):
        if op == o.O_DAY_EPISODES:
            count += use[b] > level and (b == 0 or not use[b - 1] > level)
        elif use[b] >= level:
            count += 1
        elif op == o.O_DAY_STREAK:
            break
    return float(count)


@kernel_function
def _rises(use, n, months):
    """Steps from one month's last day to the next one's at which the use rose."""
    count = 0
    for k in range(months):
        older = MONTH_D * (k + 1)
        count += older < n and use[older - MONTH_D] > use[older]
    return float(count)


@kernel_function
def _active_months(balance, n, months):
    count = 0
    for k in range(months):
        b = MONTH_D * k
        end = min(b + MONTH_D, n)
        while b < end and balance[b] <= 0:
            b += 1
        count += b < end
    return float(count)


@kernel_function
def _low_months(total, known, n, months, level):
    """Share of the months whose mean use is below the level, by more than what rounding makes of equal uses."""
    low = 0
    counted = 0
    for k in range(months):
        end = min(MONTH_D * (k + 1), n)
        if end <= MONTH_D * k:
            break
        before = MONTH_D * k - 1
        days = known[end - 1] - (known[before] if k else 0)
        use = total[end - 1] - (total[before] if k else 0.0)
        counted += days > 0
        low += days > 0 and use < (level - ROUNDING) * days
    return low / counted if counted > 0 else NAN


@kernel_function
def _mean_before_today(balance, n):
    total = np.int64(0)
    for b in range(1, n):
        total += max(balance[b], 0)
    return total / (n - 1) if n > 1 else NAN


@kernel_function
def _over_months(op, n, days, level, ints, total):
    if op == o.O_DAY_ACTIVE:
        return _active_months(ints[o.R_DAY_BALANCE], n, days // MONTH_D)
    return _low_months(total, ints[o.R_DAY_KNOWN], n, days // MONTH_D, level)


@kernel_function
def _over_days(op, n, min_n, ints, floats, values_row):
    """Statistics of the use on the newest `n` days; null for fewer than `min_n` observations."""
    seen = ints[o.R_DAY_KNOWN, n - 1]
    if seen == 0 or seen < min_n:
        return NAN
    use = floats[values_row + o.V_DAY_USE]
    if op == o.O_DAY_MAX:
        return floats[values_row + o.V_DAY_MOST, n - 1]
    if op == o.O_DAY_MIN:
        return floats[values_row + o.V_DAY_LEAST, n - 1]
    mean = floats[values_row + o.V_DAY_SUM, n - 1] / seen
    if op == o.O_DAY_MEAN:
        return mean
    if op == o.O_DAY_STD:
        return _deviation(use, n, mean, seen)
    return _slope(use, n, mean, seen) if op == o.O_DAY_SLOPE else _jump(use, n)


@kernel_function
def daily_statistic(op, drawn, repaid, p2, ints, floats, values_row, masks, h, row, reg):
    """One statistic of the line's newest days; `reg[p2:]` = days, level, mask of limit changes or -1, least number."""
    days = np.int64(reg[p2])
    level = reg[p2 + 1]
    lived = ints[o.C_DAY, h] - ints[o.R_MEMO, GRANT_DAY] + 1
    reaches = op == o.O_DAY_AT or op == o.O_DAY_RISES or op == o.O_DAY_BALANCE_MEAN
    n = min(days + 1 if reaches else days, lived)
    if n < 1:
        return NAN
    memo = ints[o.R_MEMO]
    limits = _limits_of(op, drawn, repaid, np.int64(reg[p2 + 2]), memo)
    if memo[DRAWN] != drawn or memo[REPAID] != repaid or memo[LIMITS] != limits or memo[REACHED] < n:
        _ready(drawn, repaid, limits, n, ints, floats, values_row, masks, h, row)
    use = floats[values_row + o.V_DAY_USE]
    if op == o.O_DAY_AT:
        return use[days] if days < n else NAN
    if op == o.O_DAY_RISES:
        return _rises(use, n, days // MONTH_D)
    if op == o.O_DAY_BALANCE_MEAN:
        return _mean_before_today(ints[o.R_DAY_BALANCE], n)
    if op == o.O_DAY_OVER or op == o.O_DAY_STREAK or op == o.O_DAY_EPISODES:
        return _days_at(op, use, n, level)
    if op == o.O_DAY_ACTIVE or op == o.O_DAY_BELOW:
        return _over_months(op, n, days, level, ints, floats[values_row + o.V_DAY_SUM])
    return _over_days(op, n, np.int64(reg[p2 + 3]), ints, floats, values_row)
