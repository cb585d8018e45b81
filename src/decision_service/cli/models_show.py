"""`decision-service models show DIR|NAME[/VERSION]`: a scorecard for people.

A points scorecard is shown bin by bin: points, WOE, share of the training rows, bad rate. A tree model has no such
table; its features are shown with their directions, nulls and spread. Both with calibration, scale, grades and quality.
It is loaded through every check first.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import orjson

from decision_service.core.errors import NotFound
from decision_service.core.reasons import TEXTS
from decision_service.core.scorecards.manifest import Manifest, ScorecardFeature
from decision_service.core.scorecards.scaling import Platt
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.scorecards.woe import WoeBin, WoeFeature, WoeScorer, bin_text
from decision_service.core.source import nearest_name
from decision_service.scorecards.files import (
    MANIFEST_FILE,
    active_version,
    load_scorecard,
    scorecard_directories,
    versions,
)

_DIRECTIONS: Final = {1: "PD rises with it", -1: "PD falls with it", 0: ""}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `models show`."""
    parser.add_argument("scorecard", metavar="DIR|NAME[/VERSION]", help="a version's directory, or one below --models")
    parser.add_argument("--models", type=Path, default=Path("models"), help="where names are looked up (%(default)s)")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    """Show; the exit status."""
    directory = directory_of(args.scorecard, args.models)
    told = told_of(load_scorecard(directory))
    if args.json:
        print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(_lines(told, directory)))
    return 0


def directory_of(asked: str, models: Path) -> Path:
    """The directory of a version: itself, or by its name; without a version the active one. Raises NotFound."""
    if (Path(asked) / MANIFEST_FILE).is_file():
        return Path(asked)
    name, _, version = asked.partition("/")
    known = {path.name: path for path in scorecard_directories(models)}
    if name not in known:
        raise NotFound(f"{models}: no scorecard {name!r}" + _nearest(name, known))
    if not version:
        return active_version(known[name])
    there = {path.name: path for path in versions(known[name])}
    if version not in there:
        raise NotFound(f"{known[name]}: no version {version!r}" + _nearest(version, there))
    return there[version]


def _nearest(wrong: str, known: Iterable[str]) -> str:
    near = nearest_name(wrong, known)
    return f": did you mean {near}?" if near else ""


def told_of(card: Scorecard) -> dict[str, Any]:
    """Everything shown, for a machine."""
    manifest = card.manifest
    scale, calibration = manifest.scaling, manifest.calibration
    told: dict[str, Any] = {
        "scorecard": card.name, "version": card.version, "kind": manifest.model_kind, "grain": manifest.grain,
        "target": str(manifest.target) if manifest.target else None, "training": dict(manifest.training),
        "metrics": dict(manifest.metrics),
        "calibration": {"method": "platt", "a": calibration.a, "b": calibration.b}
        if isinstance(calibration, Platt)
        else {"method": "isotonic", "margins": list(calibration.margins), "pds": list(calibration.pds)},
        "scale": {
            "base_points": scale.base_points, "base_odds": scale.base_odds, "pdo": scale.pdo,
            "points_min": scale.points_min, "points_max": scale.points_max,
        },
        "grades": _grades(manifest), "features": [_feature(feature) for feature in manifest.features],
    }  # fmt: skip
    if isinstance(card.scorer, WoeScorer):
        model = card.scorer.model
        told["intercept"] = model.intercept
        for shown, feature in zip(told["features"], model.features, strict=True):
            shown |= {"coefficient": feature.coefficient, "iv": feature.iv, "bins": list(_bins(feature))}
    return told


def _grades(manifest: Manifest) -> dict[str, int]:
    """The fewest points of each grade; the last has the rest."""
    return dict(zip(manifest.grades.names, (*manifest.grades.points_from, manifest.scaling.points_min), strict=True))


def _feature(feature: ScorecardFeature) -> dict[str, Any]:
    return {
        "name": feature.name, "reason": feature.reason, "monotone": feature.monotone, "nulls": feature.nulls_allowed,
        "null_rate": feature.null_rate, "deciles": list(feature.deciles),
    }  # fmt: skip


