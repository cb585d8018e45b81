"""What the counts come to: rates, the swap set, both sides at one approval rate, and whether thresholds are kept.

At equal approval rate the side that pays more gives up its riskiest drawdowns, by its own PD, until both pay as many;
what is left of each is compared by one PD and by what became of it. Ranks are by bins of log-odds (`tally.bin_of`), of
the last one a part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from decision_service.backtest.outcome import DECISIONS, HOLDS, LIMITS
from decision_service.backtest.tally import (
    CELLS,
    CURVE,
    MEASURES,
    PRICES,
    RULE_COUNTS,
    SceneTally,
    Sums,
    Tally,
)
from decision_service.core.request import DRAWDOWN_SCENE

SIDES: Final = ("before", "after")
THRESHOLDS: Final[Mapping[str, str]] = {
    "max_approval_drop": "how far the share of drawdowns that pay may fall: 0.01 is one in a hundred",
    "max_approval_rise": "how far it may rise",
    "max_hold_rise": "how far the share of drawdowns that are held may rise",
    "max_expected_loss_rise": "how far expected loss may rise, as a share of what it was",
    "max_bad_rate_rise": "how far the bad rate may rise at equal approval rate",
    "max_flips": "the largest share of drawdowns that may flip",
}


@dataclass(frozen=True, slots=True)
class Kept:
    """Whether one threshold is kept; `value` is None where nothing is known."""

    name: str
    most: float
    value: float | None

    @property
    def holds(self) -> bool:
        """Whether it is; what is not known does not hold."""
        return self.value is not None and self.value <= self.most + 1e-12


def scene_measures(tally: SceneTally, is_draw: bool) -> dict[str, Any]:
    """The measures of one scene in one currency, in plain values."""
    told: dict[str, Any] = {
        "decisions": int(tally.decisions.sum()),
        "outcome": _mix(tally.decisions, DECISIONS),
        "hold": _mix(tally.holds, tuple(name or "none" for name in HOLDS)),
        "limit": _mix(tally.limits, tuple(name or "none" for name in LIMITS)),
        "price": _mix(tally.prices, PRICES),
        "capped": _mix(tally.capped, ("no", "yes")),
        "price_change_mean_bps": [
            _ratio(tally.price_bps[side], _moved(tally.prices, side)) for side in range(len(SIDES))
        ],
        "rules": [
            {"rule": rule, **dict(zip(RULE_COUNTS, counts.tolist(), strict=True))}
            for rule, counts in sorted(tally.rules.items())
        ],
    }  # fmt: skip
    if is_draw:
        told |= {
            "whole": sums(tally.swap.sum(axis=0)),
            "swap": {name: sums(tally.swap[i]) for i, name in enumerate(CELLS)},
            "equal_approval": equal_approval(tally),
            "segments": [
                {"by": by, "segment": label, **sums(row)} for (by, label), row in sorted(tally.segments.items())
            ],
            "days": [{"day": day, **sums(row)} for day, row in sorted(tally.days.items())],
        }  # fmt: skip
    return told


def sums(row: Sums) -> dict[str, Any]:
    """A row of MEASURES with the rates that follow from it."""
    told: dict[str, Any] = dict(zip(MEASURES, row.tolist(), strict=True))
    for name in ("decisions", "paying_before", "paying_after", "with_pd", "known", "bad", "known_before", "bad_before",
                 "known_after", "bad_after", "with_loss"):  # fmt: skip
        told[name] = int(told[name])
    n = told["decisions"]
    told["approval_before"], told["approval_after"] = _ratio(told["paying_before"], n), _ratio(told["paying_after"], n)
    for side in SIDES:
        told[f"bad_rate_{side}"] = _ratio(told[f"bad_{side}"], told[f"known_{side}"])
        told[f"loss_rate_{side}"] = _ratio(told[f"expected_loss_{side}"], told[f"paid_{side}"])
    told["bad_rate"] = _ratio(told["bad"], told["known"])
    return told


def equal_approval(tally: SceneTally) -> dict[str, Any] | None:
    """Both sides cut to the smaller number of drawdowns paid; None where one has no PDs at all."""
    counts = tally.curves[:, :, 0].sum(axis=1)
    most = float(counts.min())
    if most <= 0:
        return None
    n = float(tally.decisions.sum())
    told: dict[str, Any] = {"paying": round(most), "approval": _ratio(most, n)}
    for side, name in enumerate(SIDES):
        cut = _cut(tally.curves[side], most)
        told[name] = {
            "given_up": round(float(counts[side]) - most), "exposure": cut["exposure"],
            "expected_loss": cut["expected_loss"], "loss_rate": _ratio(cut["expected_loss"], cut["exposure"]),
            "known": round(cut["known"]), "bad": round(cut["bad"]), "bad_rate": _ratio(cut["bad"], cut["known"]),
        }  # fmt: skip
    return told


def _cut(curve: Sums, most: float) -> dict[str, float]:
    """The sums over the least risky `most` of a curve."""
    below = np.concatenate(([0.0], np.cumsum(curve[:, 0])))
    share = np.clip((most - below[:-1]) / np.where(curve[:, 0] > 0, curve[:, 0], 1.0), 0.0, 1.0)
    return dict(zip(CURVE, (curve * share[:, None]).sum(axis=0).tolist(), strict=True))


def drawdowns(tally: Tally) -> SceneTally:
    """The drawdowns of all currencies together: for counts and rates, not for money."""
    whole = SceneTally()
    for (scene, _), one in sorted(tally.scenes.items()):
        if scene == DRAWDOWN_SCENE:
            whole.add(one)
    return whole


def thresholds(tally: Tally, asked: Mapping[str, float]) -> list[Kept]:
    """Each threshold that was asked for, with what came out. Of money the worst currency counts."""
    draws = drawdowns(tally)
    row = sums(draws.swap.sum(axis=0))
    n = row["decisions"]
    approval = None if not n else row["approval_after"] - row["approval_before"]
    holds = [draws.holds[1:].sum(), draws.holds[:, 1:].sum()]
    values: dict[str, float | None] = {
        "max_approval_drop": None if approval is None else -approval,
        "max_approval_rise": approval,
        "max_hold_rise": _ratio(float(holds[1] - holds[0]), n),
        "max_expected_loss_rise": _worst_loss(tally),
        "max_bad_rate_rise": _bad_rate_rise(draws),
        "max_flips": _ratio(float(draws.swap[1, 0] + draws.swap[2, 0]), n),
    }
    return [Kept(name, most, values[name]) for name, most in asked.items()]


def _worst_loss(tally: Tally) -> float | None:
    found = []
    for (scene, _), one in tally.scenes.items():
        row = sums(one.swap.sum(axis=0))
        if scene == DRAWDOWN_SCENE and row["expected_loss_before"] > 0:
            found.append(row["expected_loss_after"] / row["expected_loss_before"] - 1)
    return max(found, default=None)


def _bad_rate_rise(draws: SceneTally) -> float | None:
    told = equal_approval(draws)
    if told is None or told["before"]["bad_rate"] is None or told["after"]["bad_rate"] is None:
        return None
    return float(told["after"]["bad_rate"] - told["before"]["bad_rate"])


def _mix(crossed: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Counts of each side, and of each pair that differs."""
    return {
        "before": dict(zip(names, crossed.sum(axis=1).tolist(), strict=True)),
        "after": dict(zip(names, crossed.sum(axis=0).tolist(), strict=True)),
        "moved": [
            {"before": names[b], "after": names[a], "decisions": int(crossed[b, a])}
            for b in range(len(names)) for a in range(len(names)) if a != b and crossed[b, a]
        ],
    }  # fmt: skip


def _moved(prices: Any, side: int) -> float:
    return float(prices.sum(axis=1 - side)[1:].sum())


def _ratio(part: float, whole: float) -> float | None:
    value = part / whole if whole else math.nan
    return None if math.isnan(value) else float(value)
