"""A generated portfolio: customers, lines and histories that never existed, for the demo, training and tests.

Seeded and deterministic: the same `PortfolioPlan` gives the same bytes everywhere. Behaviour follows from
what is hidden (`population`: risk, income stress, habits), day by day for all customers at once
(`simulation`), so that what the service can see of a customer predicts what becomes of them, the way it does
in a real book. On top, a few customers live out the ten applications that the starter rule sets are about
(`patterns`). Which of a customer's drawdowns their arrears concern, `loans` tells whoever asks.

    PortfolioPlan -> generate() -> Portfolio -> CustomerHistory: facility, packed log, events as the API takes
    them

Instants are ms UTC and come in with the plan (nothing here reads a clock); days are local days of
Asia/Shanghai, which has had no daylight saving since 1991; money is in fen, the minor unit of CNY.
"""

from decision_service.portfolio.generate import Portfolio, PortfolioPlan, generate
from decision_service.portfolio.history import CustomerHistory

__all__ = ["CustomerHistory", "Portfolio", "PortfolioPlan", "generate"]
