"""One generated customer: the facility, the packed log, the events as the API takes them, and the hidden
truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from decision_service.core.event import header
from decision_service.core.facility import Facility
from decision_service.core.limits import DAY_MS, RECORD_BYTES
from decision_service.portfolio import event_table
from decision_service.portfolio.event_table import CURRENCY, ApiEvents, major, rfc3339
from decision_service.portfolio.population import DUE_EVERY_D

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Line:
    """The history of one facility: its fixed terms and core banking's figures at the end of each day."""

    facility_id: str
    customer_id: str
    product: str
    apr_bps: int
    granted_at_ms: int
    expires_at_ms: int
    day0_ms: int
    outstanding_fen: Ints
    limit_fen: Ints
    days_past_due: Ints

    def facility_at(self, t_ms: int) -> Facility:
        """Core banking's snapshot at the last midnight up to `t_ms`; for a younger line, as granted."""
        day = min((t_ms - self.day0_ms) // DAY_MS, len(self.limit_fen)) - 1  # the last day that has ended
        began = self.day0_ms + (day + 1) * DAY_MS
        fresh = day < 0 or began <= self.granted_at_ms
        next_due = self._next_due(t_ms)
        outstanding = 0 if fresh else int(self.outstanding_fen[day])
        return Facility(
            facility_id=self.facility_id, customer_id=self.customer_id, product=self.product,
            currency=CURRENCY, limit_minor=int(self.limit_fen[max(day, 0)]), outstanding_minor=outstanding,
            as_of_ms=self.granted_at_ms if fresh else began, apr_bps=self.apr_bps, status="active",
            granted_at_ms=self.granted_at_ms, expires_at_ms=self.expires_at_ms, reviewed_at_ms=t_ms - (t_ms -
            self.granted_at_ms) % (180 * DAY_MS), next_due_at_ms=next_due, next_due_minor=outstanding // 10,
            days_past_due=0 if fresh else int(self.days_past_due[day]),
        )  # fmt: skip

    def _next_due(self, t_ms: int) -> int:
        step = DUE_EVERY_D * DAY_MS
        return self.granted_at_ms + ((t_ms - self.granted_at_ms) // step + 1) * step


@dataclass(frozen=True, slots=True)
class CustomerHistory:
    """One customer up to the portfolio's instant.

    `label` is the truth a model is to find: "bad" if at least 30 days past due within 90 days after the
    instant, "fraud" if the last events are not the customer's own, else "good". `pattern` names the
    application lived out, "" for most; `next_draw` is then the drawdown that completes it (a `POST
    /v1/decisions` body without request_id).
    """

    number: int
    customer_id: str
    line: Line
    facility: Facility
    log: bytes
    table: event_table.Rows
    label: str
    pattern: str
    next_draw: dict[str, Any] | None

    @property
    def events(self) -> ApiEvents:
        """The events in the form `POST /v1/events` takes, rendered as they are asked for."""
        return ApiEvents(self.number, self.table)

    def log_until(self, t_ms: int) -> bytes:
        """The log as it stood at an earlier instant."""
        records = int(np.searchsorted(self.table["at_ms"], t_ms, side="right"))
        return self.log[: RECORD_BYTES * (1 + records)]


def packed_log(table: event_table.Rows, number: int) -> bytes:
    """The log of one customer's events."""
    return header() + event_table.pack(table, number)


def api_facility(facility: Facility) -> dict[str, Any]:
    """A facility in the form `PUT /v1/facilities/{facility_id}` takes."""
    instants = {
        "as_of": facility.as_of_ms, "granted_at": facility.granted_at_ms, "expires_at":
        facility.expires_at_ms, "reviewed_at": facility.reviewed_at_ms,
    }  # fmt: skip
    body: dict[str, Any] = {
        "customer_id": facility.customer_id, "product": facility.product, "currency": facility.currency,
        "limit": major(facility.limit_minor), "outstanding": major(facility.outstanding_minor),
        "apr": facility.apr_bps / 10_000, "status": facility.status, "days_past_due": facility.days_past_due,
    }  # fmt: skip
    return body | {name: rfc3339(at) for name, at in instants.items() if at is not None}
