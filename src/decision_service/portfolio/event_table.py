"""Events of many customers as columns: collected in any order, sorted once, packed, and rendered for the API.

Ids are small numbers until an event leaves (0 is none), because a few hundred thousand texts would cost more
than the whole simulation: device `k` of customer `c-17` is `d-17-k`, payee `k` is `m-k`, category `k` is
`CATEGORIES[k]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.core.event import (
    ACCURACY_M,
    CHANNEL_NAMES,
    FLAG_PLACE,
    KIND_NAMES,
    RECORD,
    STATUS_NAMES,
    code_key,
    counterparty_key,
    device_key,
    event_key,
    facility_key,
)
from decision_service.portfolio.population import PURPOSES, YUAN

CURRENCY: Final = "CNY"
CATEGORIES: Final = (
    "", *PURPOSES, "5411_grocery", "5812_restaurant", "5541_fuel", "5732_electronics", "4511_airline",
    "salary", "hard_inquiry", "phone", "address", "password",
)  # fmt: skip
CATEGORY: Final = {name: number for number, name in enumerate(CATEGORIES)}

_COLUMNS: Final = np.dtype(
    [
        ("who", "i8"), ("at_ms", "i8"), ("kind", "u1"), ("status", "u1"), ("amount", "i8"), ("value", "f8"),
        ("channel", "u1"), ("device", "i2"), ("payee", "i4"), ("category", "u1"), ("lat_e6", "i4"),
        ("lon_e6", "i4"), ("accuracy", "u1"),
    ]
)  # fmt: skip

Rows = npt.NDArray[np.void]


def rows(who: npt.ArrayLike, at_ms: npt.ArrayLike, kind: int, status: npt.ArrayLike = 1, **columns: Any) -> Rows:
    """Events of one kind, one for each entry of `who`; absent columns are 0, an absent value is NaN."""
    table = np.zeros(np.size(who), _COLUMNS)
    table["value"] = np.nan
    for name, values in {"who": who, "at_ms": at_ms, "kind": kind, "status": status, **columns}.items():
        table[name] = values
    return table


def in_order(parts: Sequence[Rows]) -> Rows:
    """All events by customer, then time; those of one millisecond stay in the order they came."""
    table = np.concatenate(parts) if parts else np.zeros(0, _COLUMNS)
    return table[np.lexsort((table["at_ms"], table["who"]))]


def customer_id(number: int) -> str:
    """`c-1001` for customer 0."""
    return f"c-{1001 + number}"


def facility_id(number: int) -> str:
    """The facility of a customer."""
    return f"f-{1001 + number}"


def device_id(number: int, device: int) -> str:
    """A customer's device."""
    return f"d-{1001 + number}-{device}"


def payee_id(payee: int) -> str:
    """A payee, shared by all customers."""
    return f"m-{payee}"


def event_id(number: int, position: int) -> str:
    """The id of an event by its position in its customer's history."""
    return f"e-{1001 + number}-{position}"


def pack(table: Rows, number: int) -> bytes:
    """The packed records of one customer's events, which are in order."""
    records = np.zeros(len(table), RECORD)
    records["occurred_at_ms"] = table["at_ms"]
    records["key"] = [event_key(event_id(number, i)) for i in range(len(table))]
    records["amount_minor"] = table["amount"]
    for name in ("value", "kind", "status", "channel", "lat_e6", "lon_e6"):
        records[name] = table[name]
    records["flags"] = np.where(table["accuracy"] > 0, FLAG_PLACE | table["accuracy"] << 4, 0)
    records["code"] = _CODES[table["category"]]
    records["facility"] = facility_key(facility_id(number))
    records["device"] = _digests(table["device"], lambda k: device_key(device_id(number, k)), np.uint32)
    records["counterparty"] = _digests(table["payee"], lambda k: counterparty_key(payee_id(k)), np.uint64)
    return records.tobytes()


_CODES: Final = np.array([0, *(code_key(name) for name in CATEGORIES[1:])], np.uint32)


def _digests(numbers: npt.NDArray[Any], digest: Any, dtype: type) -> npt.NDArray[Any]:
    """The digest of every number, each different one computed once; 0 stays 0."""
    distinct, which = np.unique(numbers, return_inverse=True)
    return np.array([digest(int(k)) if k else 0 for k in distinct], dtype)[which]


@dataclass(frozen=True, slots=True)
class ApiEvents(Sequence[dict[str, Any]]):
    """One customer's events in the form `POST /v1/events` takes, rendered when asked for."""

    number: int
    table: Rows

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self._render(k) for k in range(*i.indices(len(self)))]
        return self._render(range(len(self))[i])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self._render(i) for i in range(len(self)))

    def _render(self, i: int) -> dict[str, Any]:
        row = self.table[i]
        event = {
            "event_id": event_id(self.number, i),
            "customer_id": customer_id(self.number),
            "facility_id": facility_id(self.number),
            "kind": KIND_NAMES[int(row["kind"])],
            "status": STATUS_NAMES[int(row["status"])],
            "occurred_at": rfc3339(int(row["at_ms"])),
        }
        return event | dict(self._optional(row))

    def _optional(self, row: np.void) -> Iterator[tuple[str, Any]]:
        if row["amount"]:
            yield "amount", major(int(row["amount"]))
            yield "currency", CURRENCY
        if row["channel"]:
            yield "channel", CHANNEL_NAMES[int(row["channel"])]
        if row["device"]:
            yield "device_id", device_id(self.number, int(row["device"]))
        if row["payee"]:
            yield "counterparty_id", payee_id(int(row["payee"]))
        if row["category"]:
            yield "category", CATEGORIES[int(row["category"])]
        if row["accuracy"]:
            yield "geo", place(int(row["lat_e6"]), int(row["lon_e6"]), int(row["accuracy"]))
        if not np.isnan(row["value"]):
            yield "value", float(row["value"])


def major(fen: int) -> str:
    """Yuan as exact decimal text."""
    return f"{fen // YUAN}.{fen % YUAN:02d}"


def place(lat_e6: int, lon_e6: int, accuracy: int) -> dict[str, float]:
    """A place as the API takes it; the accuracy is the class's bound."""
    return {"lat": lat_e6 / 1e6, "lon": lon_e6 / 1e6, "accuracy_m": ACCURACY_M[accuracy - 1]}


def rfc3339(at_ms: int) -> str:
    """An instant as text with milliseconds, UTC."""
    moment = datetime.fromtimestamp(at_ms // 1_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1_000:03d}Z"
