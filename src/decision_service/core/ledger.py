"""What is outstanding, reserved and available: derived from a facility's snapshot and the event log, never stored.

A drawdown's record never changes; what became of it is told by later *settlement* records that name its key. The
effective status of a drawdown is that of its settlement with the latest occurred_at (on a tie, the one recorded last),
or its own while it has none, so settlements may arrive repeated and in any order.

    outstanding = snapshot + drawdowns booked now - drawdowns that were booked at as_of - repayments after as_of,
                  never below 0
    reserved    = drawdowns approved, not settled, younger than the reservation time-out (counted from the later of
                  the drawdown's own instant and our decision: a request cannot be dated so far back that it never
                  reserves)
    available   = limit - outstanding - reserved (negative when over the limit)

The whole recorded log counts, also records dated after the decision instant: a back-dated request must not lend a
limit twice. Money in minor units, instants in ms UTC.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from decision_service.core.event import (
    APPROVED,
    BOOKED,
    DRAWDOWN,
    FLAG_DECIDED,
    FLAG_SETTLES,
    REPAYMENT,
    Words,
    facility_key,
)
from decision_service.core.facility import Facility, Position

END_OF_TIME: Final = 2**62
_SCAN_PER_RECORD: Final = 1  # steps a record may cost, backward first, before the keys are hashed once for all


@njit(cache=True)
def _hash_drawdowns(words: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], np.int64]:
    """Open addressing over the keys of all drawdowns: record index + 1, 0 where empty; and the mask."""
    n = words.shape[0] - 1
    size = np.int64(16)
    while size < 2 * n:
        size *= 2
    mask = size - 1
    table = np.zeros(size, np.int64)
    for i in range(n):
        word = words[i + 1, 4]
        if word & 0xFF == DRAWDOWN and (word >> 24) & FLAG_SETTLES == 0:
            slot = words[i + 1, 1] & mask
            while table[slot] != 0:
                slot = (slot + 1) & mask
            table[slot] = i + 1
    return table, mask


@njit(cache=True)
def resolve(
    words: npt.NDArray[np.int64],
    cutoff_ms: int,
    status_out: npt.NDArray[np.uint8],
    settled_at_out: npt.NDArray[np.int64],
) -> None:
    """Effective status of every record as of `cutoff_ms` (settlements dated later are not seen).

    `words` is int64[1 + n, 8]; `status_out` uint8[>= n], `settled_at_out` int64[>= n] are filled in recorded order:
    a settlement gets status 0 (it is no request of its own), a settled drawdown the settlement's status and instant,
    everything else its own. A settlement whose drawdown was trimmed from the log has no effect.
    """
    n = words.shape[0] - 1
    budget = _SCAN_PER_RECORD * n
    hashed = False
    table = np.empty(0, np.int64)
    mask = np.int64(0)
    settled = 0
    for i in range(n):
        word = words[i + 1, 4]
        status_out[i] = (word >> 8) & 0xFF
        settled_at_out[i] = words[i + 1, 0]
        if word & 0xFF == DRAWDOWN and (word >> 24) & FLAG_SETTLES != 0:
            status_out[i] = 0
            settled += 1
    if settled == 0:
        return
    seen = np.zeros(n, np.uint8)  # whether a drawdown's entry is already a settlement's
    for i in range(n):
        word = words[i + 1, 4]
        if word & 0xFF != DRAWDOWN or (word >> 24) & FLAG_SETTLES == 0 or words[i + 1, 0] > cutoff_ms:
            continue
        key = words[i + 1, 7]
        at = words[i + 1, 0]
        found = -1
        if not hashed:
            j = i - 1
            while j >= 0 and budget > 0:
                if words[j + 1, 1] == key and words[j + 1, 4] & 0xFF == DRAWDOWN and status_out[j] != 0:
                    found = j
                    break
                j -= 1
                budget -= 1
            j = i + 1
            while found < 0 and j < n and budget > 0:  # an entity's log may hear of the settlement first
                if words[j + 1, 1] == key and words[j + 1, 4] & 0xFF == DRAWDOWN and status_out[j] != 0:
                    found = j
                j += 1
                budget -= 1
            if found < 0 and budget <= 0:
                table, mask = _hash_drawdowns(words)
                hashed = True
        if hashed and found < 0:
            slot = key & mask
            while table[slot] != 0:
                if words[table[slot], 1] == key:
                    found = table[slot] - 1
                    break
                slot = (slot + 1) & mask
        if found >= 0 and (seen[found] == 0 or at >= settled_at_out[found]):
            seen[found] = 1
            status_out[found] = (word >> 8) & 0xFF
            settled_at_out[found] = at


@njit(cache=True)
def _settles(words: npt.NDArray[np.int64]) -> bool:
    """Whether any record settles a drawdown."""
    found = False
    for i in range(1, words.shape[0]):
        word = words[i, 4]
        found |= (word & 0xFF == DRAWDOWN) & ((word >> 24) & FLAG_SETTLES != 0)
    return found


@njit(cache=True)
def _unsettled_position(
    words: npt.NDArray[np.int64], facility: int, snapshot: int, as_of_ms: int, t_ms: int, timeout_ms: int
) -> tuple[int, int]:
    """As `_position` of a log in which nothing settles anything: every record's own status and instant are in force."""
    outstanding = snapshot
    reserved = 0
    values = words.view(np.float64)
    for i in range(1, words.shape[0]):
        if words[i, 6] & 0xFFFFFFFF != facility:
            continue
        word, at, amount = words[i, 4], words[i, 0], words[i, 2]
        kind, status = word & 0xFF, (word >> 8) & 0xFF
        if kind == DRAWDOWN and status == BOOKED and at > as_of_ms:
            outstanding += amount
        elif kind == DRAWDOWN and status == APPROVED:
            since = max(at, np.int64(values[i, 3])) if (word >> 24) & FLAG_DECIDED != 0 else at
            if t_ms - since < timeout_ms:
                reserved += amount
        elif kind == REPAYMENT and status == BOOKED and at > as_of_ms:
            outstanding -= amount
    return max(outstanding, 0), reserved


