"""What the tools' tests share: the type of `command`, and golden texts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
Command = Callable[..., tuple[int, str, str]]


def golden(name: str, text: str) -> None:
    """Hold a text against the one kept; WRITE_GOLDEN=1 keeps it instead."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
