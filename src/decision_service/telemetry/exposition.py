"""What `/metrics` answers: the cells of all workers together, in the Prometheus text format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, product
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from decision_service.core.links import LINK_GRAINS
from decision_service.core.request import DRAWDOWN_SCENE, SCENES
from decision_service.telemetry.cells import OTHER_NAME, Totals
from decision_service.telemetry.meters import (
    ACCESS_RESULTS,
    BOUNDS_S,
    CONSUMERS,
    FLAGS,
    JOURNAL_RESULTS,
    LINK_RESULTS,
    OUTCOMES,
    RANKS,
    RUNGS,
    STAGES,
    STATUSES,
    STORE_SERVERS_MAX,
    STORE_WAYS,
    TAKEN,
    Meters,
)

PREFIX = "decision_service_"
CONTENT_TYPE = CONTENT_TYPE_LATEST


def render(meters: Meters) -> bytes:
    """The whole page."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MeterCollector(meters))
    return generate_latest(registry)


_ALONE: Final = {  # groups of one cell each: the family, its name and what it means
    "store_lost": (
        GaugeMetricFamily, "store_history_lost", "Workers of this host to which the store's history is missing",
    ),
    "store_forgotten": (
        CounterMetricFamily, "store_forgotten_seconds", "Seconds that the store forgot in fail-overs, about",
    ),
    "links_waiting": (GaugeMetricFamily, "links_waiting", "Commits whose links are not yet in the entity logs"),
    "link_lag": (
        GaugeMetricFamily, "link_lag_seconds", "Age of the oldest commit whose links are not yet in the entity logs",
    ),
    "afterwards_waiting": (
        GaugeMetricFamily, "afterwards_waiting", "Decisions that wait for a consumer, for each consumer",
    ),
    "rollbacks": (
        CounterMetricFamily, "policy_rollbacks", "Policies that the fleet was led back from because of their scores",
    ),
    "rate_limited": (CounterMetricFamily, "rate_limited", "Requests refused with 429"),
    "loop_lag": (GaugeMetricFamily, "loop_lag_seconds", "How late the event loop of the slowest worker is"),
    "request_cost": (
        GaugeMetricFamily, "request_cost_seconds", "CPU time of one drawdown, of the worker where it is highest",
    ),
    "loop_blocks": (CounterMetricFamily, "loop_blocks", "Times that something held up an event loop"),
    "loop_blocked": (CounterMetricFamily, "loop_blocked_seconds", "For how long altogether"),
    "in_flight": (GaugeMetricFamily, "requests_in_flight", "Requests being worked on"),
    "policy_skew": (GaugeMetricFamily, "policy_skew", "Policies beyond one that the workers of all hosts run"),
    "policy_problems": (
        GaugeMetricFamily, "policy_problems",
        "Workers of this host that cannot take the newest policy, of the disk or of the fleet",
    ),
}  # fmt: skip


