"""Reason codes: what an answer may give as a cause, and the text a customer may be shown.

RC9x are about the service, never about the customer's credit. A rule may only name a code of this table.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Reason(NamedTuple):
    """One cause. `source` names what gave it: `rule:velocity_burst`, `scorecard:behaviour` ..."""

    code: str
    source: str


TEXTS: Final[dict[str, str]] = {
    "RC01": "On a restricted list",
    "RC02": "The credit line is not active",
    "RC03": "A payment is overdue",
    "RC04": "The amount exceeds the available limit",
    "RC05": "A re-assessment is due",
    "RC10": "Unusual hour for this customer",
    "RC11": "Too many requests in a short time",
    "RC12": "Full use of the line straight after approval",
    "RC13": "Unusual amounts",
    "RC14": "Repeated equal amounts",
    "RC15": "Amounts split around a threshold",
    "RC16": "Locations that do not fit together",
    "RC17": "Recent change of credentials or contact data",
    "RC18": "Device or payee shared with other customers",
    "RC20": "Rising reliance on credit",
    "RC21": "Restricted use of the money",
    "RC22": "Daily cap reached",
    "RC30": "High use of the line for this score",
    "RC31": "Recent late payment",
    "RC32": "Payments are getting smaller",
    "RC33": "Many recent inquiries",
    "RC34": "Income has fallen",
    "RC35": "Short history",
    "RC36": "Debt burden",
    "RC37": "Contact data changed",
    "RC40": "Legal proceedings",
    "RC41": "An event concerning the collateral",
    "RC90": "Temporarily unable to assess",
    "RC91": "A data source is unavailable",
}
