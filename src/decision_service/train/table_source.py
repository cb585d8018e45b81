"""A sample out of a ready table: columns as features, a column as the outcome. See `sources` for what may be said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from decision_service.core.errors import InvalidInput
from decision_service.tables import cells
from decision_service.tables.cells import Ids
from decision_service.tables.file import TableFile, open_file
from decision_service.train.division import Division, Mask
from decision_service.train.fitted import NothingToLearn
from decision_service.train.sample import Sample
from decision_service.train.sources import PARTS, SplitColumn, SplitShares, TableSource

Column = npt.NDArray[Any]
_NO_PART = -1


def read_table(
    source: TableSource,
    names: Sequence[str],
    others: Sequence[str],
    validation_share: float,
    say: Callable[[str], None],
) -> Sample:
    """The rows of a table that are for something. Raises InvalidInput for cells that are not what they must be, and
    NothingToLearn for a table without rows."""
    file = open_file(source.file, None)
    others = [name for name in others if name in file.names]
    columns = [_read_batch(file, source, [*names, *others], batch) for batch in file.batches(None)]
    if not columns:
        raise NothingToLearn(f"{file.path.name} has no rows")
    rows, labels, at_ms, owners, words = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    _, customer = _numbered(owners) if source.customer else (None, np.arange(len(labels)))
    part = _parts(source.split, words, customer)
    kept = part != _NO_PART
    say(f"{len(labels):,} rows of {file.path.name}, {int(kept.sum()):,} of them for something")
    _, customer = _numbered(customer[kept])
    given = _divided(part[kept], customer, validation_share, source.split)
    return Sample(
        rows[kept, : len(names)], labels[kept], customer, at_ms[kept], given.calibrate | given.judge, given,
        (("rows of the table", len(labels)), ("of no part of the split", -int((~kept).sum()))),
        others={name: rows[kept, len(names) + i] for i, name in enumerate(others)},
    )  # fmt: skip


def _read_batch(file: TableFile, source: TableSource, names: Sequence[str], batch: Any) -> tuple[Column, ...]:
    n = len(batch)
    given = {name: cells.plain(column) for name, column in batch.columns.items()}
    rows = np.empty((n, len(names)))
    for i, name in enumerate(names):
        rows[:, i] = _numbers(file, batch, given, name)
    labels = _numbers(file, batch, given, source.label)
    _refuse(~np.isin(labels, (0.0, 1.0)), file, batch, given, source.label, "0 or 1")
    at_ms, present, sure = cells.instants(given.get(source.at or ""), source.at or "", n)
    if source.at:
        _refuse(~(present & sure), file, batch, given, source.at, "an instant with offset such as 2026-11-01T00:00:00Z")
    owners = _texts(given, source.customer, n)
    split = source.split.name if isinstance(source.split, SplitColumn) else None
    return rows, labels.astype(np.int8), at_ms, owners, _texts(given, split, n)


def _numbers(file: TableFile, batch: Any, given: dict[str, Any], name: str) -> npt.NDArray[np.float64]:
    import pyarrow as pa

    column = given[name]
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    values, sure = cells.numbers(column, name, len(batch))
    _refuse(~sure, file, batch, given, name, "a finite number or nothing")
    return values


def _refuse(wrong: Mask, file: TableFile, batch: Any, given: dict[str, Any], name: str, expected: str) -> None:
    if wrong.any():
        i = int(wrong.argmax())
        shown = given[name][i].as_py()
        raise InvalidInput(name, f"{file.path.name}, row {int(batch.rows[i])}: {shown!r}: expected {expected}")


def _texts(given: dict[str, Any], name: str | None, n: int) -> Column:
    """A column's cells as texts, "" for none."""
    if name is None:
        return np.full(n, "", dtype=object)
    import pyarrow as pa

    column = given[name]
    column = column.cast(pa.string()) if not pa.types.is_string(column.type) else column
    ids, _ = cells.ids(column, name, n)
    return np.array([*_known(ids), ""], dtype=object)[ids.codes]


def _known(ids: Ids) -> list[str]:
    return ["" if text is None else str(text) for text in ids.texts]


def _numbered(values: Column) -> tuple[Column, npt.NDArray[np.int64]]:
    """`(distinct values, numbers from 0)` in the order of first appearance."""
    distinct, first, which = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return distinct[order], rank[which]


def _parts(split: SplitColumn | SplitShares, words: Column, customer: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For every row the index into PARTS, or _NO_PART."""
    if isinstance(split, SplitColumn):
        index = {value: i for i, values in enumerate(split.values) for value in values}
        return np.array([index.get(word, _NO_PART) for word in words], np.int64)
    draw = np.random.default_rng(split.seed).random(int(customer.max(initial=-1)) + 1)[customer]
    judge, calibrate = PARTS.index("judge"), PARTS.index("calibrate")
    return np.where(draw < split.judge, judge, np.where(draw < split.judge + split.calibrate, calibrate, 0))


def _divided(
    part: npt.NDArray[np.int64], customer: npt.NDArray[np.int64], share: float, split: SplitColumn | SplitShares
) -> Division:
    """The parts as masks. Without rows to validate with, `share` of the training customers are; without rows to
    calibrate with, those are calibrated with too: no tree has seen them."""
    train, validate, calibrate, judge = (part == i for i in range(len(PARTS)))
    if not validate.any():
        seed = split.seed if isinstance(split, SplitShares) else 1
        chosen = np.random.default_rng([seed, 1]).random(int(customer.max(initial=-1)) + 1)[customer] < share
        train, validate = train & ~chosen, train & chosen
    return Division(train, validate, calibrate if calibrate.any() else validate, judge)
