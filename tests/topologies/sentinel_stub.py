"""A sentinel that says what it is told to say: one that was cut off, or never heard of the last fail-over."""

from __future__ import annotations

import socketserver
import threading
from types import TracebackType


class SentinelStub:
    """Names `primary` (a port) as the primary, in good health, to whoever asks."""

    def __init__(self, primary: int) -> None:
        self.primary = primary
        self.asked = 0
        stub = self

        class Talk(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while words := _command(self.rfile):
                    known = words[0].upper() == b"SENTINEL"
                    stub.asked += known
                    self.wfile.write(stub._told() if known else b"+OK\r\n")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talk)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def _told(self) -> bytes:
        """The reply to SENTINEL MASTERS."""
        told = {
            "name": "lines", "ip": "127.0.0.1", "port": str(self.primary), "flags": "master",
            "num-other-sentinels": "2", "quorum": "2",
        }  # fmt: skip
        words = [word for pair in told.items() for word in pair]
        return b"*1\r\n*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words)

    def __enter__(self) -> SentinelStub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _command(file: object) -> list[bytes]:
    """The next command's words; none when the connection ends."""
    head = file.readline()  # type: ignore[attr-defined]
    if not head.startswith(b"*"):
        return []
    words = []
    for _ in range(int(head[1:])):
        length = int(file.readline()[1:])  # type: ignore[attr-defined]
        words.append(file.read(length + 2)[:-2])  # type: ignore[attr-defined]
    return words
