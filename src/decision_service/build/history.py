"""Logs as the service would hold them, rebuilt from a file's events, and the part of one that a question sees.

Events of one owner (a customer or an entity) are in recorded order. After each of them the service may have trimmed the
front of the log (`core.retention.trim`, events arriving one at a time): `trimmed` finds how much, and what the header
then says. A question sees the records between that point and its own place in recorded order; `Logs` copies what a
chunk of questions needs behind headers of their own, so that memory depends on the chunk.

Before that, `cleaned` does to a customer's events what recording does to them: an id counts once, and a settlement
takes facility and amount of the drawdown it settles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from decision_service.core.event import DRAWDOWN, FLAG_SETTLES, RECORD, TRIMMED_NOTHING, header, unpack
from decision_service.core.limits import CLOCK_AHEAD_MAX_MS
from decision_service.core.state import CustomerState
from decision_service.judge import Known, judge

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

Ints = npt.NDArray[np.int64]
Records = npt.NDArray[Any]

USED_TWICE: Final = ("event_id", "already used for an event with other content")
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # odd, so multiplying by it loses nothing
Refused = list[tuple[int, str, str]]  # row, column, reason


@dataclass(frozen=True, slots=True)
class Keeping:
    """How much history a log keeps: the service's settings."""

    retention_ms: int
    events_max: int
    slack: int

    @classmethod
    def of_entities(cls, most: int) -> Keeping:
        """An entity's log keeps its newest records, a quarter more before it is trimmed, and none for its age."""
        return cls(2**61, most + most // 4, most // 4)


def in_order(events: Records) -> Records:
    """Events by owner, in recorded order."""
    return events[np.lexsort((events["row"], events["recorded_at_ms"], events["owner"]))]


def cleaned(events: Records) -> tuple[Records, Refused, int]:
    """A customer partition's events as recording would keep them, in order; who is refused, and how many came twice."""
    events = in_order(events)
    packed = np.ascontiguousarray(events["words"]).view(RECORD)[:, 0]
    refused, kept = _settle(events, packed)
    events["words"] = packed.view(np.int64).reshape(-1, 8)
    twice = _twice(events, kept)
    for i in np.flatnonzero(twice == 2).tolist():
        refused.append((int(events["row"][i]), *USED_TWICE))
    return events[kept & (twice == 0)], refused, int((twice == 1).sum())


def _settle(events: Records, packed: Records) -> tuple[Refused, npt.NDArray[np.bool_]]:
    """Complete every settlement from its drawdown, in place."""
    kept = np.ones(len(events), bool)
    draws = packed["kind"] == DRAWDOWN
    settles = draws & (packed["flags"] & FLAG_SETTLES != 0)
    refused: Refused = []
    if not settles.any():
        return refused, kept
    where, owner = np.flatnonzero(draws & ~settles), events["owner"]
    found = find(owner[where], packed["key"][where], owner[settles], packed["counterparty"][settles])
    found = np.where(found < 0, -1, where[found]) if len(where) else found
    events_of, at = np.flatnonzero(settles), np.maximum(found, 0)
    event, drawdown = packed[settles], packed[at]
    early = event["occurred_at_ms"] < drawdown["occurred_at_ms"] - CLOCK_AHEAD_MAX_MS
    wrong = (found < 0) | (found > events_of) | early
    for name in ("facility", "amount_minor"):
        wrong |= (event[name] != 0) & (event[name] != drawdown[name])
    for i, j in zip(events_of[wrong].tolist(), found[wrong].tolist(), strict=True):
        kept[i] = False
        refused.append((int(events["row"][i]), *_reason(packed[i], None if j < 0 or j > i else packed[j])))
    right = events_of[~wrong]
    for name in ("facility", "amount_minor"):
        packed[name][right] = drawdown[name][~wrong]
    packed["occurred_at_ms"][right] = np.maximum(event["occurred_at_ms"], drawdown["occurred_at_ms"])[~wrong]
    return refused, kept


def _reason(event: Any, drawdown: Any) -> tuple[str, str]:
    """The column and the reason for which recording refuses a settlement."""
    log = header() + (b"" if drawdown is None else drawdown.tobytes())
    outcome, _ = judge(unpack(event.tobytes()), None, Known(CustomerState(log=log)))
    return outcome.field or "", outcome.reason or ""


def find(owner: Records, key: Records, wanted_owner: Records, wanted_key: Records) -> Ints:
    """For every wanted pair the index of that pair, -1 if there is none."""
    if not len(key):
        return np.full(len(wanted_key), -1)
    mixed = owner * _MIX ^ key
    order = np.argsort(mixed, kind="stable")
    at = np.searchsorted(mixed[order], wanted_owner * _MIX ^ wanted_key)
    candidate = order[np.minimum(at, len(key) - 1)]
    same = (owner[candidate] == wanted_owner) & (key[candidate] == wanted_key)
    return np.where(same, candidate, -1)


def known_entities(events: Records, link: str) -> tuple[Ints, Records]:
    """`(index of an event, entity)` of every entry in the logs of one grain: the entity an event names, and the one
    that the drawdown named which a settlement or label of a decision is about."""
    named = np.flatnonzero(events[link])
    about = np.flatnonzero(events["about_decision"])
    if not len(about):
        return named, events[link][named]
    packed = np.ascontiguousarray(events["words"]).view(RECORD)[:, 0]
    draws = np.flatnonzero((packed["kind"] == DRAWDOWN) & (packed["flags"] & FLAG_SETTLES == 0))
    owner = events["owner"]
    found = find(owner[draws], packed["key"][draws], owner[about], packed["counterparty"][about])
    about, drawdown = about[found >= 0], draws[found[found >= 0]]
    entity = events[link][drawdown]
    more = (entity != 0) & (entity != events[link][about]) & (drawdown < about)
    return np.concatenate((named, about[more])), np.concatenate((events[link][named], entity[more]))


def _twice(events: Records, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """0 for the first event of an id, 1 for a later one of the same content, 2 for one of other content."""
    keys = events["words"][:, 1]
    verdict = np.zeros(len(events), np.uint8)
    order = np.lexsort((~kept, keys, events["owner"]))  # a refused event does not use up its id
    owners, ordered = events["owner"][order], keys[order]
    same = np.zeros(len(events), bool)
    same[1:] = (owners[1:] == owners[:-1]) & (ordered[1:] == ordered[:-1]) & kept[order][1:]
    if same.any():
        first = order[np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))]
        later = order[same]
        equal = (events["words"][later] == events["words"][first[same]]).all(axis=1)
        verdict[later] = np.where(equal, 1, 2)
    return verdict


