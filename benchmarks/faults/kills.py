"""A thousand kills under load: is an acknowledged decision ever lost, answered twice differently, or over-lent?

    callers (closed loop) ──▶ workers ──▶ embedded Valkey, fsync always          kill -9, at random moments:
       retry with the same id until answered;  some ask two to four times at     a worker, the store, or everything
       once; some ask again for what they were answered long ago; they settle    at once (the parent starts workers and
       what was approved (booked and repaid, cancelled, or left reserved)        store again, or we start the parent)

Each round begins with an empty store and ends with a kill of everything, a restart and the check: every answer against
the store's own bytes and asked again over HTTP; every customer's log walked record by record; every entry of the
outbox counted; what is reserved and outstanding against what the callers settled. A worker needs 3 to 4 s of CPU to
start again and the store a tenth of a second, so most kills are the store's; how many of which is in the result.

The processes die, the kernel does not: what was written stays written. Power loss is `power_loss.py`.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import redis
from callers import CALLERS, GIVE_UP_S, PARTITIONS, Caller, Told, open_lines
from checking import Check, Found
from figures import Figure, Result, parser_of, run, say
from whole_service import WholeService, age_s, wait_gone

STORE_SHARE: Final = 0.75


class Killer:
    """Kills a worker or the store at random moments, so many times."""

    def __init__(self, service: WholeService, rng: random.Random, pause_s: float, start_s: float) -> None:
        """`start_s` is how long a worker took to start when nothing disturbed it."""
        self._service, self._rng, self._pause_s, self._start_s = service, rng, pause_s, start_s
        self.kills: Counter[str] = Counter()

    async def run(self, kills: int) -> None:
        """So many kills, each a random time after the one before."""
        for _ in range(kills):
            await asyncio.sleep(min(self._rng.expovariate(1 / self._pause_s), 4 * self._pause_s))
            worker = None if self._rng.random() < STORE_SHARE else self._worker()
            if worker is not None:
                os.kill(worker, signal.SIGKILL)
                self.kills["worker"] += 1
                continue
            pid = await self._store()
            os.kill(pid, signal.SIGKILL)
            wait_gone(pid)
            self.kills["store"] += 1

    def _worker(self) -> int | None:
        """A worker, unless it is the last that serves."""
        pids = self._service.worker_pids()
        serving = [pid for pid in pids if age_s(pid) > self._start_s]
        starting = [pid for pid in pids if pid not in serving]
        candidates = serving + starting if len(serving) > 1 else starting if serving else []
        return self._rng.choice(candidates) if candidates else None

    async def _store(self) -> int:
        """The store's process; waits until the parent has started it again."""
        until = time.monotonic() + GIVE_UP_S
        while (pid := self._service.store_pid()) is None:
            if time.monotonic() > until:
                sys.exit(f"the store is not started again: {self._service.log()}")
            await asyncio.sleep(0.02)
        return pid


async def _round(
    service: WholeService, number: int, kills: int, args: Any, start_s: float
) -> tuple[Told, Counter[str]]:
    """Load and kills, until all that was asked is answered."""
    await open_lines(service.url)
    told, stop = Told(), asyncio.Event()
    killer = Killer(service, random.Random(f"{args.seed} {number}"), args.pause_s, start_s)
    callers = [
        Caller(f"q{number}-{i}", service.url, told, random.Random(f"{args.seed} {number} {i}"), stop)
        for i in range(CALLERS)
    ]
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(caller.run())
        await killer.run(kills)
        stop.set()
    return told, killer.kills


def one_round(directory: Path, number: int, kills: int, args: Any, found: Found) -> None:
    """A fresh service, its kills, the kill of everything, and the check on what starts again."""
    began = time.monotonic()
    service = WholeService(directory, workers=args.workers, partitions=PARTITIONS, log_level="error")
    service.start()
    start_s = time.monotonic() - began
    try:
        told, killed = asyncio.run(_round(service, number, kills - 1, args, start_s))
        service.kill_everything()
        killed["everything"] += 1
        service.start()
        before = found.lost + found.different + found.over_lent
        asyncio.run(Check(service, told, found).run())
    except redis.ConnectionError:
        sys.exit(f"the store is gone during the check: {service.log()}")
    finally:
        service.stop()
    found.kills.update(killed)
    said = "" if found.lost + found.different + found.over_lent == before else " (WRONG)"
    say(f"round {number}: {dict(killed)}, {len(told.answers):,} answers{said}, {time.monotonic() - began:.0f} s")


def measure(result: Result, args: Any) -> None:
    """All rounds."""
    found = Found()
    left, number = args.kills, 0
    while left > 0:
        number += 1
        kills = min(left, args.kills_per_round)
        with tempfile.TemporaryDirectory() as name:
            one_round(Path(name), number, kills, args, found)
        left -= kills
    result.figures += [
        Figure("kill -9 of workers and store under load", sum(found.kills.values()), args.kills, "at least", "kills"),
        Figure("... acknowledged decisions lost", found.lost, 0),
        Figure("... answered twice differently", found.different, 0),
        Figure("... facilities over-lent at any moment", found.over_lent, 0),
        Figure("... decisions not in the outbox exactly once", found.outbox_missing + found.outbox_twice, 0),
        Figure("... logs or balances that disagree with the answers", found.settlement_wrong, 0),
        Figure("... requests never answered, or oddly", found.unanswered + sum(found.odd.values()), 0),
        Figure("... acknowledged decisions checked", found.acknowledged, sense="told"),
    ]
    result.notes |= {
        "kills": dict(found.kills), "workers": args.workers, "rungs": dict(found.rungs),
        "asked_again_under_load": found.replays, "answers_503": found.unavailable, "disconnects": found.disconnected,
        "odd": dict(found.odd.most_common(10)), "wrong": found.examples,
    }  # fmt: skip


def main() -> int:
    """Parse options, run, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--kills", type=int, help="how many (1,000, or 30 with --quick)")
    parser.add_argument("--kills-per-round", type=int, default=100, help="after so many the check, and a new store")
    parser.add_argument("--pause-s", type=float, default=0.7, help="mean time between kills")
    parser.add_argument("--workers", type=int, help="worker processes (4, or 2 with --quick)")
    args = parser.parse_args()
    args.kills = args.kills or (30 if args.quick else 1_000)
    args.workers = args.workers or (2 if args.quick else 4)
    return run("kills", args, lambda result: measure(result, args))


if __name__ == "__main__":
    sys.exit(main())
