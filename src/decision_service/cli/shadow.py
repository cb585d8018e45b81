"""`decision-service shadow COMMAND ...`: what a policy in shadow would have decided.

Each command is a module of its own, `shadow_<command>`. `rules publish --shadow` and `rules shadow --stop` say what is
in shadow.
"""

from __future__ import annotations

from typing import Final

from decision_service.cli.command_group import CommandGroup

COMMANDS: Final[dict[str, str]] = {
    "report": "where the policy in shadow and the one in force differ: outcomes, rules, exposure, examples",
}

_GROUP: Final = CommandGroup("shadow", COMMANDS)
add_arguments = _GROUP.add_arguments
run = _GROUP.run
