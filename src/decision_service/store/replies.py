"""What an error reply of the server means for us.

    VERSION                                  VersionMoved: the conditional commit lost, nothing was written
    PLACE                                    VersionMoved: the place of an outbox is another's, nothing was written
    EPOCH                                    StoreUnsafe: history is missing (`epoch.py`), nothing was written
    NOSCRIPT MOVED ASK TRYAGAIN              the caller of this module sends again: nothing ran
    LOADING BUSY MISCONF OOM READONLY ...    StoreUnavailable: refused before anything ran
    WRONGTYPE, TORNLOG                       StoreDamaged: our scripts look before they write
    anything else                            a read: StoreUnavailable; a write: OutcomeUnknown, for an error
                                             we do not know may have come half-way through a script

The store never puts an id or a value into an error's message: messages end up in logs.
"""

from __future__ import annotations

from typing import Any, Final

from decision_service.core.errors import (
    DecisionServiceError,
    OutcomeUnknown,
    StoreDamaged,
    StoreUnavailable,
    StoreUnsafe,
    VersionMoved,
)

# Error codes that the server, or a script of ours, answers only before anything was written.
NOTHING_RAN: Final = frozenset(
    {
        "LOADING", "BUSY", "MISCONF", "OOM", "READONLY", "NOREPLICAS", "CLUSTERDOWN", "MASTERDOWN", "NOAUTH",
        "NOPERM", "WRONGPASS", "CROSSSLOT", "NOSCRIPT", "MOVED", "ASK", "TRYAGAIN",
    }
)  # fmt: skip
DAMAGED: Final = frozenset({"WRONGTYPE", "TORNLOG"})  # so is what a key of ours holds
# The node we talk to is not, or no longer, the one that takes our writes: look for it anew.
ELSEWHERE: Final = frozenset({"READONLY", "CLUSTERDOWN", "MASTERDOWN"})


class ErrorReply(Exception):
    """An error the server replied, passed on as a value; `code` is its first word. The hiredis reader makes
    it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.code = text.partition(" ")[0]


def failure(reply: ErrorReply, *, write: bool) -> DecisionServiceError:
    """The operating error that an error reply means."""
    if reply.code == "VERSION":
        return VersionMoved("the customer's state changed since it was read")
    if reply.code == "PLACE":
        return VersionMoved("another has this place of the outbox, or had it meanwhile")
    if reply.code == "EPOCH":
        return StoreUnsafe("the store lost its history: who is unknown to it need not be new")
    if reply.code in DAMAGED:
        return StoreDamaged("what is stored of this customer is of another type or torn")
    if reply.code in NOTHING_RAN or not write:
        return StoreUnavailable(f"the store refused: {reply.text[:200]}")
    return OutcomeUnknown(f"the store failed while writing: {reply.text[:200]}")


def refuse_errors(reply: Any, *, write: bool) -> Any:
    """The reply, unless it is an error."""
    if isinstance(reply, ErrorReply):
        raise failure(reply, write=write)
    return reply
