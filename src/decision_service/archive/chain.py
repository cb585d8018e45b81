"""The chain: SHA-256 over the rows of a place, in order, so that what is changed, removed, inserted or moved shows.

    audit_sha     SHA-256(canonical(AUDIT columns))
    personal_sha  SHA-256(salt, 16 random bytes | canonical(PERSONAL columns))
    leaf          SHA-256("DSA1" | partition, position, at_ms, at_n, each 8 bytes | kind | audit_sha | personal_sha)
    hash          SHA-256(hash of the row before | leaf); before the first row of a place: 32 zero bytes

    canonical     each column in order:
                    nothing there   00
                    a value         01 | length, 4 bytes | value: a number 8 bytes, text UTF-8, bytes as they are, a
                                    list its count (4 bytes) and for each item its length (4 bytes) and UTF-8

All numbers are little-endian and signed but for lengths and counts. The salt keeps who knows a customer's id from
finding their rows by `personal_sha`. An erasure takes PERSONAL columns and salt away and leaves `personal_sha`: the
chain holds, and nothing can be put in their place. An `erasure` row of the same place authorises it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from decision_service.archive.schema import AUDIT, PERSONAL, Column, Row, audit_values, personal_values, with_proof

GENESIS: Final = bytes(32)
SALT_BYTES: Final = 16
_LEAF: Final = struct.Struct("<4s4q")
_LEAF_MAGIC: Final = b"DSA1"
_NULL: Final = b"\0"
_HEAD: Final = struct.Struct("<BI").pack
_NUMBER: Final = struct.Struct("<BIq").pack
_LENGTH: Final = struct.Struct("<I").pack


def canonical(values: Iterable[object], columns: Sequence[Column]) -> bytes:
    """The values of a row in these columns as the bytes that are hashed. TypeError for a value of another sort."""
    encoders = [_ENCODERS[column.sort] for column in columns]
    try:
        return _joined(encoders, values)
    except _Unfit:
        for column, value in zip(columns, values, strict=True):
            if value is not None and (type(value) is not _TYPES[column.sort] or type(value) is list):
                raise TypeError(f"{column.name}: {value!r:.80} is no {column.sort}") from None
        raise


class _Unfit(TypeError):
    """A value of another sort than its column's."""


_Encoder = Callable[[Any], bytes]


def _joined(encoders: Iterable[_Encoder], values: Iterable[object]) -> bytes:
    """The canonical bytes of values, by the encoders of their columns: 12 us for a decision. _Unfit."""
    return b"".join([_NULL if value is None else encode(value) for encode, value in zip(encoders, values, strict=True)])


def _number(value: int) -> bytes:
    if type(value) is not int:
        raise _Unfit
    return _NUMBER(1, 8, value)


def _text(value: str) -> bytes:
    if type(value) is not str:
        raise _Unfit
    encoded = value.encode()
    return _HEAD(1, len(encoded)) + encoded


def _bytes(value: bytes) -> bytes:
    if type(value) is not bytes:
        raise _Unfit
    return _HEAD(1, len(value)) + value


def _texts(value: list[str]) -> bytes:
    if type(value) is not list:
        raise _Unfit
    return _items(tuple(value))


@lru_cache(maxsize=16_384)
def _items(items: tuple[str, ...]) -> bytes:
    """A list: the same few reasons and rules again and again."""
    if any(type(item) is not str for item in items):
        raise _Unfit
    encoded = [item.encode() for item in items]
    together = _LENGTH(len(encoded)) + b"".join([_LENGTH(len(item)) + item for item in encoded])
    return _HEAD(1, len(together)) + together


_ENCODERS: Final[dict[str, _Encoder]] = {
    "int16": _number, "int64": _number, "text": _text, "texts": _texts, "bytes": _bytes,
}  # fmt: skip
_TYPES: Final = {"int16": int, "int64": int, "text": str, "texts": list, "bytes": bytes}
_AUDIT: Final = tuple(_ENCODERS[column.sort] for column in AUDIT)
_PERSONAL: Final = tuple(_ENCODERS[column.sort] for column in PERSONAL)


def audit_digest(row: Row) -> bytes:
    """`audit_sha` as the row's AUDIT columns make it."""
    return sha256(canonical(audit_values(row), AUDIT)).digest()


def personal_digest(row: Row, salt: bytes) -> bytes:
    """`personal_sha` as the row's PERSONAL columns make it with a salt."""
    return sha256(salt + canonical(personal_values(row), PERSONAL)).digest()


def leaf_of(row: Row, audit_sha: bytes, personal_sha: bytes) -> bytes:
    """The leaf of a row with these digests."""
    identity = _LEAF.pack(_LEAF_MAGIC, row.partition, row.position, row.at_ms, row.at_n)
    return sha256(identity + row.kind.encode() + audit_sha + personal_sha).digest()


def linked(previous: bytes, leaf: bytes) -> bytes:
    """The hash of a row with this leaf after one with this hash."""
    return sha256(previous + leaf).digest()


def chained(rows: Iterable[Row], position: int, previous: bytes) -> list[Row]:
    """Rows of one place that follow a row of this position and hash, with position, salt, digests and hash. TypeError,
    struct.error for a value that no row has."""
    sealed = []
    for row in rows:
        position += 1
        salt = os.urandom(SALT_BYTES)
        audit_sha = sha256(_joined(_AUDIT, audit_values(row))).digest()
        personal_sha = sha256(salt + _joined(_PERSONAL, personal_values(row))).digest()
        identity = _LEAF.pack(_LEAF_MAGIC, row.partition, position, row.at_ms, row.at_n)
        leaf = sha256(identity + row.kind.encode() + audit_sha + personal_sha).digest()
        previous = sha256(previous + leaf).digest()
        sealed.append(with_proof(row, position, salt, audit_sha, personal_sha, previous))
    return sealed


def erased(row: Row, at_ms: int) -> Row:
    """The row without what is a person's. Its place in the chain does not change."""
    nothing: dict[str, Any] = dict.fromkeys((column.name for column in PERSONAL), None)
    return row._replace(**nothing, salt=None, erased_at_ms=at_ms)


def problem_of(row: Row, position: int, previous: bytes) -> str:
    """What is wrong with a row that should follow a row of this position and hash; empty if nothing is.

    Whether an erased row was allowed to be erased is not asked here.
    """
    if row.position != position + 1:
        return f"position {row.position} follows position {position}"
    try:
        if row.audit_sha is None or audit_digest(row) != row.audit_sha:
            return "the decision was changed: its audit columns do not have their digest"
        if problem := _personal_problem(row):
            return problem
    except (TypeError, struct.error) as error:
        return f"a value that no row has: {error}"
    assert row.personal_sha is not None
    if linked(previous, leaf_of(row, row.audit_sha, row.personal_sha)) != row.hash:
        return "it does not follow the row before: its hash is of another"
    return ""


def _personal_problem(row: Row) -> str:
    if row.personal_sha is None:
        return "the digest of its personal columns is missing"
    if row.erased_at_ms is not None:
        left = [column.name for column, value in zip(PERSONAL, personal_values(row), strict=True) if value is not None]
        return f"it says that it is erased and still has {', '.join(left)}" if left or row.salt is not None else ""
    if row.salt is None or personal_digest(row, row.salt) != row.personal_sha:
        return "what is personal was changed: it does not have its digest"
    return ""
