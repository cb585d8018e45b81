"""A training file: what to train on, what counts as bad, which features, and how the model may look.

    scorecard: behaviour
    version: 2026.12.1
    features_from: ../../rules               # the rules directory with the catalogue, relative to this file
    zone: Asia/Shanghai                      # business time zone
    portfolio: {customers: 6000, ...}        # or events: {...}, or table: {...}: see `sources`
    sample: {...}                            # see `sample_design`; a table has none
    model: {kind: lightgbm, trees: 300, leaves: 31, ...}     # see `model_design`
    calibration: platt                       # or isotonic; what follows is what is taken without it
    scaling: {base_points: 600, base_odds: 50, pdo: 20, points_min: 300, points_max: 850}
    grades: {A: 660, B: 620, C: 580, D: 540, E: 300}
    features:                                # of the catalogue, attributes, numbers such as facility.apr; or columns
      - {name: utl_now, reason: RC30, monotone: 1}

All errors of a file are reported at once, names that the catalogue or the table does not have among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from decision_service.build.table import TableSpec, compiled
from decision_service.core.errors import InvalidInput, PolicyRejected
from decision_service.core.policy import ATTRIBUTES_FILE, FEATURES_FOLDER
from decision_service.core.reasons import TEXTS
from decision_service.core.rules.attributes import lay_out
from decision_service.core.scorecards.manifest import (
    NAME_PATTERN,
    VERSION_PATTERN,
    Grain,
    Target,
    read_grades,
    read_scaling,
)
from decision_service.core.scorecards.reading import Section
from decision_service.core.scorecards.scaling import STANDARD_GRADES, Grades, Scaling
from decision_service.core.source import Document, Findings, Place, nearest_name
from decision_service.policies.files import read_directory, read_document
from decision_service.portfolio.loans import LABELS
from decision_service.tables.file import open_file
from decision_service.train.calibrate import METHODS, Method
from decision_service.train.model_design import ModelDesign, WoeDesign, read_model_design
from decision_service.train.sample_design import SampleDesign, read_sample_design
from decision_service.train.sources import PortfolioSource, Source, SplitColumn, TableSource, read_source


@dataclass(frozen=True, slots=True)
class TrainedFeature:
    """One input: `monotone` 1 says that the PD may only rise with it, -1 only fall, 0 either."""

    name: str
    reason: str
    monotone: int
    place: Place


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A checked training file. A source of events has a `sample` and the `spec` of its features; a table has none."""

    scorecard: str
    version: str
    zone: str
    source: Source
    sample: SampleDesign | None
    spec: TableSpec | None
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

    @property
    def grain(self) -> Grain:
        """What a row is about."""
        return "customer" if self.sample is None else self.sample.grain

    @property
    def target(self) -> Target | None:
        """What the PD is the probability of, where that is said."""
        if self.sample is not None:
            of = None if self.sample.bad_of == self.sample.grain else self.sample.bad_of
            return replace(self.sample.target, of=of)
        assert isinstance(self.source, TableSource)
        days = self.source.performance_d
        return None if days is None else Target(days, label=self.source.label)


def read_train_config(path: Path) -> TrainConfig:
    """The training file at `path`. Raises PolicyRejected with everything wrong in it."""
    findings = Findings()
    document = read_document(path, str(path), findings)
    if document is None:
        raise PolicyRejected(findings.errors)
    top = Section(document.root, "train", findings)
    source = read_source(top, path.parent)
    features = _features(top)
    zone = top.text("zone", "Asia/Shanghai")
    spec, sample = None, None
    if isinstance(source, TableSource):
        _check_columns(source, features, findings)
    else:
        spec = _spec(top, path.parent, features, zone)
        section = top.section("sample")
        sample = read_sample_design(section)
        if isinstance(source, PortfolioSource):
            _check_told(section, sample)
    rest = {
        "scorecard": top.text("scorecard", pattern=NAME_PATTERN, expected="a name of a-z, 0-9 and _"),
        "version": top.text("version", pattern=VERSION_PATTERN, expected="letters, digits, dots and dashes"),
    }
    model = read_model_design(top.section("model"))
    calibration = top.choice("calibration", METHODS, "platt")
    scaling = read_scaling(top.section("scaling", required=False))
    grades = read_grades(top.section("grades")) if top.has("grades") else STANDARD_GRADES
    if isinstance(model, WoeDesign) and calibration != "platt":
        top.error("calibration", "does not go with kind: woe", "platt, under which the points of bins add up")
    top.finish()
    if findings.errors or source is None:
        raise PolicyRejected(findings.errors)
    return TrainConfig(
        rest["scorecard"], rest["version"], zone, source, sample, spec, model, calibration, scaling, grades, features,
        document.sha256,
    )  # fmt: skip


