"""Policy files: strict YAML on disk to the nodes that core compiles (`core/source.py`).

The strictness is the point (YAML 1.1 turns `no` into False, `012` into 10 and `1:30` into 90, lets the last
of two equal keys win, and lets nine aliases expand into a billion nodes):

  * nothing is interpreted: every scalar stays the text that was typed, with its place;
  * duplicate keys, anchors, aliases, tags, directives, several documents, empty files, NUL, a byte order mark
    and anything but UTF-8 are errors; so are files over the caps of `core/limits.py` (bytes before parsing,
    depth and nodes while parsing, so nothing is ever expanded first);
  * a symbolic link that leads out of the directory is refused.

Everything wrong is reported to a `Findings`, all of it at once as far as the file can still be followed. The
parser is libyaml's event stream: no recursion, no object construction.

Diagnostics name a file by its path relative to the rules directory, never by where that directory is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
)

from decision_service.core.limits import POLICY_FILE_BYTES_MAX, YAML_DEPTH_MAX, YAML_NODES_MAX
from decision_service.core.source import Document, Findings, MappingNode, Node, Place, Scalar, SequenceNode

_LINE_BREAK: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
SIGNATURES_FILE: Final = "policy.signatures"  # beside the policy files, and none of them
SUFFIXES: Final = (".yaml", ".yml")
_QUOTES: Final = ("'", '"')
_BLOCKS: Final = ("|", ">")
_SHOWN_CHARS_MAX: Final = 400
_HINTS: Final = {
    "found character that cannot start any token": "spaces, not tabs; quotes around text that starts with @ or %",
    "found a tab character that violates indentation": "spaces, not tabs",
    "mapping values are not allowed in this context": "one `key: value` a line; quotes around text with `: `",
    "did not find expected ',' or '}'": "a closing `}`; quotes around text with [ ] { } or a comma in it",
    "did not find expected ',' or ']'": "a closing `]`; quotes around text with [ ] { } or a comma in it",
    "could not find expected ':'": "`key: value`",
    "found unexpected end of stream": "a closing quote",
    "did not find expected key": "a key on the same indentation as the keys above it",
    "did not find expected '-' indicator": "list items on one indentation, each starting with `- `",
}


DOCUMENTS_KEPT_MAX: Final = 256
DOCUMENT_BYTES_KEPT_MAX: Final = 8 * 1_048_576  # of text; the nodes of a byte take about thirty
_READ: Final[dict[tuple[str, str], tuple[Document, int]]] = {}  # good ones and their bytes, by name and SHA-256
_MADE_OF: Final = tuple.__new__  # a named tuple of its fields, without the call that would put them together


class _Unreadable(Exception):
    """The file cannot be followed any further; the finding is already recorded."""


class _Reader:
    """Builds one document's nodes from the event stream, without recursion.

    A file of 5,000 rules is 220,000 events: `_node` and `_scalar` are written for them, the rest for the reader.
    """

    def __init__(self, text: str, shown_as: str, findings: Findings) -> None:
        self._file = shown_as
        self._findings = findings
        self._lines = _LINE_BREAK.split(text)
        # a caret under a line that long helps nobody
        self._shown = [line if len(line) <= _SHOWN_CHARS_MAX else "" for line in self._lines]
        self._next: Callable[[], Event | None] = yaml.CLoader(text).get_event
        self._documents = 0
        self._nodes = 0

    def place(self, line: int, column: int) -> Place:
        """The place of a zero-based line and column."""
        return Place(self._file, line + 1, column + 1, self._shown[line] if line < len(self._shown) else "")

    def root(self) -> Node:
        """The document's root node. Raises _Unreadable."""
        root: Node | None = None
        try:
            while (event := self._next()) is not None:
                if isinstance(event, DocumentStartEvent):
                    self._start_document(event)
                elif isinstance(event, NodeEvent):
                    root = self._node(event)
        except yaml.YAMLError as error:
            self._refuse(error)
        if root is None:
            self._findings.error(self.place(0, 0), "the file is empty", expected="a mapping of keys to values")
            raise _Unreadable
        return root

    def _start_document(self, event: DocumentStartEvent) -> None:
        self._documents += 1
        place = self._at(event)
        if self._documents > 1:
            self._findings.error(place, "a second document starts here", expected="one document a file", length=3)
            raise _Unreadable
        if event.version or event.tags:
            self._findings.error(place, "YAML directives are not allowed")

    def _node(self, first: Event) -> Node:
        """The node that starts with `first`, followed to its end with an explicit stack."""
        stack: list[_OpenMapping | _OpenSequence] = []
        event: Event | None = first
        while event is not None:
            if isinstance(event, ScalarEvent):
                finished: Node = self._scalar(event)
            elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
                finished = stack.pop().node()
            elif isinstance(event, AliasEvent):
                finished = self._alias(event)
            else:
                assert isinstance(event, CollectionStartEvent), "libyaml closes a node before anything else starts"
                stack.append(self._open(event, len(stack)))
                event = self._next()
                continue
            if not stack:
                return finished
            stack[-1].take(finished)
            event = self._next()
        raise AssertionError("libyaml closes what it opens")

    def _open(self, event: CollectionStartEvent, depth: int) -> _OpenMapping | _OpenSequence:
        place = self._at(event)
        self._check_plain(event, place)
        if depth >= YAML_DEPTH_MAX:
            self._findings.error(place, f"nested deeper than {YAML_DEPTH_MAX} levels")
            raise _Unreadable
        return _OpenMapping(place, self._findings) if isinstance(event, MappingStartEvent) else _OpenSequence(place)

    def _alias(self, event: AliasEvent) -> Scalar:
        place = self._at(event)
        self._count(place)
        self._findings.error(place, "aliases are not allowed", expected="the value itself")
        return Scalar("", place)

    def _check_plain(self, event: ScalarEvent | CollectionStartEvent, place: Place) -> None:
        self._count(place)
        if event.anchor is not None:
            self._findings.error(place, "anchors are not allowed", expected="the value itself")
        if event.tag is not None:
            self._findings.error(place, "tags are not allowed", expected="the value without `!`")

    def _count(self, place: Place) -> None:
        self._nodes += 1
        if self._nodes > YAML_NODES_MAX:
            self._findings.error(place, f"more than {YAML_NODES_MAX} nodes in one file")
            raise _Unreadable

    def _scalar(self, event: ScalarEvent) -> Scalar:
        mark, end, style = event.start_mark, event.end_mark, event.style
        assert mark is not None, "libyaml marks every event"
        assert end is not None, "libyaml marks every event"
        line, column = mark.line, mark.column
        if style in _QUOTES:
            column += 1
        shown = self._shown[line] if line < len(self._shown) else ""
        place = _MADE_OF(Place, (self._file, line + 1, column + 1, shown, ()))
        self._nodes += 1
        if self._nodes > YAML_NODES_MAX or event.anchor is not None or event.tag is not None:
            self._nodes -= 1
            self._check_plain(event, self._at(event))
        if end.line > line:
            folds = self._folds(event.value, place, (end.line, end.column), style or "")
            place = Place(place.file, place.line, place.column, place.text, folds)
        return _MADE_OF(Scalar, (event.value, place, bool(style)))

    def _folds(self, value: str, place: Place, end: tuple[int, int], style: str) -> tuple[tuple[int, Place], ...]:
        """Where in the file each line of a scalar over several lines stands; more may follow its end on the last."""
        folds: list[tuple[int, Place]] = []
        offset, (last, column) = 0, end
        for line in range(place.line - 1 + (style in _BLOCKS), min(last + 1, len(self._lines))):
            start = place.column - 1 if line == place.line - 1 else 0
            source = self._lines[line][start : column if line == last else None]
            words = source.strip().rstrip("\"'") if style in _QUOTES else source.strip()
            at = value.find(words, offset) if words else -1
            if at >= 0:
                folds.append((at, self.place(line, start + source.index(words))))
                offset = at + len(words)
        return tuple(folds)

    def _at(self, event: Event) -> Place:
        mark = event.start_mark
        assert mark is not None, "libyaml marks every event"
        return self.place(mark.line, mark.column)

    def _refuse(self, error: yaml.YAMLError) -> None:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = str(getattr(error, "problem", None) or getattr(error, "reason", "not YAML"))
        place = self.place(mark.line, mark.column) if mark else self.place(0, 0)
        self._findings.error(place, f"not valid YAML: {problem}", expected=_HINTS.get(problem, ""))
        raise _Unreadable from error


