"""A command with commands of its own: `decision-service features COMMAND ...`, `decision-service rules COMMAND ...`.

Each of them is a module, `<group>_<command>` (a hyphen is an underscore there) with `add_arguments` and `run`, imported
only when it is the one that was asked for, so that help is instant.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommandGroup:
    """The commands of a group, each with its line of help."""

    name: str
    commands: Mapping[str, str]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The command and whatever follows it."""
        width = max(map(len, self.commands))
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = "\n".join(
            ["commands:", *(f"  {name:<{width}}  {line}" for name, line in self.commands.items()), "",
             f"decision-service {self.name} <command> --help tells more."]
        )  # fmt: skip
        parser.add_argument("command", choices=self.commands, metavar="COMMAND", help=", ".join(self.commands))
        parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="the command's arguments")

    def run(self, args: argparse.Namespace) -> int:
        """Read the command's own arguments and carry it out; the exit status."""
        module = importlib.import_module(f"decision_service.cli.{self.name}_{args.command.replace('-', '_')}")
        parser = argparse.ArgumentParser(
            prog=f"decision-service {self.name} {args.command}",
            description=self.commands[args.command].capitalize() + ".",
        )
        module.add_arguments(parser)
        vars(args).update(vars(parser.parse_args(args.rest)))
        status: int = module.run(args)
        return status
