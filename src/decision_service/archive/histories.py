"""Histories: the states that customers were in when they were decided on, rebuilt from the rows of the archive.

    rows of a place, in chain order ──▶ History.before(row)  the state that the commit of this row changed
                                        History.take(row)    and on to the next

A row holds what a commit did, so walking a place from its first row tells every state of its customers to the byte:
log, facilities, attributes, version. Version 0 is the empty customer, wherever it is met. Where a state cannot be told
the reason is, for that customer, from there on:

    erased        a change of the customer was erased
    before        the customer is older than the archive, or than entries that tell what was committed
    gap           changes are missing between two rows
    damaged       a change cannot be applied

A version that went back is a store that was restored from a backup: what it lost is still in the archive. The state
with the version gone back to is rebuilt from the place's earlier rows, of those with one version the latest; that reads
them once more and keeps every change of the place in memory from there on.

Memory: the state of every customer of one place (at most a log of `events_per_customer_max` records each).

`decided` hands out what a decision needs besides its policy. Entity logs are not archived: `RecordedLinks` of
`replaying.py` takes the features that rest on them from the recorded numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from decision_service.api.parse import Clock, parse_decision
from decision_service.archive.files import Archive
from decision_service.archive.rows import change_of
from decision_service.archive.schema import Row
from decision_service.archive.segments import Segment, day_of
from decision_service.core.errors import ArchiveDamaged, DecisionServiceError
from decision_service.core.fallback import NOTHING_SEEN
from decision_service.core.request import DecisionRequest
from decision_service.core.state import CustomerState
from decision_service.store.changes import Change, apply

if TYPE_CHECKING:
    import pyarrow as pa

Why = Literal["erased", "before", "gap", "damaged", "restored", "unreadable", "unparsed"]
WHY: Final[dict[Why, str]] = {
    "erased": "erased: the personal columns of it, or of an earlier change of its customer, are gone",
    "before": "its customer's history begins before the archive",
    "gap": "changes of its customer are missing in the archive",
    "damaged": "an earlier change of its customer cannot be applied",
    "restored": "put back by reconcile: nobody knows what it rested on",
    "unreadable": "its row could not be read when it was archived",
    "unparsed": "its request is refused by the parser of today",
}
"""Why there is no state before a decision, or no request."""
COMMITTED: Final = ("change", "unreadable")  # kinds of the rows that commits leave
NO_LIMIT_MS: Final = 2**61
BATCH_ROWS: Final = 2_048
STATE_COLUMNS: Final = (
    "partition", "position", "at_ms", "kind", "decision_id", "customer_key", "version", "customer_id", "records",
    "header", "facilities", "attributes",
)  # fmt: skip
_EMPTY: Final = CustomerState()


class Unknown(NamedTuple):
    """Stands for a state that cannot be told."""

    why: Why
    detail: str = ""


class Decided(NamedTuple):
    """A decision as it was about to be made. `request` has the snapshot of the facility that was used, dated as it was;
    none where the stored one was newer."""

    row: Row
    state_before: CustomerState
    request: DecisionRequest


Skipped = Callable[[Row, Unknown], None]


class History:
    """The customers of one place while its rows are walked. `earlier(position)` gives the rows before one again."""

    def __init__(self, earlier: Callable[[int], Iterator[Row]]) -> None:
        self._earlier = earlier
        self._states: dict[int, CustomerState | Unknown] = {}
        self._changes: dict[int, dict[int, Change]] | None = None  # by customer and version, once one went back

    def before(self, row: Row) -> CustomerState | Unknown:
        """The state that the commit of a row changed. The rows before it must have been taken, and no other."""
        key, version = row.customer_key, row.version
        if row.customer_id is None or key is None or version is None:
            return Unknown("erased") if row.kind == "change" else Unknown("unreadable")
        if version == 1:
            return _EMPTY
        if version == 0:
            return Unknown("before")
        state = self._states.get(key, Unknown("before"))
        if isinstance(state, Unknown) or state.version == version - 1:
            return state
        if state.version < version:
            return Unknown("gap", f"from version {state.version} to {version}")
        return self._gone_back_to(key, version - 1, row.position)

    def take(self, row: Row) -> None:
        """Go on behind a row."""
        if row.customer_key is None or (row.version is None and row.kind != "change"):
            return
        self._states[row.customer_key] = self._after(row)

    def _after(self, row: Row) -> CustomerState | Unknown:
        state = self.before(row)
        if isinstance(state, Unknown):
            return state
        try:
            change = _change(row)
            after = apply(state, change)
        except (ValueError, TypeError, KeyError) as error:
            return Unknown("damaged", f"row {row.position}: {error}")
        if self._changes is not None:
            self._changes.setdefault(row.customer_key or 0, {})[change.version] = change
        return after

    def _gone_back_to(self, key: int, version: int, position: int) -> CustomerState | Unknown:
        """The latest state with an earlier version."""
        if self._changes is None:
            self._changes = {}
            for row in self._earlier(position):
                if row.version and row.customer_id is not None and row.customer_key is not None:
                    self._changes.setdefault(row.customer_key, {})[row.version] = _change(row)
        changes = self._changes.get(key, {})
        state = _EMPTY
        for number in range(1, version + 1):
            if number not in changes:
                return Unknown("before" if number == 1 else "gap", f"version {number} is not in the archive")
            try:
                state = apply(state, changes[number])
            except ValueError as error:
                return Unknown("damaged", f"version {number}: {error}")
        return state


def _change(row: Row) -> Change:
    change = change_of(row if row.events is None else row._replace(events=None))
    assert change is not None, "only rows with a version are asked"
    return change


def decided(
    archive: Archive,
    place: int,
    since_ms: int | None = None,
    until_ms: int | None = None,
    *,
    positions: Collection[int] | None = None,
    skipped: Skipped = lambda _row, _why: None,
) -> Iterator[Decided]:
    """The decisions of a place that were committed in [since_ms, until_ms) by the store's clock, in chain order, each
    with the state that it saw and its request; `positions` narrows that to some rows. What has no state or no request
    any more goes to `skipped`. ArchiveUnavailable."""
    history = History(lambda position: _walk(archive, place, None, lambda _segment: False, position))
    wanted = _Wanted(since_ms, until_ms, None if positions is None else frozenset(positions))
    for row in _walk(archive, place, until_ms, wanted.any_in):
        if row.decision_id and row.kind in COMMITTED and wanted.has(row):
            one = _decided(row, history)
            if isinstance(one, Unknown):
                skipped(row, one)
            else:
                yield one
        history.take(row)


class _Wanted(NamedTuple):
    since_ms: int | None
    until_ms: int | None
    positions: frozenset[int] | None

    def has(self, row: Row) -> bool:
        late = self.since_ms is None or row.at_ms >= self.since_ms
        early = self.until_ms is None or row.at_ms < self.until_ms
        return late and early and (self.positions is None or row.position in self.positions)

    def any_in(self, segment: Segment) -> bool:
        """Whether a segment may have such rows: of the others only what states need is read."""
        if self.since_ms is not None and segment.day < day_of(self.since_ms):
            return False
        if self.positions is None:
            return True
        return any(segment.first <= position <= segment.last for position in self.positions)


def _decided(row: Row, history: History) -> Decided | Unknown:
    if row.kind == "unreadable":
        return Unknown("unreadable")
    if row.policy_id == "":
        return Unknown("restored")
    if row.request is None:
        return Unknown("erased")
    state = history.before(row)
    if isinstance(state, Unknown):
        return state
    try:
        return Decided(row, state, request_of(row))
    except (DecisionServiceError, ValueError) as error:
        return Unknown("unparsed", str(error))


def request_of(row: Row) -> DecisionRequest:
    """The request of a decision's row as it was decided on. InvalidInput, MalformedBody, ValueError."""
    if row.request is None or row.decided_at_ms is None:
        raise ValueError(f"row {row.position} has no request")
    clock = Clock(row.decided_at_ms, NO_LIMIT_MS, NO_LIMIT_MS)  # it was young enough when it came
    request, _ = parse_decision(row.request, clock)
    sent = request.facility
    if sent is None:
        return request
    change = _change(row)
    used = change.facilities.get(request.facility_id)
    if used is not None:
        if used.as_of_ms > sent.as_of_ms or replace(sent, as_of_ms=used.as_of_ms) != used:
            raise ValueError("facility: the snapshot in the request is not the one that was stored")
        return replace(request, facility=used)
    if row.read_version == NOTHING_SEEN:  # a static answer looks at what was sent, stored or not
        return replace(request, facility=replace(sent, as_of_ms=min(sent.as_of_ms, row.decided_at_ms)))
    return replace(request, facility=None)


