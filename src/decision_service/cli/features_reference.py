"""`decision-service features reference`: write the reference page of the policy on disk, or compare the one there.

Markdown for a repository (`--out docs/features.md`), one HTML file for a browser (`--html FILE`). With `--check`
nothing is written, and the exit status is 1 if the page there is not the one it would write.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from decision_service.cli.policy_options import add_policy_options, policy_of, settings_of
from decision_service.dictionary.entry import Dictionary
from decision_service.dictionary.markdown import reference_page
from decision_service.dictionary.page import html_page

DIFFERS: Final = 1
PAGE: Final = Path("docs/features.md")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `features reference`."""
    add_policy_options(parser)
    parser.add_argument("--out", type=Path, default=PAGE, help="Markdown page (%(default)s); - for standard output")
    parser.add_argument("--html", type=Path, help="write a searchable HTML page here instead")
    parser.add_argument("--check", action="store_true", help="write nothing: is the page up to date?")


def run(args: argparse.Namespace) -> int:
    """Write or compare; the exit status."""
    policy, _ = policy_of(settings_of(args))
    dictionary = Dictionary(policy)
    path: Path = args.html or args.out
    page = html_page(dictionary) if args.html else reference_page(dictionary)
    if args.check:
        return _compare(path, page)
    if str(path) == "-":
        print(page, end="")
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    print(f"{path}: {len(dictionary.names):,} features", file=sys.stderr)
    return 0


def _compare(path: Path, page: str) -> int:
    if path.is_file() and path.read_text(encoding="utf-8") == page:
        return 0
    print(f"{path} is not up to date: `decision-service features reference` writes it", file=sys.stderr)
    return DIFFERS
