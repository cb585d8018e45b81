"""The embedded server: private, safe, one a directory, and gone when the service is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_cases import T, record

from decision_service.core.errors import SettingInvalid, StoreUnavailable, StoreUnsafe
from decision_service.core.event import EMPTY_LOG
from decision_service.store import Commit
from decision_service.store.embedded import EmbeddedServer
from decision_service.store.open import open_store

SERVICE = """
import sys, time
from pathlib import Path
from decision_service.store.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1])).start()
print(server.url, server.pid, flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_gone(pid: int) -> None:
    for _ in range(1_000):
        if not alive(pid):
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} is still there")


async def version_of(url: str, customer_id: str) -> int:
    store = open_store(url)
    try:
        return (await store.read(customer_id, None, T)).version
    finally:
        await store.close()


async def commit_to(url: str, customer_id: str, expected_version: int) -> int:
    store = open_store(url)
    try:
        return await store.commit(Commit(customer_id, expected_version, record(1)), T)
    finally:
        await store.close()


class Service:
    """A service process with an embedded store, which prints the store's URL and the server's pid."""

    def __init__(self, data_dir: Path) -> None:
        command = [sys.executable, "-c", SERVICE, str(data_dir)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def told(self) -> tuple[str, int]:
        assert self.process.stdout is not None
        url, pid = self.process.stdout.readline().split()
        return url, int(pid)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.kill()


def test_embedded_store_is_safe_and_keeps_its_data(tmp_path: Path) -> None:
    """A store without a URL passes its own check, and a second start finds what the first one wrote."""

    async def first() -> None:
        store = open_store(None, data_dir=tmp_path)
        assert list(await store.check()) == []
        await store.commit(Commit("c-1", 0, record(1)), T)
        await store.close()

    async def second() -> None:
        store = open_store(None, data_dir=tmp_path)
        state = await store.read("c-1", None, T)
        assert (state.version, state.log) == (1, EMPTY_LOG + record(1))
        await store.close()

    asyncio.run(first())
    asyncio.run(second())


def test_embedded_fast_profile_syncs_every_second(tmp_path: Path) -> None:
    """Profile fast starts a server that its own check accepts and the safe one does not."""

    async def check() -> None:
        store = open_store(None, data_dir=tmp_path, profile="fast")
        assert list(await store.check()) == []
        other = open_store(store.server.url, profile="safe")  # type: ignore[attr-defined]
        assert ["appendfsync is everysec" in problem for problem in await other.check()] == [True]
        await other.close()
        await store.close()

    asyncio.run(check())


def test_embedded_server_is_private(tmp_path: Path) -> None:
    """Nobody else may enter the socket's directory, the server has no port, and both are gone afterwards."""
    with EmbeddedServer(tmp_path) as server:
        socket = Path(server.url.removeprefix("unix://"))
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        pid = server.pid
    assert not socket.parent.exists()
    assert not alive(pid)
    server.stop()


def test_embedded_workers_share_one_server(tmp_path: Path) -> None:
    """Several stores opened by the URL see one another's commits."""
    with EmbeddedServer(tmp_path) as server:
        assert asyncio.run(commit_to(server.url, "c-1", 0)) == 1
        assert asyncio.run(version_of(server.url, "c-1")) == 1


def test_embedded_second_service_is_refused(tmp_path: Path) -> None:
    """A directory in use is refused at once, naming the process that uses it, and the first goes on undisturbed."""
    with EmbeddedServer(tmp_path) as server:
        with pytest.raises(StoreUnsafe, match=f"in use by process {os.getpid()} and {server.pid}"):
            EmbeddedServer(tmp_path).start()
        assert asyncio.run(commit_to(server.url, "c-1", 0)) == 1


def test_embedded_server_dies_with_a_killed_service(tmp_path: Path, service: Service) -> None:
    """kill -9 of the service ends the server cleanly, and the next start has the data and sweeps what was left."""
    url, server_pid = service.told()
    assert asyncio.run(commit_to(url, "c-1", 0)) == 1
    service.kill()
    wait_gone(server_pid)
    with EmbeddedServer(tmp_path) as server:
        assert not Path(url.removeprefix("unix://")).parent.exists()
        assert asyncio.run(version_of(server.url, "c-1")) == 1


def test_embedded_successor_waits_for_a_server_still_stopping(tmp_path: Path, service: Service) -> None:
    """While the server of a killed service is still there a new one does not start beside it."""
    url, server_pid = service.told()
    assert asyncio.run(commit_to(url, "c-1", 0)) == 1
    os.kill(server_pid, signal.SIGSTOP)
    service.kill()
    successor = Service(tmp_path)
    try:
        time.sleep(0.5)
        assert (successor.process.poll(), alive(server_pid)) == (None, True)
        os.kill(server_pid, signal.SIGCONT)
        new_url, _ = successor.told()
        assert not alive(server_pid)
        assert asyncio.run(version_of(new_url, "c-1")) == 1
    finally:
        successor.kill()


@pytest.mark.fault("A02")
def test_embedded_killed_server_keeps_acknowledged_commits(tmp_path: Path, service: Service) -> None:
    """kill -9 of the server itself loses nothing that was acknowledged."""
    url, server_pid = service.told()
    for version in range(20):
        assert asyncio.run(commit_to(url, "c-1", version)) == version + 1
    os.kill(server_pid, signal.SIGKILL)
    service.kill()
    with EmbeddedServer(tmp_path) as server:
        assert asyncio.run(version_of(server.url, "c-1")) == 20


def test_embedded_broken_data_is_told(tmp_path: Path) -> None:
    """A server that cannot start says why, leaves no lock and no process behind."""
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(StoreUnavailable, match="manifest"):
        EmbeddedServer(tmp_path).start()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").unlink()
    with EmbeddedServer(tmp_path):
        pass


def test_embedded_long_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary directory whose path is too long for a socket does not keep the store from starting."""
    long = tmp_path / ("t" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with EmbeddedServer(tmp_path / "data") as server:
        assert len(server.url) < 108
        assert asyncio.run(version_of(server.url, "c-1")) == 0


def test_embedded_needs_a_directory() -> None:
    """Without a URL and without a data directory there is no store."""
    with pytest.raises(SettingInvalid, match="data_dir"):
        open_store(None)
