"""From bytes to the types of `core`: the checks that need several fields, and the fingerprint of a request.

Instants: nothing may be dated further ahead than `clock_ahead_max_ms`; a drawdown not further back than
`request_age_max_ms`, an event or snapshot not further than ten years.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from decision_service.api.bodies import (
    AttributeBody,
    DecisionBody,
    EventBody,
    FacilityBody,
    GeoBody,
    PolicyFilesBody,
)
from decision_service.api.json_body import read_object
from decision_service.api.plain import plain_draw
from decision_service.core.errors import InvalidInput
from decision_service.core.event import (
    APPROVED,
    CHANNELS,
    DRAWDOWN,
    HELD,
    KINDS,
    STATUSES,
    Event,
    Geo,
    accuracy_class,
    code_key,
    counterparty_key,
    device_key,
    drawdown_key,
    event_key,
    facility_key,
)
from decision_service.core.facility import Attribute, Facility
from decision_service.core.limits import ATTRIBUTES_PER_CALL_MAX, EVENT_AGE_MAX_MS, EVENTS_PER_CALL_MAX
from decision_service.core.links import log_names
from decision_service.core.money import exponent_of, to_minor
from decision_service.core.request import DRAWDOWN_SCENE, SCENES, DecisionRequest, PostedEvent
from decision_service.core.source import nearest_name
from decision_service.store.keys import partition_of_decision

MOVES_MONEY: Final = frozenset({"drawdown", "repayment", "purchase", "transfer_in", "transfer_out"})
CONCERNS_A_DRAWDOWN: Final = ("drawdown", "repayment", "due", "overdue", "label")
_Model = TypeVar("_Model", bound=BaseModel)
_EMPTY_PRINT: Final = blake2b(digest_size=16, person=b"request")
_ATTRIBUTES: Final = TypeAdapter(dict[str, AttributeBody])


class Clock(NamedTuple):
    """Now, and how far from it a caller's instants may lie; all ms."""

    now_ms: int
    ahead_max_ms: int
    request_age_max_ms: int

    def check(self, at_ms: int | None, field: str, age_max_ms: int | None = None) -> None:
        """Raise InvalidInput if an instant lies too far ahead or (with an age) too far back."""
        if at_ms is None:
            return
        if at_ms > self.now_ms + self.ahead_max_ms:
            raise InvalidInput(field, "must not lie in the future")
        if age_max_ms is not None and at_ms < self.now_ms - age_max_ms:
            raise InvalidInput(field, f"must not lie more than {age_max_ms // 86_400_000} days back")


def parse_decision(body: bytes, clock: Clock) -> tuple[DecisionRequest, int | None]:
    """The request in a body and its deadline_ms. Raises InvalidInput, MalformedBody."""
    return parse_question(body, lambda: clock)


def parse_question(body: bytes, clock: Callable[[], Clock]) -> tuple[DecisionRequest, int | None]:
    """The same; the clock is looked at only if there is an instant to check."""
    plain = plain_draw(body)
    if plain is None:
        return parse_closely(body, clock())
    (
        request_id, customer_id, facility_id, amount_minor, currency, occurred_at, channel, device_id, counterparty_id,
        ip, purpose, place, term_months, attributes, deadline_ms,
    ) = plain  # fmt: skip
    if occurred_at is not None:
        now = clock()
        now.check(occurred_at, "occurred_at", now.request_age_max_ms)
    if channel is not None:
        _one_of(channel, CHANNELS, "channel")
    content = [
        customer_id, facility_id, amount_minor, currency, occurred_at, channel, device_id, counterparty_id, purpose,
        place, term_months, sorted(attributes.items()) if attributes else None, None,
    ]  # fmt: skip
    request = DecisionRequest(
        request_id, customer_id, facility_id, amount_minor, currency, occurred_at, channel, device_id, counterparty_id,
        purpose, None if place is None else _geo(*place), term_months, None,
        _digest(content, ip, DRAWDOWN_SCENE), body, attributes or {}, ip,
    )  # fmt: skip
    return request, deadline_ms


def parse_closely(body: bytes, clock: Clock) -> tuple[DecisionRequest, int | None]:
    """The same of any body, plain or not."""
    asked = _validated(DecisionBody, read_object(body))
    scene = DRAWDOWN_SCENE if asked.scene is None else _scene(asked.scene)
    amount_minor, currency = _money_asked(asked) if scene == DRAWDOWN_SCENE else _none_asked(asked)
    clock.check(asked.occurred_at, "occurred_at", clock.request_age_max_ms)
    _one_of(asked.channel, CHANNELS, "channel")
    facility = None
    if asked.facility is not None:
        facility = _facility(asked.facility, asked.facility_id, asked.customer_id, clock, "facility.")
        if facility.currency != currency and currency:
            raise InvalidInput("currency", "is not the currency of the facility")
    request = DecisionRequest(
        asked.request_id, asked.customer_id, asked.facility_id, amount_minor, currency,
        asked.occurred_at, asked.channel, asked.device_id, asked.counterparty_id, asked.purpose,
        _geo_of(asked.geo), asked.term_months, facility, _fingerprint(asked, scene, amount_minor, facility), body,
        asked.attributes or {}, asked.ip, scene=scene,
    )  # fmt: skip
    return request, asked.deadline_ms


