"""The dictionary by families and rows: what the reference page and the page for a browser print.

A row of a feature file defines several features that differ in their window or parameter; a reader wants one line for
all of them. Each line holds what its features have in common, and the users of any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from decision_service.core.features.catalogue import SURGE
from decision_service.dictionary.entry import Dictionary, row_formula_of
from decision_service.dictionary.families import FAMILIES, Family, family_of


@dataclass(frozen=True, slots=True)
class Line:
    """One row: its features' names, and the entry of the first of them; `users` of any of them."""

    pattern: str
    names: tuple[str, ...]
    first: dict[str, Any]
    windows: tuple[str, ...]
    formula: str
    users: tuple[str, ...]
    computed: int
    has_companion: bool


@dataclass(frozen=True, slots=True)
class Chapter:
    """One family: its lines, then the lines of its intermediates."""

    family: Family
    lines: tuple[Line, ...]
    internal: tuple[Line, ...]


def chapters_of(dictionary: Dictionary) -> list[Chapter]:
    """The families that have features, in order."""
    by_family: dict[str, list[Line]] = {}
    for line in _lines(dictionary):
        by_family.setdefault(family_of(line.names[0]).letter, []).append(line)
    return [
        Chapter(
            family,
            tuple(line for line in lines if not line.first["internal"]),
            tuple(line for line in lines if line.first["internal"]),
        )
        for family in FAMILIES
        if (lines := by_family.get(family.letter))
    ]


def _lines(dictionary: Dictionary) -> Iterator[Line]:
    seen: set[str] = set()
    for name, spec in dictionary.catalogue.by_name.items():
        if name in seen or spec.surge_of:
            continue
        names = dictionary.row_names(spec)
        seen.update(names)
        entries = [dictionary.feature(one) for one in names]
        yield Line(
            pattern_of(names), names, entries[0],
            tuple(dict.fromkeys(entry["window"]["label"] for entry in entries if entry["window"])),
            row_formula_of(spec) if len(names) > 1 else entries[0]["formula"], _users(dictionary, names),
            sum(entry["computed"] for entry in entries), names[0] + SURGE in dictionary.catalogue.by_name,
        )  # fmt: skip


def pattern_of(names: Sequence[str]) -> str:
    """`vol_ok_cnt_{10m,1h,24h}`: the names of a row as one."""
    if len(names) == 1:
        return names[0]
    start = _common_start(names)
    start = start[: start.rfind("_") + 1]
    return f"{start}{{{', '.join(name[len(start) :] for name in names)}}}"


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:length]


def _users(dictionary: Dictionary, names: Sequence[str]) -> tuple[str, ...]:
    """Rules, matrices and scorecards that use any of some names, each once with its reason code."""
    told = [use for name in names for use in dictionary.uses(name) if use.sort != "feature"]
    return tuple(dict.fromkeys(use.told() for use in told))
