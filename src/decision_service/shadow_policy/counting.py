"""Counting: tallies of what active and shadow policy said of the same decisions, in the store, for the whole fleet.

A series is one pair of policies in one scene: `shadow_policy/<active>/<shadow>/<scene>`, both ids without lists. Of a
day (local, of the instant a decision was made) it counts

    n  agreed  problem                      decisions; both answer the same; the shadow raised or has no such scene
    o:<active>:<shadow>                     outcomes, `o:approve:hold`
    h:<active>:<shadow>                     kinds of hold, `h:-:review`
    d:<term>                                decisions that differ in a term of `record.TERMS`, or in `reasons`
    k:kept  k:in  k:out  k:held             paid out by both; by the shadow only; by the active only; by neither
    m:<currency>:active|shadow|in|out       minor units paid out by each, and by how much the shadow pays more, less
    r:<rule>:both|new|lost                  had its say in both, only in shadow, only in what was answered
    c:<cell>:both|new|lost                  the same of cells of matrices, tables and trees
    g:<rung>                                rungs of the shadow
    e:<active>:<shadow>:<decision id>       an example that disagrees: a few for each pair of outcomes

Increments are given to the store at most once, as those of scorecards are (`watch/counting.py`): a crash loses what
came since the last flush, and nothing is counted twice. Records beside the decisions are complete but for what was
dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from typing import Final, NamedTuple

from decision_service.core.errors import OutcomeUnknown, StoreError
from decision_service.core.limits import DAY_MS
from decision_service.core.request import DRAWDOWN_SCENE
from decision_service.core.zone import Zone
from decision_service.shadow_policy.record import Compared, Side, changes
from decision_service.store import Store

LOG = logging.getLogger("decision_service.shadow")
FLUSH_S: Final = 5.0
STORE_TIMEOUT_S: Final = 2.0
DAYS_KEPT: Final = 400
EXAMPLES_MAX: Final = 16  # of a pair of outcomes, scene, day and process
_KIND: Final = "shadow_policy"
_PARTS: Final = 4


class Pair(NamedTuple):
    """Whose decisions are counted together. None of the parts can hold a slash."""

    active: str
    shadow: str
    scene: str

    @property
    def series(self) -> str:
        """As the store knows it."""
        return "/".join((_KIND, *self))


def pair_named(series: str) -> Pair | None:
    """The pair that a series is of, None if it is of something else."""
    kind, *parts = series.split("/")
    return Pair(*parts) if kind == _KIND and len(parts) == _PARTS - 1 else None


_Key = tuple[Pair, int]  # and the local day


class Counting:
    """One process's counts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: dict[_Key, Counter[str]] = {}
        self._examples: dict[_Key, Counter[str]] = {}

    def count(self, one: Compared, pair: Pair, zone: Zone) -> None:
        """Count one decision by both policies."""
        key = pair, (one.at_ms + zone.offset_at(one.at_ms)) // DAY_MS
        counts = self._counts.setdefault(key, Counter())
        counts["n"] += 1
        if one.shadow is None:
            counts["problem"] += 1
            return
        counts["agreed"] += one.agrees
        counts[f"g:{one.rung}"] += 1
        _count_terms(counts, one, one.shadow)
        _count_exposure(counts, one.scene, one.active, one.shadow)
        for sort, before, after in (
            ("r", one.active.rules, one.shadow.rules), ("c", one.active.cells, one.shadow.cells),
        ):  # fmt: skip
            for name, change in changes(before, after):
                counts[f"{sort}:{name}:{change}"] += 1
        if not one.agrees:
            self._keep_example(key, counts, one, one.shadow)

    def _keep_example(self, key: _Key, counts: Counter[str], one: Compared, shadow: Side) -> None:
        outcomes = f"{one.active.outcome}:{shadow.outcome}"
        if key not in self._examples:
            self._examples = {known: of for known, of in self._examples.items() if known[1] >= key[1]}  # of this day on
        kept = self._examples.setdefault(key, Counter())
        if kept[outcomes] < EXAMPLES_MAX:
            kept[outcomes] += 1
            counts[f"e:{outcomes}:{one.decision_id}"] += 1

    async def flush(self) -> None:
        """Give the store all that is counted. StoreError if it refuses; then what it did not take is still there."""
        while self._counts:
            key = next(iter(self._counts))
            counts = self._counts.pop(key)
            pair, day = key
            increments = {name.encode(): count for name, count in counts.items() if count}
            try:
                await self._store.add_tally(pair.series, day, increments, DAYS_KEPT, STORE_TIMEOUT_S)
            except OutcomeUnknown:
                LOG.warning("the counts of %d decisions in shadow may be lost: no answer", counts["n"])
                raise
            except StoreError:
                self._counts.setdefault(key, Counter()).update(counts)
                raise

    async def work(self) -> None:
        """Flush until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            with suppress(StoreError):
                await self.flush()


def _count_terms(counts: Counter[str], one: Compared, shadow: Side) -> None:
    active = one.active
    counts[f"o:{active.outcome}:{shadow.outcome}"] += 1
    if active.hold or shadow.hold:
        counts[f"h:{active.hold or '-'}:{shadow.hold or '-'}"] += 1
    for term in one.differs:
        counts[f"d:{term}"] += 1


def _count_exposure(counts: Counter[str], scene: str, active: Side, shadow: Side) -> None:
    """What is paid out; a review pays nothing, and is kept or held by whether it is held."""
    if scene != DRAWDOWN_SCENE:
        paid = active.outcome != "hold", shadow.outcome != "hold"
    else:
        paid = active.approved_minor > 0, shadow.approved_minor > 0
        money = f"m:{active.currency}:"
        counts[f"{money}active"] += active.approved_minor
        counts[f"{money}shadow"] += shadow.approved_minor
        more = shadow.approved_minor - active.approved_minor
        counts[f"{money}in"] += max(more, 0)
        counts[f"{money}out"] += max(-more, 0)
    counts["k:" + {(True, True): "kept", (False, True): "in", (True, False): "out", (False, False): "held"}[paid]] += 1
