"""The shapes of answers, for the documentation: handlers write their JSON directly. Those about features stand in
`feature_answers.py`."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from decision_service.core.request import SCENES


class Answered(BaseModel):
    """Closed: what is not here is not answered."""

    model_config = ConfigDict(extra="forbid")


class Diagnostic(Answered):
    """One finding about a policy file, as a compiler would put it."""

    file: str
    line: int
    column: int
    severity: Literal["error", "warning"]
    message: str
    text: str
    expected: str | None
    nearest: str | None


class Problem(BaseModel):
    """RFC 9457. `type` ends in a stable code; `field` is a dotted path where a field is to blame."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    diagnostics: list[Diagnostic] | None = None
    problems: list[str] | None = None
    known: dict[str, Any] | None = None


class HoldAnswer(Answered):
    """Do not pay out now."""

    kind: Literal["step_up", "review", "block"]
    expires_at: str | None


class RepriceAnswer(Answered):
    """The price of new draws; 0.18 is 18 % a year."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    from_: float = Field(alias="from")
    to: float
    delta_bps: int
    scope: Literal["new_draws"]


class LimitChangeAnswer(Answered):
    """What happens to the limit, or (`draw_cap`) to this draw only; major units."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    kind: Literal["freeze", "cut", "raise", "draw_cap"]
    from_: float = Field(alias="from")
    to: float
    effective_date: str


class TierAnswer(Answered):
    """The customer's warning tier before and after a review, and the alerts that ask for the tier it is now in."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    from_: Literal["none", "blue", "yellow", "orange", "red"] = Field(alias="from")
    to: Literal["none", "blue", "yellow", "orange", "red"]
    indicators: list[str]


class AlertAnswer(Answered):
    """A warning raised beside the outcome."""

    tier: Literal["blue", "yellow", "orange", "red"]
    indicator: str


class OfferAnswer(Answered):
    """Something marketing may offer."""

    name: str


class ReasonAnswer(Answered):
    """A coded cause and what gave it."""

    code: str
    text: str
    source: str


class ScoreAnswer(Answered):
    """A scorecard's verdict; null if it could not score."""

    points: int | None
    pd: float | None
    grade: str | None


class DecisionFound(Answered):
    """A decision in a list. Ids of customer, request and facility are null once the payload is erased; `rules` is null
    where the policy that decided is not known. `recorded_at` is when the store took it in."""

    decision_id: str
    request_id: str | None
    customer_id: str | None
    facility_id: str | None
    scene: str
    decision: Literal["approve", "hold", "reprice", "limit_change"]
    hold: Literal["step_up", "review", "block"] | None
    asked_amount: float | None
    approved_amount: float | None
    currency: str
    reasons: list[str]
    rules: list[str] | None
    policy_id: str
    rung: Literal["full", "no_links", "no_score", "static"]
    decided_at: str
    recorded_at: str
    erased_at: str | None


class DecisionsFound(Answered):
    """A page of decisions, newest first. `after` asks for the next one; null: there is none. Everything recorded since
    `searched_from` (and before the page) was looked through. `archived_through`: what was recorded before is archived;
    what was recorded since is in here, too, if `includes_waiting`, and otherwise only when the archive has caught
    up."""

    decisions: list[DecisionFound]
    after: str | None
    searched_from: str
    archived_through: str
    includes_waiting: bool


class PolicyName(Answered):
    """Which policy decided."""

    id: str
    label: str


SceneName = Literal["drawdown", "warning", "limit", "price", "marketing", "renewal"]
assert get_args(SceneName) == SCENES


