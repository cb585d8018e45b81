"""Files of facilities: every row as the snapshot that `PUT /v1/facilities/{facility_id}` would make of it.

columns   facility_id, customer_id, product, currency, limit, outstanding (major units), as_of, apr (0.18 is 18 %),
          status, granted_at, and where known expires_at, reviewed_at, next_due_at, next_due_amount, days_past_due
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from decision_service.api.parse import Clock, parse_facility
from decision_service.core.errors import InvalidInput
from decision_service.core.facility import Facility
from decision_service.tables import bodies, cells
from decision_service.tables.file import BadRow, Batch, TableFile, open_file, readable

NEEDED: Final = (
    "facility_id", "customer_id", "product", "currency", "limit", "outstanding", "as_of", "apr", "status", "granted_at",
)  # fmt: skip
COLUMNS: Final = (*NEEDED, "expires_at", "reviewed_at", "next_due_at", "next_due_amount", "days_past_due")
BATCH_ROWS: Final = 4_096
_TEXTS: Final = ("facility_id", "customer_id", "product", "currency", "status")
_INSTANTS: Final = ("as_of", "granted_at", "expires_at", "reviewed_at", "next_due_at")
_MONEY: Final = ("limit", "outstanding", "next_due_amount")
_NUMBERS: Final = ("apr", "days_past_due")


@dataclass(frozen=True, slots=True)
class FacilityBatch:
    """Some rows of a file: snapshots by the number of their row, and what is wrong with the others."""

    facilities: tuple[tuple[int, Facility], ...]
    bad: tuple[BadRow, ...]


def open_facilities(path: Path) -> TableFile:
    """A file of facilities whose columns have been looked at. Raises InvalidInput."""
    return open_file(path, COLUMNS, NEEDED)


def read_facilities(file: TableFile, clock: Clock) -> Iterator[FacilityBatch]:
    """The snapshots of a file in order. Raises InvalidInput for a column of a wrong type."""
    for batch in file.batches(None, BATCH_ROWS):
        with readable(file.path):
            yield _batch(batch, clock)


def _batch(batch: Batch, clock: Clock) -> FacilityBatch:
    columns = _columns(batch)
    good, bad = [], list(batch.bad)
    for i, row in enumerate(batch.rows.tolist()):
        fields = {name: column[i] for name, column in columns.items()}
        try:
            good.append((row, _facility(fields, clock)))
        except InvalidInput as error:
            bad.append(bodies.bad_row(row, error.field, _written(batch, error.field, i), error.message))
    return FacilityBatch(tuple(good), tuple(sorted(bad, key=lambda one: one.row)))


def _columns(batch: Batch) -> Mapping[str, bodies.Cells]:
    given = {name: cells.plain(column) for name, column in batch.columns.items()}
    rows = len(batch)
    found: dict[str, Any] = {name: bodies.texts(given.get(name), name, rows) for name in _TEXTS}
    found |= {name: bodies.instants(given.get(name), name, rows) for name in _INSTANTS}
    found |= {name: bodies.money(given.get(name), name, found["currency"]) for name in _MONEY}
    return found | {name: [*map(bodies.number, bodies.scalars(given.get(name), rows))] for name in _NUMBERS}


def _facility(fields: Mapping[str, Any], clock: Clock) -> Facility:
    facility_id = fields["facility_id"]
    if facility_id is None:
        raise InvalidInput("facility_id", "Field required")
    return parse_facility(bodies.body_of(fields), facility_id, clock)


def _written(batch: Batch, column: str, i: int) -> object:
    return batch.columns[column][i].as_py() if column in batch.columns else None
