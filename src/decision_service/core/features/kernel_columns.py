"""First part of the kernel: from packed records to sorted columns, and from columns to segment masks.

H(t) = records with occurred_at <= t that settle nothing, sorted by (occurred_at, recorded order); a log that is
already in order is not sorted. The request stands at position h, after the last event.
"""

from __future__ import annotations

import math

import numpy as np

from decision_service.core import inputs as q
from decision_service.core.compiled import kernel_function
from decision_service.core.event import BOOKED, DRAWDOWN, FLAG_LOAN, FLAG_PLACE, FLAG_SETTLES
from decision_service.core.features import opcodes as o
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.zone import offset_of

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

CITY_CELL_E6 = 500_000  # a "city" is a cell of half a degree


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
def select_history(words, t_ms, ints):
    """Fill R_ORDER with the record numbers of H(t) in order; how many there are."""
    order = ints[o.R_ORDER]
    n = words.shape[0] - 1
    h = 0
    latest = np.int64(-(2**63))
    in_order = True
    for i in range(n):
        at = words[i + 1, 0]
        if at <= t_ms and (words[i + 1, 4] >> 24) & FLAG_SETTLES == 0:
            order[h] = i
            h += 1
            in_order = in_order and at >= latest
            latest = at
    if not in_order:
        times = ints[o.R_TMP2]
        for i in range(n):
            times[i] = words[i + 1, 0]
        merge_by_time(order, ints[o.R_TMP1], times, h)
    return h


@kernel_function
def fill_base(words, row, status, h, ints):
    """The columns every plan needs, request included; an entity's log knows neither facility nor device."""
    linked = words[0, 3] != 0
    for k in range(h):
        i = ints[o.R_ORDER, k]
        word = words[i + 1, 4]
        pair = 0 if linked else words[i + 1, 6]
        ints[o.C_TIME, k] = words[i + 1, 0]
        ints[o.C_KIND, k] = word & 0xFF
        ints[o.C_STATUS, k] = status[i]
        ints[o.C_CHANNEL, k] = (word >> 16) & 0xFF
        ints[o.C_CODE, k] = (word >> 32) & 0xFFFFFFFF
        ints[o.C_FACILITY, k] = pair & 0xFFFFFFFF
        ints[o.C_DEVICE, k] = (pair >> 32) & 0xFFFFFFFF
        ints[o.C_PARTY, k] = words[i + 1, 7] if (word >> 24) & (FLAG_SETTLES | FLAG_LOAN) == 0 else 0
        ints[o.C_AMOUNT, k] = words[i + 1, 2]
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
def fill_local(row, h, transitions, offsets, ints):
    """Local day number, hour and day of week (0 = Monday)."""
    for k in range(h + 1):
        t = ints[o.C_TIME, k]
        local = t + (row[q.UTC_OFFSET_MS] if k == h else offset_of(transitions, offsets, t))
        day = local // DAY_MS
        ints[o.C_DAY, k] = day
        ints[o.C_HOUR, k] = (local - day * DAY_MS) // HOUR_MS
        ints[o.C_DOW, k] = (day + 3) % 7


@kernel_function
def _cell(degrees_e6):
    return (degrees_e6 + 360_000_000) // CITY_CELL_E6


@kernel_function
def fill_places(words, row, h, ints):
    """Places; C_CITY is 0 where there is none."""
    for k in range(h + 1):
        if k < h:
            i = ints[o.R_ORDER, k]
            flags = (words[i + 1, 4] >> 24) & 0xFF
            pair = words[i + 1, 5]
            lat = (pair << 32) >> 32
            lon = pair >> 32
            placed = flags & FLAG_PLACE
            accuracy = flags >> 4
        else:
            placed = row[q.HAS_PLACE]
            lat = row[q.LAT_E6]
            lon = row[q.LON_E6]
            accuracy = row[q.ACCURACY_CLASS]
        ints[o.C_PLACE, k] = placed
        ints[o.C_LAT, k] = lat
        ints[o.C_LON, k] = lon
        ints[o.C_ACCURACY, k] = accuracy
        ints[o.C_CITY, k] = _cell(lat) * 100_000 + _cell(lon) if placed else 0


@kernel_function
def fill_digits(row, h, ints):
    """First digit of the amount, 0 for an amount of nothing."""
    for k in range(h + 1):
        amount = ints[o.C_AMOUNT, k]
        while amount >= 10:
            amount //= 10
        ints[o.C_FIRST_DIGIT, k] = amount


@kernel_function
def fill_floats(words, row, h, needs, ints, floats):
    """The float columns the plan asks for; null is NaN."""
    scale = row[q.SCALE]
    if needs & (1 << o.F_AMOUNT):
        for k in range(h + 1):
            floats[o.F_AMOUNT, k] = ints[o.C_AMOUNT, k] / scale
    if needs & (1 << o.F_VALUE):
        values = words.view(np.float64)
        for k in range(h):
            floats[o.F_VALUE, k] = values[ints[o.R_ORDER, k] + 1, 3]
        floats[o.F_VALUE, h] = np.nan
    if needs & (1 << o.F_AGE_S):
        for k in range(h + 1):
            floats[o.F_AGE_S, k] = (row[q.T_MS] - ints[o.C_TIME, k]) / 1000
    if needs & (1 << o.F_SINCE_GRANT_S):
        for k in range(h + 1):
            floats[o.F_SINCE_GRANT_S, k] = (ints[o.C_TIME, k] - row[q.GRANTED_MS]) / 1000
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
        for k in range(h + 1):
            whole = ints[o.C_AMOUNT, k] // scale
            while whole > 0 and whole % 10 == 0:
                whole //= 10
            floats[o.F_LAST_DIGIT, k] = whole % 10 if whole > 0 else np.nan


@kernel_function
def fill_key(column, n, ints, target, table, table_id):
    """Dense group numbers of a column's distinct non-zero values, -1 for zero; how many groups."""
    size = 16
    while size < 2 * n:
        size *= 2
    last = size - 1
    for s in range(size):
        table[s] = 0
    groups = 0
    previous = np.int64(0)
    previous_id = np.int64(-1)
    for k in range(n):
        value = ints[column, k]
        if value == 0:
            target[k] = -1
            continue
        if value != previous:
            slot = (value ^ (value >> 17) ^ (value >> 31)) & last
            while table[slot] != 0 and table[slot] != value:
                slot = (slot + 1) & last
            if table[slot] == 0:
                table[slot] = value
                table_id[slot] = groups
                groups += 1
            previous = value
            previous_id = table_id[slot]
        target[k] = previous_id
    return groups


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
