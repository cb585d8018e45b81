"""What is published to be in shadow: one policy of the fleet, beside the numbered ones that are in force in turn.

It is kept as those are (`policies/bundle.py`): files, and the scorecards by name, version and digest, which every host
must have in its models directory. Publishing again puts another in its place; stopping takes it away.
"""

from __future__ import annotations

from typing import Final

from decision_service.core.errors import NotFound
from decision_service.policies.bundle import BundleHead, Content, decode_head, head_of, unpack
from decision_service.policies.source import Candidate
from decision_service.store import Store

TIMEOUT_S: Final = 2.0


class PublishedShadow:
    """The published shadow policy of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def publish(self, candidate: Candidate, by: str, at_ms: int) -> int:
        """Put a candidate that compiled in shadow on every worker; its number. StoreError."""
        head = head_of(candidate.content, candidate.policy, at_ms, by, "shadow")
        return await self._store.publish_shadow(head.encode(), candidate.content.pack(), TIMEOUT_S)

    async def stop(self) -> bool:
        """Take away what is published; whether anything was. StoreError."""
        return await self._store.stop_shadow(TIMEOUT_S)

    async def content(self, number: int) -> Content:
        """What is published under a number. NotFound if it is no longer, PolicyRejected, StoreError."""
        found = await self._store.read_shadow(TIMEOUT_S)
        if found is None or found[0] != number:
            raise NotFound(f"the shadow policy {number} is published no longer")
        _, head, bundle = found
        return unpack(bundle, decode_head(head).digest, f"published shadow policy {number}")

    async def head(self) -> tuple[int, BundleHead] | None:
        """Number and head of what is published, None if nothing is. StoreError."""
        found = await self._store.read_shadow(TIMEOUT_S)
        return None if found is None else (found[0], decode_head(found[1]))
