"""Policies for measuring: the shipped one with another number of drawdown rules, and one edit after another of it.

A made rule compares features that the rules that stay compare, so that no further feature is computed: what differs
between two numbers of rules is the rules. Its condition looks at two to four values and hardly ever holds, as nearly
all rules of a large book do.
"""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path
from typing import Final

DRAWDOWN: Final = "drawdown.yaml"
LABEL: Final = re.compile(r"^label: .*$", re.MULTILINE)
EDITED: Final = re.compile(r"(leaving_trend:\s+\{value: 0\.4)(\d)")
_COMPARED: Final = re.compile(r"(?<![\w.])([a-z]{3}_[a-z0-9_]+) (?:>=|>|<=|<) ")
_TESTS: Final = re.compile(r"^    tests:\n(?:      .*\n)+", re.MULTILINE)
OFTEN: Final = (
    "burst_requests_10m", "burst_requests_1h", "daily_over_limit_max", "sensitive_draws_1h", "equal_run_max",
    "equal_amounts_24h", "retries_max", "ring_device_customers", "ring_payee_customers",
)  # fmt: skip
_MADE: Final = """\
  - id: made_{number}
    stage: anomaly
    when: {when}
    on_null: skip
    then: {{hold: step_up}}
    reason: RC11

"""


def copied(rules: Path, to: Path) -> Path:
    """A policy of its own to edit."""
    shutil.copytree(rules, to)
    return to


def edit(rules: Path, number: int) -> None:
    """Change a threshold and the label: another policy, which decides nearly the same. Files are replaced whole."""
    _rewrite(rules / DRAWDOWN, EDITED, lambda found: f"{found[1]}{1 + number % 2}")
    _rewrite(rules / "policy.yaml", LABEL, lambda found: f'label: "load-{number}"')


def _rewrite(path: Path, pattern: re.Pattern[str], put: object) -> None:
    text, changed = pattern.subn(put, path.read_text(), count=1)  # type: ignore[call-overload]
    if not changed:
        raise ValueError(f"{path}: nothing there that looks like {pattern.pattern}")
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


def calm(rules: Path, to: Path) -> Path:
    """A copy in which drawing often holds nobody, so that few customers are decided on as many are: the thresholds of
    such rules are out of reach, and their inline tests are left out."""
    copied(rules, to)
    path = to / DRAWDOWN
    text = _TESTS.sub("", path.read_text())
    for name in OFTEN:
        text, changed = re.subn(rf"^(  {name}:\s+\{{value: )[\d.]+", r"\g<1>1000000", text, flags=re.MULTILINE)
        if not changed:
            raise ValueError(f"{path}: no constant {name}")
    path.write_text(text)
    return to


def with_rules(rules: Path, to: Path, count: int) -> Path:
    """A copy with `count` drawdown rules: the first of the shipped ones, and made ones behind them."""
    copied(rules, to)
    path = to / DRAWDOWN
    path.write_text(drawdown_with(path.read_text(), count))
    return to


def drawdown_with(text: str, count: int, kept_max: int = 40) -> str:
    """The text of a rule set with `count` rules, of which the first `kept_max` are its own."""
    head, _, rest = text.partition("\nrules:\n")
    end = re.search(r"^[a-z_]+:", rest, re.MULTILINE)
    if end is None:
        raise ValueError("the rule set ends with its rules")
    before, *own = re.split(r"^(?=  - id: )", rest[: end.start()], flags=re.MULTILINE)
    own = own[: min(count, kept_max)]
    names = sorted(set(_COMPARED.findall("".join(own))))
    made = [_MADE.format(number=n, when=when) for n, when in enumerate(conditions(names, count - len(own)))]
    return f"{head}\nrules:\n{before}{''.join(own)}\n{''.join(made)}{rest[end.start() :]}"


def conditions(names: list[str], count: int) -> list[str]:
    """Conditions over numeric features whose parts are all looked at and which hardly ever hold."""
    rng = random.Random(count)
    forms = (
        "{a} < {often} and {b} > {seldom}",
        "{a} < {often} and ({b} > {seldom} or {c} > {seldom})",
        "{a} > {seldom} or {b} < {often} and {c} > {seldom}",
        "{a} < {often} and {b} < {often} and {c} + {d} > {seldom}",
        "not ({a} > {seldom} or {b} > {seldom}) and {c} > {seldom}",
    )

    def made() -> str:
        named = dict(zip("abcd", rng.sample(names, 4), strict=True))
        return rng.choice(forms).format(**named, often=rng.randint(10_000, 99_999), seldom=rng.randint(10**6, 10**7))

    return [made() for _ in range(count)]