def _walk(
    archive: Archive, place: int, until_ms: int | None, whole: Callable[[Segment], bool], before: int | None = None
) -> Iterator[Row]:
    """The rows of a place in chain order, up to the day of `until_ms` or a position; with all columns of segments that
    are asked for `whole`, else with STATE_COLUMNS."""
    done = 0  # position of the last row handed out
    while True:
        try:
            for segment in archive.segments(None, until_ms, [place]):
                if segment.last <= done or (before is not None and segment.first >= before):
                    continue
                if segment.first > done + 1 and done:
                    raise ArchiveDamaged(
                        f"{segment.path}: rows {done + 1} to {segment.first - 1} before it are missing"
                    )
                for row in _rows(archive, segment, Row._fields if whole(segment) else STATE_COLUMNS):
                    if row.position > done and (before is None or row.position < before):
                        yield row
                        done = row.position
            return
        except FileNotFoundError:  # a compaction merged it
            continue


def _rows(archive: Archive, segment: Segment, columns: Sequence[str]) -> Iterator[Row]:
    with archive.open(segment) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
            yield from rows_in(batch, columns)


def rows_in(batch: pa.RecordBatch, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a batch that has these columns; the others are None, `position` and the like 0."""
    there = {name: batch.column(name).to_pylist() for name in columns}
    absent: dict[str, Any] = {"partition": 0, "position": 0, "at_ms": 0, "at_n": 0, "kind": ""}
    lists = [there[name] if name in there else repeat(absent.get(name), batch.num_rows) for name in Row._fields]
    return map(Row._make, zip(*lists, strict=True))
