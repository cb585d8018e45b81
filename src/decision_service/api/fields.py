"""The types of fields in bodies: each checks one JSON value strictly and documents itself in OpenAPI.

Money stays an exact Decimal until its currency is known; instants become ms UTC, ratios and coordinates
floats. An integer written `12.0` is an integer, as JSON Schema has it. Booleans are never numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from decision_service.api.instants import parse_instant
from decision_service.core.limits import (
    AMOUNT_MINOR_MAX,
    DEADLINE_MS_MAX,
    DEADLINE_MS_MIN,
    ID_CHARS_MAX,
    STRING_VALUE_CHARS_MAX,
)
from decision_service.core.links import address_of
from decision_service.core.money import EXPONENTS

DECIMAL_TEXT: Final = re.compile(r"-?\d{1,40}(\.\d{1,40})?", re.ASCII)
TERM_MONTHS_MAX: Final = 600
ACCURACY_M_MAX: Final = 1e7
_MONEY_MAX: Final = AMOUNT_MINOR_MAX // 100


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("field", "{message}", {"message": message})


def _money(value: Any) -> Decimal | int:
    if type(value) is Decimal or type(value) is int:
        return value
    if type(value) is str:
        if DECIMAL_TEXT.fullmatch(value):
            return Decimal(value)
        raise _wrong("must be a plain decimal such as 4990.00")
    raise _wrong("must be a decimal: a number or a string")


def _number(value: Any) -> float:
    if type(value) is Decimal or type(value) is int:
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if number - number == 0.0:
            return number + 0.0  # -0.0 becomes 0.0
        raise _wrong("must be a finite number")
    raise _wrong("must be a number")


def number_between(low: float, high: float) -> Callable[[Any], float]:
    """A check for a number within bounds."""

    def check(value: Any) -> float:
        number = _number(value)
        if not low <= number <= high:
            raise _wrong(f"must be between {low:g} and {high:g}")
        return number

    return check


def whole_between(low: int, high: int) -> Callable[[Any], int]:
    """A check for an integer within bounds."""

    def check(value: Any) -> int:
        if type(value) is Decimal and value.adjusted() < 20 and value == value.to_integral_value():
            value = int(value)
        if type(value) is not int:
            raise _wrong("must be an integer")
        if not low <= value <= high:
            raise _wrong(f"must be between {low} and {high}")
        return value

    return check


def _instant(value: Any) -> int:
    if type(value) is not str:
        raise _wrong("must be an instant with offset such as 2026-11-21T03:12:09+08:00")
    try:
        return parse_instant(value)
    except ValueError as error:
        raise _wrong(str(error)) from None


def _apr(value: Any) -> int:
    if type(value) is not Decimal and type(value) is not int:
        raise _wrong("must be a number: 0.18 is 18 % a year")
    if not 0 <= value <= 10:
        raise _wrong("must be between 0 and 10 (0.18 is 18 % a year)")
    bps = Decimal(value).scaleb(4)
    if len(bps.as_tuple().digits) > 20 or bps != bps.to_integral_value():
        raise _wrong("must be a whole number of basis points: at most 4 decimals")
    return int(bps)


def _scalar(value: Any) -> float | str:
    if type(value) is str:
        if len(value) > STRING_VALUE_CHARS_MAX:
            raise _wrong(f"must have at most {STRING_VALUE_CHARS_MAX} characters")
        return value
    if type(value) is bool:
        return float(value)
    return _number(value)


def _address(value: Any) -> str:
    if type(value) is not str:
        raise _wrong("must be an IPv4 or IPv6 address")
    try:
        return address_of(value)
    except ValueError:
        raise _wrong("must be an IPv4 or IPv6 address such as 203.0.113.7") from None


def _schema(check: Callable[[Any], Any], schema: dict[str, Any]) -> Any:
    return Annotated[Any, PlainValidator(check), WithJsonSchema(schema)]


Id = Annotated[str, Field(min_length=1, max_length=ID_CHARS_MAX, json_schema_extra={"pattern": r"^[^\x00]+$"})]
Currency = Annotated[str, Field(json_schema_extra={"enum": sorted(EXPONENTS)})]


def _whole(low: int, high: int, description: str) -> Any:
    return _schema(
        whole_between(low, high),
        {"type": "integer", "minimum": low, "maximum": high, "description": description},
    )


if TYPE_CHECKING:  # to a type checker they are what they become
    Money = Decimal | int
    MoneyOrZero = Decimal | int
    Instant = int
    Apr = int
    TermMonths = int
    DaysPastDue = int
    DeadlineMs = int
    Number = float
    Latitude = float
    Longitude = float
    Accuracy = float
    Scalar = float | str
    Address = str
else:
    Money = _schema(
        _money,
        {
            "description": "Major units: a number or a string with at most the currency's decimals, above zero.",
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": _MONEY_MAX},
                {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,3})?$"},
            ],
        },
    )
    MoneyOrZero = _schema(
        _money,
        {
            "description": "Major units: a number or a string, at most the currency's decimals, not negative.",
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": _MONEY_MAX},
                {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,3})?$"},
            ],
        },
    )
    Instant = _schema(_instant, {"type": "string", "format": "date-time", "description": "RFC 3339 with offset."})
    Number = _schema(_number, {"type": "number"})
    Apr = _schema(
        _apr,
        {"type": "number", "minimum": 0, "maximum": 10, "description": "0.18 is 18 % a year."},
    )
    Scalar = _schema(
        _scalar,
        {
            "anyOf": [
                {"type": "number"},
                {"type": "boolean"},
                {"type": "string", "maxLength": STRING_VALUE_CHARS_MAX},
            ]
        },
    )
    Address = _schema(
        _address,
        {
            "description": "The device's IPv4 or IPv6 address; addresses of one /24 or /48 count as one network.",
            "anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}],
        },
    )
    Latitude = _schema(number_between(-90, 90), {"type": "number", "minimum": -90, "maximum": 90})
    Longitude = _schema(number_between(-180, 180), {"type": "number", "minimum": -180, "maximum": 180})
    Accuracy = _schema(
        number_between(0, ACCURACY_M_MAX),
        {"type": "number", "minimum": 0, "maximum": ACCURACY_M_MAX, "description": "Metres."},
    )
    TermMonths = _whole(1, TERM_MONTHS_MAX, "Term asked for.")
    DaysPastDue = _whole(0, 36_500, "Left out if it is not known.")
    DeadlineMs = _whole(DEADLINE_MS_MIN, DEADLINE_MS_MAX, "Budget of the answer.")
