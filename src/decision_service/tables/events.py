"""Files of events: every row as the packed record that `POST /v1/events` would make of it, or with the reason why not.

    columns   customer_id, event_id, kind, status (booked), occurred_at, recorded_at (occurred_at), amount (major
              units), currency (CNY), facility_id, channel, device_id, counterparty_id, ip, category, lat, lon,
              accuracy_m, value, decision_id, about_event_id; the first three and occurred_at must be there

A batch is converted column by column. Rows in which anything is not beyond doubt go through `api.parse.parse_event`,
whose word is final: the rules are the API's, and a test holds the two ways to the same bytes. Records come in the order
of the file; the order in which they were recorded is that of `recorded_at`, then of the file.

`decided=True` reads one more form, which the API does not take from callers: a drawdown that is approved or held and
has a `decision_id` is that decision's own record (key, and the instant of the decision from `recorded_at`), so that a
history written by this service can be read back as its log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.api.instants import format_instant
from decision_service.api.parse import CONCERNS_A_DRAWDOWN, MOVES_MONEY, Clock, parse_event
from decision_service.core.errors import InvalidInput
from decision_service.core.event import (
    ACCURACY_M,
    APPROVED,
    CHANNELS,
    DRAWDOWN,
    FLAG_DECIDED,
    FLAG_LOAN,
    FLAG_PLACE,
    FLAG_SETTLES,
    HELD,
    KINDS,
    RECORD,
    STATUSES,
    code_key,
    counterparty_key,
    device_key,
    drawdown_key,
    event_key,
    facility_key,
)
from decision_service.core.limits import EVENT_AGE_MAX_MS
from decision_service.core.links import address_of, network_of
from decision_service.core.money import EXPONENTS
from decision_service.store.keys import partition_of_decision
from decision_service.tables import cells
from decision_service.tables.cells import Ids, Ints, Mask
from decision_service.tables.file import BATCH_ROWS, BadRow, Batch, TableFile, open_file, readable

if TYPE_CHECKING:
    import pyarrow as pa

CURRENCY: Final = "CNY"
COLUMNS: Final = (
    "customer_id", "event_id", "kind", "status", "occurred_at", "recorded_at", "amount", "currency", "facility_id",
    "channel", "device_id", "counterparty_id", "ip", "category", "lat", "lon", "accuracy_m", "value", "decision_id",
    "about_event_id",
)  # fmt: skip
NEEDED: Final = ("customer_id", "event_id", "kind", "occurred_at")
_PLACE: Final = ("lat", "lon", "accuracy_m")
_ASIDE: Final = (*_PLACE, "recorded_at")  # columns that are no fields of an event's body under their own name
_KEYS: Final[Mapping[str, Callable[[str], int]]] = {
    "facility_id": facility_key, "device_id": device_key, "counterparty_id": counterparty_key, "category": code_key,
}  # fmt: skip
_SHOWN_CHARS: Final = 80
_CONCERNS: Final = np.array([False, *(name in CONCERNS_A_DRAWDOWN and name != "drawdown" for name in KINDS)])
_LABEL: Final = KINDS["label"]
_MOVES_MONEY: Final = np.array([False, *(name in MOVES_MONEY for name in KINDS)])

Records = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class EventRows:
    """Events of a batch, in the order of the file. All fields have one entry an event."""

    row: Ints  # number in the file, from 1
    records: Records  # packed, dtype `core.event.RECORD`
    recorded_at_ms: Ints
    event: npt.NDArray[np.uint64]  # `event_key` of the event id, also of a decision's own record
    customer: Ids
    facility: Ids
    device: Ids
    payee: Ids
    ip: Ids  # addresses as written, each of which has a network
    currency: Ids
    about_decision: Mask  # of settlements and labels of a decision: they reach the entities its request named

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Some rows of a file: the good ones, and what is wrong with the others."""

    events: EventRows
    bad: tuple[BadRow, ...]


def open_events(path: Path) -> TableFile:
    """A file of events whose columns have been looked at. Raises InvalidInput."""
    return open_file(path, COLUMNS, NEEDED)