@njit(cache=True)
def _position(
    words: npt.NDArray[np.int64], facility: int, snapshot: int, as_of_ms: int, t_ms: int, timeout_ms: int
) -> tuple[int, int]:
    """`(outstanding, reserved)` of one facility."""
    n = words.shape[0] - 1
    if not _settles(words):
        return _unsettled_position(words, facility, snapshot, as_of_ms, t_ms, timeout_ms)
    status, before = np.empty(n, np.uint8), np.empty(n, np.uint8)
    settled_at, before_at = np.empty(n, np.int64), np.empty(n, np.int64)
    resolve(words, END_OF_TIME, status, settled_at)
    resolve(words, as_of_ms, before, before_at)
    outstanding = snapshot
    reserved = 0
    values = words.view(np.float64)
    for i in range(n):
        if words[i + 1, 6] & 0xFFFFFFFF != facility or status[i] == 0:
            continue
        kind = words[i + 1, 4] & 0xFF
        amount = words[i + 1, 2]
        if kind == DRAWDOWN:
            outstanding += amount * (
                np.int64(status[i] == BOOKED) - np.int64(before[i] == BOOKED and before_at[i] <= as_of_ms)
            )
            since = settled_at[i]
            if (words[i + 1, 4] >> 24) & FLAG_DECIDED != 0:  # a back-dated draw is reserved from when it was decided
                since = max(since, np.int64(values[i + 1, 3]))
            if status[i] == APPROVED and t_ms - since < timeout_ms:
                reserved += amount
        elif kind == REPAYMENT and status[i] == BOOKED and words[i + 1, 0] > as_of_ms:
            outstanding -= amount
    return max(outstanding, 0), reserved


def position_of(facility: Facility, words: Words, t_ms: int, reservation_timeout_ms: int) -> Position:
    """What is outstanding, reserved and available on a facility at `t_ms`, given the whole recorded log."""
    outstanding, reserved = _position(
        words, facility_key(facility.facility_id), facility.outstanding_minor, facility.as_of_ms, t_ms,
        reservation_timeout_ms,
    )  # fmt: skip
    return Position(outstanding, reserved, facility.limit_minor - outstanding - reserved)
