"""The shapes of answers about features: their values, and what makes a value up."""

from __future__ import annotations

from pydantic import Field

from decision_service.api.answers import Answered


class FeatureAnswer(Answered):
    """A feature's value with its definition; a null one says why."""

    value: float | None
    unit: str
    meaning: str
    definition: str
    null_code: str
    null_cause: str | None


class FeaturesAnswer(Answered):
    """Features of a customer at an instant."""

    customer_id: str
    at: str
    policy_id: str
    features: dict[str, FeatureAnswer]


class MeaningAnswer(Answered):
    """A meaning in two languages."""

    en: str
    zh: str


class WindowAnswer(Answered):
    """A window's edges in the business time zone: after (exclusive, null for all history) until (inclusive).
    `truncated`: events inside it have been trimmed from the log."""

    label: str
    after: str | None
    until: str
    truncated: bool


class ContributingEvent(Answered):
    """One event inside a feature's window. `role` is `of` for the events the feature is made of, else the row's key
    whose segment it is in (after, since, while ...). `contribution` is what it adds; null where all events decide
    together. Digests of ids that are not known here are told in hex after `#`."""

    occurred_at: str
    role: str
    seq: int | None = Field(description="Position in the log; null for the request itself.")
    kind: str
    status: str | None = Field(description="Effective at the instant asked about.")
    amount: float
    value: float | None
    contribution: float | None
    channel: str | None
    category: str | None
    facility: str | None
    device: str | None
    payee: str | None
    customer: str | None
    label: str | None


class FeaturePart(Answered):
    """An input, or a feature that is a part of another; with `deep` a part has all that the feature itself has."""

    name: str
    sort: str
    value: float | None
    unit: str
    null_cause: str | None
    grain: str | None = None
    meaning: MeaningAnswer | None = None
    formula: str | None = None
    null: str | None = None
    null_rule: str | None = None
    window: WindowAnswer | None = None
    segments: dict[str, str] | None = None
    events: list[ContributingEvent] | None = None
    events_total: int | None = None
    parts: list[FeaturePart] | None = None


class FeatureExplanation(Answered):
    """A feature of a customer, the events and parts that make it up, and why it is unknown if it is."""

    customer_id: str
    facility_id: str | None
    at: str
    time_zone: str
    policy_id: str
    currency: str
    name: str
    sort: str
    value: float | None
    unit: str
    grain: str
    meaning: MeaningAnswer
    formula: str
    null: str
    null_rule: str
    null_cause: str | None
    window: WindowAnswer | None
    segments: dict[str, str]
    events: list[ContributingEvent]
    events_total: int
    parts: list[FeaturePart]
