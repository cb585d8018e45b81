"""The answers to many decisions as columns: what `core.merge.Outcome` holds, part by part.

Codes index the tuples below; an amount that there is not is NONE. `plain` marks decisions that columns cannot decide:
what stands there is not an answer. Reasons are without those of scorecards, which only a decision's own features tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.backtest.batch import Ints
from decision_service.core.decision import HOLD_RANK, RENEWALS, TIER_RANK, TIERS
from decision_service.core.expressions.columns import Mask

Bytes = npt.NDArray[np.uint8]

DECISIONS: Final = ("approve", "hold", "reprice", "limit_change")
HOLDS: Final = ("", *HOLD_RANK)  # by rank
LIMITS: Final = ("", "freeze", "cut", "draw_cap", "raise")
RENEWALS_OF: Final = ("", *RENEWALS)
NONE: Final = -1
APPROVE, HOLD, REPRICE, LIMIT_CHANGE = range(4)
FREEZE, CUT, DRAW_CAP, RAISE = 1, 2, 3, 4


@dataclass(slots=True)
class Outcomes:
    """`count` answers."""

    count: int
    decision: Bytes = field(init=False)
    approved_minor: Ints = field(init=False)
    hold: Bytes = field(init=False)
    price_bps: Ints = field(init=False)  # of new draws, NONE if it stays
    limit: Bytes = field(init=False)
    limit_to_minor: Ints = field(init=False)
    renewal: Bytes = field(init=False)
    tier: npt.NDArray[np.int8] = field(init=False)  # rank after the review, NONE if there is no change
    plain: Mask = field(init=False)
    alerts: dict[str, Bytes] = field(default_factory=dict)
    offers: dict[str, Mask] = field(default_factory=dict)
    tags: dict[str, Mask] = field(default_factory=dict)
    reasons: dict[tuple[str, str], Mask] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = self.count
        self.decision, self.hold, self.limit, self.renewal = (np.zeros(n, np.uint8) for _ in range(4))
        self.approved_minor = np.zeros(n, np.int64)
        self.price_bps, self.limit_to_minor = np.full(n, NONE), np.full(n, NONE)
        self.tier = np.full(n, NONE, np.int8)
        self.plain = np.zeros(n, np.bool_)

    def put(self, start: int, part: Outcomes) -> None:
        """Take the answers of consecutive decisions."""
        where = slice(start, start + part.count)
        for name in _COLUMNS:
            getattr(self, name)[where] = getattr(part, name)
        for name, dtype in _NAMED.items():
            whole: dict[Any, npt.NDArray[Any]] = getattr(self, name)
            for key, column in getattr(part, name).items():
                if key not in whole:
                    whole[key] = np.zeros(self.count, dtype)
                whole[key][where] = column

    def answer(self, i: int) -> dict[str, Any]:
        """One of them, with the names of the parts of an answer."""
        return {
            "decision": DECISIONS[self.decision[i]],
            "approved_minor": int(self.approved_minor[i]),
            "hold": HOLDS[self.hold[i]] or None,
            "price_bps": None if self.price_bps[i] == NONE else int(self.price_bps[i]),
            "limit": LIMITS[self.limit[i]] or None,
            "limit_to_minor": None if self.limit_to_minor[i] == NONE else int(self.limit_to_minor[i]),
            "renewal": RENEWALS_OF[self.renewal[i]] or None,
            "tier": None if self.tier[i] == NONE else TIERS[self.tier[i]],
            "alerts": sorted((_TIER_NAMES[rank[i]], name) for name, rank in self.alerts.items() if rank[i]),
            "offers": sorted(name for name, given in self.offers.items() if given[i]),
            "tags": sorted(name for name, given in self.tags.items() if given[i]),
            "reasons": sorted(key for key, given in self.reasons.items() if given[i]),
        }


_TIER_NAMES: Final[Mapping[int, str]] = {rank: name for name, rank in TIER_RANK.items()}
_COLUMNS: Final = (
    "decision", "approved_minor", "hold", "price_bps", "limit", "limit_to_minor", "renewal", "tier", "plain",
)  # fmt: skip
_NAMED: Final[Mapping[str, type]] = {"alerts": np.uint8, "offers": np.bool_, "tags": np.bool_, "reasons": np.bool_}
