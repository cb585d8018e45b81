"""The trace: a stored decision explained, from its frame and the description of the policy that made it.

The policy's description (`Policy.describe`) is kept in the store under the policy's id, so a decision can be explained
after the policy that made it is gone. Nothing is computed again: the values shown are the values the rules saw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson

from decision_service.decision_log import Frame

VERDICTS: Final = ("silent", "fired", "unknown, skipped", "unknown, fired", "unknown, held", "went wrong")


def render_trace(frame: Frame, policy: Mapping[str, Any]) -> dict[str, Any]:
    """The trace object of `GET /v1/decisions/{id}`."""
    numbers = dict(zip(policy["numbers"], np.frombuffer(frame.numbers, "<f8").tolist(), strict=True))
    strings = dict(zip(policy["strings"], frame.rest["strings"], strict=True))
    values: dict[str, float | str | None] = {**{n: _shown(v) for n, v in numbers.items()}, **strings}
    features = policy["features"]
    return {
        "request": orjson.loads(frame.request),
        "seq": frame.rest["seq"],
        "state_version": frame.rest["version"],
        "policy_id": policy["id"],
        "stages_us": frame.rest["stages_us"],
        "inputs": {name: value for name, value in values.items() if name not in features},
        "features": {
            name: {"value": values[name], "unit": spec["unit"], "meaning": spec["meaning"]}
            for name, spec in features.items()
        },
        "rules": [
            _rule(rule, verdict, values)
            for rule, verdict in zip(policy["rules"], frame.verdicts, strict=True)
        ],
        "cells": frame.rest["cells"],
        "scorecards": {
            name: {"version": version, "problem": problem or None}
            for name, (version, problem) in frame.rest["scorecards"].items()
        },
    }


def _shown(value: float) -> float | None:
    return None if math.isnan(value) else value


def _rule(rule: Mapping[str, Any], verdict: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """One rule's verdict with the values it saw, and, if unknown, what it lacked."""
    saw = {name: values.get(name) for name in rule["names"]}
    missing = [name for name, value in saw.items() if value is None]
    unknown = verdict in (2, 3, 4)
    return {
        "id": rule["id"],
        "verdict": VERDICTS[verdict],
        "when": rule["when"],
        "values": saw,
        "because": f"unknown because {_listed(missing)} missing" if unknown else None,
        "reason": rule.get("reason"),
    }


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) + (" is" if len(names) == 1 else " are")
