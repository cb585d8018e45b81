"""A question about one feature: whose, when, and what the request names that one imagines.

The same question comes from the query of a call and from the options of `features explain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from decision_service.api.fields import DECIMAL_TEXT
from decision_service.core.errors import InvalidInput
from decision_service.core.event import CHANNELS, drawdown_key, event_key
from decision_service.core.facility import Facility
from decision_service.core.limits import ID_CHARS_MAX
from decision_service.core.links import address_of
from decision_service.core.money import to_minor
from decision_service.core.request import DecisionRequest
from decision_service.core.source import nearest_name
from decision_service.core.state import CustomerState
from decision_service.store.keys import partition_of_decision

NAMED: Final = ("facility_id", "channel", "device_id", "counterparty_id", "purpose", "ip", "loan_id")
TEXTS: Final = ("amount", *NAMED)
"""What a question may name besides customer, feature and instant."""


@dataclass(frozen=True, slots=True)
class FeatureQuestion:
    """`amount` in major units; what is None is not named. `at_ms` None means now."""

    customer_id: str
    at_ms: int | None = None
    amount: Decimal = Decimal(0)
    facility_id: str | None = None
    channel: str | None = None
    device_id: str | None = None
    counterparty_id: str | None = None
    purpose: str | None = None
    ip: str | None = None
    loan_id: str | None = None  # of a decision, or of the event of a drawdown


def read_question(customer_id: str, at_ms: int | None, texts: Mapping[str, str]) -> FeatureQuestion:
    """The question in texts by name (of TEXTS). InvalidInput names what is wrong."""
    for name in ("facility_id", "device_id", "counterparty_id", "purpose", "loan_id"):
        if name in texts and not 1 <= len(texts[name]) <= ID_CHARS_MAX:
            raise InvalidInput(name, f"must have 1 to {ID_CHARS_MAX} characters")
    amount, channel = texts.get("amount", "0"), texts.get("channel")
    if not DECIMAL_TEXT.fullmatch(amount):
        raise InvalidInput("amount", "must be a plain decimal such as 4990.00")
    if channel is not None and channel not in CHANNELS:
        near = nearest_name(channel, CHANNELS)
        raise InvalidInput("channel", "unknown channel" + (f": did you mean {near}?" if near else ""))
    if "ip" in texts:
        try:
            address_of(texts["ip"])
        except ValueError:
            raise InvalidInput("ip", "must be an IPv4 or IPv6 address") from None
    named = {name: texts[name] for name in NAMED if name in texts}
    return FeatureQuestion(customer_id, at_ms, Decimal(amount), **named)


def imagined_request(question: FeatureQuestion, facility: Facility, t_ms: int) -> DecisionRequest:
    """The request the question is about. InvalidInput for an amount the currency does not have."""
    return DecisionRequest(
        request_id="", customer_id=question.customer_id, facility_id=facility.facility_id,
        amount_minor=to_minor(question.amount, facility.currency, "amount", zero_allowed=True),
        currency=facility.currency, occurred_at_ms=t_ms, channel=question.channel, device_id=question.device_id,
        counterparty_id=question.counterparty_id, purpose=question.purpose, geo=None, term_months=None, facility=None,
        fingerprint=b"", body=b"", ip=question.ip, loan=loan_key(question.loan_id) if question.loan_id else 0,
    )  # fmt: skip


def loan_key(loan_id: str) -> int:
    """Key of a drawdown by the id of its decision, or by that of its event if core banking told of it."""
    return event_key(loan_id) if partition_of_decision(loan_id) is None else drawdown_key(loan_id)


def facility_for(customer_id: str, state: CustomerState, facility_id: str | None, t_ms: int) -> Facility:
    """The facility a question is about: the one it names, else the first, else one of nothing that was never granted.

    InvalidInput for another customer's facility.
    """
    if facility_id is not None:
        if facility_id not in state.facilities:
            raise InvalidInput("facility_id", "not a facility of this customer")
        return state.facilities[facility_id]
    if state.facilities:
        return state.facilities[min(state.facilities)]
    return Facility("", customer_id, "", "CNY", 0, 0, t_ms, 0, "active", t_ms)
