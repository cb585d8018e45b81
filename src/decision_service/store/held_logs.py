"""Held logs: entity logs as this worker last read them, so that of a long one only what was added since is read.

An entity's log of 1,000 records is 64 kB, of which a decision finds all but a record or two as it was. So the two ends
are asked for instead of the whole:

    held   header ─ r1 ─ r2 ─ ... ─ rn            n records, read before
    asked  GETRANGE <last record held> to the end, then GETRANGE <header>, in this order on one connection

If the record that stands where the last one held did is that very record, and the header is the one held, then the log
is what is held and the records behind it, bit by bit what reading it whole would have given:

  * a log is only ever appended to, or replaced by a trim or a mark, both of which move its header (`base_seq` and
    `trimmed_through_ms` never fall), so a header that is unchanged at the later of the two instants was so at the
    earlier;
  * a record occurs once in a log, so the same one at the same place is no coincidence of a trim.

Else the log is read whole. A server that lost its last writes could contradict what is held, so everything is let go
whenever a connection was lost or a slot moved; what was asked for before that is not held either.

Memory: HELD_BYTES_MAX a worker, the logs that were read longest ago go first. Logs of less than HELD_BYTES_MIN are not
worth it: reading them whole costs no more.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from decision_service.core.limits import RECORD_BYTES
from decision_service.core.links import LINK_GRAINS, Links
from decision_service.core.log_search import records_with
from decision_service.store.link_reads import LinkReads, Read, entity_log, is_answered

HELD_BYTES_MAX: Final = 64 * 1_048_576
HELD_BYTES_MIN: Final = 2_048
COMPARED_MAX: Final = 32  # records of a call, up to 5 us each
_KEY, _CUSTOMER = 8, 48  # where in a record the two words stand by which it is known

AskWhole = Callable[[bytes], "Future[Any] | None"]


class HeldLogs:
    """The logs by name, least lately read first. `generation` moves with everything that is let go."""

    def __init__(self, bytes_max: int = HELD_BYTES_MAX, bytes_min: int = HELD_BYTES_MIN) -> None:
        self.generation = 0
        self._bytes_max = bytes_max
        self._bytes_min = bytes_min
        self._logs: dict[bytes, bytes] = {}
        self._bytes = 0

    def get(self, name: bytes) -> bytes | None:
        """The log as it was last read."""
        return self._logs.get(name)

    def keep(self, name: bytes, log: bytes, generation: int) -> None:
        """Hold a log that was just read, having been asked for in a generation."""
        before = self._logs.pop(name, None)
        if before is not None:
            self._bytes -= len(before)
        if len(log) < self._bytes_min or generation != self.generation:
            return
        self._logs[name] = log
        self._bytes += len(log)
        while self._bytes > self._bytes_max:
            oldest = next(iter(self._logs))
            self._bytes -= len(self._logs.pop(oldest))

    def forget_all(self) -> None:
        """Let go of everything: the store may be of another history than what is held."""
        self.generation += 1
        self._logs.clear()
        self._bytes = 0

    def without(self, name: bytes, records: bytes) -> bytes | None:
        """The log if it is held and none of these records stands in it. Of more than COMPARED_MAX records that is not
        found out here, where others wait."""
        log = self._logs.get(name)
        if log is None or len(records) % RECORD_BYTES or len(records) > COMPARED_MAX * RECORD_BYTES:
            return None
        for at in range(0, len(records), RECORD_BYTES):
            for there in records_with(log, records[at + _KEY : at + _KEY + 8]):
                if log.startswith(records[at + _CUSTOMER : at + _CUSTOMER + 8], there + _CUSTOMER):
                    return None
        return log


def continued(log: bytes, tail: Any, head: Any) -> bytes | None:
    """A held log as it is now, by the ends that were read of it; None if they tell that it is another, or torn."""
    if type(tail) is not bytes or head != log[:RECORD_BYTES] or not tail.startswith(log[-RECORD_BYTES:]):
        return None
    if len(tail) == RECORD_BYTES:
        return log
    return None if len(tail) % RECORD_BYTES else log + tail[RECORD_BYTES:]


class HeldReads(LinkReads):
    """Reads under way of logs of which some are held. `whole` asks for one that turns out to be another than held."""

    __slots__ = ("_generation", "_held", "_known", "_whole")

    def __init__(
        self, reads: list[Read], known: list[tuple[bytes, bytes | None]], held: HeldLogs, whole: AskWhole
    ) -> None:
        """`known` are the name of each log that is read, and what is held of it if only its ends are read."""
        super().__init__(reads)
        self._known = known
        self._held = held
        self._generation = held.generation
        self._whole = whole

    async def logs(self, wait_s: float | None = None) -> Links:
        """See `LinkReads.logs`."""
        began = monotonic()
        await self._wait(wait_s)
        others = False
        found: list[bytes | None] = [None] * len(LINK_GRAINS)
        for i, (grain, future) in enumerate(self._reads):
            if future is None:
                continue
            name, before = self._known[i]
            answered = is_answered(future)
            log = continued(before, *future.result()) if answered and before is not None else entity_log(future, grain)
            if log is not None:
                found[grain] = log
                self._held.keep(name, log, self._generation)
            elif answered and before is not None:
                others = True
                self._known[i], self._reads[i] = (name, None), (grain, self._whole(name))
        if not others:
            return Links(*found)
        return await self.logs(None if wait_s is None else max(0.0, wait_s - (monotonic() - began)))
