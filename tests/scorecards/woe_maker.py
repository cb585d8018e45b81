"""Makes small WOE points scorecards on disk for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from decision_service.core.scorecards.manifest import Manifest, read_manifest
from decision_service.core.scorecards.scaling import Platt, Scaling
from decision_service.core.scorecards.woe import WoeModel, WoeScorer
from decision_service.core.scorecards.woe_file import read_woe
from decision_service.core.source import Findings
from decision_service.policies.files import read_text

PLATT = Platt(1.1, 0.2)
NAMES = ("utl_now", "dpd_max_90d", "mob_months")
MODEL = """\
# Points and WOE of a scorecard for tests.
format: woe/1
intercept: -3.2
features:
  - name: utl_now
    coefficient: -0.8
    bins:
      - {below: 0.3, points: 217, woe: 0.9, rows: 500, bads: 5}
      - {below: 0.8, points: 199, woe: 0.2, rows: 300, bads: 6}
      - {points: 169, woe: -1.0, rows: 150, bads: 10}
    missing: {points: 192, woe: -0.1, rows: 50, bads: 1}
  - name: dpd_max_90d
    coefficient: -1.25
    bins:
      - {below: 1, points: 210, woe: 0.4, rows: 800, bads: 10}
      - {points: 147, woe: -1.2, rows: 180, bads: 11}
    missing: {points: 194, woe: 0.0, rows: 20, bads: 0}
  - name: mob_months
    coefficient: -0.5
    bins:
      - {below: 6, points: 188, woe: -0.4, rows: 400, bads: 12}
      - {points: 199, woe: 0.3, rows: 600, bads: 10}
"""
ROWS = ((0.1, 0.0, 12.0), (0.3, 0.0, 5.0), (0.8, 1.0, 6.0), (None, 3.0, 2.0), (0.5, None, 8.0), (None, None, 1.0))


def manifest_text(model: str, margins: Sequence[float], *, kind: str = "woe", names: Sequence[str] = NAMES) -> str:
    """A manifest that fits the model, whose golden rows have these margins."""
    said = {"utl_now": (1, "allowed"), "dpd_max_90d": (1, "allowed"), "mob_months": (-1, "refused")}
    features = "\n".join(
        f"  - {{name: {name}, reason: RC30, monotone: {said[name][0]}, nulls: {said[name][1]}, null_rate: 0.0, "
        f"deciles: []}}"
        for name in names
    )
    golden = "\n".join(_golden(row, margin) for row, margin in zip(ROWS, margins, strict=True))
    return (
        "scorecard: classic\nversion: '1'\n"
        f"model: {{kind: {kind}, file: model.yaml, sha256: {sha256(model.encode()).hexdigest()}}}\n"
        f"features:\n{features}\ncalibration: {{method: platt, a: {PLATT.a!r}, b: {PLATT.b!r}}}\n"
        "scaling: {base_points: 600, base_odds: 50, pdo: 20, points_min: 300, points_max: 850}\n"
        "grades: {A: 660, B: 620, C: 580, D: 540, E: 300}\ntraining: {}\nmetrics: {}\n"
        f"score: {{null_rate: 0.0, deciles: []}}\ngolden:\n{golden}\n"
    )


def _golden(row: Sequence[float | None], margin: float) -> str:
    pd = PLATT.pd(margin)
    inputs = ", ".join("null" if x is None else repr(x) for x in row)
    return f"  - {{inputs: [{inputs}], margin: {margin!r}, pd: {pd!r}, points: {Scaling().points(pd)}}}"


def manifest_of(text: str) -> Manifest:
    """A manifest read from its text."""
    findings = Findings()
    document = read_text(text, "manifest.yaml", findings)
    manifest = None if document is None else read_manifest(document, findings)
    assert manifest is not None, findings.errors
    return manifest


def read_model(text: str, manifest: Manifest | None = None) -> tuple[WoeModel | None, list[str]]:
    """The model in a text, and the findings as people see them."""
    findings = Findings()
    document = read_text(text, "model.yaml", findings)
    if document is None:
        return None, [d.render() for d in findings.errors]
    model = read_woe(document, manifest or manifest_of(manifest_text(text, [0.0] * len(ROWS))), findings)
    return model, [d.render() for d in findings.errors]


@cache
def good_model() -> WoeModel:
    """`MODEL`, read."""
    model, findings = read_model(MODEL)
    assert model is not None, "\n".join(findings)
    return model


def row_of(row: Sequence[float | None]) -> np.ndarray:
    """A row with NaN for null."""
    return np.array([np.nan if x is None else x for x in row], np.float64)


def margins_of(model: WoeModel) -> list[float]:
    """The margins of `ROWS`; `mob_months` is never null in them."""
    scorer = WoeScorer(model)
    return [scorer.margin(row_of(row)) for row in ROWS]


def write_woe(directory: Path, model: str = MODEL, manifest: str | None = None) -> Path:
    """A version directory `<directory>/classic/1` holding the model and a manifest."""
    version = directory / "classic" / "1"
    version.mkdir(parents=True)
    (version / "model.yaml").write_text(model)
    (version / "manifest.yaml").write_text(manifest or manifest_text(model, margins_of(good_model())))
    return version
