"""How long the calling thread ran and, where the system tells it (Linux), wanted to run and had no CPU.

Made and read by the same thread: the file is that of the thread that opened it. 1.5 us a reading.
"""

from __future__ import annotations

import os
from time import thread_time


class ThreadTime:
    """The times of the thread that makes this, in seconds since it began."""

    def __init__(self) -> None:
        self._file = -1
        try:
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # not Linux: its own time must do
            return

    def wanted_s(self) -> float:
        """What it ran and what it waited for a CPU: others on the machine slow it down just as its own work does."""
        return self.both_s()[0]

    def both_s(self) -> tuple[float, float]:
        """`wanted_s` and `waited_s` in one reading."""
        if self._file < 0:
            return thread_time(), 0.0
        ran_ns, waited_ns = self._read()
        return (ran_ns + waited_ns) / 1e9, waited_ns / 1e9

    def waited_s(self) -> float:
        """What it waited for a CPU; 0 where that is not told."""
        return self.both_s()[1]

    def _read(self) -> tuple[int, int]:
        ran_ns, waited_ns, _ = os.pread(self._file, 64, 0).split()
        return int(ran_ns), int(waited_ns)

    def close(self) -> None:
        """Release the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
