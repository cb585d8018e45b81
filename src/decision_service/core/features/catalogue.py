"""The catalogue: every declared feature, expanded over its windows and parameters, checked, with its meaning.

A document has up to five sections, each a mapping of name to row:

    constants   number, text or list of them
    calendars   {from, until, version, days}
    segments    condition, or {expr, each}
    features    {agg, of, value, by ..., windows | window | buckets | months | month, grain, delay, null, unit, en, zh}
    derived     {expr, of, windows | window | months | month, null, unit, en, zh}

One row makes several names: `windows` and `months` (a list, or a mapping of label to duration) append `_<label>`,
`window` and `month` (one) do not; `buckets: 12 x 30d` appends `_m0` (newest) to `_m11`; `each` substitutes `{name}` in
the row's own name and texts. In texts `{w}` is the window's label, `{p}` the number of months, and `{k-1}` one less
than k. A row with `null: D` also defines `<name>__new`: 1 when its division is v/0 with v > 0.

Nothing here raises for a mistake of an analyst: findings say where and what was expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from decision_service.core.expressions.parse import parse_expression
from decision_service.core.expressions.tree import Tree
from decision_service.core.features.calendars import Calendar, read_calendars
from decision_service.core.features.event_names import EVENT_NAMES
from decision_service.core.features.grains import CUSTOMER, NULL_WITHOUT_SUBJECT, check_grains
from decision_service.core.features.nulls import NullRule
from decision_service.core.features.references import check_references
from decision_service.core.features.rows import Row, Variant, read_rows
from decision_service.core.features.soundness import check_constants, sound_rows
from decision_service.core.features.supported import check_supported
from decision_service.core.limits import FEATURES_MAX
from decision_service.core.source import Document, Findings, MappingNode, Place, Scalar, SequenceNode, nearest_name
from decision_service.core.vocabulary import Kind, NameSpec, Vocabulary

SURGE: Final = "__new"
_SECTIONS: Final = ("constants", "calendars", "segments", "features", "derived")


@dataclass(frozen=True, slots=True)
class Segment:
    """A named condition over events."""

    name: str
    tree: Tree
    place: Place


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature. Exactly one of `variant` (an aggregation) and `tree` (a formula) says how it is computed.

    `surge_of` names the feature whose division this companion watches.
    """

    name: str
    kind: Kind
    unit: str
    null: NullRule
    meaning_en: str
    meaning_zh: str
    place: Place
    definition: str
    row: Row
    variant: Variant
    tree: Tree | None = None
    surge_of: str = ""
    internal: bool = False

    @property
    def grain(self) -> str:
        """Whose events it is computed from; a derived feature and its companion stand with the customer's."""
        return self.row.grain if self.row.section == "features" else CUSTOMER


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything the documents declare, in file order."""

    specs: tuple[FeatureSpec, ...]
    segments: Mapping[str, Segment]
    by_name: Mapping[str, FeatureSpec]
    constants: Mapping[str, NameSpec] = field(default_factory=dict)
    broken: tuple[NameSpec, ...] = ()  # what rows with a mistake would define
    calendars: Mapping[str, Calendar] = field(default_factory=dict)
    families: Mapping[str, Sequence[str]] = field(default_factory=dict)  # the features of each row of buckets

    @property
    def vocabulary_specs(self) -> tuple[NameSpec, ...]:
        """The names rules and scorecards may use; those of rows with a mistake too, so that it is told only once."""
        return (*self.broken, *(_name_spec(spec) for spec in self.specs))


def _name_spec(spec: FeatureSpec) -> NameSpec:
    unit = "" if spec.kind is Kind.FLAG else spec.unit
    nullable = spec.null.nullable or spec.tree is not None or spec.grain in NULL_WITHOUT_SUBJECT
    return NameSpec(spec.name, spec.kind, unit, nullable, spec.meaning_en)


def _sections(documents: Sequence[Document], section: str, findings: Findings) -> Iterator[tuple[Scalar, object]]:
    for document in documents:
        node = document.root.get(section)
        if isinstance(node, MappingNode):
            yield from node.items
        elif node is not None:
            findings.error(node.place, f"`{section}` must be a mapping of names", expected="name: row")


def _check_sections(documents: Sequence[Document], findings: Findings) -> None:
    for document in documents:
        for key, _ in document.root.items:
            if key.text not in _SECTIONS:
                findings.error(
                    key.place, f"unknown section `{key.text}`", expected=", ".join(_SECTIONS),
                    nearest=nearest_name(key.text, _SECTIONS), length=len(key.text),
                )  # fmt: skip


def _constant_value(scalar: Scalar) -> float | str:
    if scalar.quoted:
        return scalar.text
    try:
        return float(scalar.text)
    except ValueError:
        return scalar.text


def _read_constants(documents: Sequence[Document], findings: Findings) -> dict[str, NameSpec]:
    constants: dict[str, NameSpec] = {}
    for key, node in _sections(documents, "constants", findings):
        value: float | str | tuple[float | str, ...]
        if isinstance(node, Scalar):
            value = _constant_value(node)
            kind = Kind.STRING if isinstance(value, str) else Kind.NUMBER
        elif isinstance(node, SequenceNode) and all(isinstance(item, Scalar) for item in node):
            value = tuple(_constant_value(item) for item in node if isinstance(item, Scalar))
            kind = Kind.LIST
        else:
            findings.error(key.place, f"constant `{key.text}` must be a number, a text or a list of them")
            continue
        if key.text in constants:
            findings.error(key.place, f"constant `{key.text}` is defined twice", length=len(key.text))
        constants[key.text] = NameSpec(key.text, kind, nullable=False, constant=value)
    return constants


def _is_condition(tree: Tree) -> bool:
    return tree.kind in (Kind.BOOLEAN, Kind.FLAG)


def _read_segments(documents: Sequence[Document], vocabulary: Vocabulary, findings: Findings) -> dict[str, Segment]:
    segments: dict[str, Segment] = {}
    for row in read_rows(_sections(documents, "segments", findings), "segments", findings):
        for variant in row.variants:
            text, place = row.plain("expr", variant), row.place_of("expr")
            tree = parse_expression(text, place, vocabulary, findings)
            if tree is None:
                continue
            if not _is_condition(tree):
                findings.error(place, f"segment `{variant.name}` is no condition", expected="a condition")
            if variant.name in segments:
                findings.error(row.place, f"segment `{variant.name}` is defined twice", length=len(row.name))
            segments[variant.name] = Segment(variant.name, tree, place)
    return segments


def _spec(row: Row, variant: Variant) -> FeatureSpec:
    kind = Kind.FLAG if row.unit == "0/1" else Kind.NUMBER
    return FeatureSpec(
        variant.name, kind, row.unit, row.null, row.plain("en", variant), row.plain("zh", variant), row.place,
        row.definition(variant), row, variant, internal=row.internal,
    )  # fmt: skip


def _companion(spec: FeatureSpec) -> FeatureSpec:
    return FeatureSpec(
        spec.name + SURGE, Kind.FLAG, "0/1", spec.null, f"1 if {spec.name} divides something by nothing",
        f"{spec.name} 分母为零而分子为正时为 1", spec.place, f"surge of {spec.name}", spec.row, spec.variant,
        surge_of=spec.name, internal=spec.internal,
    )  # fmt: skip


class _Collector:
    """Feature specs by name; a second definition of a name is a finding."""

    def __init__(self, taken: Vocabulary, findings: Findings) -> None:
        self.specs: dict[str, FeatureSpec] = {}
        self._taken = taken
        self._findings = findings

    def add(self, spec: FeatureSpec) -> None:
        if spec.name in self.specs:
            self._findings.error(spec.place, f"feature `{spec.name}` is defined twice", length=len(spec.row.name))
        elif spec.name in self._taken:
            self._findings.error(
                spec.place, f"`{spec.name}` is already the name of an input or a constant",
                length=len(spec.row.name),
            )  # fmt: skip
        else:
            self.specs[spec.name] = spec


def _check_segment_names(rows: Sequence[Row], segments: Mapping[str, Segment], findings: Findings) -> None:
    for row in rows:
        for key, name in row.segment_names():
            if name not in segments:
                findings.error(
                    row.place_of(key), f"unknown segment `{name}`", expected="a name under `segments`",
                    nearest=nearest_name(name, segments), length=len(name),
                )  # fmt: skip
                break


def _check_calendar_names(rows: Sequence[Row], calendars: Mapping[str, Calendar], findings: Findings) -> None:
    for row in rows:
        names = {row.plain("calendar", variant) for variant in row.variants if row.has("calendar")}
        for name in sorted(names - set(calendars)):
            findings.error(
                row.place_of("calendar"), f"unknown calendar `{name}`", expected="a name under `calendars`",
                nearest=nearest_name(name, calendars), length=len(name),
            )  # fmt: skip


def _with_trees(collector: _Collector, vocabulary: Vocabulary, findings: Findings) -> dict[str, FeatureSpec]:
    """Parse every formula and value expression now that all names are known."""
    specs: dict[str, FeatureSpec] = {}
    for name, spec in collector.specs.items():
        tree = None
        if spec.row.section == "derived" and not spec.surge_of:
            text, place = spec.row.plain("expr", spec.variant), spec.row.place_of("expr")
            tree = parse_expression(text, place, vocabulary, findings)
            if tree is None:
                continue
            if tree.kind not in (Kind.NUMBER, Kind.FLAG, Kind.BOOLEAN):
                findings.error(place, f"feature `{name}` must be a number or a condition")
                continue
            if tree.kind is Kind.BOOLEAN and spec.kind is not Kind.FLAG:
                findings.error(place, f"feature `{name}` is a condition", expected="unit: 0/1")
        specs[name] = _replaced(spec, tree)
    return specs


def _replaced(spec: FeatureSpec, tree: Tree | None) -> FeatureSpec:
    return FeatureSpec(
        spec.name, spec.kind, spec.unit, spec.null, spec.meaning_en, spec.meaning_zh, spec.place, spec.definition,
        spec.row, spec.variant, tree, spec.surge_of, spec.internal,
    )  # fmt: skip


def section_names() -> tuple[str, ...]:
    """The sections a feature file may have."""
    return _SECTIONS


def read_catalogue_rows(
    documents: Sequence[Document], findings: Findings, broken: list[Row] | None = None
) -> list[Row]:
    """All rows of `features` and `derived` without a mistake, in file order; those with one go to `broken`."""
    out = [] if broken is None else broken
    rows = [
        *read_rows(_sections(documents, "features", findings), "features", findings, out),
        *read_rows(_sections(documents, "derived", findings), "derived", findings, out),
    ]
    sound = sound_rows(rows, findings)
    kept = {id(row) for row in sound}
    out += [row for row in rows if id(row) not in kept]
    return sound


def _names_of(broken: Sequence[Row], collector: _Collector) -> list[NameSpec]:
    """What rows with a mistake would define: nobody who uses it is told that it is unknown, for it is only wrong."""
    specs = [_spec(row, variant) for row in broken for variant in row.variants]
    specs += [_companion(spec) for spec in specs if spec.null.surge and spec.row.section == "derived"]
    return [_name_spec(spec) for spec in specs if spec.name not in collector.specs]


def read_features(documents: Sequence[Document], base: Vocabulary, findings: Findings) -> Catalogue:
    """Read and check all documents together; `base` holds base names and declared attributes."""
    _check_sections(documents, findings)
    constants = _read_constants(documents, findings)
    check_constants(_sections(documents, "constants", Findings()), base, findings)
    calendars = read_calendars(_sections(documents, "calendars", findings), findings)
    inputs = base.with_names(*constants.values())
    segments = _read_segments(documents, inputs.with_names(*EVENT_NAMES), findings)
    broken: list[Row] = []
    rows = read_catalogue_rows(documents, findings, broken)
    _check_segment_names(rows, segments, findings)
    check_grains(rows, segments, findings)
    _check_calendar_names(rows, calendars, findings)
    collector = _Collector(inputs, findings)
    for row in rows:
        for variant in row.variants:
            spec = _spec(row, variant)
            collector.add(spec)
            if row.null.surge and row.section == "derived":
                collector.add(_companion(spec))
    if len(collector.specs) > FEATURES_MAX and documents:
        findings.error(documents[0].root.place, f"{len(collector.specs)} features, at most {FEATURES_MAX}")
    missing = _names_of(broken, collector)
    inputs = inputs.with_names(*missing)
    vocabulary = inputs.with_names(*(_name_spec(spec) for spec in collector.specs.values()))
    specs = _with_trees(collector, vocabulary, findings)
    missing += [_name_spec(spec) for name, spec in collector.specs.items() if name not in specs]
    checked = check_references(specs, inputs.with_names(*missing), findings)
    if not findings.errors:
        check_supported(segments, checked, inputs, findings)
    return Catalogue(
        tuple(checked.values()), segments, checked, constants, tuple(missing), calendars, _families(checked.values())
    )


def _families(specs: Iterable[FeatureSpec]) -> dict[str, list[str]]:
    families: dict[str, list[str]] = {}
    for spec in specs:
        if spec.variant.bucket >= 0:
            families.setdefault(spec.name.rpartition("_m")[0], []).append(spec.name)
    return families
