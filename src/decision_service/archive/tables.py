"""Tables: rows as Arrow has them, and the Parquet file of a segment.

A file's key-value metadata: `format`, `place`, `first` and `last` position, `previous_hash` (of the row before the
first, hex) and `last_hash`. Rows are in chain order. Compression is zstd; pages carry checksums.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from decision_service.archive.schema import COLUMNS, FORMAT, Row, arrow_schema
from decision_service.archive.segments import place_name

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSION_LEVEL: Final = 3
ROW_GROUP_MAX: Final = 8_192  # rows: what a look-up of one decision reads at most, about 20 MB unpacked
_DICTIONARIES: Final = [  # columns of few different values; in the others looking for repetitions is wasted
    "kind", "scene", "outcome", "hold", "currency", "policy_id", "rung", "limit_kind", "origin", "magic",
    "reasons.list.element", "rules.list.element", "cells.list.element",
]  # fmt: skip
_STATISTICS: Final = [name for name, sort, _ in COLUMNS if sort in ("int16", "int64")] + [
    "kind", "decision_id", "scene", "outcome", "hold", "policy_id", "rung",
]  # fmt: skip


def table_of(rows: Iterable[Row]) -> pa.Table:
    """Rows as a table, in the archive's schema."""
    import pyarrow as pa

    schema = arrow_schema()
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def rows_of(table: pa.Table) -> list[Row]:
    """The rows of a table with all columns."""
    missing = [column.name for column in COLUMNS if column.name not in table.column_names]
    if missing:
        raise ValueError(f"columns are missing: {', '.join(missing)}")
    return [Row(*values) for values in zip(*(table[column.name].to_pylist() for column in COLUMNS), strict=True)]


def parquet_of(table: pa.Table, previous_hash: bytes, group_rows: int = ROW_GROUP_MAX) -> bytes:
    """A segment's file: the table with the hash before its first row and that of its last in the metadata."""
    import pyarrow.parquet as pq

    told = {
        "format": FORMAT, "previous_hash": previous_hash.hex(), "last_hash": table["hash"][-1].as_py().hex(),
        "first": str(table["position"][0].as_py()), "last": str(table["position"][-1].as_py()),
        "place": place_name(table["partition"][0].as_py()),
    }  # fmt: skip
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer, table.schema, compression="zstd", compression_level=COMPRESSION_LEVEL, use_dictionary=_DICTIONARIES,
        write_statistics=_STATISTICS, store_schema=False, write_page_checksum=True,
    ) as writer:  # fmt: skip
        writer.write_table(table, row_group_size=group_rows)
        writer.add_key_value_metadata(told)
    return buffer.getvalue()
