"""Small builders the store's tests share."""

from __future__ import annotations

from decision_service.core.event import DRAWDOWN, Event
from decision_service.core.facility import Facility
from decision_service.core.limits import PARTITIONS
from decision_service.store.keys import decision_id_of

T = 2.0  # seconds; generous, no test measures time


def record(number: int, at_ms: int = 1_700_000_000_000) -> bytes:
    """A packed event that `number` tells from others."""
    return Event(key=number + 1, kind=DRAWDOWN, status=1, occurred_at_ms=at_ms, amount_minor=number).pack()


def facility(facility_id: str = "f-1", customer_id: str = "c-1", **changes: object) -> Facility:
    """A facility with something in every mandatory field."""
    fields: dict[str, object] = {
        "facility_id": facility_id, "customer_id": customer_id, "product": "revolver", "currency": "CNY",
        "limit_minor": 1_000_000, "outstanding_minor": 1, "as_of_ms": 2, "apr_bps": 1_800, "status": "active",
        "granted_at_ms": 3, **changes,
    }  # fmt: skip
    return Facility(**fields)  # type: ignore[arg-type]


def decision_id(customer_id: str, request_id: str = "r-1") -> str:
    """The id of a decision under the default partitions."""
    return decision_id_of(customer_id, request_id, PARTITIONS)
