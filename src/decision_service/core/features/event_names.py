"""What a segment may say about one event, and where the kernel finds it.

Texts are compared by the codes and digests of the packed record; absent texts are null. `settled` is approved or
booked and not later failed or cancelled; `failed` is held, failed or cancelled; `declined` is held and never released.
`label` is what the newest label about the event calls it, `loan` the drawdown it belongs to (see `kernel_links`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from decision_service.core import inputs as q
from decision_service.core.event import (
    APPROVED,
    BOOKED,
    CANCELLED,
    CHANNELS,
    FAILED,
    HELD,
    KINDS,
    STATUSES,
    code_key,
    counterparty_key,
    device_key,
    facility_key,
)
from decision_service.core.features import opcodes as o
from decision_service.core.links import customer_key
from decision_service.core.vocabulary import Kind, NameSpec


def _signed(key_of: Callable[[str], int]) -> Callable[[str], int]:
    """The 64-bit key as the kernel's columns hold it."""

    def code_of(text: str) -> int:
        key = key_of(text)
        return key - (1 << 64) if key >= 1 << 63 else key

    return code_of


@dataclass(frozen=True, slots=True)
class Text:
    """A text column: how a literal becomes a code, which of the request's texts is of the same sort."""

    column: int
    code_of: Callable[[str], int] | None
    known: dict[str, int] | None = None
    request_name: str = ""
    request_word: int = -1
    needs: int = 0


@dataclass(frozen=True, slots=True)
class Flag:
    """A condition on one integer column: `(op, operand kind, operand)` when true and when false."""

    column: int
    true: tuple[int, int, int]
    false: tuple[int, int, int]
    needs: int = 0


@dataclass(frozen=True, slots=True)
class Measure:
    """A float column."""

    column: int
    needs: int = 0


@dataclass(frozen=True, slots=True)
class GroupKey:
    """An integer column to group by; `categories` for entropies, 0 where the number of groups is open."""

    column: int
    categories: int = 0
    needs: int = 0


def _same(column: int, needs: int) -> Flag:
    request = (o.FROM_REQUEST, column)
    return Flag(column, (o.M_TEXT_EQ, *request), (o.M_TEXT_NE, *request), needs)


def _same_number(column: int) -> Flag:
    request = (o.FROM_REQUEST, column)
    return Flag(column, (o.M_EQ, *request), (o.M_NE, *request), o.NEED_LOCAL)


def _status(*, at_least: int = 0, at_most: int = 0, exactly: int = 0) -> Flag:
    constant = o.FROM_CONSTANT
    if exactly:
        return Flag(o.C_STATUS, (o.M_EQ, constant, exactly), (o.M_NE, constant, exactly))
    if at_least:
        return Flag(o.C_STATUS, (o.M_GE, constant, at_least), (o.M_LE, constant, at_least - 1))
    return Flag(o.C_STATUS, (o.M_LE, constant, at_most), (o.M_GE, constant, at_most + 1))


TEXTS: Final[dict[str, Text]] = {
    "kind": Text(o.C_KIND, None, KINDS),
    "status": Text(o.C_STATUS, None, STATUSES),
    "channel": Text(o.C_CHANNEL, None, CHANNELS, "request.channel", q.CHANNEL),
    "category": Text(o.C_CODE, code_key, None, "request.purpose", q.CODE),
    "purpose": Text(o.C_CODE, code_key, None, "request.purpose", q.CODE),
    "facility": Text(o.C_FACILITY, facility_key, None, "request.facility_id", q.FACILITY),
    "device": Text(o.C_DEVICE, device_key, None, "request.device_id", q.DEVICE),
    "counterparty": Text(o.C_PARTY, _signed(counterparty_key), None, "request.counterparty_id", q.COUNTERPARTY),
    "customer": Text(o.C_CUSTOMER, _signed(customer_key), None, "request.customer_id", q.CUSTOMER, o.NEED_CUSTOMER),
    "loan": Text(o.C_LOAN, None, needs=o.NEED_LOAN),  # known or not, and a group key; no text names one
    "label": Text(o.C_LABEL, code_key, needs=o.NEED_LABEL),
}
FLAGS: Final[dict[str, Flag]] = {
    "settled": _status(at_most=APPROVED),
    "booked": _status(exactly=BOOKED),
    "approved": _status(exactly=APPROVED),
    "failed": _status(at_least=HELD),
    "declined": _status(exactly=HELD),
    "failed_tech": _status(exactly=FAILED),
    "cancelled": _status(exactly=CANCELLED),
    "after_grant": Flag(o.C_TIME, (o.M_GE, o.FROM_ROW, q.GRANTED_MS), (o.M_LT, o.FROM_ROW, q.GRANTED_MS)),
    "weekend": Flag(o.C_DOW, (o.M_GE, o.FROM_CONSTANT, 5), (o.M_LE, o.FROM_CONSTANT, 4), o.NEED_LOCAL),
    "has_place": Flag(o.C_PLACE, (o.M_EQ, o.FROM_CONSTANT, 1), (o.M_EQ, o.FROM_CONSTANT, 0), o.NEED_PLACE),
    "same_hour": _same_number(o.C_HOUR),
    "same_dow": _same_number(o.C_DOW),
    "same_city": _same(o.C_CITY, o.NEED_PLACE),
}
MEASURES: Final[dict[str, Measure]] = {
    "amount": Measure(o.F_AMOUNT),
    "value": Measure(o.F_VALUE),
    "age_s": Measure(o.F_AGE_S),
    "local_hour": Measure(o.F_HOUR, o.NEED_LOCAL),
    "local_dow": Measure(o.F_DOW, o.NEED_LOCAL),
    "lat": Measure(o.F_LAT, o.NEED_PLACE),
    "lon": Measure(o.F_LON, o.NEED_PLACE),
    "accuracy_class": Measure(o.F_ACCURACY, o.NEED_PLACE),
    "since_grant_s": Measure(o.F_SINCE_GRANT_S),
    "last_digit": Measure(o.F_LAST_DIGIT),
}
KEYS: Final[dict[str, GroupKey]] = {
    "counterparty": GroupKey(o.C_PARTY),
    "device": GroupKey(o.C_DEVICE),
    "facility": GroupKey(o.C_FACILITY),
    "channel": GroupKey(o.C_CHANNEL, len(CHANNELS)),
    "category": GroupKey(o.C_CODE),
    "purpose": GroupKey(o.C_CODE),
    "customer": GroupKey(o.C_CUSTOMER, 0, o.NEED_CUSTOMER),
    "loan": GroupKey(o.C_LOAN, 0, o.NEED_LOAN),
    "label": GroupKey(o.C_LABEL, 0, o.NEED_LABEL),
    "local_day": GroupKey(o.C_DAY, 0, o.NEED_LOCAL),
    "local_hour": GroupKey(o.C_HOUR, 24, o.NEED_LOCAL),
    "local_dow": GroupKey(o.C_DOW, 7, o.NEED_LOCAL),
    "city": GroupKey(o.C_CITY, 0, o.NEED_PLACE),
    "first_digit": GroupKey(o.C_FIRST_DIGIT, 0, o.NEED_DIGIT),
}
_UNITS: Final = {"amount": "money", "age_s": "s", "local_hour": "h", "since_grant_s": "s"}

EVENT_NAMES: Final[tuple[NameSpec, ...]] = (
    *(NameSpec(name, Kind.STRING) for name in TEXTS),
    *(NameSpec(name, Kind.FLAG) for name in FLAGS),
    *(NameSpec(name, Kind.NUMBER, _UNITS.get(name, "")) for name in MEASURES),
)
