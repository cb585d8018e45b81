"""A population: customers with a facility and a history of a given length each, written straight into the store.

    for each customer   meta hash (version, facility), packed event log, owner of the facility, logs of two devices
    for the population  logs of `payees` payees, each of up to PAYEE_EVENTS events of the first customers; 19 of 20 of
                        them are shops and stand on `list.allow`, or each would look like a ring before long

What a year of ordinary use leaves: two draws for each repayment, purchases and logins between them, four of five from
the first device, at places around one city, spread over all hours, so that no hour is unusual. No drawdown is pending,
nothing is overdue. Everything but the instants follows from the seed.

Loading a million customers through the API would take hours. So the bytes are made here, with the service's own codecs
and keys (`core.event`, `core.links`, `store.records`, `store.keys`), and go through one socket as plain SETs, 40,000
customers of 20 events a second. The differences to posted events: keys of event ids are random numbers (equal ids
cannot occur), the outbox has entries only of a population that is `told` (then an archive can rebuild what decisions
saw; it takes as much memory again as the logs), and payee logs hold the first customers' events only.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from decision_service.core.event import (
    BOOKED,
    CHANNELS,
    EMPTY_LOG,
    FLAG_PLACE,
    KINDS,
    RECORD,
    accuracy_class,
    counterparty_key,
    device_key,
    facility_key,
)
from decision_service.core.facility import Facility
from decision_service.core.limits import DAY_MS, PARTITIONS, RECORD_BYTES
from decision_service.core.links import LINKS_PER_ENTITY_MAX, customer_key, entity_header, log_name
from decision_service.store import keys
from decision_service.store.changes import Change, pack
from decision_service.store.records import encode_facility

HISTORY_KINDS: Final = ("drawdown", "purchase", "drawdown", "login", "repayment")
AMOUNTS_MINOR: Final = (12_000, 26_050, 48_000, 73_525, 132_000)
LIMIT_MINOR: Final = 5_000_000_000
DEVICES: Final = 2
PAYEES: Final = 400
PAYEE_EVENTS: Final = 1_000
SHOP_SHARE: Final = 0.95
CUSTOMER_WORD: Final = 6  # of a record on an entity's log
BATCH_EVENTS: Final = 40_000
_ERROR: Final = re.compile(rb"-[A-Z]")  # OK, counts and ids of entries have none
Records = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Population:
    """Which customers: `name` begins all their ids, so populations of several names share a store."""

    name: str
    customers: int
    events: int
    payees: int = PAYEES
    seed: int = 7
    told: bool = False  # in the outbox, one entry a customer, as an import leaves it

    def customer_id(self, number: int) -> str:
        """`b-17`."""
        return f"{self.name}-{number}"

    def facility_id(self, number: int) -> str:
        """The one facility of a customer."""
        return f"{self.name}f-{number}"

    def device_id(self, number: int, device: int) -> str:
        """One of a customer's devices."""
        return f"{self.name}d-{number}-{device}"

    def payee_id(self, payee: int) -> str:
        """One of the payees that all customers share."""
        return f"{self.name}m-{payee}"

    @property
    def shops(self) -> list[str]:
        """The payees that everybody may pay."""
        return [self.payee_id(payee) for payee in range(int(SHOP_SHARE * self.payees))]

    def facility(self, number: int, now_ms: int) -> Facility:
        """Granted 400 days ago, hardly used."""
        return Facility(
            self.facility_id(number), self.customer_id(number), "revolving", "CNY", LIMIT_MINOR, 100_000, now_ms,
            1_800, "active", now_ms - 400 * DAY_MS, reviewed_at_ms=now_ms - 30 * DAY_MS, days_past_due=0,
        )  # fmt: skip

    def histories(self, first: int, count: int, now_ms: int) -> Records:
        """The records of some customers in the order of time, a row (of `events`) a customer."""
        rng = np.random.default_rng((self.seed, first))
        shape = (count, self.events)
        records = np.zeros(shape, RECORD)
        records["occurred_at_ms"] = np.sort(rng.integers(now_ms - 360 * DAY_MS, now_ms - DAY_MS, shape), axis=1)
        records["key"] = rng.integers(1, 2**63, shape)
        records["value"] = np.nan
        kind = np.array([KINDS[name] for name in HISTORY_KINDS])[np.arange(self.events) % len(HISTORY_KINDS)]
        records["kind"] = kind
        records["amount_minor"] = np.array(AMOUNTS_MINOR)[rng.integers(0, len(AMOUNTS_MINOR), shape)]
        records["status"], records["channel"] = BOOKED, CHANNELS["app"]
        records["flags"] = FLAG_PLACE | accuracy_class(20) << 4
        records["lat_e6"] = 31_200_000 + rng.integers(0, 100_000, shape)
        records["lon_e6"] = 121_400_000 + rng.integers(0, 100_000, shape)
        numbers = range(first, first + count)
        records["facility"] = np.array([[facility_key(self.facility_id(n))] for n in numbers])
        devices = np.array([[device_key(self.device_id(n, d)) for d in range(DEVICES)] for n in numbers])
        which = (rng.random(shape) >= 0.8).astype(np.int64)
        records["device"] = np.take_along_axis(devices, which, axis=1)
        payees = np.array([counterparty_key(self.payee_id(payee)) for payee in range(self.payees)], np.uint64)
        records["counterparty"] = payees[rng.integers(0, self.payees, shape)]
        return records


