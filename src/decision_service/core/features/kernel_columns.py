"""First part of the kernel: from packed records to sorted columns, and from columns to segment masks.

H(t) = records with occurred_at <= t that settle nothing, sorted by (occurred_at, recorded order), as far back as the
plan looks and as far as it asks for order (`opcodes`); a log that is already in order is not sorted. The request
stands at position h, after the last event.
"""

from __future__ import annotations

import math

import numpy as np

from decision_service.core import inputs as q
from decision_service.core.compiled import kernel_function
from decision_service.core.event import BOOKED, DRAWDOWN, FLAG_LOAN, FLAG_PLACE, FLAG_SETTLES
from decision_service.core.features import opcodes as o
from decision_service.core.features.kernel_members import first_from
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.zone import place_of

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

U = np.uint64
CITY_CELL_E6 = 500_000  # a "city" is a cell of half a degree
FEW_SLOTS = 256
MOVES_PER_EVENT = 8


@kernel_function
def merge_by_time(order, other, times, n):
    """Stable bottom-up merge sort of `order` by `times[order]`; leaves the result in `order`."""
    width = 1
    source = order
    target = other
    while width < n:
        start = 0
        while start < n:
            middle = min(start + width, n)
            end = min(start + 2 * width, n)
            i = start
            j = middle
            for k in range(start, end):
                if i < middle and (j >= end or times[source[i]] <= times[source[j]]):
                    target[k] = source[i]
                    i += 1
                else:
                    target[k] = source[j]
                    j += 1
            start += 2 * width
        source, target = target, source
        width *= 2
    for k in range(n):
        order[k] = source[k]


@kernel_function
def _insert_late(order, times, n):
    """Put the few records that came late where they belong; False, having begun, once that costs more than merging."""
    moves = np.int64(0)
    for k in range(1, n):
        i = order[k]
        at = times[U(i)]
        j = np.int64(k)
        while j > 0 and times[U(order[U(j - 1)])] > at:
            order[U(j)] = order[U(j - 1)]
            j -= 1
        order[U(j)] = i
        moves += k - j
        if moves > MOVES_PER_EVENT * n:
            return False
    return True


@kernel_function
def _part_by_window(prog, t_ms, order, other, times, h):
    """Put the records that need no order before the others, oldest windows first; where the others begin.

    Stable. Whatever two of them come to stand in, every window that they are counted in holds both or neither.
    """
    windows = prog[o.P_WINDOWS]
    last = prog[o.P_WINDOWS_N] - 1
    if prog[o.P_REACH] == last:
        last -= 1  # what is older was left out
    placed, rest = np.int64(0), h
    for w in range(last, prog[o.P_ORDERED] - 1, -1):
        far = t_ms - prog[U(windows + w)]
        kept = np.int64(0)
        for k in range(rest):
            i = order[k]
            old = times[U(i)] <= far
            other[U(placed)] = i
            order[U(kept)] = i
            placed += old
            kept += not old
        rest = kept
    for k in range(rest):
        other[U(placed + k)] = order[k]
    for k in range(h):
        order[k] = other[k]
    return placed


@kernel_function
def select_history(words, t_ms, prog, ints):
    """Fill R_ORDER with the record numbers of H(t) in order, as far as the plan looks back; how many there are."""
    order = ints[o.R_ORDER]
    n = words.shape[0] - 1
    reach = prog[o.P_REACH]
    since = t_ms - prog[prog[o.P_WINDOWS] + reach] if reach >= 0 else np.int64(-(2**63))
    h = np.int64(0)
    latest = np.int64(-(2**63))
    in_order = True
    for i in range(n):
        at = words[i + 1, 0]
        seen = (at <= t_ms) & (at > since) & ((words[i + 1, 4] >> 24) & FLAG_SETTLES == 0)
        order[U(h)] = i
        h += seen
        in_order &= (at >= latest) | (not seen)
        latest = at if seen else latest
    if not in_order:
        times = ints[o.R_TMP2]
        for i in range(n):
            times[i] = words[i + 1, 0]
        first = np.int64(0)
        if prog[o.P_ORDERED] >= 0:
            first = _part_by_window(prog, t_ms, order, ints[o.R_TMP1], times, h)
        if not _insert_late(order[first:], times, h - first):
            merge_by_time(order[first:], ints[o.R_TMP1], times, h - first)
    return h


