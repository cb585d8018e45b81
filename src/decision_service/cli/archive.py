"""`decision-service archive COMMAND ...`: the decision log for ten years: kept, proven, asked, forgotten in part.

Each command is a module of its own, `archive_<command>`.
"""

from __future__ import annotations

from typing import Final

from decision_service.cli.command_group import CommandGroup

COMMANDS: Final[dict[str, str]] = {
    "run": "bring the decision log into the archive, until it is stopped",
    "dead-letters": "what could not be read when it was archived, and why",
    "verify": "whether the archive is as it was written, or which row is the first that is not",
    "search": "decisions by customer, time, outcome, reason, rule or policy, newest first",
    "show": "a decision, explained",
    "compact": "make one file of a closed day's many, and index it",
    "checkpoint": "pin how far every place's chain has come, signed",
    "erase": "take what is personal of a customer out of the archive, leaving a tombstone",
    "purge": "take away what is older than its retention, and finish erasures",
}

_GROUP: Final = CommandGroup("archive", COMMANDS)
add_arguments = _GROUP.add_arguments
run = _GROUP.run
