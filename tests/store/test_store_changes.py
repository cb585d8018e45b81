"""Changes: the outbox alone rebuilds every state of every customer, to the byte."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from random import Random
from typing import Any

import pytest
from store_cases import T, decision_id, facility, record

from decision_service.core.event import EMPTY_LOG, header
from decision_service.core.facility import Attribute
from decision_service.core.limits import PARTITIONS
from decision_service.core.retention import trim_front
from decision_service.core.state import CustomerState
from decision_service.store import Commit, Store, keys
from decision_service.store.changes import ORIGINS, Change, OldEntry, apply, change_of, pack, unpack
from decision_service.store.memory import MemoryStore
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

CUSTOMERS = ("c-1", "空}{", "f:c\r\n", "%b" * 40)
STEPS = 160
ENTRIES = "return redis.call('XRANGE', KEYS[1], '-', '+')"  # field by field, as no mapping tells them


def some_commit(rng: Random, customer_id: str, state: CustomerState, number: int) -> Commit:
    """Any commit there is: of records or none, trimmed or not, with or without each other part."""

    def chance(one_in: int) -> bool:
        return rng.randrange(one_in) == 0

    held = len(state.log) // 64 - 1
    names = [f"f-{n}" for n in range(3)] + [customer_id]
    return Commit(
        customer_id,
        state.version,
        b"".join(record(number, rng.randrange(2**40)) for _ in range(rng.choice((0, 1, 1, 2, 30)))),
        trim_front(state.log, rng.randint(1, held)) if held and chance(3) else None,
        {one: facility(one, customer_id, limit_minor=number) for one in names if chance(4)},
        {one: Attribute(rng.choice((0.1 * number, "上海\0"[:2], 2.0)), number) for one in names if chance(6)},
        (decision_id(customer_id, f"r-{number}"), b"frame") if chance(2) else None,
        [b'{"event":%d}' % n for n in range(rng.choice((0, 0, 1, 3)))],
        (b"%d" % number, b"links") if chance(4) else (b"", b""),
        rng.choice(ORIGINS),
    )  # fmt: skip


async def some_history(store: Store, seed: int) -> tuple[dict[str, CustomerState], dict[str, list[Commit]]]:
    """Commits in any order; the state of each customer in the end, and what was committed."""
    rng, commits = Random(seed), defaultdict(list)
    for number in range(STEPS):
        customer_id = rng.choice(CUSTOMERS)
        commit = some_commit(rng, customer_id, await store.read(customer_id, None, T), number)
        await store.commit(commit, T)
        commits[customer_id].append(commit)
    return {one: await store.read(one, None, T) for one in CUSTOMERS}, commits


def rebuilt(entries: list[dict[bytes, bytes]]) -> tuple[dict[str, CustomerState], dict[str, list[Change]]]:
    """The states that entries make, from nothing, and the changes."""
    states: dict[str, CustomerState] = defaultdict(CustomerState)
    changes: dict[str, list[Change]] = defaultdict(list)
    for entry in entries:
        change = unpack(entry)
        states[change.customer_id] = apply(states[change.customer_id], change)
        changes[change.customer_id].append(change)
    return states, changes


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(3))
async def test_changes_of_a_server_rebuild_every_customer(store: Store, valkey_server: ValkeyServer, seed: int) -> None:
    """Applied in the order of the streams, the entries give what a read gives; each tells all of its commit."""
    states, commits = await some_history(store, seed)
    entries = []
    with valkey_server.client() as client:
        for partition in {keys.partition_of(one, PARTITIONS) for one in CUSTOMERS}:
            for _, fields in client.eval(ENTRIES, 1, keys.outbox_key(partition)):
                assert len(fields[::2]) == len(set(fields[::2])), "a field stands twice"
                entries.append(dict(zip(fields[::2], fields[1::2], strict=True)))
    _compare(entries, states, commits)


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(10))
async def test_changes_in_memory_rebuild_every_customer(seed: int) -> None:
    """The same in memory."""
    store = MemoryStore()
    states, commits = await some_history(store, seed)
    _compare([dict(entry) for one in range(PARTITIONS) for entry in store.outbox(one)], states, commits)


def _compare(
    entries: list[dict[bytes, bytes]], states: dict[str, CustomerState], commits: dict[str, list[Commit]]
) -> None:
    found, changes = rebuilt(entries)
    assert found == states
    assert changes == {one: [change_of(commit) for commit in some] for one, some in commits.items()}
    assert [pack(unpack(entry)) for entry in entries] == entries
    assert [list(pack(unpack(entry))) for entry in entries] == [list(entry) for entry in entries], "another order"


@pytest.mark.anyio
async def test_changes_of_a_full_commit_fit_one_entry(any_store: Store, store_url: str) -> None:
    """A call's worth of everything: 1,000 events, 256 attributes and a log that is trimmed."""
    await any_store.commit(Commit("c-1", 0, b"".join(record(n) for n in range(1_000))), T)
    before = await any_store.read("c-1", None, T)
    commit = Commit(
        "c-1", 1, b"".join(record(n) for n in range(1_000, 2_000)), trim_front(before.log, 999),
        {f"f-{n}": facility(f"f-{n}") for n in range(32)}, {f"a{n}": Attribute(n / 7, n) for n in range(256)},
        events=[b'{"kind":"login","number":%d}' % n for n in range(1_000)],
    )  # fmt: skip
    await any_store.commit(commit, T)
    assert apply(before, change_of(commit)) == await any_store.read("c-1", None, T)


