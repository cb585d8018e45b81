"""The file of questions: who is asked about, at which instant, and for which request.

    columns   customer_id, at, event_id, facility_id, amount, currency, device_id, counterparty_id, ip, channel,
              purpose, lat, lon, accuracy_m, term_months, loan; any other column is passed through to the table

A row either names a customer and an instant, and sees what was recorded up to it; or it names an event of the events'
file, and is that event's own decision: it sees what was recorded before the event, and what it does not say itself is
taken from the event; an amount that it gives without a currency is CNY. `loan` is the id of the draw (a decision's or
an event's) that the question is about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from decision_service.build.dtypes import CURRENCY_INDEX, OWNER, QUESTION
from decision_service.build.history import Records
from decision_service.core.errors import InvalidInput
from decision_service.core.event import (
    ACCURACY_M,
    CHANNELS,
    code_key,
    counterparty_key,
    device_key,
    drawdown_key,
    event_key,
    facility_key,
)
from decision_service.core.inputs import ABSENT
from decision_service.core.links import LINK_GRAINS, customer_key, entity_digest, ip_key
from decision_service.core.money import EXPONENTS
from decision_service.store.keys import partition_of_decision
from decision_service.tables import cells
from decision_service.tables.cells import Ids, Mask
from decision_service.tables.events import CURRENCY
from decision_service.tables.file import BadRow, Batch, TableFile, readable

COLUMNS: Final = (
    "customer_id", "at", "event_id", "facility_id", "amount", "currency", "device_id", "counterparty_id", "ip",
    "channel", "purpose", "lat", "lon", "accuracy_m", "term_months", "loan",
)  # fmt: skip
_INSTANT: Final = "must be an instant with offset such as 2026-11-21T03:12:09+08:00"
_TERM_MAX: Final = 600
ENTITY_COLUMNS: Final = dict(zip(LINK_GRAINS, ("device_id", "counterparty_id", "ip"), strict=True))


def check_columns(file: TableFile) -> None:
    """Raise InvalidInput unless a row can say whom and when it is about."""
    if "event_id" not in file.names:
        for name in ("customer_id", "at"):
            if name not in file.names:
                raise InvalidInput(name, f"{file.path.name} needs the columns customer_id and at, or event_id")


def link_key(grain: str, entity_id: str) -> int:
    """64 bits of an entity's digest; never 0."""
    return int.from_bytes(entity_digest(grain, entity_id)[:8], "little") or 1


def link_keys(grain: str, ids: Ids) -> Records:
    """`link_key` of a column; 0 for none and for what is no address."""
    if grain != "ip":
        return ids.mapped(lambda text: link_key(grain, text), np.uint64)
    return ids.mapped(_network_key, np.uint64)


def _network_key(ip: str) -> int:
    try:
        return ip_key(ip)
    except ValueError:
        return 0


def read_questions(
    file: TableFile, part: tuple[int, int] | None = None
) -> Iterator[tuple[Records, tuple[BadRow, ...]]]:
    """`(questions, bad rows)` a batch; a question without a customer has owner 0."""
    check_columns(file)
    for batch in file.batches(part):
        with readable(file.path):
            reading = _Reading(batch, {name: cells.plain(column) for name, column in batch.columns.items()})
            yield reading.result()


