"""Disks that are full, tear what is written, fail to sync, or lose a file: of the store and of the journal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from bank import RECOVERY_S, Bank, Said
from network import Network

from decision_service.core.errors import JournalUnavailable, StoreError
from decision_service.core.event import APPROVED, DRAWDOWN, Event
from decision_service.core.limits import PARTITIONS, RECORD_BYTES
from decision_service.journal import StaticRow
from decision_service.journal.local import LocalJournal
from decision_service.store import Commit, Store, keys
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "faults"
sys.path.append(str(BENCHMARKS))

from power_shim import build, environment, forget_mapped, lose_power  # noqa: E402

T = 5.0  # seconds; generous, no test measures time


# --- the store's disk -------------------------------------------------------------------------------------------


async def commit(store: Store, number: int) -> str:
    """One decision of a customer of its own; its id."""
    customer = f"c-{number}"
    decision_id = keys.decision_id_of(customer, "r", PARTITIONS)
    state = await store.read(customer, decision_id, T)
    await store.commit(Commit(customer, state.version, decision=(decision_id, b"f" * 1_000)), T)
    return decision_id


async def fill(store: Store, first: int) -> list[str]:
    """Commit until one is refused; the ids of those that were not."""
    ids = []
    with contextlib.suppress(StoreError):
        for number in range(first, first + 5_000):
            ids.append(await commit(store, number))
        raise AssertionError("the disk is never full")
    return ids


async def goes_on(store: Store, number: int) -> str:
    """Commit once the store takes it."""
    for _ in range(int(RECOVERY_S / 0.05)):
        with contextlib.suppress(StoreError):
            return await commit(store, number)
        await asyncio.sleep(0.05)
    raise AssertionError("the store never takes a commit again")


async def all_there(url: str, ids: list[str], **options: Any) -> bool:
    """Whether a store has all of these decisions."""
    store = open_store(url, **options)
    try:
        return all([await store.read_decision(one, T) == b"f" * 1_000 for one in ids])
    finally:
        await store.close()


def longest_file(server: ValkeyServer) -> int:
    """The size in bytes of the longest file that a server writes."""
    return max(path.stat().st_size for path in server.directory.rglob("*") if path.is_file())


@pytest.mark.anyio
@pytest.mark.fault("B08")
async def test_a_full_disk_under_a_store_that_syncs_each_second_refuses_commits(tmp_path: Path) -> None:
    """MISCONF: reads go on, commits are refused; with room again commits go on, and what was acknowledged is there."""
    server = ValkeyServer(tmp_path, "--appendonly", "yes", "--appendfsync", "everysec", safe=False).start()
    store = open_store(server.url, profile="fast")
    try:
        ids = [await commit(store, number) for number in range(10)]
        server.limit_files(longest_file(server) + 50_000)
        ids += await fill(store, 10)
        with server.client() as client:
            assert client.info("persistence")["aof_last_write_status"] == "err"
        assert await store.read_decision(ids[0], T) == b"f" * 1_000
        server.limit_files(None)
        ids.append(await goes_on(store, 9_999))
        server.kill()
        server.start()
        assert await all_there(server.url, ids, profile="fast")
    finally:
        await store.close()
        server.stop()


@pytest.mark.anyio
@pytest.mark.fault("B09")
async def test_a_full_disk_ends_a_store_that_always_syncs_and_loses_nothing(valkey_private: ValkeyServer) -> None:
    """It ends rather than answer what it cannot keep; started with room again it has all that it acknowledged."""
    store = open_store(valkey_private.url)
    try:
        ids = [await commit(store, number) for number in range(10)]
        valkey_private.limit_files(longest_file(valkey_private) + 50_000)
        ids += await fill(store, 10)
        with pytest.raises(StoreError):
            await commit(store, 9_998)
        valkey_private.stop()  # reaps it: it ended by itself
        assert "AOF" in (valkey_private.directory / "server.log").read_text()
        valkey_private.start()
        ids.append(await goes_on(store, 9_999))
        assert await all_there(valkey_private.url, ids)
    finally:
        await store.close()


def whole_customers(server: ValkeyServer) -> tuple[int, int]:
    """How many customers are whole, and how many are not: a decision has its version, record and outbox entry."""
    whole = torn = 0
    with server.client() as client:
        entries = {entry[b"id"] for key in client.keys("*:out") for _, entry in client.xrange(key)}
        for number in range(60):
            customer = f"c-{number}"
            partition = keys.partition_of(customer, PARTITIONS)
            decision_id = keys.decision_id_of(customer, "r", PARTITIONS)
            parts = {
                client.hget(keys.meta_key(partition, customer), keys.VERSION_FIELD) == b"1",
                client.strlen(keys.log_key(partition, customer)) == 2 * RECORD_BYTES,
                client.get(keys.decision_key(partition, decision_id)) == b"f" * 1_000,
                decision_id.encode() in entries,
            }
            whole += parts == {True}
            torn += parts == {True, False}
    return whole, torn


@pytest.mark.anyio
@pytest.mark.fault("B14")
async def test_an_append_only_file_that_is_cut_off_holds_whole_decisions_only(
    tmp_path: Path, valkey_private: ValkeyServer
) -> None:
    """Cut anywhere, it loads, and each customer's change is there with all its parts or with none."""
    store = open_store(valkey_private.url)
    try:
        for number in range(60):
            customer = f"c-{number}"
            decision_id = keys.decision_id_of(customer, "r", PARTITIONS)
            state = await store.read(customer, decision_id, T)
            records = Event(key=number + 1, kind=DRAWDOWN, status=APPROVED, occurred_at_ms=1_795_000_000_000).pack()
            decision = decision_id, b"f" * 1_000
            await store.commit(Commit(customer, state.version, records, decision=decision), T)
    finally:
        await store.close()
    valkey_private.kill()
    data = valkey_private.directory / "appendonlydir"
    name = max(data.iterdir(), key=lambda path: path.stat().st_size).name
    size = (data / name).stat().st_size
    rng = random.Random(14)
    found = []
    for case in range(12):
        server = ValkeyServer(tmp_path / f"cut-{case}")
        shutil.copytree(data, server.directory / "appendonlydir")
        with (server.directory / "appendonlydir" / name).open("r+b") as file:
            file.truncate(rng.randrange(size))
        server.start()
        try:
            whole, torn = whole_customers(server)
        finally:
            server.stop()
        assert torn == 0
        found.append(whole)
    assert 0 < max(found) <= 60
    assert min(found) < 60


