"""`decision-service rules COMMAND ...`: whether the rules hold, what they decide, and what changed in them.

Each command is a module of its own, `rules_<command>`.
"""

from __future__ import annotations

from typing import Final

from decision_service.cli.command_group import CommandGroup

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
    "shadow": "what is in shadow beside the policy in force, and how to stop it",
    "versions": "the policies that were published to a running service, newest first",
    "restore": "put a published policy in force again",
}

_GROUP: Final = CommandGroup("rules", COMMANDS)
add_arguments = _GROUP.add_arguments
run = _GROUP.run
