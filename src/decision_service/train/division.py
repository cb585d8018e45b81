"""Which rows of a sample serve which purpose.

    in time      training customers      make the model
                 validation customers    say when to stop
    out of time  one half of customers   calibrate the margin
                 the other half          the figures in the manifest

Customers, never rows, are divided: nobody who trains says when to stop, nobody who calibrates judges. Across the border
of time they are not: who was trained on is calibrated with or judged later, as in production, and the outcome windows
of the last rows in time reach beyond the border. The model card tells the AUC of those whom training never had. A table
that says itself which rows are for what (`Sample.given`) is taken at its word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Division:
    """A mask over the rows for each purpose. `judge` never overlaps another; `calibrate` may be `validate` where a
    table gives no rows of its own for it."""

    train: Mask
    validate: Mask
    calibrate: Mask
    judge: Mask

    def parts(self) -> tuple[tuple[str, Mask], ...]:
        """The masks under the names that messages, metrics and files use."""
        return (
            ("train", self.train), ("validation", self.validate), ("calibration", self.calibrate), ("oot", self.judge),
        )  # fmt: skip


def divide(customer: npt.NDArray[np.int64], late: Mask, validation_share: float, seed: int) -> Division:
    """Assign every row by its customer (numbered from 0) and by whether its observation is out of time."""
    rng = np.random.default_rng(seed)
    people = int(customer.max(initial=-1)) + 1
    validate = rng.random(people)[customer] < validation_share
    calibrate = rng.random(people)[customer] < 0.5
    return Division(~late & ~validate, ~late & validate, late & calibrate, late & ~calibrate)
