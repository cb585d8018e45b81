"""The yardstick: an ASGI app that reads a body and answers fixed JSON of a decision's size, and does
nothing else.

Run by the load test `saturation` with uvicorn, uvloop and httptools; what it reaches on a machine is what any service
on that stack can at most reach there.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import uvicorn

ANSWER = b'{"decision":"approve","filler":"' + b"x" * int(os.environ.get("BARE_ANSWER_BYTES", "700")) + b'"}'
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())],
}
BODY = {"type": "http.response.body", "body": ANSWER}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read the whole body, answer."""
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send(BODY)


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", log_level="error",
        access_log=False, lifespan="off",
    )  # fmt: skip
