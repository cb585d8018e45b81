"""Connecting: what a store URL means, and opening a connection with redis-py.

    redis://[[user]:password@]host[:port][/db]        standalone
    rediss://...                                      over TLS; ssl_ca_certs=... and the like as query
    unix:///path/to/socket[?db=0]                     on this machine; what the embedded store uses
    redis+sentinel://[[user]:password@]host:port,host:port/name[/db]
                                                      the primary `name`; sentinel_username=, sentinel_password=
    redis+cluster://[[user]:password@]host:port,...   any of the nodes; they tell of the others
    rediss+sentinel://, rediss+cluster://             over TLS

redis-py opens the connection: it resolves names, speaks TLS, authenticates, selects the database and asks the
sentinels. It never retries, so a command is sent by us or not at all. Once open, its transport carries a
`Lane`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from decision_service.core.errors import SettingInvalid, StoreUnavailable
from decision_service.store.lane import Lane

CONNECT_TIMEOUT_S: Final = 1.0
PORT_DEFAULT: Final = 6379
SENTINEL_PORT_DEFAULT: Final = 26379

Address = tuple[str, int]  # host, port; ("", 0) where the options name a socket or a sentinel finds the address


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a store URL says. `options` are redis-py connection arguments (credentials, TLS, db, path)."""

    kind: Literal["standalone", "sentinel", "cluster"]
    addresses: tuple[Address, ...]
    tls: bool = False
    primary_name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


def parse_store_url(url: str) -> Endpoint:
    """The endpoint a URL names. SettingInvalid for a URL that is none; the message never repeats a
    password."""
    scheme, _, topology = urlsplit(url).scheme.partition("+")
    try:
        if scheme not in ("redis", "rediss", "unix") or (topology and scheme == "unix"):
            raise ValueError("unknown scheme")
        if not topology:
            return _standalone(url)
        if topology == "sentinel":
            return _sentinel(url, scheme)
        if topology == "cluster":
            return _cluster(url, scheme)
        raise ValueError("unknown scheme")
    except ValueError as error:
        raise SettingInvalid("redis_url", f"not a store URL: {error}") from None


def _standalone(url: str) -> Endpoint:
    options = dict(parse_url(url))
    sort = options.pop("connection_class", Connection)
    address = (str(options.pop("host", "localhost")), int(cast(int, options.pop("port", PORT_DEFAULT))))
    if sort is UnixDomainSocketConnection:
        if not options.get("path"):
            raise ValueError("no path to a socket")
        address = ("", 0)
    return Endpoint("standalone", (address,), sort is SSLConnection, "", options)


def _many(url: str, scheme: str, port: int) -> tuple[tuple[Address, ...], list[str], dict[str, Any]]:
    """Addresses, path segments and options of a URL with several hosts."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    plain = f"{scheme}://{credentials}{'@' if credentials else ''}host"
    options = dict(parse_url(f"{plain}?{parts.query}"))
    options.pop("connection_class", None)
    options.pop("host", None)
    addresses = tuple(_address(host, port) for host in hosts.split(",") if host)
    if not addresses:
        raise ValueError("no host")
    return addresses, [part for part in parts.path.split("/") if part], options


def _address(text: str, port: int) -> Address:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return parts.hostname, parts.port or port


def _sentinel(url: str, scheme: str) -> Endpoint:
    addresses, path, options = _many(url, scheme, SENTINEL_PORT_DEFAULT)
    if not 1 <= len(path) <= 2:
        raise ValueError("expected redis+sentinel://host:port,.../primary-name/db")
    if len(path) == 2:
        options["db"] = int(path[1])
    return Endpoint("sentinel", addresses, scheme == "rediss", path[0], options)


def _cluster(url: str, scheme: str) -> Endpoint:
    addresses, path, options = _many(url, scheme, PORT_DEFAULT)
    if path not in ([], ["0"]):
        raise ValueError("a cluster has only database 0")
    return Endpoint("cluster", addresses, scheme == "rediss", "", options)


async def open_lane(endpoint: Endpoint, address: Address, make: Callable[[Address], Lane]) -> Lane:
    """Connect, authenticate and hand the connection to the lane that `make` makes, told where it leads.
    StoreUnavailable if that fails in any way."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            connection = await _open_connection(endpoint, address)
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"cannot connect to the store: {_reason(error)}") from None
    if endpoint.kind == "sentinel":
        address = (str(connection.host), int(connection.port))
    lane = make(address)
    transport, release = _take_transport(connection)
    lane.adopt(transport, release)
    return lane


