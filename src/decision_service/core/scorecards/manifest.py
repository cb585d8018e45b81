"""The manifest beside a model: everything that is needed to trust it and to read what it says.

`models/<scorecard>/<version>/manifest.yaml`:

    scorecard: behaviour
    version: 2026.11.1
    model: {kind: lightgbm, file: model.txt, sha256: 64 hex digits}     # kind: lightgbm (default) or woe; besides,
                                                # `numbers`: digest of the numbers in its trees (`model_numbers`)
    grain: customer                             # or loan: what one row is about
    inputs: catalogue                           # or table: columns of a file, which no policy has
    target: {bad_dpd: 30, performance_d: 90}    # or {label: fraud, performance_d: 90}; of: whose outcome it is, where
                                                # that is not the grain: customer, facility or loan
    features:                                   # in the model's order
      - {name: utl_now, reason: RC30, monotone: 1, nulls: allowed, null_rate: 0.02, deciles: [9 numbers],
         shares: [a number for each bin]}
    calibration: {method: platt, a: 1.02, b: 0.11}    # or {method: isotonic, margins: [...], pds: [...]}
    scaling: {base_points: 600, base_odds: 50, pdo: 20, points_min: 300, points_max: 850}
    grades: {A: 660, B: 620, C: 580, D: 540, E: 300}  # best first; whoever is below all has the last
    training: {...}                             # free texts: what it was trained on, when, how
    metrics: {auc: 0.81, ...}                   # free numbers, out of time
    score: {rows: 17000, null_rate: 0.0, deciles: [9 numbers], shares: [...]}    # of points, for drift
    golden:                                     # rows that must score like this wherever the model loads
      - {inputs: [0.4, null], margin: -3.1, pd: 0.043, points: 576}

`deciles` and `shares` are the training distribution without nulls, the bins of a drift comparison (see
`distribution`), and `score.rows` how many rows all of them rest on (0: not said). `nulls: refused` says that a feature
never was null: a null there is not scored. `target` is what the PD is the probability of. `kind`, `grain`, `inputs`,
`target`, `shares` and `rows` may be missing: manifests from before them say customer, catalogue and lightgbm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from decision_service.core.reasons import TEXTS
from decision_service.core.scorecards.distribution import read_distribution
from decision_service.core.scorecards.reading import Section
from decision_service.core.scorecards.scaling import Calibration, Grades, Isotonic, Platt, Scaling
from decision_service.core.source import Document, Findings, nearest_name

NAME_PATTERN: Final = r"[a-z][a-z0-9_]{0,63}"
VERSION_PATTERN: Final = r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}"
_FILE_PATTERN: Final = r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}"
_SHA256_PATTERN: Final = r"[0-9a-f]{64}"
ModelKind = Literal["lightgbm", "woe"]
Grain = Literal["customer", "loan"]
InputsFrom = Literal["catalogue", "table"]
MODEL_KINDS: Final[tuple[ModelKind, ...]] = ("lightgbm", "woe")
GRAINS: Final[tuple[Grain, ...]] = ("customer", "loan")
OUTCOMES_OF: Final = ("customer", "facility", "loan")
INPUTS_FROM: Final[tuple[InputsFrom, ...]] = ("catalogue", "table")
DAYS_MAX: Final = 3_650
FEATURES_OF_A_SCORECARD_MAX: Final = 2_000
GOLDEN_MIN: Final = 2
GOLDEN_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class ScorecardFeature:
    """One input of a scorecard. `monotone` is 1 if the PD may only rise with it, -1 fall, 0 either."""

    name: str
    reason: str  # the code given to the customer when this feature weighs against them
    monotone: int
    nulls_allowed: bool
    null_rate: float
    deciles: tuple[float, ...]
    shares: tuple[float, ...] = ()  # of the training values without nulls, by bin: see `distribution`


@dataclass(frozen=True, slots=True)
class Target:
    """What the PD is the probability of, within so many days: `bad_dpd` days past due, or a label of a name; `of` whom,
    where that is not what the scorecard's grain says."""

    performance_d: int
    bad_dpd: int | None = None
    label: str | None = None
    of: str | None = None  # one of OUTCOMES_OF

    def __str__(self) -> str:
        what = f"label {self.label}" if self.bad_dpd is None else f"{self.bad_dpd} or more days past due"
        return f"{what} within {self.performance_d} days"


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """Inputs and what they must score, to 1e-9."""

    inputs: tuple[float, ...]
    margin: float
    pd: float
    points: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked manifest."""

    name: str
    version: str
    model_file: str
    model_sha256: str
    features: tuple[ScorecardFeature, ...]
    calibration: Calibration
    scaling: Scaling
    grades: Grades
    training: Mapping[str, str]
    metrics: Mapping[str, float]
    score_null_rate: float
    score_deciles: tuple[float, ...]
    golden: tuple[GoldenRow, ...]
    sha256: str  # of the manifest file itself, which names the model's: together the scorecard's identity
    model_kind: ModelKind = "lightgbm"
    grain: Grain = "customer"
    inputs_from: InputsFrom = "catalogue"
    target: Target | None = None
    model_numbers: str = ""  # digest of the numbers of the model's trees (`model_numbers`), empty if it is not said
    score_shares: tuple[float, ...] = ()
    score_rows: int = 0  # training rows that all distributions rest on; 0 for unknown

    @property
    def names(self) -> tuple[str, ...]:
        """The features in the model's order."""
        return tuple(feature.name for feature in self.features)


