"""How many connections a worker holds, in all and to one address, so that its file descriptors are never used up by
callers: the store, the journal and the log need some as well.

`connections_max` is lowered to what the process may open, less DESCRIPTORS_KEPT. The process's own soft limit is raised
to its hard one first (`raise_descriptor_limit`), as servers do.
"""

from __future__ import annotations

import logging
import resource
from collections import Counter
from typing import Final

LOG = logging.getLogger("decision_service.server")
DESCRIPTORS_MAX: Final = 65_536
DESCRIPTORS_KEPT: Final = 48  # for the store, files, threads' pipes and the log
CONNECTIONS_LEAST: Final = 8


class Connections:
    """The open connections of one worker. Those beyond the bounds are told so and closed."""

    def __init__(self, most: int, most_of_one: int) -> None:
        """`most` at once, and `most_of_one` from one address."""
        self.most = min(most, max(CONNECTIONS_LEAST, _descriptors() - DESCRIPTORS_KEPT))
        self.most_of_one = most_of_one
        self._hosts: dict[object, str] = {}
        self._of_host: Counter[str] = Counter()
        self.refused = 0

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._hosts)

    def enter(self, connection: object, host: str) -> bool:
        """Whether a new connection may stay."""
        if len(self._hosts) >= self.most or self._of_host[host] >= self.most_of_one:
            self.refused += 1
            return False
        self._hosts[connection] = host
        self._of_host[host] += 1
        return True

    def leave(self, connection: object) -> None:
        """It is gone; one that was not let in may be named, too."""
        host = self._hosts.pop(connection, None)
        if host is None:
            return
        self._of_host[host] -= 1
        if not self._of_host[host]:
            del self._of_host[host]


def raise_descriptor_limit() -> None:
    """Let this process open as many files as it is allowed to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError) as error:  # the system caps what it says is allowed
            LOG.warning("at most %d files can be open: %s", soft, error)


def _descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_000_000 if soft == resource.RLIM_INFINITY else soft