class DecisionAnswer(Answered):
    """The decision. Pay out exactly `approved_amount`, which is 0 in a review; there `approve` means that nothing
    changes. `tier` is null outside the scene `warning`, `renewal` unless a rule says how to renew."""

    decision_id: str
    request_id: str
    customer_id: str
    facility_id: str
    scene: SceneName
    decision: Literal["approve", "hold", "reprice", "limit_change"]
    approved_amount: float
    currency: str
    hold: HoldAnswer | None
    reprice: RepriceAnswer | None
    limit_change: LimitChangeAnswer | None
    tier: TierAnswer | None
    renewal: Literal["auto", "manual", "decline"] | None
    alerts: list[AlertAnswer]
    offers: list[OfferAnswer]
    tags: list[str]
    reasons: list[ReasonAnswer]
    scores: dict[str, ScoreAnswer]
    policy: PolicyName
    rung: Literal["full", "no_links", "no_score", "static"]
    missing: list[str]
    decided_at: str
    latency_ms: float


class ExplainedDecision(DecisionAnswer):
    """The decision with its full trace."""

    trace: dict[str, Any] = Field(
        description="The request, every input and feature, every rule's verdict with the values it saw, "
        "cells of matrices, tables and trees, every scorecard's score with the version and role that gave it and what "
        "each feature contributed to it (log-odds of bad; null with a `problem` if the model that scored is no longer "
        "active), what shadows scored (null, and `shadows_missing` says why, while it is not recorded), what the "
        "shadow policy said (null while it is not recorded), policy id, log sequence number and stage timings."
    )


class EventAnswer(Answered):
    """What became of one event; a rejected one names field and reason."""

    index: int
    event_id: str | None
    status: Literal["accepted", "duplicate", "rejected"]
    field: str | None = None
    reason: str | None = None


class EventsAnswer(Answered):
    """What became of each event, in the order sent."""

    accepted: int
    duplicate: int
    rejected: int
    events: list[EventAnswer]


class PositionAnswer(Answered):
    """What holds now, derived from the snapshot and the event log; major units."""

    outstanding: float
    reserved: float
    available: float


class FacilityAnswer(Answered):
    """The latest snapshot, and the position derived from it."""

    facility_id: str
    customer_id: str
    product: str
    currency: str
    limit: float
    outstanding: float
    as_of: str
    apr: float
    status: Literal["active", "frozen", "closed"]
    granted_at: str
    expires_at: str | None
    reviewed_at: str | None
    next_due_at: str | None
    next_due_amount: float | None
    days_past_due: int | None
    position: PositionAnswer


class AttributesAnswer(Answered):
    """Which attributes were taken over."""

    customer_id: str
    names: list[str]


class ListedAnswer(Answered):
    """Whether a value stands on a list."""

    list: str
    value: str
    present: bool


class ListChangeAnswer(ListedAnswer):
    """How a value stands on a list now, and whether that is new."""

    changed: bool


class WorkerAnswer(Answered):
    """What one worker runs."""

    worker_id: str
    policy_id: str
    policy_label: str
    seen_at: str
    problem: str | None
    bundle: int = Field(description="Number of the published policy it runs; 0 if what it runs is not published.")


class PolicySceneAnswer(Answered):
    """The rule set of one scene."""

    rule_set: str
    rules: int
    features_used: int


class FireRateAnswer(Answered):
    """How often a rule had its say; null where one of the policies has no such rule."""

    rule: str
    before: float | None
    after: float | None


class ScoreSpreadAnswer(Answered):
    """The scores of one version of a scorecard over customers, each with the latest."""

    scorecard: str
    version: str
    customers: int
    scored: int = Field(description="How many of them got a score.")
    points_low: int | None
    points_high: int | None
    psi: float | None = Field(description="Of the points, against the distribution in the manifest.")
    psi_critical: float | None = Field(description="What chance passes once in a hundred times.")
    psi_bins: int


class RehearsalAnswer(Answered):
    """What the last candidate makes of the drawdowns that this worker decided lately: shares of approved ones, the
    rules that moved most, and how scores are spread."""

    decisions: int
    approved_before: float
    approved_after: float
    rules: list[FireRateAnswer]
    scores_before: list[ScoreSpreadAnswer]
    scores_after: list[ScoreSpreadAnswer]


class RollbackAnswer(Answered):
    """The fleet was led back to what is in force."""

    of: int = Field(description="Number of the published policy that was in force.")
    reason: str
    by: str = Field(description="The worker that found it out first.")


