"""The one tree of operating errors. Programmer errors are not here: they crash.

    DecisionServiceError
    ├── InvalidInput            the caller's input is wrong; names the field             422
    │   └── MalformedBody       not even JSON of the right shape                          400
    ├── NotFound                the named thing does not exist                            404
    ├── Erased                  it was there; what of it was a person's is erased         410
    ├── Conflict                what is asked contradicts what is stored                  409
    ├── RequestIdReused         a request_id came back with other content                 422
    ├── PolicyRejected          a candidate policy does not compile; holds diagnostics    422
    ├── ScorecardRejected       a model directory that must not be loaded                 422
    ├── StoreError
    │   ├── StoreUnavailable    nothing was written                                       503
    │   ├── OutcomeUnknown      a write whose reply was lost: ask again by id             503
    │   │   └── NotReplicated   written, but on too few servers to be told                503
    │   ├── StoreDamaged        what is stored of this customer is not ours               503
    │   └── StoreUnsafe         could lose or evict keys, or lost its history             exit 3
    ├── JournalUnavailable      the journal of this host could not be read or written     503
    ├── ArchiveUnavailable      the archive could not be read or written                  503
    │   └── ArchiveDamaged      what is in the archive is not as it was written           503
    ├── VersionMoved            the conditional commit lost the race (never leaves the service)
    ├── DeadlineExceeded        the answer could not be made in time                      503
    ├── Draining                the service is shutting down                              503
    └── SettingInvalid          a setting is wrong; names it                              exit 2

`code` is stable: it ends the problem document's `type`, labels the metric and is what a caller may switch on. The HTTP
status and the exit status are assigned in one table each (`api/problems.py`, `cli/__init__.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from decision_service.core.source import Diagnostic


class DecisionServiceError(Exception):
    """Root of the operating errors."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInput(DecisionServiceError):
    """A field of the caller's input is wrong. `field` is a dotted path such as `geo.lat` or `events.3.amount`."""

    code = "invalid-input"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class MalformedBody(InvalidInput):
    """The body is not JSON of the right shape at all."""

    code = "malformed-body"


class NotFound(DecisionServiceError):
    """The named thing does not exist."""

    code = "not-found"


class Erased(DecisionServiceError):
    """The named decision was made; what of it told of a person was erased. `known` is what is still told: outcome,
    instants, reasons, and the tombstone."""

    code = "erased"

    def __init__(self, message: str, known: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.known = known


class Conflict(DecisionServiceError):
    """What is asked contradicts what is stored."""

    code = "conflict"


class RequestIdReused(DecisionServiceError):
    """The request_id was already used with other content; nothing was changed."""

    code = "idempotency-key-reuse"


class PolicyRejected(DecisionServiceError):
    """A candidate policy does not compile; the active one stays."""

    code = "policy-rejected"

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__("\n".join(d.render() for d in diagnostics))
        self.diagnostics = tuple(diagnostics)


class ScorecardRejected(DecisionServiceError):
    """A model directory that must not be loaded: `path` names the file, the message says why."""

    code = "scorecard-rejected"

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.reason = message


class StoreError(DecisionServiceError):
    """The store failed."""

    code = "store-error"


class StoreUnavailable(StoreError):
    """The store could not be reached or refused the command; nothing was written."""

    code = "store-unavailable"


class OutcomeUnknown(StoreError):
    """A write was sent and its reply never came: it may or may not have happened. Ask again by id."""

    code = "outcome-unknown"


class NotReplicated(OutcomeUnknown):
    """Written, but fewer servers hold it than the profile asks for: a fail-over may forget it. Ask again by id."""

    code = "not-replicated"


class StoreDamaged(StoreError):
    """What is stored under one of a customer's keys is not what this service writes. Nothing was written, and nothing
    can be until an operator mends that customer; others are not concerned. Asking again does not help."""

    code = "store-damaged"


class StoreUnsafe(StoreError):
    """The store is configured so that it could lose or evict what it acknowledged, or it has lost its history: who is
    unknown to it is not known to be new."""

    code = "store-unsafe"


class JournalUnavailable(DecisionServiceError):
    """The journal of this host could not be read or written; nothing was told that is not written."""

    code = "journal-unavailable"


class ArchiveUnavailable(DecisionServiceError):
    """The archive could not be read or written. Nothing of it was changed."""

    code = "archive-unavailable"


class ArchiveDamaged(ArchiveUnavailable):
    """A file of the archive is not as this service writes it."""

    code = "archive-damaged"


class VersionMoved(DecisionServiceError):
    """The customer's log changed between read and commit; nothing was written."""

    code = "version-moved"


class DeadlineExceeded(DecisionServiceError):
    """The answer could not be made in time."""

    code = "deadline-exceeded"


class Draining(DecisionServiceError):
    """The service is shutting down and takes no new work."""

    code = "draining"


class SettingInvalid(DecisionServiceError):
    """A setting is missing or wrong; `name` is its environment name."""

    code = "setting-invalid"

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
