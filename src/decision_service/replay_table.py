"""What a replay writes: a row a decision, to Parquet or as JSON lines (`Decided.as_row` names the columns).

Rows are written in groups as the answers come, so memory does not grow with the file; the column `row` says
which row of the input each belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Protocol

import orjson

from decision_service.core.errors import InvalidInput

GROUP_ROWS: Final = 10_000


class Table(Protocol):
    """Where rows go."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Take one row."""
        ...

    def __enter__(self) -> Table: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class JsonLines:
    """One JSON object a line."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, row: Mapping[str, Any]) -> None:
        """Write one line."""
        self._file.write(orjson.dumps(row) + b"\n")

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class Parquet:
    """A Parquet file whose columns are the replay's and a float64 for every feature."""

    def __init__(self, path: Path, features: Sequence[str]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        texts, numbers = pa.string(), pa.float64()
        self._schema = pa.schema(
            [
                ("row", pa.int64()), ("customer_id", texts), ("occurred_at_ms", pa.int64()), ("amount", numbers),
                ("status", pa.int16()), ("decision", texts), ("approved_amount", numbers), ("reasons", texts),
                ("rung", texts), ("latency_ms", numbers), ("decision_id", texts), ("problem", texts),
                *((name, numbers) for name in features),
            ]
        )  # fmt: skip
        self._writer = parquet.ParquetWriter(path, self._schema)
        self._rows: list[Mapping[str, Any]] = []

    def write(self, row: Mapping[str, Any]) -> None:
        """Take one row; a full group goes to the file."""
        self._rows.append(row)
        if len(self._rows) >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows = []

    def __enter__(self) -> Parquet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._writer.close()


def open_table(path: Path, features: Sequence[str]) -> Table:
    """The table at `path`, by its suffix: .parquet or .jsonl. Raises InvalidInput for another."""
    if path.suffix == ".parquet":
        return Parquet(path, features)
    if path.suffix == ".jsonl":
        return JsonLines(path.open("wb"))
    raise InvalidInput("out", f"{path.name}: .parquet or .jsonl is expected")
