"""Scorecards between the disk and a decision: what makes a model directory trusted, and shadows scored afterwards.

    files          models/<scorecard>/<version>/ through every check, to a loaded Scorecard
    formats        what a model file of each kind must look like before anything reads it
    trial_process  the parent's side of a trial load: a bounded process, its answer, its end
    trial          the child's side: LightGBM sees the bytes there first
    shadows        scores of shadow versions, beside decisions that were answered

What a scorecard is stands in `core/scorecards`; LightGBM's own C API in `scorer.py`. Nothing is imported here, because
a trial waits for every import.
"""
