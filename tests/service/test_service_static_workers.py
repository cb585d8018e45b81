"""Two workers of one host, one journal, one store: whatever one of them tells, the other and the store never deny.

`Scripted` stands between a service and the store: each of its reads and commits is let through, refused, lost on its
way there or on its way back, as the test says, so any interleaving that `journal/__init__.py` speaks of can be set up.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from conftest_service import LINE, Clock, ask
from static_cases import Host, clean, delivered, said, start_host

from decision_service.answer import Answer
from decision_service.core.errors import (
    DeadlineExceeded,
    DecisionServiceError,
    JournalUnavailable,
    OutcomeUnknown,
    StoreUnavailable,
)
from decision_service.core.event import words_of
from decision_service.core.ledger import position_of
from decision_service.core.limits import HOUR_MS
from decision_service.core.state import CustomerState
from decision_service.decision_log import answer_in
from decision_service.journal import StaticRow
from decision_service.journal.local import LocalJournal
from decision_service.journal.memory import MemoryJournal, MemorySentTable
from decision_service.journal.sent import SentTables
from decision_service.store import Commit
from decision_service.store.keys import decision_id_of
from decision_service.store.memory import MemoryStore

Gate = Callable[[str], Awaitable[str]]


async def _open(_what: str) -> str:
    return ""


class Scripted(MemoryStore):
    """One worker's way to a store that others use as well. `gate(what)` is awaited before each read and commit and
    says what becomes of it: `down` is refused, `lost` never arrives, of `unheard` the reply is lost, else it passes."""

    def __init__(self, shared: MemoryStore) -> None:
        super().__init__(partitions=16)
        self.__dict__.update(shared.__dict__)
        self.gate: Gate = _open

    async def read(self, customer_id: str, decision_id: str | None, timeout_s: float) -> CustomerState:
        """Read, if the gate lets it."""
        if await self.gate("read"):
            raise StoreUnavailable("away")
        return await super().read(customer_id, decision_id, timeout_s)

    async def read_decision(self, decision_id: str, timeout_s: float) -> bytes | None:
        """Read, if the gate lets it."""
        if await self.gate("ask"):
            raise StoreUnavailable("away")
        return await super().read_decision(decision_id, timeout_s)

    async def commit(self, commit: Commit, timeout_s: float) -> int:
        """Commit, if the gate lets it."""
        verdict = await self.gate("commit")
        if verdict == "down":
            raise StoreUnavailable("away")
        if verdict == "lost":
            raise OutcomeUnknown("lost")
        version = await super().commit(commit, timeout_s)
        if verdict == "unheard":
            raise OutcomeUnknown("unheard")
        return version


async def down(_what: str) -> str:
    """Nothing passes."""
    return "down"


def with_two(tmp_path: Path, test: Callable[[Host, Host], Awaitable[Any]], *, on_disk: bool = False) -> None:
    """Run a test with two workers of one host on one store."""

    async def go() -> None:
        shared = MemoryStore(partitions=16)
        clock, marks = Clock(), list[set[str]]()
        journal = MemoryJournal()
        hosts, ends, files = [], [], []
        for n in range(2):
            store = Scripted(shared)
            used: Any = LocalJournal(tmp_path) if on_disk else journal
            sent: Any = SentTables(tmp_path) if on_disk else MemorySentTable(marks)
            files += [(used, sent)] if on_disk else []
            host, end = await start_host(tmp_path / str(n), store, used, sent, clock)
            hosts.append(host)
            ends.append(end)
        try:
            await hosts[0].customers.put_facility(LINE)
            await test(*hosts)
        finally:
            for end in ends:
                await end()
            for used, sent in files:
                await used.close()
                sent.close()

    asyncio.run(go())


def gate_of(host: Host) -> Scripted:
    """A worker's way to the store."""
    assert isinstance(host.store, Scripted)
    return host.store


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_what_one_worker_told_the_other_tells(tmp_path: Path, on_disk: bool) -> None:
    """One worker has lost the store and tells a static answer; the other, which has the store, tells the same."""

    async def test(one: Host, other: Host) -> None:
        gate_of(one).gate = down
        first = await one.decide(ask("r-1"))
        assert said(first)["rung"] == "static"
        again = await other.decide(ask("r-1"))
        assert (again.body, again.replayed) == (first.body, True)
        assert said(await other.decide(ask("r-2")))["rung"] == "full", "another request is decided, after the first"
        await delivered(other)
        assert (await other.decide(ask("r-1"))).body == first.body
        gate_of(one).gate = _open
        assert (await one.decide(ask("r-1"))).body == first.body
        records = words_of((await other.store.read("c-1", None, 1)).log)
        assert len(records) == 1 + 2

    with_two(tmp_path, test, on_disk=on_disk)


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_a_commit_on_its_way_keeps_the_other_worker_silent(tmp_path: Path, on_disk: bool) -> None:
    """While one worker's commit is on its way, the other has no store and writes a row, and does not tell it; then the
    commit happens, is told, and the row goes without a word."""

    async def test(one: Host, other: Host) -> None:
        going, arrive = asyncio.Event(), asyncio.Event()

        async def hold(what: str) -> str:
            if what == "commit":
                going.set()
                await arrive.wait()
            return ""

        gate_of(one).gate, gate_of(other).gate = hold, down
        deciding = asyncio.create_task(one.decide(ask("r-1")))
        await going.wait()
        with pytest.raises(OutcomeUnknown):
            await other.decide(ask("r-1"))
        assert other.journal.pending == 0, "it knew before it wrote"
        arrive.set()
        assert said(await deciding)["rung"] == "full"

    with_two(tmp_path, test, on_disk=on_disk)


