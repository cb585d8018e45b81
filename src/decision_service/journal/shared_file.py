"""Files that the workers of a host share: opened, and mapped into their memory.

A file that root makes (`decision-service reconcile`, run as root beside a service that is not) is given to the owner of
its directory: the service could not read it otherwise, and nothing that it cannot read may be told from.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path


def open_shared(path: Path) -> int:
    """The descriptor of a file, made if there is none. OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0 and os.fstat(descriptor).st_uid == 0:
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def map_file(path: Path, size: int) -> tuple[mmap.mmap, int]:
    """A file of this size, made of zeros if there is none, mapped to be shared; and its inode. OSError.

    Its room on the disk is taken now: a store to a page for which there turns out to be no room would end the process.
    """
    descriptor = open_shared(path)
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
