"""`decision-service features check [DIR]`: compile the feature files as the service would, and report every finding.

Exit status 0 if they compile (warnings are no failure unless `--strict`), 4 if they do not, 2 without such a directory
or when it holds nothing that declares a feature or an attribute.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import orjson

from decision_service.cli.findings import FAILED, WARNED, WRONG, counted, print_findings
from decision_service.cli.policy_options import settings_of
from decision_service.core.policy import ATTRIBUTES_FILE, FEATURES_FOLDER
from decision_service.core.source import Diagnostic
from decision_service.policies.files import policy_paths
from decision_service.policies.loading import check_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `features check`."""
    parser.add_argument("rules", type=Path, nargs="?", metavar="DIR", help="rules directory (setting `rules`)")
    parser.add_argument("--models", type=Path, help="scorecards directory (setting `models`)")
    parser.add_argument("--all", action="store_true", help="findings about rule sets and scorecards as well")
    parser.add_argument("--strict", action="store_true", help="warnings make the exit status 1")
    parser.add_argument("--json", action="store_true", help="findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Check; the exit status."""
    settings = settings_of(args)
    if not settings.rules.is_dir():
        print(f"{settings.rules}: no such directory", file=sys.stderr)
        return WRONG
    if not _has_features(settings.rules):
        print(f"{settings.rules}: nothing to check, neither features/*.yaml nor {ATTRIBUTES_FILE}", file=sys.stderr)
        return WRONG
    everything = check_files(settings.rules, settings.models, settings.time_zone, settings.reservation_timeout_ms)
    found = [finding for finding in everything if args.all or _is_about_features(finding)]
    errors = sum(finding.severity == "error" for finding in found)
    if args.json:
        print(orjson.dumps([finding.as_json() for finding in found], option=orjson.OPT_INDENT_2).decode())
    else:
        print_findings(found)
        elsewhere = len(everything) - len(found)
        if elsewhere:
            print(f"{counted(elsewhere, 'finding')} elsewhere in the policy: --all shows them", file=sys.stderr)
    return FAILED if errors else WARNED if found and args.strict else 0


def _has_features(rules: Path) -> bool:
    """Whether a directory holds any file that declares features or attributes."""
    names = (path.relative_to(rules).as_posix() for path in policy_paths(rules))
    return any(name.startswith(FEATURES_FOLDER) or name == ATTRIBUTES_FILE for name in names)


def _is_about_features(finding: Diagnostic) -> bool:
    """Whether a finding stands in a feature file or the attributes file, or a scorecard wants a feature."""
    file = finding.place.file
    return file.startswith(FEATURES_FOLDER) or file == ATTRIBUTES_FILE or "feature `" in finding.message
