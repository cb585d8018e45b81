"""Statistics of one window that pair its members with events of a second segment: what follows what, and what is owed.

`members[lo:m]` are positions in the history, oldest first; `mask` marks the second segment over all positions. Every
statistic walks the history once (a window of instants has a first and a last position that only ever move forward), so
its cost is linear in the length of the log whatever the log holds. `scratch` is a row as long as the history.
"""

from __future__ import annotations

import numpy as np

from decision_service.core.compiled import kernel_function
from decision_service.core.features import opcodes as o

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

NAN = np.nan
NEVER = -(2**62)


@kernel_function
def redraws(op, members, times, amounts, lo, m, mask, all_times, within_ms, share, scratch):
    """Members less than `within_ms` after an event of the mask whose amount is at least `share` of that event's.

    `scratch[head:tail]` holds the events still near, amounts ascending: its front is the least one, which is the one
    that any of them needs to be compared with.
    """
    if m == lo:
        return 0.0
    head = 0
    tail = 0
    at = members[lo]
    while at > 0 and times[lo] - all_times[at - 1] < within_ms:
        at -= 1
    count = 0
    total = np.int64(0)
    for k in range(lo, m):
        while at < members[k]:
            if mask[at]:
                while tail > head and amounts[scratch[tail - 1]] >= amounts[at]:
                    tail -= 1
                scratch[tail] = at
                tail += 1
            at += 1
        while head < tail and times[k] - all_times[scratch[head]] >= within_ms:
            head += 1
        if head < tail and amounts[members[k]] >= share * amounts[scratch[head]]:
            count += 1
            total += amounts[members[k]]
    return float(count) if op == o.O_REDRAW_COUNT else float(total)


@kernel_function
def followed(members, times, lo, m, mask, all_times, h, within_ms):
    """Members with an event of the mask after them, less than `within_ms` later."""
    count = 0
    at = h - 1
    nearest = np.int64(2**62)
    for k in range(m - 1, lo - 1, -1):
        while at > members[k]:
            if mask[at]:
                nearest = all_times[at]
            at -= 1
        count += nearest - times[k] < within_ms
    return float(count)


@kernel_function
def _secs_to(at, h, mask, amounts, all_times, share):
    """Seconds from the event at position `at` to the first of the mask after it with `share` of its amount or more."""
    for j in range(at + 1, h):
        if mask[j] and amounts[j] >= share * amounts[at]:
            return (all_times[j] - all_times[at]) / 1000
    return NAN


@kernel_function
def _returns(members, lo, m, mask, keys, groups, all_times, within_ms, scratch):
    """Members whose key is that of an event of the mask before them, less than `within_ms` earlier."""
    for g in range(groups):
        scratch[g] = NEVER
    count = 0
    at = 0
    for k in range(lo, m):
        while at < members[k]:
            if mask[at] and keys[at] >= 0:
                scratch[keys[at]] = all_times[at]
            at += 1
        key = keys[members[k]]
        count += key >= 0 and all_times[members[k]] - scratch[key] < within_ms
    return float(count)


@kernel_function
def _unanswered(members, lo, m, mask, keys, groups, h, scratch):
    """Members whose key no event of the mask has, wherever it stands."""
    for g in range(groups):
        scratch[g] = 0
    for j in range(h):
        if mask[j] and keys[j] >= 0:
            scratch[keys[j]] = 1
    count = 0
    for k in range(lo, m):
        key = keys[members[k]]
        count += key < 0 or scratch[key] == 0
    return float(count)


@kernel_function
def pair_statistic(op, p1, p2, members, lo, m, h, ints, masks, reg):
    """The outputs of the range from O_SECS_TO on: p1 is the mask, p2 the register or the key of the output."""
    times = ints[o.C_TIME]
    scratch = ints[o.R_FIRST]
    if op == o.O_SECS_TO:
        return _secs_to(members[m - 1], h, masks[p1], ints[o.C_AMOUNT], times, reg[p2]) if m > lo else NAN
    if op == o.O_UNANSWERED:
        return _unanswered(members, lo, m, masks[p1], ints[o.R_KEY + p2], ints[o.R_GROUPS, p2], h, scratch)
    key = np.int64(reg[p2 + 1])
    groups = ints[o.R_GROUPS, key]
    return _returns(members, lo, m, masks[p1], ints[o.R_KEY + key], groups, times, np.int64(reg[p2]), scratch)
