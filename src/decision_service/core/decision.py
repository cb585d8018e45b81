"""A decision: the effects that rules ask for, how they merge into one outcome, and the whole answer record.

Effects of many rules merge commutatively and idempotently: the outcome does not depend on the order of rules or on an
effect being asked for twice. Severity, most severe first:

    hold block > hold review > hold step_up > freeze > cut > draw_cap > reprice > raise > approve

There is no default outcome. If nothing asked for `approve` and nothing held, the outcome is a review with RC90.

Money in minor units, rates in basis points, instants in ms UTC. What every decision makes anew is a NamedTuple, which
takes a fraction of the time of a frozen dataclass with as many fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from decision_service.core.reasons import Reason
from decision_service.core.request import DRAWDOWN_SCENE

HoldKind = Literal["step_up", "review", "block"]
Rung = Literal["full", "no_links", "no_score", "static"]
LimitKind = Literal["freeze", "cut", "draw_cap", "raise"]
HOLD_RANK: Final[dict[str, int]] = {"step_up": 1, "review": 2, "block": 3}
Renewal = Literal["auto", "manual", "decline"]
TIER_RANK: Final[dict[str, int]] = {"blue": 1, "yellow": 2, "orange": 3, "red": 4}
TIERS: Final = ("none", *TIER_RANK)  # by rank
RENEWALS: Final[tuple[Renewal, ...]] = ("auto", "manual", "decline")  # by severity


@dataclass(frozen=True, slots=True)
class Hold:
    """Do not pay out now."""

    kind: HoldKind


@dataclass(frozen=True, slots=True)
class CapDraw:
    """Pay out at most this much of the draw (already floored to a minor unit)."""

    amount_minor: int


@dataclass(frozen=True, slots=True)
class ChangeLimit:
    """Change the limit: `freeze`, or to `to_minor`."""

    kind: Literal["freeze", "set"]
    to_minor: int = 0


@dataclass(frozen=True, slots=True)
class ChangePrice:
    """Price new draws at `apr_bps`."""

    apr_bps: int


@dataclass(frozen=True, slots=True, order=True)
class Alert:
    """A warning raised beside the outcome."""

    tier: str
    indicator: str


@dataclass(frozen=True, slots=True, order=True)
class Offer:
    """Something marketing may offer."""

    name: str


@dataclass(frozen=True, slots=True, order=True)
class Renew:
    """What to do about a facility's renewal: auto, manual or decline."""

    how: str


@dataclass(frozen=True, slots=True, order=True)
class Tag:
    """A free label for downstream."""

    name: str


@dataclass(frozen=True, slots=True)
class Approve:
    """Explicitly nothing against it."""


Action = Hold | CapDraw | ChangeLimit | ChangePrice | Alert | Offer | Renew | Tag | Approve


@dataclass(frozen=True, slots=True)
class Effect:
    """An action somebody asks for, with its cause."""

    action: Action
    source: str  # "rule:velocity_burst", "matrix:score_by_utilisation", "guardrail:apr_cap", "fallback:static"
    reason: str = ""  # a reason code, or "" for none
    told: Reason | None = field(init=False, repr=False, compare=False)  # both; most effects are older than a decision

    def __post_init__(self) -> None:
        object.__setattr__(self, "told", Reason(self.reason, self.source) if self.reason else None)


class LimitChange(NamedTuple):
    """What happens to the limit, or (draw_cap) to this draw only."""

    kind: LimitKind
    from_minor: int
    to_minor: int


class Reprice(NamedTuple):
    """The price of new draws."""

    from_bps: int
    to_bps: int


class TierChange(NamedTuple):
    """A customer's warning tier before and after a review: `none`, or one of TIER_RANK.

    `indicators` are those of the alerts that ask for the tier it is now in. `recorded` says whether the customer's log
    is to hold an entry: the tier moved, or is asserted again.
    """

    from_tier: str
    to_tier: str
    indicators: tuple[str, ...]
    recorded: bool


class Score(NamedTuple):
    """One scorecard's verdict; all three are None when it could not score (`problem` says why).

    `version` and `role` are of the version that scored. A champion's score with a problem stands in for that of a
    challenger that could not score.
    """

    points: int | None
    pd: float | None
    grade: str | None
    version: str = ""
    problem: str = ""
    role: Literal["champion", "challenger"] = "champion"


class Trace(NamedTuple):
    """Everything needed to explain a decision, collected always, rendered on demand.

    `numbers` and `strings` are the two value vectors (layout of the policy named by the decision); `verdicts` holds
    one byte a rule in policy order: 0 silent, 1 fired, 2 unknown and skipped, 3 unknown and fired, 4 unknown and held,
    5 went wrong. `cells` names the cells of matrices, tables and trees that were hit.
    """

    numbers: bytes
    strings: tuple[str | None, ...]
    verdicts: bytes
    cells: tuple[str, ...]
    seq: int  # sequence number of the last log record seen, -1 for an empty log
    version: int  # version of the customer's state
    bounded: tuple[str, ...] = ()  # guardrails that changed what the rules asked for: `guardrail:limit_step_max`


class Decision(NamedTuple):
    """The whole answer record but for the time it took."""

    decision_id: str
    request_id: str
    customer_id: str
    facility_id: str
    decision: Literal["approve", "hold", "reprice", "limit_change"]
    approved_minor: int
    currency: str
    hold: HoldKind | None
    hold_expires_at_ms: int | None
    reprice: Reprice | None
    limit_change: LimitChange | None
    alerts: tuple[Alert, ...]
    offers: tuple[str, ...]
    tags: tuple[str, ...]
    reasons: tuple[Reason, ...]
    scores: dict[str, Score]
    policy_id: str
    policy_label: str
    rung: Rung
    missing: tuple[str, ...]
    decided_at_ms: int
    scene: str = DRAWDOWN_SCENE
    tier: TierChange | None = None
    renewal: Renewal | None = None
    trace: Trace | None = None
