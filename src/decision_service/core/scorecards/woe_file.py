"""The file of a WOE points scorecard: `model.yaml` beside its manifest.

Read like a policy file (no tags, no anchors, nothing that runs), one line a bin, so that whoever signs a scorecard can
read it and a change shows in a diff:

    format: woe/1
    intercept: -3.9512
    features:                                # those of the manifest, in its order
      - name: utl_now
        coefficient: -0.8312
        bins:                                # rising; a value equal to `below` falls into the next bin
          - {below: 0.12, points: 48, woe: 0.91, rows: 1200, bads: 8}
          - {below: 0.45, points: 41, woe: 0.2, rows: 900, bads: 17}
          - {points: 30, woe: -0.8, rows: 400, bads: 30}
        missing: {points: 38, woe: 0.0, rows: 20, bads: 1}

What the numbers mean is told in `woe`. They have to keep what the manifest promises (nulls, directions), and the points
have to follow from its calibration and scale: a table that people read and a score that the service gives must not be
two things. That needs a Platt calibration; under an isotonic one no points add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from decision_service.core.scorecards.manifest import Manifest, ScorecardFeature
from decision_service.core.scorecards.reading import Section
from decision_service.core.scorecards.scaling import Platt
from decision_service.core.scorecards.woe import WoeBin, WoeFeature, WoeModel, bin_points
from decision_service.core.source import Document, Findings, nearest_name

FORMAT: Final = "woe/1"
FORMAT_LINE: Final = f"format: {FORMAT}\n".encode()  # the first line that is no comment
BINS_MAX: Final = 100  # of one feature
_SIZE_MAX: Final = 1e6  # of a WOE, a coefficient or an intercept, far above any that was ever fitted
_ROWS_MAX: Final = 2**53
_WHOLE_MAX: Final = 1e15  # cuts below it are written without a fraction if they have none
_HALF_A_POINT: Final = 0.5 + 1e-6  # how far whole points may be from exact ones


def read_woe(document: Document, manifest: Manifest, findings: Findings) -> WoeModel | None:
    """The model in `document`, which must fit the manifest beside it, or None when `findings` got errors."""
    before = len(findings.errors)
    top = Section(document.root, "model", findings)
    top.choice("format", (FORMAT,))
    intercept = top.number("intercept", low=-_SIZE_MAX, high=_SIZE_MAX)
    sections = top.sections("features")
    features = tuple(_feature(section) for section in sections)
    top.finish()
    if len(findings.errors) == before:
        _check_names(top, sections, features, manifest)
    if len(findings.errors) == before:
        model = WoeModel(intercept, features)
        for section, feature, said in zip(sections, features, manifest.features, strict=True):
            _check_promises(section, feature, said)
        _check_points(top, sections, model, manifest)
    return WoeModel(intercept, features) if len(findings.errors) == before else None


def _feature(section: Section) -> WoeFeature:
    name = section.text("name")
    coefficient = section.number("coefficient", low=-_SIZE_MAX, high=0.0)
    bins = _bins(section)
    missing = _bin(section.section("missing"), math.nan) if section.has("missing") else None
    section.finish()
    feature = WoeFeature(name, coefficient, bins, missing)
    if bins and not feature.rows:
        section.error("bins", "hold no row", "the training rows of each bin")
    return feature


def _bins(section: Section) -> tuple[WoeBin, ...]:
    sections = section.sections("bins")
    if not 1 <= len(sections) <= BINS_MAX:
        section.error("bins", f"has {len(sections)} entries", f"1 to {BINS_MAX}")
    cuts = [_cut(one, last=one is sections[-1]) for one in sections]
    for one, (a, b) in zip(sections[1:], pairwise(cuts), strict=False):
        if a >= b:
            one.error("below", "does not rise", f"a number above {a!r}, the cut before it")
    return tuple(_bin(one, cut) for one, cut in zip(sections, cuts, strict=True))


def _cut(section: Section, *, last: bool) -> float:
    if not last:
        return section.number("below")
    if section.has("below"):
        section.error("below", "closes the last bin", "a last bin without it, for everything above")
    return math.inf


def _bin(section: Section, below: float) -> WoeBin:
    one = WoeBin(
        below,
        section.whole("points"),
        section.number("woe", low=-_SIZE_MAX, high=_SIZE_MAX),
        section.whole("rows", low=0, high=_ROWS_MAX),
        section.whole("bads", low=0, high=_ROWS_MAX),
    )
    if one.bads > one.rows:
        section.error("bads", "exceeds rows", "the bad ones among them")
    section.finish()
    return one


def _check_names(
    top: Section, sections: tuple[Section, ...], features: tuple[WoeFeature, ...], manifest: Manifest
) -> None:
    found, expected = [feature.name for feature in features], manifest.names
    for section, name in zip(sections, found, strict=True):
        if name not in expected:
            nearest = nearest_name(name, expected) or expected[0]
            section.error("name", f"{name!r} is not a feature of the manifest", f"one of them, such as {nearest}")
    if len(found) != len(expected):
        top.error("features", f"has {len(found)} entries", f"{len(expected)}, one for each feature of the manifest")
        return
    for i, (section, a, b) in enumerate(zip(sections, found, expected, strict=True)):
        if a != b and a in expected:
            section.error("name", f"is {a!r}, out of order", f"{b}, which is feature {i} of the manifest")


def _check_promises(section: Section, feature: WoeFeature, said: ScorecardFeature) -> None:
    """What the manifest says of nulls and of direction is so."""
    if said.nulls_allowed and feature.missing is None:
        message = f"`{said.name}` has no bin for null"
        section.findings.error(section.place, message, expected="missing: {...}, for the manifest allows nulls")
    if said.monotone:
        word = "falls" if said.monotone > 0 else "rises"
        bins = section.sections("bins")
        for one, (a, b) in zip(bins[1:], pairwise(feature.bins), strict=True):
            if feature.coefficient * (b.woe - a.woe) * said.monotone < 0.0:
                one.error("woe", f"breaks monotone: {said.monotone} of the manifest", f"a PD that never {word}")


def _check_points(top: Section, sections: tuple[Section, ...], model: WoeModel, manifest: Manifest) -> None:
    platt = manifest.calibration
    if not isinstance(platt, Platt):
        top.findings.error(
            top.place, "the manifest's calibration is isotonic", expected="method: platt, under which points add up"
        )
        return
    for section, feature in zip(sections, model.features, strict=True):
        for place, one in zip(_bin_sections(section), feature.all_bins, strict=True):
            exact = bin_points(
                one.woe, feature.coefficient, model.intercept, len(model.features), platt, manifest.scaling
            )
            if abs(one.points - exact) > _HALF_A_POINT:
                place.error("points", f"is {one.points}", f"{round(exact)}, which follows from woe and the manifest")


def _bin_sections(section: Section) -> Iterator[Section]:
    yield from section.sections("bins")
    if section.has("missing"):
        yield section.section("missing")


# --- writing ----------------------------------------------------------------------------------------------------------


def woe_text(model: WoeModel) -> str:
    """The file of a model, which reads back as it is: every number is written with `repr`."""
    lines = [f"format: {FORMAT}", f"intercept: {model.intercept!r}", "features:"]
    for feature in model.features:
        lines += [f"  - name: {feature.name}", f"    coefficient: {feature.coefficient!r}", "    bins:"]
        lines += [f"      - {{{_line(one)}}}" for one in feature.bins]
        if feature.missing is not None:
            lines.append(f"    missing: {{{_line(feature.missing)}}}")
    return "\n".join(lines) + "\n"


def _line(one: WoeBin) -> str:
    cut = int(one.below) if one.below.is_integer() and abs(one.below) < _WHOLE_MAX else one.below
    below = f"below: {cut!r}, " if math.isfinite(one.below) else ""
    return f"{below}points: {one.points}, woe: {one.woe!r}, rows: {one.rows}, bads: {one.bads}"
