"""Files: the archive's folder, on a local disk or any fsspec URL. A file is complete or absent.

    <root>/records/ ...      published segments (`segments.py`)       staging/     segments whose head is not sure yet
    <root>/policies/ contents/ cards/ lists/ checkpoints/ ...         documents, by `write` and `read_bytes`

Locally a file is written beside its name, fsynced, moved into place and its folder fsynced. An object store shows an
object once it is complete, so there it is put, and publishing is a copy. Either way publishing again does no harm.

Whoever merges segments publishes the merged one first and removes the old ones then: until that is done rows are there
twice, so `segments` leaves out what lies within another segment. A reader whose segment is gone lists again.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decision_service.archive.schema import FORMAT
from decision_service.archive.segments import (
    RECORDS,
    STAGING,
    Segment,
    day_of,
    place_name,
    published_path,
    segment_at,
    staged_path,
    without_covered,
)
from decision_service.core.errors import ArchiveDamaged, ArchiveUnavailable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Archive", "Segment"]


class Archive:
    """The files below one root. Everything here waits for the disk or the network: call it in a thread or process of
    its own. ArchiveUnavailable says what could not be read or written."""

    def __init__(self, url: str | Path, storage_options: Mapping[str, Any] | None = None) -> None:
        """`url`: a folder, or anything fsspec opens (`s3://bucket/archive`, `memory://archive`)."""
        import fsspec

        self.url = str(url)
        try:
            self._fs, root = fsspec.core.url_to_fs(self.url, **(storage_options or {}))
        except (ImportError, ValueError) as error:
            raise ArchiveUnavailable(f"{self.url}: {error}") from None
        self._root = root.rstrip("/")
        protocols = [self._fs.protocol] if isinstance(self._fs.protocol, str) else self._fs.protocol
        self.is_local, self.is_memory = "file" in protocols, "memory" in protocols

    # --- segments -------------------------------------------------------------------------------------------------

    def segments(
        self, since_ms: int | None = None, until_ms: int | None = None, places: Sequence[int] | None = None
    ) -> list[Segment]:
        """The published segments of the UTC days from that of `since_ms` to that of `until_ms` (the day is included:
        rows outside must be left out by `at_ms`), place by place and in chain order."""
        first = "" if since_ms is None else day_of(since_ms)
        last = "9999-12-31" if until_ms is None else day_of(until_ms)
        names = None if places is None else [place_name(place) for place in places]
        found: dict[int, list[Segment]] = {}
        for day in self.days():
            if not first <= day <= last:
                continue
            folder = f"{RECORDS}/day={day}"
            for name in names if names is not None else self._names(folder):
                if not name.startswith("p=") and names is None:
                    continue
                for segment in self._segments_in(f"{folder}/p={name.removeprefix('p=')}"):
                    found.setdefault(segment.place, []).append(segment)
        return [segment for place in sorted(found) for segment in without_covered(found[place])]

    def newest(self, place: int, since_ms: int = 0) -> Segment | None:
        """The segment with the last row of a place, of the UTC days from that of an instant on."""
        first, name = day_of(since_ms), place_name(place)
        for day in reversed(self.days()):
            if day < first:
                return None
            if found := without_covered(self._segments_in(f"{RECORDS}/day={day}/p={name}")):
                return found[-1]
        return None

    def days(self) -> list[str]:
        """The days that have records, rising."""
        return sorted(name.removeprefix("day=") for name in self._names(RECORDS) if name.startswith("day="))

    def segments_on(self, place: int, day: str) -> list[Segment]:
        """All segments of a place and a day, in no order, also those that lie within another."""
        return self._segments_in(f"{RECORDS}/day={day}/p={place_name(place)}")

    def _segments_in(self, folder: str) -> list[Segment]:
        found = (segment_at(f"{folder}/{name}") for name in self._names(folder))
        return [segment for segment in found if segment is not None]

    def read(self, segment: Segment, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a segment. FileNotFoundError if it is gone: a compaction merged it, list again."""
        with self.open(segment) as file:
            return file.read(columns=None if columns is None else list(columns))

    def open(self, segment: Segment) -> Any:
        """A segment as a `pyarrow.parquet.ParquetFile`, for reading parts of it. FileNotFoundError as `read`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        full = self.full(segment.path)
        try:
            if self.is_local:
                return pq.ParquetFile(full)
            return pq.ParquetFile(pa.PythonFile(self._fs.open(full, "rb"), mode="r"))
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowInvalid) as error:
            raise ArchiveDamaged(f"{segment.path} cannot be read: {error}") from None

    def hashes(self, segment: Segment) -> tuple[bytes, bytes]:
        """The hash before a segment's first row and that of its last, as its metadata say."""
        with self.open(segment) as file:
            told = file.metadata.metadata or {}
        try:
            if told[b"format"].decode() != FORMAT:
                raise ArchiveDamaged(f"{segment.path} is of format {told[b'format'].decode()}, {FORMAT} is expected")
            return bytes.fromhex(told[b"previous_hash"].decode()), bytes.fromhex(told[b"last_hash"].decode())
        except (KeyError, ValueError) as error:
            raise ArchiveDamaged(f"{segment.path} is no segment: its metadata lack {error}") from None

    # --- staging and publishing ------------------------------------------------------------------------------------

    def stage(self, path: str, content: bytes) -> None:
        """Put the file of a segment where it waits, safely on disk."""
        self.write(staged_path(path), content)

    def publish(self, path: str) -> bool:
        """Move a staged segment to its path, which needs its rows to be in the head; False if it is neither staged
        nor published. Several may do it at once, and again."""
        staged, final = self.full(staged_path(path)), self.full(path)
        try:
            if self.is_local:
                return self._move(Path(staged), Path(final))
            if self._fs.exists(staged):
                self._fs.makedirs(final.rpartition("/")[0], exist_ok=True)
                self._fs.copy(staged, final)
                self._forget(staged)
                return True
            return bool(self._fs.exists(final))
        except FileNotFoundError:  # another one published it in between
            return self.exists(path)
        except Exception as error:
            raise self._failed(path, error) from error

    def _move(self, staged: Path, final: Path) -> bool:
        try:
            make_folder(final.parent)
            staged.replace(final)
        except FileNotFoundError:
            if not final.exists():
                return False
        sync_folder(final.parent)
        return True

    def is_published(self, path: str) -> bool:
        """Whether the rows of a segment can be read: by itself, or within one that a compaction made of it."""
        segment = segment_at(path)
        if segment is None:
            raise ValueError(f"{path!r} is no path of a segment")
        folder = path.rpartition("/")[0]
        return any(s.first <= segment.first and segment.last <= s.last for s in self._segments_in(folder))

    def staged(self) -> list[tuple[str, int]]:
        """What waits: the path at which each file is to be published, and its age in ms. Of an orphan, which lost the
        race for its place's head, nothing will ever come."""
        found = []
        now = datetime.now(UTC)
        for name in self._names(STAGING):
            full = self.full(f"{STAGING}/{name}")
            try:
                path = published_path(name)
                modified = self._fs.modified(full)
            except (ValueError, FileNotFoundError):
                continue
            modified = modified if modified.tzinfo else modified.replace(tzinfo=UTC)
            found.append((path, int((now - modified).total_seconds() * 1000)))
        return sorted(found)

    def discard(self, path: str) -> None:
        """Remove the staged file of a segment, if it is there."""
        self.remove(staged_path(path))

    # --- any file below the root -----------------------------------------------------------------------------------

    def write(self, path: str, content: bytes) -> None:
        """Put a file, whole or not at all, in the place of an earlier one. ArchiveUnavailable."""
        full = self.full(path)
        try:
            if self.is_local:
                write_file(Path(full), content)
            else:
                self._fs.makedirs(full.rpartition("/")[0], exist_ok=True)
                self._fs.pipe_file(full, content)
        except Exception as error:
            raise self._failed(path, error) from error

    def read_bytes(self, path: str) -> bytes:
        """A file. FileNotFoundError; ArchiveUnavailable."""
        try:
            return bytes(self._fs.cat_file(self.full(path)))
        except FileNotFoundError:
            raise
        except Exception as error:
            raise self._failed(path, error) from error

    def exists(self, path: str) -> bool:
        """Whether there is such a file. ArchiveUnavailable."""
        try:
            return bool(self._fs.exists(self.full(path)))
        except Exception as error:
            raise self._failed(path, error) from error

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, sorted; none if there is no such folder. ArchiveUnavailable."""
        return sorted(name for name in self._names(folder) if not name.startswith("."))

    def remove(self, path: str) -> None:
        """Remove a file, if it is there. ArchiveUnavailable."""
        try:
            self._forget(self.full(path))
            if self.is_local:
                sync_folder(Path(self.full(path)).parent)
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._failed(path, error) from error

    def full(self, path: str) -> str:
        """Where a path below the root lies for the file system."""
        return f"{self._root}/{path}"

    def size(self, path: str) -> int:
        """The bytes of a file. FileNotFoundError."""
        return int(self._fs.size(self.full(path)))

    def stamp(self, path: str) -> str:
        """What tells a file from what was, or will be, under its name. FileNotFoundError."""
        self._fs.invalidate_cache()
        return str(self._fs.ukey(self.full(path)))

    def modified_ms(self, path: str) -> int:
        """When a file was written, ms UTC. FileNotFoundError."""
        modified = self._fs.modified(self.full(path))
        return int((modified if modified.tzinfo else modified.replace(tzinfo=UTC)).timestamp() * 1000)

    def _forget(self, full: str) -> None:
        if self._fs.exists(full):
            self._fs.rm_file(full)
            self._fs.invalidate_cache()

    def _names(self, folder: str) -> list[str]:
        full = self.full(folder)
        try:
            if self.is_local:
                return [
                    entry.name for entry in os.scandir(full)
                ]  # a fifth of the time of fsspec's, which asks after each
            self._fs.invalidate_cache(full)
            return [str(name).rstrip("/").rpartition("/")[2] for name in self._fs.ls(full, detail=False)]
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._failed(folder, error) from error

    def _failed(self, path: str, error: Exception) -> ArchiveUnavailable:
        """What libraries of all sorts raise, as one error. Their names and words differ, and none is ours to trust."""
        return ArchiveUnavailable(f"{self.url}: {path}: {error or type(error).__name__}")


def write_file(path: Path, content: bytes) -> None:
    make_folder(path.parent)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each safely on disk: a file is not, as long as a folder above it is not."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
