"""Where a piece of policy stands in its file, and what is wrong with it.

A policy file is read (outside core) into `Node`s: the plain shape of YAML with nothing interpreted, every scalar still
the text the analyst typed, every node with its `Place`. Core gives the text its type, so `no`, `012` or `1:30` can
never turn into something else on the way. Everything wrong becomes a `Diagnostic`; all of them are reported at once.

Lines and columns count from 1, as editors do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple


class Place(NamedTuple):
    """A position in a policy file; `text` is the whole line it is on, for the caret.

    The place of a scalar over several lines has `folds`: at which offset of its text each line starts, and where.
    (A tuple, as `Scalar` is: a file of 5,000 rules has 185,000 of them, and a frozen dataclass takes three times as
    long to make.)
    """

    file: str
    line: int
    column: int
    text: str = ""
    folds: tuple[tuple[int, Place], ...] = ()

    def __lt__(self, other: tuple[object, ...]) -> bool:
        """Places are put in file order."""
        return bool(self[:3] < other[:3])

    def moved(self, columns: int) -> Place:
        """The place `columns` further on in the text that starts here: to the right, and down where it is folded."""
        if not self.folds:
            return Place(self.file, self.line, self.column + columns, self.text) if columns else self
        offset, start = next(((o, p) for o, p in reversed(self.folds) if o <= columns), (0, self))
        return Place(start.file, start.line, start.column + columns - offset, start.text)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding, rendered like a good compiler's: place, message, the line with a caret, expected, nearest name."""

    place: Place
    message: str
    expected: str = ""
    nearest: str = ""
    length: int = 1
    severity: Literal["error", "warning"] = "error"

    def render(self) -> str:
        """The finding as text, several lines, no trailing newline."""
        where = f"{self.place.file}:{self.place.line}:{self.place.column}"
        lines = [f"{where}: {self.severity}: {self.message}"]
        if self.place.text:
            gutter = f"{self.place.line:>5} | "
            caret = "^" + "~" * (max(1, self.length) - 1)
            lines.append(gutter + self.place.text)
            lines.append(" " * (len(gutter) - 2) + "| " + " " * (self.place.column - 1) + caret)
        if self.expected:
            lines.append(f"      = expected: {self.expected}")
        if self.nearest:
            lines.append(f"      = did you mean `{self.nearest}`?")
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        """The finding for a machine."""
        return {
            "file": self.place.file, "line": self.place.line, "column": self.place.column,
            "severity": self.severity, "message": self.message, "text": self.place.text,
            "expected": self.expected or None, "nearest": self.nearest or None,
        }  # fmt: skip


class Scalar(NamedTuple):
    """One scalar as typed. `quoted` tells `"no"` from `no`. `block` scalars (| and >) are quoted, too."""

    text: str
    place: Place
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A YAML sequence."""

    items: tuple[Node, ...]
    place: Place

    def __iter__(self) -> Iterator[Node]:
        return iter(self.items)


@dataclass(frozen=True, slots=True)
class MappingNode:
    """A YAML mapping in file order; keys are scalars, duplicates were refused by the reader."""

    items: tuple[tuple[Scalar, Node], ...]
    place: Place

    def get(self, key: str) -> Node | None:
        """The value under `key`, or None."""
        for name, value in self.items:
            if name.text == key:
                return value
        return None

    def keys(self) -> tuple[str, ...]:
        """The keys as typed."""
        return tuple(name.text for name, _ in self.items)


Node = Scalar | SequenceNode | MappingNode


@dataclass(frozen=True, slots=True)
class Document:
    """One policy file: its path as shown to people, its root, and the bytes' content hash (hex SHA-256)."""

    file: str
    root: MappingNode
    sha256: str


class Findings:
    """Collects diagnostics while a policy compiles, so that all are reported at once."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []

    def error(self, place: Place, message: str, *, expected: str = "", nearest: str = "", length: int = 1) -> None:
        """Record an error."""
        self.diagnostics.append(Diagnostic(place, message, expected, nearest, length))

    def warning(self, place: Place, message: str, *, expected: str = "", length: int = 1) -> None:
        """Record a warning."""
        self.diagnostics.append(Diagnostic(place, message, expected, "", length, "warning"))

    @property
    def errors(self) -> list[Diagnostic]:
        """The errors so far, in file order."""
        return sorted((d for d in self.diagnostics if d.severity == "error"), key=lambda d: d.place)


def nearest_name(wrong: str, known: Iterable[str]) -> str:
    """The known name nearest to a mistyped one, or the empty string."""
    return next(iter(difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)), "")
