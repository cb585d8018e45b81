"""`decision-service rules explain DECISION_ID`: what each rule of a decision asked, saw and came to, stage by stage.

Read from the decision that a running service keeps; `decision-service explain` tells the outcome in a few lines.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import orjson

from decision_service.cli.explain import UNREACHABLE, decision_asked_for
from decision_service.http_client import ConnectionLost
from decision_service.rule_explanation import explanation_lines, rules_explained
from decision_service.settings import PORT_DEFAULT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules explain`."""
    parser.add_argument("decision_id", help="as in the answer")
    parser.add_argument("--url", default=f"http://127.0.0.1:{PORT_DEFAULT}", help="the service (%(default)s)")
    parser.add_argument("--bearer-file", type=Path, help="file that holds the API key or token to send")
    parser.add_argument("--all", action="store_true", help="also rules that were silent and blocks that hit nothing")
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def run(args: argparse.Namespace) -> int:
    """Explain; the exit status."""
    try:
        decision = asyncio.run(decision_asked_for(args))
    except ConnectionLost as error:
        print(f"the service does not answer: {error}", file=sys.stderr)
        return UNREACHABLE
    told = rules_explained(decision, everything=args.all)
    if args.json:
        print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(explanation_lines(told)))
    return 0