def _scene(name: str) -> str:
    if name in SCENES:
        return name
    near = nearest_name(name, SCENES)
    raise InvalidInput("scene", "must be one of " + ", ".join(SCENES) + (f": did you mean {near}?" if near else ""))


def _money_asked(asked: DecisionBody) -> tuple[int, str]:
    """Amount in minor units and currency of a drawdown."""
    if asked.amount is None:
        raise InvalidInput("amount", "Field required")
    if asked.currency is None:
        raise InvalidInput("currency", "Field required")
    return to_minor(asked.amount, asked.currency, "amount"), asked.currency


def _none_asked(asked: DecisionBody) -> tuple[int, str]:
    """The same of a review, for which nobody asks for money; the currency may be left to the facility."""
    if asked.amount is not None:
        raise InvalidInput("amount", f"is of drawdowns only: the scene {asked.scene} asks for no money")
    if asked.currency is not None:
        exponent_of(asked.currency, "currency")
    return 0, asked.currency or ""


def parse_facility(body: bytes, facility_id: str, clock: Clock) -> Facility:
    """The facility put under an id. Raises InvalidInput, MalformedBody."""
    sent = _validated(FacilityBody, read_object(body))
    if sent.customer_id is None:
        raise InvalidInput("customer_id", "Field required")
    return _facility(sent, facility_id, sent.customer_id, clock, "")


def parse_attributes(body: bytes, clock: Clock) -> dict[str, Attribute]:
    """Attributes by name; whether the names are declared is for the service to say."""
    value = read_object(body)
    if not 1 <= len(value) <= ATTRIBUTES_PER_CALL_MAX:
        raise InvalidInput("", f"must hold 1 to {ATTRIBUTES_PER_CALL_MAX} attributes")
    try:
        sent = _ATTRIBUTES.validate_python(value)
    except ValidationError as error:
        raise _invalid(error, "") from None
    for name, attribute in sent.items():
        clock.check(attribute.as_of, f"{name}.as_of", EVENT_AGE_MAX_MS)
    return {name: Attribute(attribute.value, attribute.as_of) for name, attribute in sent.items()}


def parse_policy_files(body: bytes) -> Mapping[str, str]:
    """The candidate policy in a body."""
    return _validated(PolicyFilesBody, read_object(body)).files


def read_events(body: bytes) -> Sequence[object]:
    """The list in an events body, its members still unchecked. Raises InvalidInput, MalformedBody."""
    value = read_object(body)
    for name in value:
        if name != "events":
            raise InvalidInput(name, "Extra inputs are not permitted")
    events = value.get("events")
    if not isinstance(events, list) or not 1 <= len(events) <= EVENTS_PER_CALL_MAX:
        raise InvalidInput("events", f"must be a list of 1 to {EVENTS_PER_CALL_MAX} events")
    return events


def parse_event(value: object, index: int, clock: Clock) -> PostedEvent:
    """One event of a call. Raises InvalidInput; its field starts with `events.<index>`."""
    path = f"events.{index}"
    sent = _validated(EventBody, value, path)
    _one_of(sent.kind, KINDS, f"{path}.kind")
    _one_of(sent.status, STATUSES, f"{path}.status")
    _one_of(sent.channel, CHANNELS, f"{path}.channel")
    clock.check(sent.occurred_at, f"{path}.occurred_at", EVENT_AGE_MAX_MS)
    event = Event(
        key=event_key(sent.event_id), kind=KINDS[sent.kind], status=STATUSES[sent.status or "booked"],
        occurred_at_ms=sent.occurred_at, amount_minor=_event_amount(sent, path),
        value=float("nan") if sent.value is None else sent.value,
        channel=CHANNELS[sent.channel] if sent.channel else 0,
        facility=facility_key(sent.facility_id) if sent.facility_id else 0,
        device=device_key(sent.device_id) if sent.device_id else 0,
        counterparty=counterparty_key(sent.counterparty_id) if sent.counterparty_id else 0,
        code=code_key(sent.category) if sent.category else 0, geo=_geo_of(sent.geo), settles=_concerned(sent, path),
    )  # fmt: skip
    canonical = _canonical(value, sent)
    names = log_names(sent.device_id, sent.counterparty_id, sent.ip)
    return PostedEvent(index, sent.event_id, sent.customer_id, sent.decision_id, event, canonical, sent.currency, names)


def _canonical(value: object, sent: EventBody) -> bytes:
    """An event as JSON, numbers as floats or as integers of 64 bits."""
    if isinstance(value, dict) and abs(sent.value or 0.0) >= 2.0**63:
        value = {**value, "value": sent.value}
    return orjson.dumps(value, default=float, option=orjson.OPT_SORT_KEYS)


