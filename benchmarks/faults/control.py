"""A control beside a measurement of late answers: a process on each core that only wants to wake up each millisecond.

What it could not wake up for, the machine did: another process had the core, or the host took it away. A core that is
full of work of the same priority makes it wait, too, so a stall counts from STALL_S.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final

TICK_S: Final = 0.001
STALL_S: Final = 0.005
_STALL: Final = struct.Struct("<dd")

# argv: core, file. Instants are those of CLOCK_MONOTONIC, which perf_counter reads as well.
_SLEEPER: Final = f"""
import os, struct, sys, time
os.sched_setaffinity(0, {{int(sys.argv[1])}})
out = open(sys.argv[2], "ab", buffering=0)
last = time.perf_counter()
while os.getppid() == int(sys.argv[3]):
    time.sleep({TICK_S})
    now = time.perf_counter()
    if now - last > {STALL_S}:
        out.write(struct.pack("<dd", last, now))
    last = now
"""


class Control:
    """The sleepers, while the block lasts; `stalls` are (from, to) by `perf_counter`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sleepers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Control:
        for core in sorted(os.sched_getaffinity(os.getppid()) | os.sched_getaffinity(0)):
            name = str(self._directory / f"stalls-{core}")
            command = [sys.executable, "-I", "-S", "-c", _SLEEPER, str(core), name, str(os.getpid())]
            self._sleepers.append(subprocess.Popen(command))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sleeper in self._sleepers:
            sleeper.kill()
            sleeper.wait()

    @property
    def stalls(self) -> list[tuple[float, float]]:
        """All so far, of all cores, in order."""
        found: list[tuple[float, float]] = []
        for path in self._directory.glob("stalls-*"):
            raw = path.read_bytes()
            found += _STALL.iter_unpack(raw[: len(raw) - len(raw) % _STALL.size])
        return sorted(found)


def overlap_s(since: float, until: float, stalls: list[tuple[float, float]]) -> float:
    """How much of a span of time lies in stalls; two that overlap count once."""
    total, covered = 0.0, since
    for began, ended in stalls:
        begin, end = max(began, covered), min(ended, until)
        if end > begin:
            total += end - begin
            covered = end
    return total
