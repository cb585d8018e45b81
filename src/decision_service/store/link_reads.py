"""Entity logs that were asked for and are on their way.

The caller asks, goes on with reading the customer, and takes what has come, waiting a little for the rest if it likes.
Every read ends by its own time-out besides; what is late, failed or is no log is None, which is not an empty log.
"""

from __future__ import annotations

from asyncio import Future, wait
from collections.abc import Iterator
from typing import Any

from decision_service.core.event import EMPTY_LOG
from decision_service.core.links import LINK_GRAINS, Links, is_entity_log

Read = tuple[int, "Future[Any] | None"]  # index of the grain, and what yields the log: bytes, or None if there is none


class LinkReads:
    """Reads under way. Each must end in `logs` or `drop`."""

    __slots__ = ("_reads",)

    def __init__(self, reads: list[Read]) -> None:
        self._reads = reads

    async def logs(self, wait_s: float | None = None) -> Links:
        """The logs, once all have come, are given up, or `wait_s` have passed (None: however long that takes)."""
        await self._wait(wait_s)
        found: list[bytes | None] = [None] * len(LINK_GRAINS)
        for grain, future in self._reads:
            if future is not None:
                found[grain] = entity_log(future, grain)
        return Links(*found)

    async def _wait(self, wait_s: float | None) -> None:
        waiting = [future for _, future in self._reads if future is not None and not future.done()]
        if waiting:
            try:
                await wait(waiting, timeout=wait_s)
            except BaseException:
                self.drop()
                raise

    def missed(self, links: Links) -> Iterator[str]:
        """The grains that were asked for and are not among the logs."""
        return (LINK_GRAINS[grain] for grain, _ in self._reads if links[grain] is None)

    def drop(self) -> None:
        """Nobody wants them any more."""
        for _, future in self._reads:
            if future is not None:
                future.cancel()


def is_answered(future: Future[Any]) -> bool:
    """Whether the store replied."""
    return future.done() and not future.cancelled() and future.exception() is None


def entity_log(future: Future[Any], grain: int) -> bytes | None:
    """The log that was read; one that is late is given up."""
    if not future.done():
        future.cancel()
    if not is_answered(future):
        return None
    log = future.result()
    if log is None:
        return EMPTY_LOG
    return log if type(log) is bytes and is_entity_log(log, grain) else None
