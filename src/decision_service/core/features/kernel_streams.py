"""Third part of the kernel: one stream (a segment with a value) at a time, all its windows and outputs.

Windows are nested and ascend, so the walk goes from the newest member to the oldest once: `lo` moves to each window's
far edge, sums and group tallies grow with it, and the outputs of that window are written where it stops.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from decision_service.core import inputs as q
from decision_service.core.features import opcodes as o
from decision_service.core.features.kernel_groups import grouped_statistic, new_group_sum
from decision_service.core.features.kernel_order import order_statistic, sort_values
from decision_service.core.features.kernel_places import km_home, last_fix
from decision_service.core.features.kernel_times import (
    burst,
    days_over,
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


@njit
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


@njit
def _gather(prog, p, limit, ints, floats, mask, values_row):
    """Members (positions, ascending), their instants in R_TMP1 and values; members without a value drop out."""
    kind = prog[p + 2]
    members = ints[o.R_MEMBERS]
    times = ints[o.R_TMP1]
    values = floats[values_row + o.V_VALUES]
    m = 0
    if kind == o.VALUE_COLUMN:
        column = floats[prog[p + 3]]
        for k in range(limit):
            if mask[k] and column[k] == column[k]:
                members[m] = k
                times[m] = ints[o.C_TIME, k]
                values[m] = column[k]
                m += 1
        return m
    for k in range(limit):
        if mask[k]:
            members[m] = k
            times[m] = ints[o.C_TIME, k]
            values[m] = ints[o.C_AMOUNT, k]
            m += 1
    return m


@njit
def _grow_groups(prog, p, ints, lo, until):
    """Count members [lo, until) into the stream's groups."""
    for g in range(prog[p + 5]):
        gid = ints[o.R_KEY + prog[p + 6 + g]]
        counts = ints[o.R_GROUP_COUNT + g]
        sums = ints[o.R_GROUP_SUM + g]
        for k in range(lo, until):
            at = ints[o.R_MEMBERS, k]
            group = gid[at]
            if group >= 0:
                counts[group] += 1
                sums[group] += ints[o.C_AMOUNT, at]


@njit
def _clear_groups(prog, p, ints):
    for g in range(prog[p + 5]):
        groups = ints[o.R_GROUPS, prog[p + 6 + g]]
        ints[o.R_GROUP_COUNT + g, :groups] = 0
        ints[o.R_GROUP_SUM + g, :groups] = 0


@njit
def _filter(sorted_index, values, m, lo, w):
    """The window's values in ascending order; how many."""
    n = 0
    for k in range(m):
        i = sorted_index[k]
        w[n] = values[i]
        n += i >= lo
    return n


@njit
def _spread(values, lo, m, mean):
    total = 0.0
    for k in range(lo, m):
        step = values[k] - mean
        total += step * step
    return np.sqrt(total / (m - lo))


@njit
def _extreme(op, values, lo, m):
    best = values[lo]
    for k in range(lo + 1, m):
        if (op == o.O_MIN and values[k] < best) or (op == o.O_MAX and values[k] > best):
            best = values[k]
    return best


@njit
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


@njit
def _timed(op, p1, p2, values, times, lo, m, reg, t_ms):
    if op == o.O_BURST:
        return burst(times, lo, m, p1)
    if op == o.O_EWMA:
        return decayed_sum(times, values, lo, m, t_ms, p1, reg[p2])
    if op <= o.O_GAP_RATIO:
        return gap_statistic(op, times, lo, m, t_ms)
    return run_statistic(op, values, lo, m)


@njit
def _related(op, p1, p2, values, times, lo, m, edge, h, ints, masks, reg, row):
    members = ints[o.R_MEMBERS]
    amounts = ints[o.C_AMOUNT]
    if op == o.O_TAIL_STREAK:
        return tail_streak(members, lo, m, masks[p1], p2)
    if op == o.O_REDRAW_COUNT or op == o.O_REDRAW_SUM:
        return redraws(
            op, members, times, amounts, lo, m, masks[p1], ints[o.C_TIME], np.int64(reg[p2]), reg[p2 + 1]
        )
    if op == o.O_RETRIES:
        return retries(members, amounts, lo, m, masks[p1], edge)
    if op == o.O_FOLLOWED:
        return followed(members, times, lo, m, masks[p1], ints[o.C_TIME], h, p2)
    if op == o.O_EPISODES:
        return episodes(values, lo, m)
    if op == o.O_OPEN_LOANS:
        return open_loans(members, amounts, lo, m, np.int64(np.rint(reg[p1] * row[q.SCALE])))
    return since_statistic(op, members, values, lo, m, masks[p1], edge, h)


@njit
def _placed(op, lo, m, ints, row, floats, values_row):
    if m == lo or row[q.HAS_PLACE] == 0:
        return NAN
    members = ints[o.R_MEMBERS]
    if op == o.O_KM_HOME:
        return km_home(row, ints, members, lo, m, floats[values_row + o.V_TMP])
    return last_fix(op, row, ints, members[m - 1])


