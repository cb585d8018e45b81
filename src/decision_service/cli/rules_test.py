"""`decision-service rules test [DIR]`: the inline tests of the rules, the case files, and what both never reach.

Inline tests run whenever a policy is loaded, so here as well; cases go through the real service over a store in memory,
each with its own clock. Exit status 0 if everything is as expected and covered as far as `--min-coverage` wants, 1 if
not, 4 if the policy or a case file does not compile, 2 without such a directory or such a case.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson

from decision_service.cases.calling import CaseResult
from decision_service.cases.case import Case
from decision_service.cases.coverage import SceneCoverage, coverage, percent
from decision_service.cases.in_memory import run_cases
from decision_service.cases.parts import blocks_of, rule_sets
from decision_service.cases.reading import read_cases
from decision_service.cases.report import coverage_lines, failure_lines, results_json
from decision_service.cli.findings import FAILED, WRONG, counted, print_findings, unusable
from decision_service.cli.policy_options import settings_of
from decision_service.cli.progress import LOG_PAUSE_S, Progress
from decision_service.core.policy import Policy
from decision_service.core.source import Diagnostic, Findings
from decision_service.policies.loading import examine_files
from decision_service.settings import Settings

NOT_AS_EXPECTED: Final = 1
CASES: Final = Path("tests", "cases")  # beside the rules directory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules test`."""
    parser.add_argument("rules", type=Path, nargs="?", metavar="DIR", help="rules directory (setting `rules`)")
    parser.add_argument("--models", type=Path, help="scorecards directory (setting `models`)")
    parser.add_argument(
        "--cases", type=Path, metavar="DIR", help="case files, or one of them (tests/cases beside the rules)"
    )
    parser.add_argument("--only", metavar="TEXT", help="only cases whose name contains this")
    parser.add_argument(
        "--min-coverage", type=float, metavar="PCT", help="exit status 1 if less than this is ever reached"
    )
    parser.add_argument("--all", action="store_true", help="list everything that is never reached")
    parser.add_argument("--json", action="store_true", help="results and coverage as JSON")


def run(args: argparse.Namespace) -> int:
    """Test; the exit status."""
    settings = settings_of(args)
    folder = args.cases or settings.rules.resolve().parent / CASES
    problem = unusable(settings.rules)
    if not problem and args.cases is not None and not folder.exists():
        problem = f"{folder}: no such directory"
    if problem:
        print(problem, file=sys.stderr)
        return WRONG
    policy, found = examine_files(
        settings.rules, settings.models, settings.time_zone, settings.reservation_timeout_ms, {}
    )
    cases, mistakes = _cases_in(folder, args.only or "")
    if args.only and not cases and not mistakes:
        print(f"{folder}: no case whose name contains {args.only!r}", file=sys.stderr)
        return WRONG
    if policy is None or mistakes:
        return _refuse([d for d in found if d.severity == "error"] + mistakes, as_json=args.json)
    results = _carried_out(cases, policy, settings)
    scenes = coverage(policy, results)
    _tell(args, policy, results, scenes)
    enough = args.min_coverage is None or percent(scenes) >= args.min_coverage
    return 0 if enough and all(result.passed for result in results) else NOT_AS_EXPECTED


def _cases_in(folder: Path, only: str) -> tuple[list[Case], list[Diagnostic]]:
    findings = Findings()
    cases = read_cases(folder, findings) if folder.exists() else []
    return [case for case in cases if only in case.name], findings.errors


def _refuse(found: Sequence[Diagnostic], *, as_json: bool) -> int:
    if as_json:
        report = {"passed": False, "diagnostics": [finding.as_json() for finding in found]}
        print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    else:
        print_findings(found)
    return FAILED


def _carried_out(cases: Sequence[Case], policy: Policy, settings: Settings) -> list[CaseResult]:
    progress = Progress("cases", len(cases))
    done = 0

    def show(result: CaseResult) -> None:
        nonlocal done
        done += 1
        progress.show(done, result.case.name)

    results = run_cases(cases, policy, settings, show)
    if progress.elapsed_s > LOG_PAUSE_S:
        progress.finish(done)
    return results


def _tell(
    args: argparse.Namespace, policy: Policy, results: Sequence[CaseResult], scenes: Sequence[SceneCoverage]
) -> None:
    inline = _inline_tests(policy)
    if args.json:
        report = {
            "passed": all(result.passed for result in results), "policy": policy.id, "inline_tests": inline,
            "cases": results_json(results), "coverage": percent(scenes),
            "scenes": [scene.as_json() for scene in scenes],
        }  # fmt: skip
        print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
        return
    for result in results:
        if not result.passed:
            print("\n".join(failure_lines(result)))
    print("\n".join(coverage_lines(scenes, args.all)))
    failed = sum(not result.passed for result in results)
    print(f"{counted(inline, 'inline test')} passed; {counted(len(results), 'case')}, {failed} failed")


def _inline_tests(policy: Policy) -> int:
    """How many inline tests there are; a policy with one that fails does not compile."""
    specs = [rule_set.spec for rule_set in rule_sets(policy).values()]
    of_rules = sum(len(rule.tests) for spec in specs for rule in spec.rules)
    of_points = sum(len(card.tests) for spec in specs for card in spec.points)
    return of_rules + of_points + sum(len(block.tests) for spec in specs for block in blocks_of(spec))
