"""From measured figures and stated assumptions to cores, shards and what breaks first. Pure functions; no figure of a
machine stands here: those come from `measure`'s document.

Of every resource it works out how many shards (primaries of the store) it asks for, as if it were the only one:

    memory       customers, their logs and entity logs, and the decisions that are kept, over what a shard may hold
    CPU          of Valkey's one thread that executes commands, at the peak rate, times the imbalance
    network      the busier direction of a shard's primary, its replicas' streams with it, times the imbalance
    disk         the append-only file that is written (fsyncs are shared by what is waiting, so they set no bound)

The largest wins; shards are whole, and at least one. The imbalance is that of the simulation for so many shards, so the
number is found step by step. Three things no number of shards mends; each gives a highest rate:

    partition    the busiest partition is one piece: it must fit one shard's CPU. Beyond it everybody there waits: such
                 a size is not possible
    customer     decisions on one customer wait for each other. Beyond it this customer waits, nobody else
    payee        every payment to a payee reads and appends to one log. Beyond it those who pay him go without it

So what breaks first is a partition, or more shards than there are partitions; else the resource that asks for most
shards. Rates are those of the peak; memory of what is kept follows the mean.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

GB: Final = 1e9
SECONDS_A_DAY: Final = 86_400
RATES: Final = (1_000, 10_000, 100_000)
CUSTOMERS: Final = (10_000_000, 100_000_000, 1_000_000_000)
RESOURCES: Final = ("memory", "cpu", "network", "disk")


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What was not measured. Every field has its unit in its name; `meaning` of each is in MEANINGS."""

    events_per_customer: float = 200.0
    devices_per_customer: float = 2.0
    customers_per_payee: float = 100.0
    records_per_payee: float = 1_024.0
    events_per_decision: float = 3.0
    peak_over_mean: float = 3.0
    decisions_kept_days: float = 1.0
    busy_core_max: float = 0.6
    busy_memory_max: float = 0.6
    busy_network_max: float = 0.5
    busy_disk_max: float = 0.5
    shard_memory_gb: float = 64.0
    shard_network_gbit: float = 10.0
    shard_disk_mb_per_s: float = 500.0
    replicas: float = 1.0
    zipf: float = 0.8


MEANINGS: Final[dict[str, str]] = {
    "events_per_customer": "events in the log of a customer, mean",
    "devices_per_customer": "devices with a log of their own",
    "customers_per_payee": "customers for each payee that has a log",
    "records_per_payee": "records in a payee's log, mean; the default cap is 1,024",
    "events_per_decision": "further events for each decision: settlement, repayments, purchases, one a call",
    "peak_over_mean": "the peak rate over the mean of the day",
    "decisions_kept_days": "decisions and outbox entries stay in the store so long before an archive has them",
    "busy_core_max": "share of a core that is planned for at the peak",
    "busy_memory_max": "share of a shard's memory that is planned for; rewriting the append-only file needs the rest",
    "busy_network_max": "share of a shard's network that is planned for",
    "busy_disk_max": "share of a shard's disk that is planned for",
    "shard_memory_gb": "memory of a shard's primary",
    "shard_network_gbit": "network of a shard's primary, each way",
    "shard_disk_mb_per_s": "what a shard's disk writes",
    "replicas": "copies of each primary; they cost memory and CPU again and a stream each",
    "zipf": "exponent of Zipf's law over customers and payees (0: all alike)",
}
OF_THE_BUSINESS: Final = (
    "events_per_customer", "devices_per_customer", "customers_per_payee", "records_per_payee", "events_per_decision",
    "peak_over_mean", "decisions_kept_days",
)  # fmt: skip
assert set(MEANINGS) == {field.name for field in fields(Assumptions)}


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured, for customers of one history: us of CPU, bytes of memory, of network and of disk."""

    customer_bytes: float
    payee_log_bytes: float
    decision_bytes: float
    event_kept_bytes: float
    service_us: float
    store_us: float
    net_in_bytes: float
    net_out_bytes: float
    aof_bytes: float
    event_service_us: float
    event_store_us: float
    event_net_in_bytes: float
    event_net_out_bytes: float
    event_aof_bytes: float
    connections_per_worker: float
    one_customer_per_s: float
    hot_payee_store_us: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One size: what it takes and what breaks first. `shards_for` is unrounded, each resource by itself."""

    customers: int
    rate_per_s: float
    memory_gb: float
    memory_kept_gb: float
    shards_for: dict[str, float]
    shards: int
    hottest_shard: float
    servers: int
    service_cores: float
    store_cores: float
    network_gbit: float
    disk_mb_per_s: float
    connections_of_a_shard: int
    highest_per_s: dict[str, float]
    knee_per_s: float
    breaks_first: str
    feasible: bool


