"""What a process that holds customers' data sees to at its start, so that nothing of them lies about afterwards.

    no core dump      the soft limit of core files is 0: memory holds customers, keys and the store's password
    private files     what it creates (journal, embedded store, counters) only its own user reads: umask 077
    silent crashes    what nobody caught, in any thread, is told by type and place, never with its message or locals

Child processes, the embedded store among them, inherit the first two.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
import threading
from types import TracebackType
from typing import Final

from decision_service.telemetry.logs import places_of

LOG: Final = logging.getLogger("decision_service.server")
PRIVATE_UMASK: Final = 0o077


def guard_process() -> None:
    """Do all of it."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    os.umask(PRIVATE_UMASK)
    sys.excepthook = _tell_uncaught
    threading.excepthook = _tell_of_thread
    sys.unraisablehook = _tell_unraisable


def _tell_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print(f"decision-service: not caught: {places_of(error)}", file=sys.stderr)  # the log's thread may have ended


def _tell_of_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        LOG.critical("not caught in a thread: %s", places_of(args.exc_value))


def _tell_unraisable(args: sys.UnraisableHookArgs) -> None:
    if args.exc_value is not None:
        LOG.error("could not be raised: %s", places_of(args.exc_value))