def _bins(feature: WoeFeature) -> Iterator[dict[str, Any]]:
    cuts = (-math.inf, *(one.below for one in feature.bins))
    for (low, high), one in zip(pairwise(cuts), feature.bins, strict=True):
        yield {"from": _finite(low), "below": _finite(high), "null": False, **_bin(feature, one)}
    if feature.missing is not None:
        yield {"from": None, "below": None, "null": True, **_bin(feature, feature.missing)}


def _bin(feature: WoeFeature, one: WoeBin) -> dict[str, Any]:
    return {
        "points": one.points, "woe": one.woe, "rows": one.rows, "share": one.rows / feature.rows,
        "bad_rate": _finite(one.bad_rate),
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# --- as text ----------------------------------------------------------------------------------------------------------


def _lines(told: dict[str, Any], directory: Path) -> Iterator[str]:
    yield f"{told['scorecard']} {told['version']}    {directory}"
    for label, text in _facts(told):
        yield f"  {label:<12} {text}"
    yield ""
    yield from _aligned(_points_table(told) if told["kind"] == "woe" else _feature_table(told))


def _facts(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "model", told["training"].get("model", told["kind"])
    yield "predicts", f"{told['target'] or 'what its training says'}, for a {told['grain']}"
    calibration, scale, metrics = told["calibration"], told["scale"], told["metrics"]
    if calibration["method"] == "platt":
        yield "calibration", f"platt: pd = logistic({calibration['a']:g} * margin {calibration['b']:+g})"
    else:
        yield "calibration", f"isotonic, {len(calibration['pds'])} knots"
    yield (
        "scale",
        (
            f"{scale['base_points']:g} points at {scale['base_odds']:g}:1, {scale['pdo']:g} more double the odds; "
            f"{scale['points_min']} to {scale['points_max']}"
        ),
    )
    yield "grades", "  ".join(f"{name} from {least}" for name, least in told["grades"].items())
    if "oot_auc" in metrics:
        yield (
            "out of time",
            f"AUC {metrics['oot_auc']:.3f}" + (f"  KS {metrics['oot_ks']:.3f}" if "oot_ks" in metrics else ""),
        )


def _points_table(told: dict[str, Any]) -> Iterator[Sequence[str]]:
    yield "feature", "bin", "points", "WOE", "share", "bad rate"
    for feature in told["features"]:
        for i, one in enumerate(feature["bins"]):
            rate = "" if one["bad_rate"] is None else f"{one['bad_rate']:.2%}"
            yield (
                feature["name"] if i == 0 else "", _interval(one), str(one["points"]), f"{one['woe']:.3f}",
                f"{one['share']:.1%}", rate,
            )  # fmt: skip
        yield "", f"{feature['reason']}, IV {feature['iv']:.2f}, coefficient {feature['coefficient']:.3f}"


def _interval(one: dict[str, Any]) -> str:
    if one["null"]:
        return "null"
    low, below = one["from"], one["below"]
    return bin_text(-math.inf if low is None else low, math.inf if below is None else below)


def _feature_table(told: dict[str, Any]) -> Iterator[Sequence[str]]:
    yield "feature", "reason", "direction", "null", "middle 80 %"
    for feature in told["features"]:
        deciles = feature["deciles"]
        yield (
            feature["name"], f"{feature['reason']} {TEXTS.get(feature['reason'], '')}",
            _DIRECTIONS[feature["monotone"]], f"{feature['null_rate']:.1%}" if feature["nulls"] else "refused",
            f"{deciles[0]:g} to {deciles[-1]:g}" if deciles else "",
        )  # fmt: skip


def _aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as their widest cell; a row with fewer cells is a remark and widens nothing."""
    table = list(rows)
    whole = [row for row in table if len(row) == len(table[0])]
    widths = [max(len(row[i]) for row in whole) for i in range(len(table[0]))]
    for row in table:
        yield "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)).rstrip()
