"""Third part of the kernel: one stream (a segment with a value) at a time, all its windows and outputs.

Windows are nested and ascend, so the walk goes from the newest member to the oldest once: `lo` moves to each window's
far edge, sums and group tallies grow with it, and the outputs of that window are written where it stops.
"""

from __future__ import annotations

import numpy as np

from decision_service.core import inputs as q
from decision_service.core.compiled import kernel_function
from decision_service.core.features import opcodes as o
from decision_service.core.features.kernel_daily import daily_statistic
from decision_service.core.features.kernel_groups import clear_groups, grouped_statistic, grow_groups
from decision_service.core.features.kernel_order import order_statistic, sort_values
from decision_service.core.features.kernel_places import km_home, last_fix
from decision_service.core.features.kernel_terms import terms_statistic, worst_months
from decision_service.core.features.kernel_times import (
    burst,
    decayed_sum,
    episodes,
    followed,
    gap_statistic,
    open_loans,
    redraws,
    retries,
    run_statistic,
    since_statistic,
    tail_streak,
)

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

NAN = np.nan


@kernel_function
def find_edges(prog, h, ints, t_ms):
    """First position inside each window; windows ascend, so one walk from the newest event finds them all."""
    start = prog[o.P_WINDOWS]
    times = ints[o.C_TIME]
    for w in range(prog[o.P_WINDOWS_N]):
        far = t_ms - prog[start + w]
        low = 0
        high = h
        while low < high:
            middle = (low + high) >> 1
            if times[middle] > far:
                high = middle
            else:
                low = middle + 1
        ints[o.R_WINDOW, w] = low


@kernel_function
def _select_members(mask_words, end, members):
    """Positions in the mask before `end`, ascending; eight absent ones cost one look."""
    m = 0
    for word in range((end + 7) >> 3):
        bits = mask_words[word]
        at = word << 3
        while bits != 0:
            members[m] = at
            m += bits & 1
            at += 1
            bits >>= 8
    while m > 0 and members[m - 1] >= end:
        m -= 1
    return m


@kernel_function
def _gather(prog, p, end, ints, floats, mask_words, members, times, values):
    """Members before `end`, and what the outputs look at: instants, values; members without a value drop out."""
    m = _select_members(mask_words, end, members)
    flags = prog[p + 4]
    if prog[p + 2] == o.VALUE_COLUMN:
        column = prog[p + 3]
        kept = 0
        for k in range(m):
            x = floats[column, members[k]]
            members[kept] = members[k]
            values[kept] = x
            kept += x == x
        m = kept
    elif flags & o.FLAG_VALUES:
        for k in range(m):
            values[k] = ints[o.C_AMOUNT, members[k]]
    if flags & o.FLAG_TIMES:
        for k in range(m):
            times[k] = ints[o.C_TIME, members[k]]
    return m


@kernel_function
def _filter(sorted_index, values, m, lo, w):
    """The window's values in ascending order; how many."""
    n = 0
    for k in range(m):
        i = sorted_index[k]
        w[n] = values[i]
        n += i >= lo
    return n


@kernel_function
def _spread(values, lo, m, mean):
    total = 0.0
    for k in range(lo, m):
        step = values[k] - mean
        total += step * step
    return np.sqrt(total / (m - lo))


@kernel_function
def _extreme(op, values, lo, m):
    best = values[lo]
    for k in range(lo + 1, m):
        if (op == o.O_MIN and values[k] < best) or (op == o.O_MAX and values[k] > best):
            best = values[k]
    return best


@kernel_function
def _basic(op, values, times, lo, m, total, t_ms):
    n = m - lo
    if op == o.O_COUNT:
        return float(n)
    if op == o.O_SUM:
        return total
    if n == 0:
        return NAN
    if op == o.O_MEAN:
        return total / n
    if op == o.O_STD:
        return _spread(values, lo, m, total / n)
    if op == o.O_FIRST:
        return values[lo]
    if op == o.O_LAST:
        return values[m - 1]
    if op == o.O_FIRST_AGE:
        return (t_ms - times[lo]) / 1000
    if op == o.O_LAST_AGE:
        return (t_ms - times[m - 1]) / 1000
    return _extreme(op, values, lo, m)


