"""Power lost under load: what was acknowledged and is gone?

The whole service runs over a library that remembers what was written and not synced (`power_shim.py`): its embedded
Valkey and the journal of static answers. At a random moment, at times with the store frozen so that static answers
are being written, everything is stopped and killed, what no fsync covered is taken away, and it is started again.

    safe    fsync before every reply: nothing acknowledged may be gone, in as many rounds as are run
    fast    fsync every second: what is gone is counted, and how old the oldest of it was when the power went

Files that are written through mapped memory (the journal's counter, the table of what was sent) are taken away as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

import orjson
from callers import CALLERS, PARTITIONS, Caller, Told, open_lines
from checking import Check, Found, frames_in
from figures import Figure, Result, parser_of, run, say
from power_shim import Keep, build, environment, forget_mapped, lose_power
from whole_service import PlainStore, WholeService

from decision_service.decision_log import answer_in

KEEPS: Final[tuple[Keep, ...]] = ("nothing", "the first", "some")
LOAD_S: Final = (0.3, 4.0)  # from the first question to the loss of power
FROZEN_SHARE: Final = 0.5  # of rounds in which the store stands still for a while before
FAST_BOUND_S: Final = 2.0  # a sync is due each second and takes its time; Valkey waits for one that is late


class Machine:
    """A service whose power can be lost."""

    def __init__(self, directory: Path, library: Path, **settings: Any) -> None:
        self.directory = directory
        self.notes = directory / "notes"
        self.service = WholeService(
            directory / "service", workers=2, partitions=PARTITIONS, log_level="error",
            environment=environment(library, directory / "service" / "data", self.notes), **settings,
        )  # fmt: skip
        self.lost: Counter[str] = Counter()

    def lose_power(self, keep: Keep, rng: random.Random) -> None:
        """Everything is dead, and what no fsync covered is gone."""
        self.service.kill_everything()
        lost = lose_power(self.notes, self.service.data, keep, rng)
        forget_mapped(self.service.data)
        self.lost["journal rows found"] += rows_of(self.service.data)
        self.lost.update({"losses": 1, f"kept {keep}": 1, "writes unsynced": lost.writes, "survived": lost.survived})


async def load(machine: Machine, name: str, told: Told, rng: random.Random, freezes: bool) -> None:
    """Callers at work until the power is gone in the middle of it; what they still wait for never comes."""
    stop = asyncio.Event()
    callers = [
        Caller(f"{name}-{i}", machine.service.url, told, random.Random(f"{name} {i} {rng.random()}"), stop)
        for i in range(CALLERS)
    ]
    tasks = [asyncio.create_task(caller.run()) for caller in callers]
    await asyncio.sleep(rng.uniform(*LOAD_S))
    if freezes and (pid := machine.service.store_pid()) is not None:
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(rng.uniform(0.1, 2.0))
        if rng.random() < 0.5:  # half of the losses find what is in the journal on its way to the store
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(rng.expovariate(10))
    await asyncio.to_thread(machine.lose_power, rng.choice(KEEPS) if freezes else "nothing", rng)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def rows_of(data: Path) -> int:
    """How many static answers a journal holds; looked at in a copy, for looking changes it."""
    with tempfile.TemporaryDirectory() as name:
        for path in data.glob("journal.db*"):
            shutil.copy(path, name)
        with contextlib.closing(sqlite3.connect(Path(name) / "journal.db")) as db:
            try:
                return int(db.execute("SELECT count(*) FROM answers").fetchone()[0])
            except sqlite3.OperationalError:  # nothing was ever written
                return 0


def only_answered(told: Told) -> None:
    """Forget what was asked and never answered, and settlements that nobody confirmed: nothing was promised of them."""
    for request_id in set(told.asked) - set(told.answers):
        del told.asked[request_id]
    told.unanswered.clear()


def safe(library: Path, rounds: int, args: Any, found: Found) -> Counter[str]:
    """So many losses of power in a row on one machine, then every answer of all of them is checked."""
    rng = random.Random(args.seed)
    told = Told()
    with tempfile.TemporaryDirectory() as name:
        machine = Machine(Path(name), library, durability="safe")
        with machine.service:
            asyncio.run(open_lines(machine.service.url))
            for number in range(rounds):
                before = len(told.answers)
                freezes = rng.random() < FROZEN_SHARE
                asyncio.run(load(machine, f"p{number}", told, rng, freezes))
                only_answered(told)
                machine.service.start()
                say(f"safe {number + 1}: {len(told.answers) - before} answers{', frozen' if freezes else ''}")
            asyncio.run(Check(machine.service, told, found, settled=False).run())
        return machine.lost


def fast(library: Path, rounds: int, args: Any) -> tuple[int, int, float]:
    """Answers lost, of how many, and the age in seconds of the oldest one lost: the worst of so many losses."""
    lost, answered, oldest_s = 0, 0, 0.0
    for number in range(rounds):
        rng = random.Random(f"{args.seed} {number}")
        told = Told()
        with tempfile.TemporaryDirectory() as name:
            machine = Machine(Path(name), library, durability="fast")
            with machine.service:
                asyncio.run(open_lines(machine.service.url))
                asyncio.run(load(machine, f"f{number}", told, rng, freezes=False))
            kept = frames_on(machine.service.data)
        gone_at = max(told.answered_at.values())
        gone = [
            request_id
            for request_id, body in told.answers.items()
            if answer_in(kept.get(orjson.loads(body)["decision_id"], b"") or NOTHING) != body
        ]
        lost, answered = lost + len(gone), answered + len(told.answers)
        oldest_s = max([oldest_s, *(gone_at - told.answered_at[request_id] for request_id in gone)])
        say(f"fast {number + 1}: {len(gone)} of {len(told.answers)} answers are gone")
    return lost, answered, oldest_s


NOTHING: Final = b"DSF1" + bytes(24)  # a frame of empty sections


def frames_on(data: Path) -> dict[str, bytes]:
    """The decisions that a server finds in a directory that lost its power."""
    with PlainStore(data) as store, store.client() as client:
        return frames_in(client)


def measure(result: Result, args: Any) -> None:
    """Both profiles."""
    found = Found()
    with tempfile.TemporaryDirectory() as name:
        library = build(Path(name))
        if library is None:
            sys.exit("power_loss: skipped, a C compiler and LD_PRELOAD are needed")
        losses = safe(library, args.rounds, args, found)
        lost, answered, oldest_s = fast(library, args.fast_rounds, args)
    result.figures += [
        Figure("power lost under load, profile safe", losses["losses"], args.rounds, "at least", "times"),
        Figure("... acknowledged decisions lost or changed", found.lost + found.different, 0),
        Figure("... facilities over-lent at any moment", found.over_lent, 0),
        Figure("... decisions not in the outbox exactly once", found.outbox_missing + found.outbox_twice, 0),
        Figure("... logs that disagree with the answers", found.settlement_wrong + sum(found.odd.values()), 0),
        Figure("... acknowledged decisions checked", found.acknowledged, sense="told"),
        Figure("... of them static, from the journal", found.rungs["static"], sense="told"),
        Figure("profile fast: age of the oldest decision lost", oldest_s, FAST_BOUND_S, "at most", "s"),
        Figure("... lost", 100 * lost / max(answered, 1), sense="told", unit="% of a few seconds' load"),
    ]
    result.notes |= {
        "safe": dict(losses), "rungs": dict(found.rungs), "odd": dict(found.odd), "wrong": found.examples,
        "fast": {"rounds": args.fast_rounds, "answered": answered, "lost": lost},
    }  # fmt: skip


def main() -> int:
    """Parse options, run, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, help="losses of power in profile safe (20, or 2 with --quick)")
    parser.add_argument("--fast-rounds", type=int, help="losses of power in profile fast (5, or 1 with --quick)")
    args = parser.parse_args()
    args.rounds = args.rounds or (2 if args.quick else 20)
    args.fast_rounds = args.fast_rounds or (1 if args.quick else 5)
    return run("power_loss", args, lambda result: measure(result, args))


if __name__ == "__main__":
    sys.exit(main())
