"""Positions of many questions at once: `ledger.position_of` and the facility it is asked about, for training rows.

The facility of a question is its newest snapshot (by as_of, then by arrival) among those reported by then. Nothing here
defines a position: every one comes out of `ledger`, compiled into the loop; a test holds the two to the same numbers.

Numba's cache watches this file only, so the loop closes over a digest of `ledger`'s source.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from decision_service.core import ledger
from decision_service.core.ledger import _position

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

LINE_FIELDS: Final = ("facility", "recorded_at_ms", "as_of_ms", "limit", "outstanding", "currency", "closed")
_FACILITY, _RECORDED, _AS_OF, _LIMIT, _OUTSTANDING, _CURRENCY, _CLOSED = range(7)
POSITION_FIELDS: Final = ("chosen", "known", "outstanding", "reserved", "total_limit", "total_outstanding")
NO_LINE: Final = -1  # no snapshot of the facility is known
SEVERAL: Final = -2  # none was named and there are several

Ints = npt.NDArray[np.int64]


@njit
def _newest(lines, first, last, bound_ms):
    """`(index of the newest known snapshot of the last facility in the range, where the facility begins)`."""
    facility = lines[last - 1, _FACILITY]
    i = last - 1
    found = -1
    while i >= first and lines[i, _FACILITY] == facility:
        if found < 0 and lines[i, _RECORDED] <= bound_ms:
            found = i
        i -= 1
    return found, i + 1


@njit
def _choose(lines, first, last, bound_ms, asked):
    """`(snapshot of the facility asked for, number of facilities known)`."""
    chosen, known, end = NO_LINE, 0, last
    while end > first:
        found, end = _newest(lines, first, end, bound_ms)
        if found < 0:
            continue
        known += 1
        if asked == 0:
            chosen = found if known == 1 else SEVERAL
        elif lines[found, _FACILITY] == asked:
            chosen = found
    return chosen, known


def _build(digest: int) -> Any:
    @njit(cache=True, nogil=True)
    def positions(words, starts, ends, t_ms, bound_ms, asked, firsts, lasts, lines, nobody, timeout_ms, out):
        """Fill `out` int64[R, len(POSITION_FIELDS)], one row a question.

        Question r sees the log `words[starts[r]:ends[r]]` and the snapshots `lines[firsts[r]:lasts[r]]` (int64[S,
        len(LINE_FIELDS)], sorted by facility, as_of, arrival) that were recorded up to `bound_ms[r]`; `asked[r]` is the
        key of its facility or 0. Without a snapshot it is asked about a line of nothing, granted at `t_ms[r]`; `nobody`
        is the key of a facility that has no id.
        """
        for r in range(starts.shape[0]):
            log, t = words[starts[r] : ends[r]], t_ms[r]
            chosen, known = _choose(lines, firsts[r], lasts[r], bound_ms[r], asked[r])
            if chosen < 0:
                key = asked[r] if asked[r] != 0 else nobody
                outstanding, reserved = _position(log, key, 0, t, t, timeout_ms)
                limit, total_limit = np.int64(0), np.int64(0)
            else:
                limit = lines[chosen, _LIMIT]
                outstanding, reserved = _position(
                    log, lines[chosen, _FACILITY], lines[chosen, _OUTSTANDING], lines[chosen, _AS_OF], t, timeout_ms
                )
            total_limit, total = limit, outstanding
            end = lasts[r]
            while end > firsts[r] and chosen >= 0:
                other, end = _newest(lines, firsts[r], end, bound_ms[r])
                if other < 0 or other == chosen or lines[other, _CLOSED] != 0:
                    continue
                if lines[other, _CURRENCY] == lines[chosen, _CURRENCY]:
                    total_limit += lines[other, _LIMIT]
                    total += _position(
                        log, lines[other, _FACILITY], lines[other, _OUTSTANDING], lines[other, _AS_OF], t, timeout_ms
                    )[0]
            out[r, 0], out[r, 1], out[r, 2] = chosen, known, outstanding
            out[r, 3], out[r, 4], out[r, 5] = reserved, total_limit, total
        return digest

    return positions


def _digest_of_sources() -> int:
    sources = (ledger.__file__, __file__)
    return int.from_bytes(blake2b(b"".join(Path(s).read_bytes() for s in sources), digest_size=7).digest(), "little")


positions: Final[Any] = _build(_digest_of_sources())
