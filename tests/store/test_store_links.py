"""Entity logs and the links that wait for them: what every store promises, on memory, a server and a cluster."""

from __future__ import annotations

import asyncio

import pytest
from store_cases import T, record

from decision_service.core.errors import VersionMoved
from decision_service.core.event import EMPTY_LOG, TRIMMED_NOTHING, read_header, words_of
from decision_service.core.links import LINK_GRAINS, entity_header, link_record, log_name
from decision_service.store import Commit, LinkCounts, Store, keys
from decision_service.store.keys import partition_of
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio

PAYEE = log_name("payee", "m-1")
DEVICE = log_name("device", "d-1")
NETWORK = log_name("ip", "203.0.113.7")
DAY_MS = 86_400_000
AT = 1_700_000_000_000


def entering(number: int, customer: int = 7, at_ms: int = AT) -> bytes:
    """A record on its way into an entity's log."""
    return link_record(record(number, at_ms), customer)


async def append(store: Store, name: bytes, *records: bytes, most: int = 1_024) -> LinkCounts:
    return await store.append_links({name: b"".join(records)}, most, DAY_MS, T)


async def read(store: Store, name: bytes) -> bytes | None:
    return (await store.read_links([name], T).logs())[name[0]]


async def test_links_unknown_entities_are_empty_and_unnamed_ones_unread(any_store: Store) -> None:
    """An entity nobody was seen with has an empty log; one that was not asked for has none."""
    assert await any_store.read_links([DEVICE, NETWORK], T).logs() == (EMPTY_LOG, None, EMPTY_LOG)
    assert await any_store.read_links([], T).logs() == (None, None, None)


async def test_links_are_read_back_in_the_order_they_came(any_store: Store) -> None:
    """Each log begins with the header of its grain and holds what was appended, in order."""
    for i, name in enumerate((DEVICE, PAYEE, NETWORK)):
        assert await append(any_store, name, entering(1), entering(2)) == (2, 0, 0, 0)
        assert await append(any_store, name, entering(3 + i)) == (1, 0, 0, 0)
    logs = await any_store.read_links([NETWORK, DEVICE, PAYEE], T).logs()
    for i, (grain, log) in enumerate(zip(LINK_GRAINS, logs, strict=True)):
        assert log == entity_header(grain) + entering(1) + entering(2) + entering(3 + i)


async def test_links_given_again_are_there_once(any_store: Store) -> None:
    """A record that stands in the log, or twice in one call, is not appended again, in whatever company it comes."""
    await append(any_store, PAYEE, *(entering(n) for n in range(20)))
    for some in ([3], [3, 3, 19], range(20), [*range(15), 20, 20]):
        fresh = len({n for n in some if n == 20})
        assert await append(any_store, PAYEE, *(entering(n) for n in some)) == (fresh, len(some) - fresh, 0, 0)
    assert await read(any_store, PAYEE) == entity_header("payee") + b"".join(entering(n) for n in range(21))


async def test_links_of_two_customers_with_one_event_id_are_two(any_store: Store) -> None:
    """An event id is a customer's own: the same key of another customer is another record."""
    assert (await append(any_store, PAYEE, entering(1, 7), entering(1, 8))).appended == 2
    assert await append(any_store, PAYEE, entering(1, 8), entering(1, 9)) == (1, 1, 0, 0)


async def test_links_key_bytes_elsewhere_in_a_record_are_no_key(any_store: Store) -> None:
    """Only the two words that know a record are compared: equal bytes at another place do not count."""
    one, other = entering(1), bytearray(entering(2))
    other[0:8], other[56:64] = one[8:16], one[8:16]
    other[0:8] = one[0:8]
    shifted = bytes(other[:20]) + one[8:16] + bytes(other[28:])
    await append(any_store, PAYEE, bytes(other), shifted[:8] + entering(3)[8:16] + shifted[16:])
    assert (await append(any_store, PAYEE, one)).appended == 1


async def test_links_grains_do_not_meet(any_store: Store) -> None:
    """A device and a payee of one name have logs of their own."""
    await append(any_store, log_name("device", "same"), entering(1))
    assert await read(any_store, log_name("payee", "same")) == EMPTY_LOG