def read_manifest(document: Document, findings: Findings) -> Manifest | None:
    """The manifest in `document`, or None when `findings` got errors."""
    before = len(findings.errors)
    top = Section(document.root, "manifest", findings)
    model = top.section("model")
    score = top.section("score")
    features = _features(top)
    points = read_distribution(score)
    manifest = Manifest(
        name=top.text("scorecard", pattern=NAME_PATTERN, expected="a name of a-z, 0-9 and _"),
        version=top.text("version", pattern=VERSION_PATTERN, expected="letters, digits, dots and dashes"),
        model_file=model.text("file", pattern=_FILE_PATTERN, expected="a file name without a folder"),
        model_sha256=model.text("sha256", pattern=_SHA256_PATTERN, expected="64 lower-case hex digits"),
        features=features,
        calibration=_calibration(top.section("calibration")),
        scaling=read_scaling(top.section("scaling")),
        grades=read_grades(top.section("grades")),
        training={key: node.text for key, node in top.section("training").items()},
        metrics=_metrics(top.section("metrics")),
        score_null_rate=points.null_rate,
        score_deciles=points.deciles,
        golden=_golden(top, len(features)),
        sha256=document.sha256,
        model_kind=model.choice("kind", MODEL_KINDS, "lightgbm"),
        grain=top.choice("grain", GRAINS, "customer"),
        model_numbers=model.text("numbers", "", pattern=_SHA256_PATTERN, expected="64 lower-case hex digits"),
        inputs_from=top.choice("inputs", INPUTS_FROM, "catalogue"),
        target=_target(top),
        score_shares=points.shares,
        score_rows=score.whole("rows", 0, low=0),
    )
    for section in (model, score, top):
        section.finish()
    return manifest if len(findings.errors) == before else None


def _features(top: Section) -> tuple[ScorecardFeature, ...]:
    sections = top.sections("features")
    if not 1 <= len(sections) <= FEATURES_OF_A_SCORECARD_MAX:
        top.error("features", f"has {len(sections)} entries", f"1 to {FEATURES_OF_A_SCORECARD_MAX}")
    seen: set[str] = set()
    for section in sections:
        name = section.text("name", "")
        if name in seen:
            section.error("name", f"{name!r} occurs twice", "each feature once")
        seen.add(name)
    return tuple(_feature(section) for section in sections)


def _feature(section: Section) -> ScorecardFeature:
    reason = section.text("reason")
    if reason and reason not in TEXTS:
        nearest = nearest_name(reason, TEXTS)
        section.error("reason", f"{reason!r} is not a reason code", f"a known code such as {nearest or 'RC30'}")
    if reason.startswith("RC9"):
        section.error("reason", f"{reason!r} speaks of the service", "a code about the customer's credit")
    values = read_distribution(section)
    feature = ScorecardFeature(
        name=section.text("name"),
        reason=reason,
        monotone=section.whole("monotone", 0, low=-1, high=1),
        nulls_allowed=section.choice("nulls", ("allowed", "refused")) == "allowed",
        null_rate=values.null_rate,
        deciles=values.deciles,
        shares=values.shares,
    )
    section.finish()
    return feature


