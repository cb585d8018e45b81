"""Where a command finds the policy it talks about: the options of `serve` that name rules, models and time zone.

Defaults are the service's own settings, `DECISION_SERVICE_*` included.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from decision_service.core.policy import Policy
from decision_service.core.source import Findings
from decision_service.policies.loading import load_policy
from decision_service.settings import Settings, load_settings


def add_policy_options(parser: argparse._ActionsContainer) -> None:
    """`--rules` and `--models`."""
    parser.add_argument("--rules", type=Path, help="rules directory (setting `rules`)")
    parser.add_argument("--models", type=Path, help="scorecards directory (setting `models`)")


def settings_of(args: argparse.Namespace) -> Settings:
    """The service's settings, with what the options say instead."""
    given = {name: getattr(args, name, None) for name in ("rules", "models", "data_dir", "redis_url")}
    return load_settings(**given)


def policy_of(settings: Settings) -> tuple[Policy, Findings]:
    """The policy on disk, with its warnings. PolicyRejected, ScorecardRejected."""
    return load_policy(settings.rules, settings.models, settings.time_zone, settings.reservation_timeout_ms)
