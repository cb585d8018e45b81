"""Reasons for a payload to be gone: an erasure row of the same place that came later, or retention (a checkpoint).

And the other way round: what an erasure ordered to be taken away and is still there, or there again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from decision_service.archive.defects import DEFECTS_PER_PLACE_MAX, Defect
from decision_service.archive.walk import Payloads


def unexplained(place: int, payloads: Payloads, payload_through: int) -> Iterator[Defect]:
    """Rows without their personal part that neither an erasure nor retention (rows up to `payload_through`)
    explains."""
    positions, keys, gone = _joined(payloads)
    told = gone & (positions > payload_through)
    for position, key in payloads.erasures:
        told &= ~((keys == key) & (positions < position))
    for at in np.flatnonzero(told)[:DEFECTS_PER_PLACE_MAX].tolist():
        what = "what is personal is gone, and neither an erasure nor retention says why"
        yield Defect("personal", what, "", place, int(positions[at]))


def left_over(
    place: int, payloads: Payloads, carried_out: Collection[int]
) -> tuple[list[Defect], list[tuple[int, int]]]:
    """What erasures ordered and is there: again, if the erasure was carried out, which is a defect; else still, which
    is told as `(position of the erasure, rows)`."""
    positions, keys, gone = _joined(payloads)
    defects, pending = [], []
    for position, key in payloads.erasures:
        there = np.flatnonzero((keys == key) & (positions < position) & ~gone)
        if not len(there):
            continue
        if position in carried_out:
            what = f"what is personal is there again: row {position} had it erased; an older file was put back"
            defects.append(Defect("personal", what, "", place, int(positions[there[0]]), int(positions[there[-1]])))
        else:
            pending.append((position, len(there)))
    return defects, pending


def _joined(payloads: Payloads) -> tuple[Any, Any, Any]:
    if not payloads.positions:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    return tuple(np.concatenate(parts) for parts in (payloads.positions, payloads.keys, payloads.gone))  # type: ignore[return-value]
