"""Bootstrap: the one place that chooses concrete things and puts the service together from settings.

Nothing connects at import. `running_service` is the life of one worker: open the store, load the policy (a policy that
does not compile stops the start), warm the kernel, follow files and fleet, link entities, do what comes after answers,
and release everything in reverse order.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from decision_service.afterwards import Afterwards
from decision_service.archive.access import AccessLog
from decision_service.archive.archived_decisions import ArchivedDecisions
from decision_service.archive.files import Archive
from decision_service.archive.opening import archive_of, archive_url_of
from decision_service.core.errors import StoreUnavailable, StoreUnsafe
from decision_service.core.limits import DAY_MS, EVENTS_TRIM_SLACK
from decision_service.customers import Customers
from decision_service.decision_search import DecisionSearch
from decision_service.journal.keeping import Keeping
from decision_service.linker import Linker
from decision_service.policies.active_policy import ActivePolicy
from decision_service.policies.signatures import signature_rule
from decision_service.recording import Retention
from decision_service.scorecards.shadows import ShadowScoring
from decision_service.service import DecisionService
from decision_service.settings import Settings
from decision_service.shadow_policy.keeping import ShadowPolicy
from decision_service.shadow_policy.meters import ShadowMeters
from decision_service.store import EVICTS, Store
from decision_service.store.noticed import Noticed
from decision_service.store.open import open_store
from decision_service.store.replication import Replicas
from decision_service.telemetry import Meters
from decision_service.warm import warm
from decision_service.watch.counting import DriftCounting
from decision_service.watch.gauges import ScorecardGauges

SWITCH_S: Final = 0.0005
"""How long the event loop may keep the interpreter from the journal's thread: the default of 5 ms would be added to
every static answer of a busy worker, several times."""


def wall_clock_ms() -> int:
    """The server's clock: ms UTC."""
    return time.time_ns() // 1_000_000


def replicas_of(settings: Settings) -> Replicas:
    """What durability `replicated` waits for."""
    return Replicas(settings.replicas, settings.replicas_timeout_ms, settings.replicas_on_disk)


def store_of(settings: Settings, noticed: Noticed | None = None) -> Store:
    """The store the settings name; the embedded one if they name none. Call from the main thread."""
    return open_store(
        settings.store_url, data_dir=settings.data_dir, partitions=settings.partitions, profile=settings.durability,
        replicas=replicas_of(settings), noticed=noticed,
    )  # fmt: skip


def archived_of(settings: Settings) -> ArchivedDecisions | None:
    """The archive's decisions for a worker, or None if there is no archive or its libraries are not installed."""
    if archive_url_of(settings) is None or any(find_spec(name) is None for name in ("pyarrow", "fsspec")):
        return None

    def opened() -> Archive:
        archive = archive_of(settings)
        assert archive is not None
        return archive

    return ArchivedDecisions(opened, settings.partitions)


def retention_of(settings: Settings) -> Retention:
    """How much history the settings keep."""
    slack = min(EVENTS_TRIM_SLACK, settings.events_per_customer_max // 4)
    return Retention(settings.retention_days * DAY_MS, settings.events_per_customer_max, slack)


def linker_of(settings: Settings, store: Store, meters: Meters, now_ms: Callable[[], int] = wall_clock_ms) -> Linker:
    """A linker that keeps as much of entities as the settings say."""
    kept_ms = settings.retention_days * DAY_MS
    return Linker(store, meters, now_ms, settings.partitions, settings.links_per_entity_max, kept_ms)


def shadow_of(settings: Settings, store: Store, meters: Meters) -> ShadowPolicy | None:
    """What evaluates a policy in shadow; None on a store that no other process can reach."""
    if settings.store_url in (None, "memory://"):
        return None
    shadow_meters = ShadowMeters(meters.directory)
    meters.also_told.append(shadow_meters.collect)
    return ShadowPolicy(settings, store, shadow_meters)


async def refuse_evicting(store: Store) -> None:
    """StoreUnsafe for a store that may forget what it acknowledged; whatever else is wrong `/readyz` says, and a store
    that is away may be right when it is back."""
    with suppress(StoreUnavailable):
        if evicting := [problem for problem in await store.check() if problem.startswith(EVICTS)]:
            raise StoreUnsafe("; ".join(evicting))


@dataclass(frozen=True, slots=True)
class Running:
    """What a started worker answers with."""

    decisions: DecisionService
    customers: Customers
    accesses: AccessLog
    searches: DecisionSearch


@asynccontextmanager
async def running_service(settings: Settings, meters: Meters) -> AsyncIterator[Running]:
    """A worker's service, ready to decide. PolicyRejected, ScorecardRejected, StoreUnsafe, SettingInvalid."""

    def policy_changed(policy_id: str, label: str, ok: bool) -> None:
        meters.count_reload(ok)
        if ok:
            meters.set_policy(policy_id, label)

    signatures = signature_rule(settings.policy_signers, settings.policy_signatures_min)
    store = store_of(settings, meters)
    linker = linker_of(settings, store, meters)
    active = ActivePolicy(
        settings.rules, settings.models, settings.time_zone, settings.reservation_timeout_ms, store, wall_clock_ms,
        policy_changed, meters.set_fleet, settings.policy_approvals_change_max, signatures,
        settings.policy_scores_watched, meters.count_rollback, compiles_beside=True,
    )  # fmt: skip
    accesses = AccessLog(store, meters, wall_clock_ms)
    afterwards = Afterwards(meters)
    counting = DriftCounting(store, meters)
    afterwards.register("drift", counting.take)
    keeping: Keeping | None = None
    shadow = shadow_of(settings, store, meters)
    archived = archived_of(settings)
    gauges = ScorecardGauges(store, meters, lambda: active.policy, wall_clock_ms, settings.watch_days)
    meters.also_told.append(gauges.collect)
    try:
        await refuse_evicting(store)
        if archived is not None:
            archived.start()
        await active.start()
        warm(active.policy)
        gc.collect()
        gc.freeze()  # what is loaded by now stays: collecting garbage need not look at a million objects of it again
        retention = retention_of(settings)
        linker.start()
        counting.start()
        gauges.start()
        afterwards.register("shadows", ShadowScoring(store, counting.take_shadows).take)
        afterwards.start()
        accesses.start()
        decisions = DecisionService(
            store, active, meters, settings.partitions, retention, linker, settings.links_budget_ms, wall_clock_ms,
            afterwards, shadow=shadow, archived=archived,
        )  # fmt: skip
        if shadow is not None:
            shadow.start()
        if settings.static_answers:
            sys.setswitchinterval(SWITCH_S)
            keeping = Keeping(settings.data_dir, decisions.keep_journal, wall_clock_ms)
            meters.also_told.append(keeping.collect)
            await keeping.start()
        customers = Customers(store, active, retention, linker, wall_clock_ms, shadow)
        searches = DecisionSearch(store, active, archived, settings.partitions, wall_clock_ms)
        yield Running(decisions, customers, accesses, searches)
    finally:
        if archived is not None:
            archived.close()
        if shadow is not None:
            await shadow.close()
            meters.also_told.remove(shadow.meters.collect)
            shadow.meters.close()
        meters.also_told.remove(gauges.collect)
        if keeping is not None:
            meters.also_told.remove(keeping.collect)
            await keeping.close()
        await afterwards.close()
        await accesses.close()
        await gauges.close()
        await counting.close()
        await linker.close()
        await active.close()
        await store.close()