def _event_amount(sent: EventBody, path: str) -> int:
    if sent.amount is None:
        if sent.kind in MOVES_MONEY and (sent.decision_id is None or sent.kind != "drawdown"):
            raise InvalidInput(f"{path}.amount", f"is needed for a {sent.kind}")
        return 0
    if sent.currency is None:
        raise InvalidInput(f"{path}.currency", "is needed with an amount")
    exponent_of(sent.currency, f"{path}.currency")
    return to_minor(sent.amount, sent.currency, f"{path}.amount", zero_allowed=sent.kind not in MOVES_MONEY)


def _concerned(sent: EventBody, path: str) -> int:
    """Key of the drawdown that an event settles or concerns, or of the event that a label concerns; 0 for none."""
    if sent.about_event_id is not None:
        if sent.kind != "label":
            raise InvalidInput(f"{path}.about_event_id", "only a label concerns another event")
        if sent.decision_id is not None:
            raise InvalidInput(f"{path}.about_event_id", "a label concerns an event or a decision, not both")
        return event_key(sent.about_event_id)
    if sent.decision_id is None:
        return 0
    if sent.kind not in CONCERNS_A_DRAWDOWN:
        raise InvalidInput(f"{path}.decision_id", "only of " + ", ".join(CONCERNS_A_DRAWDOWN))
    if KINDS[sent.kind] == DRAWDOWN and STATUSES[sent.status or "booked"] in (APPROVED, HELD):
        raise InvalidInput(f"{path}.status", "a settlement is booked, failed or cancelled")
    if partition_of_decision(sent.decision_id) is None:
        raise InvalidInput(f"{path}.decision_id", "is not the id of a decision")
    return drawdown_key(sent.decision_id)


def _facility(sent: FacilityBody, facility_id: str, customer_id: str, clock: Clock, path: str) -> Facility:
    if sent.facility_id not in (None, facility_id):
        raise InvalidInput(f"{path}facility_id", "is not the facility this is about")
    if sent.customer_id not in (None, customer_id):
        raise InvalidInput(f"{path}customer_id", "is not the customer this is about")
    exponent_of(sent.currency, f"{path}currency")
    clock.check(sent.as_of, f"{path}as_of", EVENT_AGE_MAX_MS)
    clock.check(sent.granted_at, f"{path}granted_at")
    clock.check(sent.reviewed_at, f"{path}reviewed_at")

    def minor(name: str) -> int:
        return to_minor(getattr(sent, name), sent.currency, path + name, zero_allowed=True)

    return Facility(
        facility_id, customer_id, sent.product, sent.currency, minor("limit"), minor("outstanding"),
        sent.as_of, sent.apr, sent.status, sent.granted_at, sent.expires_at, sent.reviewed_at,
        sent.next_due_at, None if sent.next_due_amount is None else minor("next_due_amount"),
        sent.days_past_due,
    )  # fmt: skip


def _geo_of(sent: GeoBody | None) -> Geo | None:
    return None if sent is None else _geo(sent.lat, sent.lon, sent.accuracy_m)


def _geo(lat: float, lon: float, accuracy_m: float | None) -> Geo:
    return Geo(round(lat * 1e6), round(lon * 1e6), accuracy_class(accuracy_m))


def _fingerprint(asked: DecisionBody, scene: str, amount_minor: int, facility: Facility | None) -> bytes:
    """16 bytes over what was asked, each value in one form, in a fixed order; without request_id and
    deadline_ms."""
    geo = asked.geo
    content = [
        asked.customer_id, asked.facility_id, amount_minor, asked.currency, asked.occurred_at, asked.channel,
        asked.device_id, asked.counterparty_id, asked.purpose,
        None if geo is None else (geo.lat, geo.lon, geo.accuracy_m), asked.term_months,
        sorted(asked.attributes.items()) if asked.attributes else None,
        None if facility is None else astuple(facility),
    ]  # fmt: skip
    return _digest(content, asked.ip, scene)


def _digest(content: list[Any], ip: str | None, scene: str) -> bytes:
    if ip is not None:  # last, and only if given: requests without one keep their print
        content.append(ip)
    if scene != DRAWDOWN_SCENE:  # likewise: drawdowns keep their print
        content.append({"scene": scene})
    digest = _EMPTY_PRINT.copy()
    digest.update(orjson.dumps(content))
    return digest.digest()


def _validated(model: type[_Model], value: object, path: str = "") -> _Model:
    try:
        return model.__pydantic_validator__.validate_python(value)  # type: ignore[no-any-return]
    except ValidationError as error:
        raise _invalid(error, path) from None


def _invalid(error: ValidationError, path: str) -> InvalidInput:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    parts = [str(part) for part in first["loc"] if part != "[key]"]
    return InvalidInput(".".join([path, *parts] if path else parts), first["msg"])


def _one_of(value: str | None, known: Mapping[str, int], field: str) -> None:
    if value is not None and value not in known:
        raise InvalidInput(field, "must be one of " + ", ".join(known))
