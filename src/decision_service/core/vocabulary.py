"""The names an expression may use, what each means, and where its value stands when a decision runs.

Two vectors hold every value of one decision: `numbers` (float64; NaN is null; flags are 0, 1 or NaN; money in major
units) and `strings` (None is null). A policy lays them out once:

    numbers = BASE_NUMBERS | numeric attributes | features the policy uses | points, pd of every scorecard
    strings = BASE_STRINGS | string attributes | grade of every scorecard

Names are dotted where the noun has parts (`facility.limit`, `behaviour.grade`) and plain for features, attributes and
constants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    """The type of a value. A FLAG is a number that is 0, 1 or null and may stand alone as a condition."""

    NUMBER = "number"
    FLAG = "flag"
    STRING = "string"
    LIST = "list of strings"  # only on the right of `in`
    BOOLEAN = "condition"  # only of an expression, never of a name


@dataclass(frozen=True, slots=True)
class NameSpec:
    """A name of the language. `unit`: money, ratio, n, s, d, km, kmh, bps, points, or "" where it has none.
    `constant` holds the value of a named constant (a number, a string, or a tuple of either), else None.
    `values` are all values a string can have, where they are known."""

    name: str
    kind: Kind
    unit: str = ""
    nullable: bool = True
    meaning: str = ""
    constant: float | str | tuple[float | str, ...] | None = None
    values: tuple[str, ...] = ()


def _number(name: str, unit: str, meaning: str, *, nullable: bool = True) -> NameSpec:
    return NameSpec(name, Kind.NUMBER, unit, nullable, meaning)


BASE_NUMBERS: Final[tuple[NameSpec, ...]] = (
    _number("request.amount", "money", "amount asked for", nullable=False),
    _number("request.term_months", "n", "term asked for"),
    _number("request.local_hour", "n", "local hour of the decision instant, 0 to 23", nullable=False),
    _number("facility.limit", "money", "granted limit", nullable=False),
    _number("facility.outstanding", "money", "principal outstanding, derived", nullable=False),
    _number("facility.reserved", "money", "approved and not yet settled, derived", nullable=False),
    _number("facility.available", "money", "limit - outstanding - reserved, may be negative", nullable=False),
    _number("facility.apr", "ratio", "annual rate, 0.18 is 18 %", nullable=False),
    _number("facility.days_past_due", "d", "DPD core banking reported"),
    _number("facility.age_d", "d", "days since the grant", nullable=False),
    _number("facility.days_to_due", "d", "days to the next due date"),
    _number("facility.due_amount", "money", "amount of the next instalment"),
    _number("facility.days_to_expiry", "d", "days to expiry, negative once expired"),
    _number("facility.days_since_review", "d", "days since the last annual review"),
    _number(
        "customer.limit",
        "money",
        "sum of the limits of all facilities in the request's currency",
        nullable=False,
    ),
    _number("customer.outstanding", "money", "sum of principal over them, derived", nullable=False),
    _number("customer.facilities", "n", "number of facilities", nullable=False),
)
BASE_STRINGS: Final[tuple[NameSpec, ...]] = tuple(
    NameSpec(name, Kind.STRING, "", nullable, meaning)
    for name, nullable, meaning in (
        ("request.customer_id", False, "who asks"),
        ("request.facility_id", False, "which line"),
        ("request.currency", False, "currency of the amount"),
        ("request.channel", True, "channel the request came through"),
        ("request.device_id", True, "device it came from"),
        ("request.counterparty_id", True, "payee"),
        ("request.purpose", True, "declared use of the money"),
        ("facility.product", False, "product of the line"),
        ("facility.status", False, "active, frozen or closed"),
    )
)


class Vocabulary(Mapping[str, NameSpec]):
    """An immutable set of names. `with_names` makes a larger one (a rule set adds its constants)."""

    def __init__(self, specs: Mapping[str, NameSpec]) -> None:
        self._specs = dict(specs)

    def __getitem__(self, name: str) -> NameSpec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def with_names(self, *specs: NameSpec) -> Vocabulary:
        """This vocabulary and `specs`, which win over equal names."""
        return Vocabulary(self._specs | {spec.name: spec for spec in specs})


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each name's value stands: index into `numbers` and into `strings`."""

    numbers: Mapping[str, int]
    strings: Mapping[str, int]
