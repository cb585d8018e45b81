"""`decision-service archive checkpoint`: pin how far every place's chain has come, signed.

What came since the checkpoint before is verified first, and nothing is pinned if it has a defect; with a key, what came
since the newest one that it, or a trusted signer, signed. `archive run` writes
checkpoints by itself; this one is for a key that only a person or a scheduled job may use. Keep copies of checkpoints
where nobody who can write the archive can write: they are what shows that its end was cut off.

Exit status 0 done (also if nothing is new), 1 if there is a defect, 2 for wrong usage or settings, 3 if the archive
cannot be read or written.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

import orjson

from decision_service.archive.checkpointing import checkpoint_verified
from decision_service.archive.opening import storage_options_of
from decision_service.bootstrap import wall_clock_ms
from decision_service.cli.archive_options import (
    add_archive_options,
    add_key_option,
    archive_settings,
    url_of,
    who_signs,
)
from decision_service.policies.signers import read_signers
from decision_service.settings import environment_name

FOUND: Final = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `archive checkpoint`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.partition("\n\n")[2]
    add_archive_options(parser)
    add_key_option(parser)


def run(args: argparse.Namespace) -> int:
    """Write a checkpoint; the exit status."""
    settings = archive_settings(args)
    key, by = who_signs(args.key, settings)
    signers = settings.archive_signers
    trusted = None if signers is None else read_signers(signers, environment_name("archive_signers"))
    made, defects = checkpoint_verified(
        url_of(settings), storage_options_of(settings), key, wall_clock_ms(), by, trusted
    )  # fmt: skip
    for defect in defects:
        print(f"defect: {defect}", file=sys.stderr)
    if args.json:
        told = {"checkpoint": made.name if made else None, "signer": made.signer if made else None}
        print(orjson.dumps(told | {"defects": [defect.as_json() for defect in defects]}).decode())
    elif made is not None:
        print(
            f"{made.name}, " + (f"signed by {made.signer}" if made.signer else "not signed: it proves only the order")
        )
    elif not defects:
        print("nothing is new since the checkpoint before")
    return FOUND if defects else 0
