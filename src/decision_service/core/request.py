"""A request, parsed and checked: the question that a decision answers.

A *scene* is the sort of question. `drawdown` asks for money; all others are *reviews* of a line, for which nobody asks
for anything: their amount is 0, and their currency is the facility's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from decision_service.core.event import Event, Geo
from decision_service.core.facility import Facility

DRAWDOWN_SCENE: Final = "drawdown"
SCENES: Final = (DRAWDOWN_SCENE, "warning", "limit", "price", "marketing", "renewal")


@dataclass(slots=True)  # not frozen: that would take 3 us a request
class DecisionRequest:
    """One question about a facility: a request to draw on it, or a review of it. Nobody changes one.

    `amount_minor` is in minor units of `currency`, which a review may leave empty: it is the facility's.
    `occurred_at_ms` is None when the caller left it to our clock.
    `fingerprint` digests the content as the caller meant it (key order, white space, `1.0` against `1` do not count;
    `deadline_ms` neither), so that one `request_id` cannot ask two questions. `body` is the request as received.
    """

    request_id: str
    customer_id: str
    facility_id: str
    amount_minor: int
    currency: str
    occurred_at_ms: int | None
    channel: str | None
    device_id: str | None
    counterparty_id: str | None
    purpose: str | None
    geo: Geo | None
    term_months: int | None
    facility: Facility | None
    fingerprint: bytes
    body: bytes
    attributes: Mapping[str, float | str] = field(default_factory=dict)
    ip: str | None = None
    loan: int = 0  # key of the drawdown event of the loan that the question is about; 0 for none
    scene: str = DRAWDOWN_SCENE  # of SCENES

    @property
    def is_review(self) -> bool:
        """Whether nobody asks for money."""
        return self.scene != DRAWDOWN_SCENE


@dataclass(frozen=True, slots=True)
class PostedEvent:
    """One event of a `POST /v1/events` call, parsed and checked by itself.

    `index` is its position in the call. `event.settles` is already set from `decision_id`; whether that drawdown
    exists is for the service to find out. `body` is the event as canonical JSON, for the outbox; `names` are the logs
    of the entities that the event names (`core.links.log_names`).
    """

    index: int
    event_id: str
    customer_id: str
    decision_id: str | None
    event: Event
    body: bytes
    currency: str | None = None
    names: tuple[bytes, ...] = ()
