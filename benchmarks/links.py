"""What entity logs cost a decision: CPU of one process that decides, links and reads the logs of device, payee and
network, beside the same decisions without.

    python benchmarks/links.py [--decisions 2000] [--rounds 5] [--json]

One process runs the service (shipped policy, no HTTP) with its linker on an embedded server (fsync always), CALLERS
decisions at a time on CUSTOMERS customers. CPU is the user and system time of the process, linker included, per
decision; rounds of the four ways alternate, and the least and the median of them are told. Features of entities are
not computed here: this is the price of their logs being there.

    none        requests that name no entity
    written     requests that name all three; the policy looks at none
    read        the policy looks at all three; logs of a few records
    read full   the same, and the payee's log is full
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import uvloop

from decision_service.bootstrap import linker_of, retention_of, wall_clock_ms
from decision_service.core.errors import StoreError
from decision_service.core.event import LIMIT_CHANGE, Event
from decision_service.core.facility import Facility
from decision_service.core.limits import DAY_MS
from decision_service.core.links import LINK_GRAINS, LINKS_PER_ENTITY_MAX, link_record, log_name
from decision_service.core.policy import Policy
from decision_service.core.request import DecisionRequest
from decision_service.linker import Linker
from decision_service.policies.active_policy import ActivePolicy
from decision_service.service import DecisionService
from decision_service.settings import Settings
from decision_service.store import Store
from decision_service.store.embedded import EmbeddedServer
from decision_service.store.open import open_store
from decision_service.telemetry import Meters
from decision_service.warm import warm

CALLERS = 16
CUSTOMERS = 512
BUDGET_MS = 5_000
WAYS = {"none": (False, False, 0), "written": (True, False, 0), "read": (True, True, 0), "read full": (True, True, 1)}


def request(way: str, number: int, now_ms: int) -> DecisionRequest:
    """The n-th request of a way."""
    names, _, full = WAYS[way]
    customer = f"{way}-{number % CUSTOMERS}"
    line = Facility("f-" + customer, customer, "r", "CNY", 10**12, 0, now_ms, 1_800, "active", now_ms - 90 * DAY_MS)
    named = {
        "device_id": f"d-{customer}", "counterparty_id": "m-full" if full else f"m-{way}-{number % 97}",
        "ip": f"10.{number % 199}.{number % 97}.7",
    }  # fmt: skip
    body = orjson.dumps({"customer_id": customer, **named})
    return DecisionRequest(
        f"r-{number}", customer, line.facility_id, 10_00, "CNY", None, "app",
        named["device_id"] if names else None, named["counterparty_id"] if names else None, "consumption", None, 12,
        line, number.to_bytes(16, "big"), body, ip=named["ip"] if names else None,
    )  # fmt: skip


def looking_at(policy: Policy, grains: tuple[str, ...]) -> Policy:
    """The same policy, for which the logs of these grains are read."""
    plan = copy.copy(policy.drawdown.plan)
    plan.link_grains = grains
    return replace(policy, scenes={"drawdown": replace(policy.drawdown, plan=plan)})


async def fill(store: Store, now_ms: int) -> None:
    """A payee whose log is as full as it gets."""
    records = b"".join(
        link_record(Event(n + 1, LIMIT_CHANGE, 1, now_ms - DAY_MS + n).pack(), n % 300 + 1)
        for n in range(LINKS_PER_ENTITY_MAX + LINKS_PER_ENTITY_MAX // 5)
    )
    await store.append_links({log_name("payee", "m-full"): records}, LINKS_PER_ENTITY_MAX, DAY_MS, 5)


async def cpu_us(service: DecisionService, linker: Linker, way: str, first: int, decisions: int) -> float:
    """CPU of the process per decision, until everything is linked."""
    numbers = iter(range(first, first + decisions))

    async def caller() -> None:
        for number in numbers:
            await service.decide(request(way, number, wall_clock_ms()), BUDGET_MS, time.perf_counter())

    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    with suppress(StoreError):
        await linker.flush()
    return (time.process_time() - began) / decisions * 1e6


async def measure(url: str, settings: Settings, decisions: int, rounds: int, say: Callable[[str], None]) -> Any:
    """CPU per decision of every way, a list of rounds each."""
    store = open_store(url)
    now = wall_clock_ms
    with tempfile.TemporaryDirectory() as directory:
        meters = Meters(Path(directory))
        active = ActivePolicy(
            settings.rules, settings.models, settings.time_zone, settings.reservation_timeout_ms, store, now,
            lambda *_: None,
        )  # fmt: skip
        await active.start()
        warm(active.policy)
        linker = linker_of(settings, store, meters)
        linker.start()
        retention = retention_of(settings)
        service = DecisionService(store, active, meters, settings.partitions, retention, linker, BUDGET_MS, now)
        await fill(store, now())
        policies = {reads: looking_at(active.current, LINK_GRAINS if reads else ()) for reads in (True, False)}
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for round_ in range(rounds + 1):
            for way, (_, reads, _) in WAYS.items():
                active.policy = policies[reads]
                spent = await cpu_us(service, linker, way, round_ * decisions, decisions)
                if round_:  # the first warms caches
                    found[way].append(spent)
                say(f"round {round_} {way:>9}: {spent:.0f} us")
        await linker.close()
        await active.close()
        await store.close()
        meters.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=2_000, help="of each round and way")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    say = (lambda _: None) if args.json else print
    with tempfile.TemporaryDirectory() as directory, EmbeddedServer(Path(directory)) as server:
        found = uvloop.run(measure(server.url, Settings(), args.decisions, args.rounds, say))
    table = {way: {"min_us": min(all_), "median_us": statistics.median(all_)} for way, all_ in found.items()}
    if args.json:
        print(json.dumps(table))
        return
    for way, row in table.items():
        print(f"{way:>9}  min {row['min_us']:.0f} us  median {row['median_us']:.0f} us of CPU a decision")


if __name__ == "__main__":
    main()
