"""The formats a model may have on disk, told apart and checked before one loads: steps 4 and 5 of `files`.

A manifest says which one its model is (`model.kind`), and a file of the other kind is refused by name: a model that was
swapped is a mistake worth naming, while everything else (a pickle, PMML, a torn file) is just no model.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from decision_service.core.errors import ScorecardRejected
from decision_service.core.scorecards.manifest import Manifest
from decision_service.core.scorecards.woe import WoeModel
from decision_service.core.scorecards.woe_file import FORMAT_LINE, read_woe
from decision_service.core.source import Findings
from decision_service.policies.files import read_text

_TEXT_START: Final = b"tree\nversion=v"
_TEXT_END: Final = b"\nend of trees\n"
_HEADER_BYTES: Final = 1_048_576  # the part before the first tree, where the feature names are
_LINE_BYTES_MAX: Final = 8 * 1_048_576  # of a tree; more would take a gigabyte of a worker to be read as numbers
_WOE_START: Final = re.compile(rb"(#[^\n]*\n|\n)*" + re.escape(FORMAT_LINE))
_WOE_COMMENT_BYTES: Final = 65_536  # what may stand above the first line of a points scorecard


def check_lightgbm(path: Path, model_text: bytes, names: tuple[str, ...]) -> None:
    """Raise ScorecardRejected unless this is a whole LightGBM text of these features; it may be damaged within."""
    if _WOE_START.match(model_text[:_WOE_COMMENT_BYTES]):
        raise ScorecardRejected(str(path), "is a WOE points scorecard, but the manifest says kind: lightgbm")
    if not model_text.startswith(_TEXT_START) or b"\0" in model_text:
        raise ScorecardRejected(str(path), "is not LightGBM's text format, the only one that kind: lightgbm loads")
    if _TEXT_END not in model_text:
        raise ScorecardRejected(str(path), "ends before its last tree: truncated")
    if (length := max(map(len, model_text.split(b"\n")))) > _LINE_BYTES_MAX:
        raise ScorecardRejected(str(path), f"has a line of {length:,} bytes; at most {_LINE_BYTES_MAX:,} are allowed")
    _check_features(path, _feature_names(path, model_text), names)


def check_woe(path: Path, model_text: bytes, manifest: Manifest) -> WoeModel:
    """The points scorecard in a file. Raises ScorecardRejected with everything wrong in it."""
    if model_text.startswith(_TEXT_START):
        raise ScorecardRejected(str(path), "is a LightGBM model, but the manifest says kind: woe")
    if not _WOE_START.match(model_text[:_WOE_COMMENT_BYTES]):
        expected = FORMAT_LINE.decode().strip()
        raise ScorecardRejected(
            str(path), f"is not a WOE points scorecard (`{expected}` on top), the only format that kind: woe loads"
        )
    findings = Findings()
    document = read_text(model_text, str(path), findings)
    model = None if document is None else read_woe(document, manifest, findings)
    if model is None:
        raise ScorecardRejected(str(path), "\n" + "\n".join(d.render() for d in findings.errors))
    return model


def _feature_names(path: Path, model_text: bytes) -> tuple[str, ...]:
    match = re.search(rb"^feature_names=(.*)$", model_text[:_HEADER_BYTES], re.MULTILINE)
    if match is None:
        raise ScorecardRejected(str(path), "names no features")
    return tuple(match.group(1).decode(errors="replace").split(" "))


def _check_features(path: Path, found: tuple[str, ...], expected: tuple[str, ...]) -> None:
    if found == expected:
        return
    if len(found) != len(expected):
        raise ScorecardRejected(str(path), f"has {len(found)} features, the manifest {len(expected)}")
    i = next(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
    raise ScorecardRejected(
        str(path), f"feature {i} is {found[i]}, the manifest says {expected[i]}: wrong order or wrong model"
    )
