"""`decision-service rules COMMAND ...`: whether the rules hold, what they decide, and what changed in them.

Each command is a module of its own, `rules_<command>`, imported only when it is the one that was asked for.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Final

COMMANDS: Final[dict[str, str]] = {
    "check": "compile a rules directory as loading would and report every mistake and warning",
    "test": "run the inline tests and the case files, and say what they never reach",
    "explain": "what each rule of a decision asked, saw and came to",
    "diff": "compare two policies by what they decide",
    "fmt": "give policy files their uniform layout",
    "schema": "print the JSON Schema of rule sets, shared constants, policy.yaml or cases",
    "reference": "write the reference page of the language, or compare the one that is there",
    "keygen": "make a key to sign policies with",
    "sign": "put one's signature under a policy",
    "publish": "put a rules directory in force on every worker of a running service, if it compiles",
    "versions": "the policies that were published to a running service, newest first",
    "restore": "put a published policy in force again",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command and whatever follows it."""
    width = max(map(len, COMMANDS))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(
        ["commands:", *(f"  {name:<{width}}  {line}" for name, line in COMMANDS.items()), "",
         "decision-service rules <command> --help tells more."]
    )  # fmt: skip
    parser.add_argument("rules_command", choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="the command's arguments")


def run(args: argparse.Namespace) -> int:
    """Read the command's own arguments and carry it out; the exit status."""
    name = args.rules_command
    module = importlib.import_module(f"decision_service.cli.rules_{name}")
    parser = argparse.ArgumentParser(
        prog=f"decision-service rules {name}", description=COMMANDS[name].capitalize() + "."
    )
    module.add_arguments(parser)
    vars(args).update(vars(parser.parse_args(args.rest)))
    status: int = module.run(args)
    return status
