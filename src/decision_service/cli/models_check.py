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
from decision_service.scorecards.files import (
    ACTIVE_FILE,
    active_version,
    load_scorecard,
    scorecard_directories,
    versions,
)

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
    findings = list(_findings(args.models))
    if args.json:
        print(orjson.dumps(findings).decode())
    else:
        print("\n".join(_line(finding) for finding in findings) or f"{args.models}: no scorecards")
    return FAILED if any(finding["problem"] for finding in findings) else 0


def _findings(models: Path) -> Iterator[dict[str, Any]]:
    """One finding a version directory, and one for a file `active` that names none."""
    for directory in scorecard_directories(models):
        found = versions(directory)
        try:
            active = active_version(directory)
        except ScorecardRejected as error:
            yield _finding(directory / ACTIVE_FILE, active=True) | {"problem": error.message}
            active = directory
        missing = [] if active in (directory, *found) else [active]
        yield from (_checked(path, path == active) for path in [*found, *missing])


def _finding(path: Path, *, active: bool) -> dict[str, Any]:
    return {
        "path": str(path), "scorecard": path.parent.name, "version": path.name, "active": active, "problem": None,
    }  # fmt: skip


def _checked(path: Path, active: bool) -> dict[str, Any]:
    finding = _finding(path, active=active)
    try:
        card = load_scorecard(path)
    except ScorecardRejected as error:
        return finding | {"problem": error.message}
    metrics = dict(card.manifest.metrics)
    return finding | {"features": list(card.names), "metrics": metrics, "golden_rows": len(card.manifest.golden)}


def _line(finding: dict[str, Any]) -> str:
    mark = "*" if finding["active"] else " "
    if finding["problem"]:
        lines = [f"    {line}".rstrip() for line in finding["problem"].splitlines()]
        return "\n".join([f"{mark} {finding['path']}: REFUSED", *lines])
    auc = finding["metrics"].get("oot_auc")
    quality = "" if auc is None else f", AUC {auc:.3f} out of time"
    return (
        f"{mark} {finding['path']}: good, {len(finding['features'])} features, "
        f"{finding['golden_rows']} golden rows{quality}"
    )
