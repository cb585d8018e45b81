"""The numbers of a LightGBM model that a score or a contribution is made of, as one digest.

The file's own checksum is made by everybody who ever changed a file (`sha256sum`), and golden rows see a changed
threshold only if one of them lies between the old and the new. This digest is of what the trees say, whatever stands
around it: for every tree, in order, the shape, split features, thresholds, directions of nulls, children, leaf values,
and the row counts that contributions weigh by. It stands in the manifest as `model.numbers`; whoever changes one of
those digits and seals the file again is found out.

Numbers are digested as float64, so another way to write the same number is the same number. Gains, weights and what
stands behind the trees move nothing and are left out.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import Final

_START: Final = b"\nTree="
_END: Final = b"\nend of trees\n"
_KEYS: Final = (
    b"num_leaves", b"num_cat", b"split_feature", b"threshold", b"decision_type", b"left_child", b"right_child",
    b"leaf_value", b"leaf_count", b"internal_count", b"is_linear", b"shrinkage", b"cat_boundaries", b"cat_threshold",
)  # fmt: skip


def numbers_digest(model_text: bytes) -> str:
    """SHA-256, hexadecimal. ValueError for trees that hold what is no number."""
    digest = sha256()
    trees = model_text.partition(_END)[0].split(_START)[1:]
    digest.update(struct.pack("<q", len(trees)))
    for tree in trees:
        lines = dict(line.split(b"=", 1) for line in tree.split(b"\n") if b"=" in line)
        for key in _KEYS:
            values = [float(word) for word in lines.get(key, b"").split()]
            digest.update(struct.pack(f"<q{len(values)}d", len(values), *values))
    return digest.hexdigest()
