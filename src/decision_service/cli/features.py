"""`decision-service features COMMAND ...`: what the features are, what they say, and what they are made of.

Each command is a module of its own, `features_<command>`, imported only when it is the one that was asked for.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Final

COMMANDS: Final[dict[str, str]] = {
    "list": "every feature in a line: unit, null rule, grain, meaning, how many rules and scorecards use it",
    "show": "everything about one feature: formula, windows, segments, null rule, who uses it",
    "check": "compile the feature files of a rules directory and report every mistake and warning",
    "explain": "a customer's value of a feature, and the events that make it up",
    "build": "compute features for a table of customers and instants from a file of events",
    "reference": "write the reference page, or compare the one that is there",
    "schema": "print the JSON Schema of feature files or of the attributes file",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command and whatever follows it."""
    width = max(map(len, COMMANDS))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(
        ["commands:", *(f"  {name:<{width}}  {line}" for name, line in COMMANDS.items()), "",
         "decision-service features <command> --help tells more."]
    )  # fmt: skip
    parser.add_argument("features_command", choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="the command's arguments")


def run(args: argparse.Namespace) -> int:
    """Read the command's own arguments and carry it out; the exit status."""
    name = args.features_command
    module = importlib.import_module(f"decision_service.cli.features_{name}")
    parser = argparse.ArgumentParser(
        prog=f"decision-service features {name}", description=COMMANDS[name].capitalize() + "."
    )
    module.add_arguments(parser)
    vars(args).update(vars(parser.parse_args(args.rest)))
    status: int = module.run(args)
    return status
