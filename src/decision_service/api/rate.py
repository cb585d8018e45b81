"""Rate limit: one token bucket a principal, inside one worker, so that it holds with the store down.

A bucket holds up to `burst` tokens and gains `per_s` a second; a request takes one. The number of buckets is
bounded: the one unused longest is forgotten first (which gives that principal a full bucket again, never less
than its due).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

BUCKETS_MAX: Final = 10_000


@dataclass(slots=True)
class Bucket:
    """One principal's tokens at an instant of the clock in use."""

    tokens: float
    at_s: float


class RateLimit:
    """The buckets of one worker."""

    def __init__(self, per_s: float, burst: int) -> None:
        self.per_s = per_s
        self.burst = max(burst, per_s)
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, name: str, now_s: float) -> tuple[bool, int, int]:
        """`(let in, tokens left, whole seconds until the bucket is full or, if refused, until the next
        token)`."""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket(float(self.burst), now_s)
            if len(self._buckets) > BUCKETS_MAX:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        bucket.tokens = min(float(self.burst), bucket.tokens + max(0.0, now_s - bucket.at_s) * self.per_s)
        bucket.at_s = now_s
        if bucket.tokens < 1.0:
            return False, 0, max(1, math.ceil((1.0 - bucket.tokens) / self.per_s))
        bucket.tokens -= 1.0
        return True, int(bucket.tokens), math.ceil((self.burst - bucket.tokens) / self.per_s)


def preview_limit(previews_per_hour: int, authenticated: bool) -> RateLimit | None:
    """The limit on previews of one customer; none where callers do not say who they are, or the setting is 0."""
    return RateLimit(previews_per_hour / 3_600, previews_per_hour) if authenticated and previews_per_hour else None
