"""A control beside a measurement of late answers: what of the time the machine took, and not the service.

    gaps     on each core a process only wants to wake up each millisecond; when it comes STALL_S late, another process
             had the core or the host took it away
    waits    how long the watched processes (service, generator) were ready to run and did not, as the kernel counts it
             (/proc/<pid>/schedstat, main thread), looked at each millisecond

Both are told as spans (from, to, seconds lost in it), instants by `perf_counter`.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

TICK_S: Final = 0.001
STALL_S: Final = 0.005
_SPAN: Final = struct.Struct("<ddd")
Span = tuple[float, float, float]

# argv: core, own parent, file of gaps, file of waits, watched pids. perf_counter is CLOCK_MONOTONIC in every process.
_SLEEPER: Final = f"""
import os, struct, sys, time
core, parent, gaps, waits, *pids = sys.argv[1:]
os.sched_setaffinity(0, {{int(core)}})
gaps, waits = open(gaps, "ab", buffering=0), open(waits, "ab", buffering=0)
files = [os.open(f"/proc/{{pid}}/schedstat", os.O_RDONLY) for pid in pids]

def waited(file):
    try:
        return int(os.pread(file, 64, 0).split()[1]) / 1e9
    except OSError:
        return 0.0

last, before = time.perf_counter(), [waited(file) for file in files]
while os.getppid() == int(parent):
    time.sleep({TICK_S})
    now, after = time.perf_counter(), [waited(file) for file in files]
    if now - last > {STALL_S}:
        gaps.write(struct.pack("<ddd", last, now, now - last - {TICK_S}))
    lost = sum(after) - sum(before)
    if lost > 0.0005:
        waits.write(struct.pack("<ddd", last, now, lost))
    last, before = now, after
"""


class Control:
    """The sleepers, while the block lasts. `watched` are process ids."""

    def __init__(self, directory: Path, watched: Sequence[int]) -> None:
        self._directory, self._watched = directory, watched
        self._sleepers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Control:
        cores = range(os.cpu_count() or 1)
        for core in cores:
            watched = self._watched if core == cores[-1] else ()
            files = [str(self._directory / f"{name}-{core}") for name in ("gaps", "waits")]
            command = [sys.executable, "-I", "-S", "-c", _SLEEPER, str(core), str(os.getpid()), *files]
            self._sleepers.append(subprocess.Popen([*command, *map(str, watched)]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sleeper in self._sleepers:
            sleeper.kill()
            sleeper.wait()

    def spans(self, name: str) -> list[Span]:
        """All `gaps` or all `waits` so far, of all cores, in order."""
        found: list[Span] = []
        for path in self._directory.glob(f"{name}-*"):
            raw = path.read_bytes()
            found += _SPAN.iter_unpack(raw[: len(raw) - len(raw) % _SPAN.size])
        return sorted(found)


def lost_s(since: float, until: float, spans: Sequence[Span]) -> float:
    """How much was lost in the spans that touch a time."""
    return sum(lost for began, ended, lost in spans if began < until and ended > since)
