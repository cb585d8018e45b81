"""`decision-service rules restore N`: put a published policy in force again, everywhere, under a new number."""

from __future__ import annotations

import argparse

import orjson

from decision_service.cli.service_options import add_service_options, ask, unreachable
from decision_service.http_client import ConnectionLost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules restore`."""
    parser.add_argument("number", type=int, metavar="N", help="number of the policy, as `rules versions` lists them")
    parser.add_argument("--force", action="store_true", help="even if far more or fewer drawdowns would be approved")
    add_service_options(parser)


def run(args: argparse.Namespace) -> int:
    """Restore; the exit status."""
    try:
        status = ask(args, "POST", f"/v1/policy/versions/{args.number}/restore?force={str(args.force).lower()}")
    except ConnectionLost as error:
        return unreachable(error)
    if args.json:
        print(orjson.dumps(status, option=orjson.OPT_INDENT_2).decode())
    else:
        print(f"policy {status['id']} ({status['label']}) is in force again as number {status['bundle']}")
    return 0
