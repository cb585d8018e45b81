"""Records on disk, divided into partitions so that each fits into memory: one file a partition, only appended to.

Several processes may append to one partition: every write is one system call on a file opened for appending, which
Linux and macOS do not interleave. The order of records means nothing; they carry what orders them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Spill:
    """Partitioned records of one dtype below a directory that exists."""

    directory: Path
    name: str
    dtype: np.dtype[Any]
    partitions: int

    def path(self, partition: int) -> Path:
        """The file of a partition; it exists once something was written."""
        return self.directory / f"{self.name}-{partition}"

    def write(self, records: npt.NDArray[Any], by: npt.NDArray[Any]) -> None:
        """Append every record to the partition that `by` gives it, modulo the number of partitions."""
        which = (by % by.dtype.type(self.partitions)).astype(np.int64)
        order = np.argsort(which, kind="stable")
        records = records[order]
        ends = np.searchsorted(which[order], np.arange(self.partitions + 1))
        for partition in np.flatnonzero(np.diff(ends)).tolist():
            self._append(partition, records[ends[partition] : ends[partition + 1]])

    def write_sparse(self, records: npt.NDArray[Any], partition_of: npt.NDArray[np.int64]) -> None:
        """Append every record to the partition named, of any number of them."""
        for partition in np.unique(partition_of).tolist():
            self._append(partition, records[partition_of == partition])

    def _append(self, partition: int, records: npt.NDArray[Any]) -> None:
        file = os.open(self.path(partition), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            written = os.write(file, np.ascontiguousarray(records).view(np.uint8).data)
        finally:
            os.close(file)
        if written != records.nbytes:
            raise OSError(f"only {written} of {records.nbytes} bytes could be written to {self.directory}")

    def read(self, partition: int) -> npt.NDArray[Any]:
        """Everything in a partition."""
        path = self.path(partition)
        return np.fromfile(path, self.dtype) if path.exists() else np.zeros(0, self.dtype)

    def drop(self, partition: int) -> None:
        """Give the disk back."""
        self.path(partition).unlink(missing_ok=True)