@kernel_function
def fill_base(words, row, status, slim, h, ints):
    """The columns every plan needs, request included; an entity's log knows neither facility nor device."""
    _fill_slim(words, status, h, ints)
    if not slim:
        _fill_rest(words, h, ints)
    ints[o.C_TIME, h] = row[q.T_MS]
    ints[o.C_KIND, h] = DRAWDOWN
    ints[o.C_STATUS, h] = BOOKED
    ints[o.C_CHANNEL, h] = row[q.CHANNEL]
    ints[o.C_CODE, h] = row[q.CODE]
    ints[o.C_FACILITY, h] = row[q.FACILITY]
    ints[o.C_DEVICE, h] = row[q.DEVICE]
    ints[o.C_PARTY, h] = row[q.COUNTERPARTY]
    ints[o.C_AMOUNT, h] = row[q.AMOUNT]


@kernel_function
def _fill_slim(words, status, h, ints):
    order = ints[o.R_ORDER]
    time, kind, statuses, code = ints[o.C_TIME], ints[o.C_KIND], ints[o.C_STATUS], ints[o.C_CODE]
    for k in range(h):
        i = U(order[k])
        record = words[i + U(1)]
        word = record[4]
        time[k] = record[0]
        kind[k] = word & 0xFF
        statuses[k] = status[i]
        code[k] = (word >> 32) & 0xFFFFFFFF


@kernel_function
def _fill_rest(words, h, ints):
    order = ints[o.R_ORDER]
    channel, party, amount = ints[o.C_CHANNEL], ints[o.C_PARTY], ints[o.C_AMOUNT]
    facility, device = ints[o.C_FACILITY], ints[o.C_DEVICE]
    known = np.int64(0) if words[0, 3] != 0 else np.int64(-1)
    for k in range(h):
        record = words[U(order[k]) + U(1)]
        word = record[4]
        pair = record[6] & known
        channel[k] = (word >> 16) & 0xFF
        facility[k] = pair & 0xFFFFFFFF
        device[k] = (pair >> 32) & 0xFFFFFFFF
        other = record[7]
        party[k] = other if (word >> 24) & (FLAG_SETTLES | FLAG_LOAN) == 0 else 0
        amount[k] = record[2]


@kernel_function
def _fill_days(times, offset, lo, hi, days, hours, weekdays):
    """Divided as doubles, eight at a time: exact, as whole numbers this small are never rounded across an integer."""
    time, day_row, hour_row, weekday_row = times[lo:hi], days[lo:hi], hours[lo:hi], weekdays[lo:hi]
    for k in range(time.shape[0]):
        local = float(time[k] + offset)
        day = np.floor(local / DAY_MS)
        day_row[k] = np.int64(day)
        hour_row[k] = np.int64(np.floor((local - day * DAY_MS) / HOUR_MS))
        weekday_row[k] = np.int64(day + 3 - 7 * np.floor((day + 3) / 7))


@kernel_function
def fill_local(row, h, transitions, offsets, ints):
    """Local day number, hour and day of week (0 = Monday); the offset is looked up once between two transitions."""
    times, days, hours, weekdays = ints[o.C_TIME], ints[o.C_DAY], ints[o.C_HOUR], ints[o.C_DOW]
    lo = np.int64(0)
    while lo < h:
        at = place_of(transitions, times[U(lo)])
        hi = h
        if at + 1 < transitions.shape[0]:
            hi = max(first_from(times, h, transitions[U(at + 1)]), lo + 1)
        _fill_days(times, offsets[U(at)], lo, hi, days, hours, weekdays)
        lo = hi
    _fill_days(times, row[q.UTC_OFFSET_MS], h, h + 1, days, hours, weekdays)


@kernel_function
def _fill_cities(n, placed, lats, lons, cities):
    for k in range(n):
        north = np.floor((lats[k] + 360_000_000) / CITY_CELL_E6)
        east = np.floor((lons[k] + 360_000_000) / CITY_CELL_E6)
        cities[k] = np.int64(north * 100_000 + east) if placed[k] else 0