def _target(top: Section) -> Target | None:
    if not top.has("target"):
        return None
    section = top.section("target")
    labelled = section.has("label")
    if labelled and section.has("bad_dpd"):
        section.error("label", "stands beside bad_dpd", "one of them")
    target = Target(
        performance_d=section.whole("performance_d", low=1, high=DAYS_MAX),
        bad_dpd=None if labelled else section.whole("bad_dpd", low=1, high=DAYS_MAX),
        label=section.text("label") if labelled else None,
        of=section.choice("of", OUTCOMES_OF) if section.has("of") else None,
    )
    section.finish()
    return target


def _calibration(section: Section) -> Calibration:
    calibration: Calibration
    if section.choice("method", ("platt", "isotonic")) == "isotonic":
        calibration = _isotonic(section)
    else:
        calibration = Platt(section.number("a"), section.number("b"))
        if section.has("a") and calibration.a <= 0.0:
            section.error("a", "must be greater than 0", "a slope that keeps the model's order")
    section.finish()
    return calibration


def _isotonic(section: Section) -> Isotonic:
    table = Isotonic(section.numbers("margins"), section.numbers("pds"))
    if len(table.margins) != len(table.pds) or len(table.margins) < 2:
        section.error("margins", "does not match pds", "two lists of one length, 2 at least")
    if any(a >= b for a, b in pairwise(table.margins)):
        section.error("margins", "does not rise", "numbers that rise strictly")
    if any(a > b for a, b in pairwise(table.pds)):
        section.error("pds", "falls", "probabilities that never fall")
    if any(not 0.0 <= pd <= 1.0 for pd in table.pds):
        section.error("pds", "leaves [0, 1]", "probabilities")
    return table


def read_scaling(section: Section) -> Scaling:
    """`scaling:` of a manifest or training file; what it does not say is standard."""
    scaling = Scaling(
        base_points=section.number("base_points", 600.0, low=0.0, high=10_000.0),
        base_odds=section.number("base_odds", 50.0, low=1e-6, high=1e9),
        pdo=section.number("pdo", 20.0, low=0.1, high=1_000.0),
        points_min=section.whole("points_min", 300, low=0, high=10_000),
        points_max=section.whole("points_max", 850, low=1, high=10_000),
    )
    if scaling.points_min >= scaling.points_max:
        section.error("points_max", "is not above points_min", "a scale from low to high")
    section.finish()
    return scaling


def read_grades(section: Section) -> Grades:
    """`grades:` of a manifest or training file."""
    names = section.node.keys()
    least = tuple(section.whole(name) for name in names)
    if len(names) < 2:
        section.findings.error(section.place, "grades are too few", expected="two grades at least")
    if any(a <= b for a, b in pairwise(least)):
        section.findings.error(
            section.place, "grades do not fall", expected="best first, each from fewer points than the last"
        )
    return Grades(names, least[:-1])


def _metrics(section: Section) -> dict[str, float]:
    return {name: section.number(name) for name in section.node.keys()}  # noqa: SIM118


def _golden(top: Section, width: int) -> tuple[GoldenRow, ...]:
    sections = top.sections("golden")
    if not GOLDEN_MIN <= len(sections) <= GOLDEN_MAX:
        top.error("golden", f"has {len(sections)} rows", f"{GOLDEN_MIN} to {GOLDEN_MAX}")
    return tuple(_golden_row(section, width) for section in sections)


def _golden_row(section: Section, width: int) -> GoldenRow:
    row = GoldenRow(
        section.numbers("inputs", nulls=True),
        section.number("margin"),
        section.number("pd", low=0.0, high=1.0),
        section.whole("points"),
    )
    if len(row.inputs) != width:
        section.error("inputs", f"has {len(row.inputs)} numbers", f"{width}, one for each feature")
    if row.inputs and all(math.isnan(value) for value in row.inputs):
        section.error("inputs", "is all null", "a row that may be scored")
    section.finish()
    return row