class _Reading:
    """One batch on its way to questions."""

    def __init__(self, batch: Batch, columns: Mapping[str, Any]) -> None:
        self._batch, self._columns, self._n = batch, columns, len(batch)
        self._problems: list[tuple[Mask, str, str]] = []
        self._ids = {name: self._read_ids(name) for name in COLUMNS if name.endswith("_id")}
        self._ids |= {name: self._read_ids(name) for name in ("ip", "purpose", "loan")}

    def result(self) -> tuple[Records, tuple[BadRow, ...]]:
        """The good rows and the bad ones."""
        questions = np.zeros(self._n, QUESTION)
        questions["row"] = self._batch.rows
        for field, column, key in (
            ("owner", "customer_id", customer_key), ("event", "event_id", event_key),
            ("facility", "facility_id", facility_key), ("device", "device_id", device_key),
            ("party", "counterparty_id", counterparty_key), ("code", "purpose", code_key), ("loan", "loan", _loan_key),
        ):  # fmt: skip
            questions[field] = self._ids[column].mapped(key, QUESTION[field])
        for grain, column in ENTITY_COLUMNS.items():
            questions[f"{grain}_link"] = link_keys(grain, self._ids[column])
        self._wrong(self._ids["ip"].present & (questions["ip_link"] == 0), "ip", "must be an IPv4 or IPv6 address")
        self._instants(questions)
        self._money(questions)
        self._rest(questions)
        return self._judged(questions)

    def _instants(self, questions: Records) -> None:
        at_ms, present, sure = cells.instants(self._columns.get("at"), "at", self._n)
        named = questions["event"] != 0
        self._wrong(~sure, "at", _INSTANT)
        self._wrong(~present & ~named, "at", "is needed for a row that names no event")
        self._wrong((questions["owner"] == 0) & ~named, "customer_id", "is needed for a row that names no event")
        questions["at_ms"] = np.where(present, at_ms, ABSENT)

    def _money(self, questions: Records) -> None:
        currency = self._read_ids("currency")
        index = currency.mapped(lambda code: CURRENCY_INDEX.get(code, -1), np.int64)
        self._wrong(currency.present & (index < 0), "currency", "is no known ISO 4217 code")
        decimals = np.array([*EXPONENTS.values(), EXPONENTS[CURRENCY]])[np.where(currency.present, index, -1)]
        minor, present, sure = cells.money(self._columns.get("amount"), "amount", decimals)
        unsaid = np.where(present, CURRENCY_INDEX[CURRENCY], -1)  # as in a file of events
        questions["currency"] = np.where(currency.present, index, unsaid)
        self._wrong(~sure, "amount", "must be an amount with at most the decimals of its currency, not negative")
        questions["amount"] = np.where(present, minor, -1)

    def _rest(self, questions: Records) -> None:
        channel = self._read_ids("channel")
        codes = channel.mapped(lambda name: CHANNELS.get(name, 0), np.uint8)
        self._wrong(channel.present & (codes == 0), "channel", "must be one of " + ", ".join(CHANNELS))
        questions["channel"] = codes
        term = self._number("term_months", 1, _TERM_MAX)
        self._wrong(~np.isnan(term) & (term != np.rint(term)), "term_months", "must be an integer")
        questions["term_months"] = term
        lat, lon = self._number("lat", -90, 90), self._number("lon", -180, 180)
        accuracy = self._number("accuracy_m", 0, 1e7)
        self._wrong(np.isnan(lat) != np.isnan(lon), "lat", "a place needs both lat and lon")
        placed = ~np.isnan(lat) & ~np.isnan(lon)
        questions["placed"] = placed
        questions["lat_e6"] = np.rint(np.where(placed, lat, 0.0) * 1e6)
        questions["lon_e6"] = np.rint(np.where(placed, lon, 0.0) * 1e6)
        classes = np.minimum(np.searchsorted(ACCURACY_M, accuracy) + 1, len(ACCURACY_M))
        questions["accuracy"] = np.where(placed & ~np.isnan(accuracy), classes, 0)

    def _number(self, name: str, low: float, high: float) -> Any:
        values, sure = cells.numbers(self._columns.get(name), name, self._n)
        fits = np.isnan(values) | ((values >= low) & (values <= high))
        self._wrong(~sure | ~fits, name, f"must be a number between {low:g} and {high:g}")
        return np.where(fits, values, np.nan)

    def _read_ids(self, name: str) -> Ids:
        found, sure = cells.ids(self._columns.get(name), name, self._n)
        self._wrong(~sure, name, "must have 1 to 128 characters")
        return found

    def _wrong(self, where: Mask, column: str, reason: str) -> None:
        self._problems.append((where, column, reason))

    def _judged(self, questions: Records) -> tuple[Records, tuple[BadRow, ...]]:
        kept = np.ones(self._n, bool)
        bad = list(self._batch.bad)
        for where, column, reason in self._problems:
            if (where & kept).any():  # the first problem of a row is told
                for i in np.flatnonzero(where & kept).tolist():
                    value = self._columns[column][i].as_py() if column in self._columns else None
                    shown = "" if value is None else str(value)[:80]
                    bad.append(BadRow(int(self._batch.rows[i]), column, shown, reason))
                kept &= ~where
        return questions[kept], tuple(sorted(bad, key=lambda one: one.row))


def _loan_key(loan: str) -> int:
    return event_key(loan) if partition_of_decision(loan) is None else drawdown_key(loan)


def owners_of(events: Records) -> Records:
    """Whose event each is, for questions that name an event alone."""
    owners = np.zeros(len(events), OWNER)
    owners["event"], owners["owner"] = events["event"], events["owner"]
    return owners
