"""A training file: what to train on, what counts as bad, which features, and how the model may look.

    scorecard: behaviour
    version: 2026.11.1
    features_from: ../../rules/features        # the catalogue, relative to this file
    portfolio: {customers: 6000, seed: 20261121, days: 540, until: 2026-11-01T00:00:00+08:00}
    sample:
      observe_every_d: 30                      # observation points, back from the last possible one
      observations: 12
      performance_d: 90                        # how long after an observation a default counts
      bad_dpd: 30                              # days past due that are a default
      days_past_due_max: 0                     # at the observation; whoever is later is no longer to be predicted
      days_on_book_min: 60
      out_of_time: 3                           # the newest observations, kept from the model
    model: {trees: 300, leaves: 31, learning_rate: 0.03, ...}
    calibration: platt                         # or isotonic; what follows is what is taken without it
    scaling: {base_points: 600, base_odds: 50, pdo: 20, points_min: 300, points_max: 850}
    grades: {A: 660, B: 620, C: 580, D: 540, E: 300}
    features:
      - {name: utl_now, reason: RC30, monotone: 1}

All errors of a file are reported at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from decision_service.core.errors import PolicyRejected
from decision_service.core.reasons import TEXTS
from decision_service.core.scorecards.manifest import NAME_PATTERN, VERSION_PATTERN, read_grades, read_scaling
from decision_service.core.scorecards.reading import Section
from decision_service.core.scorecards.scaling import STANDARD_GRADES, Grades, Scaling
from decision_service.core.source import Findings, nearest_name
from decision_service.policies.files import read_document
from decision_service.portfolio import PortfolioPlan
from decision_service.train.calibrate import METHODS, Method
from decision_service.train.model_design import ModelDesign, WoeDesign, read_model_design

_INSTANT = "an instant with offset such as 2026-11-01T00:00:00+08:00"


@dataclass(frozen=True, slots=True)
class SampleDesign:
    """Who is observed when, and what counts as bad."""

    observe_every_d: int
    observations: int
    performance_d: int
    bad_dpd: int
    days_past_due_max: int
    days_on_book_min: int
    out_of_time: int
    seed: int


@dataclass(frozen=True, slots=True)
class TrainedFeature:
    """One input: `monotone` 1 says that the PD may only rise with it, -1 only fall, 0 either."""

    name: str
    reason: str
    monotone: int


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A checked training file."""

    scorecard: str
    version: str
    features_from: Path
    zone: str
    portfolio: PortfolioPlan
    sample: SampleDesign
    model: ModelDesign
    calibration: Method
    scaling: Scaling
    grades: Grades
    features: tuple[TrainedFeature, ...]
    sha256: str

    @property
    def names(self) -> tuple[str, ...]:
        """The features in the model's order."""
        return tuple(feature.name for feature in self.features)


def read_train_config(path: Path) -> TrainConfig:
    """The training file at `path`. Raises PolicyRejected with everything wrong in it."""
    findings = Findings()
    document = read_document(path, str(path), findings)
    if document is None:
        raise PolicyRejected(findings.errors)
    top = Section(document.root, "train", findings)
    config = TrainConfig(
        scorecard=top.text("scorecard", pattern=NAME_PATTERN, expected="a name of a-z, 0-9 and _"),
        version=top.text("version", pattern=VERSION_PATTERN, expected="letters, digits, dots and dashes"),
        features_from=path.parent / top.text("features_from"),
        zone=top.text("zone", "Asia/Shanghai"),
        portfolio=_portfolio(top.section("portfolio")),
        sample=_sample(top.section("sample")),
        model=read_model_design(top.section("model")),
        calibration=top.choice("calibration", METHODS, "platt"),
        scaling=read_scaling(top.section("scaling", required=False)),
        grades=read_grades(top.section("grades")) if top.has("grades") else STANDARD_GRADES,
        features=_features(top),
        sha256=document.sha256,
    )
    if isinstance(config.model, WoeDesign) and config.calibration != "platt":
        top.error("calibration", "does not go with kind: woe", "platt, under which the points of bins add up")
    top.finish()
    if findings.errors:
        raise PolicyRejected(findings.errors)
    return config


def _portfolio(section: Section) -> PortfolioPlan:
    plan = PortfolioPlan(
        customers=section.whole("customers", low=50, high=1_000_000),
        now_ms=_instant(section, "until"),
        seed=section.whole("seed", low=0),
        days=section.whole("days", 365, low=120, high=1_000),
        per_pattern=0,  # the patterns are for rules; a scorecard predicts credit risk
    )
    section.finish()
    return plan


def _instant(section: Section, key: str) -> int:
    text = section.text(key, expected=_INSTANT)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return round(moment.timestamp() * 1_000)
    except ValueError:
        pass
    if text:
        section.error(key, f"is no instant: {text!r}", _INSTANT)
    return 0


def _sample(section: Section) -> SampleDesign:
    design = SampleDesign(
        observe_every_d=section.whole("observe_every_d", 30, low=1, high=365),
        observations=section.whole("observations", 12, low=2, high=100),
        performance_d=section.whole("performance_d", 90, low=1, high=730),
        bad_dpd=section.whole("bad_dpd", 30, low=1, high=365),
        days_past_due_max=section.whole("days_past_due_max", 0, low=0, high=365),
        days_on_book_min=section.whole("days_on_book_min", 60, low=0, high=3_650),
        out_of_time=section.whole("out_of_time", 3, low=1, high=99),
        seed=section.whole("seed", 1, low=0),
    )
    if design.out_of_time >= design.observations:
        section.error("out_of_time", "leaves no observation to train on", "fewer than observations")
    if design.days_past_due_max >= design.bad_dpd:
        section.error("days_past_due_max", "lets in who is bad already", "less than bad_dpd")
    section.finish()
    return design


def _features(top: Section) -> tuple[TrainedFeature, ...]:
    sections = top.sections("features")
    features = tuple(_feature(section) for section in sections)
    if not features:
        top.error("features", "is empty", "at least one feature")
    for name in sorted({f.name for f in features if sum(g.name == f.name for g in features) > 1}):
        top.error("features", f"has {name!r} twice", "each feature once")
    return features


def _feature(section: Section) -> TrainedFeature:
    reason = section.text("reason", expected="a reason code")
    if reason and (reason not in TEXTS or reason.startswith("RC9")):
        nearest = nearest_name(reason, TEXTS) or "RC30"
        section.error("reason", f"{reason!r} is no code about the customer's credit", f"a code such as {nearest}")
    feature = TrainedFeature(section.text("name"), reason, section.whole("monotone", 0, low=-1, high=1))
    section.finish()
    return feature
