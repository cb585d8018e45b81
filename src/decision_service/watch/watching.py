"""Watching: what a pass over the decision log says of one version in one role, and whether it is time to rebuild it.

Findings. A *trigger* is a reason to rebuild the scorecard (`models watch` then ends with status 1), an *alert* one to
look closer:

    trigger  psi          PSI of the points above 0.2, and beyond what chance does
    trigger  null_shift   nulls of the score or of a feature more or fewer by over 10 points, beyond chance
    trigger  ks           KS of the decisions that matured in the last three months is 5 points or more below that of
                          the manifest (`oot_ks`, else `ks`), with BADS_MIN bads and goods
    trigger  age          trained on nothing newer than 12 months
    alert    psi_shifted  PSI of the points from 0.1 to 0.2, beyond chance
    alert    feature_psi  PSI of a feature above 0.2, and beyond chance
    alert    calibration  the probabilities did not come true (Hosmer-Lemeshow below 1 %, ECE above 1 point)
    alert    refused      over 10 % of the decisions had no score

Every decision counts, so a customer who draws often counts often; intervals take decisions as independent and are too
narrow where customers are few. `early` figures are of decisions whose window is not over: only their bads are known, so
their bad rate is a lower bound and is never compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

import numpy as np

from decision_service.core.limits import DAY_MS
from decision_service.core.scorecards.manifest import Manifest, Target
from decision_service.core.zone import Zone
from decision_service.watch.card_drift import CardDrift, card_drift
from decision_service.watch.manifests import CardName
from decision_service.watch.outcomes import Outcome
from decision_service.watch.quality import Interval, Quality, quality, share
from decision_service.watch.record import Record, Rows
from decision_service.watch.tally import CAUSES, Tally

KS_FALL_MAX: Final = 0.05
RECENT_D: Final = 92
AGE_MAX_D: Final = 365
REFUSED_MAX: Final = 0.10
_P_MIN: Final = 0.01
_ECE_MAX: Final = 0.01
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must be looked at."""

    severity: Literal["trigger", "alert"]
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Day:
    """The answers of one local day."""

    date: str
    n: int
    approved: int
    refused: int
    grades: dict[str, int]


@dataclass(frozen=True, slots=True)
class Vintage:
    """The scored decisions of one local month, by the instant each is about."""

    month: str
    decisions: int
    matured: int
    unknown: int
    quality: Quality | None  # of those that matured
    bad_rate: Interval
    early: int  # not matured
    early_bads: int  # of those, already bad: the bad rate will be this or more


@dataclass(frozen=True, slots=True)
class Watched:
    """One version in one role."""

    card: CardName
    role: str
    n: int
    customers: int
    refused: dict[str, int]
    outcomes: dict[str, int]
    target: Target
    drift: CardDrift | None  # None without a manifest
    days: tuple[Day, ...]
    quality: Quality | None
    recent: Quality | None
    approved_quality: Quality | None  # of those that were approved
    vintages: tuple[Vintage, ...]
    ks_trained: float
    trained_until: str
    findings: tuple[Finding, ...]

    @property
    def triggered(self) -> bool:
        """Whether there is a reason to rebuild."""
        return any(finding.severity == "trigger" for finding in self.findings)


def watched(record: Record, target: Target, zone: Zone, now_ms: int) -> Watched:
    """What a record says at an instant."""
    manifest = None if record.bins is None else record.bins.manifest
    total, rows = record.total, record.rows
    drift = None if record.bins is None else card_drift(total, record.bins)
    recent, ks_trained = _quality(_recent(rows.matured)), _ks_trained(manifest)
    trained_until = "" if manifest is None else manifest.training.get("observed_until", "")
    overall = _quality(rows.matured)
    refused = {cause: total.words[f"x:{cause}"] for cause in CAUSES if total.words[f"x:{cause}"]}
    findings = [
        *(() if drift is None else _drift_findings(drift)), *_refused_findings(record.n, refused),
        *_quality_findings(recent, overall, ks_trained), *_age_findings(trained_until, now_ms),
    ]  # fmt: skip
    return Watched(
        card=record.part.card, role=record.part.role, n=record.n, customers=len(record.customers), refused=refused,
        outcomes={outcome.name.lower(): rows.count(outcome) for outcome in Outcome}, target=target, drift=drift,
        days=tuple(_day(day, tally) for day, tally in sorted(record.days.items())),
        quality=overall, recent=recent, approved_quality=_quality(rows.matured.where(rows.matured.approved)),
        vintages=tuple(_vintages(rows, zone)), ks_trained=ks_trained, trained_until=trained_until,
        findings=tuple(sorted(findings, key=lambda finding: finding.severity, reverse=True)),
    )  # fmt: skip


