"""Many decisions as columns: what the vector back end reads and writes.

    numbers   float64[n] a name, NaN is null
    strings   `Texts` a name: int32 codes into a tuple of distinct texts, -1 is null
    conditions  two bool[n]: definitely true, definitely false; neither is unknown

`chunks` cuts a table into parts whose intermediates stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int32]

CHUNK: Final = 8_192
NULL_CODE: Final = -1


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts: `codes[i]` indexes `values`, -1 is null. `values` are distinct."""

    codes: Codes
    values: tuple[str, ...]

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> Texts:
        """A column from plain texts."""
        codes: dict[str, int] = {}
        found = [NULL_CODE if text is None else codes.setdefault(text, len(codes)) for text in texts]
        return cls(np.array(found, np.int32), tuple(codes))

    def plain(self) -> list[str | None]:
        """The texts themselves."""
        return [None if code < 0 else self.values[code] for code in self.codes.tolist()]

    def among(self, wanted: frozenset[str] | set[str]) -> Mask:
        """Which are known and one of `wanted`."""
        table = np.zeros(len(self.values) + 1, np.bool_)  # its last entry is what code -1 finds
        table[:-1] = [value in wanted for value in self.values]
        return table[self.codes]


@dataclass(frozen=True, slots=True)
class Columns:
    """Many decisions: `numbers[i]` and `strings[j]` are the columns a `Layout` numbers; `lists` as for one decision.

    `named` holds columns outside the layout: what every dated constant was at each decision's instant.
    """

    count: int
    numbers: Sequence[Floats]
    strings: Sequence[Texts]
    lists: Mapping[str, frozenset[str]]
    named: Mapping[str, Floats] = field(default_factory=dict)

    def part(self, start: int, stop: int) -> Columns:
        """Some consecutive decisions, without a copy."""
        return Columns(
            stop - start,
            [column[start:stop] for column in self.numbers],
            [Texts(column.codes[start:stop], column.values) for column in self.strings],
            self.lists,
            {name: column[start:stop] for name, column in self.named.items()},
        )


def chunks(columns: Columns, size: int = CHUNK) -> Iterator[Columns]:
    """All decisions, a cache-sized part at a time."""
    for start in range(0, columns.count, size):
        yield columns.part(start, min(start + size, columns.count))


def joined(first: Texts, second: Texts) -> tuple[Codes, Codes, tuple[str, ...]]:
    """The codes of two columns in one common tuple of texts."""
    place = {value: code for code, value in enumerate(first.values)}
    moved = np.array([place.setdefault(value, len(place)) for value in second.values] + [NULL_CODE], np.int32)
    return first.codes, moved[second.codes], tuple(place)


def chosen(pick: Mask, then: Texts, otherwise: Texts) -> Texts:
    """`then` where `pick`, else `otherwise`."""
    codes, others, values = joined(then, otherwise)
    return Texts(np.where(pick, codes, others), values)


def blank(texts: Texts, keep: Mask) -> Texts:
    """Null where not `keep`."""
    return Texts(np.where(keep, texts.codes, np.int32(NULL_CODE)), texts.values)
