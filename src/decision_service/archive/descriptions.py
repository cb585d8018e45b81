"""Descriptions of policies in the archive: what a trace is rendered with once the store that had them is gone.

    <root>/descriptions/<policy id>.json      as the store keeps it (`Policy.describe`), or {"same_as": <policy id>} of
                                              a policy that differs in its lists alone

A policy can be made again from its sources (`policies.py`), which takes seconds and a process; a description is read in
a millisecond, so that a decision of ten years ago is explained like one of today.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import orjson

from decision_service.policies.in_force import SAME_AS

if TYPE_CHECKING:
    from decision_service.archive.files import Archive
    from decision_service.store import Store

FOLDER: Final = "descriptions"
STORE_TIMEOUT_S: Final = 10.0


def description_in(archive: Archive, policy_id: str) -> dict[str, Any] | None:
    """What a policy was, or None if the archive does not know. ArchiveUnavailable."""
    described = _read(archive, policy_id)
    if described is not None and SAME_AS in described:
        of_other = _read(archive, described[SAME_AS])
        return None if of_other is None else {**of_other, "id": policy_id}
    return described


class DescriptionKeeper:
    """Brings descriptions from a store into an archive. What is there already is not looked at twice."""

    def __init__(self, store: Store, archive: Archive) -> None:
        self._store = store
        self._archive = archive
        self._there: set[str] = set()

    async def keep(self, policy_ids: Iterable[str]) -> None:
        """Keep what the store knows of these policies, and of those that they are the same as. StoreError,
        ArchiveUnavailable."""
        for policy_id in dict.fromkeys(policy_ids):
            if not policy_id or policy_id in self._there:
                continue
            document = await self._store.read_policy(policy_id, STORE_TIMEOUT_S)
            if document is None:
                continue
            if (other := orjson.loads(document).get(SAME_AS)) is not None:
                await self.keep([other])
            await asyncio.to_thread(self._archive.write, _path(policy_id), document)
            self._there.add(policy_id)


def _read(archive: Archive, policy_id: str) -> dict[str, Any] | None:
    try:
        described: dict[str, Any] = orjson.loads(archive.read_bytes(_path(policy_id)))
    except FileNotFoundError:
        return None
    return described


def _path(policy_id: str) -> str:
    if not policy_id.isalnum():
        raise ValueError(f"{policy_id!r} is no policy id")
    return f"{FOLDER}/{policy_id}.json"
