"""The sent table: which decisions this host has sent to be committed, in shared memory.

    sent-<n>.map    SETS sets of 64 bytes = 16 words u4: word 0 counts what was put into the set (31 bits), words 1-15
                    are tags (the highest bit is set), the oldest of which the next one replaces; 0 is a free place

A decision id is 128 bits of digest: 17 of them choose the set, 31 others are the tag. So a table of 8 MB remembers
about the last 1.6 million ids, and takes one that it never saw for one of them once in 140 million times; that only
costs a static answer.

Each worker has a table of its own, found by the lock on its file, so no two ever write the same word: a mark is one
aligned store, whole or not there, also for a process that is killed at that moment. The marks of a worker that died
stay in its file, which the next worker takes over. Everybody reads all tables.

The file is written to disk when the kernel likes, never synced: it survives every end of a process, not that of the
machine.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from pathlib import Path
from typing import Final

from decision_service.core.errors import JournalUnavailable
from decision_service.core.limits import DAY_MS
from decision_service.core.links import customer_key
from decision_service.journal.shared_file import inode_of, map_file, open_shared

SETS: Final = 1 << 17
WORDS: Final = 16  # of a set: one cache line
TABLES_MAX: Final = 256
KEPT_MAX: Final = 65_536
_BYTES: Final = SETS * WORDS * 4
_NAME: Final = re.compile(r"sent-[0-9]+\.map")
_MASK: Final = SETS - 1
_TAG_BIT: Final = 1 << 31
_ODD: Final = 0x9E3779B97F4A7C15
_WORD: Final = (1 << 64) - 1
_set_at: Final = struct.Struct("16I").unpack_from


def approval_key(customer_id: str, t_ms: int) -> str:
    """What is marked, as an id would be, when money is approved to a customer on a day (UTC)."""
    return f"a000{_approval_bits(customer_id, t_ms):016x}"


def _approval_bits(customer_id: str, t_ms: int) -> int:
    return (customer_key(customer_id) ^ t_ms // DAY_MS * _ODD) & _WORD


def told_key(decision_id: str) -> str:
    """What is marked before a row of the journal is told by another than who wrote it."""
    return f"b000{int(decision_id[4:20], 16) ^ _ODD:016x}"


def place_of(decision_id: str) -> tuple[int, int]:
    """The first word of an id's set, and its tag."""
    bits = int(decision_id[4:20], 16)
    return (bits & _MASK) << 4, bits >> 33 | _TAG_BIT


class SentTables:
    """The tables of a host: this worker's own to write, all to read."""

    def __init__(self, directory: Path) -> None:
        """Take over a table that nobody holds, or make one. JournalUnavailable."""
        self._directory = directory
        self._tables: dict[str, tuple[int, memoryview]] = {}  # by name: inode, words
        self._kept: dict[str, None] = {}  # ids whose marks are not taken back, oldest first
        try:
            self._take_one()
            self._own = self._table(self._name)
        except OSError as error:
            raise JournalUnavailable(f"no table of what is sent in {directory}: {error.strerror}") from None

    def _take_one(self) -> None:
        for n in range(TABLES_MAX):
            self._name = f"sent-{n}.map"
            lock = open_shared(self._directory / self._name)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            self._lock = lock
            return
        raise JournalUnavailable(f"more than {TABLES_MAX} workers share {self._directory}")

    def _table(self, name: str) -> memoryview:
        mapped, inode = map_file(self._directory / name, _BYTES)
        words = memoryview(mapped).cast("I")
        self._tables[name] = inode, words
        return words

    def mark(self, decision_id: str) -> bool:
        """See `SentTable.mark`."""
        return self._mark(int(decision_id[4:20], 16))

    def mark_approval(self, customer_id: str, t_ms: int) -> None:
        """See `SentTable.mark_approval`."""
        self._mark(_approval_bits(customer_id, t_ms))

    def _mark(self, bits: int) -> bool:
        at, tag = (bits & _MASK) << 4, bits >> 33 | _TAG_BIT  # as `place_of`
        words = self._own
        held = _set_at(words, 4 * at)
        if tag in held:
            return False
        put = held[0]
        words[at + 1 + put % (WORDS - 1)] = tag
        words[at] = put + 1 & ~_TAG_BIT
        return True

    def unmark(self, decision_id: str) -> None:
        """See `SentTable.unmark`."""
        if decision_id in self._kept:
            return
        at, tag = place_of(decision_id)
        words = self._own
        for i in range(at + 1, at + WORDS):
            if words[i] == tag:
                words[i] = 0

    def keep(self, decision_id: str) -> None:
        """See `SentTable.keep`. Attempts last seconds, so the last KEPT_MAX ids are enough."""
        self._kept[decision_id] = None
        if len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        self.mark(decision_id)

    def kept(self, decision_id: str) -> bool:
        """See `SentTable.kept`."""
        return decision_id in self._kept

    def holds(self, decision_id: str) -> bool:
        """See `SentTable.holds`; some 10 us, for tables that have come since are looked for."""
        self._find_tables()
        at, tag = place_of(decision_id)
        return any(tag in _set_at(words, 4 * at) for _, words in self._tables.values())

    def _find_tables(self) -> None:
        """Map the tables of workers that started since. JournalUnavailable if one cannot be read: what was sent is not
        known then."""
        try:
            for path in self._directory.iterdir():
                if path.name not in self._tables and _NAME.fullmatch(path.name):
                    self._table(path.name)
        except OSError as error:
            raise JournalUnavailable(f"cannot look at what other workers sent: {error.strerror}") from None

    def restore(self) -> None:
        """If a table was taken away or replaced underneath, put this worker's marks into the new one and look at the
        new ones of others beside the old. JournalUnavailable."""
        for name, (inode, words) in list(self._tables.items()):
            if inode_of(self._directory / name) == inode:
                continue
            del self._tables[name]
            if name == self._name:
                kept = bytes(words)
                os.close(self._lock)
                try:
                    self._take_one()
                    self._own = self._table(self._name)
                except OSError as error:
                    raise JournalUnavailable(f"the table of what is sent is gone: {error.strerror}") from None
                self._own.cast("B")[:] = kept
            else:
                self._tables[f"{name} {inode}"] = inode, words

    def close(self) -> None:
        """Let go of this worker's table; the marks stay in its file."""
        os.close(self._lock)
