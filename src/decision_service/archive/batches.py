"""Batches: some rows of a segment, by columns, with what a verification asks of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from decision_service.archive.defects import Part
from decision_service.archive.digests import HASH_BYTES, audit_digests, personal_digests
from decision_service.archive.schema import PERSONAL
from decision_service.archive.segments import day_of

if TYPE_CHECKING:
    import pyarrow as pa

Bools = npt.NDArray[np.bool_]


class Batch:
    """Rows of a file, with what is asked of them."""

    def __init__(self, table: pa.RecordBatch) -> None:
        self.table = table
        self.n: int = table.num_rows
        self.positions = self.ints("position")
        self.erased: Bools = table.column("erased_at_ms").is_valid().to_numpy(zero_copy_only=False)

    def ints(self, name: str) -> npt.NDArray[np.int64]:
        """A column of numbers; -1 where there is none."""
        numbers: npt.NDArray[np.int64] = self.table.column(name).fill_null(-1).to_numpy(zero_copy_only=False)
        return numbers.astype(np.int64)

    def decision(self, at: int) -> str:
        """The decision of a row, if it is of one."""
        return str(self.table.column("decision_id")[at].as_py() or "")

    def on_other_day(self, day: str) -> Bools:
        """Rows whose instant is not of the folder's day."""
        at_ms = self.ints("at_ms")
        if day_of(int(at_ms.min())) == day == day_of(int(at_ms.max())):
            return np.zeros(self.n, np.bool_)
        return np.array([day_of(int(ms)) != day for ms in at_ms])

    def digests(self, name: str) -> bytes:
        """A column of digests, one behind the other. One of another length is told as zeros, which is none."""
        column = self.table.column(name)
        if column.null_count == 0:
            _, starts, content = column.buffers()
            at = np.frombuffer(starts, np.int32)[column.offset : column.offset + self.n + 1]
            if (np.diff(at) == HASH_BYTES).all():
                return bytes(memoryview(content)[int(at[0]) : int(at[-1])])
        values = (value or b"" for value in column.to_pylist())
        return b"".join(value if len(value) == HASH_BYTES else bytes(HASH_BYTES) for value in values)

    def changed(self) -> Iterator[tuple[Part, Bools, str]]:
        """Rows that do not have their digests, by what of them."""
        audit = _unequal(audit_digests(self.table), self.digests("audit_sha"), self.n)
        if audit.any():
            yield "audit", audit, "was changed: its audit columns do not have their digest"
        if not self.erased.all():
            personal = _unequal(personal_digests(self.table), self.digests("personal_sha"), self.n) & ~self.erased
            if personal.any():
                yield "personal", personal, "was changed: what is personal does not have its digest"
        if self.erased.any():
            left = np.zeros(self.n, np.bool_)
            for name in (*(column.name for column in PERSONAL), "salt"):
                left |= self.table.column(name).is_valid().to_numpy(zero_copy_only=False)
            if (left & self.erased).any():
                yield "personal", left & self.erased, "says that it is erased, and has something personal"

    def keys(self) -> npt.NDArray[np.int64]:
        """Whose rows they are; 0 where nobody knows."""
        numbers: npt.NDArray[np.int64] = self.table.column("customer_key").fill_null(0).to_numpy(zero_copy_only=False)
        return numbers.astype(np.int64)

    def with_payload(self) -> Bools:
        """Which rows have something personal: a customer, or what could not be read."""
        whose, raw = (self.table.column(name).is_valid() for name in ("customer_id", "raw"))
        there: Bools = whose.to_numpy(zero_copy_only=False) | raw.to_numpy(zero_copy_only=False)
        return there

    def are(self, kind: str) -> Bools:
        """Which rows are of a kind."""
        import pyarrow.compute as pc

        which: Bools = pc.equal(self.table.column("kind"), kind).to_numpy(zero_copy_only=False)
        return which

    def policies(self) -> set[str]:
        """The policies that rows name."""
        import pyarrow.compute as pc

        return {name for name in pc.unique(self.table.column("policy_id")).to_pylist() if name}


def _unequal(one: bytes, other: bytes, n: int) -> Bools:
    if one == other:
        return np.zeros(n, np.bool_)
    left, right = (np.frombuffer(digests, np.uint8).reshape(n, HASH_BYTES) for digests in (one, other))
    unequal: Bools = (left != right).any(axis=1)
    return unequal


def first_difference(one: bytes, other: bytes) -> int:
    """The first row whose digests differ."""
    return int(_unequal(one, other, len(one) // HASH_BYTES).argmax())
