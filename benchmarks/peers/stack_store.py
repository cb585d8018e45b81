"""What the assembled stack keeps in Redis, and its two ways of reading a customer's history.

    h:{customer}:{kind}     sorted set: one JSON text an event, score = occurred_at in ms
    f:{facility}            JSON of the line's newest snapshot
    d:{request_id}          the answer to a request; PENDING while it is being decided (SET NX: one decision a request)

A settlement of a drawdown is an event of the kind `settlement` that names the drawdown's id, so histories are only
ever added to. Writes are as durable as the server makes them: the benchmark's Valkey fsyncs before it answers.

    pipelined     one pipeline: the idempotency key, the line, and every set of the customer over the longest window
    per-feature   the idempotency key and the line, then one ZRANGEBYSCORE for each kind and window that a group of
                  features looks at, all of them under way at once on pooled connections

What it does not give, and this service does: two drawdowns of one customer at the same instant do not see each other,
and a crash between SET NX and the answer leaves the request pending until the key expires.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson
import redis.asyncio as redis

DAY_MS: Final = 86_400_000
YEAR_MS: Final = 365 * DAY_MS
WINDOWS_MS: Final = {
    "10m": 600_000, "1h": 3_600_000, "24h": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS, "90d": 90 * DAY_MS,
    "365d": YEAR_MS,
}  # fmt: skip
LOOKED_AT: Final = {
    "drawdown": ("10m", "1h", "24h", "7d", "30d", "90d", "365d"), "repayment": ("30d", "90d", "365d"),
    "overdue": ("90d", "365d"), "inquiry": ("30d", "90d"), "login": ("1h", "24h"), "contact_change": ("30d", "90d"),
    "credential_change": ("365d",), "settlement": ("365d",),
}  # fmt: skip
"""The windows of each kind that features look at, the longest last."""
PENDING: Final = b"pending"
PENDING_S: Final = 60
KEPT_S: Final = 7 * 86_400
Variant = Literal["pipelined", "per-feature"]
Events = list[dict[str, Any]]


@dataclass(slots=True)
class Read:
    """What is known of a customer. `earlier` is the answer this request already has; `events` are by kind and window,
    in order of time, and in the pipelined variant only of each kind's longest window."""

    line: dict[str, Any] | None = None
    earlier: bytes | None = None
    events: dict[tuple[str, str], Events] = field(default_factory=dict)


def history_key(customer: str, kind: str) -> str:
    """The sorted set of a customer's events of a kind."""
    return f"h:{customer}:{kind}"


class StackStore:
    """The stack's store. `variant` says how histories are read."""

    def __init__(self, port: int, variant: Variant) -> None:
        pool = redis.BlockingConnectionPool(host="127.0.0.1", port=port, max_connections=64, timeout=5)
        self._redis = redis.Redis.from_pool(pool)  # closed with it
        self._read_history = self._per_feature if variant == "per-feature" else self._pipelined

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def read(self, request_id: str, customer: str, facility: str, t_ms: int) -> Read:
        """Claim a request and read what its decision needs."""
        return await self._read_history(request_id, customer, facility, t_ms)

    async def _pipelined(self, request_id: str, customer: str, facility: str, t_ms: int) -> Read:
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(f"d:{request_id}", PENDING, nx=True, get=True, ex=PENDING_S)
        pipe.get(f"f:{facility}")
        for kind, windows in LOOKED_AT.items():
            pipe.zrangebyscore(history_key(customer, kind), f"({t_ms - WINDOWS_MS[windows[-1]]}", t_ms)
        earlier, line, *histories = await pipe.execute()
        return Read(
            _loaded(line), earlier,
            {
                (kind, windows[-1]): [orjson.loads(event) for event in history]
                for (kind, windows), history in zip(LOOKED_AT.items(), histories, strict=True)
            },
        )  # fmt: skip

    async def _per_feature(self, request_id: str, customer: str, facility: str, t_ms: int) -> Read:
        pairs = [(kind, window) for kind, windows in LOOKED_AT.items() for window in windows]
        earlier, line, *histories = await asyncio.gather(
            self._redis.set(f"d:{request_id}", PENDING, nx=True, get=True, ex=PENDING_S),
            self._redis.get(f"f:{facility}"),
            *(self._window(customer, kind, window, t_ms) for kind, window in pairs),
        )
        return Read(_loaded(line), earlier, dict(zip(pairs, histories, strict=True)))

    async def _window(self, customer: str, kind: str, window: str, t_ms: int) -> Events:
        found = await self._redis.zrangebyscore(history_key(customer, kind), f"({t_ms - WINDOWS_MS[window]}", t_ms)
        return [orjson.loads(event) for event in found]

    async def answered(self, request_id: str, answer: bytes, customer: str, event: dict[str, Any]) -> None:
        """Keep an answer and append its drawdown, both or neither."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.set(f"d:{request_id}", answer, ex=KEPT_S)
        pipe.zadd(history_key(customer, "drawdown"), {orjson.dumps(event): event["at"]})
        await pipe.execute()

    async def release(self, request_id: str) -> None:
        """Let a request be asked again that could not be decided."""
        await self._redis.delete(f"d:{request_id}")

    async def put_line(self, facility: str, line: dict[str, Any]) -> None:
        """Store a line's snapshot."""
        await self._redis.set(f"f:{facility}", orjson.dumps(line))

    async def append(self, events: list[tuple[str, str, dict[str, Any]]]) -> None:
        """Append events: customer, kind, event."""
        pipe = self._redis.pipeline(transaction=False)
        for customer, kind, event in events:
            pipe.zadd(history_key(customer, kind), {orjson.dumps(event): event["at"]})
        await pipe.execute()


def _loaded(text: bytes | None) -> dict[str, Any] | None:
    return None if text is None else orjson.loads(text)
