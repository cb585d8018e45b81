"""`decision-service models check [DIR]`: load every version of every scorecard through all checks.

One line a version on standard output. Exit status 0 if all load, 1 if one does not, 2 if there is no such directory.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from decision_service.core.errors import ScorecardRejected
from decision_service.scorecard_files import active_version, load_scorecard, scorecard_directories, versions

FAILED: Final = 1
WRONG: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `models check`."""
    parser.add_argument("models", type=Path, nargs="?", default=Path("models"), help="(%(default)s)")
    parser.add_argument("--json", action="store_true", help="findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Check; the exit status."""
    if not args.models.is_dir():
        print(f"{args.models}: no such directory", file=sys.stderr)
        return WRONG
    findings = [_checked(path, active) for path, active in _versions(args.models)]
    if args.json:
        print(orjson.dumps(findings).decode())
    else:
        print("\n".join(_line(finding) for finding in findings) or f"{args.models}: no scorecards")
    return FAILED if any(finding["problem"] for finding in findings) else 0


def _versions(models: Path) -> Iterator[tuple[Path, bool]]:
    """Every version directory, and whether it is the one in use."""
    for directory in scorecard_directories(models):
        active = active_version(directory)
        found = versions(directory)
        for path in [*found, *([] if active in found else [active])]:
            yield path, path == active


def _checked(path: Path, active: bool) -> dict[str, Any]:
    finding: dict[str, Any] = {
        "path": str(path), "scorecard": path.parent.name, "version": path.name, "active": active, "problem": None,
    }  # fmt: skip
    try:
        card = load_scorecard(path)
    except ScorecardRejected as error:
        return finding | {"problem": error.message}
    metrics = dict(card.manifest.metrics)
    return finding | {"features": list(card.names), "metrics": metrics, "golden_rows": len(card.manifest.golden)}


def _line(finding: dict[str, Any]) -> str:
    mark = "*" if finding["active"] else " "
    if finding["problem"]:
        return f"{mark} {finding['path']}: REFUSED\n    {finding['problem']}"
    auc = finding["metrics"].get("oot_auc")
    quality = "" if auc is None else f", AUC {auc:.3f} out of time"
    return (
        f"{mark} {finding['path']}: good, {len(finding['features'])} features, "
        f"{finding['golden_rows']} golden rows{quality}"
    )
