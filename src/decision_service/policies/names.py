"""Names of policy files as somebody sends them: only those that a load from disk would find below the directory.

Nothing is ever opened under such a name; a candidate is to mean what the same files on disk would mean.
"""

from __future__ import annotations

from typing import Final

from decision_service.core.source import Findings, Place

_SUFFIXES: Final = (".yaml", ".yml")
_CHARS_MAX: Final = 255
_EXPECTED: Final = "a path below the rules directory, such as drawdown.yaml or features/volume.yaml"


def takes_name(name: str, findings: Findings) -> bool:
    """Whether a load from disk could take a file of this name; the reason against it goes to the findings."""
    problem = _problem(name)
    if problem:
        shown = "".join(c if c.isprintable() else "?" for c in name[:_CHARS_MAX])
        findings.error(Place(shown or "(no name)", 1, 1), problem, expected=_EXPECTED)
    return not problem


def _problem(name: str) -> str:
    parts = name.split("/")
    if ".." in parts or name.startswith("/") or "\\" in name or ":" in parts[0]:
        return "a name that leads out of the rules directory"
    if not name.isprintable() or len(name) > _CHARS_MAX or "" in parts or "." in parts:
        return "not the name of a file"
    if any(part.startswith(".") for part in parts):
        return "a hidden file: names that start with a dot are passed over"
    return "" if name.endswith(_SUFFIXES) else "not a policy file: its name ends with neither .yaml nor .yml"
