"""A file of decisions, one a row, as the columns that a rule set judges.

Columns are named as rules name values (`utl_now`, `facility.limit`, `behaviour.grade`), and what a row does not give is
null. Only the columns asked for are read. Numbers of 64 bits are taken as they lie; other types by the rules of
`cells`. A column that an instant is read from says when each row was decided, for dated constants.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from decision_service.core.errors import InvalidInput
from decision_service.core.expressions.columns import NULL_CODE, Columns, Floats, Texts
from decision_service.core.vocabulary import Layout
from decision_service.tables.cells import instants, numbers
from decision_service.tables.file import BATCH_ROWS, Batch, TableFile

if TYPE_CHECKING:
    import pyarrow as pa

Instants = npt.NDArray[np.int64]
Lists = Mapping[str, frozenset[str]]
_NO_LISTS: Final[Lists] = {}


@dataclass(frozen=True, slots=True)
class DecisionRows:
    """Some rows of a file: their numbers in it, the values, and when each was decided."""

    rows: npt.NDArray[np.int64]
    columns: Columns
    t_ms: Instants


def read_decisions(
    file: TableFile, layout: Layout, names: Collection[str], lists: Lists = _NO_LISTS, *, instant: str | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[DecisionRows]:  # fmt: skip
    """The rows of a file, a batch at a time: `names` in the slots that `layout` gives them, null in all others.

    `instant` names the column that says when; without one every instant is 0. Raises InvalidInput for a name that the
    file or the layout lacks, and for a cell that is no value of its column's sort.
    """
    _check_names(file, layout, names, instant)
    wanted = [*names] if instant is None or instant in names else [*names, instant]
    for batch in file.batches(batch_rows=batch_rows, names=wanted):
        t_ms = np.zeros(len(batch), np.int64) if instant is None else _instants(batch, instant)
        yield DecisionRows(batch.rows, _columns(batch, layout, names, lists), t_ms)


def _check_names(file: TableFile, layout: Layout, names: Collection[str], instant: str | None) -> None:
    for name in names:
        if name not in layout.numbers and name not in layout.strings:
            raise InvalidInput(name, f"nothing is called {name!r} here")
    for name in (*names, *(() if instant is None else (instant,))):
        if name not in file.names:
            raise InvalidInput(name, f"{file.path.name} has no column {name!r}; it has {', '.join(file.names)}")


def _columns(batch: Batch, layout: Layout, names: Collection[str], lists: Lists) -> Columns:
    count = len(batch)
    unknown, untold = np.full(count, np.nan), Texts(np.full(count, NULL_CODE, np.int32), ())
    floats: list[Floats] = [unknown] * (max(layout.numbers.values(), default=-1) + 1)
    texts = [untold] * (max(layout.strings.values(), default=-1) + 1)
    for name in names:
        if name in layout.numbers:
            floats[layout.numbers[name]] = _floats(batch, name)
        else:
            texts[layout.strings[name]] = _texts(batch, name)
    return Columns(count, floats, texts, lists)


def _floats(batch: Batch, name: str) -> Floats:
    import pyarrow as pa

    column = batch.columns[name]
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if not pa.types.is_float64(column.type):
        read, sure = numbers(column, name, len(batch))
        _refuse(batch, name, ~sure, column, "not a number")
        return read
    values: Floats = column.to_numpy(zero_copy_only=False)
    _refuse(batch, name, np.isinf(values), column, "not a finite number")
    return values


def _texts(batch: Batch, name: str) -> Texts:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = batch.columns[name]
    if pa.types.is_integer(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.string())
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise InvalidInput(name, f"texts are expected in the column {name!r}, not {column.type}")
    encoded = pc.dictionary_encode(column)
    codes = encoded.indices.fill_null(NULL_CODE).to_numpy(zero_copy_only=False).astype(np.int32)
    return Texts(codes, tuple(encoded.dictionary.to_pylist()))


def _instants(batch: Batch, name: str) -> Instants:
    column = batch.columns[name]
    ms, present, sure = instants(column, name, len(batch))
    _refuse(batch, name, ~(sure & present), column, "not an instant")
    return ms


def _refuse(batch: Batch, name: str, wrong: npt.NDArray[np.bool_], column: pa.Array, reason: str) -> None:
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise InvalidInput(name, f"row {batch.rows[first]}, column {name!r}: {column[first].as_py()!r} is {reason}")
