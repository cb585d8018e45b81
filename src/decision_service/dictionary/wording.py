"""Windows, durations and null rules in words, English and Chinese.

A duration is told in the largest unit that leaves it whole: 86,400,000 ms is `1d`, 5,400,000 ms is `90m`.
"""

from __future__ import annotations

from typing import Final

from decision_service.core.features.durations import LIFE_MS
from decision_service.core.features.nulls import NullRule
from decision_service.core.features.rows import Variant
from decision_service.core.limits import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS

_UNITS: Final = ((DAY_MS, "d"), (HOUR_MS, "h"), (MINUTE_MS, "m"), (SECOND_MS, "s"), (1, "ms"))
_HOURS_SHOWN_UNTIL: Final = 72 * HOUR_MS  # people say 24h and 72h


def duration_text(length_ms: int) -> str:
    """A duration as an analyst types it."""
    if length_ms >= LIFE_MS:
        return "life"
    if HOUR_MS <= length_ms <= _HOURS_SHOWN_UNTIL and length_ms % HOUR_MS == 0:
        return f"{length_ms // HOUR_MS}h"
    return next(f"{length_ms // unit}{name}" for unit, name in _UNITS if length_ms % unit == 0)


def window_text(variant: Variant, delay_ms: int = 0) -> str:
    """The window of a feature as a half-open interval, or the empty string for none."""
    if not variant.window_ms:
        return ""
    if variant.months and variant.bucket < 0:
        return f"{variant.months} buckets of 30d"
    newest = _back(delay_ms + max(variant.bucket, 0) * variant.bucket_ms)
    if variant.window_ms >= LIFE_MS:
        return f"everything up to {newest}"
    return f"({_back(delay_ms + variant.window_ms)}, {newest}]"


def _back(length_ms: int) -> str:
    return f"t - {duration_text(length_ms)}" if length_ms else "t"


def null_words(null: NullRule, months: int = 0, *, has_companion: bool = False) -> tuple[str, str]:
    """What a row's null codes mean, in English and in Chinese. `has_companion`: a `__new` feature stands beside it."""
    clauses = [_CODES[code] for code in null.codes if code in _CODES]
    if ">=1" in null.codes:
        clauses.append(("counts the request itself, so never below 1", "含本笔申请，不小于1"))
    elif null.min_n:
        clauses.append(_too_few(null))
    if null.surge:
        clauses.append(_NO_DIVISOR_TOLD if has_companion else _NO_DIVISOR)
    if null.age_days is not None:
        clauses.append(_too_young(null, months))
    if null.cap is not None:
        low, high = null.cap
        clauses.append((f"clipped to {low:g} to {high:g}", f"截断到 {low:g} 至 {high:g}"))
    return "; ".join(en for en, _ in clauses), "；".join(zh for _, zh in clauses)


_CODES: Final = {
    "Z": ("0 without events: a true zero", "无事件时为0（真实的零）"),
    "-": ("null only while something it is computed from is", "仅当其依赖为空时为空"),
    "X": ("null while its source is missing, stale or unreachable", "来源缺失、过期或不可达时为空"),
}
_NO_DIVISOR: Final = ("null when it would divide by zero", "分母为零时为空")
_NO_DIVISOR_TOLD: Final = (
    "null when it would divide by zero; then `__new` is 1 if something is divided by nothing",
    "分母为零时为空（分子大于零则 `__new` 为1）",
)


def _too_few(null: NullRule) -> tuple[str, str]:
    value = null.otherwise
    if null.min_n == 1 and value != value:
        return "null without an observation", "无观测时为空"
    if value == value:
        return f"{value:g} with fewer than {null.min_n} observations", f"观测少于{null.min_n}个时为{value:g}"
    return f"null with fewer than {null.min_n} observations", f"观测少于{null.min_n}个时为空"


def _too_young(null: NullRule, months: int) -> tuple[str, str]:
    if null.age_days == 0:
        return "null while the facility is younger than the window", "账龄短于窗口时为空"
    days = (null.age_days or 0) * (months or 1 if null.per_month else 1)
    if null.per_month and not months:
        return f"null while the facility is younger than {days} days a bucket", f"账龄不足每桶{days}天时为空"
    return f"null while the facility is younger than {days} days", f"账龄不足{days}天时为空"
