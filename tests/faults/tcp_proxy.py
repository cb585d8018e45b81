"""A TCP proxy that hurts what passes through it, between any client and any server on the loopback.

    proxy = TcpProxy(server_port)          # listens on a port of its own, in a thread of its own
    with proxy:
        proxy.hurt(lose_replies=True)      # from now on, for every connection, old and new
        proxy.heal()
        proxy.cut()                        # resets every connection there is

`TcpProxyProcess` is the same in a process of its own: for load, where a thread would share the test's interpreter.
`Faults` says what can be done to the bytes. A fault holds from the moment it is set, also for connections that are
open. What a client or server sees is always the beginning of what the other sent, as of any TCP connection: a direction
that lost bytes is silent for as long as the connection lasts, healed or not. Every wait is bounded by the life of the
proxy, and leaving the `with` ends all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

READ_BYTES: Final = 65_536
START_S: Final = 20.0
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


@dataclass(frozen=True, slots=True)
class Faults:
    """What happens to the bytes. Of the default nothing does."""

    delay_ms: float = 0  # each piece of a reply so much later
    jitter_ms: float = 0  # and up to so much later than that
    request_delay_ms: float = 0  # each piece of a request so much later
    lose_requests: bool = False  # swallow what comes from the client
    lose_replies: bool = False  # swallow what comes from the server, which has done what it was asked to do
    lose_requests_of: str = ""  # swallow what a connection sends from the first piece that holds this text on
    lose_replies_of: str = ""  # swallow the replies of a connection from the first request that holds this text on
    cut_at: str = ""  # reset a connection at the first request that holds this text, before it is passed on
    black_hole: bool = False  # half-open: accept, read, and say nothing for ever; no byte passes either way
    refuse: bool = False  # reset new connections at once
    slice_bytes: int = 0  # pass replies on in pieces of so many bytes, each in a packet of its own
    bytes_per_s: float = 0  # pass replies on at this rate
    silent_after_bytes: int = -1  # pass on so many bytes of replies of each connection and then nothing more
    reset_after_bytes: int = -1  # pass on so many bytes of replies of each connection and then reset it
    hide_close: bool = False  # the server closes: the client is not told


def _names(text: str, data: bytes) -> bool:
    return bool(text) and text.encode() in data


class _Connection:
    """One client, its way to the server, and what of it was passed on under the present faults."""

    def __init__(self, proxy: TcpProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._to_server: asyncio.StreamWriter | None = None
        self._under: Faults | None = None
        self._passed = 0  # bytes of replies under `_under`
        self._deaf = False  # a reply of this connection was lost: so is whatever comes after it
        self._mute = False  # a request was

    async def run(self) -> None:
        if self._proxy.faults.black_hole:
            with contextlib.suppress(OSError):
                while await self._reader.read(READ_BYTES):
                    pass
            return self.reset()
        try:
            reader, self._to_server = await asyncio.open_connection("127.0.0.1", self._proxy.upstream)
        except OSError:
            return self.reset()
        await asyncio.gather(self._requests(self._to_server), self._replies(reader))
        return None

    def _renew(self, faults: Faults) -> None:
        if self._under is not faults:
            self._under, self._passed = faults, 0

    async def _requests(self, writer: asyncio.StreamWriter) -> None:
        """From the client to the server until one of them ends."""
        with contextlib.suppress(OSError):
            while data := await self._reader.read(READ_BYTES):
                faults = self._proxy.faults
                self._renew(faults)
                self._proxy.note_request(data)
                if faults.request_delay_ms:
                    await asyncio.sleep(faults.request_delay_ms / 1000)
                if _names(faults.cut_at, data):
                    break
                self._deaf = self._deaf or _names(faults.lose_replies_of, data)
                self._mute = (
                    self._mute or faults.lose_requests or faults.black_hole or _names(faults.lose_requests_of, data)
                )
                if not self._mute:
                    writer.write(data)
                    await writer.drain()
        self.reset()

    async def _replies(self, reader: asyncio.StreamReader) -> None:
        """From the server to the client: one task reads, one passes on, so that a delay is a delay and no rate."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        passing = asyncio.create_task(self._pass_on(waiting))
        loop = asyncio.get_running_loop()
        at = 0.0
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(READ_BYTES):
                    faults = self._proxy.faults
                    late_s = (faults.delay_ms + random.random() * faults.jitter_ms) / 1000
                    at = max(at, loop.time() + late_s)
                    waiting.put_nowait((at, data))
            waiting.put_nowait((at, b""))
            await passing
        finally:
            passing.cancel()
            await asyncio.gather(passing, return_exceptions=True)

    async def _pass_on(self, waiting: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                at, data = await waiting.get()
                if at > loop.time():
                    await asyncio.sleep(at - loop.time())
                if not data:
                    break
                if not await self._reply(data):
                    return self.reset()
        if not self._proxy.faults.hide_close:
            self.reset()
        return None

    async def _reply(self, data: bytes) -> bool:
        """Pass one piece on as the faults say; False if the connection is to be reset."""
        faults = self._proxy.faults
        self._renew(faults)
        self._deaf = self._deaf or faults.lose_replies or faults.black_hole
        if self._deaf:
            return True
        cap = faults.reset_after_bytes if faults.reset_after_bytes >= 0 else faults.silent_after_bytes
        whole = len(data)
        if cap >= 0:
            data = data[: max(0, cap - self._passed)]
        self._passed += len(data)
        step = faults.slice_bytes or len(data) or 1
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(len(piece) / faults.bytes_per_s if faults.bytes_per_s else 0)
        if len(data) < whole:
            self._deaf = True
            return faults.reset_after_bytes < 0
        return True

    def reset(self) -> None:
        """End both ways; the client sees a reset, not an orderly end."""
        for writer in (self._writer, self._to_server):
            if writer is None:
                continue
            raw: socket.socket | None = writer.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class TcpProxy:
    """One listening port before one server's port. Attributes may be read from any thread."""

    def __init__(self, upstream: int, port: int = 0, *, host: str = "127.0.0.1", keep_requests: bool = False) -> None:
        """`keep_requests` keeps every byte that clients sent in `requests`, lost or not."""
        self.upstream = upstream
        self.host = host
        self.port = port
        self.faults = Faults()
        self.accepted = 0
        self.requests = bytearray()
        self._keep_requests = keep_requests
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="tcp-proxy", daemon=True)
        self._listening = threading.Event()
        self._ended: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """As the URL of a store."""
        return f"redis://127.0.0.1:{self.port}/0"

    def hurt(self, **faults: Any) -> None:
        """From now on these faults and no others. TypeError for one there is not."""
        self.faults = Faults(**faults)

    def heal(self) -> None:
        """No faults from now on. A connection that lost bytes stays silent; `cut` where the client ought to notice."""
        self.faults = Faults()

    def cut(self) -> int:
        """Reset every connection there is; how many there were."""
        done = threading.Event()
        found: list[int] = []

        def go() -> None:
            found.append(len(self._connections))
            for connection in list(self._connections):
                connection.reset()
            done.set()

        self._loop.call_soon_threadsafe(go)
        assert done.wait(START_S), "the proxy hangs"
        return found[0]

    def note_request(self, data: bytes) -> None:
        """Keep what a client sent, if that was asked for."""
        if self._keep_requests:
            self.requests += data

    def __enter__(self) -> TcpProxy:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> TcpProxy:
        """Listen."""
        self._thread.start()
        assert self._listening.wait(START_S), "the proxy does not listen"
        return self

    def stop(self) -> None:
        """End every connection and the thread."""
        if self._thread.is_alive():
            ended = self._ended
            assert ended is not None
            self._loop.call_soon_threadsafe(ended.set)
            self._thread.join(START_S)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._listen())
        finally:
            self._loop.close()

    async def _listen(self) -> None:
        self._ended = asyncio.Event()
        server = await asyncio.start_server(self._accept, self.host, self.port, backlog=1_024)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._ended.wait()
        server.close()
        tasks = list(self._connections.values())
        for connection in list(self._connections):
            connection.reset()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # for the transports to close

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = _Connection(self, reader, writer)
        if self.faults.refuse:
            connection.reset()
            return
        task = self._loop.create_task(connection.run())
        self._connections[connection] = task
        task.add_done_callback(lambda _: self._connections.pop(connection, None))


