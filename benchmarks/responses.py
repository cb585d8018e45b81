"""Where a response ends: what load generators need to know of HTTP, and no more."""

from __future__ import annotations


def body_at(received: bytes) -> int:
    """Where the body of a response begins, or 0 while the response is not whole. It must tell its content-length."""
    end = received.find(b"\r\n\r\n") + 4
    if end < 4:
        return 0
    at = received.lower().find(b"content-length:", 0, end) + 15
    return end if len(received) >= end + int(received[at : received.find(b"\r", at)]) else 0
