"""The libraries of the extra `train`, which a service that only scores does not have.

Asked for before anything is computed: a training that finds out at its end has kept somebody waiting for minutes.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

_LIBRARIES: Final = {"lightgbm": ("lightgbm", "sklearn"), "woe": ("optbinning", "sklearn")}  # by kind of model


class TrainExtraMissing(Exception):
    """A library that this training needs is not installed; the message names the extra."""


def need_libraries(kind: str) -> None:
    """Raise TrainExtraMissing unless what fits a model of a kind is installed."""
    for library in _LIBRARIES[kind]:
        if find_spec(library) is None:
            raise TrainExtraMissing(
                f"{library} is not installed: training needs `pip install 'decision-service[train]'`"
            )
