"""Differences as text and as JSON, grouped by scene."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from decision_service.differences.comparing import Change, Difference

WIDTH: Final = 110  # characters
_SIGNS: Final = {"added": "+", "removed": "-", "changed": "~"}


def report_lines(found: Sequence[Difference]) -> list[str]:
    """The differences for a person; a last line counts them."""
    lines: list[str] = []
    for group, of_group in groupby(found, key=lambda difference: difference.group):
        lines.append(group)
        for difference in of_group:
            lines += _difference(difference)
    counts = [f"{sum(d.how == how for d in found)} {how}" for how in _SIGNS]
    return [*lines, ", ".join(counts) if found else "no difference"]


def _difference(difference: Difference) -> Iterator[str]:
    head = f"  {_SIGNS[difference.how]} {difference.sort} {difference.name}".rstrip()
    changes = difference.changes
    if len(changes) == 1 and not changes[0].part:
        yield from _wrapped(f"{head}: {_told(changes[0], within=False)}")
        return
    yield head
    for change in changes:
        part = f"{change.part}: " if change.part else ""
        yield from _wrapped(f"      {part}{_told(change, within=difference.how == 'changed')}")


def _told(change: Change, *, within: bool) -> str:
    """Old and new; within something that is there before and after, a part may be new or gone."""
    if change.old is None:
        return f"{change.new} (new)" if within else change.new or ""
    if change.new is None:
        return f"{change.old} (gone)" if within else change.old
    return f"{change.old} -> {change.new}"


def _wrapped(line: str) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(
        line.lstrip(), WIDTH, initial_indent=indent, subsequent_indent=indent + "    ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def report_json(found: Sequence[Difference]) -> list[dict[str, Any]]:
    """The differences for a machine."""
    return [
        {
            "group": d.group, "sort": d.sort, "name": d.name, "how": d.how,
            "changes": [{"part": c.part or None, "old": c.old, "new": c.new} for c in d.changes],
        }
        for d in found
    ]  # fmt: skip
