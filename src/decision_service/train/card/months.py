"""Months of observation, as the training file's zone has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from decision_service.train.trained import Trained


def months_of(trained: Trained) -> npt.NDArray[np.str_] | None:
    """`2026-05` for each row of the sample; None if all rows have one instant, which says that none was known."""
    at_ms = trained.sample.observed_at_ms
    if len(np.unique(at_ms)) < 2:
        return None
    zone = ZoneInfo(trained.config.zone)
    return np.array([_month(int(each), zone) for each in at_ms])


def _month(at_ms: int, zone: ZoneInfo) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return moment.astimezone(zone).strftime("%Y-%m")
