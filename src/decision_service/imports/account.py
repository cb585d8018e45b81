"""What became of the rows of a file, or of one slice of it.

    accepted    recorded now
    duplicate   there already, with the same content
    skipped     older than what is there: a snapshot before the one that is known, an event from before the instant
                through which retention has trimmed the log (it would have gone with the others)
    rejected    refused, with the column and the reason

`trimmed` counts records, not rows: what retention let go, from the front of the logs, to make room for accepted ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

STATUSES: Final = ("accepted", "duplicate", "skipped", "rejected")


class Refusal(NamedTuple):
    """A row that was refused when it met what is known of its customer."""

    row: int
    column: str
    reason: str


@dataclass(slots=True)
class Account:
    """Counts by status, records trimmed, links for the entity logs, and the refusals. `earlier` rows are an earlier
    run's."""

    counts: Counter[str] = field(default_factory=Counter)
    trimmed: int = 0
    links: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    earlier: int = 0

    def refuse(self, row: int, column: str, reason: str) -> None:
        """Count a row as rejected."""
        self.counts["rejected"] += 1
        self.refusals.append(Refusal(row, column, reason))

    def add(self, other: Account) -> None:
        """Take over another account."""
        self.counts.update(other.counts)
        self.trimmed += other.trimmed
        self.links += other.links
        self.refusals += other.refusals

    @property
    def rows(self) -> int:
        """How many rows this tells of."""
        return self.counts.total()

    def packed(self) -> bytes:
        """As kept in the store, where nothing was refused."""
        assert not self.counts["rejected"], "what is refused today may be right tomorrow: it is judged again"
        return orjson.dumps((self.counts, self.trimmed, self.links))

    def shown(self) -> dict[str, Any]:
        """As reported."""
        return {status: self.counts[status] for status in STATUSES} | {"trimmed": self.trimmed}


def unpack_account(stored: bytes) -> Account:
    """The inverse of `Account.packed`."""
    counts, trimmed, links = orjson.loads(stored)
    return Account(Counter(counts), trimmed, links)


def total_of(accounts: Iterable[Account]) -> Account:
    """All of them together."""
    total = Account()
    for account in accounts:
        total.add(account)
    return total
