"""The journal: what was answered while the store was away, kept on this host until the store has it.

    decide ──no store──▶ static answer ──write, fsync──▶ journal ──▶ told
                                                            └─ delivery: in order, one deliverer a host ──▶ store

A static answer is a decision like any other: it is written down before it is told, and every later call with its
request_id gets the same bytes, from here until it is delivered and from the store ever after.

    journal.db           SQLite: the rows (`sqlite.py`), conflicts; shared by all workers of the host
    journal.pending      how many rows there are, in shared memory (`pending.py`): all that a decision asks while
                         there are none
    journal.deliverer    locked by the worker that delivers (`delivery.py`)
    sent-<n>.map         of each worker, what it has sent to be committed (`sent.py`)

Who may tell what. A decision id has two possible sources of an answer, a commit to the store and a row of the journal,
and may be decided by two workers at once. Both announce first and look afterwards, so at least one sees the other:

    decider         marks the id as sent -> looks for a row -> none: commits
                                                            -> one: takes its mark back, commits nothing
    static answer   writes its row, durably -> looks for marks -> none: tells
                                                               -> one: does not tell; the row is *doubtful*

    marked first, row later    the static answer sees the mark: not told, and the commit may go on
    row first, marked later    the decider sees the row: not committed, and the row may be told
    both before either looks   neither: the decider backs off, the row is doubtful for a moment; a retry finds no mark,
                               trusts the row and tells it

A row that was once found without marks can be told for ever, for whoever marks later sees it; who tells a row that
another wrote announces that before it looks for marks, so the writer, who may find one a moment later, does not doubt
what is told already. A mark is taken back only
by the attempt that made it, and only when the store said that nothing was written; a commit whose outcome is unknown
leaves its mark, and so does one that happened: a static answer is then refused (503 outcome-unknown), because the
stored one may say otherwise.

A row that this worker has brought into the store but cannot take out of the journal (its disk is full) is no reason to
back off: the store shows it to every read since, and to a commit that rests on an earlier read by the version.

A doubtful row stays until the store can be asked: if the store has a decision under its id, the row was never told
and goes; if not, it is delivered. A row that was, or may have been, told and whose id the store knows otherwise
(another host decided it anew, before this one delivered) is a *conflict*: kept with what the store has, counted, and
what it approved is appended to the customer's log, so that exposure is never understated. A row whose caller gave up,
or whose worker died, before marks were looked for counts as told: such a conflict may be a false alarm, never a missed
one.

A small amount is paid on a snapshot, which does not show what this service approved and core banking has not booked.
So it is paid only to whom this host approved nothing today or yesterday. What is approved is marked, by customer and
day; at most one approval of a customer waits in the journal (SQLite sees to that); and again both announce first:

    decider         marks the approval -> looks for rows of the customer -> none: commits
                                                                         -> some: delivers them, reads and decides anew
    small amount    writes its row, doubtful, durably -> looks for approvals -> none: trusts the row, durably, and tells
                                                                             -> some: drops the row, and holds
    delivery        of a trusted approval: marks it as one before it is brought, so the next small amount, whose row
                    can be written only when this one is gone, finds the mark
                    of a doubtful approval: drops it, once the store was reached; nobody was told

Trusting and dropping take the very row that was looked at and only while it is there, doubtful to be dropped, so of a
small amount's writer and a decider that delivers, one wins and the other finds out. Whoever finds a doubtful approval
after its writer died or gave up drops it, or looks as its writer would have, and trusts it while its snapshot is new.
So one host never lends more than the line, whatever its store does.

What this cannot see: what other hosts sent, so while the store is away each host may pay a customer one small amount
beyond the line; what was sent before the sent table was lost with the machine (it is not synced), or before the
journal could be opened, or overflowed (about the last 1.6 million commits of a worker are remembered).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, Protocol

__all__ = ["Conflict", "ConflictKind", "Journal", "SentTable", "StaticRow"]

ConflictKind = Literal["differs", "spent", "owner", "refused"]
"""`differs`: the store has another decision under the id; `spent`: the log holds the drawdown, its decision is gone;
`owner`: delivered, but its facility belongs to another customer; `refused`: it can never be committed (the row is
damaged)."""
CONFLICT_KINDS: Final[tuple[ConflictKind, ...]] = ("differs", "spent", "owner", "refused")


class StaticRow(NamedTuple):
    """One static answer with all that its delivery needs.

    `frame` is the decision's. `record` is the drawdown's record for the customer's log, empty for a review; `links`
    are those of the record (`core.links.pack_links`); `facility` is the snapshot that came with the request, as stored
    (`store.records`), or empty. `doubtful`: it was not told, for something was sent under this id before, or for it
    approves and its writer has not looked for other approvals yet.
    """

    decision_id: str
    customer_id: str
    approved_minor: int
    written_at_ms: int
    frame: bytes
    record: bytes
    facility: bytes
    links: bytes
    doubtful: bool = False
    seq: int = 0  # place in the journal, rising; 0 until it is written


class Conflict(NamedTuple):
    """A static answer that the store contradicts. `found` is the frame that the store has, empty if none."""

    kind: ConflictKind
    decision_id: str
    customer_id: str
    approved_minor: int
    found_at_ms: int
    frame: bytes
    found: bytes


class Journal(Protocol):
    """What the service asks of a journal. Looking is immediate and done in the event loop; writing is awaited and done
    elsewhere. Everything but the two properties raises JournalUnavailable."""

    @property
    def pending(self) -> int:
        """How many rows wait to be delivered, of all workers; 0 means that there is nothing to look for. A tenth of a
        microsecond. It may be too high for a while, never 0 while there is a row."""
        ...

    @property
    def write_s(self) -> float:
        """How long a write takes lately, in seconds, the slow ones included; infinite while it cannot write."""
        ...

    def find(self, decision_id: str) -> StaticRow | None:
        """The row under a decision id."""
        ...

    def of_customer(self, customer_id: str) -> list[StaticRow]:
        """The rows of a customer, oldest first."""
        ...

    async def write(self, row: StaticRow) -> StaticRow | None:
        """Write a row; durable when it returns. What is returned is the row now under this id: this one, or an earlier
        one, which stays as it is. None, and nothing written, if it approves and another approval of this customer
        waits to be delivered."""
        ...

    async def doubt(self, decision_id: str) -> None:
        """Say that a row was not told; durable when it returns."""
        ...

    async def trust(self, row: StaticRow) -> bool:
        """Say that a row, as it was written or found, is to be told; durable when it returns. False if it is gone."""
        ...

    async def drop(self, row: StaticRow) -> bool:
        """Take away a row that was told to nobody; False, and nothing is done, if it is gone or no longer doubtful."""
        ...

    async def oldest(self, after_seq: int, limit: int) -> list[StaticRow]:
        """Rows behind a place, oldest first."""
        ...

    async def remove(self, decision_ids: list[str]) -> int:
        """Take away rows that the store has; how many were there."""
        ...

    async def keep_conflict(self, conflict: Conflict) -> bool:
        """Take a row away and keep what it contradicts; False if the row was gone."""
        ...

    async def conflicts(self) -> list[Conflict]:
        """The conflicts that were kept, oldest first."""
        ...

    async def settle(self) -> None:
        """Look after itself: count anew, try whether it can write, reopen files that were replaced. Called by every
        worker every few seconds; raises nothing."""
        ...

    async def close(self) -> None:
        """Finish what is being written and release everything."""
        ...


class SentTable(Protocol):
    """Ids of decisions that this host has sent to be committed."""

    def mark(self, decision_id: str) -> bool:
        """Mark an id; True if this worker had not marked it before."""
        ...

    def mark_approval(self, customer_id: str, t_ms: int) -> None:
        """Mark that money is approved to a customer on a day: `sent.approval_key`."""
        ...

    def unmark(self, decision_id: str) -> None:
        """Take this worker's mark back, unless it is to be kept."""
        ...

    def keep(self, decision_id: str) -> None:
        """Mark an id that the store has a decision under; an attempt that began before does not take it back."""
        ...

    def kept(self, decision_id: str) -> bool:
        """Whether this worker was lately told to `keep` an id: the store has a decision under it."""
        ...

    def holds(self, decision_id: str) -> bool:
        """Whether any worker of this host, living or dead, has marked an id."""
        ...