async def primary_address(endpoint: Endpoint) -> Address | None:
    """Where more than half of the sentinels say that the primary is, or all that answer; None if they disagree."""
    asked = [_named_by(endpoint, sentinel) for sentinel in endpoint.addresses]
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            told = await asyncio.gather(*asked, return_exceptions=True)
    except TimeoutError:
        return None
    votes = Counter(named for named in told if not isinstance(named, BaseException))
    if not votes:
        return None
    named, number = votes.most_common(1)[0]
    return named if len(votes) == 1 or 2 * number > len(asked) else None


async def _open_connection(endpoint: Endpoint, address: Address) -> Any:
    """An open redis-py connection; nothing stays open if that fails or is given up."""
    if endpoint.kind == "sentinel":
        return await _primary_connection(endpoint)
    return await _connected(endpoint, address)


async def _connected(endpoint: Endpoint, address: Address) -> Any:
    connection = _connection(endpoint, address)
    try:
        await connection.connect()
        if endpoint.kind == "sentinel":
            await _refuse_demoted(connection)
    except BaseException as error:
        await connection.disconnect(nowait=True)
        if isinstance(error, RuntimeError) and "closed" in str(error):
            raise ConnectionError("the connection was reset") from None  # uvloop's word for a peer that was faster
        raise
    return connection


def _reason(error: BaseException) -> str:
    return str(error)[:200] or type(error).__name__


def _connection(endpoint: Endpoint, address: Address) -> Any:
    arguments: dict[str, Any] = {
        **endpoint.options,
        "retry": Retry(NoBackoff(), 0),  # the default repeats a lost write up to ten times
        "socket_timeout": CONNECT_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "health_check_interval": 0,
        "protocol": 2,  # no push messages: the n-th reply is for the n-th command
    }
    arguments = {k: v for k, v in arguments.items() if not k.startswith("sentinel_")}
    if "path" in arguments:
        return UnixDomainSocketConnection(**arguments)
    host, port = address
    sort = SSLConnection if endpoint.tls else Connection
    return sort(host=host, port=port, socket_keepalive=True, **arguments)


async def _primary_connection(endpoint: Endpoint) -> Any:
    """A connection to the primary that the sentinels name. All are asked at once: what more than half of them say is
    tried as soon as they said it, anything else once all have answered, by the number of those who say it. So one that
    is dead costs nothing, and one that is cut off or out of date cannot lead anywhere the others would not."""
    votes: Counter[Address] = Counter()
    tried: set[Address] = set()
    failure: Exception = StoreUnavailable("no sentinel names a primary")
    asking = [asyncio.create_task(_named_by(endpoint, sentinel)) for sentinel in endpoint.addresses]
    try:
        for answer in asyncio.as_completed(asking):
            try:
                named = await answer
                votes[named] += 1
                if 2 * votes[named] > len(asking) and named not in tried:
                    tried.add(named)
                    return await _connected(endpoint, named)
            except (RedisError, OSError, TimeoutError, StoreUnavailable) as error:
                failure = error
        for named, _ in votes.most_common():
            if named not in tried:
                try:
                    return await _connected(endpoint, named)
                except (RedisError, OSError, TimeoutError, StoreUnavailable) as error:
                    failure = error
        raise failure
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def _named_by(endpoint: Endpoint, address: Address) -> Address:
    """The primary as one sentinel knows it, unless it takes that primary for dead."""
    make: Any = Sentinel  # untyped
    sentinel = make(
        [address],
        sentinel_kwargs={
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "socket_timeout": CONNECT_TIMEOUT_S / 2,
            "socket_connect_timeout": CONNECT_TIMEOUT_S / 2,
            "username": endpoint.options.get("sentinel_username"),
            "password": endpoint.options.get("sentinel_password"),
            "ssl": endpoint.tls,
        },
    )
    try:
        host, port = await sentinel.discover_master(endpoint.primary_name)
        return str(host), int(port)
    finally:
        for client in sentinel.sentinels:
            await client.aclose()


async def _refuse_demoted(connection: Any) -> None:
    """Sentinel may for a while still name the old primary: only one that says so itself is believed."""
    await connection.send_command("ROLE")
    role = await connection.read_response()
    if role[0] not in (b"master", "master"):
        raise StoreUnavailable("the primary that Sentinel names is a replica")


def _take_transport(connection: Any) -> tuple[asyncio.Transport, Callable[[], None]]:
    """The transport of an open redis-py connection, and what lets go of that connection.

    The handshake is strictly question and answer, so its reader is empty: no byte is lost when the protocol
    changes. The two private names are the only ones we use; without them no test of this store would pass.
    """
    return connection._writer.transport, connection._close
