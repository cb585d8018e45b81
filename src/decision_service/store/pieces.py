"""Pieces: a large document cut up, so that no command keeps the store, or a connection, busy for long.

A part of a policy (`policies/sources.py`) may be a model of 64 MB. It is kept as a hash:

    field "0", "1", ...   PIECE_BYTES of the document each, compressed by itself (zlib)
    field "n"             how many there are: written with the last one, so without it nothing is there yet;
                          0 once the archive has the document, whose pieces are gone then

Whoever writes a name writes the same bytes, so writers may mix: each field expands to the same slice of the document,
whatever compressed it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

PIECE_BYTES: Final = 256 * 1024
COUNT_FIELD: Final = b"n"
ARCHIVED: Final = b"0"


def cut(document: bytes) -> list[bytes]:
    """A document's pieces; at least one."""
    slices = (document[at : at + PIECE_BYTES] for at in range(0, max(1, len(document)), PIECE_BYTES))
    return [zlib.compress(one) for one in slices]


def joined(pieces: Iterable[bytes | None]) -> bytes:
    """The document of all its pieces. ValueError if one is missing or is none."""
    whole = []
    for number, piece in enumerate(pieces):
        if piece is None:
            raise ValueError(f"piece {number} is missing")
        expander = zlib.decompressobj()
        try:
            whole.append(expander.decompress(piece, PIECE_BYTES + 1))
        except zlib.error as error:
            raise ValueError(f"piece {number} cannot be expanded: {error}") from None
        if len(whole[-1]) > PIECE_BYTES:
            raise ValueError(f"piece {number} is larger than {PIECE_BYTES:,} bytes")
    return b"".join(whole)
