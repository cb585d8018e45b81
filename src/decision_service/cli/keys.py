"""`decision-service keys new | list | revoke`: the API keys of a keys file.

A new key is printed once; the file holds only its hash. To replace a key while the service runs: make a second one
under another name, hand it out, and revoke the first when nobody uses it any more. The service takes a changed file
over within a second.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import orjson

from decision_service.api.keys import SCOPES, add_key, listed_keys, revoke_key
from decision_service.core.errors import SettingInvalid
from decision_service.settings import environment_name, load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `keys`."""
    actions = parser.add_subparsers(dest="action", required=True)
    new = actions.add_parser("new", help="make a key and add its hash to the keys file")
    new.add_argument("--name", required=True, help="who will use it")
    new.add_argument("--scopes", required=True, help=f"comma-separated, of {', '.join(SCOPES)}")
    new.add_argument(
        "--customers", help="comma-separated ids, or prefixes ending in *: the only customers it may touch (all)"
    )
    new.add_argument("--expires-at", help="instant with offset from which on it is refused (never)")
    shown = actions.add_parser("list", help="the names, scopes and limits of the keys in the file")
    revoke = actions.add_parser("revoke", help="take a key out of the file: it is refused within a second")
    revoke.add_argument("--name", required=True, help="whose key")
    for action in (new, shown, revoke):
        action.add_argument("--file", type=Path, help=f"the keys file ({environment_name('keys_file')})")
        action.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; the exit status."""
    path = args.file or load_settings().keys_file
    if path is None:
        raise SettingInvalid(environment_name("keys_file"), "say which file: --file or this setting")
    if args.action == "new":
        return _new(args, path)
    if args.action == "list":
        return _list(args, path)
    revoke_key(path, args.name)
    print(orjson.dumps({"revoked": args.name}).decode() if args.json else f"revoked {args.name}")
    return 0


def _new(args: argparse.Namespace, path: Path) -> int:
    scopes = _words(args.scopes)
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        print(f"decision-service: scopes are {', '.join(SCOPES)}", file=sys.stderr)
        return 2
    customers = None if args.customers is None else _words(args.customers)
    key = add_key(path, args.name, scopes, customers=customers, expires_at=args.expires_at)
    print(orjson.dumps({"name": args.name, "scopes": scopes, "key": key}).decode() if args.json else key)
    return 0


def _list(args: argparse.Namespace, path: Path) -> int:
    keys = listed_keys(path)
    if args.json:
        print(orjson.dumps(keys, option=orjson.OPT_INDENT_2).decode())
        return 0
    for key in keys:
        print(_line(key))
    return 0


def _line(key: dict[str, Any]) -> str:
    customers = "all customers" if key.get("customers") is None else "customers " + ",".join(key["customers"])
    expires = f", until {key['expires_at']}" if key.get("expires_at") else ""
    return f"{key['name']}: {','.join(key['scopes'])}; {customers}{expires}"


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
