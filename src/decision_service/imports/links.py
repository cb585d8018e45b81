"""The entity logs of an imported history: what all customers together did with a device, a payee or a network.

Entity logs are bounded, and a log once trimmed takes nothing from before the instant it was trimmed through. So they
cannot be written customer by customer as the customers' logs are: the first customers would fill them. Instead the
links of the whole file are dealt out by entity, and when every customer is done each entity gets its newest, in
recorded order, as many as its log has room for beside what it holds already.

An import that stops before this is done is not done: the next run goes through the customers again, which changes
nothing there, and appends what is missing here. A link that is there already is not appended again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.errors import OutcomeUnknown, StoreUnavailable
from decision_service.core.event import RECORD
from decision_service.core.limits import RECORD_BYTES
from decision_service.core.links import LINK_GRAINS, customer_key
from decision_service.imports.slices import NAME, SLICES, Rows, Slices, joined
from decision_service.store import Store

TIMEOUT_S: Final = 30.0
_DEALT_AT_ONCE: Final = 65_536
LINK: Final = np.dtype([("name", NAME), ("record", RECORD), ("recorded_at_ms", "<i8"), ("row", "<i8")])


@dataclass(frozen=True, slots=True)
class LinksKept:
    """How much an entity's log keeps."""

    records_max: int
    kept_ms: int


def links_of(customer_id: str, rows: Rows, records: npt.NDArray[np.void]) -> Rows:
    """The links (dtype LINK) of some rows of a customer; `records` are theirs as they entered the customer's log."""
    where = [np.flatnonzero(rows["named"] & 1 << bit) for bit in range(len(LINK_GRAINS))]
    links = np.zeros(sum(map(len, where)), LINK)
    start = 0
    for grain, of_grain in zip(LINK_GRAINS, where, strict=True):
        links["name"][start : start + len(of_grain)] = rows[grain][of_grain]
        start += len(of_grain)
    of = np.concatenate(where)
    links["record"], links["recorded_at_ms"], links["row"] = records[of], rows["recorded_at_ms"][of], rows["row"][of]
    key = customer_key(customer_id)
    links["record"]["facility"], links["record"]["device"] = key & 0xFFFF_FFFF, key >> 32  # together word 6
    return links


class LinksByEntity:
    """The links of a file, dealt out by the last byte of their log's name."""

    def __init__(self, directory: Path, bytes_max: int) -> None:
        self._slices = Slices(directory, bytes_max, "links")
        self._fresh: list[Rows] = []
        self._fresh_rows = 0
        self.rows = 0

    def add(self, links: Rows) -> None:
        """Take links; a batch of them is dealt out at once."""
        self._fresh.append(links)
        self._fresh_rows += len(links)
        self.rows += len(links)
        if self._fresh_rows >= _DEALT_AT_ONCE:
            self._deal()

    def _deal(self) -> None:
        if not self._fresh:
            return
        links = joined(self._fresh)
        self._fresh, self._fresh_rows = [], 0
        numbers = links["name"].copy().view(np.uint8).reshape(-1, NAME.itemsize)[:, -1]
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], np.arange(SLICES + 1))
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            self._slices.add(number, [], links[order[bounds[number] : bounds[number + 1]]])

    def take(self, number: int) -> dict[bytes, npt.NDArray[np.void]]:
        """The records of each entity of a slice by its log's name, in recorded order."""
        self._deal()
        blocks = self._slices.take(number)
        if not blocks:
            return {}
        links = joined([rows for _, rows in blocks])
        names, of = np.unique(links["name"], return_inverse=True)
        order = np.lexsort((links["row"], links["recorded_at_ms"], of))
        bounds = np.searchsorted(of[order], np.arange(len(names) + 1))
        records = links["record"][order]
        return {name.tobytes(): records[bounds[i] : bounds[i + 1]] for i, name in enumerate(names)}


async def deliver(store: Store, found: Mapping[bytes, npt.NDArray[np.void]], kept: LinksKept) -> None:
    """Append to each entity's log the newest of its records that are not there yet, as many as there is room for; a log
    that does not take all of them is marked as trimmed through the latest one left out."""
    for names in store.together(found):
        logs = await asyncio.gather(*(_log(store, name) for name in names))
        records: dict[bytes, bytes] = {}
        left_out_ms: dict[bytes, int] = {}
        for name, log in zip(names, logs, strict=True):
            new = _new(found[name], log)
            left = max(len(new) - max(kept.records_max - len(log), 0), 0)
            if left:
                left_out_ms[name] = int(new["occurred_at_ms"][:left].max())
            if len(new):
                records[name] = new[left:].tobytes()
        if records:
            await _append(store, records, kept, left_out_ms)


async def _log(store: Store, name: bytes) -> npt.NDArray[np.void]:
    """The records of an entity's log."""
    log = (await store.read_links((name,), TIMEOUT_S).logs())[name[0]]
    if log is None:
        raise StoreUnavailable("the log of an entity cannot be read")
    return np.frombuffer(log, RECORD, offset=RECORD_BYTES)


def _new(records: npt.NDArray[np.void], log: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """The records that the log does not hold; key and customer know a record."""
    plain = records.view(RECORD).reshape(-1)
    if not len(log):
        return plain
    known = set(map(bytes, _identities(log)))
    return plain[[bytes(one) not in known for one in _identities(plain)]]


def _identities(records: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]:
    """Bytes of key and customer, a row a record."""
    raw = np.ascontiguousarray(records).view(np.uint8).reshape(-1, RECORD_BYTES)
    return np.concatenate((raw[:, 8:16], raw[:, 48:56]), axis=1)


async def _append(
    store: Store, records: Mapping[bytes, bytes], kept: LinksKept, left_out_ms: Mapping[bytes, int]
) -> None:
    """Append, once more if the reply was lost: what is there already is not appended again."""
    try:
        await store.append_links(records, kept.records_max, kept.kept_ms, TIMEOUT_S, left_out_ms)
    except OutcomeUnknown:
        await store.append_links(records, kept.records_max, kept.kept_ms, TIMEOUT_S, left_out_ms)