class MeterCollector(Collector):
    """Turns cells into metric families; label values that never occurred are left out of the large families."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def describe(self) -> list[Metric]:
        """Nothing ahead of time: the families are read at scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families."""
        totals = self._meters.totals()
        yield self._decisions(totals)
        yield self._rules_wrong(totals)
        yield self._named(totals, "reasons", "Reasons given with decisions", "code")
        yield self._named(totals, "store_errors", "Failures of the store", "code")
        yield self._named(totals, "store_resends", "Commands of which nothing ran, by what became of them", "result")
        yield from self._breakers(totals)
        yield self._labelled(
            totals, "links", "Links to entity logs by what became of them", ("result",), [(r,) for r in LINK_RESULTS]
        )
        yield self._labelled(
            totals, "links_missed", "Entity logs that a decision wanted and did not get in time", ("grain",),
            [(grain,) for grain in LINK_GRAINS],
        )  # fmt: skip
        yield self._labelled(
            totals, "afterwards", "What became of decisions after the answer", ("consumer", "result"),
            list(product(CONSUMERS, TAKEN)),
        )  # fmt: skip
        yield self._labelled(
            totals, "journal", "Static answers by what became of them", ("result",), [(r,) for r in JOURNAL_RESULTS]
        )
        yield self._labelled(
            totals, "accesses", "Records of reads of personal data, by what became of them", ("result",),
            [(result,) for result in ACCESS_RESULTS],
        )  # fmt: skip
        yield self._labelled(
            totals, "shed", "Requests refused because they could not be answered in time", ("rank",),
            [(rank,) for rank in RANKS],
        )  # fmt: skip
        yield self._named(totals, "reloads", "Policy reloads", "result", "policy_reloads")
        yield self._requests(totals)
        yield self._stages(totals)
        for group, (family, name, text) in _ALONE.items():
            yield _single(family, name, text, self._cell(totals, group))
        yield _single(GaugeMetricFamily, "workers", "Living workers of this host", totals.workers)
        yield _policies(totals)
        for told in self._meters.also_told:
            yield from told()

    def _cell(self, totals: Totals, group: str) -> float:
        return float(totals.cells[self._meters.start[group]])

    def _named(self, totals: Totals, group: str, text: str, label: str, name: str = "") -> CounterMetricFamily:
        prefix = group + " "
        names = [(n.removeprefix(prefix),) for n in self._meters.layout.names if n.startswith(prefix)]
        return self._labelled(totals, group, text, (label,), names, name)

    def _labelled(
        self, totals: Totals, group: str, text: str, labels: tuple[str, ...],
        members: Sequence[tuple[str, ...]], name: str = "",
    ) -> CounterMetricFamily:  # fmt: skip
        family = CounterMetricFamily(PREFIX + (name or group), text, labels=labels)
        for i, member in enumerate(members, self._meters.start[group]):
            family.add_metric(member, float(totals.cells[i]))
        return family

    def _breakers(self, totals: Totals) -> Iterator[Metric]:
        """Of servers that a breaker ever opened to, and of the first."""
        text = "Workers of this host that leave a server of the store alone until it answers a probe"
        now = GaugeMetricFamily(PREFIX + "store_breakers_open", text, labels=("server", "way"))
        text = "How often a server of the store was left alone"
        opened = CounterMetricFamily(PREFIX + "store_breakers_opened", text, labels=("server", "way"))
        for i, (server, way) in enumerate(product(range(STORE_SERVERS_MAX), STORE_WAYS)):
            times = float(totals.cells[self._meters.start["store_breakers_opened"] + i])
            if times or server == 0:
                now.add_metric((str(server), way), float(totals.cells[self._meters.start["store_breakers"] + i]))
                opened.add_metric((str(server), way), times)
        yield now
        yield opened

    def _decisions(self, totals: Totals) -> CounterMetricFamily:
        """Drawdowns under all their labels; of other scenes what occurred."""
        labels = ("scene", "decision", "rung", "replayed")
        family = CounterMetricFamily(PREFIX + "decisions", "Decisions answered", labels=labels)
        for i, member in enumerate(product(SCENES, OUTCOMES, RUNGS, FLAGS), self._meters.start["decisions"]):
            if totals.cells[i] or member[0] == DRAWDOWN_SCENE:
                family.add_metric(member, float(totals.cells[i]))
        return family

    def _rules_wrong(self, totals: Totals) -> CounterMetricFamily:
        text = "Rules and blocks that could not be evaluated and took their on_null"
        family = CounterMetricFamily(PREFIX + "rules_wrong", text, labels=("scene", "rule"))
        for name, count in sorted(totals.named.items()):
            scene, _, rule = name.rpartition(" ")
            family.add_metric((scene or OTHER_NAME, rule), count)
        return family

    def _requests(self, totals: Totals) -> CounterMetricFamily:
        family = CounterMetricFamily(
            PREFIX + "http_requests", "HTTP requests answered", labels=("method", "route", "status")
        )
        start = self._meters.start["requests"]
        for i, (route, status) in enumerate(product(self._meters.routes, STATUSES), start):
            if totals.cells[i]:
                method, _, path = route.rpartition(" ")
                family.add_metric((method, path, str(status or "other")), float(totals.cells[i]))
        return family

    def _stages(self, totals: Totals) -> HistogramMetricFamily:
        family = HistogramMetricFamily(PREFIX + "stage_seconds", "Time of a decision by stage", labels=("stage",))
        bounds = [*(str(bound) for bound in BOUNDS_S), "+Inf"]
        for i, stage in enumerate(STAGES):
            counts, total = self._meters.histogram(totals, i)
            family.add_metric((stage,), list(zip(bounds, accumulate(counts), strict=True)), total)
        return family


def _policies(totals: Totals) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + "policy_info", "Policies in force", labels=("id", "label"))
    for policy in totals.policies:
        family.add_metric(policy, 1.0)
    return family


def _single(
    family: type[CounterMetricFamily] | type[GaugeMetricFamily], name: str, text: str, value: float
) -> CounterMetricFamily | GaugeMetricFamily:
    return family(PREFIX + name, text, value=value)
