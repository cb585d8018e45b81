"""The columns of an archived row, in order, in four groups.

    IDENTITY   where and when: place, position in the place's chain (from 1), id of the stream entry, kind
    AUDIT      what was decided and why, as long as decisions must be shown; names nobody
    PERSONAL   what is a person's: ids as the caller gave them, request, answer, events; taken away by an erasure
    PROOF      salt and digests (`chain.py`)

`AUDIT` and `PERSONAL` are hashed in the order given here, so a column is only ever added with a new format: FORMAT is
in the metadata of every file. Units are in the names; `_n` counts entries of one millisecond.

What is JSON here is text; sections of a frame are bytes, exactly as the frame has them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT: Final = "dsa-1"

POLICY: Final = -1
LISTS: Final = -2
ACCESS: Final = -3
FACTS: Final = {POLICY: "policy", LISTS: "lists", ACCESS: "access"}  # places that are no partition, by folder
Kind = Literal["change", "shadow", "shadow_policy", "policy", "list", "access", "erasure", "unreadable"]
KINDS: Final[tuple[Kind, ...]] = (
    "change", "shadow", "shadow_policy", "policy", "list", "access", "erasure", "unreadable",
)  # fmt: skip

Sort = Literal["int16", "int64", "text", "texts", "bytes"]
Group = Literal["identity", "audit", "personal", "proof"]


class Column(NamedTuple):
    """One column of a row."""

    name: str
    sort: Sort
    group: Group


class Row(NamedTuple):
    """An archived entry. What a kind has nothing of is None; a list without items is an empty list."""

    partition: int  # the place
    position: int = 0  # in the place's chain, from 1; 0 before it is chained
    at_ms: int = 0  # id of the stream entry
    at_n: int = 0
    kind: str = "change"

    decision_id: str | None = None
    scene: str | None = None
    outcome: str | None = None
    hold: str | None = None
    asked_minor: int | None = None  # None of a review, which asks for nothing, and where nobody knows
    approved_minor: int | None = None
    currency: str | None = None
    decided_at_ms: int | None = None
    t_ms: int | None = None  # the decision instant
    policy_id: str | None = None
    rung: str | None = None
    reasons: list[str] | None = None
    rules: list[str] | None = None  # ids of rules that fired or held; None where the policy's description is unknown
    cells: list[str] | None = None
    limit_kind: str | None = None
    limit_from_minor: int | None = None
    limit_to_minor: int | None = None
    apr_from_bps: int | None = None
    apr_to_bps: int | None = None
    scores: str | None = None  # JSON
    magic: bytes | None = None  # the frame's
    numbers: bytes | None = None  # float64, little-endian, in the layout of the policy's scene
    verdicts: bytes | None = None
    seq: int | None = None
    read_version: int | None = None  # of the state that was read
    customer_key: int | None = None  # core.links.customer_key, as a signed number
    version: int | None = None  # that the commit made
    origin: str | None = None
    body: str | None = None  # JSON, of other kinds than a change

    customer_id: str | None = None
    request_id: str | None = None
    facility_id: str | None = None
    fingerprint: bytes | None = None
    answer: bytes | None = None
    request: bytes | None = None
    rest: bytes | None = None
    records: bytes | None = None
    header: bytes | None = None
    facilities: str | None = None  # JSON: by facility id, as stored (`store/records.py`)
    attributes: str | None = None  # JSON: by name, as stored
    events: str | None = None  # JSON array
    raw: str | None = None  # JSON of what could not be read: {"fields": {name: base64}, "frame": base64 or null}

    salt: bytes | None = None
    audit_sha: bytes | None = None
    personal_sha: bytes | None = None
    erased_at_ms: int | None = None
    hash: bytes | None = None


_FIRST: Final[dict[str, Group]] = {  # the first column of each group
    "partition": "identity", "decision_id": "audit", "customer_id": "personal", "salt": "proof",
}  # fmt: skip
_BYTES: Final = {
    "magic", "numbers", "verdicts", "fingerprint", "answer", "request", "rest", "records", "header", "salt",
    "audit_sha", "personal_sha", "hash",
}  # fmt: skip
_TEXTS: Final = {"reasons", "rules", "cells"}
_INTEGERS: Final = {
    "position", "at_ms", "at_n", "asked_minor", "approved_minor", "decided_at_ms", "t_ms", "limit_from_minor",
    "limit_to_minor", "apr_from_bps", "apr_to_bps", "seq", "read_version", "customer_key", "version", "erased_at_ms",
}  # fmt: skip


def _sort_of(name: str) -> Sort:
    if name == "partition":
        return "int16"
    if name in _INTEGERS:
        return "int64"
    return "bytes" if name in _BYTES else "texts" if name in _TEXTS else "text"


def _columns() -> tuple[Column, ...]:
    columns: list[Column] = []
    group: Group = "identity"
    for name in Row._fields:
        group = _FIRST.get(name, group)
        columns.append(Column(name, _sort_of(name), group))
    return tuple(columns)


COLUMNS: Final = _columns()
IDENTITY: Final = tuple(column for column in COLUMNS if column.group == "identity")
AUDIT: Final = tuple(column for column in COLUMNS if column.group == "audit")
PERSONAL: Final = tuple(column for column in COLUMNS if column.group == "personal")
PROOF: Final = tuple(column for column in COLUMNS if column.group == "proof")
_AUDIT_FROM: Final = len(IDENTITY)
_PERSONAL_FROM: Final = _AUDIT_FROM + len(AUDIT)
_PROOF_FROM: Final = _PERSONAL_FROM + len(PERSONAL)
assert IDENTITY + AUDIT + PERSONAL + PROOF == COLUMNS
assert {column.name for column in COLUMNS} >= _BYTES | _TEXTS | _INTEGERS


def audit_values(row: Row) -> tuple[object, ...]:
    """The values of the AUDIT columns, in their order."""
    values: tuple[object, ...] = row
    return values[_AUDIT_FROM:_PERSONAL_FROM]


def personal_values(row: Row) -> tuple[object, ...]:
    """The values of the PERSONAL columns, in their order."""
    values: tuple[object, ...] = row
    return values[_PERSONAL_FROM:_PROOF_FROM]


def with_proof(
    row: Row, position: int, salt: bytes, audit_sha: bytes, personal_sha: bytes, row_hash: bytes
) -> Row:  # fmt: skip
    """A row with its position and its PROOF columns."""
    values: tuple[object, ...] = row
    proof = (salt, audit_sha, personal_sha, None, row_hash)
    return Row._make((row.partition, position, *values[2:_PROOF_FROM], *proof))


@lru_cache(maxsize=1)
def arrow_schema() -> pa.Schema:
    """The columns as Parquet has them."""
    import pyarrow as pa

    sorts = {
        "int16": pa.int16(), "int64": pa.int64(), "text": pa.string(), "texts": pa.list_(pa.string()),
        "bytes": pa.binary(),
    }  # fmt: skip
    needed = {"partition", "position", "at_ms", "at_n", "kind", "audit_sha", "personal_sha", "hash"}
    return pa.schema([pa.field(name, sorts[sort], nullable=name not in needed) for name, sort, _ in COLUMNS])
