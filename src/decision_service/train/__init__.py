"""Training a behaviour scorecard: from raw events to a model directory that the service loads.

    extra        what must be installed, asked for before anything is computed
    config       what a training file says (models/<scorecard>/train.yaml)
    sample       observation points, exclusions, labels, and features by the very plan that serves
    definitions  a digest of what the features mean
    division     which rows train, stop, calibrate and judge
    model_design, fit       LightGBM with monotone constraints and early stopping
    bins, fit_woe           a points scorecard: bins by optbinning, a regression on their WOE
    calibrate    Platt's curve or a monotone table, out of time
    fitted, trained         what fitting gives, and what a whole run leaves behind
    evaluate     AUC, KS and calibration
    write        the model's file and manifest.yaml

Runs with the same training file give the same bytes: seeds, one thread, LightGBM's deterministic mode, and nothing of
the clock in what is written. LightGBM's Python package, scikit-learn and optbinning are needed here only (extra
`train`), so they are imported where they are used.
"""

from decision_service.train.champion import Champion
from decision_service.train.extra import TrainExtraMissing
from decision_service.train.fitted import NothingToLearn
from decision_service.train.run import train
from decision_service.train.trained import Trained

__all__ = ["Champion", "NothingToLearn", "TrainExtraMissing", "Trained", "train"]
