"""The static answer: what is said of a request when nothing about its customer can be read.

    decide_static(request, policy, now_ms, decision_id, small_allowed) -> Decision

It is as pure as `decide`, and reads nothing but the request and the rule set of its scene:

    fallback:
      static: {hold: review, reason: RC90}       said of everything, but for
      small_amount: 500                          a drawdown up to this, if its own snapshot of the facility is clean

Unknown is never approve. A small amount is paid only on what core banking itself said in the request, and at a moment
ago: `is_clean` lists what a snapshot must show. What it cannot show is what this service approved since; therefore
only one small amount of a customer may be under way at a time, and none beside another approval; whoever calls says so
(`small_allowed`; `static_answers.py` sees to it for one host. Hosts cannot see each other without the store: each may
pay one). A customer, device or payee that stands on any list of the policy is held: which lists are meant well is for
rules to say, and rules were not asked.

No rule, feature or scorecard had a part in it, so its trace holds no numbers and no verdicts. Its one cell is the
source of the answer: `fallback:static` or `fallback:small_amount`.

A review may leave its currency to the facility. If its snapshot does not tell it either, there is no answer: an amount
without a currency is none. Money in minor units, instants in ms UTC.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from decision_service.core.decision import Decision, Trace
from decision_service.core.errors import StoreUnavailable
from decision_service.core.facility import Facility
from decision_service.core.limits import HOUR_MS
from decision_service.core.money import SCALES
from decision_service.core.policy import Policy
from decision_service.core.reasons import Reason
from decision_service.core.request import DecisionRequest

STATIC: Final = "fallback:static"
SMALL_AMOUNT: Final = "fallback:small_amount"
SNAPSHOT_AGE_MAX_MS: Final = HOUR_MS  # of a snapshot that money is paid on; an older one misses too much
NOTHING_SEEN: Final = -1  # sequence number and version in the trace of a decision that saw no state


def decide_static(
    request: DecisionRequest, policy: Policy, now_ms: int, decision_id: str, *, small_allowed: bool
) -> Decision:
    """The decision on one question of which nothing is known but itself.

    Raises InvalidInput for a scene the policy does not have, StoreUnavailable if no currency is known.
    """
    scene = policy.scenes[request.scene]
    fallback = scene.rule_set.fallback
    request = in_currency(request)
    small = small_allowed and may_be_paid(request, policy, now_ms)
    expiry_ms = None if small else scene.rule_set.guardrails.hold_expiry_ms(fallback.hold, now_ms)
    source = SMALL_AMOUNT if small else STATIC
    return Decision(
        decision_id=decision_id, request_id=request.request_id, customer_id=request.customer_id,
        facility_id=request.facility_id, decision="approve" if small else "hold",
        approved_minor=request.amount_minor if small else 0, currency=request.currency,
        hold=None if small else fallback.hold, hold_expires_at_ms=None if expiry_ms is None else now_ms + expiry_ms,
        reprice=None, limit_change=None, alerts=(), offers=(), tags=(),
        reasons=() if small or not fallback.reason else (Reason(fallback.reason, source),),
        scores={}, policy_id=policy.id, policy_label=policy.label, rung="static", missing=(), decided_at_ms=now_ms,
        scene=scene.name, trace=Trace(b"", (), b"", (source,), NOTHING_SEEN, NOTHING_SEEN),
    )  # fmt: skip


def in_currency(request: DecisionRequest) -> DecisionRequest:
    """The request with its currency; StoreUnavailable if only the store could tell it."""
    if request.currency:
        return request
    if request.facility is None:
        raise StoreUnavailable("the facility's currency is not known without the store")
    return replace(request, currency=request.facility.currency)


def may_be_paid(request: DecisionRequest, policy: Policy, now_ms: int) -> bool:
    """Whether a drawdown is small enough, and its customer's line clean enough, to be paid without being judged."""
    if request.is_review or request.facility is None or not request.currency:
        return False
    small_minor = policy.scenes[request.scene].rule_set.fallback.small_amount * SCALES[request.currency]
    if not 0 < request.amount_minor <= small_minor:
        return False
    t_ms = now_ms if request.occurred_at_ms is None else request.occurred_at_ms
    return is_clean(request.facility, request, max(t_ms, now_ms)) and not _is_listed(request, policy)


def is_clean(facility: Facility, request: DecisionRequest, t_ms: int) -> bool:
    """Whether a snapshot shows this customer's active line, taken lately, not past due and with room for the amount."""
    return (
        (facility.facility_id, facility.customer_id) == (request.facility_id, request.customer_id)
        and facility.currency == request.currency
        and facility.status == "active"
        and facility.days_past_due == 0  # not reported is not 0
        and facility.granted_at_ms <= t_ms
        and (facility.expires_at_ms is None or facility.expires_at_ms > t_ms)
        and t_ms - facility.as_of_ms <= SNAPSHOT_AGE_MAX_MS
        and facility.limit_minor - facility.outstanding_minor >= request.amount_minor
    )


def _is_listed(request: DecisionRequest, policy: Policy) -> bool:
    named = {request.customer_id, request.device_id, request.counterparty_id}
    return any(not named.isdisjoint(values) for values in policy.lists.values())
