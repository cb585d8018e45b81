"""Files that several workers map into their memory at once."""

from __future__ import annotations

import mmap
import os
from pathlib import Path


def map_file(path: Path, size: int) -> tuple[mmap.mmap, int]:
    """A file of this size, made of zeros if there is none, mapped to be shared; and its inode. OSError.

    Its room on the disk is taken now: a store to a page for which there turns out to be no room would end the process.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size < size:
            os.posix_fallocate(descriptor, 0, size)
        return mmap.mmap(descriptor, size), os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def inode_of(path: Path) -> int:
    """The inode a path leads to now; 0 if it leads nowhere."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0
