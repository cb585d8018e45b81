"""`decision-service models COMMAND ...`: the scorecards of a directory, and how they do in production.

Each command is a module of its own, `models_<command>`.
"""

from __future__ import annotations

from typing import Final

from decision_service.cli.command_group import CommandGroup

COMMANDS: Final[dict[str, str]] = {
    "check": "load every version of every scorecard through all checks",
    "show": "a scorecard for people: the points of every bin, or the features of a tree model",
    "watch": "drift, null rates, grade mix, and what became of the customers: is it time to rebuild?",
    "compare": "champion against challenger and shadows: shares, differences, swap sets",
}

_GROUP: Final = CommandGroup("models", COMMANDS)
add_arguments = _GROUP.add_arguments
run = _GROUP.run
