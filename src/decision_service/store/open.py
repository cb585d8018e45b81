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
from decision_service.store.client import parse_store_url
from decision_service.store.embedded import EmbeddedServer
from decision_service.store.memory import MemoryStore
from decision_service.store.redis import Profile, RedisStore
from decision_service.store.topology import open_topology


class EmbeddedStore(RedisStore):
    """A `RedisStore` that owns its server."""

    def __init__(self, server: EmbeddedServer, *, partitions: int, profile: Profile) -> None:
        super().__init__(open_topology(parse_store_url(server.url)), partitions=partitions, profile=profile)
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
) -> Store:
    """The store a URL names. Call it from the main thread where it may start a server (see `embedded.py`).

    SettingInvalid for a URL that is none; StoreUnsafe or StoreUnavailable if the embedded server cannot
    start.
    """
    if url == "memory://":
        return MemoryStore(partitions=partitions)
    if url is not None:
        return RedisStore(open_topology(parse_store_url(url)), partitions=partitions, profile=profile)
    if data_dir is None:
        raise SettingInvalid("data_dir", "without a store URL a data directory is needed")
    server = EmbeddedServer(data_dir, fsync="everysec" if profile == "fast" else "always").start()
    return EmbeddedStore(server, partitions=partitions, profile=profile)
