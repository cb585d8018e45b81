"""The file a replay reads: Parquet or CSV, one event a row, columns named by `Columns`.

Rows are read in batches and handed out one by one, so a file larger than memory is no trouble. An instant
without an offset is UTC; a whole number is milliseconds. Places come from a second file, a row a payee:
`lat` and `lon` in degrees, or coordinates on a grid (`x_...`, `y_...`), which is laid over the earth at
`GRID_ORIGIN`.

The defaults fit the simulated card payments of the Fraud Detection Handbook (Le Borgne, Siblini, Lebichot
and Bontempi, ULB 2022): 5,000 customers and 10,000 terminals on a 100 x 100 grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from decision_service.core.errors import InvalidInput
from decision_service.replay import Drawdown

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS: Final = 8_192
GRID_ORIGIN: Final = (31.0, 121.0)  # degrees; the grid's (0, 0)
GRID_STEP: Final = 0.01  # degrees a grid unit, about 1 km
SUFFIXES: Final = (".parquet", ".csv")

Places = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds what. `counterparty` may be empty: then there is none."""

    customer: str = "CUSTOMER_ID"
    occurred_at: str = "TX_DATETIME"
    amount: str = "TX_AMOUNT"
    counterparty: str = "TERMINAL_ID"

    def names(self) -> list[str]:
        """The columns that are read."""
        return [name for name in (self.customer, self.occurred_at, self.amount, self.counterparty) if name]


def read_drawdowns(
    path: Path, columns: Columns, places: Places, *, shift_ms: int = 0, limit: int | None = None
) -> Iterator[Drawdown]:
    """The file's rows as drawdowns, moved by `shift_ms`, the first `limit` of them. Raises InvalidInput."""
    return islice(_all_drawdowns(path, columns, places, shift_ms), limit)


def _all_drawdowns(path: Path, columns: Columns, places: Places, shift_ms: int) -> Iterator[Drawdown]:
    row = 0
    for batch in _batches(path, columns.names()):
        instants = _milliseconds(batch.column(columns.occurred_at), columns.occurred_at)
        customers = batch.column(columns.customer).to_pylist()
        amounts = batch.column(columns.amount).to_pylist()
        parties = batch.column(columns.counterparty).to_pylist() if columns.counterparty else [None] * len(amounts)
        for customer, at_ms, amount, party in zip(customers, instants, amounts, parties, strict=True):
            payee = None if party is None else str(party)
            yield Drawdown(row, str(customer), at_ms + shift_ms, amount, payee, places.get(payee or ""))
            row += 1


def count_rows(path: Path) -> int | None:
    """How many rows a Parquet file has; None for a CSV file, which does not say. Raises InvalidInput."""
    if path.suffix != ".parquet":
        return None
    from pyarrow import parquet

    with _readable(path), parquet.ParquetFile(path) as file:
        return int(file.metadata.num_rows)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """InvalidInput for what PyArrow cannot make sense of."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidInput("file", f"{path.name} cannot be read: {str(error).splitlines()[0]}") from None


def read_places(path: Path, key: str) -> dict[str, tuple[float, float]]:
    """Latitude and longitude by the value of column `key`. Raises InvalidInput."""
    places: dict[str, tuple[float, float]] = {}
    for batch in _batches(path, None):
        lat, lon = _coordinates(path, batch)
        keys = _column(path, batch, key).to_pylist()
        places |= {str(k): (y, x) for k, y, x in zip(keys, lat, lon, strict=True)}
    return places


def _coordinates(path: Path, batch: pa.RecordBatch) -> tuple[list[float], list[float]]:
    names = batch.schema.names
    if "lat" in names and "lon" in names:
        return batch.column("lat").to_pylist(), batch.column("lon").to_pylist()
    x, y = (next((n for n in names if n.startswith(axis)), axis) for axis in ("x_", "y_"))
    south, west = GRID_ORIGIN
    return (
        [round(south + value * GRID_STEP, 6) for value in _column(path, batch, y).to_pylist()],
        [round(west + value * GRID_STEP, 6) for value in _column(path, batch, x).to_pylist()],
    )


def _column(path: Path, batch: pa.RecordBatch, name: str) -> Any:
    if name not in batch.schema.names:
        raise InvalidInput(name, f"{path.name} has no such column; it has {', '.join(batch.schema.names)}")
    return batch.column(name)


def _batches(path: Path, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    try:
        from pyarrow import csv, parquet
    except ImportError:
        raise InvalidInput("file", "reading it needs pyarrow: install decision-service[train]") from None
    if path.suffix not in SUFFIXES:
        raise InvalidInput("file", f"{path.name}: one of {', '.join(SUFFIXES)} is expected")
    if not path.is_file():
        raise InvalidInput("file", f"{path} does not exist")
    with _readable(path):
        source = parquet.ParquetFile(path).iter_batches(BATCH_ROWS) if path.suffix == ".parquet" else csv.open_csv(path)
    for batch in source:
        for name in columns or ():
            _column(path, batch, name)
        yield batch


def _milliseconds(column: Any, name: str) -> list[int]:
    import pyarrow as pa

    if pa.types.is_integer(column.type):
        return list(column.cast("int64").to_pylist())
    if not pa.types.is_timestamp(column.type):
        raise InvalidInput(name, f"instants are expected, not {column.type}")
    return list(column.cast(pa.timestamp("ms"), safe=False).cast("int64").to_pylist())
