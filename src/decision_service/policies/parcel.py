"""What a process sends another of a compiled policy: what took long to make, in bytes that are soon unpacked.

    sent as it is      specifications, layouts, plans (without their buffers), effects: by pickle
    generated code     its code object by marshal, with the globals that are its own
    scorecards         those that the other holds already by their identity, others as they were loaded
    time zones         by name
    documents          name and digest; whoever asks for the nodes has the text read again

Both processes run the same code of this package on the same interpreter: one started the other (`compiling.py`), and
nobody else can write to the pipe between them. It is no format to keep or to send anywhere.

Unpacking the shipped policy takes 45 ms of CPU where compiling it takes 350. It is done in a thread beside the event
loop and in pieces: the thread sleeps for GIVE_WAY_S after every PIECE_BYTES or so, which take it some milliseconds, and
within them it hands the interpreter over whenever it is asked to (`interpreter.py`), as it makes objects by Python's
own functions all the time.
"""

from __future__ import annotations

import marshal
import pickle
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from io import BytesIO
from types import FunctionType
from typing import Any, Final

from decision_service.core.expressions.python_code import GENERATED
from decision_service.core.policy import Policy
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.source import Document, Findings, MappingNode
from decision_service.core.zone import Zone, zone_named
from decision_service.policies.files import read_text
from decision_service.scorecards.files import Identity, card_in_use, identity_of, use_card

GIVE_WAY_S: Final = 0.001
PIECE_BYTES: Final = 4_096  # what is read at once and is smaller is no piece that anybody would wait for


class LateDocument(Document):
    """A document whose nodes are read when somebody asks: deciding needs none, and they are most of a policy."""

    __slots__ = ("_text",)
    _text: str

    def __init__(self, file: str, sha256: str, text: str) -> None:
        object.__setattr__(self, "file", file)
        object.__setattr__(self, "sha256", sha256)
        object.__setattr__(self, "_text", text)

    @property
    def root(self) -> MappingNode:
        """The nodes, as they were when the policy compiled; `policies.files` remembers what it read last."""
        document = read_text(self._text, self.file, Findings())
        assert document is not None, "the text compiled"
        return document.root

    def __reduce__(self) -> tuple[Any, ...]:
        return LateDocument, (self.file, self.sha256, self._text)


def without_nodes(policy: Policy, files: Mapping[str, str]) -> Policy:
    """The policy that was compiled from `files`, its documents without their nodes."""
    documents = {name: LateDocument(one.file, one.sha256, files[name]) for name, one in policy.documents.items()}
    return replace(policy, documents=documents)


def pack(thing: object, held: Collection[Identity]) -> bytes:
    """The bytes of whatever is made of policies, scorecards, contents and findings, for a process that holds those
    scorecards."""
    packed = BytesIO()
    _Packer(packed, frozenset(held)).dump(thing)
    return packed.getvalue()


def unpack(packed: bytes, give_way: Callable[[float], None] = time.sleep) -> Any:
    """What was packed. LookupError if a scorecard that was held is gone."""
    return pickle.Unpickler(_InPieces(packed, give_way)).load()


class _Packer(pickle.Pickler):
    def __init__(self, file: BytesIO, held: Collection[Identity]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._held = held

    def reducer_override(self, thing: object) -> Any:
        """How those are sent of which pickle knows nothing, or too much."""
        if isinstance(thing, FunctionType) and thing.__code__.co_filename == GENERATED:
            return _generated, (marshal.dumps(thing.__code__), thing.__globals__)
        if isinstance(thing, Scorecard):
            identity = identity_of(thing)
            return (card_in_use, (identity,)) if identity in self._held else (_sent, (thing.manifest, thing.scorer))
        if isinstance(thing, Zone):
            return zone_named, (thing.name,)
        return NotImplemented


def _generated(code: bytes, namespace: dict[str, Any]) -> FunctionType:
    return FunctionType(marshal.loads(code), namespace)


def _sent(manifest: Any, scorer: Any) -> Scorecard:
    return use_card(Scorecard(manifest, scorer))


class _InPieces:
    """A file for the unpickler, which reads frames of 64 kB and longer strings at once: others get a turn before."""

    def __init__(self, packed: bytes, give_way: Callable[[float], None]) -> None:
        self._file = BytesIO(packed)
        self._give_way = give_way
        self.readline = self._file.readline

    def read(self, size: int) -> bytes:
        """The next bytes."""
        if size >= PIECE_BYTES:
            self._give_way(GIVE_WAY_S)
        return self._file.read(size)

    def readinto(self, buffer: memoryview) -> int:
        """The same, into a buffer."""
        if len(buffer) >= PIECE_BYTES:
            self._give_way(GIVE_WAY_S)
        return self._file.readinto(buffer)
