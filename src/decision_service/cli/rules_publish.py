"""`decision-service rules publish DIR`: compile a rules directory in a running service and put it in force everywhere.

The service compiles the files against its own scorecards and lists; what does not compile changes nothing, and every
mistake is shown with its place. The files on the service's own disk stay as they are.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import orjson

from decision_service.bundle import content_of
from decision_service.cli.service_options import add_service_options, ask, unreachable
from decision_service.core.errors import PolicyRejected
from decision_service.core.source import Findings
from decision_service.http_client import ConnectionLost
from decision_service.policy_files import read_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules publish`."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="rules directory; all its files are the policy")
    add_service_options(parser)


def run(args: argparse.Namespace) -> int:
    """Publish; the exit status."""
    files = files_in(args.directory)
    print(f"publishing {len(files)} files to {args.url}", file=sys.stderr)
    try:
        status = ask(args, "POST", "/v1/policy/publish", {"files": files})
    except ConnectionLost as error:
        return unreachable(error)
    if args.json:
        print(orjson.dumps(status, option=orjson.OPT_INDENT_2).decode())
    else:
        print(f"policy {status['id']} ({status['label']}) is in force as number {status['bundle']}")
    return 0


def files_in(directory: Path) -> dict[str, str]:
    """The text of every policy file by its relative name. PolicyRejected for what could never be published."""
    findings = Findings()
    content = content_of(read_files(directory, findings), (), findings)
    if content is None:
        raise PolicyRejected(findings.errors)
    return dict(content.files)
