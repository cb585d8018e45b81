"""Snapshots: what a facility or attribute that arrives means beside what is known of its customer.

Of two snapshots the one with the later instant holds, on a tie the one that came last; one that says what is known
already is no news. These rules hold for a call of the API and for the rows of a file.
"""

from __future__ import annotations

from collections.abc import Mapping

from decision_service.core.errors import Conflict, InvalidInput
from decision_service.core.event import facility_key
from decision_service.core.facility import Attribute, Facility
from decision_service.core.limits import FACILITIES_PER_CUSTOMER_MAX


def refuse_facility(facility_id: str, known: Mapping[str, Facility]) -> None:
    """Raise Conflict if a new facility cannot be told from one the customer has, or there would be too many."""
    if any(facility_key(other) == facility_key(facility_id) for other in known):
        raise Conflict("this facility has the same 32-bit key as another of this customer")
    if len(known) >= FACILITIES_PER_CUSTOMER_MAX:
        raise Conflict(f"a customer has at most {FACILITIES_PER_CUSTOMER_MAX} facilities")


def is_news(facility: Facility, known: Mapping[str, Facility]) -> bool:
    """Whether a snapshot is to be taken over. Conflict, InvalidInput if it contradicts what is known."""
    stored = known.get(facility.facility_id)
    if stored is None:
        refuse_facility(facility.facility_id, known)
        return True
    if stored.currency != facility.currency:  # the log's amounts are minor units of the old one
        raise InvalidInput("currency", f"the facility is in {stored.currency}")
    return stored != facility and stored.as_of_ms <= facility.as_of_ms


def newer_attributes(attributes: Mapping[str, Attribute], known: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """Those that are to be taken over."""
    return {
        name: value
        for name, value in attributes.items()
        if (stored := known.get(name)) is None
        or (stored.as_of_ms <= value.as_of_ms and stored != value)
    }  # fmt: skip
