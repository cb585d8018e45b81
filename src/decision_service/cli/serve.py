"""`decision-service serve`: run the service until SIGTERM or SIGINT; options win over the environment."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from decision_service.server import serve
from decision_service.settings import environment_name, load_settings
from decision_service.telemetry.logs import takes_a_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `serve`."""
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port, 0 for any free one (8000)")
    parser.add_argument("--workers", type=int, help="worker processes (1)")
    parser.add_argument("--data-dir", type=Path, help="directory of the embedded store and the journal (data)")
    parser.add_argument("--redis-url", help="store; none starts an embedded one")
    parser.add_argument("--rules", type=Path, help="directory of rule sets and features (rules)")
    parser.add_argument("--models", type=Path, help="directory of scorecards (models)")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="(info)")
    parser.add_argument("--json", action="store_true", help="log lines as JSON")


def run(args: argparse.Namespace) -> int:
    """Serve; the exit status."""
    settings = load_settings(
        host=args.host, port=args.port, workers=args.workers, data_dir=args.data_dir, redis_url=args.redis_url,
        rules=args.rules, models=args.models, log_level=args.log_level, log_json=args.json or None,
    )  # fmt: skip

    def say(line: str) -> None:
        text = orjson.dumps({"text": line}).decode() if settings.log_json else f"decision-service: {line}"
        if takes_a_line(sys.stderr):  # a reader that hangs must not keep the service from serving
            print(text, file=sys.stderr, flush=True)

    if args.redis_url and urlsplit(args.redis_url).password:
        say(
            f"the store's password stands in the list of processes: put it into {environment_name('redis_url')} instead"
        )
    return serve(settings, say)
