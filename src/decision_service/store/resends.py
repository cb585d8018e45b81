"""How much may be sent again: one budget a process, so that a server that comes back is not buried.

A command is only ever sent again if the server said that nothing ran (NOSCRIPT, MOVED, ASK, TRYAGAIN). Every command
earns RESENDS_SHARE of a resend, and RESENDS_KEPT_MAX may be saved up: enough for all that is on its way when a server
forgets its scripts. Whoever finds the budget spent is told StoreUnavailable.
"""

from __future__ import annotations

from typing import Final

from decision_service.core.errors import StoreUnavailable
from decision_service.store.noticed import Nobody, Noticed

RESENDS_SHARE: Final = 0.1
RESENDS_KEPT_MAX: Final = 1_024.0  # as many as a worker has in flight


class Resends:
    """The budget. `earned` grows by RESENDS_SHARE with every command; what is above the bound is cut when it counts."""

    __slots__ = ("_noticed", "earned")

    def __init__(self, noticed: Noticed | None = None) -> None:
        self.earned = RESENDS_KEPT_MAX
        self._noticed = noticed or Nobody()

    def take(self) -> None:
        """Spend one. StoreUnavailable if none is left."""
        left = min(self.earned, RESENDS_KEPT_MAX)
        granted = left >= 1.0
        self._noticed.store_resend(granted)
        if not granted:
            raise StoreUnavailable("too much is sent to the store again already")
        self.earned = left - 1.0
