"""The answer: a decision as the JSON that core banking reads (design.md, section 3). Money in major units."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Final

import orjson

from decision_service.core.decision import Decision
from decision_service.core.limits import DAY_MS, SECOND_MS
from decision_service.core.money import SCALES
from decision_service.core.reasons import TEXTS
from decision_service.core.request import DRAWDOWN_SCENE

_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes a caller gets. `replayed`: they were stored under this request_id before."""

    body: bytes
    replayed: bool
    decision_id: str
    outcome: str = ""
    rung: str = ""
    scene: str = DRAWDOWN_SCENE
    stages_s: tuple[float, ...] = ()  # seconds of read, features, score, rules, commit, serialise; none of a replay


@lru_cache(maxsize=1_024)
def _date(days: int) -> str:
    """The calendar date so many days after 1970-01-01."""
    return (_EPOCH + timedelta(days=days)).isoformat()


def instant(ms: int) -> str:
    """An instant as RFC 3339 in UTC with milliseconds."""
    days, ms = divmod(ms, DAY_MS)
    seconds, ms = divmod(ms, SECOND_MS)
    minutes, seconds = divmod(seconds, 60)
    return f"{_date(days)}T{minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{ms:03}Z"


def day(ms: int, utc_offset_ms: int) -> str:
    """The local calendar date of an instant."""
    return _date((ms + utc_offset_ms) // DAY_MS)


def answer_of(decision: Decision, latency_us: int, utc_offset_ms: int = 0) -> dict[str, Any]:
    """The answer's fields in their documented order. `latency_us` is the time up to the commit."""
    scale = SCALES[decision.currency]
    change, reprice, tier = decision.limit_change, decision.reprice, decision.tier
    return {
        "decision_id": decision.decision_id,
        "request_id": decision.request_id,
        "customer_id": decision.customer_id,
        "facility_id": decision.facility_id,
        "scene": decision.scene,
        "decision": decision.decision,
        "approved_amount": decision.approved_minor / scale,
        "currency": decision.currency,
        "hold": decision.hold
        and {
            "kind": decision.hold,
            "expires_at": None if decision.hold_expires_at_ms is None else instant(decision.hold_expires_at_ms),
        },
        "reprice": reprice
        and {
            "from": reprice.from_bps / 10_000,
            "to": reprice.to_bps / 10_000,
            "delta_bps": reprice.to_bps - reprice.from_bps,
            "scope": "new_draws",
        },
        "limit_change": change
        and {
            "kind": change.kind,
            "from": change.from_minor / scale,
            "to": change.to_minor / scale,
            "effective_date": day(decision.decided_at_ms, utc_offset_ms),
        },
        "tier": tier and {"from": tier.from_tier, "to": tier.to_tier, "indicators": list(tier.indicators)},
        "renewal": decision.renewal,
        "alerts": [{"tier": alert.tier, "indicator": alert.indicator} for alert in decision.alerts],
        "offers": [{"name": name} for name in decision.offers],
        "tags": list(decision.tags),
        "reasons": [{"code": r.code, "text": TEXTS[r.code], "source": r.source} for r in decision.reasons],
        "scores": {
            name: {"points": score.points, "pd": score.pd, "grade": score.grade}
            for name, score in decision.scores.items()
        },
        "policy": {"id": decision.policy_id, "label": decision.policy_label},
        "rung": decision.rung,
        "missing": list(decision.missing),
        "decided_at": instant(decision.decided_at_ms),
        "latency_ms": latency_us / 1000,
    }


def answer_bytes(decision: Decision, latency_us: int, utc_offset_ms: int = 0) -> bytes:
    """The answer as JSON, the very bytes that are stored and that every repeat of the request gets."""
    return orjson.dumps(answer_of(decision, latency_us, utc_offset_ms))