@njit
def _grouped(op, prog, p, g, p2, lo, m, ints, min_n, default):
    gid = ints[o.R_KEY + prog[p + 6 + g]]
    groups = ints[o.R_GROUPS, prog[p + 6 + g]]
    counts = ints[o.R_GROUP_COUNT + g]
    seen = np.int64(0)
    for k in range(groups):
        seen += counts[k]
    if seen < min_n:
        return default
    if op == o.O_NEW_GROUP_SUM:
        return new_group_sum(gid, ints[o.R_MEMBERS], lo, m, ints[o.C_AMOUNT], ints[o.R_FIRST])
    return grouped_statistic(op, counts, ints[o.R_GROUP_SUM + g], groups, p2)


@njit
def _days_over(drawn, repaid, p2, ints, masks, h, row, reg):
    threshold = np.int64(np.ceil(reg[p2] * row[q.LIMIT]))
    return days_over(
        masks[drawn], masks[repaid], ints[o.C_AMOUNT], ints[o.C_DAY], h, np.int64(reg[p2 + 1]), ints[o.C_DAY, h],
        row[q.OUTSTANDING], threshold,
    )  # fmt: skip


@njit
def run_stream(prog, p, h, row, reg, ints, floats, masks):
    """All outputs of the stream at `p`; where the next one starts."""
    t_ms = row[q.T_MS]
    age_ms = t_ms - row[q.GRANTED_MS]
    values_row = prog[o.P_VALUES_ROW]
    values = floats[values_row + o.V_VALUES]
    times = ints[o.R_TMP1]
    m = _gather(prog, p, h + prog[p + 1], ints, floats, masks[prog[p]], values_row)
    flags = prog[p + 4]
    if flags & o.FLAG_SORTED:
        sort_values(
            values, m, prog[p + 2] != o.VALUE_COLUMN, ints[o.R_SORTED], ints[o.R_TMP2], ints[o.R_TABLE],
            ints[o.R_TABLE_ID],
        )  # fmt: skip
    if flags & o.FLAG_GROUPED:
        _clear_groups(prog, p, ints)
    money = prog[p + 2] != o.VALUE_COLUMN
    lo = m
    exact = np.int64(0)
    loose = 0.0
    bucket_lo = m
    bucket_exact = np.int64(0)
    w = floats[values_row + o.V_SORTED]
    cells = prog[p + o.STREAM_CELLS]
    p_cell = p + o.STREAM_WORDS
    for _ in range(cells):
        edge = ints[o.R_WINDOW, prog[p_cell]]
        before = lo
        while lo > 0 and ints[o.R_MEMBERS, lo - 1] >= edge:
            lo -= 1
            if money:
                exact += ints[o.C_AMOUNT, ints[o.R_MEMBERS, lo]]
            else:
                loose += values[lo]
        if flags & o.FLAG_GROUPED:
            _grow_groups(prog, p, ints, lo, before)
        total = float(exact) if money else loose
        n = m - lo
        filtered = -1
        outputs = prog[p_cell + 1]
        p_cell += 2
        for _ in range(outputs):
            op = prog[p_cell]
            min_n = prog[p_cell + 2]
            default = reg[prog[p_cell + 3]]
            p1 = prog[p_cell + 6]
            p2 = prog[p_cell + 7]
            scale = row[q.SCALE] if prog[p_cell + 5] else 1
            if age_ms < prog[p_cell + 4]:
                x = NAN
            elif op >= o.O_GROUPS and op <= o.O_GROUP_COUNT_SHARE:
                x = _grouped(op, prog, p, p1, p2, lo, m, ints, min_n, default) / scale
            elif n < min_n:
                x = default
            elif op == o.O_BUCKET_COUNT:
                x = float(bucket_lo - lo)
                bucket_lo = lo
            elif op == o.O_BUCKET_SUM:
                x = (exact - bucket_exact) / scale
                bucket_exact = exact
            elif op == o.O_MEAN and n > 0:
                x = total / (n * scale)
            elif op < o.O_GAP_MEAN:
                x = _basic(op, values, times, lo, m, total, t_ms) / scale
            elif op < o.O_QUANTILE:
                x = _timed(op, p1, p2, values, times, lo, m, reg, t_ms) / scale
            elif op < o.O_GROUPS:
                if filtered < 0:
                    filtered = _filter(ints[o.R_SORTED], values, m, lo, w)
                x = order_statistic(op, w, filtered, p1, reg) / scale
            elif op == o.O_DAYS_OVER:
                x = _days_over(prog[p], p1, p2, ints, masks, h, row, reg)
            elif op < o.O_KM_LAST:
                x = _related(op, p1, p2, values, times, lo, m, edge, h, ints, masks, reg, row) / scale
            else:
                x = _placed(op, lo, m, ints, row, floats, values_row)
            reg[prog[p_cell + 1]] = x
            p_cell += o.OUTPUT_WORDS
    return p_cell