Balance = Mapping[str, Any]


def between(points: list[tuple[float, float]], at: float) -> float:
    """A measured figure between the two measured points around `at`, along a straight line; beyond them along the
    nearest two, and never below zero."""
    ordered = sorted(points)
    if len(ordered) == 1:
        return ordered[0][1]
    i = min(max(bisect_left([x for x, _ in ordered], at), 1), len(ordered) - 1)
    (x0, y0), (x1, y1) = ordered[i - 1], ordered[i]
    return max(0.0, y0 + (y1 - y0) * (at - x0) / (x1 - x0))


def costs_of(measured: Mapping[str, Any], given: Assumptions) -> Costs:
    """The measured figures for customers with the assumed history."""
    rows = {float(events): row for events, row in measured["histories"].items()}
    size = measured["bytes"]

    def at(figure: Callable[[Any], float]) -> float:
        return between([(events, figure(row)) for events, row in rows.items()], given.events_per_customer)

    def decision(name: str) -> float:
        return at(lambda row: row["decision"][name])

    def entity_log(records: float) -> float:
        kept: float = min(records, size["entity_records_max"])
        return float(size["entity_log"] + kept * size["entity_record"])

    devices = given.devices_per_customer
    device_bytes = devices * entity_log(given.events_per_customer / devices) if devices else 0.0
    own = at(lambda row: row["log_bytes"] + row["meta_bytes"]) + size["owner"]
    event, customer = measured["event"], measured["one_customer"]
    return Costs(
        customer_bytes=(own + device_bytes) * size["used_over_keys"],
        payee_log_bytes=entity_log(given.records_per_payee) * size["used_over_keys"],
        decision_bytes=(size["decision_frame"] + size["outbox_entry"]) * size["used_over_keys"],
        event_kept_bytes=size["outbox_event"] * size["used_over_keys"],
        service_us=decision("service_cpu_us"),
        store_us=decision("store_cpu_us"),
        net_in_bytes=decision("store_net_in"),
        net_out_bytes=decision("store_net_out"),
        aof_bytes=decision("aof_bytes"),
        event_service_us=event["service_cpu_us"],
        event_store_us=event["store_cpu_us"],
        event_net_in_bytes=event["store_net_in"],
        event_net_out_bytes=event["store_net_out"],
        event_aof_bytes=event["aof_bytes"],
        connections_per_worker=measured["connections_per_worker"],
        one_customer_per_s=max(customer["per_s_one_connection"], customer["per_s_eight_connections"]),
        hot_payee_store_us=max(0.0, measured["hot_payee"]["store_cpu_us"]) + decision("store_cpu_us"),
    )


def memory_bytes(costs: Costs, given: Assumptions, customers: float, rate_per_s: float) -> tuple[float, float]:
    """Bytes of all customers and payees, and bytes of what an archive has yet to take: decisions, and the outbox's
    copies of events.
    """
    standing = customers * (costs.customer_bytes + costs.payee_log_bytes / given.customers_per_payee)
    decisions = rate_per_s / given.peak_over_mean * SECONDS_A_DAY * given.decisions_kept_days
    return standing, decisions * (costs.decision_bytes + given.events_per_decision * costs.event_kept_bytes)


