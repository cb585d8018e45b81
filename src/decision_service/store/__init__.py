"""The store: one interface, two implementations (`memory`, `redis`), one contract-test suite over both.

A store keeps, per customer, the packed event log, facilities and attributes under one *version* that every
write moves; decisions; an outbox stream a partition; lists; and which customer a facility belongs to.

Promises, each checked by `tests/store/test_store_contract.py`:
  * `read` is one atomic round trip; what it returns is one state under one version.
  * `commit` happens whole or not at all, only if the version is still the one read (else VersionMoved), and
    what it acknowledges is as durable as the profile says.
  * Every commit leaves one entry in its partition's outbox, which tells the whole change (`store/changes.py`); nothing
    else changes a customer.
  * A method that cannot say whether it wrote raises OutcomeUnknown; one that knows it did not raises
    StoreUnavailable.
  * No method retries by itself.
  * Who is unknown to a store that lost its history is not taken for new: `read`, `commit`, `read_decision` and
    `claim_facility` raise StoreUnsafe instead (`store/epoch.py`).
  * What is not as this service writes it is StoreDamaged for the customer whose it is, and for no other.
  * How far an outbox is archived moves only for whoever has the lease of its place, and from what he expects
    (`store/outbox.py`).
  * Links that a commit carries wait in the store until they are taken away; a link that is appended twice to an
    entity's log is there once.

The layout of keys is drawn in `store/keys.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, Protocol

from decision_service.core.facility import Attribute, Facility
from decision_service.core.limits import SECOND_MS
from decision_service.core.state import CustomerState
from decision_service.store.link_reads import LinkReads
from decision_service.store.outbox import Outboxes

__all__ = ["Commit", "CustomerState", "FleetNumbers", "LinkCounts", "LinkReads", "Origin", "Store", "WorkerStatus"]

TALLY_AT_ONCE: Final = 4_000  # increments of one script: about 3 ms of the server's time
EVICTS: Final = "maxmemory-policy"  # what begins a problem of `check` that the service does not even start with
WORKER_SILENT_MS: Final = 10 * SECOND_MS  # a worker not heard of for longer is forgotten

Origin = Literal["service", "journal", "import", "reconcile"]
"""Who commits: a call of the API, the delivery of a journalled answer, an import, a repair."""


class Commit(NamedTuple):
    """One atomic change of one customer. Everything is optional; a commit with nothing in it still moves the
    version.

    `records` are packed events to append. `trimmed_log`, when given, replaces the whole log before the append
    (header included), and is that log without some of its first records: that is how retention works. `decision` is
    `(decision_id, frame)`. `events` are the bodies of the posted events among the records, canonical JSON in one line
    each, for the outbox. `links` are the links that now wait to be appended to entity logs (`core/links.py`), under an
    id of the caller's that no other commit has; see `waiting_links`.
    """

    customer_id: str
    expected_version: int
    records: bytes = b""
    trimmed_log: bytes | None = None
    facilities: Mapping[str, Facility] = MappingProxyType({})
    attributes: Mapping[str, Attribute] = MappingProxyType({})
    decision: tuple[str, bytes] | None = None
    events: Sequence[bytes] = ()
    links: tuple[bytes, bytes] = (b"", b"")
    origin: Origin = "service"


class LinkCounts(NamedTuple):
    """What became of links: `old` reach back to what their log has forgotten; `refused` belong to a log that is no
    log. Neither kind is appended."""

    appended: int = 0
    duplicate: int = 0
    old: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a worker says of itself: which policy it runs, or why it could not load the newest."""

    worker_id: str
    policy_id: str
    policy_label: str
    seen_at_ms: int
    problem: str = ""
    bundle: int = 0  # number of the published policy it runs; 0 if it runs one that is not published


class FleetNumbers(NamedTuple):
    """What every worker of every host looks at: how many reloads were asked for, the newest published policy, and the
    number of what is published to be in shadow, 0 if nothing is."""

    reload: int
    published: int
    shadow: int = 0


