"""Cells: one small memory-mapped file of float64 a worker, so that any worker can add up all of them.

    file      <layout digest>.<pid>.cells in the runtime directory
    bytes     0 .. 8*n          n float64 cells, little-endian, laid out by the `Layout`
              .. + 256          the worker's policy, JSON `{"id", "label"}`, NUL-padded
              .. + 80 * named   what the last `named` cells count, each a text, NUL-padded; empty for a free cell

Most cells have a fixed meaning. The last `named` ones are for what is only known once it happens (the rules of whatever
policies come to be loaded): the first that happens takes a free cell, and when none is left the last one gathers the
rest. Each worker names its own, so they are added up by name.

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
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

TEXT_BYTES: Final = 256
NAME_BYTES: Final = 80
OTHER_NAME: Final = "other"
RETIRED_PID: Final = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Which cells there are: `names` in order, and how many of them, from the front, are gauges. Of these the last
    `extremes` are not added up: the largest of all workers holds. Behind them stand `named` cells that are named when
    they are first counted."""

    names: tuple[str, ...]
    gauges: int
    extremes: int = 0
    named: int = 0

    @property
    def size(self) -> int:
        """How many cells there are, named ones included."""
        return len(self.names) + self.named

    @property
    def digest(self) -> str:
        """Identifies the layout."""
        return blake2b("\n".join((*self.names, str(self.named))).encode(), digest_size=6).hexdigest()

    @property
    def file_bytes(self) -> int:
        """Size of a file of this layout."""
        return 8 * self.size + TEXT_BYTES + NAME_BYTES * self.named


class CellFile:
    """One worker's cells. `cells[i] += 1.0` is the whole cost of counting."""

    def __init__(self, directory: Path, layout: Layout) -> None:
        self.path = directory / f"{layout.digest}.{os.getpid()}.cells"
        self._layout = layout
        with self.path.open("w+b") as file:
            file.truncate(layout.file_bytes)
            self._map = mmap.mmap(file.fileno(), layout.file_bytes)
        self._view = memoryview(self._map)
        self.cells: memoryview[float] = self._view[: 8 * layout.size].cast("d")
        self._named: dict[str, int] = {}

    def write_text(self, policy_id: str, label: str) -> None:
        """Say which policy this worker runs (shortened to what fits)."""
        text = json.dumps({"id": policy_id[:64], "label": label[:32]}).encode()[:TEXT_BYTES]
        start = 8 * self._layout.size
        self._view[start : start + TEXT_BYTES] = text.ljust(TEXT_BYTES, b"\0")

    def count_named(self, name: str) -> None:
        """Count one of what `name` says; under OTHER_NAME if all named cells but the last are taken by others."""
        if name not in self._named and len(self._named) >= self._layout.named - 1:
            name = OTHER_NAME
        position = self._named.get(name)
        if position is None:
            position = self._named[name] = len(self._named)
            start = 8 * self._layout.size + TEXT_BYTES + NAME_BYTES * position
            self._view[start : start + NAME_BYTES] = _padded(name)
        self.cells[len(self._layout.names) + position] += 1.0

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
    named: Mapping[str, float]


def read_totals(directory: Path, layout: Layout) -> Totals:
    """Add up every file of this layout."""
    total = np.zeros(len(layout.names))
    named: Counter[str] = Counter()
    policies: set[tuple[str, str]] = set()
    alive = 0
    for path, pid in _files(directory, layout):
        read = _read(path, layout)
        if read is None:
            continue
        cells, policy, names = read
        named.update(names)
        total[layout.gauges :] += cells[layout.gauges :]
        if _is_alive(pid):
            alive += 1
            added = layout.gauges - layout.extremes
            total[:added] += cells[:added]
            np.maximum(total[added : layout.gauges], cells[added : layout.gauges], out=total[added : layout.gauges])
            policies |= {policy} if policy else set()
    return Totals(total, tuple(sorted(policies)), alive, named)


def fold_retired(directory: Path, layout: Layout) -> None:
    """Add dead workers' files to the retired one and remove them."""
    with _locked(directory):
        dead = [(p, pid) for p, pid in _files(directory, layout) if pid != RETIRED_PID and not _is_alive(pid)]
        if not dead:
            return
        retired = directory / f"{layout.digest}.{RETIRED_PID}.cells"
        read = [r for r in (_read(path, layout) for path in (retired, *(p for p, _ in dead))) if r is not None]
        total = np.sum([cells for cells, *_ in read], axis=0) if read else np.zeros(len(layout.names))
        total[: layout.gauges] = 0.0
        named: Counter[str] = Counter()
        for *_, names in read:
            named.update(names)
        partial = retired.with_suffix(".partial")
        partial.write_bytes(_retired(total, _fitting(named, layout.named), layout))
        partial.replace(retired)
        for path, _ in dead:
            path.unlink(missing_ok=True)


def _files(directory: Path, layout: Layout) -> Iterator[tuple[Path, int]]:
    for path in sorted(directory.glob(f"{layout.digest}.*.cells")):
        pid = path.name.split(".")[1]
        if pid.isdigit():
            yield path, int(pid)


def _fitting(named: Counter[str], room: int) -> Counter[str]:
    """The same counts under at most so many names."""
    if len(named) <= room:
        return named
    other = named.pop(OTHER_NAME, 0)
    kept = Counter(dict(named.most_common(room - 1)))
    kept[OTHER_NAME] = other + named.total() - kept.total()
    return kept


def _retired(total: npt.NDArray[np.float64], named: Counter[str], layout: Layout) -> bytes:
    """A file of these counts and no policy."""
    cells = np.zeros(layout.size)
    cells[: len(total)] = total
    cells[len(total) : len(total) + len(named)] = list(named.values())
    texts = b"".join(map(_padded, named)).ljust(NAME_BYTES * layout.named, b"\0")
    return cells.astype("<f8").tobytes() + bytes(TEXT_BYTES) + texts


def _padded(name: str) -> bytes:
    return name.encode()[:NAME_BYTES].ljust(NAME_BYTES, b"\0")


Read = tuple[npt.NDArray[np.float64], tuple[str, str] | None, dict[str, int]]


def _read(path: Path, layout: Layout) -> Read | None:
    """Cells of fixed meaning, policy, and counts by name."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(content) != layout.file_bytes:
        return None
    cells, fixed = np.frombuffer(content[: 8 * layout.size], np.float64), len(layout.names)
    start = 8 * layout.size + TEXT_BYTES
    texts = (content[start + NAME_BYTES * i :][:NAME_BYTES].rstrip(b"\0").decode() for i in range(layout.named))
    named = {name: int(count) for name, count in zip(texts, cells[fixed:].tolist(), strict=True) if name}
    return cells[:fixed], _policy(content[8 * layout.size : start].rstrip(b"\0")), named


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
