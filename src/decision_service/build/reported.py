"""What was reported of customers from outside: facility snapshots and attribute values, with when they were reported.

The files are those that `import` takes, with one more column, `recorded_at`: when the row came to be known, by default
its own `as_of`. A question sees what was recorded up to its own instant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from decision_service.api.parse import Clock
from decision_service.build.dtypes import CURRENCY_INDEX, SNAPSHOT, VALUE
from decision_service.build.history import Records
from decision_service.core.event import facility_key
from decision_service.core.facility import Facility
from decision_service.core.inputs import ABSENT
from decision_service.core.links import customer_key
from decision_service.core.rules.attributes import AttributeSpec
from decision_service.tables import attributes, cells, facilities
from decision_service.tables.file import BadRow, TableFile, open_file

RECORDED_AT: Final = "recorded_at"
_WRONG_INSTANT: Final = "must be an instant with offset such as 2026-11-21T03:12:09+08:00"


def open_snapshots(path: Path) -> TableFile:
    """A file of facilities. Raises InvalidInput."""
    return open_file(path, (*facilities.COLUMNS, RECORDED_AT), facilities.NEEDED)


def open_values(path: Path, declared: Mapping[str, AttributeSpec]) -> TableFile:
    """A file of attributes, long or wide. Raises InvalidInput, for an undeclared name as well."""
    names = open_file(path, None).names
    if {"name", "value"} <= set(names):
        return open_file(path, (*attributes.LONG, RECORDED_AT), attributes.LONG)
    return open_file(path, (*attributes.WIDE, RECORDED_AT, *declared), attributes.WIDE)


def read_snapshots(file: TableFile, clock: Clock) -> Iterator[tuple[Records, tuple[BadRow, ...]]]:
    """`(snapshots, bad rows)` a batch."""
    for lines, bad in read_lines(file, clock):
        yield np.array([_snapshot(*line) for line in lines], SNAPSHOT), bad


def read_lines(file: TableFile, clock: Clock) -> Iterator[tuple[list[tuple[int, Facility, int]], tuple[BadRow, ...]]]:
    """`([(row, snapshot, when it was recorded)], bad rows)` a batch."""
    for batch, (recorded, bad) in zip(
        facilities.read_facilities(_without(file), clock), _recorded(file, facilities.BATCH_ROWS), strict=True
    ):
        known = [(row, line, recorded.get(row, line.as_of_ms)) for row, line in batch.facilities]
        lines = [(row, line, at_ms) for row, line, at_ms in known if at_ms is not None]
        yield lines, (*batch.bad, *bad)


def read_values(
    file: TableFile, declared: Mapping[str, AttributeSpec], slots: Mapping[str, int], clock: Clock
) -> Iterator[tuple[Records, tuple[BadRow, ...]]]:
    """`(values, bad rows)` a batch; a text is told as 0, for its source is all it counts for."""
    for batch, (recorded, bad) in zip(
        attributes.read_attributes(_without(file), declared, clock), _recorded(file, attributes.BATCH_ROWS), strict=True
    ):
        rows = []
        for value in batch.values:
            known = recorded.get(value.row, value.attribute.as_of_ms)
            if value.name in slots and known is not None:
                rows.append(
                    (
                        customer_key(value.customer_id), slots[value.name], value.attribute.as_of_ms, known, value.row,
                        0.0 if isinstance(value.attribute.value, str) else float(value.attribute.value),
                    )
                )  # fmt: skip
        yield np.array(rows, VALUE), (*batch.bad, *bad)


def _without(file: TableFile) -> TableFile:
    """The file as `import` knows it."""
    return replace(file, names=tuple(name for name in file.names if name != RECORDED_AT))


def _recorded(file: TableFile, batch_rows: int) -> Iterator[tuple[dict[int, int | None], list[BadRow]]]:
    """For every batch, when rows that say so were recorded, by row; None for one that says it wrongly."""
    for batch in file.batches(None, batch_rows):
        column = batch.columns.get(RECORDED_AT)
        plain = None if column is None else cells.plain(column)
        ms, present, sure = cells.instants(plain, RECORDED_AT, len(batch))
        rows = batch.rows.tolist()
        known: dict[int, int | None] = {rows[i]: int(ms[i]) for i in np.flatnonzero(present & sure).tolist()}
        known |= {rows[i]: None for i in np.flatnonzero(~sure).tolist()}
        bad = [
            BadRow(rows[i], RECORDED_AT, str(batch.columns[RECORDED_AT][i].as_py()), _WRONG_INSTANT)
            for i in np.flatnonzero(~sure).tolist()
        ]
        yield known, bad


def _snapshot(row: int, line: Facility, recorded_at_ms: int) -> tuple[Any, ...]:
    def known(value: int | None) -> int:
        return ABSENT if value is None else value

    return (
        customer_key(line.customer_id), facility_key(line.facility_id), line.as_of_ms, recorded_at_ms, row,
        line.limit_minor, line.outstanding_minor, CURRENCY_INDEX[line.currency], line.status == "closed", line.apr_bps,
        line.granted_at_ms, known(line.expires_at_ms), known(line.reviewed_at_ms), known(line.next_due_at_ms),
        known(line.next_due_minor), known(line.days_past_due),
    )  # fmt: skip
