"""Warnings about feature files: what compiles and is hardly meant. Never an error, so none can stop a reload.

Unused segments, constants and intermediates; two rows that define the same thing; units that do not fit together; a
window that retention never covers and nobody reports on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from decision_service.core.expressions.tree import Tree
from decision_service.core.expressions.units import UNKNOWN, hint, unit_of
from decision_service.core.features.catalogue import Catalogue, FeatureSpec
from decision_service.core.features.durations import LIFE_MS
from decision_service.core.features.references import dependencies, names_in
from decision_service.core.limits import DAY_MS
from decision_service.core.source import Document, Findings, MappingNode, Scalar, SequenceNode
from decision_service.core.vocabulary import Kind

_SLOT: Final = re.compile(r"\{\w*\}")
_WORD: Final = re.compile(r"(?:[a-z_]|\{\w*\})(?:[a-z0-9_]|\{\w*\})*")  # names, also with parameters of `each` in them
_NOT_MEANING: Final = (
    "windows", "window", "months", "month", "buckets", "each", "null", "unit", "en", "zh", "internal",
)  # fmt: skip


def lint_features(
    catalogue: Catalogue, documents: Sequence[Document], needed: Collection[str], retention_ms: int, findings: Findings
) -> None:
    """Warn about a catalogue without errors. `needed` are the names that rules, scorecards and `record` use."""
    _unused_segments(catalogue, findings)
    _unused_constants(documents, findings)
    _unused_intermediates(catalogue, needed, findings)
    _same_definitions(catalogue, findings)
    _unlike_units(catalogue, findings)
    _uncovered_windows(catalogue, retention_ms, findings)


def _rows_of(catalogue: Catalogue) -> Iterator[FeatureSpec]:
    """The first feature of every row."""
    seen: set[int] = set()
    for spec in catalogue.specs:
        if id(spec.row) not in seen:
            seen.add(id(spec.row))
            yield spec


def _unused_segments(catalogue: Catalogue, findings: Findings) -> None:
    used = {name for spec in _rows_of(catalogue) for _, name in spec.row.segment_names()}
    places: dict[object, list[str]] = {}
    for segment in catalogue.segments.values():
        places.setdefault(segment.place, []).append(segment.name)
    for names in places.values():
        if not used & set(names):
            findings.warning(catalogue.segments[names[0]].place, f"the segment `{names[0]}` is not used")


def _unused_constants(documents: Sequence[Document], findings: Findings) -> None:
    words = {word for document in documents for text in _texts(document.root) for word in _WORD.findall(text)}
    patterns = [re.compile(_SLOT.sub(r"\\w+", word)) for word in words if "{" in word]
    for document in documents:
        block = document.root.get("constants")
        for key, _ in block.items if isinstance(block, MappingNode) else ():
            if key.text not in words and not any(pattern.fullmatch(key.text) for pattern in patterns):
                findings.warning(key.place, f"the constant `{key.text}` is not used", length=len(key.text))


def _texts(node: object) -> Iterator[str]:
    """Every value of a document, keys aside."""
    if isinstance(node, Scalar):
        yield node.text
    elif isinstance(node, SequenceNode):
        for item in node:
            yield from _texts(item)
    elif isinstance(node, MappingNode):
        for _, value in node.items:
            yield from _texts(value)


def _unused_intermediates(catalogue: Catalogue, needed: Collection[str], findings: Findings) -> None:
    used = set(needed)
    for spec in catalogue.specs:
        if not spec.surge_of:
            used.update(dependencies(spec))
    for segment in catalogue.segments.values():
        used.update(name.spec.name for name in names_in(segment.tree))
    rows: dict[int, list[FeatureSpec]] = {}
    for spec in catalogue.specs:
        if spec.internal:
            rows.setdefault(id(spec.row), []).append(spec)
    for specs in rows.values():
        if not any(spec.name in used for spec in specs):
            name = specs[0].row.name
            findings.warning(specs[0].place, f"nothing is made of the intermediate `{name}`", length=len(name))


def _same_definitions(catalogue: Catalogue, findings: Findings) -> None:
    seen: dict[object, FeatureSpec] = {}
    told: set[int] = set()
    for spec in catalogue.specs:
        if spec.surge_of or spec.internal:
            continue
        row, variant = spec.row, spec.variant
        says = tuple(sorted((k, " ".join(row.plain(k, variant).split())) for k in row.nodes if k not in _NOT_MEANING))
        key = (row.section, says, variant.window_ms, variant.months, variant.bucket, spec.null.codes, spec.unit)
        first = seen.setdefault(key, spec)
        if first.row is not spec.row and id(spec.row) not in told:
            told.add(id(spec.row))
            where = f"{first.place.file}:{first.place.line}"
            findings.warning(
                spec.place, f"`{spec.name}` is what `{first.name}` is already ({where})", length=len(spec.row.name)
            )


# --- units ---


def _unlike_units(catalogue: Catalogue, findings: Findings) -> None:
    for spec in _rows_of(catalogue):
        if spec.tree is not None:
            _unlike_units_of(spec, spec.tree, findings)


def _unlike_units_of(spec: FeatureSpec, tree: Tree, findings: Findings) -> None:
    place, name = spec.row.place_of("expr"), spec.row.name

    def mixed(_left: Tree, _right: Tree, verb: str, a: str, b: str) -> None:
        if not _fits(a, b):
            findings.warning(place, f"`{name}`: {a} is {verb} {b}", expected=hint(a, b))

    unit = unit_of(tree, mixed)
    if UNKNOWN not in (unit, spec.unit) and spec.kind is not Kind.FLAG and not _fits(unit, spec.unit):
        findings.warning(place, f"`{name}` is declared as {spec.unit}, and its formula gives {unit}")


def _fits(unit: str, declared: str) -> bool:
    counts = ("n", "d", "ratio")  # a count of days, a share of counts
    return unit == declared or (unit in counts and declared in counts)


# --- windows ---


def _uncovered_windows(catalogue: Catalogue, retention_ms: int, findings: Findings) -> None:
    reports = ("coverage", "truncated")
    covered = {spec.variant.window_ms for spec in catalogue.specs if spec.row.plain("agg", spec.variant) in reports}
    for spec in _rows_of(catalogue):
        lengths = {variant.window_ms for variant in spec.row.variants}
        longest = max((length for length in lengths if length < LIFE_MS), default=0)
        if spec.row.section == "features" and longest > retention_ms and not covered & lengths:
            findings.warning(
                spec.row.place_of("windows" if spec.row.has("windows") else "window"),
                f"`{spec.row.name}` looks back {longest // DAY_MS} days, and events are kept for "
                f"{retention_ms // DAY_MS}",
                expected="a `coverage` row with this window beside it, or a shorter window",
            )  # fmt: skip