def test_a_row_that_was_told_is_never_doubted(tmp_path: Path) -> None:
    """A row is told; then two workers are asked again at once, and one of them sees the mark that the other makes for a
    moment. It tells nothing for now; the row stays told."""

    async def test(one: Host, other: Host) -> None:
        journal = one.journal
        assert isinstance(journal, MemoryJournal)
        gate_of(one).gate = down
        first = await one.decide(ask("r-1"))
        decision_id = decision_id_of("c-1", "r-1", 16)
        other.sent.mark(decision_id)  # for a moment: `one` does not trust the row, and asks the store

        async def unseen(_what: str) -> str:
            other.sent.unmark(decision_id)  # gone when it looks before it writes
            return "down"

        async def seen() -> None:
            other.sent.mark(decision_id)  # there again when it looks after

        gate_of(one).gate, journal._before_write = unseen, seen
        with pytest.raises(OutcomeUnknown):
            await one.decide(ask("r-1"))
        assert not journal.rows[decision_id].doubtful
        other.sent.unmark(decision_id)
        assert (await one.decide(ask("r-1"))).body == first.body

    with_two(tmp_path, test)


def test_a_delivered_answer_stays_sent_when_an_older_attempt_fails(tmp_path: Path) -> None:
    """A commit is slow on its way; meanwhile the doubtful row of another worker is delivered under its id. The commit
    finds the customer changed and the store goes away: no static answer may be told, for the store has one."""

    async def test(one: Host, other: Host) -> None:
        journal = one.journal
        assert isinstance(journal, MemoryJournal)
        going, arrive, writing, write = (asyncio.Event() for _ in range(4))
        commits = 0

        async def hold(what: str) -> str:
            nonlocal commits
            if what == "commit":
                commits += 1
                if commits == 1:
                    going.set()
                    await arrive.wait()
                return ""
            return "down" if arrive.is_set() else ""

        async def slow_disk() -> None:
            writing.set()
            await write.wait()

        journal._before_write = slow_disk
        gate_of(one).gate, gate_of(other).gate = hold, down
        telling = asyncio.create_task(other.decide(ask("r-1")))
        await writing.wait()
        deciding = asyncio.create_task(one.decide(ask("r-1"), 300))
        await going.wait()
        write.set()
        with pytest.raises(OutcomeUnknown):
            await telling
        await one.deliverer.round()
        assert journal.pending == 0
        arrive.set()
        with pytest.raises(OutcomeUnknown):
            await deciding
        assert journal.pending == 0
        gate_of(one).gate = gate_of(other).gate = _open
        assert (await one.decide(ask("r-1"))).body == (await other.decide(ask("r-1"))).body

    with_two(tmp_path, test)


@pytest.mark.parametrize("fate", ["", "down", "lost", "unheard"])
def test_a_row_written_while_a_commit_leaves_is_doubtful(tmp_path: Path, fate: str) -> None:
    """A commit leaves while a row is being written: the row is not told. If the commit is acknowledged, that is the
    answer. If the store says that it wrote nothing, the row is told after all. If nobody knows, nothing is told until
    the store can be asked."""

    async def test(one: Host, other: Host) -> None:
        journal = one.journal
        assert isinstance(journal, MemoryJournal)
        going, arrive, writing, write = (asyncio.Event() for _ in range(4))

        async def hold(what: str) -> str:
            if what == "commit":
                going.set()
                await arrive.wait()
                return fate
            return "down" if arrive.is_set() else ""

        async def slow_disk() -> None:
            writing.set()
            await write.wait()

        journal._before_write = slow_disk
        gate_of(one).gate, gate_of(other).gate = hold, down
        telling = asyncio.create_task(other.decide(ask("r-1")))
        await writing.wait()
        deciding = asyncio.create_task(one.decide(ask("r-1"), 200))
        await going.wait()
        write.set()
        with pytest.raises(OutcomeUnknown):
            await telling
        (row,) = journal.rows.values()
        assert row.doubtful
        with pytest.raises(OutcomeUnknown):
            await other.decide(ask("r-1"))
        arrive.set()
        rung = "full" if fate in ("", "unheard") else "static"
        told = set()
        if fate in ("lost", "unheard"):
            with pytest.raises(OutcomeUnknown):
                await deciding
            with pytest.raises(OutcomeUnknown):
                await other.decide(ask("r-1"))
        else:
            told.add((await deciding).body)
        if fate == "down":
            told.add((await other.decide(ask("r-1"))).body)
        gate_of(one).gate = gate_of(other).gate = _open
        await delivered(other)
        for host in (one, other):
            answer = await host.decide(ask("r-1"))
            assert said(answer)["rung"] == rung
            told.add(answer.body)
        assert len(told) == 1
        assert await journal.conflicts() == []

    with_two(tmp_path, test)


