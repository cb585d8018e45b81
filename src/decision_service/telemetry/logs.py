"""Log lines: standard logging, written by a thread of its own, so that a blocked stderr never blocks a decision.

The queue is bounded; when it is full, lines are dropped and counted, and the next line that fits says how many. A line
never holds what a customer sent: no ids, amounts, places or messages of exceptions that quote them.
"""

from __future__ import annotations

import logging
import queue
import sys
import time
from logging.handlers import QueueHandler, QueueListener
from typing import IO, Final

import orjson

QUEUE_LINES_MAX: Final = 10_000
LOGGER: Final = "decision_service"


class DroppingHandler(QueueHandler):
    """Puts lines on a bounded queue and counts those that do not fit."""

    def __init__(self, lines: queue.Queue[logging.LogRecord]) -> None:
        super().__init__(lines)
        self._lines = lines
        self.dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Never blocks."""
        if self.dropped and not self._lines.full():
            dropped, self.dropped = self.dropped, 0
            record.msg, record.args = f"{record.getMessage()} ({dropped} lines before were dropped)", None
        try:
            self._lines.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class TextFormatter(logging.Formatter):
    """`2026-11-21T03:12:09.123Z INFO policy: text`, one line whatever the text holds."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        text = record.getMessage().replace("\n", " | ").replace("\r", " ")
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


def start_logging(level: str, as_json: bool, stream: IO[str] | None = None) -> QueueListener:
    """Send our lines, and the server's warnings, to a stream (stderr). The listener's `stop` writes what is left."""
    lines: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE_LINES_MAX)
    writer = logging.StreamHandler(stream or sys.stderr)
    writer.setFormatter(JsonFormatter() if as_json else TextFormatter())
    handler = DroppingHandler(lines)
    for name, least in ((LOGGER, level.upper()), ("uvicorn", "ERROR"), ("asyncio", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(least)
        logger.propagate = False
    listener = QueueListener(lines, writer)
    listener.start()
    return listener
