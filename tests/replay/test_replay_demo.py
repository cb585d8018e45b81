"""What a person sees of the demo: the four outcomes, from the real service, explained."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from decision_service.demo import Shown, render

HELD = Shown(
    "Odd.",
    {"customer_id": "c-1", "amount": "1000.00", "currency": "CNY"},
    {
        "decision": "hold", "approved_amount": 0.0, "currency": "CNY",
        "hold": {"kind": "step_up", "expires_at": "2026-11-21T20:35:00Z"},
        "limit_change": {"kind": "draw_cap", "from": 1000.0, "to": 600.0},
        "reprice": {"from": 0.156, "to": 0.171}, "alerts": [{"tier": "yellow", "indicator": "odd_hour_draw"}],
        "offers": [{"name": "coupon"}], "latency_ms": 1.25,
        "reasons": [
            {"code": "RC10", "text": "Unusual hour", "source": "rule:odd"},
            {"code": "RC10", "text": "Unusual hour", "source": "rule:odder"},
        ],
        "scores": {
            "behaviour": {"points": 602, "grade": "C", "pd": 0.0182},
            "fraud": {"points": None, "grade": None, "pd": None},
        },
    },
    {
        "features": {"a": {}, "b": {}}, "cells": ["grid:C/0.80"], "bounded": ["guardrail:limit_step_max"],
        "scorecards": {
            "behaviour": {
                "problem": None,
                "contributions": [
                    {"feature": name, "value": value, "contribution": contribution}
                    for name, value, contribution in (
                        ("b", None, 0.61), ("a", 5400.0, -0.4), ("c", 3.0, 0.25), ("d", 0.5, 0.2), ("e", 1.0, 0.1),
                        ("f", 2.0, 0.05),
                    )
                ],
            },
            "fraud": {"problem": "all features null", "contributions": None},
        },
        "rules": [
            {"id": "odd", "when": "a >  1", "verdict": "fired", "values": {"a": 5400.0, "b": None}},
            {"id": "even", "when": "b < 1", "verdict": "silent", "values": {"b": None}},
        ],
    },
)  # fmt: skip


def test_case_reads_as_a_person_would_tell_it() -> None:
    """Everything that happened, each reason once, and the rules that fired with the values they saw."""
    assert render(2, HELD).splitlines() == [
        "2. Odd.",
        "   c-1 asks for 1,000.00 CNY",
        "",
        "   HOLD: pay out 0.00 CNY; held for step-up until 2026-11-21T20:35:00Z; this draw capped from 1,000.00 CNY"
        " to 600.00 CNY; new draws at 17.10% instead of 15.60% a year; yellow alert odd_hour_draw; offer coupon",
        "   scorecard behaviour: 602 points, grade C, PD 1.82%",
        "     risk raised by b = unknown (+0.61), c = 3 (+0.25), d = 0.5 (+0.20), e = 1 (+0.10); risk lowered by",
        "         a = 5,400 (-0.40)",
        "   scorecard fraud: no score",
        "     all features null",
        "   RC10 Unusual hour (rule:odd, rule:odder)",
        "   2 rules looked at 2 features; 1 fired (1.2 ms):",
        "     odd: a > 1",
        "         saw a = 5,400, b = unknown",
        "     hit grid:C/0.80",
        "     bounded by guardrail:limit_step_max",
    ]


@pytest.mark.slow
def test_demo_shows_each_of_the_four_outcomes() -> None:
    """`decision-service demo --exit` starts the service, decides, and leaves nothing running."""
    done = subprocess.run(
        [sys.executable, "-m", "decision_service", "demo", "--port", "0", "--exit", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)
    assert {case["answer"]["decision"] for case in cases} == {"approve", "hold", "limit_change", "reprice"}
    assert all(case["answer"]["rung"] == "full" for case in cases)
    assert all(case["fired"] for case in cases if case["answer"]["decision"] != "approve")