def test_an_approval_beside_a_small_amount_makes_it_a_hold(tmp_path: Path) -> None:
    """While a small amount is written without the store, another worker, which has it, approves the whole line: it saw
    no row, but the writer sees its mark, and holds. Nothing of the small amount comes to stand in the log."""

    async def test(one: Host, other: Host) -> None:
        journal = one.journal
        assert isinstance(journal, MemoryJournal)
        writing, write = asyncio.Event(), asyncio.Event()

        async def slow_disk() -> None:
            writing.set()
            await write.wait()

        journal._before_write = slow_disk
        gate_of(other).gate = down
        telling = asyncio.create_task(other.decide(clean("r-1", 500_00)))
        await writing.wait()
        assert said(await one.decide(clean("r-2", 1_000_00)))["approved_amount"] == 1_000
        write.set()
        held = await telling
        assert (said(held)["decision"], said(held)["rung"]) == ("hold", "static")
        assert (await other.decide(clean("r-1", 500_00))).body == held.body
        await delivered(one)
        assert (await one.decide(clean("r-1", 500_00))).body == held.body
        state = await one.store.read("c-1", None, 1)
        assert position_of(LINE, words_of(state.log), one.clock(), 24 * HOUR_MS).reserved_minor == 1_000_00
        assert await journal.conflicts() == []

    with_two(tmp_path, test)


@pytest.mark.fault("D07")
@pytest.mark.parametrize("then", ["store", "approval", "late", "soon"])
@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_a_small_amount_whose_writer_died_is_lent_only_after_a_look(tmp_path: Path, on_disk: bool, then: str) -> None:
    """A worker dies when its small amount is durable and not trusted yet. With the store it is dropped and decided
    anew, after another approval too; without, a retry soon pays it after having looked, a late one holds."""

    async def test(one: Host, other: Host) -> None:
        gate_of(one).gate = gate_of(other).gate = down
        durable, never = asyncio.Event(), asyncio.Event()

        async def dies(_row: StaticRow) -> bool:
            durable.set()
            return await never.wait()

        with patch.object(one.journal, "trust", dies):
            dying = asyncio.create_task(one.decide(clean("r-1", 500_00)))
            await durable.wait()
            dying.cancel()
            await asyncio.gather(dying, return_exceptions=True)
        (row,) = other.journal.of_customer("c-1")
        assert (row.approved_minor, row.doubtful) == (500_00, True)
        amount = 500
        if then == "late":
            one.clock.ms += HOUR_MS + 1
            amount = 0
        elif then != "soon":
            gate_of(other).gate = _open
        if then == "approval":
            assert said(await other.decide(clean("r-2", 1_000_00)))["approved_amount"] == 1_000
            amount = 0
        answer = await other.decide(clean("r-1", 500_00))
        assert said(answer)["approved_amount"] == amount
        assert said(answer)["rung"] == ("full" if then in ("store", "approval") else "static")
        gate_of(one).gate = gate_of(other).gate = _open
        await delivered(one)
        assert (await one.decide(clean("r-1", 500_00))).body == answer.body
        assert await one.journal.conflicts() == []

    with_two(tmp_path, test, on_disk=on_disk)


def test_a_journal_that_fails_leaves_the_store_s_failure(tmp_path: Path) -> None:
    """Neither store nor disk: the caller hears of the store, nothing is kept, and both heal."""

    async def test(one: Host, _other: Host) -> None:
        journal = one.journal
        assert isinstance(journal, MemoryJournal)
        healthy = journal._before_write

        async def full() -> None:
            raise JournalUnavailable("full")

        journal._before_write = full
        gate_of(one).gate = down
        with pytest.raises(StoreUnavailable):
            await one.decide(ask("r-1"))
        assert (journal.pending, one.counted("refused")) == (0, 1)
        journal._before_write = healthy
        assert said(await one.decide(ask("r-1")))["rung"] == "static"

    with_two(tmp_path, test)


