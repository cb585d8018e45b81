"""The shapes of request bodies. Unknown fields are refused everywhere; `null` and absent mean the same.

These models check each field by itself; what depends on several fields (a currency's decimals, the age of an
instant) is `parse.py`'s.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel

from decision_service.api.fields import (
    Accuracy,
    Address,
    Apr,
    Currency,
    DaysPastDue,
    DeadlineMs,
    Id,
    Instant,
    Latitude,
    Longitude,
    Money,
    MoneyOrZero,
    Number,
    Scalar,
    TermMonths,
)
from decision_service.core.event import CHANNELS, KINDS, STATUSES
from decision_service.core.facility import FACILITY_STATUSES
from decision_service.core.limits import (
    ATTRIBUTES_PER_CALL_MAX,
    EVENTS_PER_CALL_MAX,
)
from decision_service.core.request import SCENES

Scene = Annotated[str, Field(json_schema_extra={"enum": list(SCENES)})]
Channel = Annotated[str, Field(json_schema_extra={"enum": list(CHANNELS)})]
Kind = Annotated[str, Field(json_schema_extra={"enum": list(KINDS)})]
Status = Annotated[str, Field(json_schema_extra={"enum": list(STATUSES)})]
FacilityStatus = Literal["active", "frozen", "closed"]
assert FACILITY_STATUSES == ("active", "frozen", "closed")


class Body(BaseModel):
    """Strict, closed, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class GeoBody(Body):
    """Where the customer is."""

    lat: Latitude
    lon: Longitude
    accuracy_m: Accuracy | None = None


class FacilityBody(Body):
    """Core banking's snapshot of a credit line."""

    facility_id: Id | None = Field(None, description="If given, the id in the path or the request.")
    customer_id: Id | None = Field(None, description="Whose line it is; needed when the facility is put by itself.")
    product: Id
    currency: Currency
    limit: MoneyOrZero
    outstanding: MoneyOrZero
    as_of: Instant
    apr: Apr
    status: FacilityStatus
    granted_at: Instant
    expires_at: Instant | None = None
    reviewed_at: Instant | None = None
    next_due_at: Instant | None = None
    next_due_amount: MoneyOrZero | None = None
    days_past_due: DaysPastDue | None = None


_OF_A_REVIEW: Final[dict[str, JsonValue]] = {
    "if": {"properties": {"scene": {"enum": list(SCENES[1:])}}, "required": ["scene"]},
    "then": {"properties": {"amount": {"type": "null"}}},
    "else": {
        "required": ["amount", "currency"],
        "properties": {"amount": {"not": {"type": "null"}}, "currency": {"not": {"type": "null"}}},
    },
}


class DecisionBody(Body):
    """A question about a facility: a request to draw on it (the scene `drawdown`), or a review of it."""

    model_config = ConfigDict(json_schema_extra=_OF_A_REVIEW)

    request_id: Id = Field(description="The caller's id of this question: a repeat gets the same answer.")
    scene: Scene | None = Field(None, description="Which rule set judges: drawdown by default; all others are reviews.")
    customer_id: Id
    facility_id: Id
    amount: Money | None = Field(None, description="Of a drawdown, and only of one: a review asks for no money.")
    currency: Currency | None = Field(None, description="Of a drawdown; a review may leave it to the facility.")
    occurred_at: Instant | None = Field(None, description="When the customer asked; the server's clock by default.")
    channel: Channel | None = None
    device_id: Id | None = None
    counterparty_id: Id | None = None
    ip: Address | None = None
    purpose: Id | None = None
    geo: GeoBody | None = None
    term_months: TermMonths | None = None
    attributes: dict[Id, Scalar] | None = Field(
        None,
        max_length=ATTRIBUTES_PER_CALL_MAX,
        description="Declared outside values that hold for this request.",
    )
    facility: FacilityBody | None = Field(None, description="Current snapshot of the line: used and stored.")
    deadline_ms: DeadlineMs | None = None


class EventBody(Body):
    """An immutable fact about a customer."""

    event_id: Id
    customer_id: Id
    facility_id: Id | None = None
    kind: Kind
    status: Status | None = Field(None, description="booked by default.")
    amount: MoneyOrZero | None = None
    currency: Currency | None = Field(None, description="Needed with an amount.")
    occurred_at: Instant
    channel: Channel | None = None
    device_id: Id | None = None
    counterparty_id: Id | None = None
    ip: Address | None = None
    category: Id | None = None
    geo: GeoBody | None = None
    value: Number | None = None
    decision_id: Id | None = Field(
        None,
        description="The decision whose drawdown a drawdown event settles, a repayment, due or overdue event belongs "
        "to, or a label concerns; it reaches the device, payee and network of that drawdown by itself.",
    )
    about_event_id: Id | None = Field(
        None,
        description="The event of this customer that a label concerns, if it is no decision's drawdown. Name the "
        "device, payee and address of that event as well, for the label to reach them.",
    )


class EventsBody(Body):
    """Up to 1,000 events."""

    events: list[EventBody] = Field(min_length=1, max_length=EVENTS_PER_CALL_MAX)


class AttributeBody(Body):
    """An outside value and when it was true."""

    value: Scalar
    as_of: Instant


Text = Annotated[str, Field(json_schema_extra={"pattern": r"^[^\x00]*$"})]


class PolicyFilesBody(Body):
    """A candidate policy: file name below the rules directory to its text."""

    files: dict[Id, Text] = Field(min_length=1, max_length=1_000)


class AttributesBody(RootModel[dict[str, AttributeBody]]):
    """Declared outside values by name, at most 256."""