@kernel_function
def fill_places(words, row, h, ints):
    """Places; C_CITY is 0 where there is none."""
    order = ints[o.R_ORDER]
    placed, lats, lons, accuracies = ints[o.C_PLACE], ints[o.C_LAT], ints[o.C_LON], ints[o.C_ACCURACY]
    for k in range(h):
        record = words[U(order[k] + 1)]
        flags = (record[4] >> 24) & 0xFF
        pair = record[5]
        lats[k] = (pair << 32) >> 32
        lons[k] = pair >> 32
        placed[k] = flags & FLAG_PLACE
        accuracies[k] = flags >> 4
    ints[o.C_PLACE, h] = row[q.HAS_PLACE]
    ints[o.C_LAT, h] = row[q.LAT_E6]
    ints[o.C_LON, h] = row[q.LON_E6]
    ints[o.C_ACCURACY, h] = row[q.ACCURACY_CLASS]
    _fill_cities(h + 1, placed, lats, lons, ints[o.C_CITY])


@kernel_function
def fill_digits(row, h, ints):
    """First digit of the amount, 0 for an amount of nothing; amounts stay below 10**15 (`limits`)."""
    amounts, digits = ints[o.C_AMOUNT], ints[o.C_FIRST_DIGIT]
    for k in range(h + 1):
        amount = amounts[k]
        amount = amount // 100_000_000 if amount >= 100_000_000 else amount
        amount = amount // 10_000 if amount >= 10_000 else amount
        amount = amount // 100 if amount >= 100 else amount
        digits[k] = amount // 10 if amount >= 10 else amount


@kernel_function
def _without_zeros(whole, unit, inverse):
    """Divided by the unit if that leaves no rest: a quotient near enough to be rounded tells."""
    part = np.rint(whole * inverse)
    return part if part * unit == whole else whole


@kernel_function
def _fill_last_digits(scale, n, amounts, column):
    """The last digit that is not zero, null for nothing; in doubles, which are exact below 10**15, eight at a time."""
    for k in range(n):
        whole = np.floor(amounts[k] / scale)
        digits = _without_zeros(whole, 1e8, 1e-8)
        digits = _without_zeros(digits, 1e4, 1e-4)
        digits = _without_zeros(digits, 1e2, 1e-2)
        digits = _without_zeros(digits, 1e1, 1e-1)
        column[k] = digits - 10 * np.floor(digits / 10) if whole > 0 else np.nan


@kernel_function
def _fill_ratio(n, column, start, unit, target):
    for k in range(n):
        target[k] = (column[k] - start) / unit


@kernel_function
def _fill_ages(n, times, t_ms, target):
    for k in range(n):
        target[k] = (t_ms - times[k]) / 1000


@kernel_function
def fill_floats(words, row, h, needs, ints, floats):
    """The float columns the plan asks for; null is NaN."""
    scale = row[q.SCALE]
    if needs & (1 << o.F_AMOUNT):
        _fill_ratio(h + 1, ints[o.C_AMOUNT], np.int64(0), scale, floats[o.F_AMOUNT])
    if needs & (1 << o.F_VALUE):
        values = words.view(np.float64)
        for k in range(h):
            floats[o.F_VALUE, k] = values[U(ints[o.R_ORDER, k] + 1), 3]
        floats[o.F_VALUE, h] = np.nan
    if needs & (1 << o.F_AGE_S):
        _fill_ages(h + 1, ints[o.C_TIME], row[q.T_MS], floats[o.F_AGE_S])
    if needs & (1 << o.F_SINCE_GRANT_S):
        _fill_ratio(h + 1, ints[o.C_TIME], row[q.GRANTED_MS], np.int64(1_000), floats[o.F_SINCE_GRANT_S])
    for column, source in (
        (o.F_HOUR, o.C_HOUR),
        (o.F_DOW, o.C_DOW),
    ):
        if needs & (1 << column):
            for k in range(h + 1):
                floats[column, k] = ints[source, k]
    if needs & (1 << o.F_LAT | 1 << o.F_LON | 1 << o.F_ACCURACY):
        for k in range(h + 1):
            placed = ints[o.C_PLACE, k] != 0
            floats[o.F_LAT, k] = ints[o.C_LAT, k] / 1e6 if placed else np.nan
            floats[o.F_LON, k] = ints[o.C_LON, k] / 1e6 if placed else np.nan
            known = placed and ints[o.C_ACCURACY, k] > 0
            floats[o.F_ACCURACY, k] = ints[o.C_ACCURACY, k] if known else np.nan
    if needs & (1 << o.F_LAST_DIGIT):
        _fill_last_digits(scale, h + 1, ints[o.C_AMOUNT], floats[o.F_LAST_DIGIT])


