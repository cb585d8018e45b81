"""The applications of the starter rule sets, each lived out by a few customers, who come first in the
portfolio.

A pattern has two halves: `prepare` changes who the customer is before the simulation, `finish` adds the last
events before the portfolio's instant `now_ms`, and says the drawdown that completes the pattern. A pattern
made of somebody else's doing is labelled "fraud"; the others keep the label their simulated future gives
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from decision_service.core.event import CHANNELS, KINDS, STATUSES
from decision_service.core.limits import DAY_MS, HOUR_MS, MINUTE_MS
from decision_service.portfolio.event_table import (
    CATEGORIES,
    CATEGORY,
    Rows,
    major,
    payee_id,
    place,
    rfc3339,
    rows,
)
from decision_service.portfolio.population import NEVER, YUAN, Population
from decision_service.portfolio.simulation import UTC_OFFSET_MS

_SHANGHAI: Final = (31_230_000, 121_474_000)
_KUNMING: Final = (25_044_000, 102_710_000)
_GPS_CLASS: Final = 3  # within 20 m


@dataclass(frozen=True, slots=True)
class Ending:
    """What a pattern adds: the last events, and the drawdown that completes it (amounts in fen)."""

    added: Rows
    amount_fen: int
    at_ms: int
    device: int = 1
    lat_e6: int = 0
    lon_e6: int = 0
    channel: str = "app"


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a pattern is played: who, when, and what they still may draw."""

    who: int
    now_ms: int
    limit_fen: int
    available_fen: int
    payee: int
    purpose: int

    def draws(self, before_ms: list[int], amounts_fen: list[int], **columns: Any) -> Rows:
        """Booked draws, each so long before now."""
        where = {"device": 1, "channel": CHANNELS["app"], "payee": self.payee, "category": self.purpose + 1}
        at = [self.now_ms - before for before in before_ms]
        return rows([self.who] * len(at), at, KINDS["drawdown"], **where | {"amount": amounts_fen} | columns)

    def share(self, of_available: float) -> int:
        """A share of what is available, in whole hundreds of yuan, 100 at least."""
        return max(int(self.available_fen * of_available) // (100 * YUAN), 1) * 100 * YUAN


def _calm(people: Population, i: int, days: int) -> None:
    """A customer with room on the line and no trouble."""
    people.risk[i], people.stress_from_day[i], people.spree_from_day[i] = -1.0, NEVER, NEVER
    people.pays_until_day[i], people.shows[i], people.apr_bps[i] = days, 1.0, 1_320
    people.granted_day[i] = days - 300
    people.limit_fen[i] = 50_000 * YUAN
    people.opening_use[i], people.draws_per_day[i], people.ticket[i] = 0.0, 0.08, 0.02
    people.pays_in_full[i], people.product[i], people.purpose[i] = 0.9, 0, 0


def _fresh(people: Population, i: int, days: int) -> None:
    """Granted today, nothing drawn: the grant itself is set to 35 minutes before now."""
    _calm(people, i, days)
    people.granted_day[i] = days
    people.quits_day[i] = 0


def _business(people: Population, i: int, days: int) -> None:
    _calm(people, i, days)
    people.limit_fen[i], people.product[i], people.purpose[i] = 1_000_000 * YUAN, 1, 5
    people.ticket[i] = 0.004


def _short_of_money(people: Population, i: int, days: int) -> None:
    _calm(people, i, days)
    people.risk[i], people.stress_from_day[i], people.stress_until_day[i] = 1.2, days - 70, NEVER
    people.draws_per_day[i], people.ticket[i], people.pays_in_full[i] = 0.25, 0.01, 0.05
    people.limit_fen[i] = 80_000 * YUAN


def _silent(people: Population, i: int, days: int) -> None:
    _calm(people, i, days)
    people.risk[i], people.quits_day[i] = -1.6, days - 130


def _leaving(people: Population, i: int, days: int) -> None:
    _calm(people, i, days)
    people.risk[i], people.quits_day[i], people.draws_per_day[i] = -1.5, days - 45, 0.3
    people.pays_in_full[i] = 1.0


def _risky(people: Population, i: int, days: int) -> None:
    """Paying again since some weeks, after months of trouble, on a line that stays nearly full."""
    _calm(people, i, days)
    people.risk[i], people.stress_from_day[i], people.stress_until_day[i] = 1.2, days - 150, days - 50
    people.draws_per_day[i], people.ticket[i], people.pays_in_full[i] = 0.3, 0.015, 0.0
    people.opening_use[i], people.pays_until_day[i], people.apr_bps[i] = 0.6, days - 95, 1_920


def _prized(people: Population, i: int, days: int) -> None:
    _calm(people, i, days)
    people.risk[i], people.draws_per_day[i], people.ticket[i] = -1.8, 0.25, 0.025
    people.pays_in_full[i], people.granted_day[i] = 0.4, days - 420


def _declining(people: Population, i: int, days: int) -> None:
    _calm(people, i, days)
    people.risk[i], people.stress_from_day[i], people.stress_until_day[i] = 0.8, days - 40, NEVER
    people.draws_per_day[i], people.opening_use[i], people.pays_in_full[i] = 0.2, 0.2, 0.1


def _odd_hours(scene: Scene) -> Ending:
    """Draws at 03:40, 03:52 and 04:05 of the last night, the next at 04:20."""
    midnight = (scene.now_ms + UTC_OFFSET_MS) // DAY_MS * DAY_MS - UTC_OFFSET_MS
    at = midnight + 4 * HOUR_MS + 20 * MINUTE_MS
    at -= DAY_MS if at > scene.now_ms else 0
    ago = scene.now_ms - at
    before = [ago + minutes * MINUTE_MS for minutes in (40, 28, 15)]
    return Ending(scene.draws(before, [scene.share(0.1)] * 3), scene.share(0.4), at)


def _burst(scene: Scene) -> Ending:
    before = [minutes * MINUTE_MS for minutes in (8, 6, 4, 2)]
    amounts = [scene.share(share) for share in (0.02, 0.05, 0.03, 0.06)]
    return Ending(scene.draws(before, amounts), scene.share(0.04), scene.now_ms)


def _full_draw(scene: Scene) -> Ending:
    return Ending(scene.draws([], []), scene.limit_fen * 98 // 100, scene.now_ms, device=2)


def _sensitive(scene: Scene) -> Ending:
    amounts = [99 * YUAN, 199 * YUAN, 499 * YUAN]
    return Ending(scene.draws([50 * MINUTE_MS, 34 * MINUTE_MS, 15 * MINUTE_MS], amounts), 999 * YUAN, scene.now_ms)


def _equal(scene: Scene) -> Ending:
    before = [5 * HOUR_MS, 3 * HOUR_MS, 100 * MINUTE_MS]
    return Ending(scene.draws(before, [2_860 * YUAN] * 3), 2_860 * YUAN, scene.now_ms)


def _splitting(scene: Scene) -> Ending:
    before = [9 * HOUR_MS, 4 * HOUR_MS]
    amounts = [290_000 * YUAN, 285_000 * YUAN]
    return Ending(scene.draws(before, amounts), 295_000 * YUAN, scene.now_ms)


def _travel(scene: Scene) -> Ending:
    at = {"lat_e6": _SHANGHAI[0], "lon_e6": _SHANGHAI[1], "accuracy": _GPS_CLASS}
    return Ending(
        scene.draws([40 * MINUTE_MS], [scene.share(0.05)], **at), scene.share(0.1), scene.now_ms,
        lat_e6=_KUNMING[0], lon_e6=_KUNMING[1],
    )  # fmt: skip


def _takeover(scene: Scene) -> Ending:
    who, now = [scene.who], scene.now_ms
    added = np.concatenate(
        [
            rows(who, [now - 130 * MINUTE_MS], KINDS["login"], STATUSES["failed"], device=9, channel=1),
            rows(who, [now - 128 * MINUTE_MS], KINDS["login"], STATUSES["failed"], device=9, channel=1),
            rows(who, [now - 120 * MINUTE_MS], KINDS["credential_change"], device=9, category=CATEGORY["password"]),
            rows(who, [now - 95 * MINUTE_MS], KINDS["contact_change"], device=9, category=CATEGORY["phone"]),
            rows(who, [now - 20 * MINUTE_MS], KINDS["login"], device=9, channel=1),
        ]
    )
    return Ending(added, scene.share(0.7), now, device=9)


def _ordinary(scene: Scene) -> Ending:
    return Ending(scene.draws([], []), scene.share(0.05), scene.now_ms)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One application: who lives it, how it ends, and whether it is somebody else's doing."""

    prepare: Callable[[Population, int, int], None]
    finish: Callable[[Scene], Ending]
    fraud: bool = False


PATTERNS: Final[Mapping[str, Pattern]] = {
    "ordinary": Pattern(_calm, _ordinary),
    "odd_hours": Pattern(_calm, _odd_hours, fraud=True),
    "burst": Pattern(_calm, _burst, fraud=True),
    "full_draw_after_grant": Pattern(_fresh, _full_draw, fraud=True),
    "sensitive_amounts": Pattern(_calm, _sensitive, fraud=True),
    "equal_amounts": Pattern(_calm, _equal, fraud=True),
    "splitting": Pattern(_business, _splitting, fraud=True),
    "impossible_travel": Pattern(_calm, _travel, fraud=True),
    "takeover": Pattern(_calm, _takeover, fraud=True),
    "strain": Pattern(_short_of_money, _ordinary),
    "silent_good": Pattern(_silent, _ordinary),
    "leaving_good": Pattern(_leaving, _ordinary),
    "risky": Pattern(_risky, _ordinary),
    "prized": Pattern(_prized, _ordinary),
    "declining": Pattern(_declining, _ordinary),
}
GRANTED_BEFORE_MS: Final = 35 * MINUTE_MS  # of `full_draw_after_grant`


def next_draw(ending: Ending, scene: Scene, customer: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    """The drawdown that completes a pattern, as `POST /v1/decisions` takes it, but for its request_id."""
    body = customer(ending.device) | {
        "amount": major(ending.amount_fen), "currency": "CNY", "occurred_at": rfc3339(ending.at_ms),
        "channel": ending.channel, "purpose": CATEGORIES[scene.purpose + 1], "counterparty_id":
        payee_id(scene.payee),
    }  # fmt: skip
    if ending.lat_e6:
        body["geo"] = place(ending.lat_e6, ending.lon_e6, _GPS_CLASS)
    return body
