"""Third part of the kernel: one stream (a segment with a value) at a time, all its windows and outputs.

Windows are nested and ascend, so the walk goes from the newest member to the oldest once: `lo` moves to each window's
far edge, sums and group tallies grow with it, and the outputs of that window are written where it stops.
"""

from __future__ import annotations

import numpy as np

from decision_service.core import inputs as q
from decision_service.core.compiled import kernel_function
from decision_service.core.features import opcodes as o
from decision_service.core.features.kernel_calendar import days_since
from decision_service.core.features.kernel_daily import daily_statistic
from decision_service.core.features.kernel_groups import clear_groups, grouped_statistic, grow_groups
from decision_service.core.features.kernel_members import first_from, gather, in_window, run_tally
from decision_service.core.features.kernel_order import order_statistic, sort_values
from decision_service.core.features.kernel_pairs import followed, pair_statistic, redraws
from decision_service.core.features.kernel_places import gyration_km, km_home, last_fix
from decision_service.core.features.kernel_terms import terms_statistic, worst_months
from decision_service.core.features.kernel_times import (
    burst,
    decayed_sum,
    episodes,
    gap_statistic,
    open_loans,
    retries,
    run_statistic,
    since_statistic,
    tail_streak,
)

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

NAN = np.nan
U = np.uint64


@kernel_function
def find_edges(prog, h, ints, t_ms):
    """First position inside each window; windows ascend, so each search ends where the one before it did."""
    start = prog[o.P_WINDOWS]
    times = ints[o.C_TIME]
    edges = ints[o.R_WINDOW]
    high = h
    for w in range(prog[o.P_WINDOWS_N]):
        far = t_ms - prog[U(start + w)]
        low = np.int64(0)
        count = high
        while count > 0:
            half = count >> 1
            if times[U(low + half)] <= far:
                low += half + 1
                count -= half + 1
            else:
                count = half
        edges[w] = low
        high = low


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
def _basic(op, values, times, lo, m, t_ms):
    """First, last, least or largest; null of nothing."""
    if m == lo:
        return NAN
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
        within_ms, share = np.int64(reg[p2]), reg[p2 + 1]
        all_times, scratch = ints[o.C_TIME], ints[o.R_FIRST]
        return redraws(op, members, times, amounts, lo, m, masks[p1], all_times, within_ms, share, scratch)
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
def _placed(op, lo, m, ints, row):
    if m == lo or row[q.HAS_PLACE] == 0:
        return NAN
    members = ints[o.R_MEMBERS]
    if op == o.O_KM_HOME:
        return km_home(row, ints, members, lo, m)
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
    if op >= o.O_SECS_TO:
        return pair_statistic(op, p1, p2, members, lo, m, h, ints, masks, reg)
    if op == o.O_LAST_DAYS:
        return days_since(ints[o.C_DAY], members[m - 1], h) if m > lo else NAN
    if op == o.O_GYRATION:
        return gyration_km(ints, members, lo, m)
    if op < o.O_KM_LAST:
        return _related(op, p1, p2, members, amounts, values, times, lo, m, edge, h, ints, masks, reg, row)
    return _placed(op, lo, m, ints, row)


@kernel_function
def _grouped(op, prog, p, cell, ints, lo, m, reg):
    default = reg[U(prog[U(cell + 3)])]
    return grouped_statistic(
        op, prog, p, prog[U(cell + 6)], prog[U(cell + 7)], ints, lo, m, prog[U(cell + 2)], default
    )  # fmt: skip


@kernel_function
def _ranked_from(prog, p, m, members, values, order, ints):
    """Sort the values that any window wants sorted; the first member of them."""
    if prog[U(p + 4)] & o.FLAG_SORTED == 0:
        return np.int64(0)
    first = first_from(members, m, ints[o.R_WINDOW, U(prog[U(p + o.STREAM_SORTED)])])
    whole = prog[U(p + 2)] != o.VALUE_COLUMN
    sort_values(values[first:], m - first, whole, order, ints[o.R_TMP2], ints[o.R_TABLE], ints[o.R_TABLE_ID])
    return first


@kernel_function
def _reach(members, amounts, values, lo, edge, money, exact, loose):
    """The first member of the next wider window, and the sums up to there."""
    while lo > 0 and members[U(lo - 1)] >= edge:
        lo -= 1
        if money:
            exact += amounts[U(members[U(lo)])]
        else:
            loose += values[U(lo)]
    return lo, exact, loose


