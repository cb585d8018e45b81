"""`decision-service features COMMAND ...`: what the features are, what they say, and what they are made of.

Each command is a module of its own, `features_<command>`.
"""

from __future__ import annotations

from typing import Final

from decision_service.cli.command_group import CommandGroup

COMMANDS: Final[dict[str, str]] = {
    "list": "every feature in a line: unit, null rule, grain, meaning, how many rules and scorecards use it",
    "show": "everything about one feature: formula, windows, segments, null rule, who uses it",
    "check": "compile the feature files of a rules directory and report every mistake and warning",
    "explain": "a customer's value of a feature, and the events that make it up",
    "build": "compute features for a table of customers and instants from a file of events",
    "reference": "write the reference page, or compare the one that is there",
    "schema": "print the JSON Schema of feature files or of the attributes file",
}

_GROUP: Final = CommandGroup("features", COMMANDS)
add_arguments = _GROUP.add_arguments
run = _GROUP.run
