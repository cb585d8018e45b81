"""`decision-service rules schema NAME`: the JSON Schema of rule sets, shared constants, policy.yaml or cases.

The first line of a file tells an editor with a YAML language server where its schema is:
`# yaml-language-server: $schema=rules.schema.json`. With `--names` the schema also knows the features, attributes and
lists of the policy on disk, so that an editor completes them; write it anew when they change.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from decision_service.cli.policy_options import add_policy_options, policy_of, settings_of
from decision_service.dictionary.json_schema import schema_text
from decision_service.dictionary.policy_schema import NO_NAMES, Names
from decision_service.dictionary.schemas import SCHEMAS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules schema`."""
    parser.add_argument("what", nargs="?", choices=tuple(SCHEMAS), default="rules", help="(%(default)s)")
    parser.add_argument("--names", action="store_true", help="with the names of the policy on disk")
    parser.add_argument("--out", type=Path, help="write it to this file")
    parser.add_argument("--json", action="store_true", help="no difference: a schema is JSON")
    add_policy_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print or write; the exit status."""
    names = Names.of(policy_of(settings_of(args))[0]) if args.names else NO_NAMES
    text = schema_text(SCHEMAS[args.what](names))
    if args.out is None:
        print(text, end="")
        return 0
    args.out.write_text(text, encoding="utf-8")
    print(f"{args.out}: first line of a file it is for: # yaml-language-server: $schema={args.out}", file=sys.stderr)
    return 0
