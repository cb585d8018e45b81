"""Errors of the HTTP layer itself; they join the tree of `core/errors.py` and are mapped in the same table.

DecisionServiceError
├── Unauthenticated        no, or no valid, credentials                       401
├── Forbidden              not with these credentials, or not from there      403
├── RouteUnknown           nothing lives under this path                      404
├── MethodNotAllowed       something does, but not for this method            405
├── BodyTimeout            the body did not arrive in time                    408
├── BodyTooLarge           the body is over its cap                           413
├── MediaUnsupported       not JSON in UTF-8 without a content encoding       415
├── RateLimited            this principal sends too many requests             429
├── HeadersTooLarge        request line and headers are over their cap        431
├── TooBusy                this worker cannot answer any more in time         503
└── NotReady               the service must not be used now                   503
"""

from __future__ import annotations

from collections.abc import Sequence

from decision_service.core.errors import DecisionServiceError


class Unauthenticated(DecisionServiceError):
    """No credentials, or none that hold."""

    code = "unauthenticated"


class Forbidden(DecisionServiceError):
    """Known, but not allowed this."""

    code = "forbidden"


class RouteUnknown(DecisionServiceError):
    """Nothing lives under this path."""

    code = "route-unknown"


class MethodNotAllowed(DecisionServiceError):
    """`allowed` are the methods that the path has."""

    code = "method-not-allowed"

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(f"this path answers {', '.join(allowed)}")
        self.allowed = tuple(allowed)


class BodyTimeout(DecisionServiceError):
    """The body did not arrive in time."""

    code = "body-timeout"


class BodyTooLarge(DecisionServiceError):
    """The body is over its cap; it was not read to the end."""

    code = "body-too-large"

    def __init__(self, cap_bytes: int) -> None:
        super().__init__(f"the body must be at most {cap_bytes} bytes")


class MediaUnsupported(DecisionServiceError):
    """Not `application/json` in UTF-8, or with a content encoding."""

    code = "media-unsupported"


class RateLimited(DecisionServiceError):
    """Too many requests of one principal; `retry_after_s` says when the next will be let in."""

    code = "rate-limited"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many requests: try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class HeadersTooLarge(DecisionServiceError):
    """The request line and headers are over their cap."""

    code = "headers-too-large"


class TooBusy(DecisionServiceError):
    """This worker has as much under way as it can answer in time; `retry_after_s` says when to come back."""

    code = "too-busy"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(DecisionServiceError):
    """Why the service must not be used now, one sentence each."""

    code = "not-ready"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class ClientGone(Exception):
    """The caller hung up before its body was complete: there is nobody to answer."""
