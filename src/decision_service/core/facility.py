"""A facility (credit line) as core banking last reported it, and an attribute value.

Money in minor units, instants in ms UTC, apr in basis points. `outstanding_minor` is the principal at `as_of_ms`; what
is outstanding, reserved and available *now* is derived from it and the event log (`core/ledger.py`), never stored.
Of two snapshots of one facility the one with the later `as_of_ms` holds; on a tie the one that came last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

FACILITY_STATUSES: Final = ("active", "frozen", "closed")


@dataclass(frozen=True, slots=True)
class Facility:
    """One credit line of one customer."""

    facility_id: str
    customer_id: str
    product: str
    currency: str
    limit_minor: int
    outstanding_minor: int
    as_of_ms: int
    apr_bps: int
    status: str
    granted_at_ms: int
    expires_at_ms: int | None = None
    reviewed_at_ms: int | None = None
    next_due_at_ms: int | None = None
    next_due_minor: int | None = None
    days_past_due: int | None = None  # None: not reported, which is not 0


@dataclass(frozen=True, slots=True)
class Attribute:
    """A declared outside value with the instant it was true."""

    value: float | str
    as_of_ms: int


class Position(NamedTuple):
    """What is outstanding, reserved and available on a facility at one instant, in minor units."""

    outstanding_minor: int
    reserved_minor: int
    available_minor: int
