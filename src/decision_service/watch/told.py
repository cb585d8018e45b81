"""What was found, as JSON: dataclasses as objects, figures that do not exist (NaN) as null."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

from decision_service.core.scorecards.drift import Drift
from decision_service.watch.manifests import CardName
from decision_service.watch.watching import Watched


def told(found: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(found, CardName):
        return str(found)
    if isinstance(found, Drift):
        return {"n": found.n, "bins": found.bins, "psi": told(found.psi), "critical": told(found.critical),
                "verdict": found.verdict, "thin": found.thin}  # fmt: skip
    if is_dataclass(found) and not isinstance(found, type):
        return {field.name: told(getattr(found, field.name)) for field in fields(found)}
    if isinstance(found, dict):
        return {key: told(value) for key, value in found.items()}
    if isinstance(found, tuple | list):
        return [told(value) for value in found]
    return None if isinstance(found, float) and not math.isfinite(found) else found


def summary_of(found: Watched, now_ms: int) -> dict[str, Any]:
    """What the gauges tell of a run until the next one is published."""
    quality = found.quality
    figures = {} if quality is None else {
        "ks": quality.ks, "auc": quality.auc, "calibration_error": quality.calibration_error,
        "bad_rate": quality.bad_rate, "outcomes": quality.rows,
    }  # fmt: skip
    summary: dict[str, Any] = told({"watched_timestamp_seconds": now_ms / 1_000, **figures})
    return summary