def _check_told(section: Section, sample: SampleDesign) -> None:
    """That a generated portfolio tells the outcome: arrears of customers, and labels of loans (`portfolio.loans`)."""
    label = sample.target.label
    if label is None and sample.bad_of == "loan":
        expected = "label: overdue_30; or bad_of: customer, for the arrears of the line"
        section.error("bad_dpd", "is told of no loan of a generated portfolio", expected)
    if label is not None and (sample.grain == "customer" or label not in LABELS):
        expected = f"bad_dpd; or grain: loan and one of {', '.join(LABELS)}"
        section.error("label", f"{label!r} is no outcome of a generated portfolio", expected)


def _features(top: Section) -> tuple[TrainedFeature, ...]:
    sections = top.sections("features")
    features = tuple(_feature(section) for section in sections)
    if not features:
        top.error("features", "is empty", "at least one feature")
    for section, feature in zip(sections, features, strict=True):
        if next(f for f in features if f.name == feature.name) is not feature:
            section.error("name", f"{feature.name!r} occurs twice", "each feature once")
    return features


def _feature(section: Section) -> TrainedFeature:
    reason = section.text("reason", expected="a reason code")
    if reason and (reason not in TEXTS or reason.startswith("RC9")):
        nearest = nearest_name(reason, TEXTS) or "RC30"
        section.error("reason", f"{reason!r} is no code about the customer's credit", f"a code such as {nearest}")
    node = section.node.get("name")
    place = section.place if node is None else node.place
    feature = TrainedFeature(section.text("name"), reason, section.whole("monotone", 0, low=-1, high=1), place)
    section.finish()
    return feature


def _spec(top: Section, folder: Path, features: tuple[TrainedFeature, ...], zone: str) -> TableSpec | None:
    """The definitions of the features; what is wrong with them, in their own files or in this one, is a finding."""
    text = top.text("features_from", expected="a directory, relative to this file")
    directory = folder / text
    if not text or not directory.is_dir():
        top.error("features_from", "names no directory", "a rules directory or its features, relative to this file")
        return None
    try:
        documents = _definitions(directory)
        catalogue, attributes = compiled(documents, Findings())
    except PolicyRejected as refused:
        top.findings.diagnostics.extend(refused.diagnostics)
        return None
    known = [*catalogue.by_name, *lay_out(attributes).names]
    _check_names(
        features, known, "a feature, a numeric attribute or a number such as facility.outstanding", top.findings
    )
    return TableSpec(documents, tuple(f.name for f in features if f.name in known), zone)


def _definitions(directory: Path) -> dict[str, Document]:
    """The catalogue and the attributes of a rules directory, or of its folder of features. Raises PolicyRejected."""
    findings = Findings()
    whole = (directory / FEATURES_FOLDER).is_dir()
    documents = read_directory(directory / FEATURES_FOLDER if whole else directory, findings)
    found = {f"{FEATURES_FOLDER}{name}": document for name, document in documents.items()}
    attributes = (directory if whole else directory.parent) / ATTRIBUTES_FILE
    document = read_document(attributes, attributes.name, findings) if attributes.is_file() else None
    if findings.errors:
        raise PolicyRejected(findings.errors)
    return found if document is None else found | {ATTRIBUTES_FILE: document}


def _check_columns(source: TableSource, features: tuple[TrainedFeature, ...], findings: Findings) -> None:
    """Everything that the training file says of a table's columns."""
    if not source.file.is_file():
        return  # which is an error already
    try:
        names = open_file(source.file, None).names
    except InvalidInput as error:
        findings.error(source.place, error.message)
        return
    split = source.split.name if isinstance(source.split, SplitColumn) else None
    for what, name in (("label", source.label), ("split", split), ("customer", source.customer), ("at", source.at)):
        if name and name not in names:
            findings.error(
                source.place, f"train.table.{what}: {source.file.name} has no column {name!r}",
                expected="a column of the table", nearest=nearest_name(name, names),
            )  # fmt: skip
    _check_names(features, names, f"a column of {source.file.name}", findings)


def _check_names(features: tuple[TrainedFeature, ...], known: Sequence[str], expected: str, findings: Findings) -> None:
    for feature in features:
        if feature.name and feature.name not in known:
            findings.error(
                feature.place, f"unknown feature {feature.name!r}", expected=expected,
                nearest=nearest_name(feature.name, known), length=len(feature.name),
            )  # fmt: skip
