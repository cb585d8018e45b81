"""The report of refused rows: file, row (from 1, a heading not counted), column, value, reason.

The first are shown on standard error as they are found, all of them go to a file if one is named: JSON lines, or CSV
for a name that ends in `.csv`. Rows that were refused when they met what is known of their customer come after those
that were wrong in themselves; what stood in them is looked up in the input by `show`.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import numpy as np
import orjson

from decision_service.core.errors import InvalidInput
from decision_service.imports.account import Refusal
from decision_service.tables.file import BadRow, TableFile

SHOWN_MAX: Final = 20
COLUMNS: Final = ("file", "row", "column", "value", "reason")
_SHOWN_CHARS: Final = 80


class RefusedRows:
    """Where refused rows go. A context manager."""

    def __init__(self, path: Path | None, shown_max: int = SHOWN_MAX) -> None:
        """Raises InvalidInput for a file that cannot be written."""
        self._left = shown_max
        self._file: IO[str] | None = None
        self._csv: Any = None
        if path is not None:
            try:
                self._file = path.open("w", newline="", encoding="utf-8")
            except OSError as error:
                raise InvalidInput("rejected", f"cannot write {path}: {error.strerror}") from None
            if path.suffix == ".csv":
                self._csv = csv.writer(self._file)
                self._csv.writerow(COLUMNS)

    def __enter__(self) -> RefusedRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, path: Path, bad: Sequence[BadRow]) -> None:
        """Report rows of a file."""
        for one in bad:
            self._show(path, one)
            if self._csv is not None:
                self._csv.writerow((path.name, one.row, one.column, one.value, one.reason))
            elif self._file is not None:
                self._file.write(orjson.dumps({"file": path.name, **one.as_json()}).decode() + "\n")

    def _show(self, path: Path, bad: BadRow) -> None:
        if self._left > 0:
            what = f" {bad.column} = {bad.value!r}:" if bad.column else ""
            print(f"{path.name}, row {bad.row}:{what} {bad.reason}", file=sys.stderr)
        elif self._left == 0:
            print("... further rejected rows are not shown here", file=sys.stderr)
        self._left -= 1


def bad_rows(table: TableFile, refusals: Sequence[Refusal]) -> Iterator[list[BadRow]]:
    """Refusals with what stood there, in the order of the file, which is read once more for it."""
    wanted = sorted(refusals)
    rows = np.array([refusal.row for refusal in wanted], np.int64)
    for batch in table.batches() if wanted else ():
        if not len(batch):
            continue
        first, last = np.searchsorted(rows, (batch.rows[0], batch.rows[-1] + 1)).tolist()
        found = []
        for row, column, reason in wanted[first:last]:
            at = int(np.searchsorted(batch.rows, row))
            value = batch.columns[column][at].as_py() if column in batch.columns else None
            found.append(BadRow(row, column, "" if value is None else str(value)[:_SHOWN_CHARS], reason))
        if found:
            yield found
