"""`decision-service demo`: the service on its own store with a generated portfolio, and a few drawdowns
explained.

Everything is real: the service is a process of its own with an embedded Valkey in a temporary directory,
the portfolio goes in and the drawdowns are asked for through HTTP. It stays up, documentation included,
until Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import orjson

from decision_service.cli.progress import Progress
from decision_service.demo import DemoFailed, Shown, decide, load, render
from decision_service.http_client import Client, ConnectionLost
from decision_service.portfolio import Portfolio, PortfolioPlan, generate
from decision_service.portfolio.patterns import PATTERNS
from decision_service.settings import PORT_DEFAULT, environment_name

READY_TIMEOUT_S: Final = 300.0  # the first start on a machine compiles the kernels
STOP_TIMEOUT_S: Final = 30.0
FAILED: Final = 7
CUSTOMERS_MIN: Final = len(PATTERNS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `demo`."""
    parser.add_argument("--port", type=int, default=PORT_DEFAULT, help="0 takes a free one (%(default)s)")
    parser.add_argument("--customers", type=int, default=200, help="size of the portfolio (%(default)s)")
    parser.add_argument("--exit", action="store_true", help="stop after the drawdowns instead of staying up")
    parser.add_argument("--json", action="store_true", help="the cases as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the demo; the exit status."""
    port = args.port or _free_port()
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="decision-service-demo-") as directory, _service(port, Path(directory)):
            _show(args, _played(f"http://127.0.0.1:{port}", args.customers))
            if not args.exit:
                _stay(port)
    except KeyboardInterrupt:
        _say("stopped")
    except (DemoFailed, ConnectionLost) as error:
        _say(f"the demo failed: {error}")
        return FAILED
    return 0


def _as_interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _service(port: int, directory: Path) -> Iterator[None]:
    """The service as a process, ready; drained and gone at the end."""
    _say("starting the service (the first start on a machine compiles the kernels: up to a minute)")
    quiet = {environment_name("log_level"): "warning", environment_name("rate_limit_per_s"): "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "decision_service", "serve", "--port", str(port), "--data-dir", str(directory)],
        env=quiet | dict(os.environ), start_new_session=True,
    )  # fmt: skip
    try:
        asyncio.run(_ready(process, f"http://127.0.0.1:{port}"))
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _ready(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + READY_TIMEOUT_S
    async with Client(url) as client:
        while time.monotonic() < until:
            if process.poll() is not None:
                raise DemoFailed(f"the service stopped with status {process.returncode}; its own words are above")
            with suppress(ConnectionLost):
                if (await client.call("GET", "/readyz")).status == 200:
                    return
            await asyncio.sleep(0.05)
    raise DemoFailed(f"the service was not ready within {READY_TIMEOUT_S:g} s")


def _played(url: str, customers: int) -> list[Shown]:
    """Generate, load, decide."""
    _say(f"generating a portfolio of {customers:,} customers")
    portfolio = generate(PortfolioPlan(customers=max(customers, CUSTOMERS_MIN), now_ms=time.time_ns() // 1_000_000))
    progress = Progress("customers loaded", len(portfolio))
    asyncio.run(_load(url, portfolio, progress))
    return asyncio.run(decide(url, portfolio))


async def _load(url: str, portfolio: Portfolio, progress: Progress) -> None:
    await load(url, portfolio, progress.show)
    progress.finish(len(portfolio), f"{sum(len(history.events) for history in portfolio):,} events")


def _show(args: argparse.Namespace, cases: list[Shown]) -> None:
    if args.json:
        print(orjson.dumps([shown.as_json() for shown in cases], option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n\n".join(["", *(render(number, shown) for number, shown in enumerate(cases, 1))]))
    sys.stdout.flush()


def _stay(port: int) -> None:
    _say(
        f"\nThe service is up: http://127.0.0.1:{port}/docs documents it; try a decision of your own there.\n"
        f"    curl http://127.0.0.1:{port}/v1/customers/c-1001/features\n"
        "Ctrl-C stops it."
    )
    while True:
        time.sleep(3_600)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
