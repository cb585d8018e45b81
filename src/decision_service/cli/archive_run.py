"""`decision-service archive run`: bring the decision log into the archive, until SIGTERM or SIGINT.

A service with an embedded store does this by itself. Beside any other store run one of these, or several on as many
hosts as you like: they share the work, and what one that is killed has begun another finishes. --once archives what
waits now and ends.

Exit status 0 when stopped or done, 1 if something that waits was not archived, also because another consumer has it or
was killed with it within the last minute (--once), 2 for wrong settings, 3 if the store or the archive failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

import orjson
import uvloop

from decision_service.archive.consumer import Done
from decision_service.archive.running import archive_until, drain
from decision_service.cli.archive_options import add_key_option, who_signs
from decision_service.cli.import_history import store_for
from decision_service.policies.signers import SigningKey
from decision_service.settings import Settings, environment_name, load_settings
from decision_service.telemetry.logs import start_logging

LEFT: Final = 1
NICE: Final = 10  # beside a service: decisions go first


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `archive run`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.partition("\n\n")[2]
    parser.add_argument("--once", action="store_true", help="archive what waits now, however little, and end")
    parser.add_argument("--archive", metavar="URL", help=f"folder, or fsspec URL ({environment_name('archive_url')})")
    parser.add_argument("--redis-url", help="store; none is the embedded one, also of a running service")
    parser.add_argument("--data-dir", type=Path, help="directory of the embedded store (data)")
    add_key_option(parser)
    parser.add_argument("--metrics-port", type=int, metavar="PORT", help="tell Prometheus at this port of loopback")
    parser.add_argument("--json", action="store_true", help="what was done, and log lines, as JSON")
    parser.add_argument("--beside", action="store_true", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Archive; the exit status."""
    settings = load_settings(
        archive_url=args.archive, redis_url=args.redis_url, data_dir=args.data_dir, log_json=args.json or None
    )
    if args.beside:
        os.nice(NICE)
    key, _ = who_signs(args.key, settings)
    listener = start_logging(settings.log_level, settings.log_json)
    try:
        with tempfile.TemporaryDirectory() as private:
            runtime_dir = settings.runtime_dir or Path(private)
            if args.once:
                return _told(uvloop.run(_once(settings, key, runtime_dir)), as_json=args.json)
            uvloop.run(_run(settings, key, runtime_dir, args.metrics_port, beside=args.beside))
            return 0
    finally:
        listener.stop()


async def _once(settings: Settings, key: SigningKey | None, runtime_dir: Path) -> Done:
    store = store_for(settings)
    try:
        return await drain(store, settings, key, runtime_dir, _stopped())
    finally:
        await store.close()


async def _run(
    settings: Settings, key: SigningKey | None, runtime_dir: Path, metrics_port: int | None, *, beside: bool
) -> None:
    store = store_for(settings)
    try:
        await archive_until(store, settings, key, runtime_dir, _stopped(), metrics_port, watch_parent=beside)
    finally:
        await store.close()


def _stopped() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _told(done: Done, *, as_json: bool) -> int:
    problems = list(dict.fromkeys(done.failed.values()))
    if as_json:
        print(orjson.dumps({"rows": done.rows, "held": done.held, "failed": len(done.failed), "problems": problems})
              .decode())  # fmt: skip
    else:
        print(f"archived {done.rows} rows")
        if done.held:
            print(
                f"{done.held} places are left to the consumer that has them (if it was killed: for a minute)",
                file=sys.stderr,
            )
        for problem in problems:
            print(f"could not archive: {problem}", file=sys.stderr)
    return LEFT if done.failed or done.held else 0
