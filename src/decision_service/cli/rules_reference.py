"""`decision-service rules reference`: write the reference page of the policy language, or compare the one there.

With `--check` nothing is written, and the exit status is 1 if the page there is not the one it would write.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from decision_service.dictionary.language import language_page

DIFFERS: Final = 1
PAGE: Final = Path("docs/language.md")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules reference`."""
    parser.add_argument("--out", type=Path, default=PAGE, help="the page (%(default)s); - for standard output")
    parser.add_argument("--check", action="store_true", help="write nothing: is the page up to date?")


def run(args: argparse.Namespace) -> int:
    """Write or compare; the exit status."""
    page = language_page()
    path: Path = args.out
    if args.check:
        if path.is_file() and path.read_text(encoding="utf-8") == page:
            return 0
        print(f"{path} is not up to date: `decision-service rules reference` writes it", file=sys.stderr)
        return DIFFERS
    if str(path) == "-":
        print(page, end="")
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    print(path, file=sys.stderr)
    return 0
