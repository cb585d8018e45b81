"""What the store notices of itself and tells whoever counts it; `telemetry.Meters` does, tests do, others need not."""

from __future__ import annotations

from typing import Final, Protocol

READS: Final = 0  # the two ways to a server
WRITES: Final = 1


class Noticed(Protocol):
    """Listens. Called on the event loop, and must not wait."""

    def store_breaker(self, server: int, way: int, is_open: bool) -> None:
        """A breaker opened or closed. `server` counts the servers this process has talked to, from 0."""
        ...

    def store_resend(self, granted: bool) -> None:
        """A command of which nothing ran was sent again, or was not, because too many were."""
        ...

    def store_history(self, lost: bool, forgotten_beats: int) -> None:
        """The store was looked at: whether its history is missing, and how much of its tail it forgot."""
        ...


class Nobody:
    """Listens to nothing."""

    def store_breaker(self, server: int, way: int, is_open: bool) -> None:
        """See `Noticed`."""

    def store_resend(self, granted: bool) -> None:
        """See `Noticed`."""

    def store_history(self, lost: bool, forgotten_beats: int) -> None:
        """See `Noticed`."""
