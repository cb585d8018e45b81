"""`decision-service train --config FILE`: train the scorecard that a training file describes.

The summary goes to standard output, progress to standard error. Exit status 0 if the scorecard is in place and loads,
1 if the sample cannot make one, 2 if the training file or the feature catalogue is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from decision_service.core.errors import PolicyRejected, ScorecardRejected
from decision_service.train import NothingToLearn, Trained, train
from decision_service.train.card import write_card

FAILED = 1
WRONG = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `train`."""
    parser.add_argument("--config", type=Path, required=True, help="training file: models/behaviour/train.yaml")
    parser.add_argument("--models", type=Path, help="where the scorecard goes (beside the training file's directory)")
    parser.add_argument("--json", action="store_true", help="summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Train; the exit status."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", file=sys.stderr, flush=True)

    try:
        trained = train(args.config, args.models, say)
    except PolicyRejected as error:
        print(error.message, file=sys.stderr)
        return WRONG
    except (NothingToLearn, ScorecardRejected) as error:
        print(f"no scorecard: {error}", file=sys.stderr)
        return FAILED
    write_card(trained, say)
    summary = _summary(trained)
    print(orjson.dumps(summary).decode() if args.json else _text(trained))
    return 0


def _summary(trained: Trained) -> dict[str, Any]:
    card = trained.scorecard
    return {
        "directory": str(trained.directory), "scorecard": card.name, "version": card.version,
        "model": trained.fitted.about, "features": list(card.names), "metrics": dict(trained.metrics),
        "grades": dict(trained.grade_shares), "changed": trained.changed, "model_sha256": card.manifest.model_sha256,
    }  # fmt: skip


def _text(trained: Trained) -> str:
    metrics = trained.metrics
    grades = "  ".join(f"{grade} {share:.1%}" for grade, share in trained.grade_shares.items())
    return "\n".join(
        (
            f"{trained.directory}{'' if trained.changed else ' (unchanged)'}",
            f"  {trained.fitted.about}, {len(trained.scorecard.names)} features",
            f"  out of time: AUC {metrics['oot_auc']:.3f}  KS {metrics['oot_ks']:.3f}  "
            f"bad rate {metrics['oot_bad_rate']:.2%}  mean PD {metrics['oot_pd_mean']:.2%}  "
            f"calibration error {metrics['oot_calibration_error']:.2%}",
            f"  in sample:   AUC {metrics['train_auc']:.3f}  KS {metrics['train_ks']:.3f}",
            f"  grades:      {grades}",
        )
    )
