"""How a command reaches a running service: its options, one call, and the errors a person can act on."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from decision_service.core.errors import InvalidInput, NotFound, PolicyRejected
from decision_service.core.source import Diagnostic, Place
from decision_service.http_client import Client, ConnectionLost, bearer_in
from decision_service.settings import PORT_DEFAULT

UNREACHABLE: Final = 7


def add_service_options(parser: argparse.ArgumentParser, json: str = "the service's answer as JSON") -> None:
    """`--url`, `--bearer-file` and `--json`, which gives `json`."""
    parser.add_argument("--url", default=f"http://127.0.0.1:{PORT_DEFAULT}", help="the service (%(default)s)")
    parser.add_argument("--bearer-file", type=Path, help="file that holds the API key or token to send")
    parser.add_argument("--json", action="store_true", help=json)


def ask(args: argparse.Namespace, method: str, path: str, body: object = None) -> Any:
    """The JSON a call answers with. PolicyRejected with the service's diagnostics, NotFound, InvalidInput,
    ConnectionLost."""

    async def call() -> Any:
        async with Client(args.url, bearer_in(args.bearer_file)) as client:
            return await client.call(method, path, body)

    response = asyncio.run(call())
    told = response.json()
    if response.status == 200:
        return told
    detail = str(told.get("detail", response.status)) if isinstance(told, dict) else str(response.status)
    if isinstance(told, dict) and told.get("diagnostics"):
        raise PolicyRejected([diagnostic_in(one) for one in told["diagnostics"]])
    if response.status == 404:
        raise NotFound(detail)
    raise InvalidInput(str(told.get("field") or "") if isinstance(told, dict) else "", detail)


def kept_decision(args: argparse.Namespace) -> Any:
    """The decision `args.decision_id` with its trace; errors as `ask` has them."""
    return ask(args, "GET", f"/v1/decisions/{quote(args.decision_id, safe='')}")


def diagnostic_in(told: dict[str, Any]) -> Diagnostic:
    """A diagnostic as the service told it."""
    place = Place(told["file"], told["line"], told["column"], told["text"])
    return Diagnostic(
        place, told["message"], told["expected"] or "", told["nearest"] or "", severity=told["severity"]
    )  # fmt: skip


def unreachable(error: ConnectionLost) -> int:
    """Say that the service does not answer; the exit status."""
    print(f"the service does not answer: {error}", file=sys.stderr)
    return UNREACHABLE
