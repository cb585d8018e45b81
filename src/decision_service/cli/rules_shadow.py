"""`decision-service rules shadow`: what is in shadow on the worker that answers; with --stop, take it away.

What `rules publish --shadow` published is taken from every worker; a host whose settings name a directory of its own
(`DECISION_SERVICE_SHADOW_RULES`) evaluates that again. Exit status 1 if nothing is in shadow, or it cannot be taken.
"""

from __future__ import annotations

import argparse
from typing import Any

import orjson

from decision_service.cli.service_options import add_service_options, ask, unreachable
from decision_service.http_client import ConnectionLost

NOTHING: int = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules shadow`."""
    parser.add_argument("--stop", action="store_true", help="evaluate it no longer")
    add_service_options(parser)


def run(args: argparse.Namespace) -> int:
    """Show or stop; the exit status."""
    try:
        told = ask(args, "DELETE", "/v1/policy/shadow") if args.stop else ask(args, "GET", "/v1/policy")["shadow"]
    except ConnectionLost as error:
        return unreachable(error)
    if args.json:
        print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    elif args.stop:
        print("nothing is published to be in shadow any more" if told["stopped"] else "nothing was published")
    else:
        print("\n".join(_lines(told)))
    good = told["stopped"] if args.stop else told["state"] in ("starting", "shadowing")
    return 0 if good else NOTHING


def _lines(told: dict[str, Any]) -> list[str]:
    if told["id"] is None:
        head = f"no policy is in shadow ({told['state']})"
    else:
        whence = "the disk" if told["source"] == "disk" else f"what is published as number {told['number']}"
        head = f"policy {told['id']} ({told['label']}), {told['rules']} rules, from {whence}: {told['state']}"
    problem = [] if told["problem"] is None else [told["problem"]]
    return [head, *problem]