def read_events(
    file: TableFile, clock: Clock, *, part: tuple[int, int] | None = None, decided: bool = False,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[EventBatch]:  # fmt: skip
    """The events of a file, or of one of its parts, in order. Raises InvalidInput for a column of a wrong type."""
    for batch in file.batches(part, batch_rows):
        with readable(file.path):
            columns = {name: cells.plain(column) for name, column in batch.columns.items()}
            yield _Reading(batch, columns, clock, decided).result()


class _Reading:
    """One batch on its way to records."""

    def __init__(self, batch: Batch, columns: Mapping[str, pa.Array], clock: Clock, decided: bool) -> None:
        self._batch, self._columns, self._clock, self._decided = batch, columns, clock, decided
        self._n = len(batch)
        self._sure = np.ones(self._n, bool)
        self._bad = list(batch.bad)
        self.ids = {name: self._ids(name) for name in COLUMNS if name.endswith("_id")}
        self.ids |= {name: self._ids(name) for name in ("ip", "category")}
        self.event = self.ids["event_id"].mapped(event_key, np.uint64)
        self._event_keys = self.ids["event_id"].mapped(event_key, np.uint64)

    def result(self) -> EventBatch:
        """Convert what is sure, ask the API's parser about the rest, leave out what it refuses."""
        kept = np.ones(self._n, bool)
        records, recorded_at, recorded_sure, currency = self._records()
        for i in np.flatnonzero(~self._sure | ~recorded_sure).tolist():
            try:
                records[i] = self._asked(i, bool(recorded_sure[i]), int(recorded_at[i]))
            except _Wrong as wrong:
                kept[i] = False
                self._bad.append(
                    BadRow(int(self._batch.rows[i]), wrong.column, self._shown(wrong.column, i), str(wrong))
                )
        events = EventRows(
            self._batch.rows[kept], records[kept], recorded_at[kept],
            self._event_keys[kept], self.ids["customer_id"][kept],
            self.ids["facility_id"][kept], self.ids["device_id"][kept], self.ids["counterparty_id"][kept],
            self.ids["ip"][kept], currency[kept],
            self._about_decision(records)[kept],
        )  # fmt: skip
        return EventBatch(events, tuple(sorted(self._bad, key=lambda bad: bad.row)))

    def _records(self) -> tuple[Records, Ints, Mask, Ids]:
        """`(records, recorded_at_ms, sure of it, currencies)`; rows that are not sure hold nothing of meaning."""
        records = np.zeros(self._n, RECORD)
        at_ms, present, sure = cells.instants(self._columns.get("occurred_at"), "occurred_at", self._n)
        records["occurred_at_ms"] = at_ms
        self._doubt(~(present & sure & self._in_time(at_ms)))
        recorded_at, recorded, recorded_sure = cells.instants(self._columns.get("recorded_at"), "recorded_at", self._n)
        recorded_at = np.where(recorded, recorded_at, at_ms)
        records["kind"] = self._codes("kind", KINDS, needed=True)
        records["status"] = self._codes("status", STATUSES, absent=STATUSES["booked"])
        records["channel"] = self._codes("channel", CHANNELS)
        currency = self._amounts(records)
        records["value"], sure = cells.numbers(self._columns.get("value"), "value", self._n)
        self._doubt(~sure)
        self._places(records)
        for column, key in _KEYS.items():
            field = {"category": "code"}.get(column, column.removesuffix("_id"))
            records[field] = self.ids[column].mapped(key, RECORD[field])
        self._doubt(self.ids["ip"].mapped(_is_network, np.int8) < 0)
        records["key"] = self._event_keys
        self._references(records, recorded_at)
        return records, recorded_at, recorded_sure, currency

    def _doubt(self, where: Mask) -> None:
        self._sure &= ~where

    def _in_time(self, at_ms: Ints) -> Mask:
        now_ms = self._clock.now_ms
        return (at_ms <= now_ms + self._clock.ahead_max_ms) & (at_ms >= now_ms - EVENT_AGE_MAX_MS)

    def _ids(self, name: str) -> Ids:
        found, sure = cells.ids(self._columns.get(name), name, self._n)
        self._doubt(~sure)
        if name in NEEDED:
            self._doubt(~found.present)
        return found

    def _codes(self, name: str, known: Mapping[str, int], absent: int = 0, needed: bool = False) -> npt.NDArray[Any]:
        """Codes of a column's names; what is unknown is in doubt."""
        found, sure = cells.ids(self._columns.get(name), name, self._n)
        codes = found.mapped(lambda text: known.get(text, 255), np.uint8)
        self._doubt(~sure | (codes == 255) | (needed & ~found.present))
        return np.where(found.present, codes, absent)

    def _amounts(self, records: Records) -> Ids:
        currency, sure = cells.ids(self._columns.get("currency"), "currency", self._n)
        currency = Ids([*currency.texts, CURRENCY], np.where(currency.present, currency.codes, len(currency.texts)))
        exponents = currency.mapped(lambda code: EXPONENTS.get(code, -1), np.int64)
        minor, present, fits = cells.money(self._columns.get("amount"), "amount", np.maximum(exponents, 0))
        records["amount_minor"] = np.where(present, minor, 0)
        missing = _MOVES_MONEY[np.minimum(records["kind"], len(KINDS))] & (minor == 0)
        settles = self.ids["decision_id"].present & (records["kind"] == DRAWDOWN)
        self._doubt(~sure | (exponents < 0) | ~fits | (missing & ~(settles & ~present)))
        return currency

    def _places(self, records: Records) -> None:
        lat, lon, accuracy = (self._number(name) for name in _PLACE)
        placed = ~np.isnan(lat) & ~np.isnan(lon)
        self._doubt((np.isnan(lat) != np.isnan(lon)) | (~placed & ~np.isnan(accuracy)))
        self._doubt((np.abs(lat) > 90) | (np.abs(lon) > 180) | (accuracy < 0) | (accuracy > ACCURACY_M[-1]))
        classes = np.minimum(np.searchsorted(ACCURACY_M, accuracy) + 1, len(ACCURACY_M))
        classes = np.where(np.isnan(accuracy), 0, classes)
        records["flags"] |= np.where(placed, FLAG_PLACE | classes << 4, 0).astype(np.uint8)
        records["lat_e6"] = np.rint(np.where(placed & self._sure, lat, 0.0) * 1e6)
        records["lon_e6"] = np.rint(np.where(placed & self._sure, lon, 0.0) * 1e6)

    def _number(self, name: str) -> npt.NDArray[np.float64]:
        values, sure = cells.numbers(self._columns.get(name), name, self._n)
        self._doubt(~sure)
        return values

    def _references(self, records: Records, recorded_at: Ints) -> None:
        """Word 7 and the flags of settlements and labels; a decision's own record."""
        decision, about = self.ids["decision_id"], self.ids["about_event_id"]
        if not (decision.present.any() or about.present.any()):
            return
        keys = decision.mapped(_decision_key, np.uint64)
        kinds = np.minimum(records["kind"], len(KINDS))
        labels = np.where(about.present, kinds == _LABEL, _CONCERNS[kinds]) & (decision.present != about.present)
        open_ = (records["status"] == APPROVED) | (records["status"] == HELD)
        draws = (records["kind"] == DRAWDOWN) & decision.present & ~about.present
        own = draws & open_ & self._decided
        settles = draws & ~open_
        self._doubt((decision.present | about.present) & ~(labels | own | settles))
        self._doubt(decision.present & (keys == 0))
        concerned = np.where(decision.present, keys, about.mapped(event_key, np.uint64))
        records["counterparty"] = np.where(labels | settles, concerned, records["counterparty"])
        records["flags"] |= (np.where(labels, FLAG_LOAN, 0) | np.where(settles, FLAG_SETTLES, 0)).astype(np.uint8)
        records["flags"] |= np.where(own, FLAG_DECIDED, 0).astype(np.uint8)
        records["key"] = np.where(own, keys, records["key"])
        records["value"] = np.where(own, recorded_at, records["value"])

    def _about_decision(self, records: Records) -> Mask:
        about = self.ids["decision_id"].present & (records["flags"] & FLAG_DECIDED == 0)
        told: Mask = about & ((records["kind"] == DRAWDOWN) | (records["kind"] == _LABEL))
        return told

    def _asked(self, i: int, recorded_sure: bool, recorded_at: int) -> Any:
        """The record that the API's own parser makes of a row. Raises _Wrong."""
        if not recorded_sure:
            raise _Wrong("recorded_at", "must be an instant with offset such as 2026-11-21T03:12:09+08:00")
        body = self._body(i)
        for column, text in body.items():  # what the API looks at in the bytes of a body
            if isinstance(text, str) and "\0" in text:
                raise _Wrong(column, "must not contain NUL")
        own = self._own_decision(body)
        try:
            if own:
                del body["decision_id"]
            record = np.frombuffer(parse_event(body, 0, self._clock).event.pack(), RECORD)[0].copy()
        except InvalidInput as error:
            raise _Wrong(_column(error.field), error.message) from None
        if own:
            record["key"], record["value"] = own, recorded_at or record["occurred_at_ms"]
            record["flags"] |= FLAG_DECIDED
        return record

    def _own_decision(self, body: Mapping[str, Any]) -> int:
        """The key of the decision whose own record a row is; 0 for any other row."""
        if not self._decided or body.get("kind") != "drawdown" or body.get("status") not in ("approved", "held"):
            return 0
        if "decision_id" not in body or "about_event_id" in body:
            return 0
        key = _decision_key(body["decision_id"])
        if not key:
            raise _Wrong("decision_id", "is not the id of a decision")
        return key

    def _body(self, i: int) -> dict[str, Any]:
        """A row as the body of an event."""
        row = {name: column[i].as_py() for name, column in self._columns.items()}
        given = {name: value for name, value in row.items() if value is not None}
        for name in ("customer_id", "event_id", "facility_id", "device_id", "counterparty_id", "category"):
            if isinstance(given.get(name), int):
                given[name] = str(given[name])
        body = {name: value for name, value in given.items() if name not in _ASIDE}
        if "value" in given:
            body["value"] = _exact(given["value"])
        if "occurred_at" in given:
            body["occurred_at"] = self._instant(i, given["occurred_at"])
        if "amount" in given:
            body.setdefault("currency", CURRENCY)
            body["amount"] = self._money(i, EXPONENTS.get(body["currency"], 0))
        if place := {name: _exact(given[name]) for name in _PLACE if name in given}:
            body["geo"] = place
        return body

    def _instant(self, i: int, written: object) -> str:
        """An instant as the API takes it; what is none stays as it is written."""
        ms, _, sure = cells.instants(self._columns["occurred_at"][i : i + 1], "occurred_at", 1)
        return format_instant(int(ms[0])) if sure[0] else str(written)

    def _money(self, i: int, exponent: int) -> object:
        """An amount as the API takes it; a binary fraction as the amount it stands for."""
        amount = self._columns["amount"][i : i + 1]
        minor, _, sure = cells.money(amount, "amount", np.array([exponent]))
        return Decimal(int(minor[0])).scaleb(-exponent) if sure[0] else _exact(amount[0].as_py())

    def _shown(self, column: str, i: int) -> str:
        value = self._columns[column][i].as_py() if column in self._columns else None
        return "" if value is None else str(value)[:_SHOWN_CHARS]


class _Wrong(Exception):
    """A row is refused: the column, and why."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column


def _column(field: str) -> str:
    """The column of a field of an event's body, `events.0.geo.lat` for one."""
    return field.removeprefix("events.0").removeprefix(".").removeprefix("geo.")


def _is_network(ip: str) -> int:
    try:
        network_of(address_of(ip))
    except ValueError:
        return -1
    return 1


def _decision_key(decision_id: str) -> int:
    """The key of a decision's drawdown; 0 for a text that is no id of a decision."""
    return 0 if partition_of_decision(decision_id) is None else drawdown_key(decision_id)


def _exact(value: object) -> object:
    """A number as the API's parser takes it: exact, as it was written."""
    if isinstance(value, float):
        return Decimal(repr(value))
    return Decimal(value) if isinstance(value, str) and cells.NUMBER_TEXT.fullmatch(value) else value
