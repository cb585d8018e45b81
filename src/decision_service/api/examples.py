"""Examples shown in the OpenAPI document; a test posts each of them."""

from __future__ import annotations

from typing import Any, Final

from decision_service.core.request import SCENES

DECISION: Final[dict[str, Any]] = {
    "request_id": "dd-20261121-000017",
    "customer_id": "c-1001",
    "facility_id": "f-1001",
    "amount": 4990.00,
    "currency": "CNY",
    "channel": "app",
    "device_id": "d-77",
    "counterparty_id": "m-310",
    "ip": "203.0.113.7",
    "purpose": "consumption",
    "geo": {"lat": 31.23, "lon": 121.47, "accuracy_m": 20},
    "term_months": 12,
    "deadline_ms": 50,
}
DECISIONS_FOUND: Final[dict[str, Any]] = {
    "decisions": [
        {
            "decision_id": "d0a3b0a3f2c94d1e8a6b5c4d3e2f1a0b9c8d",
            "request_id": "dd-20261121-000017",
            "customer_id": "c-1001",
            "facility_id": "f-1001",
            "scene": "drawdown",
            "decision": "hold",
            "hold": "step_up",
            "asked_amount": 4990.0,
            "approved_amount": 0.0,
            "currency": "CNY",
            "reasons": ["RC10"],
            "rules": ["odd_hour_large"],
            "policy_id": "9f2c51d07a3b",
            "rung": "full",
            "decided_at": "2026-11-20T19:12:09.101Z",
            "recorded_at": "2026-11-20T19:12:09.103Z",
            "erased_at": None,
        }
    ],
    "after": "1795201929103-0.163",
    "searched_from": "2026-11-20T19:12:09.103Z",
    "archived_through": "2026-11-22T12:00:03.250Z",
    "includes_waiting": True,
}
DECISION_ANSWER: Final[dict[str, Any]] = {
    "decision_id": "0017b0a3f2c94d1e8a6b5c4d3e2f1a0b9c8d",
    "request_id": "dd-20261121-000017",
    "customer_id": "c-1001",
    "facility_id": "f-1001",
    "scene": "drawdown",
    "decision": "hold",
    "approved_amount": 0.0,
    "currency": "CNY",
    "hold": {"kind": "step_up", "expires_at": "2026-11-21T03:12:09.000Z"},
    "reprice": None,
    "limit_change": None,
    "tier": None,
    "renewal": None,
    "alerts": [{"tier": "yellow", "indicator": "odd_hour_draw"}],
    "offers": [],
    "tags": [],
    "reasons": [{"code": "RC10", "text": "Unusual hour for this customer", "source": "rule:odd_hour_large"}],
    "scores": {"behaviour": {"points": 612, "pd": 0.0135, "grade": "C"}},
    "policy": {"id": "9f2c51d07a3b", "label": "2026.11.1"},
    "rung": "full",
    "missing": [],
    "decided_at": "2026-11-20T19:12:09.000Z",
    "latency_ms": 1.8,
}
DECISIONS: Final[dict[str, dict[str, Any]]] = {
    "drawdown": DECISION,
    **{
        scene: {
            "request_id": f"{scene}-20261121-c-1001", "scene": scene, "customer_id": "c-1001", "facility_id": "f-1001"
        }
        for scene in SCENES[1:]
    },
}  # fmt: skip
"""One request a scene."""
FACILITY: Final[dict[str, Any]] = {
    "customer_id": "c-1001",
    "product": "revolving",
    "currency": "CNY",
    "limit": 50000,
    "outstanding": "12000.00",
    "as_of": "2026-11-20T18:00:00+08:00",
    "apr": 0.18,
    "status": "active",
    "granted_at": "2025-03-01T00:00:00+08:00",
    "expires_at": "2028-03-01T00:00:00+08:00",
    "next_due_at": "2026-12-05T00:00:00+08:00",
    "next_due_amount": 1250.5,
    "days_past_due": 0,
}
EVENTS: Final[dict[str, Any]] = {
    "events": [
        {
            "event_id": "rp-88",
            "customer_id": "c-1001",
            "facility_id": "f-1001",
            "kind": "repayment",
            "amount": 1250.50,
            "currency": "CNY",
            "occurred_at": "2026-11-05T09:30:00+08:00",
            "channel": "app",
        },
        {
            "event_id": "fraud-17",
            "customer_id": "c-1001",
            "kind": "label",
            "category": "fraud",
            "occurred_at": "2026-11-06T10:00:00+08:00",
            "decision_id": "d07fa191cd2ab1d9fa83ba7cc12997cb95b7",
        },
    ]
}
ATTRIBUTES: Final[dict[str, Any]] = {"bureau_inquiries_30d": {"value": 2, "as_of": "2026-11-20T18:00:00+08:00"}}
POLICY_FILES: Final[dict[str, Any]] = {"files": {"drawdown.yaml": "rule_set: drawdown\nscene: drawdown\n"}}
POLICY_VERSIONS: Final[dict[str, Any]] = {
    "versions": [
        {
            "number": 7,
            "policy_id": "552e7eed4b32",
            "label": "2026.11.2",
            "at": "2026-11-21T03:12:09.000Z",
            "by": "lin.wei",
            "origin": "publish",
            "current": True,
            "forced": False,
            "reason": None,
            "files_changed": {"added": ["features/travel.yaml"], "changed": ["drawdown.yaml"], "removed": []},
            "scorecards": {"behaviour": "2026.11.1"},
            "variants": {"behaviour": ["2026.12.1"]},
        }
    ]
}
FEATURE_EXPLANATION: Final[dict[str, Any]] = {
    "customer_id": "c-1001",
    "facility_id": "f-1001",
    "at": "2026-11-21T03:12:09.000+08:00",
    "time_zone": "Asia/Shanghai",
    "policy_id": "9f2c51d07a3b",
    "currency": "CNY",
    "name": "vol_ok_amt_24h",
    "sort": "events",
    "value": 699.0,
    "unit": "money",
    "grain": "customer",
    "meaning": {"en": "amount of successful draws", "zh": "交易成功金额"},
    "formula": "sum(amount of draw_ok)",
    "null": "Z",
    "null_rule": "0 without events: a true zero",
    "null_cause": None,
    "window": {
        "label": "24h",
        "after": "2026-11-20T03:12:09.000+08:00",
        "until": "2026-11-21T03:12:09.000+08:00",
        "truncated": False,
    },
    "segments": {"draw_ok": 'kind == "drawdown" and settled'},
    "events": [
        {
            "occurred_at": "2026-11-20T22:41:00.000+08:00",
            "role": "of",
            "seq": 41,
            "kind": "drawdown",
            "status": "approved",
            "amount": 699.0,
            "value": 699.0,
            "contribution": 699.0,
            "channel": "app",
            "category": "#9c1b04aa",
            "facility": "f-1001",
            "device": "#5d7e2210",
            "payee": None,
            "customer": "c-1001",
            "label": None,
        }
    ],
    "events_total": 1,
    "parts": [],
}
