"""Gauges: what `/metrics` says of the scorecards in force.

    store: tallies of the last `days` ──┐
    store: last run of `models watch` ──┴──every REFRESH_S──▶ Reading in memory ──▶ /metrics

A reading is of the whole fleet, so the worker that happens to answer `/metrics` tells its own and nothing is added up
over workers. A refresh reads the tallies of today and yesterday; those of earlier days cannot change any more and are
kept. Only drawdowns are told. Labels are bounded: the scorecards of the policy in force, at most SERIES_MAX of them,
and of each at most FEATURES_MAX features, the first in the manifest's order.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from prometheus_client.core import GaugeMetricFamily

from decision_service.core.errors import StoreError
from decision_service.core.limits import DAY_MS
from decision_service.core.policy import Policy
from decision_service.core.request import DRAWDOWN_SCENE
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.store import Store
from decision_service.telemetry import Meters
from decision_service.watch.card_drift import CardDrift, InputDrift, card_drift
from decision_service.watch.said import CHALLENGER, CHAMPION, SHADOW
from decision_service.watch.series import Series, series_of
from decision_service.watch.tally import Bins, Tally, sum_of, tally_of

LOG = logging.getLogger("decision_service.watch")
REFRESH_S: Final = 30.0
FIRST_REFRESH_S: Final = 1.0
STORE_TIMEOUT_S: Final = 5.0
SERIES_MAX: Final = 16
FEATURES_MAX: Final = 200  # of a scorecard
PREFIX: Final = "decision_service_scorecard_"
_CARD: Final = ("scorecard", "version", "role")
_FEATURE: Final = (*_CARD, "feature")

_DRIFT: Final[Mapping[str, tuple[str, Callable[[InputDrift], float]]]] = {
    "psi": ("PSI of the points of the last days against training", lambda one: one.drift.psi),
    "psi_critical": ("PSI that chance passes once in a hundred times when nothing moved", lambda o: o.drift.critical),
    "null_rate": ("Share of decisions without a score", lambda one: one.null_rate),
    "null_rate_shift": ("Share of decisions without a score, less that of training", lambda one: one.null_shift),
}
_FEATURES: Final[Mapping[str, tuple[str, Callable[[InputDrift], float]]]] = {
    "feature_psi": ("PSI of a feature of the last days against training", lambda one: one.drift.psi),
    "feature_psi_critical": ("PSI of a feature that chance passes once in a hundred times", lambda o: o.drift.critical),
    "feature_null_rate": ("Share of decisions in which a feature was null", lambda one: one.null_rate),
    "feature_null_rate_shift": ("Null rate of a feature, less that of training", lambda one: one.null_shift),
}
_WATCHED: Final = {
    "ks": "KS of matured decisions, as the last published `models watch` found it",
    "auc": "AUC of matured decisions, as the last published `models watch` found it",
    "calibration_error": "Expected calibration error of matured decisions, of the last published `models watch`",
    "bad_rate": "Share of matured decisions that went bad, of the last published `models watch`",
    "outcomes": "Matured decisions whose outcome the last published `models watch` knew",
    "watched_timestamp_seconds": "When `models watch` was last published, seconds since 1970",
}


@dataclass(frozen=True, slots=True)
class Watched:
    """One scorecard of the policy in force over the last days."""

    series: Series
    drift: CardDrift
    approved: int

    @property
    def labels(self) -> tuple[str, str, str]:
        """Its values of the labels `scorecard`, `version` and `role`."""
        return self.series.scorecard, self.series.version, self.series.role


@dataclass(frozen=True, slots=True)
class Reading:
    """What is told until the next refresh."""

    watched: tuple[Watched, ...] = ()
    summaries: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)  # by scorecard and version


class ScorecardGauges:
    """One worker's view of the fleet's scorecards. `start` and `close` it with the worker."""

    def __init__(
        self, store: Store, meters: Meters, policy: Callable[[], Policy | None], now_ms: Callable[[], int], days: int
    ) -> None:
        self._store = store
        self._meters = meters
        self._policy = policy
        self._now_ms = now_ms
        self._days = days
        self._closed: dict[tuple[Series, int], Tally] = {}  # of days that are over
        self._reading = Reading()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to refresh."""
        self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families of the last reading."""
        return families(self._reading, self._days)

    async def refresh(self) -> None:
        """Read the store again. StoreError."""
        policy = self._policy()
        if policy is None:
            return
        now_ms = self._now_ms()
        today = (now_ms + policy.zone.offset_at(now_ms)) // DAY_MS
        cards = dict(list(cards_in_force(policy))[:SERIES_MAX])
        kept = await self._store.tally_days(STORE_TIMEOUT_S)
        watched = []
        for series, card in cards.items():
            days = [day for day in kept.get(series.name, ()) if today - self._days < day <= today]
            watched.append(await self._watched(series, card, days, today))
        self._closed = {key: tally for key, tally in self._closed.items() if key[1] > today - self._days}
        self._reading = Reading(tuple(watched), _summaries(await self._store.read_watches(STORE_TIMEOUT_S), cards))

    async def _watched(self, series: Series, card: Scorecard, days: Sequence[int], today: int) -> Watched:
        bins = Bins(card.manifest)
        tallies = []
        for day in days:
            tally = self._closed.get((series, day))
            if tally is None:
                tally = tally_of(await self._store.read_tally(series.name, day, STORE_TIMEOUT_S), bins.rows)
                if day < today - 1:
                    self._closed[series, day] = tally
                await asyncio.sleep(0)
            tallies.append(tally)
        total = sum_of(tallies, bins.rows)
        return Watched(series, card_drift(total, bins), total.words["a"])

    async def _work(self) -> None:
        await asyncio.sleep(FIRST_REFRESH_S)
        while True:
            try:
                await self.refresh()
            except StoreError as error:
                self._meters.count_store_error(error.code)
            except Exception as error:  # a mistake of ours must not end the refreshing
                LOG.error("scorecard gauges could not be refreshed", exc_info=error)
            await asyncio.sleep(REFRESH_S)


def cards_in_force(policy: Policy) -> Iterable[tuple[Series, Scorecard]]:
    """The scorecards of a policy with their series on drawdowns: champions, then challengers, then shadows."""
    for card in policy.scorecards.values():
        yield series_of(card.manifest, CHAMPION, DRAWDOWN_SCENE), card
    for challenger in policy.challengers.values():
        yield series_of(challenger.scorecard.manifest, CHALLENGER, DRAWDOWN_SCENE), challenger.scorecard
    for shadows in policy.shadows.values():
        for card in shadows:
            yield series_of(card.manifest, SHADOW, DRAWDOWN_SCENE), card


def _summaries(
    kept: Mapping[str, bytes], cards: Mapping[Series, Scorecard]
) -> dict[tuple[str, str], Mapping[str, Any]]:
    wanted = {(series.scorecard, series.version) for series in cards}
    found = {}
    for scorecard, version in wanted:
        document = kept.get(f"{scorecard}/{version}")
        if document is not None:
            found[scorecard, version] = orjson.loads(document)
    return found


def families(reading: Reading, days: int) -> Iterator[GaugeMetricFamily]:
    """A reading as metric families; a figure that does not exist (NaN) is left out."""
    n = _family("decisions", f"Decisions counted in the last {days} days", _CARD)
    approvals = _family("approval_share", f"Share of the drawdowns of the last {days} days paid out", _CARD)
    grades = _family("grade_share", f"Share of the scores of the last {days} days, by grade", (*_CARD, "grade"))
    for one in reading.watched:
        n.add_metric(one.labels, one.drift.n)
        _add(approvals, one.labels, one.approved / one.drift.n if one.drift.n else math.nan)
        scored = sum(one.drift.grades.values())
        for grade, count in one.drift.grades.items():
            _add(grades, (*one.labels, grade), count / scored if scored else math.nan)
    yield from (n, approvals, grades)
    for name, (text, figure) in _DRIFT.items():
        family = _family(name, text, _CARD)
        for one in reading.watched:
            _add(family, one.labels, figure(one.drift.score))
        yield family
    for name, (text, figure) in _FEATURES.items():
        family = _family(name, text, _FEATURE)
        for one in reading.watched:
            for feature in one.drift.features[:FEATURES_MAX]:
                _add(family, (*one.labels, feature.name), figure(feature))
        yield family
    for name, text in _WATCHED.items():
        family = _family(name, text, ("scorecard", "version"))
        for labels, summary in sorted(reading.summaries.items()):
            value = summary.get(name)
            _add(family, labels, math.nan if value is None else value)
        yield family


def _family(name: str, text: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, labels=labels)


def _add(family: GaugeMetricFamily, labels: tuple[str, ...], value: float) -> None:
    if not math.isnan(value):
        family.add_metric(labels, value)
