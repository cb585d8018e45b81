"""`decision-service rules explain DECISION_ID`: what each rule of a decision asked, saw and came to, stage by stage.

Read from the decision that a running service keeps; `decision-service explain` tells the outcome in a few lines.
"""

from __future__ import annotations

import argparse

import orjson

from decision_service.cli.service_options import add_service_options, kept_decision, unreachable
from decision_service.http_client import ConnectionLost
from decision_service.rule_explanation import explanation_lines, rules_explained


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules explain`."""
    parser.add_argument("decision_id", help="as in the answer")
    parser.add_argument("--all", action="store_true", help="also rules that were silent and blocks that hit nothing")
    add_service_options(parser, json="the same as JSON")


def run(args: argparse.Namespace) -> int:
    """Explain; the exit status."""
    try:
        decision = kept_decision(args)
    except ConnectionLost as error:
        return unreachable(error)
    told = rules_explained(decision, everything=args.all)
    if args.json:
        print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(explanation_lines(told)))
    return 0
