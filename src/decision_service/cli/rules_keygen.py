"""`decision-service rules keygen NAME --out DIR`: make a key to sign policies with.

The private key goes to `DIR/NAME.key`, readable by its owner alone, and is never replaced. Standard output has the line
for the signers file (setting `policy_signers`): the public key, which is no secret. Exit status 2 if the key cannot be
written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import orjson

from decision_service.policies.signers import new_key, write_key

WRONG: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules keygen`."""
    parser.add_argument("name", metavar="NAME", help="who will sign with it")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the private key NAME.key")
    parser.add_argument("--json", action="store_true", help="print name, path and public line as JSON")


def run(args: argparse.Namespace) -> int:
    """Make the key; the exit status."""
    path = args.out / f"{args.name}.key"
    try:
        key = new_key(args.name)
        args.out.mkdir(parents=True, exist_ok=True)
        write_key(key, path)
    except (ValueError, OSError) as error:
        print(f"decision-service: {error}", file=sys.stderr)
        return WRONG
    if args.json:
        print(orjson.dumps({"name": key.name, "key": str(path), "signers_line": key.public_line}).decode())
    else:
        print(f"private key in {path}; the line for the signers file:", file=sys.stderr)
        print(key.public_line)
    return 0