async def test_links_a_log_is_bounded_and_says_what_it_forgot(any_store: Store) -> None:
    """Beyond a quarter more than its bound a log is cut to its newest records, and its header tells."""
    records = [entering(n, at_ms=AT + n + 5 * (n == 1)) for n in range(12)]
    for number, one in enumerate(records):
        await append(any_store, PAYEE, one, most=8)
        log = await read(any_store, PAYEE)
        assert log is not None
        assert len(words_of(log)) - 1 == (number + 1 if number < 10 else number - 2)
    assert log == entity_header("payee", 3, AT + 6) + b"".join(records[3:])


async def test_links_a_large_call_is_trimmed_at_once(any_store: Store) -> None:
    """Two thousand records in one call leave the newest of them."""
    records = [entering(n, at_ms=AT + n) for n in range(2_000)]
    assert (await append(any_store, PAYEE, *records)).appended == 2_000
    log = await read(any_store, PAYEE)
    assert log is not None
    assert log == entity_header("payee", 976, AT + 975) + b"".join(records[976:])


async def test_links_what_a_log_forgot_does_not_come_back(any_store: Store) -> None:
    """A record that reaches back to what was trimmed is counted as old, delivered once or again: never doubled."""
    records = [entering(n, at_ms=AT + n) for n in range(11)]
    for one in records:
        await append(any_store, PAYEE, one, most=8)
    assert await append(any_store, PAYEE, *records, most=8) == (0, 8, 3, 0)
    assert await append(any_store, PAYEE, entering(99, at_ms=AT + 2), most=8) == (0, 0, 1, 0)
    assert await append(any_store, PAYEE, entering(99, at_ms=AT + 3), most=8) == (1, 0, 0, 0)


async def test_links_instants_keep_every_bit(any_store: Store) -> None:
    """Headers survive trimming exactly, for instants before 1970 and far ahead alike."""
    for number in range(6):
        await append(any_store, PAYEE, entering(number, at_ms=-(2**52) + number), most=4)
    log = await read(any_store, PAYEE)
    assert log is not None
    assert read_header(log) == (2, -(2**52) + 1)
    await append(any_store, DEVICE, entering(1, at_ms=2**52 + 1))
    assert read_header((await read(any_store, DEVICE)) or b"") == (0, TRIMMED_NOTHING)


async def test_links_many_logs_go_together(any_store: Store) -> None:
    """The portions a store asks for cover every log once, and each may be appended in one call."""
    names = [log_name("payee", f"m-{n}") for n in range(300)]
    portions = any_store.together(names)
    assert sorted(name for some in portions for name in some) == sorted(names)
    for some in portions:
        records = {name: entering(names.index(name)) for name in some}
        assert (await any_store.append_links(records, 8, DAY_MS, T)).appended == len(some)
    for number, name in enumerate(names):
        assert await read(any_store, name) == entity_header("payee") + entering(number)


async def test_links_appended_at_once_by_many_are_there_once(any_store: Store) -> None:
    """Whoever appends what at the same time, each record is there once."""

    async def worker(first: int) -> int:
        counts = [await append(any_store, PAYEE, entering(n), entering(n + 1)) for n in range(first, first + 20)]
        return sum(count.appended for count in counts)

    assert sum(await asyncio.gather(*(worker(5 * n) for n in range(8)))) == 56
    log = await read(any_store, PAYEE)
    assert log is not None
    found = [log[at : at + 64] for at in range(64, len(log), 64)]
    assert sorted(found) == sorted(entering(n) for n in range(56))


async def test_links_of_a_commit_wait_until_they_are_forgotten(any_store: Store) -> None:
    """What a commit leaves to be linked is there with the commit, as it was given, and goes when it is taken away."""
    partition = partition_of("c-1", 256)
    await any_store.commit(Commit("c-1", 0, record(1), links=(b"\0id-1", b"\0links\r\n")), T)
    await any_store.commit(Commit("c-1", 1, record(2), links=(b"id-2", b"more")), T)
    cursor, found = await any_store.waiting_links(partition, 0, T)
    assert (cursor, sorted(found)) == (0, [(b"\0id-1", b"\0links\r\n"), (b"id-2", b"more")])
    await any_store.forget_links({partition: [b"\0id-1", b"never"], (partition + 1) % 256: [b"id-2"]}, T)
    assert await any_store.waiting_links(partition, 0, T) == (0, [(b"id-2", b"more")])


