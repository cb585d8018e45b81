"""What commands that look at policy files say: every finding, how many there are, and how the command ends.

Exit status 4 for errors, 1 for warnings where they count, 2 for a directory in which nothing is to be checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from decision_service.core.source import Diagnostic
from decision_service.policies.files import policy_paths

FAILED: Final = 4
WARNED: Final = 1
WRONG: Final = 2


def unusable(rules: Path) -> str:
    """Why a directory cannot be a rules directory at all, or the empty string."""
    if not rules.is_dir():
        return f"{rules}: no such directory"
    return "" if policy_paths(rules) else f"{rules}: no policy file (*.yaml) is there"


def print_findings(found: Sequence[Diagnostic]) -> None:
    """Every finding as text, and how many there are."""
    for finding in found:
        print(finding.render(), end="\n\n")
    errors = sum(finding.severity == "error" for finding in found)
    print(f"{counted(errors, 'error')}, {counted(len(found) - errors, 'warning')}")


def counted(n: int, what: str, many: str = "") -> str:
    """`1 rule`, `2 rules`, `3 matrices`."""
    return f"{n:,} {what if n == 1 else many or what + 's'}"
