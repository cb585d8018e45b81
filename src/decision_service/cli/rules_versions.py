"""`decision-service rules versions`: the policies that were published, newest first, and what changed in each."""

from __future__ import annotations

import argparse
from typing import Any

import orjson

from decision_service.cli.service_options import add_service_options, ask, unreachable
from decision_service.http_client import ConnectionLost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules versions`."""
    add_service_options(parser)


def run(args: argparse.Namespace) -> int:
    """List; the exit status."""
    try:
        told = ask(args, "GET", "/v1/policy/versions")
    except ConnectionLost as error:
        return unreachable(error)
    if args.json:
        print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(line_of(version) for version in told["versions"]))
    return 0


def line_of(version: dict[str, Any]) -> str:
    """One published policy in a line."""
    changed = version["files_changed"]
    files = [f"+{name}" for name in changed["added"]] + changed["changed"] + [f"-{name}" for name in changed["removed"]]
    what = f"{len(files)} files" if len(files) > 3 else ", ".join(files) or "the scorecards"
    mark = "*" if version["current"] else " "
    return (
        f"{mark}{version['number']:>5}  {version['at']}  {version['policy_id']}  {version['label']}  "
        f"{version['origin']} by {version['by']}  {what}"
    )
