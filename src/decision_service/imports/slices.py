"""The events of a file by customer, in bounded memory.

A file comes in the order in which its events were recorded, customers mixed; the store takes them customer by
customer. So rows are dealt out, batch by batch, to `SLICES` slices by a digest of the customer, and then taken slice by
slice. Beyond a budget of memory the slices go to files in a temporary directory, to which later rows are appended.

Which slice a customer belongs to follows from the customer alone: the next run finds the same slices.

    in a slice      blocks, one a batch:  texts of the customers · rows (dtype ROW), whose `customer` counts those texts
    in its file     each block as two arrays (numpy.save): the texts joined by NUL, which no id can hold · the rows

Entities (`links.py`) are dealt out in the same way, by the names of their logs; their blocks have no texts.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

from decision_service.core.event import RECORD
from decision_service.core.links import LINK_GRAINS, log_name
from decision_service.core.money import EXPONENTS
from decision_service.tables.cells import Ids
from decision_service.tables.events import EventRows

SLICES: Final = 256
NAME: Final = np.dtype("V17")  # of an entity's log (`core.links.log_name`)
CURRENCIES: Final = ("", *EXPONENTS)
ROW: Final = np.dtype(
    [
        ("record", RECORD), ("row", "<i8"), ("recorded_at_ms", "<i8"), ("event", "<u8"), ("customer", "<u4"),
        ("currency", "u1"), ("named", "u1"), *((grain, NAME) for grain in LINK_GRAINS),
    ]
)  # fmt: skip
_CURRENCY_CODES: Final = {name: code for code, name in enumerate(CURRENCIES)}

Rows = npt.NDArray[np.void]
Block = tuple[list[str], Rows]


def joined(parts: Sequence[Rows]) -> Rows:
    """Arrays of one record dtype, one after the other. (NumPy would compare the dtypes of all, field by field.)"""
    opaque = np.dtype((np.void, parts[0].dtype.itemsize))
    return np.concatenate([part.view(opaque) for part in parts]).view(parts[0].dtype)


class History(NamedTuple):
    """All events of a file that are one customer's, in recorded order."""

    customer_id: str
    rows: Rows


def slice_of(customer_id: str) -> int:
    """The slice a customer belongs to. (The store's partitions are the low bits of the same digest: a slice has
    customers of many.)"""
    return (crc32(customer_id.encode()) >> 16) % SLICES


def rows_of(events: EventRows) -> Rows:
    """The events of a batch as rows; their customers are the batch's own numbers."""
    rows = np.zeros(len(events), ROW)
    rows["record"], rows["row"], rows["recorded_at_ms"] = events.records, events.row, events.recorded_at_ms
    rows["event"], rows["customer"] = events.event, events.customer.codes
    currencies = events.currency.mapped(lambda code: _CURRENCY_CODES.get(code, 0), np.uint8)
    rows["currency"] = np.where(events.records["amount_minor"] == 0, 0, currencies)  # no amount is of no currency
    for bit, (grain, ids) in enumerate(zip(LINK_GRAINS, (events.device, events.payee, events.ip), strict=True)):
        rows[grain] = _names(grain, ids)
        rows["named"] |= ids.present.astype(np.uint8) << bit
    return rows


def _names(grain: str, ids: Ids) -> npt.NDArray[Any]:
    """The name of every row's log of one grain, computed once for each different entity."""
    names = np.zeros(len(ids.texts) + 1, NAME)
    for i in np.unique(ids.codes[ids.present]).tolist():
        names[i] = log_name(grain, ids.texts[i])
    return names[ids.codes]


class Slices:
    """Blocks of rows by slice. `directory` is where they go when they take more than `bytes_max` of memory."""

    def __init__(self, directory: Path, bytes_max: int, name: str = "slice") -> None:
        self._directory, self._bytes_max, self._name = directory, bytes_max, name
        self._blocks: list[list[Block]] = [[] for _ in range(SLICES)]
        self._bytes = 0
        self.spilt_bytes = 0

    def add(self, number: int, texts: list[str], rows: Rows) -> None:
        """Put a block into a slice."""
        self._blocks[number].append((texts, rows))
        self._bytes += rows.nbytes
        if self._bytes > self._bytes_max:
            self._spill()

    def take(self, number: int) -> list[Block]:
        """The blocks of a slice in the order in which they came; it is empty afterwards."""
        blocks = [*self._spilt(number), *self._blocks[number]]
        self._bytes -= sum(rows.nbytes for _, rows in self._blocks[number])
        self._blocks[number] = []
        return blocks

    def _spill(self) -> None:
        for number, blocks in enumerate(self._blocks):
            if blocks:
                with self._file(number).open("ab") as file:
                    for texts, rows in blocks:
                        np.save(file, np.frombuffer("\0".join(texts).encode(), np.uint8))
                        np.save(file, rows)
                blocks.clear()
        self.spilt_bytes += self._bytes
        self._bytes = 0

    def _file(self, number: int) -> Path:
        return self._directory / f"{self._name}-{number:03d}"

    def _spilt(self, number: int) -> Iterator[Block]:
        path = self._file(number)
        if not path.exists():
            return
        with path.open("rb") as file:
            while file.peek(1):
                texts = _load(file).tobytes().decode().split("\0")
                yield texts, _load(file)
        path.unlink()


def _load(file: io.BufferedReader) -> Any:
    return np.load(file, allow_pickle=False)


def deal(events: EventRows, slices: Slices) -> None:
    """Put the events of a batch into their customers' slices."""
    texts = np.array(events.customer.texts, object)
    numbers = np.array([slice_of(text) for text in events.customer.texts], np.int64)
    of_row = numbers[events.customer.codes]
    order = np.argsort(of_row, kind="stable")
    rows = rows_of(events)[order]
    bounds = np.searchsorted(of_row[order], np.arange(SLICES + 1))
    for number in np.flatnonzero(np.diff(bounds)).tolist():
        block = rows[bounds[number] : bounds[number + 1]].copy()
        customers, block["customer"] = np.unique(block["customer"], return_inverse=True)
        slices.add(number, texts[customers].tolist(), block)


def histories(blocks: Sequence[Block]) -> list[History]:
    """The histories in a slice, in the order in which the customers first occur."""
    if not blocks:
        return []
    numbers: dict[str, int] = {}
    for texts, rows in blocks:
        mine = np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.uint32)
        rows["customer"] = mine[rows["customer"]]
    rows = joined([rows for _, rows in blocks])
    rows = rows[np.lexsort((rows["row"], rows["recorded_at_ms"], rows["customer"]))]
    bounds = np.searchsorted(rows["customer"], np.arange(len(numbers) + 1))
    return [History(text, rows[bounds[i] : bounds[i + 1]]) for text, i in numbers.items()]