@pytest.mark.fault("D16")
def test_a_disk_that_hangs_is_answered_at_the_deadline(tmp_path: Path) -> None:
    """No store, and a write that does not come back: an error at the deadline. The row that is written later is the
    decision, and the retry gets it."""

    async def test(one: Host, _other: Host) -> None:
        journal = one.journal
        assert isinstance(journal, MemoryJournal)
        hanging = asyncio.Event()

        async def hang() -> None:
            await hanging.wait()

        journal._before_write = hang
        gate_of(one).gate = down
        with pytest.raises(DeadlineExceeded):
            await one.decide(ask("r-1"), 50)
        hanging.set()
        answer = await one.decide(ask("r-1"))
        assert said(answer)["rung"] == "static"
        assert (await one.decide(ask("r-1"))).body == answer.body

    with_two(tmp_path, test)


@pytest.mark.fault("D19")
@pytest.mark.parametrize("steps", range(12))
def test_a_caller_that_hangs_up_leaves_nothing_half_done(tmp_path: Path, steps: int) -> None:
    """Cancelled at any await of a static answer, the next try is answered, once, and the turn is free."""

    async def test(one: Host, other: Host) -> None:
        gate_of(one).gate = gate_of(other).gate = down
        task = asyncio.create_task(one.decide(clean("r-1", 500_00)))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        answers = [await one.decide(clean("r-1", 500_00)), await other.decide(clean("r-1", 500_00))]
        assert len({answer.body for answer in answers}) == 1
        gate_of(one).gate = gate_of(other).gate = _open
        await delivered(one)
        assert (await one.decide(clean("r-1", 500_00))).body == answers[0].body

    with_two(tmp_path, test)


@pytest.mark.fault("A03", "A05", "A06", "D02", "D07")
@pytest.mark.parametrize("seed", range(40))
def test_at_random_nothing_is_answered_twice_differently(tmp_path: Path, seed: int) -> None:
    """Two workers, a few requests each asked several times at both, a store that refuses, loses and forgets to reply at
    random: all answers to one request are the same bytes, the store ends up with exactly these, a conflict was never
    told, and no more is promised than the line."""

    async def test(one: Host, other: Host) -> None:
        rng = random.Random(seed)
        bad = rng.uniform(0.1, 0.9)

        async def moody(what: str) -> str:
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            if rng.random() > bad:
                return ""
            return rng.choice(["down", "lost", "unheard"] if what == "commit" else ["down"])

        journal = one.journal
        assert isinstance(journal, MemoryJournal)

        async def slow_disk() -> None:
            for _ in range(rng.randrange(6)):
                await asyncio.sleep(0)
            if rng.random() < 0.05:
                raise JournalUnavailable("full")

        journal._before_write = slow_disk
        gate_of(one).gate = gate_of(other).gate = moody
        told: dict[str, set[bytes]] = {}

        async def call(host: Host, name: str) -> None:
            for _ in range(rng.randrange(8)):
                await asyncio.sleep(0)
            task = asyncio.create_task(host.decide(clean(name, 400_00), 30))
            if rng.random() < 0.1:
                await asyncio.sleep(0)
                task.cancel()
            (answer,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(answer, Answer):
                told.setdefault(name, set()).add(answer.body)
            else:
                assert isinstance(answer, DecisionServiceError | asyncio.CancelledError), answer

        async def deliver() -> None:
            for _ in range(6):
                await asyncio.sleep(0.002)
                try:
                    await one.deliverer.round()
                except (StoreUnavailable, JournalUnavailable):
                    continue

        names = [f"r-{n}" for n in range(5)]
        calls = [call(rng.choice([one, other]), name) for name in names for _ in range(5)]
        await asyncio.gather(deliver(), *calls)
        gate_of(one).gate = gate_of(other).gate = _open
        journal._before_write = _at_once
        await delivered(one)
        for name in names:
            for host in (one, other):
                told.setdefault(name, set()).add((await host.decide(clean(name, 400_00))).body)
            frame = await one.store.read_decision(decision_id_of("c-1", name, 16), 1)
            assert frame is not None
            assert told[name] == {answer_in(frame)}, f"{name} was answered twice differently"
        for conflict in await journal.conflicts():  # of a row whose caller gave up before it was looked at
            assert answer_in(conflict.frame) not in set().union(*told.values())
        approved = sum(orjson.loads(next(iter(bodies)))["approved_amount"] for bodies in told.values())
        state = await one.store.read("c-1", None, 1)
        assert position_of(LINE, words_of(state.log), one.clock(), 24 * HOUR_MS).reserved_minor >= approved * 100
        assert approved <= 1_000

    with_two(tmp_path, test)


async def _at_once() -> None:
    return
