"""The strings of many decisions, cut out of their frames' `rest` without parsing it.

    {"customer_id":"c-1","policy_id":"9f2c","strings":["c-1","f-1","CNY",null,...],"cells":[...],...}

Quotes inside a JSON text are escaped, so `"strings":[` stands in a `rest` once. A compiled scan finds where the wanted
texts begin and end; Arrow encodes them. A text with an escape in it is not what it looks like, so where there is one
(or anything unexpected) whoever asks parses: `columns` gives None.

Numba compiles the scan when it is first called, and caches it on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from decision_service.backtest.batch import Ints
from decision_service.core.expressions.columns import NULL_CODE, Texts

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

_MARK: Final = np.frombuffer(b'"strings":[', np.uint8)


@njit(cache=True)
def _scan(data, begins, ends, mark, places, starts, stops):
    """Fill where the text at each of `places` (rising) starts and stops in each row; stop below start for null. False
    for a row that is not as expected, or has an escape in a text that is wanted."""
    quote, comma, escape, closing = 34, 44, 92, 93
    for row in range(begins.shape[0]):
        at, end = begins[row], ends[row] - mark.shape[0]
        found = False
        while at < end and not found:
            found = True
            for k in range(mark.shape[0]):
                if data[at + k] != mark[k]:
                    found = False
                    break
            at += 1
        if not found:
            return False
        at, end = at - 1 + mark.shape[0], ends[row]
        wanted = 0
        place = 0
        while wanted < places.shape[0]:
            if at >= end:
                return False
            start = at
            if data[at] == quote:
                at += 1
                escaped = False
                while at < end and data[at] != quote:
                    if data[at] == escape:
                        escaped = True
                        at += 1
                    at += 1
                if place == places[wanted]:
                    if escaped:
                        return False
                    starts[wanted, row], stops[wanted, row] = start + 1, at
                    wanted += 1
                at += 1
            else:
                while at < end and data[at] != comma and data[at] != closing:
                    at += 1
                if place == places[wanted]:
                    starts[wanted, row], stops[wanted, row] = 1, 0
                    wanted += 1
            place += 1
            at += 1
    return True


@njit(cache=True)
def _gather(data, starts, stops, offsets, out):
    for row in range(starts.shape[0]):
        to = offsets[row]
        for k in range(max(0, stops[row] - starts[row])):
            out[to + k] = data[starts[row] + k]


def columns(rest: Any, rows: Ints, places: Sequence[int]) -> list[Texts] | None:
    """The texts at these places of some rows of a column of `rest`, or None if they must be parsed."""
    array = rest.combine_chunks()
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    data = np.frombuffer(array.buffers()[2], np.uint8)
    order = np.argsort(np.array(places, np.int64))
    starts = np.zeros((len(places), len(rows)), np.int64)
    stops = np.zeros_like(starts)
    sorted_places = np.array(places, np.int64)[order]
    if not _scan(data, offsets[rows], offsets[rows + 1], _MARK, sorted_places, starts, stops):
        return None
    found = [_texts(data, start, stop) for start, stop in zip(starts, stops, strict=True)]
    return [found[int(np.flatnonzero(order == i)[0])] for i in range(len(places))]


def _texts(data: npt.NDArray[np.uint8], starts: Ints, stops: Ints) -> Texts:
    import pyarrow as pa

    known = stops >= starts
    lengths = np.where(known, stops - starts, 0)
    offsets = np.zeros(len(starts) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    out = np.empty(int(offsets[-1]), np.uint8)
    _gather(data, starts, stops, offsets, out)
    validity = pa.py_buffer(np.packbits(known, bitorder="little"))
    array = pa.StringArray.from_buffers(len(starts), pa.py_buffer(offsets), pa.py_buffer(out), validity)
    return texts_of(array)


def texts_of(array: Any) -> Texts:
    """A column of texts as Arrow has it."""
    encoded = array.dictionary_encode()
    indices = encoded.indices.fill_null(NULL_CODE) if encoded.indices.null_count else encoded.indices
    codes = np.asarray(indices.to_numpy(zero_copy_only=False)).astype(np.int32, copy=False)
    return Texts(codes, tuple(encoded.dictionary.to_pylist()))
