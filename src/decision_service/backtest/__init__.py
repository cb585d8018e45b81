"""Backtest: what a candidate policy would have answered to archived decisions, in credit terms.

    sameness    which archived numbers mean to the candidate what they meant to the policy that wrote them
    batch       archived decisions of one policy and scene as columns
    scoring     scores of many decisions: those that were recorded, else scored again in one go (forest_rows)
    effects     what rules and blocks ask for, as columns
    merging     what that comes to, as `core.merge` does for one decision
    engine      the three together: a batch in, its outcomes out
    archived    batches out of the archive's files
    recomputing new features, from the customers' logs
    plainly     decisions that columns cannot decide, by `core.decide` itself
    running     a whole backtest, a process a core
    outcomes    what became of the customers
    tally       the counts of a report; measures, page, told: the report itself

*Before* is the archived answer, *after* the candidate's. Columns give what `core.decide` gives, answer by answer
(tests/backtest): whatever they cannot be sure of (`Outcomes.plain`) is left to `core.decide` and counted.

**What a backtest holds fixed.** Every decision is judged again in the state in which it was judged then: the log, the
facility and the attributes as they were. It is first-order: had the candidate held or capped an earlier drawdown, the
later ones of that customer would have met another log (less drawn, less used); that is not followed. Lists have the
members that they had then. The logs of entities (device, payee, address) are not archived, so a feature of theirs is
known only where the archived policy computed it; elsewhere it is null, and the report says which.
"""
