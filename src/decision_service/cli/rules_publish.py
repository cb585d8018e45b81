"""`decision-service rules publish DIR`: compile a rules directory in a running service and put it in force everywhere.

The service compiles the files against its own scorecards and lists; what does not compile changes nothing, and every
mistake is shown with its place. The files on the service's own disk stay as they are.

With --shadow nothing comes into force: every worker evaluates the policy beside the one in force, after its answers,
and `decision-service shadow report` tells where the two differ.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import orjson

from decision_service.cli.service_options import add_service_options, ask, unreachable
from decision_service.core.errors import PolicyRejected
from decision_service.core.scorecards.roles import NO_CARDS
from decision_service.core.source import Findings
from decision_service.http_client import ConnectionLost
from decision_service.policies.bundle import content_of
from decision_service.policies.files import read_all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules publish`."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="rules directory; all its files are the policy")
    parser.add_argument("--force", action="store_true", help="even if far more or fewer drawdowns would be approved")
    parser.add_argument("--shadow", action="store_true", help="in shadow: evaluated after answers, deciding nothing")
    add_service_options(parser)


def run(args: argparse.Namespace) -> int:
    """Publish; the exit status."""
    files = files_in(args.directory)
    print(f"publishing {len(files)} files to {args.url}", file=sys.stderr)
    try:
        if args.shadow:
            return _in_shadow(args, ask(args, "PUT", "/v1/policy/shadow", {"files": files}))
        status = ask(args, "POST", f"/v1/policy/publish?force={str(args.force).lower()}", {"files": files})
    except ConnectionLost as error:
        return unreachable(error)
    if args.json:
        print(orjson.dumps(status, option=orjson.OPT_INDENT_2).decode())
    else:
        print(f"policy {status['id']} ({status['label']}) is in force as number {status['bundle']}")
        print("\n".join(rehearsal_lines(status["rehearsal"])))
    return 0


def _in_shadow(args: argparse.Namespace, published: dict[str, Any]) -> int:
    if args.json:
        print(orjson.dumps(published, option=orjson.OPT_INDENT_2).decode())
    else:
        number, policy = published["number"], f"{published['id']} ({published['label']})"
        print(f"policy {policy} is in shadow as number {number} as soon as each worker has compiled it")
    return 0


def rehearsal_lines(rehearsal: dict[str, Any] | None) -> list[str]:
    """What the policy makes of what was decided lately."""
    if rehearsal is None:
        return ["no drawdown was decided lately to try it on"]
    head = (
        f"of the last {rehearsal['decisions']} drawdowns it approves {rehearsal['approved_after']:.0%}; "
        f"{rehearsal['approved_before']:.0%} were approved"
    )
    return [head, *(f"  {r['rule']}: {_shown(r['before'])} -> {_shown(r['after'])}" for r in rehearsal["rules"])]


def _shown(share: float | None) -> str:
    return "none" if share is None else f"{share:.0%}"


def files_in(directory: Path) -> dict[str, str]:
    """The text of every policy file by its relative name, and the signatures. PolicyRejected for what could never be
    published."""
    findings = Findings()
    content = content_of(read_all(directory, findings), NO_CARDS, findings)
    if content is None:
        raise PolicyRejected(findings.errors)
    return content.sent_files
