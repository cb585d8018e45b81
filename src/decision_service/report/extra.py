"""The libraries of the extra `report`, which a service that writes no reports need not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ReportExtraMissing(Exception):
    """A report was asked for, and a library that draws or lays it out is not installed."""

    def __init__(self, library: str) -> None:
        super().__init__(f"{library} is not installed: a report needs `pip install 'decision-service[report]'`")
        self.library = library


@contextmanager
def needing(library: str) -> Iterator[None]:
    """Import `library` inside this: if it is absent the error names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != library:
            raise
        raise ReportExtraMissing(library) from error
