"""`decision-service features schema`: the JSON Schema of feature files, or of the attributes file, for an editor.

The first line of a file tells an editor with a YAML language server where its schema is:
`# yaml-language-server: $schema=features.schema.json`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from decision_service.dictionary.json_schema import attributes_schema, features_schema, schema_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `features schema`."""
    parser.add_argument("what", nargs="?", choices=("features", "attributes"), default="features", help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="write it to this file")
    parser.add_argument("--json", action="store_true", help="no difference: a schema is JSON")


def run(args: argparse.Namespace) -> int:
    """Print or write; the exit status."""
    text = schema_text(attributes_schema() if args.what == "attributes" else features_schema())
    if args.out is None:
        print(text, end="")
        return 0
    args.out.write_text(text, encoding="utf-8")
    print(f"{args.out}: first line of a file it is for: # yaml-language-server: $schema={args.out}", file=sys.stderr)
    return 0
