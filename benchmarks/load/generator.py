"""The load generator: a process of its own on a core of its own, with keep-alive connections and no pipelining.

    python -m load.generator     (started by `bed.py`) a pickled Plan comes on standard input; "ready" goes out when the
                                 requests are rendered and the connections are open; an empty line starts the clock; the
                                 pickled Raw goes out. Then the next Plan; the end of the input ends it.

Open loop: a request is due at an instant of the schedule whatever became of those before it. It is sent at that instant
on a free connection; if there is none it waits for one, and its latency counts from the instant it was due all the same
(so a stall of the server is counted in full: no coordinated omission). Closed loop: every connection sends its next
request as soon as it has the answer to the last one.

One thread over `epoll`, about 15 us of CPU a request: plain sockets cost less than an event loop's protocols, and a
timerfd wakes it within tens of microseconds of an instant, where an event loop's timers tick in milliseconds. What is
recorded while the clock runs are instants in lists; everything else is counted afterwards or is a few searches in an
answer's bytes. The garbage collector is off.
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import select
import signal
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

import numpy as np

from load.plan import CONNECTION_LOST, NO_ANSWER, Plan, Raw

RECEIVED_MAX: Final = 1 << 16
START_IN_NS: Final = 20_000_000
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_TFD_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC


class Timer:
    """Makes its file descriptor readable at an instant of `perf_counter_ns`."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_FLAGS)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._settime = libc.timerfd_settime
        self._spec = (ctypes.c_long * 4)()  # interval s, ns; value s, ns
        self._address = ctypes.byref(self._spec)

    def arm(self, at_ns: int) -> None:
        """Wake at this instant, at once if it has passed."""
        self._spec[2], self._spec[3] = divmod(max(at_ns, 1), 1_000_000_000)
        self._settime(self.fd, 1, self._address, None)  # 1: an absolute instant

    def close(self) -> None:
        """Release it."""
        os.close(self.fd)