def load(
    population: Population, port: int, now_ms: int, partitions: int = PARTITIONS,
    watch: Callable[[int], None] = lambda done: None,
) -> None:  # fmt: skip
    """Write a population into the server on a loopback port, of which nobody reads it yet."""
    batch = max(1, min(2_000, BATCH_EVENTS // max(population.events, 1)))
    payees = _PayeeLogs(population)
    with _Pipe(port) as pipe:
        for first in range(0, population.customers, batch):
            count = min(batch, population.customers - first)
            records = population.histories(first, count, now_ms)
            for command in commands(population, first, records, now_ms, partitions):
                pipe.send(command)
            payees.add(first, records)
            pipe.flush()
            watch(first + count)
        for name, log in payees.logs():
            pipe.send(_set(keys.entity_key(name, partitions), log))
        pipe.send(
            _command(b"HSET", keys.LISTS_ENTRIES, *(word for shop in population.shops for word in _allowed(shop)))
        )
        pipe.send(_command(b"INCR", keys.LISTS_VERSION))


def commands(
    population: Population, first: int, records: Records, now_ms: int, partitions: int = PARTITIONS
) -> Iterator[bytes]:
    """The commands that write some customers: bytes as they go to the server."""
    numbers = range(first, first + len(records))
    customer_ids = [population.customer_id(number) for number in numbers]
    length = records.shape[1] * RECORD_BYTES
    logs, linked, ends = records.tobytes(), *_by_device(population, numbers, records, customer_ids)
    encoded = encode_facility(population.facility(0, now_ms))  # all are alike but for the ids that it begins with
    alike = encoded[encoded.index(b",", encoded.index(b",") + 1) :]
    for row, number in enumerate(numbers):
        customer_id, facility_id = customer_ids[row], population.facility_id(number)
        partition = crc32(customer_id.encode()) % partitions
        field = keys.FACILITY_FIELD + facility_id.encode()
        facility = b'["%b","%b"%b' % (facility_id.encode(), customer_id.encode(), alike)
        yield _command(b"HSET", keys.meta_key(partition, customer_id), keys.VERSION_FIELD, b"1", field, facility)
        yield _set(keys.log_key(partition, customer_id), EMPTY_LOG + logs[row * length : (row + 1) * length])
        yield _set(keys.owner_key(facility_id, partitions), customer_id.encode())
        if population.told:
            records_of = logs[row * length : (row + 1) * length]
            facilities = {facility_id: population.facility(number, now_ms)}
            fields = pack(Change(customer_id, 1, records_of, facilities=facilities, origin="import"))
            words = (word for told in fields.items() for word in told)
            yield _command(b"XADD", keys.outbox_key(partition), b"*", *words)
        at = row * length
        for device, end in enumerate(ends[row]):
            log = linked[at : row * length + end * RECORD_BYTES]
            at += len(log)
            if log:
                key = keys.entity_key(log_name("device", population.device_id(number, device)), partitions)
                yield _set(key, entity_log("device", log))


def _by_device(
    population: Population, numbers: range, records: Records, customer_ids: list[str]
) -> tuple[bytes, list[list[int]]]:
    """The records of all rows as they enter their devices' logs, a row's in the order of its devices; and in each row
    where the records of each device end."""
    first = np.array([[device_key(population.device_id(number, 0))] for number in numbers], np.uint32)
    other = records["device"] != first
    order = np.argsort(other, axis=1, kind="stable")
    words = records.view(np.uint64).reshape(*records.shape, -1)
    sorted_ = np.take_along_axis(words, order[:, :, None], axis=1)
    sorted_[:, :, CUSTOMER_WORD] = np.array([[customer_key(customer_id)] for customer_id in customer_ids], np.uint64)
    mine = (~other).sum(axis=1).tolist()
    return sorted_.tobytes(), [[count, records.shape[1]] for count in mine]


def entity_log(grain: str, linked: bytes) -> bytes:
    """The log of an entity that these records entered in their order: the newest that it has room for."""
    gone = len(linked) // RECORD_BYTES - LINKS_PER_ENTITY_MAX
    if gone <= 0:
        return entity_header(grain) + linked
    through_ms = int(np.frombuffer(linked, RECORD, gone)["occurred_at_ms"].max())
    return entity_header(grain, gone, through_ms) + linked[gone * RECORD_BYTES :]


class _PayeeLogs:
    """Collects events by payee until each has enough."""

    def __init__(self, population: Population) -> None:
        self._population = population
        self._names = {counterparty_key(population.payee_id(p)): p for p in range(population.payees)}
        self._parts: list[npt.NDArray[np.uint64]] = []
        self._collected = 0

    def add(self, first: int, records: Records) -> None:
        """Take the events of some customers."""
        if self._collected >= PAYEE_EVENTS * self._population.payees * 1.1:
            return
        numbers = range(first, first + len(records))
        customers = np.array([[customer_key(self._population.customer_id(n))] for n in numbers], np.uint64)
        words = records.view(np.uint64).reshape(*records.shape, -1).copy()
        words[:, :, CUSTOMER_WORD] = customers
        self._parts.append(words.reshape(-1, words.shape[-1]))
        self._collected += records.size

    def logs(self) -> Iterator[tuple[bytes, bytes]]:
        """Name and bytes of each payee's log."""
        if not self._collected:
            return
        records = np.concatenate(self._parts).view(RECORD).reshape(-1)
        records = records[np.lexsort((records["occurred_at_ms"], records["counterparty"]))]
        parties, starts = np.unique(records["counterparty"], return_index=True)
        for party, start, end in zip(parties.tolist(), starts, [*starts[1:], len(records)], strict=True):
            name = log_name("payee", self._population.payee_id(self._names[party]))
            yield name, entity_log("payee", records[start:end][-PAYEE_EVENTS:].tobytes())


def _allowed(shop: str) -> tuple[bytes, bytes]:
    return f"allow\0{shop}".encode(), b""


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n%b" % (len(words), b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words]))


def _set(key: bytes, value: bytes) -> bytes:
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)


class _Pipe:
    """Commands without waiting for each reply. An error reply stops it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._waiting: list[bytes] = []

    def send(self, command: bytes) -> None:
        """Queue a command."""
        self._waiting.append(command)
        if len(self._waiting) >= 20_000:
            self.flush()

    def flush(self) -> None:
        """Send what is queued and wait until all of it is done."""
        replies = len(self._waiting)
        self._socket.sendall(b"".join(self._waiting))
        self._waiting.clear()
        last = b""
        while replies > 0:
            received = self._socket.recv(1 << 20)
            if not received or _ERROR.search(last + received):
                raise RuntimeError(f"the store refused a command: {received[:300]!r}")
            replies -= received.count(b"\n") - received.count(b"$")  # the id of an entry has a line more: its length
            last = received[-1:]

    def __enter__(self) -> _Pipe:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.flush()
        self._socket.close()
