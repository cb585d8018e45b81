"""The figures of evidence as tables, ours beside the published ones: for a terminal and for the README.

Each function takes what its script prints with `--json`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from measures import Figure

Found = Mapping[str, Any]
Rows = list[list[str]]

DEFAULT_PUBLISHED = (
    ["published: logistic regression, tuned", "0.768", "", "0.529", ""],
    ["LightGBM on the table as it is (own check)", "0.784", "0.433", "0.550", ""],
)
FRAUD_PUBLISHED = (
    ["published: random forest", "0.867", "0.658", "0.287"],
    ["published: logistic regression", "0.871", "0.606", "0.291"],
    ["published: XGBoost", "0.862", "0.639", "0.273"],
)
POLICY = ("approved", "approved_amount", "bad_rate", "bad_rate_amount", "bad_held")


def card_default(found: Found) -> list[Rows]:
    """Two scorecards of ours on the published split."""
    rows = [["card default, test clients", "AUC", "KS", "average precision", "PD / bad"], *map(list, DEFAULT_PUBLISHED)]
    for name, one in found.items():
        told = one["calibration"]
        figures = [Figure(**one[each]).text() for each in ("auc", "ks", "average_precision")]
        rows.append([f"{name}, {one['features']} features", *figures, _both(told, 1)])
    return [rows]


def card_fraud(found: Found) -> list[Rows]:
    """LightGBM on the features of `features build`, on the published split."""
    told = [f"{found['test'][name]:.3f}" for name in ("auc", "average_precision", "card_precision")]
    head = ["card fraud, test week", "AUC", "average precision", "card precision@100"]
    return [[head, *map(list, FRAUD_PUBLISHED), ["LightGBM, these features", *told]]]


def portfolio(found: Found) -> list[Rows]:
    """The shipped scorecard on two portfolios, and the shipped policy with and without it."""
    scores = [["shipped scorecard, out of time", "rows", "bad", "AUC", "KS", "PD / bad", "calibration error"]]
    for name, one in found["scores"].items():
        told = one["calibration"]
        scores.append(
            [
                f"portfolio {name}", f"{one['rows']:,}", f"{one['bads']:,}", Figure(**one["auc"]).text(),
                Figure(**one["ks"]).text(), _both(told, 2), f"{100 * told['error']:.2f} %",
            ]
        )  # fmt: skip
    policies = [["shipped policy", "approved", "of the money", "bad of approved", "of the money paid", "bad not paid"]]
    for name, one in found["policies"].items():
        policies.append([name, *(Figure(**one[each]).text(1, percent=True) for each in POLICY)])
    return [scores, policies]


TABLES: Mapping[str, Callable[[Found], list[Rows]]] = {
    "card_default": card_default, "card_fraud": card_fraud, "portfolio": portfolio,
}  # fmt: skip


def _both(told: Mapping[str, float], digits: int) -> str:
    return f"{100 * told['predicted']:.{digits}f} % / {100 * told['observed']:.{digits}f} %"


def text(tables: Sequence[Rows]) -> str:
    """Columns in line, the first to the left and the others to the right."""
    return "\n\n".join("\n".join(_lines(rows)) for rows in tables)


def _lines(rows: Rows) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def markdown(tables: Sequence[Rows]) -> str:
    """The same as Markdown."""
    return "\n\n".join(
        "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:])) for rows in tables
    )
