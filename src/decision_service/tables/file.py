"""A file of rows as batches of columns: Parquet or CSV, read a part at a time, so its size does not matter.

Rows are numbered from 1 (a CSV file's heading is not a row). A column the caller does not know is refused, for a
misspelt name would silently lose what stands under it. Cells of a CSV file stay the texts they are; an empty one is
null. A line of a CSV file with too many or too few cells is left out and reported.

Reading needs PyArrow, which only the commands that read files ask for: `decision-service[offline]`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.core.errors import InvalidInput
from decision_service.core.source import nearest_name

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS: Final = 65_536
SUFFIXES: Final = (".parquet", ".csv")
_CSV_BLOCK_BYTES: Final = 8 * 1_048_576
_SHOWN_CHARS: Final = 80

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is left out: where, what stood there, and why not."""

    row: int
    column: str
    value: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        """For a report."""
        return {"row": self.row, "column": self.column, "value": self.value, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a file. `rows` are their numbers; `bad` are lines between them that are no rows at all."""

    rows: Ints
    columns: dict[str, pa.Array]
    bad: tuple[BadRow, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file whose names were checked. `parts` are what may be read independently of each other."""

    path: Path
    names: tuple[str, ...]
    parts: tuple[tuple[int, int], ...]  # (row group, number of the first row); one part (-1, 1) for CSV
    row_count: int | None
    bytes: int = field(default=0)

    def batches(
        self, part: tuple[int, int] | None = None, batch_rows: int = BATCH_ROWS, names: Sequence[str] | None = None
    ) -> Iterator[Batch]:
        """The rows in order, of the whole file or of one part; of a Parquet file only the columns in `names`, if given.
        Raises InvalidInput."""
        for group, first in self.parts if part is None else (part,):
            yield from _parquet(self, group, first, batch_rows, names) if group >= 0 else _csv(self)


def open_file(path: Path, known: Collection[str] | None, needed: Collection[str] = ()) -> TableFile:
    """Look at a file's head. Raises InvalidInput for one that cannot be read, for names that are not in `known` (None:
    any will do) and for names in `needed` that it lacks."""
    _require_pyarrow()
    if path.suffix not in SUFFIXES:
        raise InvalidInput("file", f"{path.name}: one of {', '.join(SUFFIXES)} is expected")
    if not path.is_file():
        raise InvalidInput("file", f"{path} does not exist")
    with readable(path):
        file = _parquet_head(path) if path.suffix == ".parquet" else _csv_head(path)
    _check_names(file, known, needed)
    return file


def _require_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise InvalidInput("file", "reading it needs PyArrow: install decision-service[offline]") from None


def _check_names(file: TableFile, known: Collection[str] | None, needed: Collection[str]) -> None:
    for name in file.names:
        if file.names.count(name) > 1:
            raise InvalidInput(name, f"{file.path.name} has the column {name!r} twice")
        if known is not None and name not in known:
            near = nearest_name(name, known)
            hint = f": did you mean {near}?" if near else f"; known are {', '.join(known)}"
            raise InvalidInput(name, f"{file.path.name}: unknown column {name!r}{hint}")
    for name in needed:
        if name not in file.names:
            raise InvalidInput(name, f"{file.path.name} has no column {name!r}; it has {', '.join(file.names)}")


def _parquet_head(path: Path) -> TableFile:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        firsts = np.cumsum([1, *(group.num_rows for group in groups)]).tolist()
        size = sum(group.total_byte_size for group in groups)
        names = tuple(file.schema_arrow.names)
        return TableFile(path, names, tuple(enumerate(firsts[:-1])), int(file.metadata.num_rows), size)


def _parquet(table: TableFile, group: int, first: int, batch_rows: int, names: Sequence[str] | None) -> Iterator[Batch]:
    from pyarrow import parquet

    with readable(table.path), parquet.ParquetFile(table.path) as file:
        for batch in file.iter_batches(batch_rows, row_groups=[group], columns=names, use_threads=False):
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            yield Batch(np.arange(first, first + batch.num_rows), columns)
            first += batch.num_rows


def _csv_head(path: Path) -> TableFile:
    from pyarrow import csv

    reading = csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES)
    parsing = csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda _line: "skip")
    with csv.open_csv(path, reading, parsing) as reader:
        return TableFile(path, tuple(reader.schema.names), ((-1, 1),), None, path.stat().st_size)


def _csv(table: TableFile) -> Iterator[Batch]:
    import pyarrow as pa
    from pyarrow import csv

    torn: list[BadRow] = []

    def tear(line: Any) -> str:
        reason = f"{line.actual_columns} cells, {line.expected_columns} are expected"
        torn.append(BadRow(line.number - 1, "", line.text[:_SHOWN_CHARS], reason))
        return "skip"

    reading = csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES)
    parsing = csv.ParseOptions(newlines_in_values=True, invalid_row_handler=tear)
    texts = csv.ConvertOptions(
        column_types=dict.fromkeys(table.names, pa.string()), null_values=[""], strings_can_be_null=True
    )
    following = 1
    with readable(table.path), csv.open_csv(table.path, reading, parsing, texts) as reader:
        for batch in reader:  # which is read ahead of: some of `torn` may stand after this batch
            numbers = _numbers(following, batch.num_rows, [bad.row for bad in torn if bad.row >= following])
            following = int(numbers[-1]) + 1 if len(numbers) else following
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            passed = tuple(bad for bad in torn if bad.row < following)
            yield Batch(numbers, columns, passed)
            del torn[: len(passed)]
    if torn:
        yield Batch(np.zeros(0, np.int64), {name: pa.nulls(0, pa.string()) for name in table.names}, tuple(torn))


def _numbers(first: int, count: int, skipped: list[int]) -> Ints:
    """`count` row numbers from `first` on, without those that were skipped."""
    numbers = np.arange(first, first + count + len(skipped))
    return numbers[~np.isin(numbers, skipped)][:count]


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """InvalidInput for what PyArrow cannot make sense of."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError, OSError) as error:
        raise InvalidInput("file", f"{path.name} cannot be read: {str(error).splitlines()[0]}") from None
