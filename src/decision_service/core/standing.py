"""What a customer's log says about earlier changes: what the guardrails of a rule set look back on.

    limit_change   `value` is the change in major units, `amount` the limit after it
    rate_change
    other          with category `warning_tier`: `value` is the rank of the tier, 0 none, 1 blue ... 4 red; it is the
                   customer's, whatever facility the record names

Changes name their facility; one that names none may have been of any and counts for each.

A change stands if it is booked, or approved (asked for by this service) and not told since. Core banking tells it with
a record of the same amount and value: booked, then that one stands in its place; of another status, then none does. So
a change that both of us recorded counts once.

A limit change above 0 is a raise, at or below 0 a cut (0 is a freeze); one whose value is unknown may have been either
and counts as both. As in the ledger the whole log counts, also records dated after the decision instant: dating a
request back must not win a second raise. The tier alone is the one in force at the instant.

What retention trimmed may have held any of these. So an instant of "the last raise" is the latest at which there may
have been one, and what was raised in a year that reaches into what was trimmed is unknown.

Reading costs a scan of the log and nothing is kept: `merge` asks only when something bounded was asked for.
Money in minor units, instants in ms UTC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from decision_service.core.event import APPROVED, BOOKED, KINDS, LIMIT_CHANGE, Words, code_key, facility_key
from decision_service.core.facility import Facility
from decision_service.core.limits import AMOUNT_MINOR_MAX, DAY_MS
from decision_service.core.money import SCALES

TIER_CATEGORY: Final = "warning_tier"
TIER_RANK_MAX: Final = 4
YEAR_MS: Final = 365 * DAY_MS
_RATE_CHANGE: Final = KINDS["rate_change"]
_OTHER: Final = KINDS["other"]
_TIER_CODE: Final = code_key(TIER_CATEGORY)
_AT, _AMOUNT, _VALUE, _SORT, _FACILITY = 0, 2, 3, 4, 6  # words of a record, see `core.event`
_KIND: Final = 8 * _SORT  # byte of a record
_TRIMMED_THROUGH: Final = 2  # word of the header


class LimitHistory(NamedTuple):
    """The limit changes of one facility. Without any, instants are far in the past and the limit is today's."""

    last_raise_ms: int
    last_cut_ms: int
    raised_minor: int | None  # by the raises of the last 365 days together; None if that cannot be known
    limit_before_minor: int  # before the first of them


class TierInForce(NamedTuple):
    """The warning tier in force and when it was last asserted."""

    rank: int = 0
    asserted_ms: int = 0


class Standing(NamedTuple):
    """What one log says about one facility at one instant. Every method reads the log."""

    words: Words
    facility: Facility
    t_ms: int
    other_lines: Iterable[Facility] = ()  # of the same customer; the facility itself may be among them

    def limit_history(self) -> LimitHistory:
        """What the guardrails of a raise look back on."""
        rows = _standing(self._changes(LIMIT_CHANGE))
        deltas = rows.view(np.float64)[:, _VALUE]
        at = rows[:, _AT]
        raised = ~(deltas <= 0)
        recent = raised & (at > self.t_ms - YEAR_MS)
        return LimitHistory(
            self._latest(at[raised]),
            self._latest(at[~(deltas > 0)]),
            *self._raised(rows[recent]),
        )

    def last_price_change_ms(self) -> int:
        """The latest instant at which the price of this facility may have been changed."""
        if not self._has(_RATE_CHANGE):  # as in nearly every log
            return int(self.words[0, _TRIMMED_THROUGH])
        return self._latest(_standing(self._changes(_RATE_CHANGE))[:, _AT])

    def tier(self) -> TierInForce:
        """The newest tier recorded that is not dated after the instant; a value that is no rank is no tier."""
        records = self.words[1:]
        sort = records[:, _SORT]
        rank = records.view(np.float64)[:, _VALUE]
        asserts = (sort & 0xFF == _OTHER) & (sort >> 32 & 0xFFFFFFFF == _TIER_CODE) & _happened(sort)
        asserts &= (records[:, _AT] <= self.t_ms) & (rank >= 0) & (rank <= TIER_RANK_MAX) & (rank == np.floor(rank))
        found = np.flatnonzero(asserts)
        if not len(found):
            return TierInForce()
        newest = found[len(found) - 1 - int(records[found[::-1], _AT].argmax())]  # of equal instants the last recorded
        return TierInForce(int(rank[newest]), int(records[newest, _AT]))

    def customer_limit_minor(self) -> int:
        """The limits of all open lines of this customer in this facility's currency together."""
        own = self.facility
        return own.limit_minor + sum(
            line.limit_minor
            for line in self.other_lines
            if line.facility_id != own.facility_id and line.currency == own.currency and line.status != "closed"
        )

    def _has(self, kind: int) -> bool:
        """Whether there is any record of a kind."""
        return kind in self.words.view(np.uint8)[1:, _KIND].tobytes()

    def _changes(self, kind: int) -> Words:
        """The records of a kind on this facility, and what happened on none that is named, in recorded order."""
        records = self.words[1:]
        sort, named = records[:, _SORT], records[:, _FACILITY] & 0xFFFFFFFF
        here = (named == facility_key(self.facility.facility_id)) | ((named == 0) & _happened(sort))
        ours: Words = records[(sort & 0xFF == kind) & here]
        return ours

    def _latest(self, instants: Words) -> int:
        """The latest of these instants and of everything trimmed."""
        return max(int(self.words[0, _TRIMMED_THROUGH]), int(instants.max(initial=np.iinfo(np.int64).min)))

    def _raised(self, rows: Words) -> tuple[int | None, int]:
        """What these raises come to, and the limit before the first of them."""
        limit = self.facility.limit_minor
        deltas = rows.view(np.float64)[:, _VALUE]
        scaled = deltas * SCALES[self.facility.currency]
        if self.words[0, _TRIMMED_THROUGH] > self.t_ms - YEAR_MS or not (scaled <= AMOUNT_MINOR_MAX).all():
            return None, limit
        if not len(rows):
            return 0, limit
        steps = np.rint(scaled).astype(np.int64)
        raised, first = int(steps.sum()), int(rows[:, _AT].argmin())
        after = int(rows[first, _AMOUNT])
        if after == 0:  # not told: no more than today's limit without all raises since
            return raised, max(0, limit - raised)
        return raised, max(0, after - int(steps[first]))


def _happened(sort: Words) -> npt.NDArray[np.bool_]:
    status = sort >> 8 & 0xFF
    happened: npt.NDArray[np.bool_] = (status == BOOKED) | (status == APPROVED)
    return happened


def _standing(rows: Words) -> Words:
    """Those of these changes that stand, in recorded order."""
    told: Counter[tuple[int, int]] = Counter()
    kept = []
    for position in range(len(rows) - 1, -1, -1):
        row = rows[position]
        what, approved = (int(row[_AMOUNT]), int(row[_VALUE])), int(row[_SORT]) >> 8 & 0xFF == APPROVED
        if not approved:
            told[what] += 1
        elif told[what]:
            told[what] -= 1
            continue
        kept.append(position)
    stands = rows[kept[::-1]]
    return stands[_happened(stands[:, _SORT])]