class WatchAnswer(Answered):
    """The first scores of a new policy; if they are far off, the fleet goes back to the policy before."""

    number: int = Field(description="Number of the published policy that is watched.")
    customers: int
    customers_max: int = Field(description="With so many the watch ends.")
    scores: list[ScoreSpreadAnswer]


class ChallengerAnswer(Answered):
    """The version that scores a share of the customers."""

    version: str
    share: float
    salt: str


class RolesAnswer(Answered):
    """Which version of a scorecard has which role."""

    champion: str
    challenger: ChallengerAnswer | None
    shadows: list[str]


class ShadowAnswer(Answered):
    """The policy in shadow on this worker, or why there is none."""

    state: Literal["off", "starting", "shadowing", "refused", "broken"] = Field(
        description="`refused`: it does not compile, or lacks a scorecard; `broken`: its process ended, hung, was slow "
        "or failed, and is left alone for a while. Decisions are evaluated in shadow only while `shadowing`."
    )
    id: str | None = Field(description="Of its content, without lists.")
    label: str | None
    source: Literal["disk", "published"] | None
    number: int = Field(description="Of what is published to be in shadow; 0 if it came from the disk.")
    problem: str | None
    diagnostics: list[Diagnostic]
    scorecards: dict[str, str]
    rules: int


class ShadowPublished(Answered):
    """What is now published to be in shadow; workers take it within a second or so of compiling."""

    number: int
    id: str
    label: str


class ShadowStopped(Answered):
    """Whether anything was published to be in shadow."""

    stopped: bool


class PolicyAnswer(Answered):
    """The policy in force here, what the files on disk look like, and what every worker runs."""

    id: str
    label: str
    bundle: int = Field(description="Number of the published policy that is in force here; 0 if it is not published.")
    skew: bool = Field(description="Whether workers of the fleet run different policies.")
    rehearsal: RehearsalAnswer | None = Field(description="Of the last candidate that was loaded here first, if any.")
    rollback: RollbackAnswer | None
    watch: WatchAnswer | None
    worker_id: str
    problem: str | None
    store_problem: str | None
    diagnostics: list[Diagnostic]
    warnings: list[Diagnostic]
    files: dict[str, str]
    scorecards: dict[str, str] = Field(description="The version of each scorecard that is its champion.")
    roles: dict[str, RolesAnswer] = Field(description="Champion, challenger and shadows of each scorecard.")
    shadow: ShadowAnswer
    lists: dict[str, int]
    features_used: int
    rules: int
    scenes: dict[SceneName, PolicySceneAnswer]
    workers: list[WorkerAnswer]


class FilesChanged(Answered):
    """The files that differ from the policy published before."""

    added: list[str]
    changed: list[str]
    removed: list[str]


class VersionAnswer(Answered):
    """One published policy."""

    number: int
    policy_id: str
    label: str
    at: str
    by: str = Field(description="Who published it: a principal, or the worker that found the files on its disk.")
    origin: str = Field(
        description="`disk`, `publish`, `restore of <number>`, `rollback of <number>` (its scores were far off), "
        "`known` (again, after the store forgot) or `damaged`."
    )
    forced: bool = Field(description="Whether guard and watch were told to let it pass.")
    reason: str | None = Field(description="Why the fleet was led back to it.")
    current: bool
    files_changed: FilesChanged
    scorecards: dict[str, str] = Field(description="The version of each scorecard that is its champion.")
    variants: dict[str, list[str]] = Field(description="The versions that are its challenger or shadows.")


class VersionsAnswer(Answered):
    """The published policies that are kept, newest first."""

    versions: list[VersionAnswer]


class VersionFilesAnswer(VersionAnswer):
    """One published policy with its files."""

    files: dict[str, str]


class CheckAnswer(Answered):
    """Whether a candidate compiles, and every finding."""

    ok: bool
    diagnostics: list[Diagnostic]


class AliveAnswer(Answered):
    """The process runs."""

    status: Literal["alive"]


class ReadyAnswer(Answered):
    """The service may be used."""

    status: Literal["ready"]
