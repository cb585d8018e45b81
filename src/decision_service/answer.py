"""The answer: a decision as the JSON that core banking reads (design.md, section 3). Money in major units."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from decision_service.core.decision import Decision
from decision_service.core.limits import DAY_MS, SECOND_MS
from decision_service.core.money import SCALES
from decision_service.core.reasons import TEXTS, Reason
from decision_service.core.request import DRAWDOWN_SCENE

_EPOCH: Final = date(1970, 1, 1)


class Answer(NamedTuple):
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


@lru_cache(maxsize=1_024)
def _second(seconds: int) -> str:
    """An instant in whole seconds UTC, without its zone."""
    days, seconds = divmod(seconds, DAY_MS // SECOND_MS)
    minutes, seconds = divmod(seconds, 60)
    return f"{_date(days)}T{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


def instant(ms: int) -> str:
    """An instant as RFC 3339 in UTC with milliseconds."""
    return f"{_second(ms // SECOND_MS)}.{ms % SECOND_MS:03}Z"


def day(ms: int, utc_offset_ms: int) -> str:
    """The local calendar date of an instant."""
    return _date((ms + utc_offset_ms) // DAY_MS)


@lru_cache(maxsize=4_096)
def _reasons(reasons: tuple[Reason, ...]) -> orjson.Fragment:
    """Reasons as JSON: the same few again and again."""
    return orjson.Fragment(
        orjson.dumps([{"code": reason.code, "text": TEXTS[reason.code], "source": reason.source} for reason in reasons])
    )


def answer_of(decision: Decision, latency_us: int, utc_offset_ms: int = 0) -> dict[str, Any]:
    """The answer's fields in their documented order, as orjson takes them. `latency_us` is the time up to the commit.

    Taken apart at once, and without a loop over what nearly every decision has none of: this is on the way of each.
    """
    (
        decision_id, request_id, customer_id, facility_id, outcome, approved_minor, currency, hold, hold_expires_at_ms,
        reprice, change, alerts, offers, tags, reasons, scores, policy_id, policy_label, rung, missing, decided_at_ms,
        scene, tier, renewal, _,
    ) = decision  # fmt: skip
    scale = SCALES[currency]
    return {
        "decision_id": decision_id,
        "request_id": request_id,
        "customer_id": customer_id,
        "facility_id": facility_id,
        "scene": scene,
        "decision": outcome,
        "approved_amount": approved_minor / scale,
        "currency": currency,
        "hold": hold
        and {
            "kind": hold,
            "expires_at": None if hold_expires_at_ms is None else instant(hold_expires_at_ms),
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
            "effective_date": day(decided_at_ms, utc_offset_ms),
        },
        "tier": tier and {"from": tier.from_tier, "to": tier.to_tier, "indicators": tier.indicators},
        "renewal": renewal,
        "alerts": [{"tier": alert.tier, "indicator": alert.indicator} for alert in alerts] if alerts else (),
        "offers": [{"name": name} for name in offers] if offers else (),
        "tags": tags,
        "reasons": _reasons(reasons),
        "scores": {
            name: {"points": score.points, "pd": score.pd, "grade": score.grade} for name, score in scores.items()
        },
        "policy": {"id": policy_id, "label": policy_label},
        "rung": rung,
        "missing": missing,
        "decided_at": instant(decided_at_ms),
        "latency_ms": latency_us / 1000,
    }


def answer_bytes(decision: Decision, latency_us: int, utc_offset_ms: int = 0) -> bytes:
    """The answer as JSON, the very bytes that are stored and that every repeat of the request gets."""
    return orjson.dumps(answer_of(decision, latency_us, utc_offset_ms))
