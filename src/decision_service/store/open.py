"""Choosing a store by URL. Nothing connects here: a store that is down at the start is used as soon as it is
up.

None                 an embedded server on `data_dir`, stopped when the store is closed
memory://            this process's memory
anything else        Redis or Valkey, see `client.py`
"""

from __future__ import annotations

from pathlib import Path

from decision_service.core.errors import SettingInvalid
from decision_service.core.limits import PARTITIONS
from decision_service.store import Store
from decision_service.store.client import Endpoint, parse_store_url
from decision_service.store.embedded import SOCKET_DIRECTORY_START, EmbeddedServer
from decision_service.store.epoch import FILE_NAME, EpochMemory, place_name
from decision_service.store.memory import MemoryStore
from decision_service.store.noticed import Noticed
from decision_service.store.redis import RedisStore
from decision_service.store.replication import REPLICAS_DEFAULT, Replicas
from decision_service.store.suitability import Profile
from decision_service.store.topology import open_topology


class EmbeddedStore(RedisStore):
    """A `RedisStore` that owns its server."""

    def __init__(
        self, server: EmbeddedServer, *, partitions: int, profile: Profile, memory: EpochMemory, reconciling: bool,
        noticed: Noticed | None,
    ) -> None:  # fmt: skip
        super().__init__(
            open_topology(parse_store_url(server.url), None, noticed), partitions=partitions, profile=profile,
            memory=memory, noticed=noticed, reconciling=reconciling,
        )  # fmt: skip
        self.server = server

    async def close(self) -> None:
        """Release connections and stop the server."""
        await super().close()
        self.server.stop()


def open_store(
    url: str | None,
    *,
    data_dir: Path | None = None,
    partitions: int = PARTITIONS,
    profile: Profile = "safe",
    replicas: Replicas = REPLICAS_DEFAULT,
    noticed: Noticed | None = None,
    reconciling: bool = False,
    remembering: bool = True,
) -> Store:
    """The store a URL names. Call it from the main thread where it may start a server (see `embedded.py`).

    `data_dir` is also where it is remembered which store was used (`epoch.py`), unless not `remembering`; `replicas`
    are asked for by the profile `replicated`. `reconciling` takes a store whatever became of its history, for who
    repairs it.

    SettingInvalid for a URL that is none; StoreUnsafe or StoreUnavailable if the embedded server cannot start.
    """
    if url == "memory://":
        return MemoryStore(partitions=partitions)
    if url is not None:
        endpoint = parse_store_url(url)
        memory = _memory(data_dir if remembering else None, endpoint)
        return RedisStore(
            open_topology(endpoint, replicas if profile == "replicated" else None, noticed),
            partitions=partitions, profile=profile, replicas=replicas, memory=memory,
            noticed=noticed, reconciling=reconciling,
        )  # fmt: skip
    if data_dir is None:
        raise SettingInvalid("data_dir", "without a store URL a data directory is needed")
    server = EmbeddedServer(data_dir, fsync="everysec" if profile == "fast" else "always").start()
    memory = _memory(data_dir if remembering else None, parse_store_url(server.url))
    return EmbeddedStore(
        server, partitions=partitions, profile=profile, memory=memory, noticed=noticed, reconciling=reconciling
    )


def _memory(data_dir: Path | None, endpoint: Endpoint) -> EpochMemory:
    """What is remembered of the store at an endpoint."""
    path = str(endpoint.options.get("path", ""))
    embedded = Path(path).parent.name.startswith(SOCKET_DIRECTORY_START)
    where = ("embedded",) if embedded else (path, sorted(endpoint.addresses), endpoint.primary_name)
    place = place_name(endpoint.kind, where, endpoint.options.get("db", 0))
    return EpochMemory(None if data_dir is None else data_dir / FILE_NAME, place)
