"""The chain's digests over whole columns: what `chain.py` makes row by row, several times faster.

Canonical bytes of many rows are laid one behind the other in one buffer by Arrow: of each column its heads (`00`, or
`01` and the length) and its values, joined row by row. Only the hashing itself goes row by row.
`tests/archive/test_archive_digests.py` holds both ways against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.archive.schema import AUDIT, PERSONAL, Column

if TYPE_CHECKING:
    import pyarrow as pa

HASH_BYTES: Final = 32
_LEAF_MAGIC: Final = np.frombuffer(b"DSA1", np.uint8)
_HEAD: Final = np.dtype([("present", "u1"), ("length", "<u4")])
_NUMBER: Final = np.dtype([("present", "u1"), ("length", "<u4"), ("value", "<i8")])
_ITEM: Final = np.dtype("<u4")
_NUMBERS: Final = ("int16", "int64")
Offsets = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def audit_digests(table: pa.Table) -> bytes:
    """`audit_sha` of every row, one behind the other, as the AUDIT columns make it."""
    return _digests(_canonical(table, AUDIT))


def personal_digests(table: pa.Table) -> bytes:
    """`personal_sha` of every row, as salt and PERSONAL columns make it. What an erased row gets means nothing."""
    salt = _one(table, "salt")
    return _digests(_canonical(table, PERSONAL, [salt.fill_null(b"")]))


def leaves(table: pa.Table) -> bytes:
    """The leaf of every row with the digests that it tells."""
    n = table.num_rows
    identity = np.zeros((n, 36), np.uint8)
    identity[:, :4] = _LEAF_MAGIC
    for place, name in enumerate(("partition", "position", "at_ms", "at_n")):
        numbers = _ints(_one(table, name))
        identity[:, 4 + 8 * place : 12 + 8 * place] = numbers.astype("<i8").view(np.uint8).reshape(n, 8)
    heads = _binary(np.arange(n + 1, dtype=np.int64) * 36, identity)
    import pyarrow as pa

    kind = _one(table, "kind").cast(pa.binary())
    shas = [_one(table, name).fill_null(b"") for name in ("audit_sha", "personal_sha")]
    return _digests(_joined([heads, kind, *shas]))


def chain(leaf: bytes, previous: bytes) -> list[bytes]:
    """The hash of every row with these leaves, after one with the hash `previous`."""
    hashes = []
    for at in range(0, len(leaf), HASH_BYTES):
        previous = sha256(previous + leaf[at : at + HASH_BYTES]).digest()
        hashes.append(previous)
    return hashes


def _digests(canonical: pa.Array) -> bytes:
    _, starts, content = canonical.buffers()
    at = np.frombuffer(starts, np.int32)[canonical.offset : canonical.offset + len(canonical) + 1].tolist()
    view = memoryview(b"" if content is None else content)
    return b"".join([sha256(view[start:end]).digest() for start, end in pairwise(at)])


def _canonical(table: pa.Table, columns: Sequence[Column], before: Sequence[pa.Array] = ()) -> pa.Array:
    parts = list(before)
    for name, sort, _ in columns:
        column = _one(table, name)
        parts += [_number_part(column)] if sort in _NUMBERS else _value_parts(column, sort)
    return _joined(parts)


def _joined(parts: Sequence[pa.Array]) -> pa.Array:
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(*parts, b"")


def _number_part(column: pa.Array) -> pa.Array:
    """A column of numbers with its heads: 1 byte where there is none, else 13."""
    n = len(column)
    there = _there(column)
    if there.all():
        told = np.empty(n, _NUMBER)
        told["present"], told["length"], told["value"] = 1, 8, _ints(column)
        return _binary(np.arange(n + 1, dtype=np.int64) * _NUMBER.itemsize, told)
    import pyarrow.compute as pc

    told = np.empty(n, _NUMBER)
    told["present"], told["length"], told["value"] = 1, 8, _ints(column.fill_null(0))
    whole = _binary(np.arange(n + 1, dtype=np.int64) * _NUMBER.itemsize, told)
    return pc.if_else(column.is_valid(), whole, b"\0")


def _value_parts(column: pa.Array, sort: str) -> list[pa.Array]:
    """A column of texts, bytes or lists: its heads (1 byte where there is nothing, else 5) and its values."""
    import pyarrow.compute as pc

    n = len(column)
    there = _there(column)
    if not there.any():
        return [_binary(np.arange(n + 1, dtype=np.int64), np.zeros(n, np.uint8))]
    values, lengths = _plain(_lists(column) if sort == "texts" else column, there)
    told = np.empty(n, _HEAD)
    told["present"], told["length"] = 1, lengths
    heads = _binary(np.arange(n + 1, dtype=np.int64) * _HEAD.itemsize, told)
    return [heads if there.all() else pc.if_else(column.is_valid(), heads, b"\0"), values]


def _plain(column: pa.Array, there: Bools) -> tuple[pa.Array, npt.NDArray[np.int32]]:
    """Texts or bytes without nulls, and their lengths: what is not there has no bytes. Nothing is copied, as a rule."""
    import pyarrow as pa
    import pyarrow.compute as pc

    starts = np.frombuffer(column.buffers()[1], np.int32)[: len(column) + 1]
    lengths = np.diff(starts)
    if lengths[~there].any():  # bytes under a null
        column = pc.if_else(pa.array(there), column.cast(pa.binary()), b"")
        lengths = np.where(there, lengths, 0).astype(np.int32)
    _, offsets, content = column.buffers()
    return pa.Array.from_buffers(pa.binary(), len(column), [None, offsets, content]), lengths


def _lists(column: pa.Array) -> pa.Array:
    """Lists of texts as bytes: the count, and for each item length and text."""
    import pyarrow as pa

    starts = column.offsets.to_numpy().astype(np.int64)
    there = _there(column)
    counts = np.diff(starts)
    counts[~there] = 0
    items = column.flatten().cast(pa.binary())  # of lists that are there
    lengths = np.diff(np.frombuffer(items.buffers()[1], np.int32)[items.offset : items.offset + len(items) + 1])
    heads = _binary(np.arange(len(items) + 1, dtype=np.int64) * 4, lengths.astype(_ITEM))
    flat = _joined([heads, items])
    ends = np.frombuffer(flat.buffers()[1], np.int32)[: len(flat) + 1].astype(np.int64)
    cuts = np.concatenate([[0], np.cumsum(counts)])
    bodies = _binary(ends[cuts] if len(flat) else np.zeros(len(column) + 1, np.int64), flat.buffers()[2] or b"")
    totals = _binary(np.arange(len(column) + 1, dtype=np.int64) * 4, counts.astype(_ITEM))
    return _joined([totals, bodies])


def _there(column: pa.Array) -> Bools:
    valid: Bools = column.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _ints(column: pa.Array) -> npt.NDArray[np.int64]:
    numbers: npt.NDArray[np.int64] = column.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers


def _one(table: pa.Table, name: str) -> pa.Array:
    """A column in one piece that begins at its buffer's beginning."""
    import pyarrow as pa

    column = table.column(name)
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return chunks[0] if len(chunks) == 1 and chunks[0].offset == 0 else pa.concat_arrays(chunks or [column])


def _binary(offsets: Offsets, content: Any) -> pa.Array:
    """Bytes of each row, cut out of one buffer."""
    import pyarrow as pa

    buffer = pa.py_buffer(content if isinstance(content, (bytes, pa.Buffer)) else np.ascontiguousarray(content))
    return pa.Array.from_buffers(
        pa.binary(), len(offsets) - 1, [None, pa.py_buffer(offsets.astype(np.int32)), buffer]
    )  # fmt: skip
