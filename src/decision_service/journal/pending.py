"""Pending: how many rows the journal holds, in shared memory, so that a decision need not ask the journal.

    journal.pending    words u8: 0 rows in the journal · 1 instant of the deliverer's last sign of life, ms of the
                       machine's monotonic clock

Changed only by whoever holds the journal's write lock, and raised before a row can be seen, so it is never 0 while
there is a row. After a process was killed in between it may be too high until it is counted again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from decision_service.journal.shared_file import inode_of, map_file

WORDS: Final = 8


class Pending:
    """The mapped file. OSError if it cannot be made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.reopen()

    def reopen(self) -> None:
        """Map the file that is there now."""
        mapped, self._inode = map_file(self._path, 8 * WORDS)
        self.words = memoryview(mapped).cast("Q")

    @property
    def replaced(self) -> bool:
        """Whether the file was taken away or replaced."""
        return inode_of(self._path) != self._inode
