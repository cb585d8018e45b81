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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from decision_service.tables.file import BadRow

STATUSES: Final = ("accepted", "duplicate", "skipped", "rejected")
REFUSALS_KEPT_MAX: Final = 1_000  # of one slice; beyond, it is judged again by the next run, with the same outcome


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

    def refuse_all(self, bad: Sequence[BadRow]) -> None:
        """Count rows as rejected that are reported already; what is kept of them is bounded."""
        self.counts["rejected"] += len(bad)
        room = REFUSALS_KEPT_MAX + 1 - len(self.refusals)
        self.refusals += [Refusal(one.row, one.column, one.reason) for one in bad[: max(0, room)]]

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

    @property
    def keepable(self) -> bool:
        """Whether it is small enough to be kept in the store."""
        return len(self.refusals) <= REFUSALS_KEPT_MAX

    def packed(self) -> bytes:
        """As kept in the store."""
        return orjson.dumps((self.counts, self.trimmed, self.links, self.refusals))

    def shown(self) -> dict[str, Any]:
        """As reported."""
        return {status: self.counts[status] for status in STATUSES} | {"trimmed": self.trimmed}


def unpack_account(stored: bytes) -> Account:
    """The inverse of `Account.packed`."""
    counts, trimmed, links, refusals = orjson.loads(stored)
    return Account(Counter(counts), trimmed, links, [Refusal(*refusal) for refusal in refusals])


def total_of(accounts: Iterable[Account]) -> Account:
    """All of them together."""
    total = Account()
    for account in accounts:
        total.add(account)
    return total