@kernel_function
def _timed(op, p1, p2, values, times, lo, m, reg, t_ms):
    if op == o.O_BURST:
        return burst(times, lo, m, p1)
    if op == o.O_EWMA:
        return decayed_sum(times, values, lo, m, t_ms, p1, reg[p2])
    if op <= o.O_GAP_RATIO:
        return gap_statistic(op, times, lo, m, t_ms)
    return run_statistic(op, values, lo, m)


@kernel_function
def _related(op, p1, p2, members, amounts, values, times, lo, m, edge, h, ints, masks, reg, row):
    if op == o.O_TAIL_STREAK:
        return tail_streak(members, lo, m, masks[p1], p2)
    if op == o.O_REDRAW_COUNT or op == o.O_REDRAW_SUM:
        return redraws(op, members, times, amounts, lo, m, masks[p1], ints[o.C_TIME], np.int64(reg[p2]), reg[p2 + 1])
    if op == o.O_RETRIES:
        return retries(members, amounts, lo, m, masks[p1], edge)
    if op == o.O_FOLLOWED:
        return followed(members, times, lo, m, masks[p1], ints[o.C_TIME], h, p2)
    if op == o.O_EPISODES:
        return episodes(values, lo, m)
    if op == o.O_OPEN_LOANS:
        return open_loans(members, amounts, lo, m, np.int64(np.rint(reg[p1] * row[q.SCALE])))
    return since_statistic(op, members, values, lo, m, masks[p1], edge, h)


@kernel_function
def _placed(op, lo, m, ints, row, floats, values_row):
    if m == lo or row[q.HAS_PLACE] == 0:
        return NAN
    members = ints[o.R_MEMBERS]
    if op == o.O_KM_HOME:
        return km_home(row, ints, members, lo, m, floats[values_row + o.V_TMP])
    return last_fix(op, row, ints, members[m - 1])


@kernel_function
def _rarely(op, prog, p, p1, p2, members, amounts, values, times, lo, m, edge, h, ints, floats, masks, reg, row):
    """The outputs that look at something beside the stream's own members."""
    if op >= o.O_TERM_RATIO_MEAN and op <= o.O_TERM_CARRIED:
        return terms_statistic(op, prog[p], p1, p2, edge, ints, floats, masks, h, row)
    if op >= o.O_DAY_AT and op <= o.O_DAY_BELOW:
        return daily_statistic(op, prog[p], p1, p2, ints, floats, prog[o.P_VALUES_ROW], masks, h, row, reg)
    if op == o.O_WORST_MONTHS:
        until = prog[p + o.STREAM_UNTIL]
        t_ms = row[q.T_MS] - (prog[prog[o.P_WINDOWS] + until] if until >= 0 else 0)
        return worst_months(times, values, lo, m, t_ms, reg[p2], reg[p2 + 1])
    if op < o.O_KM_LAST:
        return _related(op, p1, p2, members, amounts, values, times, lo, m, edge, h, ints, masks, reg, row)
    return _placed(op, lo, m, ints, row, floats, prog[o.P_VALUES_ROW])