async def test_links_of_a_lost_commit_do_not_wait(any_store: Store) -> None:
    """A commit that writes nothing leaves no links either."""
    with pytest.raises(VersionMoved):
        await any_store.commit(Commit("c-1", 5, record(1), links=(b"id-1", b"links")), T)
    assert await any_store.waiting_links(partition_of("c-1", 256), 0, T) == (0, [])


async def test_links_that_wait_are_all_told_page_by_page(any_store: Store) -> None:
    """However many wait in a partition, going through the cursors tells each; forgetting takes any number."""
    ids = {b"id-%d" % n for n in range(700)}
    for version, one in enumerate(ids):
        await any_store.commit(Commit("c-1", version, links=(one, one * 20)), T)
    partition, told, cursor = partition_of("c-1", 256), set(), -1
    while cursor != 0:
        cursor, found = await any_store.waiting_links(partition, max(cursor, 0), T)
        told |= {one for one, links in found if links == one * 20}
    assert told == ids
    await any_store.forget_links({partition: sorted(ids)}, T)
    assert await any_store.waiting_links(partition, 0, T) == (0, [])


async def test_links_reads_may_be_dropped(any_store: Store) -> None:
    """Reads that nobody waits for any more leave nothing behind."""
    await append(any_store, PAYEE, entering(1))
    any_store.read_links([PAYEE, DEVICE, NETWORK], T).drop()
    assert await read(any_store, PAYEE) == entity_header("payee") + entering(1)


@pytest.mark.parametrize("stored", [b"torn", b"x" * 64, entity_header("device"), EMPTY_LOG])
async def test_links_what_is_no_log_is_neither_read_nor_written(
    store: Store, valkey_server: ValkeyServer, stored: bytes
) -> None:
    """Bytes that are no log of this grain are left as they are, count as unread, and stop no other log of the call."""
    key = keys.entity_key(PAYEE, 256)
    with valkey_server.client() as client:
        client.set(key, stored)
        counts = await store.append_links({PAYEE: entering(1), DEVICE: entering(1)}, 8, DAY_MS, T)
        assert counts == (1, 0, 0, 1)
        assert client.get(key) == stored
    assert (await store.read_links([PAYEE, DEVICE], T).logs())[:2] == (entity_header("device") + entering(1), None)


async def test_links_a_key_of_another_type_is_left_alone(store: Store, valkey_server: ValkeyServer) -> None:
    """A list in the place of a log is unread and refused; the other logs of the call are not held up."""
    with valkey_server.client() as client:
        client.rpush(keys.entity_key(PAYEE, 256), b"x")
    assert await store.append_links({PAYEE: entering(1), DEVICE: entering(1)}, 8, DAY_MS, T) == (1, 0, 0, 1)
    assert (await store.read_links([PAYEE], T).logs()).payee is None


async def test_links_an_idle_log_is_forgotten(store: Store, valkey_server: ValkeyServer) -> None:
    """Every append renews the time after which a log that nothing is added to goes away."""
    key = keys.entity_key(PAYEE, 256)
    with valkey_server.client() as client:
        for number in range(12):  # new, appended, trimmed
            client.persist(key)
            await append(store, PAYEE, entering(number, at_ms=AT + number), most=8)
            assert DAY_MS - 10_000 < client.pttl(key) <= DAY_MS * 1.01
        await store.append_links({PAYEE: entering(99, at_ms=AT + 99)}, 8, 1, T)
        await asyncio.sleep(0.05)
        assert client.exists(key) == 0


async def test_links_left_out_mark_the_log_as_trimmed(any_store: Store) -> None:
    """Who leaves older records out says so: a new log and one that is there are marked, an earlier mark stays."""
    for left_out, through in ((AT - 9, AT - 9), (AT - 5, AT - 5), (AT - 7, AT - 5)):
        some = {PAYEE: b"" if through != AT - 9 else entering(1)}
        await any_store.append_links(some, 8, DAY_MS, T, {PAYEE: left_out})
        log = await read(any_store, PAYEE)
        assert log is not None
        assert read_header(log)[1] == through
        assert log[64:] == entering(1)
    assert await append(any_store, PAYEE, entering(2, at_ms=AT - 6)) == (0, 0, 1, 0)
    assert await append(any_store, PAYEE, entering(3)) == (1, 0, 0, 0)