class Connection:
    """A keep-alive connection with at most one request under way; `index` is its place in the recording, -1: none."""

    __slots__ = ("half", "index", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.index = -1
        self.half = b""


class Drive:
    """One run over open connections."""

    def __init__(self, plan: Plan) -> None:
        self._port = plan.port
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._free: deque[Connection] = deque()
        for _ in range(plan.connections):
            self._free.append(self._connect())
        self._operations: Sequence[int] = ()
        self.sent_ns: list[int] = []
        self.done_ns: list[int] = []
        self.answered = 0
        self.failed: list[int] = []  # places
        self.failures: Counter[str] = Counter()
        self.rungs: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.replayed = 0
        self.first_failure = ""

    def _connect(self) -> Connection:
        connection = Connection(self._port)
        self._connections[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.EPOLLIN)
        return connection

    def _drop(self, connection: Connection) -> None:
        del self._connections[connection.socket.fileno()]
        connection.socket.close()

    def _send(self, connection: Connection, index: int, request: bytes) -> None:
        connection.index = index
        self.sent_ns[index] = perf_counter_ns()
        try:
            if connection.socket.send(request) == len(request):
                return
        except OSError:  # it was closed; found out when it is read
            return
        raise RuntimeError("a request did not fit the socket's buffer")

    def _receive(self, fd: int) -> Connection | None:
        """Take what came; the connection if it is free now. A lost one is replaced."""
        connection = self._connections[fd]
        try:
            data = connection.socket.recv(RECEIVED_MAX)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            return self._lost(connection)
        if connection.half:
            data = connection.half + data
        end = data.find(b"\r\n\r\n") + 4
        at = data.find(b"ontent-length:", 0, end) if end >= 4 else -1
        if at < 0 or len(data) < end + int(data[at + 14 : data.find(b"\r", at)]):
            connection.half = data
            return None
        if connection.index < 0:
            raise RuntimeError(f"an answer nobody asked for: {data[:200]!r}")
        self.done_ns[connection.index] = perf_counter_ns()
        self.answered += 1
        self._classify(connection.index, data, end)
        connection.half, connection.index = b"", -1
        if data.find(b"onnection: close", 0, end) >= 0:
            self._drop(connection)
            return self._connect()
        return connection

    def _lost(self, connection: Connection) -> Connection | None:
        index = connection.index
        if index >= 0:
            self.done_ns[index] = perf_counter_ns()
            self.answered += 1
            self._fail(index, CONNECTION_LOST, b"")
        else:
            self._free.remove(connection)
        self._drop(connection)
        return self._connect()

    def _classify(self, index: int, data: bytes, end: int) -> None:
        if data[9:10] != b"2":
            kind = _after(data, b'"type":"', end)
            self._fail(index, f"{data[9:12].decode()} {kind.rpartition('/')[2].rpartition(':')[2]}".strip(), data)
            return
        operation = self._operations[index]
        if operation < 2:  # a decision or a preview of one
            self.rungs[_after(data, b'"rung":"', end)] += 1
            self.outcomes[_after(data, b'"decision":"', end)] += 1
            self.replayed += data.find(b"dempotency-", 0, end) >= 0
        elif operation == 2 and data.find(b'"status":"rejected"', end) >= 0:
            self._fail(index, "event rejected", data)

    def _fail(self, index: int, what: str, data: bytes) -> None:
        self.failed.append(index)
        self.failures[what] += 1
        self.first_failure = self.first_failure or data[:1_000].decode("utf-8", "replace") or what

    def open_loop(
        self, requests: Sequence[bytes], operations: Sequence[int], due_ns: list[int], drain_s: float
    ) -> list[int]:
        """Send each request when it is due; the places of those that had to wait for a connection."""
        count, next_, receive, free = len(requests), 0, self._receive, self._free
        self._operations = operations
        self.sent_ns, self.done_ns = [0] * count, [0] * count
        queue: deque[int] = deque()
        waited: list[int] = []
        timer = Timer()
        self._poll.register(timer.fd, select.EPOLLIN)
        armed = due_ns[0]
        timer.arm(armed)
        until = due_ns[-1] + int(drain_s * 1e9)
        while self.answered < count:
            for fd, _ in self._poll.poll(0.05):
                if fd == timer.fd:
                    os.read(fd, 8)
                    continue
                connection = receive(fd)
                if connection is None:
                    continue
                if queue:
                    index = queue.popleft()
                    self._send(connection, index, requests[index])
                else:
                    free.append(connection)
            now = perf_counter_ns()
            while next_ < count and due_ns[next_] <= now:
                if free:
                    self._send(free.popleft(), next_, requests[next_])
                else:
                    queue.append(next_)
                    waited.append(next_)
                next_ += 1
            if next_ < count:
                if armed != due_ns[next_]:
                    armed = due_ns[next_]
                    timer.arm(armed)
            elif now > until:
                break
        timer.close()
        return waited

    def closed_loop(self, requests: Iterator[bytes], operations: Sequence[int], until_ns: int, drain_s: float) -> None:
        """Keep every connection busy until then, and wait for the last answers. `operations` grows with `requests`."""
        self._operations = operations
        given_up_ns = until_ns + int(drain_s * 1e9)
        while self._free:
            self._next(self._free.popleft(), requests)
        now = perf_counter_ns()
        while self.answered < len(self.sent_ns) and now < given_up_ns:
            for fd, _ in self._poll.poll(0.05):
                connection = self._receive(fd)
                now = perf_counter_ns()
                if connection is None:
                    continue
                if now < until_ns:
                    self._next(connection, requests)
                else:
                    self._free.append(connection)
            now = perf_counter_ns()

    def _next(self, connection: Connection, requests: Iterator[bytes]) -> None:
        self.sent_ns.append(0)
        self.done_ns.append(0)
        self._send(connection, len(self.sent_ns) - 1, next(requests))

    def close(self) -> None:
        """Close every connection."""
        for connection in self._connections.values():
            connection.socket.close()
        self._poll.close()


def _after(data: bytes, mark: bytes, start: int) -> str:
    at = data.find(mark, start)
    return data[at + len(mark) : data.find(b'"', at + len(mark))].decode() if at >= 0 else ""


def cpu_s(pids: Sequence[int]) -> float:
    """CPU seconds so far of some processes, and of those of their children that have ended."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_PER_S


def core_s() -> dict[int, tuple[float, float]]:
    """By core the seconds in which it ran some process or was taken away by the host, and the latter alone. Interrupts
    are not counted: here they are packets over loopback, which belong to whoever sends."""
    found = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, _, _, _, _, stolen = map(int, ticks[:8])
            found[int(name[3:])] = (user + nice + system + stolen) / TICKS_PER_S, stolen / TICKS_PER_S
    return found


class _Used:
    """CPU time of the families and of this process, and of the cores, from now on."""

    def __init__(self, families: Mapping[str, Sequence[int]]) -> None:
        self._families = families
        self._before = self._now()
        self._cores = core_s()
        self._began = perf_counter_ns()

    def _now(self) -> dict[str, float]:
        return {name: cpu_s(pids) for name, pids in self._families.items()} | {"generator": time.process_time()}

    def since(self) -> tuple[dict[str, float], dict[int, tuple[float, float]], float]:
        """By family; by core, busy and stolen; and the wall time."""
        wall_s = (perf_counter_ns() - self._began) / 1e9
        used = {name: now - self._before[name] for name, now in self._now().items()}
        before = self._cores
        cores = {core: (busy - before[core][0], stolen - before[core][1]) for core, (busy, stolen) in core_s().items()}
        return used, cores, wall_s


def run(plan: Plan, ready: Any, go: Any) -> Raw:
    """Prepare, call `ready`, wait for `go`, run."""
    stream = plan.traffic.stream()
    requests, operations = stream.take(plan.prepared if plan.due_ns is None else len(plan.due_ns))
    drive = Drive(plan)
    gc.collect()
    gc.freeze()
    gc.disable()
    ready()
    go()
    try:
        used = _Used(plan.families)
        began = perf_counter_ns() + START_IN_NS
        waited: list[int] = []
        if plan.due_ns is not None:
            due = (plan.due_ns + began).tolist()
            waited = drive.open_loop(requests, operations, due, plan.drain_s)
        else:
            began = perf_counter_ns()
            more = (_noted(request, operations) for request in stream)
            drive.closed_loop(chain(requests, more), operations, began + int(plan.seconds * 1e9), plan.drain_s)
            due = drive.sent_ns
        ended = perf_counter_ns()
        cpu, cores, wall_s = used.since()
    finally:
        gc.enable()
        gc.unfreeze()
        drive.close()
    return _recorded(plan, drive, (began, ended), due, operations, waited, (cpu, cores, wall_s))


def _noted(request: tuple[bytes, int], operations: list[int]) -> bytes:
    operations.append(request[1])
    return request[0]


def _recorded(
    plan: Plan, drive: Drive, window: tuple[int, int], due: list[int], operations: list[int], waited: list[int],
    used: tuple[dict[str, float], dict[int, tuple[float, float]], float],
) -> Raw:  # fmt: skip
    count = len(due)
    done = np.array(drive.done_ns, np.int64)
    failed, late = np.zeros(count, bool), np.zeros(count, bool)
    failed[drive.failed], late[waited] = True, True
    unanswered = int(np.count_nonzero(done == 0))
    if unanswered:
        drive.failures[NO_ANSWER] += unanswered
        failed[done == 0] = True
    cpu, cores, wall_s = used
    return Raw(
        *window, plan.seconds, np.array(due, np.int64), np.array(drive.sent_ns, np.int64), done,
        np.array(operations[:count], np.uint8), failed, late, dict(drive.failures), dict(drive.rungs),
        dict(drive.outcomes), drive.first_failure or (NO_ANSWER if unanswered else ""), cpu, wall_s,
        {core: busy for core, (busy, _) in cores.items()}, {core: stolen for core, (_, stolen) in cores.items()},
        drive.replayed,
    )  # fmt: skip


def main() -> None:
    """Plans in, recordings out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    plans, answers = sys.stdin.buffer, sys.stdout.buffer

    def tell(what: object) -> None:
        pickle.dump(what, answers)
        answers.flush()

    while True:
        try:
            plan = pickle.load(plans)
        except EOFError:
            return
        tell(run(plan, lambda: tell("ready"), plans.readline))


if __name__ == "__main__":
    main()
