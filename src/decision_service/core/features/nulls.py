"""Null codes of a feature row: when the value is unknown, and what it is clipped to.

Z          no events: 0, a true zero                 Nk       fewer than k observations: null
Nk->v      fewer than k: v                           >=1      counts the request, never below 1
-          never null while its source is there      D        0/0 and v/0: null; `<name>__new` is 1 for v/0
Hn         facility younger than n days: null        H        younger than the window
H30p       younger than 30 p days (p = months)       X        null while its source is missing
Cap[a,b]   clipped to that range
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from decision_service.core.limits import DAY_MS

EXPECTED: Final = "one of Z, Nk, Nk->v, >=1, -, D, H, Hn, H30p, X, Cap[a,b]"
_COUNT: Final = re.compile(r"N(\d+)(?:->(-?\d+(?:\.\d+)?))?")
_AGE: Final = re.compile(r"H(\d*)(p?)")
_CAP: Final = re.compile(r"Cap\[(-?[\d.e]+),\s*(-?[\d.e]+)\]")


@dataclass(frozen=True, slots=True)
class NullRule:
    """The codes of one row, understood. `age_days` is None without an H code; 0 with `H` alone."""

    codes: tuple[str, ...] = ("Z",)
    min_n: int = 0
    otherwise: float = math.nan
    surge: bool = False
    age_days: int | None = None
    per_month: bool = False
    cap: tuple[float, float] | None = None

    @property
    def text(self) -> str:
        """The codes as an analyst writes them."""
        return ",".join(self.codes)

    @property
    def nullable(self) -> bool:
        """Whether the feature can be null at all."""
        always = {"Z", "-", ">=1"}
        return not all(code in always or "->" in code or code.startswith("Cap") for code in self.codes)

    def min_age_ms(self, window_ms: int, months: int) -> int:
        """The facility's least age for a value, in ms; a huge negative number when age does not matter."""
        if self.age_days is None:
            return -(2**62)
        if self.age_days == 0:
            return window_ms
        return self.age_days * (months if self.per_month else 1) * DAY_MS


def read_codes(codes: Sequence[str]) -> NullRule | str:
    """The rule, or the first code that is none."""
    parts: dict[str, object] = {}
    for code in codes:
        if match := _COUNT.fullmatch(code):
            parts["min_n"] = int(match[1])
            if match[2] is not None:
                parts["otherwise"] = float(match[2])
        elif match := _AGE.fullmatch(code):
            parts["age_days"] = int(match[1] or 0)
            parts["per_month"] = bool(match[2])
        elif match := _CAP.fullmatch(code):
            parts["cap"] = (float(match[1]), float(match[2]))
        elif code == ">=1":
            parts |= {"min_n": 1, "otherwise": 1.0}
        elif code == "D":
            parts["surge"] = True
        elif code not in ("Z", "-", "X"):
            return code
    return NullRule(tuple(codes), **parts)  # type: ignore[arg-type]
