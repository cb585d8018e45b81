"""Waiting decisions: those of the outbox that no archive has yet, as the rows that they will be.

Told for a search, so that it sees what was decided a moment ago. At most WAITING_MAX entries are read: while the
archive is further behind, a search covers what is archived and says through which instant that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from decision_service.archive.rows import FIRED, RulesFired, read_entry, row_of
from decision_service.archive.schema import Row
from decision_service.core.errors import NotFound, StoreError

if TYPE_CHECKING:
    from decision_service.store import Store

WAITING_MAX: Final = 2_000  # entries: their frames are some 10 MB
_BEFORE: Final = b"%d-18446744073709551615"  # the last id of a millisecond

Describe = Callable[[str], Awaitable[dict[str, Any]]]


class Waiting(NamedTuple):
    """`archived_through_ms`: everything recorded before is archived. `rows` is everything since if `all_told`."""

    rows: Sequence[Row]
    archived_through_ms: int
    all_told: bool


async def waiting_decisions(
    store: Store, places: Sequence[int], now_ms: int, describe: Describe, timeout_s: float
) -> Waiting:
    """The decisions of places that are not archived. StoreError."""
    states = await asyncio.gather(*(store.outbox_state(place, timeout_s) for place in places))
    behind = [(place, state) for place, state in zip(places, states, strict=True) if state.waiting]
    through_ms = min((state.oldest_waiting_ms for _, state in behind), default=now_ms)
    if sum(state.waiting for _, state in behind) > WAITING_MAX:
        return Waiting((), through_ms, all_told=False)
    told = await asyncio.gather(
        *(_of_place(store, place, state.oldest_waiting_ms, describe, timeout_s) for place, state in behind)
    )
    return Waiting([row for rows in told for row in rows], through_ms, all_told=True)


async def _of_place(store: Store, place: int, oldest_ms: int, describe: Describe, timeout_s: float) -> list[Row]:
    read = await store.read_outbox(place, _BEFORE % (oldest_ms - 1), WAITING_MAX, timeout_s)
    entries = [entry for at, fields in read if (entry := read_entry(at, fields)).decision_id]
    frames = await store.read_decisions(place, [entry.decision_id for entry in entries], timeout_s)
    rows = [row_of(place, entry, frame) for entry, frame in zip(entries, frames, strict=True)]
    described = {row.policy_id: await _rules(describe, row.policy_id) for row in rows if row.policy_id}
    return [
        row._replace(rules=described[row.policy_id](row.policy_id, row.scene or "", row.verdicts or b""))
        if row.policy_id
        else row
        for row in rows
    ]


async def _rules(describe: Describe, policy_id: str) -> RulesFired:
    try:
        described = await describe(policy_id)
    except (NotFound, StoreError):
        return lambda _policy, _scene, _verdicts: None
    scenes = described.get("scenes", {})

    def fired(_policy_id: str, scene: str, verdicts: bytes) -> list[str] | None:
        rules = scenes.get(scene, described).get("rules", ())
        if len(rules) != len(verdicts):
            return None if verdicts else []
        return [rule["id"] for rule, verdict in zip(rules, verdicts, strict=True) if verdict in FIRED]

    return fired