class _OpenSequence:
    """A sequence whose end has not been seen yet."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._items: list[Node] = []
        self.take = self._items.append

    def node(self) -> Node:
        """The finished node."""
        return SequenceNode(tuple(self._items), self._place)


class _OpenMapping:
    """A mapping whose end has not been seen yet."""

    def __init__(self, place: Place, findings: Findings) -> None:
        self._place = place
        self._findings = findings
        self._pairs: list[tuple[Scalar, Node]] = []
        self._seen: dict[str, Scalar] = {}
        self._key: Node | None = None

    def take(self, child: Node) -> None:
        """Add a finished child: a key, or the value of the last key."""
        key = self._key
        if key is None:
            self._key = child
            if type(child) is not Scalar or self._seen.setdefault(child.text, child) is not child:
                self._refuse(child)
        else:
            if type(key) is Scalar:
                self._pairs.append((key, child))
            self._key = None

    def _refuse(self, key: Node) -> None:
        if isinstance(key, Scalar):
            message = f"`{key.text}` is given twice; the first is on line {self._seen[key.text].place.line}"
            self._findings.error(key.place, message, expected="each key once", length=len(key.text))
        else:
            self._findings.error(key.place, "a key must be plain text", expected="`key: value`")

    def node(self) -> Node:
        """The finished node."""
        return MappingNode(tuple(self._pairs), self._place)


def read_text(text: str | bytes, shown_as: str, findings: Findings) -> Document | None:
    """The document in `text`, or None if it cannot be followed or anything in it was refused."""
    start = Place(shown_as, 1, 1)
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > POLICY_FILE_BYTES_MAX:
        findings.error(start, f"{len(raw):,} bytes; a policy file has at most {POLICY_FILE_BYTES_MAX:,}")
        return None
    try:
        decoded = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        findings.error(Place(shown_as, line, 1), f"byte {error.start} is not UTF-8", expected="UTF-8 text")
        return None
    known = (shown_as, sha256(raw).hexdigest())
    document, _ = _READ.get(known, (None, 0))
    if document is None:
        document = _read_decoded(decoded, known[1], start, findings)
        if document is not None:
            _keep(known, document, len(raw))
    return document


def _keep(known: tuple[str, str], document: Document, size: int) -> None:
    """A reload reads a dozen files of which one has changed; the others need not be parsed again."""
    if len(_READ) >= DOCUMENTS_KEPT_MAX or size + sum(kept for _, kept in _READ.values()) > DOCUMENT_BYTES_KEPT_MAX:
        _READ.clear()
    _READ[known] = (document, size)


def _read_decoded(text: str, digest: str, start: Place, findings: Findings) -> Document | None:
    if text.startswith("\ufeff"):
        findings.error(start, "the file starts with a byte order mark", expected="UTF-8 without one")
        return None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        findings.error(Place(start.file, line, 1), "a NUL character in the file")
        return None
    before = len(findings.errors)
    try:
        root = _Reader(text, start.file, findings).root()
    except _Unreadable:
        return None
    if not isinstance(root, MappingNode):
        findings.error(root.place, "the file must hold a mapping", expected="`key: value` lines")
    if not isinstance(root, MappingNode) or len(findings.errors) > before:
        return None
    return Document(start.file, root, digest)


def read_document(path: Path, shown_as: str, findings: Findings) -> Document | None:
    """The document in a file, or None with the reason among the findings."""
    content = _read_bytes(path, shown_as, findings)
    return None if content is None else read_text(content, shown_as, findings)


def policy_paths(rules_dir: Path) -> list[Path]:
    """The policy files below a directory, in order of their names; those that start with a dot are passed over."""
    return [
        path
        for path in sorted(rules_dir.rglob("*"))
        if path.suffix in SUFFIXES and not path.is_dir()
        if not any(part.startswith(".") for part in path.relative_to(rules_dir).parts)
    ]


def _misplaced(path: Path, rules_dir: Path) -> str:
    """Why a file is not to be opened, if it is not."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError):  # Python's word for a link that leads to itself
        return "a symbolic link that leads to itself"
    if not real.is_relative_to(rules_dir.resolve()):
        return "a symbolic link that leads out of the rules directory"
    return "not a regular file" if real.exists() and not real.is_file() else ""