def work(costs: Costs, given: Assumptions, rate_per_s: float) -> dict[str, float]:
    """What the peak asks for each second: us of CPU of service and store, bytes in, out (with the replicas' streams)
    and to disk."""
    events = given.events_per_decision
    aof = costs.aof_bytes + events * costs.event_aof_bytes
    return {
        "service_us": rate_per_s * (costs.service_us + events * costs.event_service_us),
        "store_us": rate_per_s * (costs.store_us + events * costs.event_store_us),
        "in_bytes": rate_per_s * (costs.net_in_bytes + events * costs.event_net_in_bytes),
        "out_bytes": rate_per_s
        * (costs.net_out_bytes + events * costs.event_net_out_bytes + given.replicas * aof),
        "aof_bytes": rate_per_s * aof,
    }  # fmt: skip


def shards_for(
    costs: Costs, given: Assumptions, customers: float, rate_per_s: float, hottest: float
) -> dict[str, float]:
    """How many shards each resource asks for by itself, unrounded. `hottest`: the busiest shard over the mean."""
    doing = work(costs, given, rate_per_s)
    network = given.shard_network_gbit * GB / 8 * given.busy_network_max
    return {
        "memory": sum(memory_bytes(costs, given, customers, rate_per_s))
        / (given.shard_memory_gb * GB * given.busy_memory_max),
        "cpu": doing["store_us"] / 1e6 / given.busy_core_max * hottest,
        "network": max(doing["in_bytes"], doing["out_bytes"]) / network * hottest,
        "disk": doing["aof_bytes"] / (given.shard_disk_mb_per_s * 1e6 * given.busy_disk_max) * hottest,
    }


def balance_of(balance: Balance, sort: str, given: Assumptions, count: float) -> Mapping[str, Any]:
    """The simulation's row for the assumed exponent and the nearest simulated number."""
    rows = [row for row in balance[sort] if row["exponent"] == given.zipf]
    if not rows:
        raise ValueError(f"no simulation for the exponent {given.zipf}")
    return min(rows, key=lambda row: abs(math.log(row["count"] / count)))


def hottest_at(row: Mapping[str, Any], shards: float) -> float:
    """The busiest shard over the mean for a number of shards, along a straight line between the simulated numbers."""
    by = {float(n): float(value) for n, value in row["hottest_shard"]["partitions"].items()}
    return between(list(by.items()), min(shards, max(by)))


def highest_rates(costs: Costs, given: Assumptions, customers: float, balance: Balance) -> dict[str, float]:
    """The highest rate that the busiest partition, customer and payee leave, however many shards there are."""
    row = balance_of(balance, "customers", given, customers)
    payee = balance_of(balance, "payees", given, customers / given.customers_per_payee)
    per_decision = work(costs, given, 1.0)["store_us"]
    core_us = 1e6 * given.busy_core_max
    return {
        "partition": core_us / (row["hottest_partition_share"] * per_decision),
        "customer": costs.one_customer_per_s / row["hottest_share"],
        "payee": core_us / (payee["hottest_share"] * costs.hot_payee_store_us),
    }


def cell(costs: Costs, given: Assumptions, balance: Balance, customers: int, rate_per_s: float) -> Cell:
    """One size, worked out."""
    row = balance_of(balance, "customers", given, customers)
    shards, hot, needs = 1, 1.0, {}
    for _ in range(50):  # more shards are less even, which asks for more shards
        hot = hottest_at(row, shards)
        needs = shards_for(costs, given, customers, rate_per_s, hot)
        enough = max(shards, math.ceil(max(needs.values()) - 1e-9))
        if enough == shards:
            break
        shards = enough
    standing, kept = memory_bytes(costs, given, customers, rate_per_s)
    doing = work(costs, given, rate_per_s)
    highest = highest_rates(costs, given, customers, balance)
    workers = math.ceil(doing["service_us"] / 1e6 / given.busy_core_max)
    if highest["partition"] < rate_per_s:
        breaks = "partition"
    else:
        breaks = "partitions" if shards > balance["partitions"] else max(needs, key=lambda name: needs[name])
    return Cell(
        customers=customers,
        rate_per_s=rate_per_s,
        memory_gb=(standing + kept) / GB,
        memory_kept_gb=kept / GB,
        shards_for=needs,
        shards=shards,
        hottest_shard=hot,
        servers=shards * (1 + math.ceil(given.replicas)),
        service_cores=doing["service_us"] / 1e6 / given.busy_core_max,
        store_cores=doing["store_us"] / 1e6 / given.busy_core_max * (1 + given.replicas),
        network_gbit=(doing["in_bytes"] + doing["out_bytes"]) * 8 / GB,
        disk_mb_per_s=doing["aof_bytes"] / 1e6,
        connections_of_a_shard=math.ceil(workers * costs.connections_per_worker),
        highest_per_s=highest,
        knee_per_s=knee_per_s(costs, given, customers, balance),
        breaks_first=breaks,
        feasible=breaks in RESOURCES,
    )