def _quality(rows: Rows) -> Quality | None:
    return quality(rows.pd, rows.bad) if len(rows.pd) else None


def _recent(matured: Rows) -> Rows:
    """The last three months of those that matured."""
    if not len(matured.pd):
        return matured
    return matured.where(matured.asked_at_ms > int(matured.asked_at_ms.max()) - RECENT_D * DAY_MS)


def _ks_trained(manifest: Manifest | None) -> float:
    metrics = {} if manifest is None else manifest.metrics
    return metrics.get("oot_ks", metrics.get("ks", math.nan))


def _day(day: int, tally: Tally) -> Day:
    words = tally.words
    grades = {word[2:]: count for word, count in sorted(words.items()) if word.startswith("g:")}
    refused = sum(count for word, count in words.items() if word.startswith("x:"))
    return Day((_EPOCH + timedelta(days=day)).date().isoformat(), tally.n, words["a"], refused, grades)


def _vintages(rows: Rows, zone: Zone) -> Iterator[Vintage]:
    months = np.array([_month(t_ms, zone) for t_ms in rows.asked_at_ms.tolist()], np.str_)
    for month in sorted(set(months.tolist())):
        some = rows.where(months == month)
        matured, early_bads = some.matured, some.count(Outcome.EARLY_BAD)
        found = _quality(matured)
        yield Vintage(
            month, len(some.pd), len(matured.pd), some.count(Outcome.UNKNOWN), found,
            share(0 if found is None else found.bads, len(matured.pd)),
            some.count(Outcome.IMMATURE) + early_bads, early_bads,
        )  # fmt: skip


def _month(t_ms: int, zone: Zone) -> str:
    return (_EPOCH + timedelta(milliseconds=t_ms + zone.offset_at(t_ms))).strftime("%Y-%m")


# --- findings -------------------------------------------------------------------------------------------------------


def _drift_findings(found: CardDrift) -> Iterator[Finding]:
    score = found.score.drift
    told = f"PSI {score.psi:.3f} over {score.bins} bins of {score.n:,} scores; chance alone makes {score.critical:.3f}"
    if score.verdict == "moved":
        yield Finding("trigger", "psi", f"the points moved: {told}")
    elif score.verdict == "shifted":
        yield Finding("alert", "psi_shifted", f"the points shifted: {told}")
    for one in (found.score, *found.features):
        if one.null_alert:
            yield Finding(
                "trigger", "null_shift",
                f"`{one.name}` is null in {one.null_rate:.1%} of decisions, in training in {one.null_rate_trained:.1%}",
            )  # fmt: skip
    for one in found.features:
        if one.drift.verdict == "moved":
            told = f"PSI {one.drift.psi:.3f}; chance alone makes {one.drift.critical:.3f}"
            yield Finding("alert", "feature_psi", f"`{one.name}` moved: {told}")


def _refused_findings(n: int, refused: dict[str, int]) -> Iterator[Finding]:
    number = sum(refused.values())
    if n and number > REFUSED_MAX * n:
        causes = ", ".join(f"{cause} {count:,}" for cause, count in refused.items())
        yield Finding("alert", "refused", f"{number:,} of {n:,} decisions had no score: {causes}")


def _quality_findings(recent: Quality | None, overall: Quality | None, ks_trained: float) -> Iterator[Finding]:
    if recent is not None and not recent.thin and recent.ks <= ks_trained - KS_FALL_MAX:
        yield Finding(
            "trigger", "ks",
            f"KS {recent.ks:.1%} of {recent.rows:,} decisions ({recent.bads:,} bad) that matured in the last three "
            f"months; in training {ks_trained:.1%}",
        )  # fmt: skip
    if overall is not None and _did_not_come_true(overall):
        yield Finding(
            "alert", "calibration",
            f"mean PD {overall.pd_mean:.2%}, bad rate {overall.bad_rate:.2%}; expected calibration error "
            f"{overall.calibration_error:.2%}, Hosmer-Lemeshow p {overall.hosmer_lemeshow_p:.2g}",
        )  # fmt: skip


def _did_not_come_true(found: Quality) -> bool:
    return not found.thin and found.hosmer_lemeshow_p < _P_MIN and found.calibration_error > _ECE_MAX


def _age_findings(trained_until: str, now_ms: int) -> Iterator[Finding]:
    try:
        age_d = (_EPOCH + timedelta(milliseconds=now_ms)).date() - date.fromisoformat(trained_until)
    except ValueError:
        return
    if age_d.days > AGE_MAX_D:
        yield Finding("trigger", "age", f"trained on observations until {trained_until}: {age_d.days} days ago")
