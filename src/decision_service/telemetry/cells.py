"""Cells: one small memory-mapped file of float64 a worker, so that any worker can add up all of them.

    file      <layout digest>.<pid>.cells in the runtime directory
    bytes     0 .. 8*n          n float64 cells, little-endian, laid out by the `Layout`
              8*n .. 8*n + 256  the worker's policy, JSON `{"id", "label"}`, NUL-padded

One thread writes a file; readers may see a histogram's sum one observation ahead of its buckets, never a torn
cell (an aligned 8-byte store). When a worker dies its file stays, so counters never fall; the next worker to
start folds such files into `<layout digest>.0.cells`, leaving their gauges and policy behind. The digest
keeps workers of different versions apart.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

TEXT_BYTES: Final = 256
RETIRED_PID: Final = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Which cells there are: `names` in order, and how many of them, from the front, are gauges. Of these the last
    `extremes` are not added up: the largest of all workers holds."""

    names: tuple[str, ...]
    gauges: int
    extremes: int = 0

    @property
    def digest(self) -> str:
        """Identifies the layout."""
        return blake2b("\n".join(self.names).encode(), digest_size=6).hexdigest()

    @property
    def file_bytes(self) -> int:
        """Size of a file of this layout."""
        return 8 * len(self.names) + TEXT_BYTES


class CellFile:
    """One worker's cells. `cells[i] += 1.0` is the whole cost of counting."""

    def __init__(self, directory: Path, layout: Layout) -> None:
        self.path = directory / f"{layout.digest}.{os.getpid()}.cells"
        self._layout = layout
        with self.path.open("w+b") as file:
            file.truncate(layout.file_bytes)
            self._map = mmap.mmap(file.fileno(), layout.file_bytes)
        self._view = memoryview(self._map)
        self.cells: memoryview[float] = self._view[: 8 * len(layout.names)].cast("d")

    def write_text(self, policy_id: str, label: str) -> None:
        """Say which policy this worker runs (shortened to what fits)."""
        text = json.dumps({"id": policy_id[:64], "label": label[:32]}).encode()[:TEXT_BYTES]
        start = 8 * len(self._layout.names)
        self._view[start:] = text.ljust(TEXT_BYTES, b"\0")

    def close(self) -> None:
        """Unmap; the file stays, so that what was counted is not lost."""
        self.cells.release()
        self._view.release()
        self._map.close()


@dataclass(frozen=True, slots=True)
class Totals:
    """All workers' cells added up (gauges: of living workers only, or the largest) and the policies they run."""

    cells: npt.NDArray[np.float64]
    policies: tuple[tuple[str, str], ...]
    workers: int


def read_totals(directory: Path, layout: Layout) -> Totals:
    """Add up every file of this layout."""
    total = np.zeros(len(layout.names))
    policies: set[tuple[str, str]] = set()
    alive = 0
    for path, pid in _files(directory, layout):
        read = _read(path, layout)
        if read is None:
            continue
        cells, policy = read
        total[layout.gauges :] += cells[layout.gauges :]
        if _is_alive(pid):
            alive += 1
            added = layout.gauges - layout.extremes
            total[:added] += cells[:added]
            np.maximum(total[added : layout.gauges], cells[added : layout.gauges], out=total[added : layout.gauges])
            policies |= {policy} if policy else set()
    return Totals(total, tuple(sorted(policies)), alive)


def fold_retired(directory: Path, layout: Layout) -> None:
    """Add dead workers' files to the retired one and remove them."""
    with _locked(directory):
        dead = [(p, pid) for p, pid in _files(directory, layout) if pid != RETIRED_PID and not _is_alive(pid)]
        if not dead:
            return
        retired = directory / f"{layout.digest}.{RETIRED_PID}.cells"
        read = [r for r in (_read(path, layout) for path in (retired, *(p for p, _ in dead))) if r is not None]
        total = np.sum([cells for cells, _ in read], axis=0) if read else np.zeros(len(layout.names))
        total[: layout.gauges] = 0.0
        partial = retired.with_suffix(".partial")
        partial.write_bytes(total.astype("<f8").tobytes() + bytes(TEXT_BYTES))
        partial.replace(retired)
        for path, _ in dead:
            path.unlink(missing_ok=True)


def _files(directory: Path, layout: Layout) -> Iterator[tuple[Path, int]]:
    for path in sorted(directory.glob(f"{layout.digest}.*.cells")):
        pid = path.name.split(".")[1]
        if pid.isdigit():
            yield path, int(pid)


def _read(path: Path, layout: Layout) -> tuple[npt.NDArray[np.float64], tuple[str, str] | None] | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(content) != layout.file_bytes:
        return None
    split = 8 * len(layout.names)
    return np.frombuffer(content[:split], np.float64), _policy(content[split:].rstrip(b"\0"))


def _policy(text: bytes) -> tuple[str, str] | None:
    try:
        found = json.loads(text) if text else None
        return (found["id"], found["label"]) if found else None
    except ValueError:  # being written right now
        return None


def _is_alive(pid: int) -> bool:
    if pid == RETIRED_PID:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
