"""Running: a consumer put together from settings, for `archive run`."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from decision_service.archive.checkpointing import Checkpointing
from decision_service.archive.checkpoints import Link
from decision_service.archive.child import PARENT_VARIABLE
from decision_service.archive.compacting import compact_daily
from decision_service.archive.consumer import Consumer, Done
from decision_service.archive.files import Archive
from decision_service.archive.headroom import Headroom
from decision_service.archive.meters import ArchiveMeters, families
from decision_service.archive.opening import archive_of
from decision_service.archive.policies import PolicyKeeper
from decision_service.archive.writer import Limits, Writer
from decision_service.core.errors import ArchiveUnavailable, SettingInvalid, StoreError
from decision_service.core.limits import DAY_MS
from decision_service.policies.signers import SigningKey
from decision_service.settings import Settings, environment_name
from decision_service.store import Store

LOG = logging.getLogger("decision_service.archive")
HEADROOM_S: Final = 5.0  # between looks
PIN_S: Final = 10.0  # between looks whether a checkpoint is due
PARENT_S: Final = 1.0
LOOPBACK: Final = "127.0.0.1"


def wall_clock_ms() -> int:
    """This host's clock: ms UTC."""
    return time.time_ns() // 1_000_000


def archive_needed(settings: Settings) -> Archive:
    """The archive to write to. SettingInvalid, ArchiveUnavailable."""
    archive = archive_of(settings)
    if archive is None:
        raise SettingInvalid(environment_name("archive_url"), "say where the archive is to be: --archive")
    if archive.is_memory:
        raise SettingInvalid(environment_name("archive_url"), "memory:// ends with the process: name one that stays")
    return archive


class Consuming(NamedTuple):
    """A consumer, and what belongs to it."""

    consumer: Consumer
    writer: Writer
    checkpointing: Checkpointing

    async def checkpoint(self, *, now: bool) -> None:
        """Pin how far the chains have come, if it is time for that or if `now`. ArchiveUnavailable."""
        at_ms = wall_clock_ms()
        heads = {place: Link(head.position, head.hash) for place, head in self.writer.heads.items()}
        if heads and (now or self.checkpointing.due(at_ms)):
            await asyncio.to_thread(self.checkpointing.make, heads, at_ms)


def consuming(store: Store, settings: Settings, meters: ArchiveMeters, key: SigningKey | None) -> Consuming:
    """A consumer under a name of its own."""
    host = f"{socket.gethostname()}:{os.getpid()}"
    archive = archive_needed(settings)
    limits = Limits(settings.archive_segment_rows, settings.archive_frames_kept_days * DAY_MS)
    writer = Writer(
        store, archive, f"{host}:{secrets.token_hex(4)}", limits, meters, PolicyKeeper(store, archive).keep
    )  # fmt: skip
    consumer = Consumer(
        store, writer, meters, settings.partitions, settings.archive_segment_rows, settings.archive_flush_s,
        wall_clock_ms,
    )  # fmt: skip
    return Consuming(consumer, writer, Checkpointing(archive, key, host, settings.archive_checkpoint_minutes))


async def drain(
    store: Store, settings: Settings, key: SigningKey | None, runtime_dir: Path, stop: asyncio.Event
) -> Done:
    """Archive what waits now, and pin it. StoreError, ArchiveUnavailable, SettingInvalid."""
    meters = ArchiveMeters(runtime_dir)
    try:
        ours = consuming(store, settings, meters, key)
        done = await ours.consumer.drain(stop)
        await ours.checkpoint(now=True)
        return done
    finally:
        meters.close()


async def archive_until(
    store: Store, settings: Settings, key: SigningKey | None, runtime_dir: Path, stop: asyncio.Event,
    metrics_port: int | None = None, *, watch_parent: bool = False,
) -> None:  # fmt: skip
    """Archive until `stop` is set. SettingInvalid, ArchiveUnavailable for a root that cannot even be named."""
    meters = ArchiveMeters(runtime_dir)
    if metrics_port is not None:
        _tell(runtime_dir, metrics_port)
    embedded = settings.data_dir if (settings.store_url or "unix://").startswith("unix://") else None
    ours = consuming(store, settings, meters, key)
    tasks = [
        asyncio.create_task(_watch_room(store, Headroom(time.monotonic, embedded), meters)),
        asyncio.create_task(_pin(ours, meters)),
    ]
    if watch_parent:
        tasks.append(asyncio.create_task(_stop_with_parent(stop)))
        tasks.append(asyncio.create_task(compact_daily(settings, wall_clock_ms)))
    try:
        await ours.consumer.run(stop)
        await _pin_now(ours, meters, now=True)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        meters.close()


async def _watch_room(store: Store, headroom: Headroom, meters: ArchiveMeters) -> None:
    while True:
        with suppress(StoreError):
            meters.set_headroom(headroom.look())
        await asyncio.sleep(HEADROOM_S)


async def _pin(ours: Consuming, meters: ArchiveMeters) -> None:
    while True:
        await asyncio.sleep(PIN_S)
        await _pin_now(ours, meters, now=False)


async def _pin_now(ours: Consuming, meters: ArchiveMeters, *, now: bool) -> None:
    try:
        await ours.checkpoint(now=now)
    except ArchiveUnavailable as error:
        meters.archive_failed(error.code)
        LOG.error("no checkpoint could be written: %s", error.message)


async def _stop_with_parent(stop: asyncio.Event) -> None:
    """A consumer that outlives the service would keep its store open: it ends itself."""
    parent = int(os.environ.get(PARENT_VARIABLE, "0"))
    while os.getppid() == parent:  # noqa: ASYNC110 - no event tells of this
        await asyncio.sleep(PARENT_S)
    stop.set()


class _Families(Collector):
    """What the consumers of a host counted."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All of it."""
        return families(self._directory)


def _tell(directory: Path, port: int) -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(directory))
    try:
        start_http_server(port, LOOPBACK, registry)
    except OSError as error:
        raise SettingInvalid("--metrics-port", f"cannot listen on {LOOPBACK}:{port}: {error.strerror}") from None
