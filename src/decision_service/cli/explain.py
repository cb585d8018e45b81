"""`decision-service explain DECISION_ID`: why a running service decided so, read from the decision it keeps."""

from __future__ import annotations

import argparse

import orjson

from decision_service.cli.service_options import add_service_options, kept_decision, unreachable
from decision_service.explanation import explained
from decision_service.http_client import ConnectionLost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `explain`."""
    parser.add_argument("decision_id", help="as in the answer")
    add_service_options(parser, json="the decision with its whole trace as JSON")


def run(args: argparse.Namespace) -> int:
    """Explain; the exit status."""
    try:
        decision = kept_decision(args)
    except ConnectionLost as error:
        return unreachable(error)
    if args.json:
        print(orjson.dumps(decision, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(explained(decision, decision["trace"])))
    return 0
