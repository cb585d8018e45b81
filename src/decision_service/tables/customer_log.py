"""One customer's log out of a file of events, and the logs of the entities a question names.

For looking at one customer in a file (`features explain --events`): the file is read through once, everything else in
it is passed over. Records stand as they were recorded: by `recorded_at`, then as in the file. An entity's log also has
the settlements and labels that concern its records, as the service links them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.api.parse import Clock
from decision_service.core.event import FLAG_LOAN, FLAG_SETTLES, header
from decision_service.core.limits import CLOCK_AHEAD_MAX_MS, REQUEST_AGE_MAX_MS
from decision_service.core.links import LINK_GRAINS, Links, customer_key, entity_header, link_record, network_of
from decision_service.tables.cells import Ids
from decision_service.tables.events import EventRows, open_events, read_events

_COLUMNS: Final = {"device": "device", "payee": "payee", "ip": "ip"}
assert tuple(_COLUMNS) == LINK_GRAINS


@dataclass(frozen=True, slots=True)
class CustomerLog:
    """`texts` are the ids and categories that the records' digests stand for; `bad_rows` were left out."""

    log: bytes
    links: Links
    texts: frozenset[str]
    events: int
    bad_rows: int


@dataclass(frozen=True, slots=True)
class _Entry:
    recorded_at_ms: int
    row: int
    customer: str
    record: bytes
    key: int
    concerns: int  # key of the event that a settlement or label is about


def read_customer_log(
    path: Path, customer_id: str, named: Mapping[str, str], now_ms: int, until_ms: int | None = None
) -> CustomerLog:
    """The log of a customer with what was recorded until an instant; `named` are entities by grain.

    Raises InvalidInput for a file whose columns cannot be read.
    """
    mine: list[_Entry] = []
    linked: dict[str, list[_Entry]] = {grain: [] for grain in named}
    texts: set[str] = set()
    bad = 0
    clock = Clock(now_ms, CLOCK_AHEAD_MAX_MS, REQUEST_AGE_MAX_MS)
    concerning: list[_Entry] = []
    for batch in read_events(open_events(path), clock, decided=True):
        rows = batch.events
        bad += len(batch.bad)
        recorded = rows.recorded_at_ms <= until_ms if until_ms is not None else np.ones(len(rows), bool)
        own = _is(rows.customer, customer_id) & recorded
        mine += _entries(rows, own)
        for ids in (rows.device, rows.payee, rows.facility):
            texts.update(_texts(ids[own]))
        for grain, entity in named.items():
            linked[grain] += _entries(rows, recorded & _names(getattr(rows, _COLUMNS[grain]), grain, entity))
        if named:
            concerning += _entries(rows, recorded & (rows.records["flags"] & (FLAG_SETTLES | FLAG_LOAN) != 0))
    logs = [_entity_log(grain, linked[grain], concerning) if grain in named else None for grain in LINK_GRAINS]
    records = b"".join(entry.record for entry in sorted(mine, key=_recorded))
    return CustomerLog(header() + records, Links(*logs), frozenset(texts), len(mine), bad)


def _recorded(entry: _Entry) -> tuple[int, int]:
    return entry.recorded_at_ms, entry.row


def _is(ids: Ids, text: str) -> npt.NDArray[np.bool_]:
    return ids.mapped(lambda other: other == text, np.bool_)


def _names(ids: Ids, grain: str, entity: str) -> npt.NDArray[np.bool_]:
    if grain != "ip":
        return _is(ids, entity)
    network = network_of(entity)
    return ids.mapped(lambda other: network_of(other) == network, np.bool_)


def _texts(ids: Ids) -> Iterator[str]:
    return (ids.texts[code] for code in np.unique(ids.codes[ids.present]))


def _entries(rows: EventRows, chosen: npt.NDArray[np.bool_]) -> Iterator[_Entry]:
    for i in np.flatnonzero(chosen).tolist():
        record: Any = rows.records[i]
        concerns = int(record["counterparty"]) if record["flags"] & (FLAG_SETTLES | FLAG_LOAN) else 0
        yield _Entry(
            int(rows.recorded_at_ms[i]), int(rows.row[i]), rows.customer.texts[rows.customer.codes[i]],
            record.tobytes(), int(record["key"]), concerns,
        )  # fmt: skip


def _entity_log(grain: str, entries: list[_Entry], concerning: list[_Entry]) -> bytes:
    known = {(entry.customer, entry.key) for entry in entries}
    there = {entry.row for entry in entries}
    late = [e for e in concerning if (e.customer, e.concerns) in known and e.row not in there]
    records = (link_record(e.record, customer_key(e.customer)) for e in sorted([*entries, *late], key=_recorded))
    return entity_header(grain) + b"".join(records)
