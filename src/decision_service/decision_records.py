"""What a decision leaves in the customer's log, so that whatever is decided next sees it.

    drawdown      one record a drawdown, approved or held: what was paid out, or asked for
    limit         kind limit_change, value = the change in major units, amount = the new limit
    rate          kind rate_change, value = the change in basis points; of reviews only: what a drawdown is priced at
                  holds for that draw
    tier          kind other, category `warning_tier`, value = rank of the tier, 0 for none

Cooling-off times, step limits and the dwell of warning tiers are counted from these records (`core/standing.py`). Each
has a key made of the decision's id, so a decision leaves each at most once.
"""

from __future__ import annotations

import struct
from typing import Final

from decision_service.core.decision import TIER_RANK, Decision, LimitChange
from decision_service.core.event import (
    APPROVED,
    CHANNELS,
    DRAWDOWN,
    FLAG_DECIDED,
    FLAG_PLACE,
    HELD,
    KINDS,
    LIMIT_CHANGE,
    Event,
    code_key,
    counterparty_key,
    device_key,
    drawdown_key,
    event_key,
    facility_key,
)
from decision_service.core.log_search import records_with
from decision_service.core.money import SCALES
from decision_service.core.request import DRAWDOWN_SCENE, DecisionRequest
from decision_service.core.standing import TIER_CATEGORY

CHANGES: Final = ("limit", "rate", "tier")
# A record as `Event.pack` lays it out (core/event.py), for the one of every decision: an Event, frozen, costs as much
# as all else of a commit.
_RECORD: Final = struct.Struct("<qQqdBBBBIiiIIQ")


def drawdown_record(request: DecisionRequest, decision: Decision, t_ms: int) -> bytes:
    """The record of a decided drawdown: approved with what was approved, or held with what was asked for."""
    approved, geo = decision.approved_minor > 0, request.geo
    return _RECORD.pack(
        t_ms, drawdown_key(decision.decision_id), decision.approved_minor if approved else request.amount_minor,
        float(decision.decided_at_ms), DRAWDOWN, APPROVED if approved else HELD,
        CHANNELS[request.channel] if request.channel else 0,
        FLAG_DECIDED if geo is None else FLAG_DECIDED | FLAG_PLACE | geo.accuracy_class << 4,
        code_key(request.purpose) if request.purpose else 0,
        0 if geo is None else geo.lat_e6, 0 if geo is None else geo.lon_e6,
        facility_key(request.facility_id),
        device_key(request.device_id) if request.device_id else 0,
        counterparty_key(request.counterparty_id) if request.counterparty_id else 0,
    )  # fmt: skip


def exposure_key(decision_id: str) -> int:
    """Key of the one record that a customer's log holds of money that was promised under a decision, beyond what the
    decision says."""
    return event_key(f"exposure\0{decision_id}")


def exposure_record(record: bytes, key: int, amount_minor: int) -> bytes:
    """A drawdown's record once more, as approved with this amount and under another key: money that was promised
    though the log's own record of the decision says less. Nothing settles it; it reserves until it times out."""
    return record[:8] + struct.pack("<Qq", key, amount_minor) + record[24:33] + bytes([APPROVED]) + record[34:]


def change_records(decision: Decision, t_ms: int) -> bytes:
    """The records of what a decision changes beyond the drawdown: limit, price, warning tier; most change nothing."""
    records = b""
    if decision.limit_change is not None and decision.limit_change.kind != "draw_cap":
        records += limit_record(decision, decision.limit_change, t_ms)
    if decision.scene == DRAWDOWN_SCENE:
        return records
    if decision.reprice is not None:
        delta_bps = decision.reprice.to_bps - decision.reprice.from_bps
        records += _change(decision, "rate", KINDS["rate_change"], float(delta_bps), t_ms)
    if decision.tier is not None and decision.tier.recorded:
        rank = float(TIER_RANK.get(decision.tier.to_tier, 0))
        records += _change(decision, "tier", KINDS["other"], rank, t_ms, code=code_key(TIER_CATEGORY))
    return records


def limit_record(decision: Decision, change: LimitChange, t_ms: int) -> bytes:
    """The record of a limit change this service asked for, so that its cooling-off starts with the decision."""
    value = (change.to_minor - change.from_minor) / SCALES[decision.currency]
    return _change(decision, "limit", LIMIT_CHANGE, value, t_ms, amount_minor=change.to_minor)


def _change(
    decision: Decision, what: str, kind: int, value: float, t_ms: int, amount_minor: int = 0, code: int = 0
) -> bytes:
    return Event(
        key=_change_key(what, decision.decision_id), kind=kind, status=APPROVED, occurred_at_ms=t_ms,
        amount_minor=amount_minor, value=value, code=code, facility=facility_key(decision.facility_id),
    ).pack()  # fmt: skip


def _change_key(what: str, decision_id: str) -> int:
    return event_key(f"{what}\0{decision_id}")


def left_in(log: bytes, request: DecisionRequest, decision_id: str) -> bool:
    """Whether a decision has left its records in a log. A review that changed nothing leaves none."""
    if request.scene == DRAWDOWN_SCENE:
        return _holds(log, drawdown_key(decision_id))
    return any(_holds(log, _change_key(what, decision_id)) for what in CHANGES)


def _holds(log: bytes, key: int) -> bool:
    return bool(records_with(log, key.to_bytes(8, "little")))
