"""`decision-service rules check [DIR]`: compile a whole policy as the service would, and report every finding.

Where signers are configured (setting `policy_signers`) it also says who has signed the files as they are now. People
sign last, when the files are finished: signatures that are missing change no exit status here, the service refuses.

Exit status 0 if it compiles (warnings are no failure unless `--strict`, which makes them 1), 4 if it does not, 2
without such a directory or when no policy file is in it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import orjson

from decision_service.cases.parts import blocks_of, rule_sets
from decision_service.cli.findings import FAILED, WARNED, WRONG, counted, print_findings, unusable
from decision_service.cli.policy_options import settings_of
from decision_service.core.features.catalogue import SURGE
from decision_service.core.policy import Policy
from decision_service.core.scorecards.roles import NO_CARDS
from decision_service.core.source import Findings
from decision_service.policies.bundle import content_of
from decision_service.policies.files import policy_paths, read_all
from decision_service.policies.loading import examine_files
from decision_service.policies.signatures import SignatureState, signature_rule
from decision_service.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules check`."""
    parser.add_argument("rules", type=Path, nargs="?", metavar="DIR", help="rules directory (setting `rules`)")
    parser.add_argument("--models", type=Path, help="scorecards directory (setting `models`)")
    parser.add_argument("--strict", action="store_true", help="warnings make the exit status 1")
    parser.add_argument("--json", action="store_true", help="findings and summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Check; the exit status."""
    settings = settings_of(args)
    problem = unusable(settings.rules)
    if problem:
        print(problem, file=sys.stderr)
        return WRONG
    policy, found = examine_files(
        settings.rules, settings.models, settings.time_zone, settings.reservation_timeout_ms, {}
    )
    errors = sum(finding.severity == "error" for finding in found)
    summary = summary_of(policy) if policy is not None else None
    state, asked = signatures_of(settings), settings.policy_signatures_min
    serial = None if policy is None else policy.serial
    if args.json:
        report = {
            "diagnostics": [finding.as_json() for finding in found], "summary": summary,
            "signatures": None if state is None else signatures_json(state, asked, serial),
        }  # fmt: skip
        print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    else:
        print_findings(found)
        print(summary_line(summary) if summary is not None else f"{len(policy_paths(settings.rules))} files: no policy")
        if state is not None:
            print_signatures(state, asked, serial)
    return FAILED if errors else WARNED if found and args.strict else 0


def signatures_of(settings: Settings) -> SignatureState | None:
    """Who has signed the files on disk, None where no signers are configured. SettingInvalid."""
    if settings.policy_signers is None:
        return None
    rule = signature_rule(settings.policy_signers, settings.policy_signatures_min)
    content = content_of(read_all(settings.rules, Findings()), NO_CARDS, Findings())
    return SignatureState((), ()) if content is None else rule.state(content)


def signatures_json(state: SignatureState, asked: int, serial: int | None) -> dict[str, Any]:
    """The same for a machine."""
    problems = [problem.as_json() for problem in state.problems]
    return {"asked": asked, "signed_by": list(state.signed_by), "serial": serial, "diagnostics": problems}


def print_signatures(state: SignatureState, asked: int, serial: int | None) -> None:
    """The same as text."""
    for problem in state.problems:
        print(problem.render(), end="\n\n")
    who = ", ".join(state.signed_by) or "nobody"
    print(f"signed by {who} ({counted(asked, 'signature')} asked for), serial {serial or 'none'}")


def summary_of(policy: Policy) -> dict[str, Any]:
    """How much of what is in a policy."""
    sets = rule_sets(policy)
    blocks = [block for rule_set in sets.values() for block in blocks_of(rule_set.spec)]
    kinds = ("table", "tree", "matrix")
    return {
        "policy": policy.id,
        "label": policy.label,
        "scenes": sorted(sets),
        "rules": sum(len(rule_set.rules) for rule_set in sets.values()),
        **{kind: sum(block.kind == kind for block in blocks) for kind in kinds},
        "points": sum(len(rule_set.spec.points) for rule_set in sets.values()),
        "features": sum(not spec.internal and SURGE not in name for name, spec in policy.catalogue.by_name.items()),
        "files": len(policy.documents),
    }


def summary_line(summary: dict[str, Any]) -> str:
    """The same as one line."""
    parts = [
        counted(len(summary["scenes"]), "scene"), counted(summary["rules"], "rule"),
        counted(summary["table"], "table"), counted(summary["tree"], "tree"),
        counted(summary["points"], "points scorecard"), counted(summary["matrix"], "matrix", "matrices"),
        counted(summary["features"], "feature"),
    ]  # fmt: skip
    return f"{', '.join(parts)}; policy {summary['policy']} ({summary['label']})"
