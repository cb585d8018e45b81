"""`decision-service rules fmt [--check] FILE ...`: give policy files their uniform layout, comments and all.

Directories stand for every policy file below them, `-` for standard input to standard output. Exit status 0; with
`--check`, which writes nothing, 1 if a file would change; 2 without such a file; 4 if one cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import orjson

from decision_service.cli.findings import FAILED, WRONG, counted
from decision_service.core.source import Findings
from decision_service.layout.layout import laid_out
from decision_service.policies.files import policy_paths

WOULD_CHANGE: Final = 1
STANDARD: Final = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rules fmt`."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="files, directories, or - for standard input")
    parser.add_argument("--check", action="store_true", help="write nothing: is every file laid out?")
    parser.add_argument("--json", action="store_true", help="what changed and what is wrong as JSON")


def run(args: argparse.Namespace) -> int:
    """Format; the exit status."""
    findings = Findings()
    if args.files == [STANDARD]:
        text = laid_out(sys.stdin.read(), STANDARD, findings)
        sys.stdout.write(text or "")
        return _wrong(findings)
    missing = [name for name in args.files if not Path(name).exists()]
    if missing:
        print(f"{missing[0]}: no such file or directory", file=sys.stderr)
        return WRONG
    paths = list(_paths(args.files))
    changed = [path for path in paths if _format(path, findings, write=not args.check)]
    if args.json:
        report = {
            "changed": [str(path) for path in changed], "files": len(paths),
            "diagnostics": [finding.as_json() for finding in findings.diagnostics],
        }  # fmt: skip
        print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
        return FAILED if findings.errors else WOULD_CHANGE if changed and args.check else 0
    for path in changed:
        print(f"{path}: {'would change' if args.check else 'laid out'}")
    print(f"{counted(len(paths), 'file')}, {len(changed)} {'to change' if args.check else 'changed'}", file=sys.stderr)
    return _wrong(findings) or (WOULD_CHANGE if changed and args.check else 0)


def _paths(names: Iterable[str]) -> Iterator[Path]:
    for name in names:
        path = Path(name)
        yield from policy_paths(path) if path.is_dir() else [path]


def _format(path: Path, findings: Findings, *, write: bool) -> bool:
    """Whether a file's layout is not the uniform one; `write` puts it right, all at once or not at all."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        text = path.read_bytes().decode("utf-8", "surrogateescape")  # the reader refuses it, with the place
    new = laid_out(text, str(path), findings)
    if new is None or new == text:
        return False
    if write:
        target = path.resolve()  # a link stays a link
        beside = target.with_name(f".{target.name}.new")
        beside.write_text(new, encoding="utf-8", newline="")
        beside.chmod(target.stat().st_mode)
        beside.replace(target)
    return True


def _wrong(findings: Findings) -> int:
    for finding in findings.diagnostics:
        print(finding.render(), end="\n\n", file=sys.stderr)
    return FAILED if findings.errors else 0
