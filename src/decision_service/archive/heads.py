"""The store's heads, as a verification believes them: how far each place is archived, with the hash of its last row.

Read before files are listed, an archive that is written meanwhile is only ever ahead of them. A head whose segment
waits in `staging/` (its consumer was killed, or is about to publish it) is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from decision_service.archive.checkpoints import Link
from decision_service.archive.defects import Defect
from decision_service.archive.files import Archive
from decision_service.archive.segments import staged_path
from decision_service.store import Store
from decision_service.store.outbox import ACCESS, LISTS, POLICY

if TYPE_CHECKING:
    from decision_service.archive.verify import Verification

TIMEOUT_S: Final = 10.0
AT_ONCE: Final = 64


async def read_heads(store: Store, archive: Archive, partitions: int) -> dict[int, Link]:
    """The heads of all places of which something is archived. StoreUnavailable, ArchiveUnavailable."""
    places = [*range(partitions), POLICY, LISTS, ACCESS]
    heads: dict[int, Link] = {}
    for start in range(0, len(places), AT_ONCE):
        some = places[start : start + AT_ONCE]
        told = await asyncio.gather(*(store.archive_head(place, TIMEOUT_S) for place in some))
        for place, head in zip(some, told, strict=True):
            if not head.position:
                continue
            waits: bool = await asyncio.to_thread(archive.exists, staged_path(head.path)) if head.path else False
            if not waits:
                heads[place] = Link(head.position, head.hash)
    return heads


def beyond(told: Verification, heads: Mapping[int, Link]) -> Iterator[Defect]:
    """Rows that heads, read after the walk, do not know of."""
    for place in told.places:
        head = heads.get(place.place)
        if head is not None and place.end.position > head.position:
            what = "the store's head does not know these rows: somebody added them, or the store was set back"
            yield Defect("tail", what, "", place.place, head.position + 1, place.end.position)
