"""Money is an integer number of minor units everywhere inside; decimals exist only at the rim.

`EXPONENTS` maps an ISO 4217 code to its number of decimals (the currencies whose minor unit is not 1/100 are spelled
out by the standard's table A.1).
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Final

from decision_service.core.errors import InvalidInput
from decision_service.core.limits import AMOUNT_MINOR_MAX

_TWO: Final = (
    "AED", "AUD", "BRL", "CAD", "CHF", "CNY", "COP", "CZK", "DKK", "EGP", "EUR", "GBP", "HKD", "HUF", "IDR", "ILS",
    "INR", "KES", "KZT", "LKR", "MAD", "MOP", "MXN", "MYR", "NGN", "NOK", "NZD", "PEN", "PHP", "PKR", "PLN", "QAR",
    "RON", "RUB", "SAR", "SEK", "SGD", "THB", "TRY", "TWD", "UAH", "USD", "UZS", "ZAR",
)  # fmt: skip
_NONE: Final = ("CLP", "JPY", "KRW", "PYG", "VND", "XAF", "XOF")
_THREE: Final = ("BHD", "IQD", "JOD", "KWD", "OMR", "TND")
EXPONENTS: Final[dict[str, int]] = dict.fromkeys(_TWO, 2) | dict.fromkeys(_NONE, 0) | dict.fromkeys(_THREE, 3)
SCALES: Final[dict[str, int]] = {code: 10**decimals for code, decimals in EXPONENTS.items()}
"""Minor units in one major unit, by currency."""

_DIGITS_MAX: Final = 40
_EXACT: Final = Context(prec=2 * _DIGITS_MAX)  # the default context would round a 29th digit away unseen


def exponent_of(currency: str, field: str = "currency") -> int:
    """Decimals of a currency. Raises InvalidInput(field) for a code that is not in the table."""
    exponent = EXPONENTS.get(currency)
    if exponent is None:
        raise InvalidInput(field, f"unknown currency {currency!r}: an ISO 4217 code such as CNY is expected")
    return exponent


def to_minor(amount: Decimal | int, currency: str, field: str, *, zero_allowed: bool = False) -> int:
    """Major units as typed to minor units, exactly.

    Raises InvalidInput(field) for a negative, zero (unless allowed), non-finite, huge or over-precise amount.
    """
    exponent = exponent_of(currency)
    if isinstance(amount, Decimal) and not amount.is_finite():
        raise InvalidInput(field, "must be a finite number")
    value = Decimal(amount)
    if len(value.as_tuple().digits) > _DIGITS_MAX:
        raise InvalidInput(field, f"must have at most {_DIGITS_MAX} digits")
    if value < 0 or (value == 0 and not zero_allowed):
        raise InvalidInput(field, "must not be negative" if zero_allowed else "must be greater than zero")
    if value.adjusted() > 20 or value.scaleb(exponent, _EXACT) > AMOUNT_MINOR_MAX:
        raise InvalidInput(field, f"must be at most {AMOUNT_MINOR_MAX // 10**exponent} {currency}")
    if value.adjusted() < -20 and value != 0:
        raise InvalidInput(field, f"must have at most {exponent} decimals for {currency}")
    scaled = value.scaleb(exponent, _EXACT)
    minor = int(scaled)
    if minor != scaled:
        raise InvalidInput(field, f"must have at most {exponent} decimals for {currency}")
    return minor


def to_major(minor: int, currency: str) -> float:
    """Minor units to the nearest double in major units, for answers and for rules: one division, at the end."""
    return minor / SCALES[currency]
