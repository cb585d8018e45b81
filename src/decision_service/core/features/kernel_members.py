"""Which events a stream is made of: positions in its mask, their values, and what needs no list of members at all.

A stream whose outputs only count and add walks its mask once, newest event first, eight bytes a step where the
processor can; only the others list their members. Both look no further back than the widest window that is asked for.
Indices are cast to unsigned where they come from memory: they are never negative, and the compiler then need not ask.
"""

from __future__ import annotations

import numpy as np

from decision_service.core.compiled import kernel_function
from decision_service.core.features import opcodes as o

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

NAN = np.nan
U = np.uint64


@kernel_function
def _count(mask, lo, hi):
    part = mask[lo:hi]
    total = np.int64(0)
    for k in range(part.shape[0]):
        total += part[k]
    return total


@kernel_function
def _sum(mask, amounts, lo, hi):
    part = mask[lo:hi]
    amount = amounts[lo:hi]
    total = np.int64(0)
    for k in range(part.shape[0]):
        total += amount[k] & -np.int64(part[k])
    return total


@kernel_function
def run_tally(prog, p, end, age_ms, scale, reg, edges, amounts, mask):
    """All outputs of a stream that only counts and adds amounts; where the next stream starts."""
    adds = prog[U(p + 4)] & o.FLAG_SUMS
    n = np.int64(0)
    exact = np.int64(0)
    hi = end
    cell = p + o.STREAM_WORDS
    for _ in range(prog[U(p + o.STREAM_CELLS)]):
        edge = edges[U(prog[U(cell)])]
        n_before = n
        exact_before = exact
        if edge < hi:
            n += _count(mask, edge, hi)
            if adds:
                exact += _sum(mask, amounts, edge, hi)
            hi = edge
        outputs = prog[U(cell + 1)]
        cell += 2
        for _ in range(outputs):
            op = prog[U(cell)]
            if op == o.O_COUNT:
                x = float(n)
            elif op == o.O_BUCKET_COUNT:
                x = float(n - n_before)
            else:
                x = float(exact if op == o.O_SUM else exact - exact_before)
                if prog[U(cell + 5)]:
                    x /= scale
            if n < prog[U(cell + 2)]:
                x = reg[U(prog[U(cell + 3)])]
            reg[U(prog[U(cell + 1)])] = x if age_ms >= prog[U(cell + 4)] else NAN
            cell += o.OUTPUT_WORDS
    return cell


@kernel_function
def select_members(mask, mask_words, lo, hi, members):
    """Positions in the mask from `lo` to before `hi`, ascending; eight absent ones cost one look; how many."""
    m = np.int64(0)
    for k in range(lo, min((lo + 7) & ~7, hi)):
        members[U(m)] = k
        m += mask[U(k)]
    for word in range((lo + 7) >> 3, (hi + 7) >> 3):
        if mask_words[U(word)] != 0:
            at = word << 3
            for j in range(8):
                members[U(m)] = at + j
                m += mask[U(at + j)]
    while m > 0 and members[U(m - 1)] >= hi:
        m -= 1
    return m


@kernel_function
def _known_values(column, m, members, values):
    """Members without a value drop out; how many stay."""
    kept = np.int64(0)
    for k in range(m):
        at = members[k]
        x = column[U(at)]
        members[U(kept)] = at
        values[U(kept)] = x
        kept += x == x
    return kept


@kernel_function
def gather(prog, p, lo, hi, ints, floats, mask, mask_words, members, times, amounts, values):
    """List the members from `lo` to before `hi`, and what the outputs look at: instants, values; how many."""
    m = select_members(mask, mask_words, lo, hi, members)
    flags = prog[U(p + 4)]
    if prog[U(p + 2)] == o.VALUE_COLUMN:
        m = _known_values(floats[prog[U(p + 3)]], m, members, values)
    elif flags & o.FLAG_VALUES:
        for k in range(m):
            values[k] = amounts[U(members[k])]
    if flags & o.FLAG_TIMES:
        all_times = ints[o.C_TIME]
        for k in range(m):
            times[k] = all_times[U(members[k])]
    return m


@kernel_function
def first_from(ascending, n, least):
    """The first place of a row in ascending order that holds at least `least`."""
    low = np.int64(0)
    count = n
    while count > 0:
        half = count >> 1
        if ascending[U(low + half)] < least:
            low += half + 1
            count -= half + 1
        else:
            count = half
    return low


@kernel_function
def in_window(sorted_index, values, m, lo, w):
    """The values of members from `lo` on, in ascending order; how many."""
    n = np.int64(0)
    for k in range(m):
        i = sorted_index[k]
        w[U(n)] = values[U(i)]
        n += i >= lo
    return n