def read_directory(rules_dir: Path, findings: Findings) -> dict[str, Document]:
    """Every readable policy file below a directory by its relative name (`drawdown.yaml`,
    `features/volume.yaml`).

    Names that start with a dot (what editors leave behind) are passed over.
    """
    return read_documents(read_files(rules_dir, findings), findings)


def read_documents(files: Mapping[str, str | bytes], findings: Findings) -> dict[str, Document]:
    """The documents in files by name; those that cannot be followed are left out, the findings say why."""
    read = {name: read_text(content, name, findings) for name, content in files.items()}
    return {name: document for name, document in read.items() if document is not None}


def read_files(rules_dir: Path, findings: Findings) -> dict[str, bytes]:
    """The bytes of every policy file below a directory by its relative name, in order; what is too large comes cut off
    one byte above the cap."""
    files: dict[str, bytes] = {}
    if not rules_dir.is_dir():
        findings.error(Place(rules_dir.name, 1, 1), "there is no such rules directory")
        return files
    for path in policy_paths(rules_dir):
        name = path.relative_to(rules_dir).as_posix()
        if problem := _misplaced(path, rules_dir):
            findings.error(Place(name, 1, 1), problem)
            continue
        content = _read_bytes(path, name, findings)
        if content is not None:
            files[name] = content
    return files


def read_all(rules_dir: Path, findings: Findings) -> dict[str, bytes]:
    """The same, and the signatures if there are any."""
    files = read_files(rules_dir, findings)
    signatures = rules_dir / SIGNATURES_FILE
    if files and os.path.lexists(signatures):
        if problem := _misplaced(signatures, rules_dir):
            findings.error(Place(SIGNATURES_FILE, 1, 1), problem)
        elif (content := _read_bytes(signatures, SIGNATURES_FILE, findings)) is not None:
            files[SIGNATURES_FILE] = content
    return files


def _read_bytes(path: Path, shown_as: str, findings: Findings) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(POLICY_FILE_BYTES_MAX + 1)
    except OSError as error:
        findings.error(Place(shown_as, 1, 1), f"cannot be read: {error.strerror}")
        return None
