"""What is told of an archived decision without its frame: in a list of decisions, and once its payload is erased."""

from __future__ import annotations

from typing import Any, Final

from decision_service.api.instants import format_instant
from decision_service.archive.schema import Row
from decision_service.core.money import to_major

SUMMARY_COLUMNS: Final = (
    "partition", "position", "at_ms", "at_n", "kind", "decision_id", "scene", "outcome", "hold", "asked_minor",
    "approved_minor", "currency", "decided_at_ms", "policy_id", "rung", "reasons", "rules", "customer_id",
    "request_id", "facility_id", "erased_at_ms",
)  # fmt: skip


def summary_of(row: Row) -> dict[str, Any]:
    """A decision in a list. The ids of customer, request and facility are null once they are erased."""
    return {
        "decision_id": row.decision_id, "request_id": row.request_id, "customer_id": row.customer_id,
        "facility_id": row.facility_id, "scene": row.scene, "decision": row.outcome, "hold": row.hold,
        "asked_amount": _major(row.asked_minor, row.currency),
        "approved_amount": _major(row.approved_minor, row.currency), "currency": row.currency,
        "reasons": row.reasons or [], "rules": row.rules, "policy_id": row.policy_id, "rung": row.rung,
        "decided_at": _instant(row.decided_at_ms), "recorded_at": _instant(row.at_ms),
        "erased_at": _instant(row.erased_at_ms),
    }  # fmt: skip


def remains_of(row: Row) -> dict[str, Any]:
    """What is still known of an erased decision: its summary, and the tombstone by which the chain is verified."""
    tombstone = {
        "partition": row.partition, "position": row.position, "erased_at": _instant(row.erased_at_ms),
        "personal_sha": _hex(row.personal_sha), "hash": _hex(row.hash),
    }  # fmt: skip
    return {name: value for name, value in summary_of(row).items() if value is not None} | {"tombstone": tombstone}


def _major(minor: int | None, currency: str | None) -> float | None:
    return None if minor is None or currency is None else to_major(minor, currency)


def _instant(ms: int | None) -> str | None:
    return None if ms is None else format_instant(ms)


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()
