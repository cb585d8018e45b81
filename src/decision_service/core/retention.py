"""Retention: which events a customer's log may forget when new ones arrive.

The log is only ever trimmed from the front, in recorded order, so sequence numbers never change: `base_seq`
in the header moves up by what was trimmed, and `trimmed_through_ms` keeps the latest instant among everything
ever trimmed. A window that reaches back to that instant or before is incomplete and gets flagged by the
features.

Two causes trim:
  * room: with the new records there would be more than `events_max`. The log is then cut to `events_max -
    slack`, so that the next trim is `slack` events away.
  * age: the records at the front are older than `retention_ms`. Rewriting the log for every event that ages
    out would make each commit a rewrite, so it waits until an eighth of the log, or `slack` records, can go
    at once.

Instants and durations in ms, counts in records.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from decision_service.core.event import grain_of, header, read_header, words_of
from decision_service.core.limits import RECORD_BYTES

_INSTANT: Final = Struct("<q")  # what a record begins with


def trim(log: bytes, adding: int, now_ms: int, retention_ms: int, events_max: int, slack: int) -> bytes | None:
    """The log that should replace `log` before `adding` records are appended, or None to leave it as it
    is."""
    held = len(log) // RECORD_BYTES - 1
    crowded = held + adding - events_max
    gone = min(held, crowded + slack) if crowded > 0 else 0
    gone = max(gone, _aged(log, held, now_ms - retention_ms, slack))
    return trim_front(log, gone) if gone else None


def _aged(log: bytes, held: int, cutoff_ms: int, slack: int) -> int:
    """How many records at the front are older than the cut-off, or 0 while they are too few to be worth
    it."""
    if not held or _INSTANT.unpack_from(log, RECORD_BYTES)[0] >= cutoff_ms:
        return 0
    young = words_of(log)[1:, 0] >= cutoff_ms
    aged = int(young.argmax()) if young.any() else held
    return aged if aged >= min(slack, max(1, held // 8)) else 0


def trim_front(log: bytes, gone: int) -> bytes:
    """The log without its first `gone` records; its header says so."""
    base_seq, trimmed_through_ms = read_header(log)
    latest = int(words_of(log)[1 : gone + 1, 0].max())
    front = header(base_seq + gone, max(trimmed_through_ms, latest), grain_of(log))
    return front + log[(gone + 1) * RECORD_BYTES :]