def knee_per_s(costs: Costs, given: Assumptions, customers: float, balance: Balance) -> float:
    """The rate from which on work asks for more shards than memory does; or the one that the busiest partition allows,
    if that is less. Found by halving: work grows faster with the rate than memory, which customers have filled before.
    """
    row = balance_of(balance, "customers", given, customers)

    def memory_decides(rate: float) -> bool:
        memory = shards_for(costs, given, customers, rate, 1.0)["memory"]
        needs = shards_for(costs, given, customers, rate, hottest_at(row, max(1, math.ceil(memory))))
        return needs["memory"] >= max(needs[name] for name in RESOURCES[1:])

    low, high = 0.0, highest_rates(costs, given, customers, balance)["partition"]
    if memory_decides(high):
        return high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if memory_decides(middle) else (low, middle)
    return low


def cells(measured: Mapping[str, Any], given: Assumptions, balance: Balance) -> list[Cell]:
    """Every size."""
    costs = costs_of(measured, given)
    return [cell(costs, given, balance, customers, float(rate)) for customers in CUSTOMERS for rate in RATES]


def sensitivity(measured: Mapping[str, Any], given: Assumptions, balance: Balance) -> list[tuple[str, float]]:
    """For each assumption about the business the factor by which doubling it moves the shards (unrounded) of all sizes
    together, geometric mean, those that move most first."""
    base = _wanted(measured, given, balance)
    found = []
    for name in OF_THE_BUSINESS:
        changed = replace(given, **{name: 2.0 * getattr(given, name) or 1.0})
        other = _wanted(measured, changed, balance)
        found.append((name, math.exp(sum(math.log(b / a) for a, b in zip(base, other, strict=True)) / len(base))))
    return sorted(found, key=lambda row: -abs(math.log(row[1])))


def _wanted(measured: Mapping[str, Any], given: Assumptions, balance: Balance) -> list[float]:
    """Unrounded shards of every size."""
    return [max(one.shards_for.values()) for one in cells(measured, given, balance)]


def varied(
    measured: Mapping[str, Any],
    given: Assumptions,
    balance: Balance,
    names: tuple[str, str],
    factors: tuple[float, ...],
) -> list[dict[str, Any]]:
    """Shards of the middle size while two assumptions are multiplied by each of `factors`."""
    found = []
    for first in factors:
        for second in factors:
            changed = replace(
                given, **{names[0]: getattr(given, names[0]) * first, names[1]: getattr(given, names[1]) * second}
            )
            one = cell(costs_of(measured, changed), changed, balance, CUSTOMERS[1], float(RATES[1]))
            found.append({names[0]: first, names[1]: second, "shards": one.shards, "breaks_first": one.breaks_first})
    return found


def as_json(measured: Mapping[str, Any], given: Assumptions, balance: Balance) -> dict[str, Any]:
    """Everything that the model says, for a page or a program."""
    costs = costs_of(measured, given)
    ranked = sensitivity(measured, given, balance)
    top = (ranked[0][0], ranked[1][0])
    return {
        "assumptions": asdict(given),
        "costs": asdict(costs),
        "cells": [asdict(one) for one in cells(measured, given, balance)],
        "highest": [
            {"customers": count, "exponent": row["exponent"]}
            | highest_rates(costs, replace(given, zipf=row["exponent"]), count, balance)
            for count in CUSTOMERS
            for row in balance["payees"]
        ],
        "sensitivity": ranked,
        "varied": varied(measured, given, balance, top, (0.5, 1.0, 2.0, 4.0)),
    }