@njit(cache=True)
def trimmed(times, firsts, lasts, retention_ms, events_max, slack, base, through):
    """Fill, for every event, what its log had forgotten once it was appended: the index of the first record kept, and
    the latest instant among those that were not. Owner o has the events `firsts[o]:lasts[o]`; see `core.retention`."""
    for o in range(firsts.shape[0]):
        kept = firsts[o]
        latest = TRIMMED_NOTHING
        for i in range(firsts[o], lasts[o]):
            held = i - kept
            crowded = held + 1 - events_max
            gone = min(held, crowded + slack) if crowded > 0 else 0
            cutoff = times[i] - retention_ms
            if held > 0 and times[kept] < cutoff:
                aged = 1
                while aged < held and times[kept + aged] < cutoff:
                    aged += 1
                if aged >= min(slack, max(1, held // 8)):
                    gone = max(gone, aged)
            for k in range(gone):
                latest = max(latest, times[kept + k])
            kept += gone
            base[i] = kept
            through[i] = latest


@njit(cache=True)
def _too_old(times, firsts, lasts, most, slack, old):
    """Mark events that an entity's log does not take, for they reach back to what it has forgotten by then."""
    for o in range(firsts.shape[0]):
        held = np.empty(lasts[o] - firsts[o], np.int64)
        first, last, through = 0, 0, TRIMMED_NOTHING
        for i in range(firsts[o], lasts[o]):
            if times[i] <= through:
                old[i] = True
                continue
            held[last] = times[i]
            last += 1
            if last - first > most + slack:
                while last - first > most:
                    through = max(through, held[first])
                    first += 1


def taken_by_entities(events: Records, most: int) -> Records:
    """An entity partition's events without those that come too late for what the log has forgotten (`link.lua`)."""
    _, firsts = np.unique(events["owner"], return_index=True)
    lasts = np.append(firsts[1:], len(events)).astype(np.int64)
    old = np.zeros(len(events), bool)
    times = np.ascontiguousarray(events["words"][:, 0])
    _too_old(times, firsts.astype(np.int64), lasts, most, most // 4, old)
    return events[~old] if old.any() else events


@njit(cache=True)
def _ends(recorded, rows, firsts, lasts, bound_ms, before_row, out):
    """For every question the end of what was recorded before it: (recorded_at, row) < (bound_ms, before_row)."""
    for r in range(bound_ms.shape[0]):
        low, high = firsts[r], lasts[r]
        while low < high:
            middle = (low + high) >> 1
            at = recorded[middle]
            if at < bound_ms[r] or (at == bound_ms[r] and rows[middle] < before_row[r]):
                low = middle + 1
            else:
                high = middle
        out[r] = low


@njit(cache=True)
def _copy(words, froms, tos, targets, out):
    for s in range(froms.shape[0]):
        for i in range(tos[s] - froms[s]):
            for k in range(8):
                out[targets[s] + i, k] = words[froms[s] + i, k]


def chunks(begins: Ints, ends: Ints, order: Ints, questions_max: int, records_max: int) -> Iterator[Ints]:
    """Divide questions, ordered by what they see, so that a chunk copies about `records_max` records at most."""
    begins, ends = begins[order], ends[order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = begins[1:] != begins[:-1]
    grown = np.where(fresh, ends - begins + 1, np.diff(ends, prepend=0))
    portion = np.cumsum(np.maximum(grown, 0)) // records_max
    edges = np.flatnonzero(np.diff(portion)) + 1
    for part in np.split(order, edges):
        for at in range(0, len(part), questions_max):
            yield part[at : at + questions_max]


class Logs:
    """The events of one partition, in order, as logs of their owners. `grain` is word 3 of their headers."""

    def __init__(self, events: Records, keeping: Keeping, grain: int = 0) -> None:
        self.owners, firsts = np.unique(events["owner"], return_index=True)
        self._firsts = firsts.astype(np.int64)
        self._lasts = np.append(self._firsts[1:], len(events)).astype(np.int64)
        self._words = np.ascontiguousarray(events["words"])
        self._recorded = np.ascontiguousarray(events["recorded_at_ms"])
        self._rows = np.ascontiguousarray(events["row"])
        self._header = np.frombuffer(header(grain=grain), np.int64)
        self._base, self._through = np.zeros(len(events), np.int64), np.zeros(len(events), np.int64)
        trimmed(
            np.ascontiguousarray(self._words[:, 0]), self._firsts, self._lasts, keeping.retention_ms,
            keeping.events_max, keeping.slack, self._base, self._through,
        )  # fmt: skip

    def range_of(self, owners: npt.NDArray[np.uint64]) -> tuple[Ints, Ints]:
        """First and last event of every owner asked for; equal for one that has none."""
        if not len(self.owners):
            nothing = np.zeros(len(owners), np.int64)
            return nothing, nothing
        at = np.minimum(np.searchsorted(self.owners, owners), len(self.owners) - 1)
        known = self.owners[at] == owners
        return np.where(known, self._firsts[at], 0), np.where(known, self._lasts[at], 0)

    def seen_by(self, owners: npt.NDArray[np.uint64], bound_ms: Ints, before_row: Ints) -> tuple[Ints, Ints]:
        """`(first record, end)` of what every question sees."""
        firsts, lasts = self.range_of(owners)
        ends = np.zeros(len(owners), np.int64)
        _ends(self._recorded, self._rows, firsts, lasts, bound_ms, before_row, ends)
        newest = np.maximum(ends - 1, 0)
        held = ends > firsts
        return np.where(held, self._base[newest], firsts) if len(self._base) else firsts, ends

    def words(self, begins: Ints, ends: Ints) -> tuple[Ints, Ints, Ints]:
        """`(words, starts, ends)` as `FeaturePlan.compute_many` takes them, for questions that see `begins:ends`.

        Questions that begin at one record share a copy; one that sees nothing gets a header and nothing else.
        """
        empty = ends <= begins
        keys = np.where(empty, -1, begins)
        distinct, which = np.unique(keys, return_inverse=True)
        last = np.zeros(len(distinct), np.int64)
        np.maximum.at(last, which, np.where(empty, 0, ends))
        froms = np.maximum(distinct, 0)
        lengths = np.where(distinct < 0, 0, last - froms)
        starts = np.concatenate(([0], np.cumsum(lengths + 1)))[:-1].astype(np.int64)
        words = np.empty((int((lengths + 1).sum()), 8), np.int64)
        words[starts] = self._header
        if len(self._base):
            owner_first = self._firsts[np.searchsorted(self._firsts, froms, side="right") - 1]
            trimmed_away = np.where(distinct < 0, 0, froms - owner_first)
            words[starts, 1] = trimmed_away
            words[starts, 2] = np.where(trimmed_away > 0, self._through[np.maximum(last - 1, 0)], TRIMMED_NOTHING)
            _copy(self._words, froms, froms + lengths, starts + 1, words)
        return words, starts[which], starts[which] + 1 + np.where(empty, 0, ends - begins)
