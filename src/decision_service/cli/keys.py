"""`decision-service keys new`: make an API key. The key is printed once; the file holds only its hash."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import orjson

from decision_service.api.keys import SCOPES, add_key
from decision_service.core.errors import SettingInvalid
from decision_service.settings import environment_name, load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `keys`."""
    actions = parser.add_subparsers(dest="action", required=True)
    new = actions.add_parser("new", help="make a key and add its hash to the keys file")
    new.add_argument("--name", required=True, help="who will use it")
    new.add_argument("--scopes", required=True, help=f"comma-separated, of {', '.join(SCOPES)}")
    new.add_argument("--file", type=Path, help=f"the keys file ({environment_name('keys_file')})")
    new.add_argument("--json", action="store_true", help="print name, scopes and key as JSON")


def run(args: argparse.Namespace) -> int:
    """Make the key; the exit status."""
    path = args.file or load_settings().keys_file
    if path is None:
        raise SettingInvalid(environment_name("keys_file"), "say which file: --file or this setting")
    scopes = [scope.strip() for scope in args.scopes.split(",") if scope.strip()]
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        print(f"decision-service: scopes are {', '.join(SCOPES)}", file=sys.stderr)
        return 2
    key = add_key(path, args.name, scopes)
    print(orjson.dumps({"name": args.name, "scopes": scopes, "key": key}).decode() if args.json else key)
    return 0
