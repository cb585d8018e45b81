"""Headroom: how much more the store can hold, and how long that lasts as things go.

A store that is full refuses writes, so nothing can be decided any more. What bounds it is whichever ends first:

    the server's own limit     maxmemory, where one is set
    the machine's memory       of an embedded store: what the system, or the container's limit, has left
    the disk                   of an embedded store: what is left where its append-only file grows

Time is told from how the smallest of these went down over the last TREND_S; it is infinite while it does not.
"""

from __future__ import annotations

import math
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

TREND_S: Final = 600.0
TREND_MIN_S: Final = 60.0  # seen for less it says nothing
CONTAINER: Final = Path("/sys/fs/cgroup")
MEMORY: Final = Path("/proc/meminfo")


class Room(NamedTuple):
    """What is left, and until when. Infinite where nothing bounds it."""

    left_bytes: float = math.inf
    lasts_s: float = math.inf


class Headroom:
    """Looks at what bounds a store, again and again."""

    def __init__(self, clock: Callable[[], float], data_dir: Path | None = None) -> None:
        """`data_dir` is that of an embedded store, or None."""
        self._clock = clock
        self._data_dir = data_dir
        self._seen: deque[tuple[float, float]] = deque()  # instant, bytes left

    def look(self, servers: Sequence[tuple[int, int]] = ()) -> Room:
        """What is left now. `servers`: of each server of the store the bytes used and the most it may use, 0 for no
        limit of its own."""
        left = min((float(limit - used) for used, limit in servers if limit), default=math.inf)
        if self._data_dir is not None:
            left = min(left, memory_left(), disk_left(self._data_dir))
        now = self._clock()
        self._seen.append((now, left))
        while now - self._seen[0][0] > TREND_S:
            self._seen.popleft()
        since, before = self._seen[0]
        shrinks = (
            (before - left) / (now - since) if now - since >= TREND_MIN_S and math.isfinite(before - left) else 0.0
        )
        return Room(max(0.0, left), max(0.0, left) / shrinks if shrinks > 0 else math.inf)


def memory_left(container: Path = CONTAINER, memory: Path = MEMORY) -> float:
    """Bytes of memory that the machine has left, or the container if that is less; infinite where nobody says."""
    left = math.inf
    try:
        told = dict(line.split(":", 1) for line in memory.read_text().splitlines() if ":" in line)
        left = float(told["MemAvailable"].split()[0]) * 1_024
    except (OSError, KeyError, ValueError):
        pass
    try:
        most = (container / "memory.max").read_text().strip()
        if most != "max":
            left = min(left, float(most) - float((container / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return left


def disk_left(folder: Path) -> float:
    """Bytes that the disk of a folder has left; infinite where nobody says."""
    try:
        return float(shutil.disk_usage(folder).free)
    except OSError:
        return math.inf
