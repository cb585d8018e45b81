"""Progress of long work, on standard error: one line that is rewritten on a terminal, a line now and then
elsewhere.
"""

from __future__ import annotations

import sys
import time
from typing import Final, TextIO

TERMINAL_PAUSE_S: Final = 0.2
LOG_PAUSE_S: Final = 5.0


class Progress:
    """`show` may be called for every item: it writes only when enough time has passed."""

    def __init__(self, what: str, total: int | None = None, stream: TextIO | None = None) -> None:
        self._what, self._total = what, total
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._pause_s = TERMINAL_PAUSE_S if self._terminal else LOG_PAUSE_S
        self._started = self._shown = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def show(self, done: int, note: str = "") -> None:
        """Say how far the work is, if it is time to."""
        if time.monotonic() - self._shown >= self._pause_s:
            self._write(done, note)

    def finish(self, done: int, note: str = "") -> None:
        """Say that the work is done."""
        self._write(done, note)
        if self._terminal:
            self._stream.write("\n")

    def _left(self, done: int, rate: float) -> str:
        minutes, seconds = divmod(round(((self._total or 0) - done) / rate), 60)
        return f"{minutes}:{seconds:02d}"

    def _write(self, done: int, note: str) -> None:
        self._shown = time.monotonic()
        share = f" of {self._total:,}" if self._total else ""
        rate = done / max(self.elapsed_s, 1e-9)
        left = f", {self._left(done, rate)} left" if self._total and 0 < done < self._total else ""
        line = f"{done:,}{share} {self._what}, {rate:,.0f}/s{left}{', ' + note if note else ''}"
        self._stream.write(f"\r\x1b[2K{line}" if self._terminal else f"{line}\n")
        self._stream.flush()