class TcpProxyProcess:
    """The same proxy in a process of its own, told what to do by lines of JSON on its standard input."""

    def __init__(self, upstream: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(upstream)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self.port = int(self._said()["port"])

    @property
    def url(self) -> str:
        """As the URL of a store."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> TcpProxyProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def hurt(self, **faults: Any) -> None:
        """See `TcpProxy.hurt`."""
        self._tell({"do": "hurt", "faults": asdict(Faults(**faults))})

    def heal(self) -> None:
        """See `TcpProxy.heal`."""
        self._tell({"do": "heal"})

    def cut(self) -> int:
        """See `TcpProxy.cut`."""
        return int(self._tell({"do": "cut"})["cut"])

    @property
    def accepted(self) -> int:
        """Connections that were accepted so far."""
        return int(self._tell({"do": "count"})["accepted"])

    @property
    def pid(self) -> int:
        """To freeze or kill it."""
        return self._process.pid

    def stop(self) -> None:
        """End it; killed if it does not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(START_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _tell(self, what: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return self._said()

    def _said(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the proxy ended"
        said: dict[str, Any] = json.loads(line)
        return said


def main() -> None:
    """Serve until the standard input ends."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("upstream", type=int, help="port of the server behind the proxy")
    with TcpProxy(arguments.parse_args().upstream) as proxy:
        print(json.dumps({"port": proxy.port}), flush=True)
        deeds: dict[str, Callable[[dict[str, Any]], object]] = {
            "hurt": lambda said: proxy.hurt(**said["faults"]),
            "heal": lambda _: proxy.heal(),
            "cut": lambda _: proxy.cut(),
            "count": lambda _: None,
        }
        for line in sys.stdin:
            said = json.loads(line)
            done = deeds[said["do"]](said)
            print(json.dumps({"cut": done, "accepted": proxy.accepted}), flush=True)


if __name__ == "__main__":
    main()
