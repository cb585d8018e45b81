"""`decision-service explain DECISION_ID`: why a running service decided so, read from the decision it keeps."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson

from decision_service.core.errors import NotFound
from decision_service.explanation import explained
from decision_service.http_client import Client, ConnectionLost, bearer_in
from decision_service.settings import PORT_DEFAULT

UNREACHABLE: Final = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `explain`."""
    parser.add_argument("decision_id", help="as in the answer")
    parser.add_argument("--url", default=f"http://127.0.0.1:{PORT_DEFAULT}", help="the service (%(default)s)")
    parser.add_argument("--bearer-file", type=Path, help="file that holds the API key or token to send")
    parser.add_argument("--json", action="store_true", help="the decision with its whole trace as JSON")


def run(args: argparse.Namespace) -> int:
    """Explain; the exit status."""
    try:
        decision = asyncio.run(decision_asked_for(args))
    except ConnectionLost as error:
        print(f"the service does not answer: {error}", file=sys.stderr)
        return UNREACHABLE
    if args.json:
        print(orjson.dumps(decision, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(explained(decision, decision["trace"])))
    return 0


async def decision_asked_for(args: argparse.Namespace) -> Any:
    """The decision `args.decision_id` with its trace, from the service at `args.url`. NotFound, ConnectionLost."""
    bearer = bearer_in(args.bearer_file)
    async with Client(args.url, bearer) as client:
        response = await client.call("GET", f"/v1/decisions/{quote(args.decision_id, safe='')}")
    if response.status != 200:
        raise NotFound(str(response.json().get("detail", response.status)))
    return response.json()