@kernel_function
def _number_groups(values, n, target, table, table_id, size):
    """Hash into `size` slots; how many groups, or -1 once the table is half full. Zero is found in any empty slot."""
    last = size - 1
    table[:size] = 0
    groups = np.int64(0)
    for k in range(n):
        value = values[k]
        slot = (value ^ (value >> 17) ^ (value >> 31)) & last
        while table[U(slot)] != value:
            if table[U(slot)] == 0:
                if 2 * groups >= size:
                    return np.int64(-1)
                table[U(slot)] = value
                table_id[U(slot)] = groups
                groups += 1
                break
            slot = (slot + 1) & last
        group = table_id[U(slot)]
        target[k] = group if value != 0 else np.int64(-1)
    return groups


@kernel_function
def _number_runs(values, n, target):
    """As `_number_groups` for a column in ascending order; -1 if it is not."""
    group = np.int64(-1)
    last = np.int64(0)
    for k in range(n):
        value = values[k]
        if value < last:
            return np.int64(-1)
        group += value != last
        target[k] = group if value != 0 else np.int64(-1)
        last = value
    return group + 1


@kernel_function
def fill_categories(n, values, target, absent):
    """The values of a column themselves as group numbers, -1 for `absent`."""
    for k in range(n):
        target[k] = values[k] if values[k] != absent else np.int64(-1)


@kernel_function
def fill_key(column, n, values, target, table, table_id):
    """Dense group numbers of a column's distinct non-zero values, -1 for zero; how many groups.

    Days ascend, unless clocks go back over midnight. Most customers know few payees and devices: a small table, near
    in the cache, is tried before one for all.
    """
    if column == o.C_DAY:
        groups = _number_runs(values, n, target)
        if groups >= 0:
            return groups
    groups = _number_groups(values, n, target, table, table_id, FEW_SLOTS)
    if groups >= 0:
        return groups
    size = 2 * FEW_SLOTS
    while size < 2 * n:
        size *= 2
    return _number_groups(values, n, target, table, table_id, size)


@kernel_function
def _operand(code, n, floats, reg, spare):
    """The row of an operand; a register is spread over the spare one."""
    if code >= 0:
        return code
    for k in range(n):
        floats[spare, k] = reg[~code]
    return spare


@kernel_function
def _arithmetic(op, left, right, n, target):
    if op == o.K_ADD:
        for k in range(n):
            target[k] = left[k] + right[k]
    elif op == o.K_SUB:
        for k in range(n):
            target[k] = left[k] - right[k]
    elif op == o.K_MUL:
        for k in range(n):
            target[k] = left[k] * right[k]
    elif op == o.K_DIV:
        for k in range(n):
            target[k] = left[k] / (right[k] if right[k] != 0 else np.nan)
    elif op == o.K_FLOOR:
        for k in range(n):
            target[k] = np.floor(left[k])
    else:
        for k in range(n):
            target[k] = _column_value(op, left[k], right[k])


@kernel_function
def _column_value(op, a, b):
    if op == o.K_MIN:
        return a if a < b else (b if a >= b else np.nan)
    if op == o.K_MAX:
        return a if a > b else (b if a <= b else np.nan)
    if op == o.K_NEG:
        return -a
    if op == o.K_ABS:
        return abs(a)
    if op == o.K_CEIL:
        return np.ceil(a)
    if op == o.K_ROUND:
        return np.rint(a)
    if op == o.K_SQRT:
        return math.sqrt(a) if a >= 0 else np.nan
    if op == o.K_LOG:
        return math.log(a) if a > 0 else np.nan
    if op == o.K_EXP:
        return math.exp(a) if a < 709.0 else np.nan
    return a if a == a else b


@kernel_function
def run_columns(prog, start, count, n, floats, reg):
    """Columns computed from other columns and registers, one pass each."""
    row = prog[o.P_VALUES_ROW]
    for j in range(count):
        p = start + j * o.COLUMN_WORDS
        left = _operand(prog[p + 2], n, floats, reg, row + o.V_LEFT)
        right = _operand(prog[p + 3], n, floats, reg, row + o.V_RIGHT)
        _arithmetic(prog[p], floats[left], floats[right], n, floats[prog[p + 1]])