def test_changes_are_applied_to_the_state_before_them_only() -> None:
    """Left out, repeated or in another order, a change is refused, and so is a trimming that cannot be."""
    one, two, three = (Change("c-1", version, record(version)) for version in (1, 2, 3))
    state = apply(apply(CustomerState(), one), two)
    assert apply(state, three).log == EMPTY_LOG + record(1) + record(2) + record(3)
    for change in (one, two, three._replace(version=4), Change("", 0, decision_id=decision_id("c-1"))):
        with pytest.raises(ValueError, match="version: the state has 2"):
            apply(state, change)
    for base_seq in (-1, 3):
        with pytest.raises(ValueError, match=f"header: it begins at {base_seq}"):
            apply(state, three._replace(header=header(base_seq)))
    assert apply(state, three._replace(header=header(2))).log == header(2) + record(3)


def test_changes_leave_the_state_before_as_it_was() -> None:
    """A state that somebody holds does not change."""
    before = CustomerState(1, EMPTY_LOG, {"f-1": facility()}, {"a": Attribute(1.0, 1)})
    after = apply(before, Change("c-1", 2, b"", b"", {"f-2": facility("f-2")}, {"a": Attribute(2.0, 2)}))
    assert (set(before.facilities), before.attributes) == ({"f-1"}, {"a": Attribute(1.0, 1)})
    assert (set(after.facilities), after.attributes) == ({"f-1", "f-2"}, {"a": Attribute(2.0, 2)})


WHOLE = pack(
    Change("c-1", 7, record(1), header(3), {"f-1": facility()}, {"a": Attribute(1.0, 1)}, decision_id("c-1"), (b"{}",))
)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        (b"kind", None, "kind"), (b"kind", b"shadow", "kind"), (b"kind", b"change", "id"),
        (b"id", b"d-1", "id"), (b"id", None, "id"), (b"customer", None, "customer"), (b"customer", b"\xff", "customer"),
        (b"customer", b"", "customer"), (b"version", None, "version"), (b"version", b"0", "version"),
        (b"version", b"-1", "version"), (b"version", b"07", "version"), (b"version", b"1_0", "version"),
        (b"records", None, "records"), (b"records", record(1)[:-1], "records"), (b"header", record(1), "header"),
        (b"header", header()[:-1], "header"), (b"origin", b"nobody", "origin"), (b"events", b"", "events"),
        (b"events", b"{}\n", "events"), (b"f:f-1", b"[1]", "f:"), (b"f:f-1", b"\xff", "f:"), (b"f:\xff", b"", "f:"),
        (b"a:a", b"{", "a:"), (b"a:a", b"[1,2,3]", "a:"), (b"tomorrow", b"", "another version"),
    ],
)  # fmt: skip
def test_changes_that_are_not_as_we_write_them_are_named(field: bytes, value: bytes | None, told: str) -> None:
    """Whatever is wrong with an entry, the error names the field, and no id or value of a customer."""
    assert unpack(WHOLE).version == 7
    fields = dict(WHOLE)
    if value is None:
        del fields[field]
    else:
        fields[field] = value
    with pytest.raises(ValueError, match=told) as raised:
        unpack(fields)
    assert not any(word in str(raised.value) for word in ("c-1", "f-1"))


@pytest.mark.parametrize("cut", range(60))
def test_changes_of_spoilt_entries_never_pass_for_others(cut: int) -> None:
    """A byte that changed, anywhere, is refused or shows: never an exception of another kind."""
    rng, fields = Random(cut), dict(WHOLE)
    name = rng.choice(list(fields))
    value = bytearray(fields[name] or b"?")
    value[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
    fields[name] = bytes(value)
    with contextlib.suppress(ValueError):
        assert unpack(fields) != unpack(WHOLE)


def test_changes_with_a_body_that_is_no_line_are_refused() -> None:
    """An event's body cannot become two, and none of several cannot be lost."""
    for bodies in ([b"{\n}"], [b"{}", b""]):
        with pytest.raises(ValueError, match="events"):
            pack(Change("c-1", 1, events=bodies))


OLD: list[dict[bytes, bytes]] = [
    {b"kind": b"event", b"customer": b"c-1", b"event": b"{}"},
    {b"kind": b"facility", b"customer": b"c-1", b"id": b"f-1"},
    {b"kind": b"imported", b"customer": b"c-1", b"records": record(1)},
]


def test_changes_of_an_older_version_say_so() -> None:
    """Of an old decision there is its id; what else old versions wrote tells of no commit."""
    wanted = decision_id("c-1")
    assert unpack({b"kind": b"decision", b"id": wanted.encode()}) == Change("", 0, decision_id=wanted)
    for fields in OLD:
        with pytest.raises(OldEntry, match=fields[b"kind"].decode()):
            unpack(fields)


@pytest.mark.anyio
async def test_changes_old_decisions_are_found_among_new_ones(valkey: str, valkey_server: ValkeyServer) -> None:
    """A store that was used by the version before: `reconcile` and `models watch` see the decisions of both."""
    partition, wanted = keys.partition_of("c-1", PARTITIONS), [decision_id("c-1", request) for request in "ab"]
    old: list[Any] = [*OLD[:2], {b"kind": b"decision", b"id": wanted[0].encode()}, OLD[2]]
    with valkey_server.client() as client:
        for fields in old:
            client.xadd(keys.outbox_key(partition), fields)
    store = open_store(valkey)
    try:
        await store.commit(Commit("c-1", 0, decision=(wanted[1], b"frame"), events=[b"{}"]), T)
        assert (await store.outbox_decisions(partition, 0, 2**53, b"", T)) == (b"", wanted)
    finally:
        await store.close()
