"""What a store URL means, and what happens to one that means nothing."""

from __future__ import annotations

import asyncio

import pytest
from store_cases import T

from decision_service.core.errors import SettingInvalid
from decision_service.store import Commit
from decision_service.store.client import parse_store_url
from decision_service.store.memory import MemoryStore
from decision_service.store.open import open_store
from valkey_server import ValkeyServer


@pytest.mark.parametrize(
    ("url", "kind", "addresses", "tls", "name", "options"),
    [
        ("redis://h", "standalone", (("h", 6379),), False, "", {}),
        ("redis://u:p%40@h:1/3", "standalone", (("h", 1),), False, "", {"username": "u", "password": "p@", "db": 3}),
        ("rediss://h:1", "standalone", (("h", 1),), True, "", {}),
        ("unix:///run/x.sock", "standalone", (("", 0),), False, "", {"path": "/run/x.sock"}),
        ("redis://[::1]:7", "standalone", (("::1", 7),), False, "", {}),
        ("redis+cluster://a:1,b", "cluster", (("a", 1), ("b", 6379)), False, "", {}),
        ("rediss+cluster://:pw@a:1,[::1]:2", "cluster", (("a", 1), ("::1", 2)), True, "", {"password": "pw"}),
        ("redis+sentinel://a,b:5/lines", "sentinel", (("a", 26379), ("b", 5)), False, "lines", {}),
        ("rediss+sentinel://u:p@a/lines/4?sentinel_password=s", "sentinel", (("a", 26379),), True, "lines",
         {"username": "u", "password": "p", "db": 4, "sentinel_password": "s"}),
    ],
)  # fmt: skip
def test_url_names_an_endpoint(
    url: str, kind: str, addresses: object, tls: bool, name: str, options: dict[str, object]
) -> None:
    """Each scheme says where the servers are, how to reach them and who we are."""
    endpoint = parse_store_url(url)
    found = (endpoint.kind, endpoint.addresses, endpoint.tls, endpoint.primary_name, dict(endpoint.options))
    assert found == (kind, addresses, tls, name, options)


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost:6379", "http://h", "unix://", "unix+cluster:///x", "redis+ring://h", "redis+sentinel://h",
        "redis+sentinel://h/name/x", "redis+cluster://", "redis+cluster://h/3", "redis://secret@h:port",
        "redis+cluster://:secret@h:99999999",
    ],
)  # fmt: skip
def test_url_that_names_nothing_is_refused(url: str) -> None:
    """A URL that is none is a wrong setting, and the message repeats no password."""
    with pytest.raises(SettingInvalid) as caught:
        parse_store_url(url)
    assert "secret" not in str(caught.value)


def test_url_endpoint_hides_credentials() -> None:
    """Printing an endpoint shows no password."""
    assert "pw" not in repr(parse_store_url("redis://:pw@h"))


def test_url_memory_is_memory() -> None:
    """memory:// is this process's memory."""
    assert isinstance(open_store("memory://"), MemoryStore)


def test_url_database_is_selected(valkey_server: ValkeyServer) -> None:
    """The number at the end of a URL is the database that is used."""

    async def run() -> None:
        store = open_store(valkey_server.url.removesuffix("/0") + "/5")
        await store.commit(Commit("c-1", 0), T)
        await store.close()

    asyncio.run(run())
    with valkey_server.client() as client:
        assert client.dbsize() == 0
        assert "db5" in client.info("keyspace")
