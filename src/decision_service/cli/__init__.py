"""The command line: `decision-service <command> ...`, one module a command.

A command's module exposes `add_arguments(parser)` and `run(args) -> int`; it is imported only when it is the one that
was asked for, so that `--help` is instant. Data goes to standard output, talk to standard error.

Exit status: 0 done · 1 done, and the answer is no · 2 wrong usage or setting · 3 the store · 4 a policy or scorecard
that must not be used · 5 wrong input · 6 not found or in conflict · 7 the service could not answer · 70 a bug ·
130 interrupted · 141 whoever read our output stopped reading (`... | head`), as a shell tells of SIGINT and SIGPIPE.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

import orjson

from decision_service.core import errors

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "serve": ("serve", "run the service"),
    "demo": ("demo", "run the service with a generated portfolio and a few explained drawdowns"),
    "import": ("import_history", "load facilities, attributes and histories of events into the store"),
    "replay-log": ("replay_log", "make archived decisions again and compare them byte for byte"),
    "replay": ("replay", "send a file of timed events through a running service"),
    "rules": ("rules", "check, test, explain, compare and format the rules"),
    "features": ("features", "list, show, check, explain and build features"),
    "backtest": ("backtest", "try a candidate policy on archived decisions"),
    "explain": ("explain", "say why a running service decided so"),
    "models": ("models", "check, show, watch and compare scorecards"),
    "train": ("train", "train a scorecard"),
    "shadow": ("shadow", "report on a policy that is evaluated beside the one in force"),
    "archive": ("archive", "write, verify, search, erase and purge the archive of decisions"),
    "reconcile": ("reconcile", "compare what callers were told with journal and store, and repair"),
    "keys": ("keys", "make, list and revoke API keys"),
}
"""Command to (module below this package, one line)."""

EXIT_STATUS: Final[dict[type[errors.DecisionServiceError], int]] = {
    errors.DecisionServiceError: 70,
    errors.InvalidInput: 5,
    errors.NotFound: 6,
    errors.Erased: 6,
    errors.Conflict: 6,
    errors.RequestIdReused: 6,
    errors.PolicyRejected: 4,
    errors.ScorecardRejected: 4,
    errors.StoreError: 3,
    errors.JournalUnavailable: 3,
    errors.ArchiveUnavailable: 3,
    errors.VersionMoved: 7,
    errors.DeadlineExceeded: 7,
    errors.Draining: 7,
    errors.SettingInvalid: 2,
}
USAGE: Final = 2
INTERRUPTED: Final = 130
UNREAD: Final = 141


def exit_status(error: errors.DecisionServiceError) -> int:
    """The exit status an operating error ends with: its own class's, else its nearest ancestor's."""
    return next(EXIT_STATUS[kind] for kind in type(error).__mro__ if kind in EXIT_STATUS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()  # so that a closed pipe is noticed here and not while the interpreter ends
    except BrokenPipeError:
        _discard_output()
        return UNREAD


def _discard_output() -> None:
    """Let what is still buffered go nowhere, or ending would flush it into the closed pipe again (Python's documents,
    module `signal`, "Note on SIGPIPE")."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def _run(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(usage())
        return 0 if given else USAGE
    if given[0] not in COMMANDS:
        print(f"decision-service: no command {given[0]!r}\n\n{usage()}", file=sys.stderr)
        return USAGE
    module_name, line = COMMANDS[given[0]]
    module = importlib.import_module(f"decision_service.cli.{module_name}")
    parser = argparse.ArgumentParser(prog=f"decision-service {given[0]}", description=line.capitalize() + ".")
    module.add_arguments(parser)
    args = parser.parse_args(given[1:])
    try:
        status: int = module.run(args)
    except errors.DecisionServiceError as error:
        _tell(error, as_json=getattr(args, "json", False))
        return exit_status(error)
    except OSError as error:
        if error.filename is None:  # nothing that another path would mend
            raise
        print(f"decision-service: {error.filename}: {error.strerror}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def usage() -> str:
    """What `--help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {line}" for name, (_, line) in COMMANDS.items()]
    return "\n".join(["usage: decision-service <command> [options]", "", *lines, "", "<command> --help tells more."])


def _tell(error: errors.DecisionServiceError, *, as_json: bool) -> None:
    field = error.field if isinstance(error, errors.InvalidInput) else ""
    if not as_json:
        print(f"decision-service: {field}{': ' if field else ''}{error.message}", file=sys.stderr)
        return
    line = {"error": error.code, "message": error.message} | ({"field": field} if field else {})
    if isinstance(error, errors.PolicyRejected):
        line["diagnostics"] = [diagnostic.as_json() for diagnostic in error.diagnostics]  # type: ignore[assignment]
    print(orjson.dumps(line).decode(), file=sys.stderr)