# --- the journal's disk -----------------------------------------------------------------------------------------


def row(number: int) -> StaticRow:
    """The n-th static answer, of a customer of its own."""
    decision_id = f"d000{number:032x}"
    return StaticRow(decision_id, f"c-{number}", 0, 1_795_000_000_000 + number, b"%d " % number * 200, b"", b"", b"")


def with_journal(directory: Path, test: Callable[[LocalJournal], Awaitable[Any]]) -> Any:
    """Run a coroutine function with the journal of a directory."""

    async def go() -> Any:
        journal = LocalJournal(directory)
        try:
            return await test(journal)
        finally:
            await journal.close()

    return asyncio.run(go())


async def numbers_in(journal: LocalJournal) -> list[int]:
    """The rows of a journal, by their numbers; AssertionError if one of them is not as it was written."""
    rows = await journal.oldest(0, 10_000)
    found = [int(one.decision_id[4:], 16) for one in rows]
    assert [one._replace(seq=0) for one in rows] == [row(number) for number in found]
    assert journal.pending == len(found)
    return found


@pytest.mark.fault("H06")
def test_a_torn_tail_of_the_journal_costs_only_what_it_tore(tmp_path: Path) -> None:
    """Cut anywhere, or full of rubbish from there on, the journal opens with whole rows only, the first ones."""
    written = tmp_path / "written"

    async def write(journal: LocalJournal) -> None:
        for number in range(40):
            await journal.write(row(number))
        shutil.copytree(written, tmp_path / "copy")  # as a kill -9 would leave it

    with_journal(written, write)
    whole = (tmp_path / "copy" / "journal.db-wal").read_bytes()
    rng = random.Random(6)
    found = []
    for case in range(16):
        torn = tmp_path / f"torn-{case}"
        shutil.copytree(tmp_path / "copy", torn)
        forget_mapped(torn)
        cut = rng.randrange(len(whole) // 4, len(whole))
        (torn / "journal.db-wal").write_bytes(whole[:cut] + rng.randbytes(rng.choice((0, 10_000))))

        async def look(journal: LocalJournal) -> list[int]:
            numbers = await numbers_in(journal)
            await journal.write(row(1_000))
            return numbers

        numbers = with_journal(torn, look)
        assert numbers == list(range(len(numbers)))
        assert with_journal(torn, numbers_in) == [*numbers, 1_000]
        found.append(len(numbers))
    assert 0 < max(found) < 40


def take_away(directory: Path, pattern: str, how: str) -> None:
    """Remove files, or rename them."""
    for path in directory.glob(pattern):
        path.unlink() if how == "removed" else path.rename(path.with_name(f"old-{path.name}"))


@pytest.mark.fault("H08")
@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_journal_that_is_taken_away_is_made_again_with_all_its_rows(tmp_path: Path, how: str) -> None:
    """The next write notices, and brings what was told along into a new file; another process finds all of it there."""

    async def test(journal: LocalJournal) -> list[int]:
        for number in range(5):
            await journal.write(row(number))
        take_away(tmp_path, "journal.db*", how)
        await journal.write(row(5))
        assert journal.find(row(2).decision_id) is not None
        return await numbers_in(journal)

    assert sorted(with_journal(tmp_path, test)) == [0, 1, 2, 3, 4, 5]
    assert sorted(with_journal(tmp_path, numbers_in)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.fault("H08")
def test_a_journal_that_is_taken_away_is_noticed_without_a_write(tmp_path: Path) -> None:
    """Looking after itself is enough: nobody has to be told anything in between."""

    async def test(journal: LocalJournal) -> list[int]:
        for number in range(5):
            await journal.write(row(number))
        take_away(tmp_path, "journal.*", "removed")
        await journal.settle()
        assert (tmp_path / "journal.db").exists()
        return await numbers_in(journal)

    assert with_journal(tmp_path, test) == [0, 1, 2, 3, 4]
    assert with_journal(tmp_path, numbers_in) == [0, 1, 2, 3, 4]


FAILING = """
import asyncio, os, signal, sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from decision_service.core.errors import JournalUnavailable
from decision_service.journal.local import LocalJournal
from test_faults_disk import row

async def go():
    journal = LocalJournal(Path(sys.argv[1]))
    for number in range(12):
        if number % 3 == 1:
            Path(sys.argv[2]).write_text("journal.db")
        try:
            await journal.write(row(number))
        except JournalUnavailable:
            print("refused", number, flush=True)
        else:
            print("told", number, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(go())
"""


@pytest.mark.fault("H07")
def test_a_sync_that_fails_once_is_never_taken_for_one_that_did_not(tmp_path: Path) -> None:
    """fsync says EIO now and then: that answer is not told, the next ones are, and of these a power loss takes none."""
    library = build(tmp_path)
    if library is None:
        pytest.skip("needs a C compiler and LD_PRELOAD")
    data, notes = tmp_path / "data", tmp_path / "notes"
    data.mkdir()
    shim = environment(library, data, notes)
    paths = [*sys.path, str(Path(__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-c", FAILING, str(data), shim["POWER_EIO"], *paths], env=os.environ | shim,
        stdout=subprocess.PIPE, text=True, timeout=120, check=False,
    )  # fmt: skip
    said = [line.split() for line in done.stdout.splitlines()]
    told = {int(number) for what, number in said if what == "told"}
    refused = {int(number) for what, number in said if what == "refused"}
    assert refused == {1, 4, 7, 10}
    assert len(told) == 8
    assert lose_power(notes, data, "nothing", random.Random(7)).writes > 0
    forget_mapped(data)
    assert told <= set(with_journal(data, numbers_in))


async def static_soon(bank: Bank, prefix: str) -> Said:
    """The first static answer to a new request."""
    said = None
    for n in range(100):
        said = await bank.draw(f"{prefix}-{n}", deadline_ms=1_000)
        if said.rung == "static":
            return said
        await asyncio.sleep(0.05)
    raise AssertionError(f"no static answer: {said}")


def limit_files(network: Network, size: int | None) -> None:
    """Let no file of the service grow beyond so many bytes; None lifts that."""
    for pid in network.service.worker_pids():
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


@pytest.mark.slow
@pytest.mark.fault("H05")
def test_a_full_disk_under_the_journal_tells_no_answer_that_is_not_kept(network_private: Network) -> None:
    """Without room a frozen store means 503 and never a static answer; full decisions go on; room heals it."""
    network = network_private

    async def go() -> None:
        async with network.bank() as bank:
            await bank.open_lines()
            assert (await bank.draw("before")).rung == "full"
            network.server.freeze()
            await static_soon(bank, "with-room")
            limit_files(network, (network.service.directory / "data" / "journal.db-wal").stat().st_size)
            without = await bank.draws("without-room", 20)
            network.server.thaw()
            await bank.recovered("thawed")
            network.server.freeze()
            without += await bank.draws("still-without-room", 20)
            assert {said.status for said in without} == {503}
            ready, told = await bank.ready()
            assert not ready, told
            network.server.thaw()
            limit_files(network, None)
            await bank.recovered("healed")
            network.server.freeze()
            await static_soon(bank, "with-room-again")
            network.server.thaw()
            await bank.recovered("at-last")
            await bank.judge()

    asyncio.run(go())


# --- power ------------------------------------------------------------------------------------------------------


WRITING = """
import os, signal, sys
os.chdir(sys.argv[1])
one = os.open("appended", os.O_CREAT | os.O_RDWR | os.O_APPEND)
os.write(one, b"kept "); os.fsync(one); os.write(one, b"gone "); os.write(one, b"gone too")
two = os.open("overwritten", os.O_CREAT | os.O_RDWR)
os.write(two, b"0123456789"); os.fdatasync(two)
os.pwrite(two, b"AB", 2); os.ftruncate(two, 5); os.pwrite(two, b"ZZ", 8)
os.rename("overwritten", "renamed")
three = os.open("failed", os.O_CREAT | os.O_RDWR)
open(os.environ["POWER_EIO"], "w").write("failed")
os.write(three, b"lost")
try:
    os.fsync(three)
except OSError as error:
    assert error.errno == 5
os.fsync(three)
os.pwrite(three, b"!", 4); os.fsync(three)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_power_library_takes_away_exactly_what_was_not_synced(tmp_path: Path) -> None:
    """Appended, overwritten, cut, renamed; and what failed to sync once is gone although a later sync succeeded."""
    library = build(tmp_path)
    if library is None:
        pytest.skip("needs a C compiler and LD_PRELOAD")
    data, notes = tmp_path / "data", tmp_path / "notes"
    data.mkdir()
    shim = environment(library, data, notes)
    subprocess.run([sys.executable, "-c", WRITING, str(data)], env=os.environ | shim, timeout=60, check=False)
    assert (data / "renamed").read_bytes() == b"01AB4\0\0\0ZZ"
    assert lose_power(notes, data, "nothing", random.Random(1)).writes == 6
    assert (data / "appended").read_bytes() == b"kept "
    assert (data / "renamed").read_bytes() == b"0123456789"
    assert (data / "failed").read_bytes() == b"\0\0\0\0!"
    assert lose_power(notes, data, "nothing", random.Random(1)).writes == 0


@pytest.mark.slow
@pytest.mark.fault("B16")
def test_power_loss_takes_nothing_that_was_acknowledged() -> None:
    """One small run of the benchmark: nothing lost in profile safe, within its bound in profile fast."""
    if shutil.which("gcc") is None:
        pytest.skip("needs a C compiler")
    command = [sys.executable, str(BENCHMARKS / "power_loss.py"), "--rounds", "2", "--fast-rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_journal_says_what_fails(tmp_path: Path) -> None:
    """A directory that is no directory is told at once."""
    (tmp_path / "data").write_text("")
    with pytest.raises(JournalUnavailable):
        with_journal(tmp_path / "data", numbers_in)
