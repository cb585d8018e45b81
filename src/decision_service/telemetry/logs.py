"""Log lines: standard logging, written by a thread of its own, so that a blocked stderr never blocks a decision.

The queue is bounded; when it is full, lines are dropped and counted, and the next line that fits says how many. A line
never holds what a customer sent: no ids, amounts, places or messages of exceptions that quote them.

    our own lines      as they are written; every call names what it tells
    an exception       type and places (file:line), never its message, the text of its lines or its locals
    lines of others    (asyncio, uvicorn, redis, ...) the constant beginning of the message, without arguments
"""

from __future__ import annotations

import copy
import logging
import os
import queue
import re
import select
import sys
import threading
import time
from logging.handlers import QueueHandler
from pathlib import Path
from typing import IO, Final

import orjson

QUEUE_LINES_MAX: Final = 10_000
LOGGER: Final = "decision_service"
LOOK_S: Final = 0.1  # between looks at whether to stop
LAST_LINES_S: Final = 1.0
PLACES_MAX: Final = 12
FOREIGN_CHARS_MAX: Final = 120
_ONE_LINE: Final = {
    **{code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))},
    **{code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)},
    10: " | ",
    9: " ",
}  # whatever ends a line, moves the cursor or turns the direction of writing is shown, not done
_ARGUMENTS: Final = re.compile(r"[\n(<{\[%'\"]")  # where what a library says may begin to quote


def places_of(error: BaseException) -> str:
    """What crashed and where: `ValueError at a.py:3 > b.py:7`. Never the message: it may quote what a customer
    sent."""
    last, places = error.__traceback__, []
    while last is not None:
        places.append(f"{Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}")
        last = last.tb_next
    return f"{type(error).__name__} at {' > '.join(places[-PLACES_MAX:])}"


class DroppingHandler(QueueHandler):
    """Puts lines on a bounded queue and counts those that do not fit."""

    def __init__(self, lines: queue.Queue[logging.LogRecord]) -> None:
        super().__init__(lines)
        self._lines = lines
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """A copy that may be written: no arguments of others, no message or text of an exception."""
        ours = record.name == LOGGER or record.name.startswith(LOGGER + ".")
        text = record.getMessage() if ours else _beginning(str(record.msg))
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text}: {places_of(record.exc_info[1])}"
        record = copy.copy(record)
        record.msg = record.message = text.encode("utf-8", "backslashreplace").decode()  # a lone half of a character
        record.args = record.exc_info = record.exc_text = record.stack_info = None
        return record

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """A line that cannot be made is dropped: logging's own complaint would quote its arguments."""
        del record
        self.dropped += 1

    def enqueue(self, record: logging.LogRecord) -> None:
        """Never blocks."""
        if self.dropped and not self._lines.full():
            dropped, self.dropped = self.dropped, 0
            record.msg, record.args = f"{record.getMessage()} ({dropped} lines before were dropped)", None
        try:
            self._lines.put_nowait(record)
        except queue.Full:
            self.dropped += 1


def _beginning(message: str) -> str:
    """What a library's message says before it names anything."""
    return _ARGUMENTS.split(message, maxsplit=1)[0].strip()[:FOREIGN_CHARS_MAX]


class TextFormatter(logging.Formatter):
    """`2026-11-21T03:12:09.123Z INFO policy: text`, one line whatever the text holds."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        text = record.getMessage().translate(_ONE_LINE)
        return f"{_instant(record)} {record.levelname} {record.name.removeprefix(LOGGER + '.')}: {text}"


class JsonFormatter(logging.Formatter):
    """`{"at", "level", "logger", "text"}`."""

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object."""
        line = {
            "at": _instant(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": record.getMessage(),
        }
        return orjson.dumps(line).decode()


def _instant(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def takes_a_line(stream: IO[str]) -> bool:
    """Whether a short line can be written to a stream without waiting for whoever reads it."""
    file = _file_of(stream)
    return file < 0 or _takes(file, 0.0)


def _takes(file: int, wait_s: float) -> bool:
    ready = select.poll()  # not `select`: descriptors may be above 1,024
    ready.register(file, select.POLLOUT)
    return bool(ready.poll(wait_s * 1000))


def _file_of(stream: IO[str]) -> int:
    """Its descriptor; -1 if it is in memory."""
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return -1


class LogWriter:
    """The thread that writes lines. Whoever should read them may be slow or hang: only this thread ever waits for that,
    and it can always be stopped. (`logging.StreamHandler` would wait inside a lock that the end of the process needs.)
    """

    def __init__(self, lines: queue.Queue[logging.LogRecord], formatter: logging.Formatter, stream: IO[str]) -> None:
        self._lines = lines
        self._formatter = formatter
        self._stream = stream
        self._file = _file_of(stream)
        self._stop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, as far as somebody takes it within LAST_LINES_S, and end."""
        self._stop_at = time.monotonic() + LAST_LINES_S
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                record = self._lines.get(timeout=LOOK_S)
            except queue.Empty:
                if self._stop_at is not None:
                    return
                continue
            try:
                if not self._write(self._formatter.format(record) + "\n"):
                    return
            except Exception:  # a line that cannot be formatted or written is lost, those after it are not
                continue

    def _write(self, text: str) -> bool:
        """Write a line; False if nobody took it until it was time to stop."""
        if self._file < 0:
            self._stream.write(text)
            return True
        rest = text.encode(errors="replace")
        while rest:
            if self._stop_at is not None and time.monotonic() > self._stop_at:
                return False
            if _takes(self._file, LOOK_S):
                rest = rest[os.write(self._file, rest[: select.PIPE_BUF]) :]  # so much does not wait
        return True


def start_logging(level: str, as_json: bool, stream: IO[str] | None = None) -> LogWriter:
    """Send our lines, and the server's warnings, to a stream (stderr). The writer's `stop` writes what is left."""
    lines: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE_LINES_MAX)
    handler = DroppingHandler(lines)
    for name, least in ((LOGGER, level.upper()), ("uvicorn", "ERROR"), ("asyncio", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(least)
        logger.propagate = False
    logging.lastResort = handler  # of every logger that nobody has set up: warnings of libraries
    return LogWriter(lines, JsonFormatter() if as_json else TextFormatter(), stream or sys.stderr)
