"""The parts of two policies side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from decision_service.differences.parts import DECIDES_NOTHING, Key, Parts


@dataclass(frozen=True, slots=True)
class Change:
    """One part that is another than before; `old` or `new` is None where there is none."""

    part: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One rule, block, constant, guardrail ... that was added, removed or changed.

    Of what was added (or removed) `changes` are all its parts, each without an old (or a new) text.
    """

    group: str
    sort: str
    name: str
    how: Literal["added", "removed", "changed"]
    changes: tuple[Change, ...]


def differences(before: Parts, after: Parts, *, notes: bool = False) -> list[Difference]:
    """What makes `after` another policy than `before`, by group, sort and name. `notes`: also what decides nothing."""
    found = (_difference(key, before.get(key), after.get(key), notes) for key in _in_order(before, after))
    return [difference for difference in found if difference is not None]


def _in_order(before: Parts, after: Parts) -> Iterator[Key]:
    """Groups and sorts as they first occur, names in order."""
    rank: dict[tuple[str, str], int] = {}
    for group, sort, _ in (*after, *before):
        rank.setdefault((group, sort), len(rank))
    groups: dict[str, int] = {}
    for (group, _), position in rank.items():
        groups.setdefault(group, position)
    yield from sorted(before.keys() | after.keys(), key=lambda key: (groups[key[0]], rank[key[:2]], key[2]))


def _difference(
    key: Key, old: Mapping[str, str] | None, new: Mapping[str, str] | None, notes: bool
) -> Difference | None:
    olds, news = old or {}, new or {}
    changes = tuple(
        Change(part, olds.get(part), news.get(part))
        for part in {**olds, **news}
        if olds.get(part) != news.get(part) and (notes or part.rpartition(": ")[2] not in DECIDES_NOTHING)
    )
    if old is not None and new is not None:
        return Difference(*key, "changed", changes) if changes else None
    return Difference(*key, "removed" if new is None else "added", changes)