@kernel_function
def run_stream(prog, p, h, row, reg, ints, floats, masks, mask_words, members, times, amounts, order, values, w):
    """All outputs of the stream at `p`; where the next one starts."""
    t_ms = row[q.T_MS]
    age_ms = t_ms - row[q.GRANTED_MS]
    until = prog[p + o.STREAM_UNTIL]
    if until >= 0:  # as of t - delay: nothing younger is there
        h = ints[o.R_WINDOW, until]
        t_ms -= prog[prog[o.P_WINDOWS] + until]
    m = _gather(prog, p, h + prog[p + 1], ints, floats, mask_words[prog[p]], members, times, values)
    flags = prog[p + 4]
    money = prog[p + 2] != o.VALUE_COLUMN
    if flags & o.FLAG_SORTED:
        sort_values(values, m, money, order, ints[o.R_TMP2], ints[o.R_TABLE], ints[o.R_TABLE_ID])
    if flags & o.FLAG_GROUPED:
        clear_groups(prog, p, ints)
    lo = m
    exact = np.int64(0)
    loose = 0.0
    bucket_lo = m
    bucket_exact = np.int64(0)
    cell = p + o.STREAM_WORDS
    for _ in range(prog[p + o.STREAM_CELLS]):
        edge = ints[o.R_WINDOW, prog[cell]]
        before = lo
        while lo > 0 and members[lo - 1] >= edge:
            lo -= 1
            if money:
                exact += amounts[members[lo]]
            else:
                loose += values[lo]
        if flags & o.FLAG_GROUPED:
            grow_groups(prog, p, ints, lo, before)
        total = float(exact) if money else loose
        n = m - lo
        filtered = False
        outputs = prog[cell + 1]
        cell += 2
        for _ in range(outputs):
            op = prog[cell]
            min_n = prog[cell + 2]
            scale = row[q.SCALE] if prog[cell + 5] else 1
            if op == o.O_COUNT:
                x = float(n)
            elif op == o.O_SUM:
                x = total / scale
            elif op == o.O_BUCKET_COUNT:
                x = float(bucket_lo - lo)
                bucket_lo = lo
            elif op == o.O_BUCKET_SUM:
                x = (exact - bucket_exact) / scale
                bucket_exact = exact
            elif op >= o.O_GROUPS and op <= o.O_GROUP_COUNT_SHARE:
                default = reg[prog[cell + 3]]
                x = grouped_statistic(
                    op, prog, p, prog[cell + 6], prog[cell + 7], ints, lo, m, min_n, default
                ) / scale  # fmt: skip
                min_n = 0
            elif n < min_n:
                x = 0.0
            elif op == o.O_MEAN:
                x = total / (n * scale) if n > 0 else NAN
            elif op < o.O_GAP_MEAN:
                x = _basic(op, values, times, lo, m, total, t_ms) / scale
            elif op < o.O_QUANTILE:
                x = _timed(op, prog[cell + 6], prog[cell + 7], values, times, lo, m, reg, t_ms) / scale
            elif op < o.O_GROUPS:
                if not filtered:
                    _filter(order, values, m, lo, w)
                    filtered = True
                x = order_statistic(op, w, n, prog[cell + 6], reg) / scale
            else:
                x = _rarely(
                    op, prog, p, prog[cell + 6], prog[cell + 7], members, amounts, values, times, lo, m, edge, h,
                    ints, floats, masks, reg, row,
                ) / scale  # fmt: skip
            if n < min_n:
                x = reg[prog[cell + 3]]
            reg[prog[cell + 1]] = x if age_ms >= prog[cell + 4] else NAN
            cell += o.OUTPUT_WORDS
    return cell


@kernel_function
def run_streams(prog, h, row, reg, ints, floats, masks, mask_words):
    """Every stream of the plan. Rows are taken out once: a view of a row costs more than most outputs."""
    values_row = prog[o.P_VALUES_ROW]
    members = ints[o.R_MEMBERS]
    times = ints[o.R_TMP1]
    amounts = ints[o.C_AMOUNT]
    order = ints[o.R_SORTED]
    values = floats[values_row + o.V_VALUES]
    w = floats[values_row + o.V_SORTED]
    p = prog[o.P_STREAMS]
    for _ in range(prog[o.P_STREAMS_N]):
        p = run_stream(prog, p, h, row, reg, ints, floats, masks, mask_words, members, times, amounts, order, values, w)
