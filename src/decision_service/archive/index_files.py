"""The index files of an archive: read with their CRC checked, and kept at hand.

An index never changes under its name, so what was read once is kept, up to CACHED_BYTES_MAX of the latest used; on a
local disk it is mapped and not copied. One that is damaged is left out and logged: what it covered is then found by
reading columns, and the next compaction writes it again.
"""

from __future__ import annotations

import logging
import mmap
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from decision_service.archive.index import (
    Index,
    IndexDamaged,
    Range,
    file_name,
    index_bytes,
    outermost,
    range_of,
)
from decision_service.archive.segments import place_name

if TYPE_CHECKING:
    from decision_service.archive.files import Archive

LOG = logging.getLogger("decision_service.archive")
FOLDER: Final = "index"
CACHED_BYTES_MAX: Final = 128 << 20


class IndexFiles:
    """The index files of all places of an archive. May be used from several threads."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._cached: OrderedDict[str, Index] = OrderedDict()
        self._cached_bytes = 0
        self._lock = Lock()

    def of(self, place: int) -> list[Index]:
        """The indexes of a place that hold, rising, none within another. FileNotFoundError if one was merged since it
        was listed: ask again. ArchiveUnavailable."""
        read = (self._read(place, one) for one in outermost(self.ranges(place)))
        return [index for index in read if index is not None]

    def ranges(self, place: int) -> list[Range]:
        """What the files of a place tell of, by their names."""
        names = self._archive.names(_folder(place))
        return [found for found in map(range_of, names) if found is not None]

    def write(self, place: int, index: Index) -> None:
        """Put an index where it is found. ArchiveUnavailable."""
        self._archive.write(_path(place, Range(index.first, index.last)), index.to_bytes())

    def remove(self, place: int, one: Range) -> None:
        """Remove a file, if it is there. ArchiveUnavailable."""
        self._archive.remove(_path(place, one))

    def _read(self, place: int, one: Range) -> Index | None:
        path = _path(place, one)
        with self._lock:
            if (known := self._cached.get(path)) is not None:
                self._cached.move_to_end(path)
                return known
        try:
            index = Index.from_bytes(self._bytes(path))
        except IndexDamaged as error:
            LOG.error("%s is not used: %s", path, error)
            return None
        with self._lock:
            self._keep(path, index)
        return index

    def _keep(self, path: str, index: Index) -> None:
        if path not in self._cached:
            self._cached_bytes += index_bytes(index)
        self._cached[path] = index
        while self._cached_bytes > CACHED_BYTES_MAX and len(self._cached) > 1:
            _, dropped = self._cached.popitem(last=False)
            self._cached_bytes -= index_bytes(dropped)

    def _bytes(self, path: str) -> memoryview:
        if not self._archive.is_local:
            return memoryview(self._archive.read_bytes(path))
        with Path(self._archive.full(path)).open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _folder(place: int) -> str:
    return f"{FOLDER}/p={place_name(place)}"


def _path(place: int, one: Range) -> str:
    return f"{_folder(place)}/{file_name(one)}"