@kernel_function
def run_members(
    prog, p, end, age_ms, row, reg, ints, floats, masks, mask_words, members, times, amounts, order, values, w
):  # fmt: skip
    """All outputs of a stream that looks at its members one by one; where the next one starts."""
    edges = ints[o.R_WINDOW]
    until = prog[U(p + o.STREAM_UNTIL)]
    t_ms = row[q.T_MS] - (prog[U(prog[o.P_WINDOWS] + until)] if until >= 0 else 0)
    widest = prog[U(p + o.STREAM_FROM)]
    start = edges[U(widest)] if widest >= 0 else np.int64(0)
    mask = prog[U(p)]
    m = gather(prog, p, start, end, ints, floats, masks[mask], mask_words[mask], members, times, amounts, values)
    ranked = _ranked_from(prog, p, m, members, values, order, ints)
    ranked_values = values[ranked:]
    grouped = prog[U(p + 4)] & o.FLAG_GROUPED
    if grouped:
        clear_groups(prog, p, ints)
    h = end - prog[U(p + 1)]
    money = prog[U(p + 2)] != o.VALUE_COLUMN
    lo, exact, loose = m, np.int64(0), 0.0
    cell = p + o.STREAM_WORDS
    for cells in range(prog[U(p + o.STREAM_CELLS)]):
        edge = edges[U(prog[U(cell)])]
        before, exact_before, loose_before = lo, exact, loose
        lo, exact, loose = _reach(members, amounts, values, lo, edge, money, exact, loose)
        if grouped:
            grow_groups(prog, p, cells, ints, lo, before)
        total = float(exact) if money else loose
        n = m - lo
        filtered = False
        outputs = prog[U(cell + 1)]
        cell += 2
        for _ in range(outputs):
            op = prog[U(cell)]
            least = prog[U(cell + 2)]
            scale = row[q.SCALE] if prog[U(cell + 5)] else 1
            if op == o.O_COUNT:
                x = float(n)
            elif op == o.O_SUM:
                x = total / scale
            elif op == o.O_BUCKET_COUNT:
                x = float(before - lo)
            elif op == o.O_BUCKET_SUM:
                x = (float(exact - exact_before) if money else loose - loose_before) / scale
            elif op >= o.O_GROUPS and op <= o.O_GROUP_COUNT_SHARE:
                x = _grouped(op, prog, p, cell, ints, lo, m, reg) / scale
                least = 0
            elif n < least:
                x = 0.0
            elif op == o.O_MEAN:
                x = total / (n * scale) if n > 0 else NAN
            elif op == o.O_STD:
                x = _spread(values, lo, m, total / n) / scale if n > 0 else NAN
            elif op >= o.O_QUANTILE and op < o.O_GROUPS:
                if not filtered:
                    in_window(order, ranked_values, m - ranked, lo - ranked, w)
                    filtered = True
                x = order_statistic(op, w, n, prog[U(cell + 6)], reg) / scale
            elif op < o.O_GAP_MEAN:
                x = _basic(op, values, times, lo, m, t_ms) / scale
            elif op < o.O_QUANTILE:
                x = _timed(op, prog[U(cell + 6)], prog[U(cell + 7)], values, times, lo, m, reg, t_ms) / scale
            else:
                x = _rarely(
                    op, prog, p, prog[U(cell + 6)], prog[U(cell + 7)], members, amounts, values, times, lo, m, edge, h,
                    ints, floats, masks, reg, row,
                ) / scale  # fmt: skip
            x = reg[U(prog[U(cell + 3)])] if n < least else x
            reg[U(prog[U(cell + 1)])] = x if age_ms >= prog[U(cell + 4)] else NAN
            cell += o.OUTPUT_WORDS
    return cell


@kernel_function
def run_streams(prog, h, row, reg, ints, floats, masks, mask_words):
    """Every stream of the plan. Rows are taken out once: a view of a row costs more than most outputs."""
    values_row = prog[o.P_VALUES_ROW]
    members = ints[o.R_MEMBERS]
    times = ints[o.R_TMP1]
    amounts = ints[o.C_AMOUNT]
    edges = ints[o.R_WINDOW]
    order = ints[o.R_SORTED]
    values = floats[values_row + o.V_VALUES]
    w = floats[values_row + o.V_SORTED]
    age_ms = row[q.T_MS] - row[q.GRANTED_MS]
    scale = row[q.SCALE]
    p = prog[o.P_STREAMS]
    for _ in range(prog[o.P_STREAMS_N]):
        until = prog[U(p + o.STREAM_UNTIL)]  # as of t - delay nothing younger is there
        end = (edges[U(until)] if until >= 0 else h) + prog[U(p + 1)]
        if prog[U(p + 4)] & o.FLAG_MEMBERS:
            p = run_members(
                prog, p, end, age_ms, row, reg, ints, floats, masks, mask_words, members, times, amounts, order, values,
                w,
            )  # fmt: skip
        else:
            p = run_tally(prog, p, end, age_ms, scale, reg, edges, amounts, masks[prog[U(p)]])
