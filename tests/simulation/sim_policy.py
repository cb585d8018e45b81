"""The small real policies that are decided with, and the questions that are asked.

`PLAIN` looks at the customer alone, `LINKED` at a device that customers share as well: without its log it cannot tell,
and then holds. Both have a fallback that pays small amounts.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the commands here; the tests have it already

import orjson

from decision_service.core.event import BOOKED, DRAWDOWN, REPAYMENT, Event, drawdown_key, event_key, facility_key
from decision_service.core.facility import Facility
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.policy import Policy
from decision_service.core.request import DecisionRequest, PostedEvent
from decision_service.policies.loading import load_policy
from decision_service.warm import warm
from small_policy import FEATURES, write_rules

T0_MS: Final = 1_795_000_000_000  # 2026-11-18
SNAPSHOT_MS: Final = T0_MS - 600_000  # when core banking last told of the lines
RESERVATION_MS: Final = 24 * HOUR_MS
SMALL_MINOR: Final = 50_00
LIMIT_MINOR: Final = 1_000_00
AMOUNTS_MINOR: Final = (20_00, 45_00, 300_00, 600_00, 970_00)  # with a small one beside it the last is too much

_RULES = """
rule_set: drawdown
scene: drawdown
constants:
  burst: {{value: 3, unit: n}}
  crowd: {{value: 2, unit: n}}
rules:
  - id: on_list
    when: request.customer_id in list.block
    on_null: hold
    then: {{hold: block}}
    reason: RC01
  - id: over_limit
    when: request.amount > facility.available
    on_null: hold
    then: {{hold: block}}
    reason: RC04
  - id: burst
    when: vel_prior_10m >= burst
    on_null: hold
    then: {{hold: step_up}}
    reason: RC11
{more}
  - id: otherwise
    when: request.amount > 0
    on_null: skip
    then: approve
fallback: {{static: {{hold: review, reason: RC90}}, small_amount: 50}}
"""
_CROWD = """
  - id: crowded_device
    when: sharers_24h >= crowd
    on_null: hold
    then: {hold: review}
    reason: RC11
"""
_SHARERS = """
  sharers: {agg: distinct, of: draw, by: customer, grain: device, windows: [24h], null: [Z, X],
    unit: n, en: "customers of the device", zh: "同设备客户数"}
"""


@cache
def policies() -> tuple[Policy, Policy]:
    """PLAIN and LINKED, compiled and warm; once a process."""
    return _compiled("", FEATURES), _compiled(_CROWD, FEATURES.rstrip() + _SHARERS)


def _compiled(more: str, features: str) -> Policy:
    rules = _RULES.format(more=more)
    if not more:
        rules = rules.replace("  crowd: {value: 2, unit: n}\n", "")
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        models.mkdir()
        policy, _ = load_policy(write_rules(Path(folder) / "rules", rules, features), models, "Asia/Shanghai",
                                RESERVATION_MS)  # fmt: skip
    warm(policy)
    return policy


@cache
def line_of(customer: int, limit_minor: int = LIMIT_MINOR, later_ms: int = 0, status: str = "active") -> Facility:
    """The line of a customer as core banking tells it; nothing was drawn on it when the world began."""
    return Facility(
        f"f-{customer}", f"c-{customer}", "revolver", "CNY", limit_minor, 0, SNAPSHOT_MS + later_ms, 1_800, status,
        T0_MS - 90 * DAY_MS, days_past_due=0,
    )  # fmt: skip


@cache
def question(
    customer: int, number: int, amount_minor: int, snapshot: bool, device: bool, dated_back_ms: int, other: bool
) -> DecisionRequest:
    """A drawdown request. `other`: with other content under the same id."""
    asked = DecisionRequest(
        f"r-{number}", f"c-{customer}", f"f-{customer}", amount_minor + (1 if other else 0), "CNY",
        T0_MS - dated_back_ms if dated_back_ms else None, None, "d-1" if device else None, None, None, None, None,
        line_of(customer) if snapshot else None, b"", b"",
    )  # fmt: skip
    body = {"request_id": asked.request_id, "customer_id": asked.customer_id, "device_id": asked.device_id}
    asked = replace(asked, body=orjson.dumps(body))
    return replace(asked, fingerprint=blake2b(repr(asked).encode(), digest_size=16).digest())


def settlement(name: str, customer: int, decision_id: str, status: int, at_ms: int) -> PostedEvent:
    """What became of an approved drawdown: booked, failed or cancelled."""
    event = Event(event_key(name), DRAWDOWN, status, at_ms, settles=drawdown_key(decision_id))
    return PostedEvent(0, name, f"c-{customer}", decision_id, event, name.encode(), None)


def repayment(name: str, customer: int, amount_minor: int, at_ms: int) -> PostedEvent:
    """Money that came back."""
    event = Event(event_key(name), REPAYMENT, BOOKED, at_ms, amount_minor, facility=facility_key(f"f-{customer}"))
    return PostedEvent(0, name, f"c-{customer}", None, event, name.encode(), "CNY")