class Store(Outboxes, Protocol):
    """Everything the service asks of a store; `Outboxes` is the part that an archive asks. `timeout_s` bounds a call;
    past it the outcome counts as unknown for a write and the store as unavailable for a read."""

    async def read(self, customer_id: str, decision_id: str | None, timeout_s: float) -> CustomerState:
        """The customer's state and, if `decision_id` is given, the frame stored under it.
        StoreUnavailable."""
        ...

    async def commit(self, commit: Commit, timeout_s: float) -> int:
        """Apply atomically, and tell the outbox; the new version. VersionMoved, StoreUnavailable, OutcomeUnknown."""
        ...

    async def read_decision(self, decision_id: str, timeout_s: float) -> bytes | None:
        """The frame stored under a decision_id (which names its partition), or None."""
        ...

    def together_decisions(self, decision_ids: Iterable[str]) -> Sequence[Sequence[str]]:
        """Decisions in portions that one `save_shadows` may take. ValueError for what is no decision id."""
        ...

    async def save_shadows(self, records: Mapping[str, bytes], timeout_s: float) -> int:
        """Keep what shadow scorecards said, by decision id, and tell it in the outbox of the decision's partition; how
        many are new. What is kept already stays: giving it again does no harm. The customer's version does not move.
        StoreUnavailable, OutcomeUnknown."""
        ...

    async def read_shadows(self, decision_id: str, timeout_s: float) -> bytes | None:
        """What shadow scorecards said of a decision, or None."""
        ...

    async def save_shadow_policy(self, records: Mapping[str, bytes], timeout_s: float) -> int:
        """Keep what the shadow policy said, by decision id; as `save_shadows` keeps what shadow scorecards said, and
        with portions of `together_decisions`, too. StoreUnavailable, OutcomeUnknown."""
        ...

    async def read_shadow_policy(self, decision_id: str, timeout_s: float) -> bytes | None:
        """What the shadow policy said of a decision, or None."""
        ...

    def read_links(self, names: Iterable[bytes], timeout_s: float) -> LinkReads:
        """Ask for the logs of entities by their `core.links.log_name`, at once and without waiting for any; one that
        is late, unreachable or no log stays unread. Raises nothing."""
        ...

    def together(self, names: Iterable[bytes]) -> Sequence[Sequence[bytes]]:
        """Entity logs by name, in portions that one `append_links` may take."""
        ...

    async def append_links(
        self, records: Mapping[bytes, bytes], records_max: int, kept_ms: int, timeout_s: float,
        left_out_ms: Mapping[bytes, int] = MappingProxyType({}),
    ) -> LinkCounts:  # fmt: skip
        """Append records to entity logs by name, each record once, however often and by whomever it is given. A log
        keeps the newest `records_max` (a quarter more before it is trimmed), and is forgotten once nothing was added
        to it for `kept_ms`. `left_out_ms`: the latest instant of what is left out of a log on purpose; the log is then
        marked as trimmed through it. StoreUnavailable, OutcomeUnknown: to be given again."""
        ...

    async def waiting_links(
        self, partition: int, cursor: int, timeout_s: float
    ) -> tuple[int, Sequence[tuple[bytes, bytes]]]:
        """Some of a partition's waiting links as `(id, links)`, and the cursor of the next call; it begins and ends at
        0. Whatever waits throughout is told at least once, whatever comes and goes meanwhile perhaps."""
        ...

    async def forget_links(self, ids: Mapping[int, Sequence[bytes]], timeout_s: float) -> None:
        """Take away waiting links by partition and id, once they are appended. StoreUnavailable, OutcomeUnknown."""
        ...

    async def claim_facility(self, facility_id: str, customer_id: str, timeout_s: float) -> str:
        """Record, once and for all, whose facility this is; the owner (perhaps another customer) is
        returned."""
        ...

    async def facility_owner(self, facility_id: str, timeout_s: float) -> str | None:
        """The customer a facility belongs to, or None."""
        ...

    async def read_lists(self, known_version: int, timeout_s: float) -> tuple[int, Mapping[str, frozenset[str]] | None]:
        """`(version, lists)`; lists is None when the version is the one already known."""
        ...

    async def change_list(self, name: str, value: str, present: bool, timeout_s: float, by: str = "") -> bool:
        """Put a value on a list or take it off; True if that changed anything. Moves the lists' version, and tells the
        outbox LISTS who did it."""
        ...

    async def publish_reload(self, timeout_s: float) -> int:
        """Ask every worker to look at its policy again; the new reload number."""
        ...

    async def read_fleet(self, timeout_s: float) -> FleetNumbers:
        """All numbers in one command: cheap enough to ask four times a second."""
        ...

    async def publish_policy(self, expected: int, head: bytes, bundle: bytes, timeout_s: float, serial: int = 0) -> int:
        """Keep a policy under the next number, which is returned; only if `expected` is still the newest number, else
        VersionMoved and nothing is written. The oldest beyond POLICIES_KEPT_MAX is forgotten. The highest
        serial rises to `serial` if that is above it. The outbox POLICY is told the head.
        StoreUnavailable, OutcomeUnknown."""
        ...

    async def policy_serial(self, timeout_s: float) -> int:
        """The highest serial a policy was published with, 0 if none was."""
        ...

    async def published_heads(self, timeout_s: float) -> Mapping[int, bytes]:
        """The heads of the published policies that are kept, by number, newest first."""
        ...

    async def read_bundle(self, number: int, timeout_s: float) -> bytes | None:
        """The bundle published under a number, or None if it is not (or no longer) kept."""
        ...

    async def publish_shadow(self, head: bytes, bundle: bytes, timeout_s: float) -> int:
        """Put a policy in shadow on every worker, in the place of an earlier one; its number, which rises and is never
        given twice. StoreUnavailable, OutcomeUnknown."""
        ...

    async def stop_shadow(self, timeout_s: float) -> bool:
        """Take away what is published to be in shadow; whether anything was. StoreUnavailable, OutcomeUnknown."""
        ...

    async def read_shadow(self, timeout_s: float) -> tuple[int, bytes, bytes] | None:
        """Number, head and bundle of what is published to be in shadow, or None."""
        ...

    async def save_policy(self, policy_id: str, document: bytes, timeout_s: float) -> None:
        """Keep a policy's description under its content id, once."""
        ...

    async def read_policy(self, policy_id: str, timeout_s: float) -> bytes | None:
        """The description kept under a policy id, or None."""
        ...

    async def save_source(self, name: str, document: bytes, timeout_s: float) -> None:
        """Keep a part of a policy (`policies/sources.py`) under its name, which stands for its content: giving it again
        changes nothing that is read. `timeout_s` is of each piece (`store/pieces.py`)."""
        ...

    async def missing_sources(self, names: Sequence[str], timeout_s: float) -> frozenset[str]:
        """Those parts of policies that are neither kept nor archived."""
        ...

    async def read_source(self, name: str, timeout_s: float) -> bytes | None:
        """A part of a policy; None if it is not kept, empty if the archive has it. StoreDamaged."""
        ...

    async def shed_source(self, name: str, known_ms: int, timeout_s: float) -> None:
        """The archive has this part of a policy: keep only that it does, for `known_ms`, or for ever if that is 0."""
        ...

    async def announce_worker(self, status: WorkerStatus, timeout_s: float) -> None:
        """Say which policy a worker runs; entries not renewed for 10 s are forgotten."""
        ...

    async def workers(self, now_ms: int, timeout_s: float) -> Sequence[WorkerStatus]:
        """The workers heard of lately, sorted by id."""
        ...

    async def read_import(self, import_id: str, timeout_s: float) -> Mapping[int, bytes]:
        """What is kept of an import, by the number of its slice."""
        ...

    async def save_import(self, import_id: str, slice_number: int, account: bytes, timeout_s: float) -> None:
        """Keep the account of a slice of an import that is done. It is never ahead of the commits it tells of:
        call it when they are acknowledged."""
        ...

    async def outbox_decisions(
        self, partition: int, since_ms: int, until_ms: int, after: bytes, timeout_s: float
    ) -> tuple[bytes, Sequence[str]]:
        """Ids of decisions of a partition's outbox, oldest first, committed between two instants by the store's clock
        (a store without one tells more); and where the next call goes on, empty at the end. The first call says
        `after` nothing."""
        ...

    async def read_decisions(
        self, partition: int, decision_ids: Sequence[str], timeout_s: float
    ) -> Sequence[bytes | None]:
        """The frames of decisions of one partition, in the order asked for."""
        ...

    async def add_tally(
        self, series: str, day: int, increments: Mapping[bytes, int], kept_days: int, timeout_s: float
    ) -> None:
        """Add to the counts of a series on a day (since 1970-01-01). Days of any series more than `kept_days` before
        this one are forgotten. StoreUnavailable: nothing was added; OutcomeUnknown: perhaps it was, never give it
        again. Of more than TALLY_AT_ONCE increments a part may have been added when either is raised."""
        ...

    async def tally_days(self, timeout_s: float) -> Mapping[str, Sequence[int]]:
        """The days that hold counts, rising, by series."""
        ...

    async def read_tally(self, series: str, day: int, timeout_s: float) -> Mapping[bytes, int]:
        """The counts of a series on a day; none if nothing was counted or it is forgotten."""
        ...

    async def save_watch(self, name: str, document: bytes, timeout_s: float) -> None:
        """Keep the summary of the last look at a version of a scorecard, in the place of an earlier one."""
        ...

    async def read_watches(self, timeout_s: float) -> Mapping[str, bytes]:
        """The summaries that are kept, by name."""
        ...

    async def check(self) -> Sequence[str]:
        """Why the store must not be used (evicting policy, no append-only file ...), empty if it is safe.

        StoreUnavailable if it cannot be asked."""
        ...

    async def accept_history(self, timeout_s: float) -> str:
        """Take the store for what it holds, though its history is missing: an operator repaired it, or knows that it
        is new. The new epoch is returned; every worker that knew the one before goes on with it.
        StoreUnavailable: give it again."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
