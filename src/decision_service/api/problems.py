"""From errors to problem documents (RFC 9457): the one table, and how a problem is written.

    {"type": "urn:decision-service:problem:invalid-input", "title": "Invalid input", "status": 422,
     "detail": "must be greater than zero", "field": "amount"}

`type` ends in the error's stable `code`. `field` is a dotted path, there only where a field is to blame. A
server error's `detail` is the table's fixed sentence: what went wrong inside is in the log, not in the
answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from decision_service.api import refusals
from decision_service.core import errors

PROBLEM_TYPE: Final = "urn:decision-service:problem:"
CONTENT_TYPE: Final = b"application/problem+json"
RETRY_AFTER_S: Final = 1
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Rule:
    """Status and title of an error; `detail` replaces the error's own message where that must not leave."""

    status: int
    title: str
    detail: str = ""


TABLE: Final[dict[type[errors.DecisionServiceError], Rule]] = {
    errors.DecisionServiceError: Rule(500, "Internal error", "An internal error; it was logged."),
    errors.InvalidInput: Rule(422, "Invalid input"),
    errors.MalformedBody: Rule(400, "Malformed body"),
    errors.NotFound: Rule(404, "Not found"),
    errors.Erased: Rule(410, "Erased"),
    errors.Conflict: Rule(409, "Conflict"),
    errors.RequestIdReused: Rule(422, "Idempotency key reused"),
    errors.PolicyRejected: Rule(422, "Policy rejected"),
    errors.ScorecardRejected: Rule(422, "Scorecard rejected"),
    errors.StoreError: Rule(503, "Store error", "The store failed; ask again with the same ids."),
    errors.StoreUnavailable: Rule(503, "Store unavailable", "The store was not reached; nothing was written."),
    errors.OutcomeUnknown: Rule(
        503, "Outcome unknown", "It is not known whether this was recorded; ask again with the same ids."
    ),
    errors.NotReplicated: Rule(
        503, "Not replicated", "It is written on too few servers to count as recorded; ask again with the same ids."
    ),
    errors.StoreDamaged: Rule(503, "Store damaged", "What is stored of this customer cannot be read; it was logged."),
    errors.StoreUnsafe: Rule(503, "Store unsafe", "The store could lose, or has lost, what it acknowledged."),
    errors.JournalUnavailable: Rule(
        503, "Journal unavailable", "The store was not reached and the journal failed; ask again with the same ids."
    ),
    errors.ArchiveUnavailable: Rule(503, "Archive unavailable", "The archive of decisions was not reached; ask again."),
    errors.ArchiveDamaged: Rule(503, "Archive damaged", "What is archived of this cannot be read; it was logged."),
    errors.VersionMoved: Rule(503, "Contended", "The customer was changed at the same time; ask again."),
    errors.DeadlineExceeded: Rule(503, "Deadline exceeded"),
    errors.Draining: Rule(503, "Draining"),
    errors.SettingInvalid: Rule(500, "Internal error", "A setting is wrong; it was logged."),
    refusals.Unauthenticated: Rule(401, "Unauthenticated"),
    refusals.Forbidden: Rule(403, "Forbidden"),
    refusals.RouteUnknown: Rule(404, "No such path"),
    refusals.MethodNotAllowed: Rule(405, "Method not allowed"),
    refusals.BodyTimeout: Rule(408, "Body timed out"),
    refusals.BodyTooLarge: Rule(413, "Body too large"),
    refusals.MediaUnsupported: Rule(415, "Unsupported media type"),
    refusals.RateLimited: Rule(429, "Rate limited"),
    refusals.HeadersTooLarge: Rule(431, "Headers too large"),
    refusals.TooBusy: Rule(503, "Too busy"),
    refusals.NotReady: Rule(503, "Not ready"),
}


def rule_of(error: errors.DecisionServiceError) -> Rule:
    """The table's line for an error: its own class's, else its nearest ancestor's."""
    return next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)


def problem_of(error: errors.DecisionServiceError) -> tuple[int, bytes, Headers]:
    """Status, document and headers that answer an error."""
    rule = rule_of(error)
    document: dict[str, Any] = {
        "type": PROBLEM_TYPE + error.code,
        "title": rule.title,
        "status": rule.status,
        "detail": rule.detail or error.message,
    }
    if isinstance(error, errors.InvalidInput):
        document["field"] = error.field
    if isinstance(error, errors.PolicyRejected):
        document["diagnostics"] = [diagnostic.as_json() for diagnostic in error.diagnostics]
    if isinstance(error, errors.Erased):
        document["known"] = dict(error.known)
    if isinstance(error, refusals.NotReady):
        document["problems"] = list(error.problems)
    return rule.status, orjson.dumps(document), _headers(error, rule.status)


def internal_problem() -> tuple[int, bytes, Headers]:
    """The answer to a programmer's error."""
    return problem_of(errors.DecisionServiceError("internal"))


def _headers(error: errors.DecisionServiceError, status: int) -> Headers:
    headers = [(b"content-type", CONTENT_TYPE)]
    match error:
        case refusals.Unauthenticated():
            headers.append((b"www-authenticate", b'Bearer realm="decision-service"'))
        case refusals.MethodNotAllowed():
            headers.append((b"allow", ", ".join(error.allowed).encode()))
        case refusals.RateLimited() | refusals.TooBusy():
            headers.append((b"retry-after", str(error.retry_after_s).encode()))
        case refusals.BodyTooLarge() | refusals.BodyTimeout():
            headers.append((b"connection", b"close"))
        case _ if status == 503:
            headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    return headers
