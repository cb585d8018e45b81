"""What a case says. Bodies are those of the API's calls, with `Instant` where the API wants one.

Instants are ms UTC. Ids are as typed; whoever carries a case out may rename them and shift all instants alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from decision_service.core.source import Place

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Instant:
    """An instant inside a body."""

    ms: int


@dataclass(frozen=True, slots=True)
class OfStep:
    """The decision of an earlier step, by its number from 1."""

    number: int


@dataclass(frozen=True, slots=True)
class Expected:
    """One thing that is expected of an answer: under which key, what, and where it is written."""

    key: str
    value: Any
    place: Place
    length: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes known and happens, then one question and the answer expected. `request` is None if none is asked.

    `attributes` are those of the case's customer. Everything stands as the body of the call that reports it.
    """

    now_ms: int
    place: Place
    facilities: tuple[Body, ...] = ()
    attributes: Body | None = None
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    events: tuple[Body, ...] = ()
    request: Body | None = None
    expected: tuple[Expected, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One case file."""

    name: str
    file: str
    shows: tuple[int, ...]
    note: str
    customer_id: str
    steps: tuple[Step, ...]
